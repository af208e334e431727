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

TASKS = {"classifier": (ka.TextClassifier, "sst2"), "tagger": (ka.TextTagger, "ud_partut")}


def find(folder: str, word: str) -> pathlib.Path:
    """Return the file of a split, with any suffix."""
    return next(path for path in sorted((DATA / folder).iterdir()) if word in path.name)


def score(task: type, folder: str, seed: int, directory: pathlib.Path) -> float:
    """Return the accuracy in percent of a model that is trained with the defaults."""
    keras.utils.set_random_seed(seed)
    train, dev = (task.data.read([str(find(folder, split))]) for split in ("train", "dev"))
    model = task.from_examples(train)
    plan = ka.training.TrainingPlan.for_data(model, train, seed=seed)
    ka.train(model, train, directory, plan, validation=dev)
    return 100 * ka.evaluate(model, dev)["accuracy"]


def main() -> None:
    task, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    seeds = [int(seed) for seed in sys.argv[3:]] or [1, 2, 3]
    begin, scores = time.time(), []
    for seed in seeds:
        scores.append(score(*TASKS[task], seed, directory / str(seed)))
        print(f"{task}, seed {seed}: {scores[-1]:.2f} % accuracy on dev", flush=True)
    seconds = (time.time() - begin) / len(seeds)
    print(f"{task}: median {statistics.median(scores):.2f} %, {seconds:.0f} s of training each")


if __name__ == "__main__":
    main()
