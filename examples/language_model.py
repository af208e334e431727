"""Train a character-level language model and sample from it.

python examples/language_model.py --text book.txt     # any plain text
python examples/language_model.py                     # the built-in English phrases
python examples/language_model.py --smoke
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--text", type=pathlib.Path, help="a plain text file")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/language_model"))
options = parser.parse_args()

keras.utils.set_random_seed(0)
if options.text:
    text = "\n".join(ka.data.read_lines(options.text))
else:
    text = "\n".join(source for source, _ in ka.quickstart.phrase_pairs("train"))
text, epochs, units = (text[:4000], 1, 32) if options.smoke else (text, 10, 256)

model = ka.CausalLM.from_preset(
    "char_rnn", tokenizer=ka.data.train_tokenizer([text], "characters"), units=units, max_length=128
)
cut = int(0.95 * len(text))
ka.train(
    model,
    ka.data.language_batches([text[:cut]], model, max_tokens=4096),
    options.out,
    ka.training.TrainingPlan(epochs=epochs, learning_rate=3e-3, label_smoothing=0.0),
    validation=ka.data.language_batches([text[cut:]], model, shuffle=False),
)
for seed in range(3):
    (completion,) = model.complete(["the "], ka.Sampling(temperature=0.7, top_p=0.9, max_new_tokens=80, seed=seed))
    print(f"--- seed {seed}\n{completion.text}")
