"""Check that a model generates the same text on every path, with beam search.

    python benchmarks/sameness.py runs/attention/model.keras           # translator: 500 sentences of Multi30k, 5 beams
    python benchmarks/sameness.py runs/captioner/model.keras IMAGE...  # captioner: 3 beams

The paths are: in process, the reloaded `.keras` file, the reloaded SavedModel, the C++ loader with XLA off, and JAX in
a process without TensorFlow. Inputs run one at a time and in batches of 64, in random order. If the texts of an input
differ, the script prints both with their scores; scores within 1e-4 are a tie, otherwise there is a bug.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable

import keras

import keras_attention as ka
from keras_attention.serving.check import run_tensorflow_loader, serving_tensors

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "multi30k"
ON_JAX = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None
import json, keras
import keras_attention as ka
path, predict_method, num_beams = sys.argv[1:]
model = keras.saving.load_model(path, compile=False)
beam = ka.BeamSearch(num_beams=int(num_beams), length_penalty=0.6)
outputs = getattr(model, predict_method)(json.load(sys.stdin), beam, batch_size=50)
print(json.dumps([[a.text, a.score] for a in outputs]))
"""
Outputs = list[tuple[str, float]]
Run = Callable[[list[str], int], Outputs]  # texts or the paths of images, and the batch size


def texts_and_scores(outputs: list) -> Outputs:
    return [(output.text, output.score) for output in outputs]


def shuffled(run: Run, items: list[str], batch_size: int) -> Outputs:
    order = list(range(len(items)))
    random.Random(7).shuffle(order)
    outputs = run([items[i] for i in order], batch_size)
    by_index = dict(zip(order, outputs, strict=True))
    return [by_index[i] for i in range(len(items))]


def tensorflow_loader(path: pathlib.Path) -> Run:
    inputs, outputs = serving_tensors(path)
    (input_name,), text = inputs, "caption" if "caption" in outputs else "text"
    output_tensors = {name: outputs[name] for name in (text, "score")}

    def read(item: str) -> str:
        if input_name == "text":
            return item
        return pathlib.Path(item).read_bytes().decode("utf-8", "surrogateescape")

    def run(items: list[str], batch_size: int) -> Outputs:
        batches = [[read(item) for item in items[i : i + batch_size]] for i in range(0, len(items), batch_size)]
        feeds = [{inputs[input_name]: {"dtype": "string", "values": batch}} for batch in batches]
        results = run_tensorflow_loader(path, output_tensors, feeds)
        if isinstance(results, dict):
            raise RuntimeError(results["error"])
        return [pair for output in results for pair in zip(output[text], output["score"], strict=True)]

    return run


def on_jax(path: str, predict_method: str, num_beams: int, items: list[str]) -> Outputs:
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, path, predict_method, str(num_beams)],
        input=json.dumps(items), env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def compare(name: str, expected: Outputs, outputs: Outputs) -> str:
    different = [(a, b) for a, b in zip(expected, outputs, strict=True) if a[0] != b[0]]
    ties = [pair for pair in different if abs(pair[0][1] - pair[1][1]) < 1e-4]
    for (text, score), (other, other_score) in different:
        print(f"  {score:.6f} {text}\n  {other_score:.6f} {other}")
    difference = max(abs(a[1] - b[1]) for a, b in zip(expected, outputs, strict=True))
    same = len(expected) - len(different)
    return f"| {name} | {same} of {len(expected)} | {len(ties)} | {len(different) - len(ties)} | {difference:.1e} |"


def main() -> None:
    model = keras.saving.load_model(sys.argv[1], compile=False)
    if isinstance(model, ka.Captioner):
        predict_method, num_beams, items = "caption", 3, sys.argv[2:]
    else:
        predict_method, num_beams, items = "translate", 5, ka.data.read_lines(DATA / "test_2016_flickr.en.gz")[:500]
    beam = ka.BeamSearch(num_beams=num_beams, length_penalty=0.6)

    def here(items: list[str], batch_size: int) -> Outputs:
        return texts_and_scores(getattr(model, predict_method)(items, beam, batch_size))

    expected = here(items, 1)
    with tempfile.TemporaryDirectory() as directory:
        model.save(pathlib.Path(directory, "again.keras"))
        reloaded = keras.saving.load_model(pathlib.Path(directory, "again.keras"))
        path = model.export(pathlib.Path(directory, "serving"), strategy=beam)
        served, loader = ka.load(path), tensorflow_loader(path)

        def in_graph(items: list[str], batch_size: int) -> Outputs:
            return texts_and_scores(getattr(served, predict_method)(items, batch_size))

        runs = {
            "in process, batches of 64": lambda: shuffled(here, items, 64),
            "reloaded .keras": lambda: texts_and_scores(getattr(reloaded, predict_method)(items, beam, 64)),
            "reloaded SavedModel, one at a time": lambda: in_graph(items, 1),
            "reloaded SavedModel, batches of 64": lambda: shuffled(in_graph, items, 64),
            "C++ loader, one at a time": lambda: loader(items, 1),
            "C++ loader, batches of 64": lambda: shuffled(loader, items, 64),
            "JAX, no TensorFlow": lambda: on_jax(sys.argv[1], predict_method, num_beams, items),
        }
        print("| path, compared with one at a time | same text | ties | different | largest difference in score |")
        print("|---|---|---|---|---|")
        for name, run in runs.items():
            print(compare(name, expected, run()), flush=True)


if __name__ == "__main__":
    main()
