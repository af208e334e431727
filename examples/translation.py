"""Train a translator with attention on the built-in phrases, plot its attention scores, and export it.

python examples/translation.py            # three minutes on two cores
python examples/translation.py --smoke    # a tiny run that tests the program
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/translation"))
options = parser.parse_args()

keras.utils.set_random_seed(0)
count, epochs = (200, 1) if options.smoke else (None, 5)
pairs = ka.quickstart.phrase_pairs("train")[:count]
validation = ka.quickstart.phrase_pairs("validation")[:100]

# One tokenizer per language, trained on the text; any other KerasHub tokenizer works too.
model = ka.Translator.from_preset(
    "rnn_attention",
    source_tokenizer=ka.data.train_tokenizer([source for source, _ in pairs], vocabulary_size=400),
    target_tokenizer=ka.data.train_tokenizer([target for _, target in pairs], vocabulary_size=400),
    units=128,
    embedding_dim=96,
    dropout=0.1,
)
history = ka.train(
    model,
    ka.data.translation_batches(pairs, model, max_tokens=1024),
    options.out,  # an interrupted run continues from this directory
    ka.training.TrainingPlan(epochs=epochs, learning_rate=3e-3, warmup_steps=100),
    validation=ka.data.translation_batches(validation, model, shuffle=False),
)
ka.plot_history(history, options.out / "curves.png")

for translation in model.translate(
    ["we are eating bread", "she is reading the old letter"], ka.BeamSearch(num_beams=4)
):
    print(f"{translation.source} -> {translation.text}  ({translation.score:.2f})")
ka.plot_alignment(translation, options.out / "alignment.png")

if keras.backend.backend() == "tensorflow" and not (options.out / "serving" / "1").exists():
    path = model.export(options.out / "serving", strategy=ka.BeamSearch(num_beams=4))
    print(f"{path}: TensorFlow Serving {'can' if ka.check_export(path).ok else 'cannot'} run it")
