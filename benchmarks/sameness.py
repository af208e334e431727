"""One model, 500 sentences, beam 5, every road: is the text the same?

    python benchmarks/sameness.py runs/attention/model.keras

In process (one at a time; in batches of 64 in random order), reloaded `.keras`, reloaded SavedModel
(alone and in batches), the C++ loader with XLA off (alone and in batches), and JAX in a process that cannot import
TensorFlow. A line that differs is shown with both scores: a tie within 1e-4, or a bug.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import keras

import keras_attention as ka
from keras_attention.serving.check import run_stock_loader, serving_tensors

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "multi30k"
BEAM = ka.BeamSearch(width=5, length_penalty=0.6)
ON_JAX = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None
import json, keras
import keras_attention as ka
model = keras.saving.load_model(sys.argv[1], compile=False)
answers = model.translate(json.load(sys.stdin), ka.BeamSearch(width=5, length_penalty=0.6), batch_size=50)
print(json.dumps([[a.text, a.score] for a in answers]))
"""
Answers = list[tuple[str, float]]


def of(translations: list) -> Answers:
    return [(answer.text, answer.score) for answer in translations]


def shuffled(translate, texts: list[str], batch_size: int) -> Answers:
    order = list(range(len(texts)))
    random.Random(7).shuffle(order)
    answers = translate([texts[i] for i in order], batch_size)
    back = dict(zip(order, answers, strict=True))
    return [back[i] for i in range(len(texts))]


def stock(path: pathlib.Path):
    inputs, outputs = serving_tensors(path)
    wanted = {name: outputs[name] for name in ("text", "score")}

    def translate(texts: list[str], batch_size: int) -> Answers:
        batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
        feeds = [{inputs["text"]: {"dtype": "string", "values": batch}} for batch in batches]
        answers = run_stock_loader(path, wanted, feeds)
        if isinstance(answers, dict):
            raise RuntimeError(answers["error"])
        return [pair for answer in answers for pair in zip(answer["text"], answer["score"], strict=True)]

    return translate


def on_jax(path: str, texts: list[str]) -> Answers:
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, path], input=json.dumps(texts), env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def compare(name: str, expected: Answers, answers: Answers) -> str:
    different = [(a, b) for a, b in zip(expected, answers, strict=True) if a[0] != b[0]]
    ties = [pair for pair in different if abs(pair[0][1] - pair[1][1]) < 1e-4]
    for (text, score), (other, other_score) in different:
        print(f"  {score:.6f} {text}\n  {other_score:.6f} {other}")
    gap = max(abs(a[1] - b[1]) for a, b in zip(expected, answers, strict=True))
    same = len(expected) - len(different)
    return f"| {name} | {same} of {len(expected)} | {len(ties)} | {len(different) - len(ties)} | {gap:.1e} |"


def main() -> None:
    texts = ka.data.read_lines(DATA / "test_2016_flickr.en.gz")[:500]
    model = keras.saving.load_model(sys.argv[1], compile=False)

    def here(texts: list[str], batch_size: int) -> Answers:
        return of(model.translate(texts, BEAM, batch_size))

    expected = here(texts, 1)
    with tempfile.TemporaryDirectory() as directory:
        model.save(pathlib.Path(directory, "again.keras"))
        again = keras.saving.load_model(pathlib.Path(directory, "again.keras"))
        path = ka.export(model, pathlib.Path(directory, "serving"), strategy=BEAM)
        served, loader = ka.load_served(path), stock(path)

        def in_graph(texts: list[str], batch_size: int) -> Answers:
            return of(served.translate(texts, batch_size))

        roads = {
            "in process, batches of 64": lambda: shuffled(here, texts, 64),
            "reloaded .keras": lambda: of(again.translate(texts, BEAM, 64)),
            "reloaded SavedModel, one at a time": lambda: in_graph(texts, 1),
            "reloaded SavedModel, batches of 64": lambda: shuffled(in_graph, texts, 64),
            "C++ loader, one at a time": lambda: loader(texts, 1),
            "C++ loader, batches of 64": lambda: shuffled(loader, texts, 64),
            "JAX, no TensorFlow": lambda: on_jax(sys.argv[1], texts),
        }
        print("| against in process, one at a time | same text | ties | different | largest gap in score |")
        print("|---|---|---|---|---|")
        for name, road in roads.items():
            print(compare(name, expected, road()), flush=True)


if __name__ == "__main__":
    main()
