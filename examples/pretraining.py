"""Pre-train a small BERT with masked tokens, fine-tune its encoder as a classifier, and read its attention scores.

python examples/pretraining.py            # three minutes on two cores
python examples/pretraining.py --smoke
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/pretraining"))
options = parser.parse_args()

keras.utils.set_random_seed(0)
pairs = ka.quickstart.phrase_pairs("train")[: 100 if options.smoke else 4000]
texts = [text for pair in pairs for text in pair]
tokenizer = ka.data.train_tokenizer(texts, vocabulary_size=400)
masked = ka.MaskedLM.from_preset(
    "bert_base",
    tokenizer=tokenizer,
    width=64,
    num_heads=4,
    num_layers=2,
    intermediate_dim=128,
    max_length=64,
    next_sentence=False,
)
ka.train(
    masked,
    ka.data.masked_batches(texts, masked, max_tokens=1024),
    options.out / "masked",
    ka.training.TrainingPlan(epochs=1 if options.smoke else 20, learning_rate=2e-3, label_smoothing=0.0),
)
for filled in masked.fill(["we are eating <mask>", "estamos <mask> pan"]):
    best = ", ".join(f"{piece} {probability:.2f}" for piece, probability in filled.candidates[0][:3])
    print(f"{filled.masked}: {best}")

examples = [(text, label) for pair in pairs for text, label in zip(pair, ("english", "spanish"), strict=True)]
model = ka.TextClassifier.from_encoder(masked, labels=("english", "spanish"))
print(f"{ka.training.enable_lora(model, rank=4)} projections have LoRA of rank 4")
ka.train(
    model,
    ka.data.classification_batches(examples, model, max_tokens=1024),
    options.out,
    ka.training.TrainingPlan(epochs=1 if options.smoke else 2, monitor="accuracy"),
)
for output in model.classify(["we are eating bread", "estamos comiendo pan"]):
    print(f"{output.text}: {output.label} ({output.score:.2f})")
maps = ka.attention_maps(model, ["we are eating bread"])[0]
print(f"{maps.attention.shape[0]} blocks with {maps.attention.shape[1]} heads; tokens: {' '.join(maps.pieces)}")
