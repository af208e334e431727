"""Train and score recurrent and Transformer presets on Multi30k, English to German.

    pip install sacremoses                                         # only for transformer_published and _longer
    python benchmarks/translation_quality.py train rnn_attention runs/attention
    python benchmarks/translation_quality.py train transformer_published runs/tiny
    python benchmarks/translation_quality.py report runs/attention runs/tiny ...

The models are trained on train; the best model and the length penalty are selected on val. Each model is scored once on
test2016, with 5 beams. The settings are:

- `rnn_attention`, `rnn_seq2seq`: lower case, SentencePiece with 5,000 pieces per language; sacreBLEU tokenizer 13a.
- `transformer_published`: the setting of Wu et al., 2021 (https://github.com/LividWo/Revisit-MMT). Lower
  case, Moses tokenization, joint byte-pair encoding with 10,000 pieces, post-norm, learning rate 0.005, 2,000 warm-up
  updates, updates of 4,096 tokens, average of ten checkpoints. BLEU is computed on the tokenized text, as in the paper.
- `transformer_longer`: continues a copy of the run of `transformer_published` for 15 more epochs, with twice as many
  tokens in an update.
- `transformer_plain`: the same network on raw text in lower case, joint SentencePiece with 8,000 pieces; sacreBLEU
  tokenizer 13a.

`KERAS_ATTENTION_DATA` is the folder with `multi30k/`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import time

import keras

import keras_attention as ka
from keras_attention.training.checkpoints import load_arrays

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "multi30k"
BEAM, PENALTIES = 5, (0.6, 1.0, 1.5, 1.75, 2.0)  # the length penalty is selected on val
EPOCHS = int(os.environ.get("EPOCHS", "0"))


@dataclasses.dataclass(frozen=True)
class Setting:
    """The model, the tokenizers and the training of one row of the table."""

    preset: str
    sizes: dict
    plan: ka.training.TrainingPlan
    kind: str = "sentencepiece"
    pieces: int = 5000
    joint: bool = False
    moses: bool = False
    batch_tokens: int = 1500


_RECURRENT = {
    "learning_rate": 1.5e-3,
    "warmup_steps": 300,
    "monitor": "val_bleu",
    "patience": 6,
    "average_checkpoints": 4,
}
_TRANSFORMER = ka.training.TrainingPlan(
    epochs=EPOCHS or 61,
    learning_rate=5e-3,
    schedule="inverse_sqrt",
    warmup_steps=2000,
    clip_norm=1e9,
    monitor="val_bleu",
    patience=1000,
    average_checkpoints=10,
)
_LONGER = dataclasses.replace(_TRANSFORMER, epochs=EPOCHS or 76)
_COSINE = {
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "warmup_steps": 1000,
    "clip_norm": 5.0,
    "average_checkpoints": 4,
}
_PLAIN = dataclasses.replace(_TRANSFORMER, epochs=EPOCHS or 40, **_COSINE)
SETTINGS = {
    "rnn_attention": Setting(
        "rnn_attention", {"dropout": 0.4}, ka.training.TrainingPlan(epochs=EPOCHS or 22, **_RECURRENT)
    ),
    "rnn_seq2seq": Setting(
        "rnn_seq2seq", {"dropout": 0.4}, ka.training.TrainingPlan(epochs=EPOCHS or 16, **_RECURRENT)
    ),
    "transformer_published": Setting("transformer_tiny", {}, _TRANSFORMER, "bpe", 10_000, True, True, 4096),
    "transformer_longer": Setting("transformer_tiny", {}, _LONGER, "bpe", 10_000, True, True, 8192),
    "transformer_plain": Setting("transformer_tiny", {}, _PLAIN, "sentencepiece", 8_000, True, False, 4096),
}


def pairs(split: str, setting: Setting) -> list[tuple[str, str]]:
    raw_pairs = ka.data.read_pairs(DATA / f"{split}.en.gz", DATA / f"{split}.de.gz")
    if not setting.moses:
        return raw_pairs
    import sacremoses

    sides = (sacremoses.MosesTokenizer(lang) for lang in ("en", "de"))
    texts = [
        [tokenizer.tokenize(text.lower(), return_str=True, escape=False) for text in side]
        for tokenizer, side in zip(sides, zip(*raw_pairs, strict=True), strict=True)
    ]
    return list(zip(*texts, strict=True))


def tokenizers(setting: Setting, examples: list) -> dict:
    sources, targets = zip(*examples, strict=True)
    corpora = [[*sources, *targets]] * 2 if setting.joint else [sources, targets]
    trained = [ka.data.train_tokenizer(texts, setting.kind, setting.pieces, lowercase=True) for texts in corpora]
    return dict(zip(("source_tokenizer", "target_tokenizer"), trained, strict=True))


def scores(
    model: ka.Translator, setting: Setting, examples: list, strategy=None
) -> tuple[list[str], ka.metrics.TextMetrics]:
    outputs = model.translate([source for source, _ in examples], strategy, batch_size=64)
    texts = [output.text for output in outputs]
    tokenizer = "none" if setting.moses else "13a"
    return texts, ka.metrics.evaluate_texts(texts, [target for _, target in examples], True, tokenizer)


def train(name: str, directory: str) -> None:
    setting = SETTINGS[name]
    keras.utils.set_random_seed(1)
    examples, valid = pairs("train", setting), pairs("val", setting)
    saved_model = pathlib.Path(directory, "model.keras")
    if saved_model.exists():
        model = keras.saving.load_model(saved_model)
    else:
        model = ka.Translator.from_preset(setting.preset, **setting.sizes, **tokenizers(setting, examples))
    checkpoint = pathlib.Path(directory, "checkpoint.npz")
    before = load_arrays(checkpoint)[1]["history"].get("minutes", [0.0])[-1] if checkpoint.exists() else 0.0
    begin = time.time() - 60 * before

    def extra_metrics(model: ka.Translator) -> dict[str, float]:
        return {"val_bleu": scores(model, setting, valid)[1].bleu, "minutes": (time.time() - begin) / 60}

    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    pathlib.Path(directory, "setting.json").write_text(json.dumps(name))
    history = ka.train(
        model,
        ka.data.translation_batches(examples, model, max_tokens=setting.batch_tokens),
        directory,
        setting.plan,
        validation=ka.data.translation_batches(valid, model, max_tokens=3000, shuffle=False),
        extra_metrics=extra_metrics,
    )
    print(f"{name}: best val BLEU (greedy) {max(history['val_bleu']):.2f} after {time.time() - begin:.0f} s")


def report(*directories: str) -> None:
    """Print tables with the scores of each run on test2016, and plot BLEU by source length."""
    systems, signatures = {}, {}
    print(f"Keras {keras.__version__} on {keras.backend.backend()}; beam {BEAM}\n")
    print("| setting | parameters | minutes of training | epochs | val BLEU | penalty | test2016 BLEU | chrF |")
    print("|---|---|---|---|---|---|---|---|")
    for directory in directories:
        name = json.loads(pathlib.Path(directory, "setting.json").read_text())
        setting = SETTINGS[name]
        model = keras.saving.load_model(pathlib.Path(directory, "model.keras"), compile=False)
        _, metadata = load_arrays(pathlib.Path(directory, "checkpoint.npz"))
        valid, examples = pairs("val", setting), pairs("test_2016_flickr", setting)
        beams = [ka.BeamSearch(num_beams=BEAM, length_penalty=penalty) for penalty in PENALTIES]
        bleu, penalty, beam = max(
            ((scores(model, setting, valid, b)[1].bleu, b.length_penalty, b) for b in beams), key=lambda row: row[0]
        )
        texts, result = scores(model, setting, examples, beam)
        sources, references = zip(*examples, strict=True)
        systems[name] = ka.metrics.evaluate_by_length(sources, texts, references, ignore_case=True)
        signatures[name] = f"{result.bleu_signature} {result.chrf_signature}"
        print(
            f"| {name} | {model.count_params():,} | {metadata['history']['minutes'][-1]:.0f} | {metadata['epoch']} "
            f"| {bleu:.2f} | {penalty} | {result.bleu:.2f} | {result.chrf:.2f} |",
            flush=True,
        )
    print()
    print("\n".join(f"{name}: {signature}" for name, signature in signatures.items()))
    print("\n| source words | sentences | " + " | ".join(systems) + " |\n|---|---|" + "---|" * len(systems))
    for bin_name, (count, _) in next(iter(systems.values())).items():
        cells = [f"{s[bin_name][1]:.2f}" if bin_name in s else "" for s in systems.values()]
        print(f"| {bin_name} | {count} | " + " | ".join(cells) + " |")
    ka.visualize.plot_bleu_by_length(systems, pathlib.Path(__file__).with_name("bleu_by_length.png"))


if __name__ == "__main__":
    {"train": train, "report": report}[sys.argv[1]](*sys.argv[2:])
