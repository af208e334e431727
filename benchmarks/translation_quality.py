"""Multi30k English to German: `rnn_attention` and `rnn_seq2seq`, trained and reported the same way.

    python benchmarks/translation_quality.py train rnn_attention runs/attention
    python benchmarks/translation_quality.py train rnn_seq2seq runs/seq2seq
    python benchmarks/translation_quality.py report runs/attention runs/seq2seq

Trains on train, selects on val by BLEU, and reports test2016 once: sacreBLEU, lowercased,
tokenizer 13a, beam 5. `KERAS_ATTENTION_DATA` names the folder that holds `multi30k/`.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time

import keras

import keras_attention as ka
from keras_attention.training.checkpoints import load_arrays

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "multi30k"
PLAN = ka.TrainingPlan(
    epochs=int(os.environ.get("EPOCHS", "22")),
    learning_rate=1.5e-3,
    warmup_steps=300,
    monitor="val_bleu",
    patience=6,
    average=4,
)
BEAM = ka.BeamSearch(width=5, length_penalty=0.6)


def pairs(split: str) -> list[tuple[str, str]]:
    return ka.data.read_pairs(DATA / f"{split}.en.gz", DATA / f"{split}.de.gz")


def bleu(model: ka.Translator, examples: list, strategy=None) -> float:
    answers = model.translate([source for source, _ in examples], strategy, batch_size=64)
    texts = [answer.text for answer in answers]
    return ka.training.score_texts(texts, [target for _, target in examples], lowercase=True).bleu


def train(preset: str, directory: str) -> None:
    keras.utils.set_random_seed(1)
    examples, valid = pairs("train"), pairs("val")
    started = pathlib.Path(directory, "model.keras")
    if started.exists():
        model = keras.saving.load_model(started)
    else:
        tokenizers = {
            f"{side}_tokenizer": ka.train_tokenizer(
                [pair[i] for pair in examples], "sentencepiece", 5000, lowercase=True
            )
            for i, side in enumerate(("source", "target"))
        }
        model = ka.Translator.from_preset(preset, dropout=0.4, **tokenizers)
    begin = time.time()
    history = ka.train(
        model,
        ka.translation_batches(examples, model, max_tokens=1500),
        directory,
        PLAN,
        validation=ka.translation_batches(valid, model, max_tokens=3000, shuffle=False),
        measure=lambda model: {"val_bleu": bleu(model, valid), "minutes": (time.time() - begin) / 60},
    )
    print(f"{preset}: best val BLEU (greedy) {max(history['val_bleu']):.2f} after {time.time() - begin:.0f} s")


def report(*directories: str) -> None:
    """Score test2016 once per run, and draw BLEU by source length."""
    examples, systems = pairs("test_2016_flickr"), {}
    sources, references = (list(side) for side in zip(*examples, strict=True))
    print(f"TensorFlow backend: Keras {keras.__version__}; {len(examples)} sentences, beam {BEAM.width}\n")
    print("| preset | parameters | minutes of training | epochs | val BLEU (greedy) | test2016 BLEU | chrF |")
    print("|---|---|---|---|---|---|---|")
    for directory in directories:
        model = keras.saving.load_model(pathlib.Path(directory, "model.keras"), compile=False)
        _, note = load_arrays(pathlib.Path(directory, "checkpoint.npz"))
        name = "rnn_attention" if model.has_attention else "rnn_seq2seq"
        texts = [answer.text for answer in model.translate(sources, BEAM, batch_size=64)]
        scores = ka.training.score_texts(texts, references, lowercase=True)
        systems[name] = ka.training.scores_by_length(sources, texts, references, lowercase=True)
        minutes, best = note["history"]["minutes"][-1], bleu(model, pairs("val"))
        print(
            f"| {name} | {model.count_params():,} | {minutes:.0f} | {note['epoch']} | {best:.2f} "
            f"| {scores.bleu:.2f} | {scores.chrf:.2f} |",
            flush=True,
        )
    print(f"\n{scores.bleu_signature}\n{scores.chrf_signature}\n")
    print("| source words | sentences | " + " | ".join(systems) + " |\n|---|---|" + "---|" * len(systems))
    for bin_name, (count, _) in next(iter(systems.values())).items():
        print(f"| {bin_name} | {count} | " + " | ".join(f"{s[bin_name][1]:.2f}" for s in systems.values()) + " |")
    ka.plot_bleu_by_length(systems, pathlib.Path(__file__).with_name("bleu_by_length.png"))


if __name__ == "__main__":
    {"train": train, "report": report}[sys.argv[1]](*sys.argv[2:])
