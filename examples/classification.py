"""Train a classifier that recognizes the language of a phrase, and print the token with the largest attention score.

python examples/classification.py            # half a minute on two cores
python examples/classification.py --smoke
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/classification"))
options = parser.parse_args()

keras.utils.set_random_seed(0)


def examples(split: str, count: int) -> list[tuple[str, str]]:
    """Return each phrase with the name of its language."""
    pairs = ka.quickstart.phrase_pairs(split)[:count]
    return [(text, label) for pair in pairs for text, label in zip(pair, ("english", "spanish"), strict=True)]


train, validation = examples("train", 100 if options.smoke else 1000), examples("validation", 100)
model = ka.TextClassifier.from_preset(
    "rnn_classifier",
    tokenizer=ka.data.train_tokenizer([text for text, _ in train], vocabulary_size=300),
    labels=("english", "spanish"),
    units=32,
    embedding_dim=32,
)
ka.train(
    model,
    ka.data.classification_batches(train, model, max_tokens=512),
    options.out,
    ka.training.TrainingPlan(epochs=1 if options.smoke else 3, monitor="val_accuracy"),
    validation=ka.data.classification_batches(validation, model, shuffle=False),
)
for output in model.classify(["we are eating bread", "estamos comiendo pan", "los libros nuevos"]):
    piece = output.pieces[output.attention.argmax()]
    print(f"{output.text}: {output.label} ({output.score:.2f}), largest attention score at {piece!r}")
