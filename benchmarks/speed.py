"""Measure the overhead of serving and the import time.

    python benchmarks/speed.py

Serving: an exported beam search, with strings as input and output, and the decode loop on ids in one TensorFlow graph.
Import: `import keras_attention` and `import keras`, each in a new process; median of seven.
All ratios are of measurements that alternate in the same run.
"""

from __future__ import annotations

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import keras_attention as ka

THREADS = os.cpu_count()
ROUNDS = 5


def serving() -> list[str]:
    """Return a table of the times of the exported signature, on strings, and of `generate`, on ids."""
    import tensorflow as tf

    texts = [source for source, _ in ka.quickstart.phrase_pairs("test")][:512]
    tokenizers = {
        f"{side}_tokenizer": ka.data.train_tokenizer([p[i] for p in ka.quickstart.phrase_pairs()], vocabulary_size=2000)
        for i, side in enumerate(("source", "target"))
    }
    model = ka.Translator.from_preset("rnn_attention", **tokenizers)
    strategy = ka.BeamSearch(num_beams=5, max_new_tokens=24, min_new_tokens=20)  # fixed length: the model is untrained
    special = ka.data.special_tokens_of(model.target_tokenizer)
    lines = ["| batch | signature, ms | bare loop, ms | ratio |", "|---|---|---|---|"]

    # The shapes vary, as in a served graph; a graph that is traced for one shape is up to a fifth faster.
    shapes = [
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, None), tf.bool),
        tf.TensorSpec((None,), tf.int32),
    ]

    @tf.function(input_signature=shapes)
    def bare(ids, mask, limits):
        nothing = tf.zeros((tf.shape(ids)[0], 24), tf.int32)
        search_inputs = ka.generation.search.SearchInputs(
            start_ids=tf.zeros_like(limits) + special.start,
            limits=limits,
            seeds=limits,
            prefix_ids=nothing,
            prefix_mask=tf.cast(nothing, tf.bool),
        )
        inputs = {"source_ids": ids, "source_mask": mask}
        return ka.generation.search.generate(model, inputs, strategy, search_inputs, special.end)

    with tempfile.TemporaryDirectory() as directory:
        served = ka.load(model.export(directory, strategy=strategy))
        for size in (1, 8, 64):
            rows = texts[:size]
            ids, mask = model.input_reader.arrays(rows)
            arguments = [tf.constant(ids), tf.constant(mask), tf.fill((size,), 24)]
            text = tf.constant(rows)
            runs = {"served": lambda text=text: served.signature(text=text), "bare": lambda a=arguments: bare(*a)}
            times: dict[str, list[float]] = {name: [] for name in runs}
            for run in runs.values():
                run()
            for _ in range(4 * ROUNDS):
                for name, run in runs.items():
                    begin = time.perf_counter()
                    keras.tree.map_structure(lambda x: x.numpy(), run())
                    times[name].append(1000 * (time.perf_counter() - begin))
            ours_ms, bare_ms = statistics.median(times["served"]), statistics.median(times["bare"])
            lines.append(f"| {size} | {ours_ms:.1f} | {bare_ms:.1f} | {ours_ms / bare_ms:.2f} |")
    return ["Serving, beam 5, 20 to 24 steps", "", *lines]


def importing() -> list[str]:
    def seconds(statement: str) -> float:
        program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return float(done.stdout)

    times: dict[str, list[float]] = {"import keras": [], "import keras, keras_attention": []}
    for _ in range(7):
        for statement, seconds_of_runs in times.items():
            seconds_of_runs.append(seconds(statement))
    plain, both = (statistics.median(runs) for runs in times.values())
    return [f"Import: keras {plain:.2f} s, with keras_attention {both:.2f} s: {both - plain:+.2f} s"]


def main() -> None:
    import tensorflow as tf

    print(f"{platform.machine()}, {THREADS} cores, Python {platform.python_version()}")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__} on {keras.backend.backend()}\n")
    for part in (importing, serving):
        print("\n".join(part()), end="\n\n", flush=True)
    print(f"Script: {pathlib.Path(__file__).name}; medians of {ROUNDS} rounds (import: 7, serving: {4 * ROUNDS}).")


if __name__ == "__main__":
    main()
