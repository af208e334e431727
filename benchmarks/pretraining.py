"""Measure what pre-training adds: fine-tune a pre-trained small BERT, and the same model without pre-training.

    python benchmarks/pretraining.py pretrain runs/bert
    python benchmarks/pretraining.py finetune runs/bert

The pre-training data are texts without labels: SST-2, ParTUT and Multi30k English (train), and WikiText-2 (validation).
Fine-tuned models are selected and scored on the dev splits. `SEEDS` are the seeds, one by default, and
`KERAS_ATTENTION_DATA` is the folder with the data.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import tempfile

import keras
from labelling_quality import DATA, find

import keras_attention as ka

EPOCHS = int(os.environ.get("EPOCHS", "8"))
SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1").split()]
SIZES = {
    "width": 128,
    "num_layers": 3,
    "num_heads": 4,
    "intermediate_dim": 512,
    "max_length": 128,
    "next_sentence": False,
    "positions": "sinusoidal",
    "initializer_range": None,
}


def texts() -> list[str]:
    corpus = [text for text, _ in ka.data.read_labelled(find("sst2", "train"))]
    corpus += [" ".join(word for word, _ in sentence) for sentence in ka.data.read_tagged(find("ud_partut", "train"))]
    corpus += ka.data.read_lines(DATA / "multi30k" / "train.en.gz")
    wiki = ka.data.read_lines(DATA / "lm_text" / "wikitext2" / "valid.txt")
    corpus += [line for line in wiki if len(line.split()) > 5]
    return [text.lower() for text in corpus]


def new_model(tokenizer) -> ka.MaskedLM:
    return ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, dropout=0.0, attention_dropout=0.0, **SIZES)


def pretrain(directory: str) -> None:
    keras.utils.set_random_seed(1)
    corpus = texts()
    model = new_model(ka.data.train_tokenizer(corpus, vocabulary_size=4000, lowercase=True))
    held_out = corpus[::40]
    plan = ka.training.TrainingPlan(
        epochs=EPOCHS, learning_rate=1e-3, warmup_steps=400, label_smoothing=0.0, weight_decay=0.01
    )
    history = ka.train(
        model,
        ka.data.masked_batches([text for i, text in enumerate(corpus) if i % 40], model, max_tokens=1024, pack=False),
        directory,
        plan,
        validation=ka.data.masked_batches(held_out, model, shuffle=False, pack=False),
    )
    print(f"masked accuracy on held-out text: {history['val_accuracy'][-1]:.3f}")


def finetune(directory: str) -> None:
    trained = keras.saving.load_model(pathlib.Path(directory, "model.keras"), compile=False)
    print("| task | without pre-training | pre-trained |\n|---|---|---|")
    for task in (sst2, partut):
        scores = {
            name: [task(trained if name == "trained" else None, trained.tokenizer, seed) for seed in SEEDS]
            for name in ("untrained", "trained")
        }
        cells = [
            f"{statistics.median(values):.2f} % ({', '.join(f'{s:.2f}' for s in values)})" for values in scores.values()
        ]
        print(f"| {task.__doc__} | {' | '.join(cells)} |", flush=True)


def sst2(trained, tokenizer, seed: int) -> float:
    """SST-2 dev accuracy"""
    train, dev = (ka.data.read_labelled(find("sst2", split)) for split in ("train", "dev"))
    return _tune(trained, tokenizer, seed, ka.TextClassifier, ka.data.classification_batches, train, dev, ("0", "1"))


def partut(trained, tokenizer, seed: int) -> float:
    """UD English-ParTUT dev UPOS accuracy"""
    train, dev = (ka.data.read_tagged(find("ud_partut", split)) for split in ("train", "dev"))
    labels = tuple(sorted({tag for sentence in train for _, tag in sentence}))
    return _tune(trained, tokenizer, seed, ka.TextTagger, ka.data.tagging_batches, train, dev, labels)


def _tune(trained, tokenizer, seed: int, kind: type, make_batches, train: list, dev: list, labels) -> float:
    keras.utils.set_random_seed(seed)
    model = kind.from_encoder(trained or new_model(tokenizer), labels=labels, dropout=0.2, attention_dropout=0.1)
    plan = ka.training.TrainingPlan(
        epochs=8, learning_rate=5e-4, schedule="linear", warmup_steps=60, monitor="val_accuracy", patience=4
    )
    with tempfile.TemporaryDirectory() as directory:
        history = ka.train(
            model,
            make_batches(train, model, max_tokens=2048, seed=seed),
            directory,
            plan,
            validation=make_batches(dev, model, shuffle=False),
        )
    return 100 * max(history["val_accuracy"])


if __name__ == "__main__":
    {"pretrain": pretrain, "finetune": finetune}[sys.argv[1]](*sys.argv[2:])
