"""Compare exports in float32, bfloat16 and int8: metrics, texts that are equal to those of float32, and size.

    python benchmarks/precisions.py runs/translator/model.keras valid.tsv
    python benchmarks/precisions.py runs/captioner/model.keras valid.csv --images photos/
    python benchmarks/precisions.py runs/lm/model.keras valid.jsonl --examples 200

The search has 5 beams for a translator, 3 for a captioner, and is greedy for a language model. A masked or permutation
language model has no metric here. "Batch" counts the outputs that change when the texts are in batches of 32 and not
alone.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import keras_attention as ka
from keras_attention.choices import PRECISIONS


def search(model) -> ka.generation.Strategy | None:
    beams = {ka.Translator: 5, ka.Captioner: 3}
    if type(model) in beams:
        return ka.BeamSearch(num_beams=beams[type(model)])
    return ka.Greedy(max_new_tokens=32) if model.spec.default_strategy is not None else None


def inputs_of(model, examples) -> list:
    if model.spec.predict_method in ("translate", "classify"):
        return [source for source, _ in examples]
    if model.spec.predict_method == "tag":
        return [" ".join(word for word, _ in sentence) for sentence in examples]
    if model.spec.predict_method == "caption":
        return [example.image for example in examples]
    return [text[: len(text) // 2] for text in examples]


def outputs_of(served, inputs: list, batch_size: int) -> list:
    outputs = getattr(served, served.predict_method)(inputs, batch_size=batch_size)
    return [getattr(output, "tags", None) or getattr(output, "label", None) or output.text for output in outputs]


def metrics_of(model, served, examples) -> dict[str, float]:
    if model.spec.metric == "loss" and model.spec.predict_method != "complete":
        return {}
    return {name: score for name, score in ka.evaluate(served, examples).items() if isinstance(score, float)}


def megabytes(path: pathlib.Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--images")
    arguments = parser.parse_args()
    model = ka.load(arguments.model)
    options = {"images": arguments.images} if arguments.images else {}
    examples = model.data.read(arguments.files, **options)[: arguments.examples]
    inputs, expected = inputs_of(model, examples), None
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            target = pathlib.Path(folder, precision)
            path = model.export(target, strategy=search(model), precision=precision, examples=())
            served = ka.load(path)
            metrics, outputs = metrics_of(model, served, examples), outputs_of(served, inputs, 32)
            expected = expected or outputs
            same = sum(a == b for a, b in zip(outputs, expected, strict=True))
            changed = sum(a != b for a, b in zip(outputs, outputs_of(served, inputs, 1), strict=True))
            if precision == "float32":
                print(f"| precision | {' | '.join(metrics)} | as float32 | batch | MB |")
                print(f"|---{'|---' * (len(metrics) + 3)}|")
            cells = [f"{value:.4g}" for value in metrics.values()]
            cells += [f"{same} of {len(inputs)}", str(changed), f"{megabytes(path):.1f}"]
            print(f"| {precision} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
