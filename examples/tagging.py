"""Train a tagger: the part of speech of each word, on the built-in English phrases.

python examples/tagging.py            # half a minute on two cores
python examples/tagging.py --smoke
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/tagging"))
options = parser.parse_args()

keras.utils.set_random_seed(0)
LEXICON = {
    "DET": "the a an my",
    "PRON": "i you he she we they",
    "AUX": "am is are will do does did",
    "PART": "not",
    "ADJ": "fresh good expensive red white new old small big cold",
    "NOUN": "boy girl brother teacher children friends bread rice meat cheese soup water milk coffee wine",
}
TAGS = {word: tag for tag, words in LEXICON.items() for word in words.split()}


def examples(split: str, count: int) -> list[list[tuple[str, str]]]:
    """Return phrases with the tag of each word, from the lexicon or from the tag of the previous word."""
    tagged = []
    for text, _ in ka.quickstart.phrase_pairs(split)[:count]:
        words, tags = text.split(), []
        for word in words:
            after_noun_phrase = bool(tags) and tags[-1] in ("DET", "ADJ")
            tags.append(TAGS.get(word, "NOUN" if after_noun_phrase else "VERB"))
        tagged.append(list(zip(words, tags, strict=True)))
    return tagged


train, validation = examples("train", 100 if options.smoke else 2000), examples("validation", 100)
texts = [" ".join(word for word, _ in sentence) for sentence in train]
model = ka.TextTagger.from_preset(
    "rnn_tagger",
    tokenizer=ka.data.train_tokenizer(texts, "words"),
    character_tokenizer=ka.data.train_tokenizer(texts, "characters"),
    labels=(*LEXICON, "VERB"),
    units=32,
    embedding_dim=32,
)
ka.train(
    model,
    ka.data.tagging_batches(train, model, max_tokens=512),
    options.out,
    ka.training.TrainingPlan(epochs=1 if options.smoke else 5, learning_rate=3e-3, monitor="val_accuracy"),
    validation=ka.data.tagging_batches(validation, model, shuffle=False),
)
for output in model.tag(["the girl is not opening a red window", "we are eating bread"]):
    print(" ".join(f"{word}/{tag}" for word, tag in zip(output.words, output.tags, strict=True)))
