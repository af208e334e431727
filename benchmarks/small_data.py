"""Train each task on little data with the defaults of the command line, and compare it with methods without a network.

    python benchmarks/small_data.py runs                        # every row: many hours
    python benchmarks/small_data.py runs tagger:300 classifier  # some rows
    python benchmarks/small_data.py runs --table                # the table of the rows that are finished

A row is a task, a number of training examples and a sample (0, 1 or 2). Its result is stored in `runs/results.jsonl`,
so that a stopped benchmark goes on with the next row. `KERAS_ATTENTION_DATA` is the directory of the data sets. The
classifier is compared with logistic regression on TF-IDF vectors if scikit-learn is installed. The rows
`classifier_init` fine-tune all-MiniLM-L6-v2, whose directory is `INIT`. The taggers of `tagger_pretrain` learn
the words of WikiText-2's validation text first, 1 MB without tags. `translator_fr` (German to French) and `lm_wikitext`
(WikiText-2's validation text) have data for which no default was chosen.

CPU minutes of one run in one thread: tagger 0.4 to 1.7, classifier 0.3 to 0.5, `classifier_init` 2 to 7, language model
1.5 (20,000 characters) and 12 (1,003,854), translator 3, 10 and 38, captioner 6, 8 and 40.
"""

from __future__ import annotations

import collections
import csv
import gzip
import importlib.metadata
import json
import math
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import time

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data"))
SAMPLES = (0, 1, 2)
# Task -> numbers of training examples; characters for a language model.
SIZES = {
    "tagger": (100, 300, 1781),
    "tagger_pretrain": (100, 300, 1781),
    "classifier": (200, 600, 2000, 6919),
    "classifier_init": (200, 600, 2000, 6919),
    "lm": (20_000, 1_003_854),
    "lm_wikitext": (20_000, 200_000),
    "translator": (2000, 8000, 29_000),
    "translator_fr": (2000,),
    "captioner": (200, 1000, 6000),
}
AIMS = {
    "tagger": (84, 89, 94),
    "tagger_pretrain": ("", "", ""),
    "classifier": (63, 67.5, 77.5, 81),
    "classifier_init": (80, 84, 86, 89),
    "lm": (2.30, 1.50),
    "lm_wikitext": ("", ""),
    "translator": (12, 25, 37),
    "translator_fr": ("",),
    "captioner": ("1.1 times", "1.1 times", "1.1 times"),
}


def tagger_data(size: int, sample: int, directory: pathlib.Path) -> tuple[list[str], list[str]]:
    """The first sentences of UD English-ParTUT; the samples differ by the seed of training."""
    sentences = (DATA / "ud_partut" / "train.conllu").read_text(encoding="utf-8").strip().split("\n\n")[:size]
    (directory / "train.conllu").write_text("\n\n".join(sentences) + "\n\n", encoding="utf-8")
    return ["--train", directory / "train.conllu"], ["--valid", DATA / "ud_partut" / "dev.conllu"]


def classifier_data(size: int, sample: int, directory: pathlib.Path) -> tuple[list[str], list[str]]:
    """Random sentences of SST-2."""
    lines = (DATA / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()
    chosen = random.Random(sample).sample(lines, size)
    (directory / "train.tsv").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return ["--train", directory / "train.tsv"], ["--valid", DATA / "sst2" / "dev.tsv"]


def translator_data(
    size: int, sample: int, directory: pathlib.Path, languages: tuple[str, str] = ("en", "de")
) -> tuple[list[str], list[str]]:
    """Random pairs of Multi30k, English to German, in lower case."""
    for split, name in (("train", "train.tsv"), ("val", "valid.tsv")):
        sides = [gzip.open(DATA / "multi30k" / f"{split}.{side}.gz", "rt", encoding="utf-8") for side in languages]
        pairs = [[" ".join(text.lower().split()) for text in pair] for pair in zip(*sides, strict=True)]
        pairs = random.Random(sample).sample(pairs, size) if split == "train" else pairs
        lines = [f"{source}\t{target}\n" for source, target in pairs]
        (directory / name).write_text("".join(lines), encoding="utf-8")
    return ["--train", directory / "train.tsv"], ["--valid", directory / "valid.tsv"]


def translator_fr_data(size: int, sample: int, directory: pathlib.Path) -> tuple[list[str], list[str]]:
    """Random pairs of Multi30k, German to French, in lower case."""
    return translator_data(size, sample, directory, ("de", "fr"))


def lm_data(
    size: int, sample: int, directory: pathlib.Path, file: str = "tinyshakespeare/input.txt"
) -> tuple[list[str], list[str]]:
    """The beginning of tinyshakespeare; the last tenth is for validation."""
    text = (DATA / "lm_text" / file).read_text(encoding="utf-8")
    (directory / "train.jsonl").write_text(json.dumps({"text": text[:size]}), encoding="utf-8")
    (directory / "valid.jsonl").write_text(json.dumps({"text": text[len(text) * 9 // 10 :]}), encoding="utf-8")
    return ["--train", directory / "train.jsonl"], ["--valid", directory / "valid.jsonl"]


def lm_wikitext_data(size: int, sample: int, directory: pathlib.Path) -> tuple[list[str], list[str]]:
    """The beginning of WikiText-2's validation text; its last tenth is for validation."""
    return lm_data(size, sample, directory, "wikitext2/valid.txt")


def captioner_data(size: int, sample: int, directory: pathlib.Path) -> tuple[list[str], list[str]]:
    """Random photos of Flickr8k with five captions each, and a frozen MobileNet."""
    source = DATA / "flickr8k"
    with open(source / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for split, name in (("train", "train.csv"), ("dev", "valid.csv")):
        names = (source / f"{split}.txt").read_text().split()
        chosen = set(random.Random(sample).sample(names, size) if split == "train" else names)
        with open(directory / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["image", "caption"])
            writer.writeheader()
            writer.writerows(row for row in rows if row["image"] in chosen)
    images = ["--images", source / "images", "--region-cache", directory.parent / "region_cache"]
    weights = DATA / "cnn" / "mobilenet_v1_075_224.npz"
    encoder = ["--image-encoder", "mobilenet_0.75", "--image-encoder-weights", weights]
    return ["--captions", directory / "train.csv", *images, *encoder], ["--valid", directory / "valid.csv"]


def run(row: str, size: int, sample: int, out: pathlib.Path) -> dict:
    """Train with the defaults of the command line, and score the model and the methods without a network."""
    task = row.partition("_")[0]
    directory = out / f"{row}-{size}-{sample}"
    directory.mkdir(parents=True, exist_ok=True)
    read = globals().get(f"{row}_data") or globals()[f"{task}_data"]
    train, valid = read(size, sample, directory)
    options = ["--seed", sample]
    if row == "classifier_init":
        options += ["--init", os.environ["INIT"]]
    if row == "tagger_pretrain":
        options += ["--pretrain", DATA / "lm_text" / "wikitext2" / "valid.txt"]
    is_started = (directory / "run" / "run.json").exists()
    options = ["--resume"] if is_started else [*train, *valid, *options]
    command = [sys.executable, "-m", "keras_attention", "train", task, "--out", directory / "run", *options]
    times = directory / "minutes.json"  # of the parts of an interrupted run
    minutes = json.loads(times.read_text()) if is_started and times.exists() else {"minutes": 0.0, "cpu_minutes": 0.0}
    start, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        subprocess.run([str(part) for part in command], check=True)
    finally:
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        minutes["minutes"] += (time.time() - start) / 60
        minutes["cpu_minutes"] += (end.ru_utime + end.ru_stime - used.ru_utime - used.ru_stime) / 60
        times.write_text(json.dumps(minutes))
    return {"row": row, "size": size, "sample": sample} | minutes | score(task, directory)


def score(task: str, directory: pathlib.Path) -> dict:
    """Return the score of the model, and those of the methods without a network."""
    import keras_attention as ka

    model = ka.load(directory / "run" / "model.keras")
    options = json.loads((directory / "run" / "run.json").read_text())[1]
    reading = {"images": options["images"]} if task == "captioner" else {}
    train, valid = (model.data.read(options[f"{split}_files"], **reading) for split in ("train", "valid"))
    search = {"strategy": ka.BeamSearch(num_beams=5)} if model.data.text_metrics else {}
    scores = ka.evaluate(model, valid, **search, **({"ignore_case": True} if task == "translator" else {}))
    metric = {"translator": "bleu", "captioner": "cider", "lm": "loss"}.get(task, "accuracy")
    found = ka.training.baseline(model, train, valid, metric)
    scale = 100 if metric == "accuracy" else 1
    result = {
        "score": scores[metric] * scale,
        "signature": scores["bleu_signature" if task == "translator" else "signature"],
    }
    if found is not None:
        result |= {"baseline": found.value * scale, "baseline_is": found.description}
    if task == "captioner":
        result["other"] = nearest_photo_cider(train, valid, model, options["region_cache"])
    elif task in ("classifier", "lm"):
        result["other"] = (tfidf_accuracy if task == "classifier" else kneser_ney_loss)(train, valid)
    return result


def tfidf_accuracy(train: list, valid: list) -> float | None:
    """Accuracy in percent of logistic regression on TF-IDF vectors of words and pairs of words."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return None
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    vectors = vectorizer.fit_transform([text for text, _ in train])
    classifier = LogisticRegression(C=10, max_iter=1000).fit(vectors, [label for _, label in train])
    return 100 * classifier.score(vectorizer.transform([text for text, _ in valid]), [label for _, label in valid])


def kneser_ney_loss(train: list, valid: list, order: int = 6) -> float:
    """Nats per character of interpolated Kneser-Ney with one discount for each order.

    Reference: Chen and Goodman, 1999, section 2.7 (one discount for each order, n1 / (n1 + 2 n2)).
    """
    text, characters = "".join(train), set("".join(train)) | {"<unknown>"}
    counts = [collections.Counter(text[i : i + n + 1] for i in range(len(text) - n)) for n in range(order)]
    for n in range(order - 1):  # lower orders count the different characters before an n-gram
        counts[n] = collections.Counter(gram[1:] for gram in counts[n + 1])
    discounts, totals, kinds = [], [], []
    for table in counts:
        frequency = collections.Counter(table.values())
        discounts.append(frequency[1] / max(frequency[1] + 2 * frequency[2], 1))
        total, kind = collections.Counter(), collections.Counter()
        for gram, count in table.items():
            total[gram[:-1]] += count
            kind[gram[:-1]] += 1
        totals.append(total)
        kinds.append(kind)

    def probability(gram: str) -> float:
        p = 1 / len(characters)
        for n in range(len(gram)):
            part = gram[len(gram) - 1 - n :]
            if total := totals[n][part[:-1]]:
                p *= discounts[n] * kinds[n][part[:-1]] / total
                p += max(counts[n][part] - discounts[n], 0) / total
        return p

    held_out = "".join(valid)
    logs = [math.log(probability(held_out[max(i - order + 1, 0) : i + 1])) for i in range(len(held_out))]
    return -statistics.mean(logs)


def nearest_photo_cider(train: list, valid: list, model, cache: str) -> float:
    """CIDEr of a caption of the most similar training photo: cosine of the mean features of the image encoder."""
    import numpy as np

    from keras_attention.data.batching.caption_batches import image_source
    from keras_attention.metrics import evaluate_captions

    vectors = []
    for examples in (train, valid):
        source, rows = image_source(examples, model, cache), range(len(examples))
        means = [source.inputs([row], np.random.default_rng(0))["regions"][0].mean(axis=0) for row in rows]
        vectors.append(np.array(means) / np.linalg.norm(means, axis=1, keepdims=True))
    nearest = (vectors[1] @ vectors[0].T).argmax(axis=1)
    captions = [train[row].captions[0] for row in nearest]
    return 100 * evaluate_captions(captions, [example.captions for example in valid], meteor=False).cider


def table(results: list[dict]) -> str:
    """Return the medians and ranges of the samples as a Markdown table."""
    lines = ["| task | examples | score | aim | baseline | other method | CPU minutes | samples |", "|---" * 8 + "|"]
    for row, sizes in SIZES.items():
        for size, aim in zip(sizes, AIMS[row], strict=True):
            found = [result for result in results if (result["row"], result["size"]) == (row, size)]
            if not found:
                continue
            cells = [summary([r.get(name) for r in found]) for name in ("score", "baseline", "other", "cpu_minutes")]
            lines.append(f"| {row} | {size:,} | {cells[0]} | {aim} | {' | '.join(cells[1:])} | {len(found)} |")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "keras-hub")]
    return "\n".join([*lines, "", ", ".join(versions)])


def summary(values: list[float | None]) -> str:
    """Return the median, and the range of several values."""
    values = sorted(value for value in values if value is not None)
    if not values:
        return ""
    median = f"{statistics.median(values):.2f}"
    return median if len(values) == 1 else f"{median} ({values[0]:.2f} to {values[-1]:.2f})"


def main(out: str, *wanted: str) -> None:
    path = pathlib.Path(out) / "results.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    results = [json.loads(line) for line in path.read_text().splitlines()]
    done = {(result["row"], result["size"], result["sample"]) for result in results}
    every = [row for row in SIZES if row != "classifier_init" or "INIT" in os.environ]
    names = [] if wanted == ("--table",) else wanted or every
    for name in names:
        row, _, size = name.partition(":")
        for number in [int(size)] if size else SIZES[row]:
            for sample in SAMPLES:
                if (row, number, sample) not in done:
                    results.append(run(row, number, sample, path.parent))
                    with open(path, "a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                    print(json.dumps(results[-1]), flush=True)
    print(table(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
