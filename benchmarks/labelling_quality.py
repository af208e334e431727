"""Train and score `rnn_classifier` on SST-2 and `rnn_tagger` on UD English-ParTUT.

    python benchmarks/labelling_quality.py classifier runs/classifier
    python benchmarks/labelling_quality.py tagger runs/tagger

The models are trained on the train split, without pre-trained embeddings; the best model is selected and scored on the
dev split. The script prints the accuracy of three seeds and their median.
`KERAS_ATTENTION_DATA` is the folder with `sst2/` and `ud_partut/`.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import time

import keras

import keras_attention as ka

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data"))


def find(folder: str, word: str) -> pathlib.Path:
    """Return the file of a split, with any suffix."""
    return next(path for path in sorted((DATA / folder).iterdir()) if word in path.name)


def classifier(seed: int, directory: pathlib.Path) -> float:
    keras.utils.set_random_seed(seed)
    train, dev = (ka.data.read_labelled(find("sst2", split)) for split in ("train", "dev"))
    tokenizer = ka.data.train_tokenizer([text for text, _ in train], vocabulary_size=4000, lowercase=True)
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("0", "1"))
    plan = ka.training.TrainingPlan(
        epochs=14, learning_rate=2e-3, warmup_steps=100, label_smoothing=0.1, monitor="val_accuracy", patience=6
    )
    ka.train(
        model,
        ka.data.classification_batches(train, model, max_tokens=1024, seed=seed),
        directory,
        plan,
        validation=ka.data.classification_batches(dev, model, shuffle=False),
    )
    outputs = model.classify([text for text, _ in dev], batch_size=64)
    return 100 * statistics.mean(a.label == label for a, (_, label) in zip(outputs, dev, strict=True))


def tagger(seed: int, directory: pathlib.Path) -> float:
    keras.utils.set_random_seed(seed)
    train, dev = (ka.data.read_tagged(find("ud_partut", split)) for split in ("train", "dev"))
    words = [" ".join(word for word, _ in sentence) for sentence in train]
    model = ka.TextTagger.from_preset(
        "rnn_tagger",
        tokenizer=ka.data.train_tokenizer(words, "words", lowercase=True),
        character_tokenizer=ka.data.train_tokenizer(words, "characters"),
        labels=tuple(sorted({tag for sentence in train for _, tag in sentence})),
    )
    plan = ka.training.TrainingPlan(
        epochs=18,
        learning_rate=3e-3,
        warmup_steps=100,
        label_smoothing=0.1,
        monitor="val_accuracy",
        patience=8,
        average_checkpoints=6,
    )
    ka.train(
        model,
        ka.data.tagging_batches(train, model, max_tokens=256, seed=seed),
        directory,
        plan,
        validation=ka.data.tagging_batches(dev, model, shuffle=False),
    )
    outputs = model.tag([" ".join(word for word, _ in sentence) for sentence in dev], batch_size=64)
    right = [
        tag == expected
        for output, sentence in zip(outputs, dev, strict=True)
        for tag, (_, expected) in zip(output.tags, sentence, strict=True)
    ]
    return 100 * statistics.mean(right)


def main() -> None:
    task, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    seeds = [int(seed) for seed in sys.argv[3:]] or [1, 2, 3]
    begin, scores = time.time(), []
    for seed in seeds:
        scores.append({"classifier": classifier, "tagger": tagger}[task](seed, directory / str(seed)))
        print(f"{task}, seed {seed}: {scores[-1]:.2f} % accuracy on dev", flush=True)
    seconds = (time.time() - begin) / len(seeds)
    print(f"{task}: median {statistics.median(scores):.2f} %, {seconds:.0f} s of training each")


if __name__ == "__main__":
    main()
