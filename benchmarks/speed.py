"""Measure the time of starting, the input of training, and the overhead of serving.

    python benchmarks/speed.py

Import: `import keras_attention` and `import keras`, each in a new process; median of seven.
Load: a `.keras` file of 500 MB, and reading its bytes; each in a new process, median of three.
First translation: of a loaded translator, in a new process, median of three; and the second one.
Batches: batches per second without training and in training, and how often the update is traced in two epochs.
Serving: an exported beam search, with strings as input and output, and the decode loop on ids in one TensorFlow graph.
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
ROUNDS = 20
LOAD = """
import pathlib, sys, time
import keras_attention as ka
begin = time.perf_counter()
pathlib.Path(sys.argv[1]).read_bytes()
read = time.perf_counter() - begin
model = ka.load(sys.argv[1])
print(read, time.perf_counter() - begin - read)
"""
TRANSLATE = """
import sys, time
import keras_attention as ka
model = ka.load(sys.argv[1])
for _ in range(2):
    begin = time.perf_counter()
    model.translate(["we are eating bread"], ka.BeamSearch(num_beams=5))
    print(time.perf_counter() - begin)
"""


def serving() -> list[str]:
    """Return a table of the times of the exported signature, on strings, and of `generate`, on ids."""
    import tensorflow as tf

    texts = [source for source, _ in ka.quickstart.phrase_pairs("test")][:512]
    model = translator("rnn_attention")
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
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    begin = time.perf_counter()
                    keras.tree.map_structure(lambda x: x.numpy(), run())
                    times[name].append(1000 * (time.perf_counter() - begin))
            ours_ms, bare_ms = statistics.median(times["served"]), statistics.median(times["bare"])
            lines.append(f"| {size} | {ours_ms:.1f} | {bare_ms:.1f} | {ours_ms / bare_ms:.2f} |")
    return ["Serving, beam 5, 20 to 24 steps", "", *lines]


def medians(rounds: int, program: str, *arguments: object) -> list[float]:
    """Return the medians of the numbers that a program prints, each time in a new process."""
    command, runs = [sys.executable, "-c", program, *map(str, arguments)], []
    for _ in range(rounds):
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append([float(number) for number in output.split()])
    return [statistics.median(numbers) for numbers in zip(*runs, strict=True)]


def importing() -> list[str]:
    timed = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    (plain,), (both,) = (medians(7, timed.format(f"import {names}")) for names in ("keras", "keras, keras_attention"))
    return [f"Import: keras {plain:.2f} s, with keras_attention {both:.2f} s: {both - plain:+.2f} s"]


def loading() -> list[str]:
    tokenizer = ka.data.train_tokenizer(["the quick brown fox jumps over the lazy dog"], "characters")
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.keras"
        ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, num_layers=18).save(path)
        read, load = medians(3, LOAD, path)
        size = path.stat().st_size / 1e6
    return [f"Load a .keras file of {size:.0f} MB: {load:.2f} s; read its bytes: {read:.2f} s"]


def translator(preset: str) -> ka.Translator:
    texts = [text for pair in ka.quickstart.phrase_pairs() for text in pair]
    tokenizer = ka.data.train_tokenizer(texts, vocabulary_size=2000)
    return ka.Translator.from_preset(preset, source_tokenizer=tokenizer, target_tokenizer=tokenizer)


def first_translations() -> list[str]:
    lines = ["| first translation of a loaded model | s | the second, s |", "|---|---|---|"]
    for preset in ("rnn_attention", "transformer_tiny"):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "model.keras"
            translator(preset).save(path)
            first, second = medians(3, TRANSLATE, path)
        lines.append(f"| {preset} | {first:.2f} | {second:.3f} |")
    return lines


def batches() -> list[str]:
    lines = ["| model | shapes | traces | batches/s alone | in training |", "|---|---|---|---|---|"]
    for preset in ("rnn_attention", "transformer_tiny"):
        model, traces = translator(preset), []
        make = model.make_batches(ka.quickstart.phrase_pairs("train")[:1200], max_tokens=256)
        shapes = {
            tuple(inputs["source_ids"].shape) + labels.shape
            for inputs, labels, _ in map(make.__getitem__, range(len(make)))
        }
        begin = time.perf_counter()
        for index in range(len(make)):
            make[index]
        alone = len(make) / (time.perf_counter() - begin)
        model.compile(optimizer="adam")
        step = model.train_step
        model.train_step = lambda data, step=step, traces=traces: (traces.append(1), step(data))[1]
        model.fit(make, epochs=1, verbose=0)
        begin = time.perf_counter()
        model.fit(make, epochs=1, verbose=0)
        training = len(make) / (time.perf_counter() - begin)
        lines.append(f"| {preset} | {len(shapes)} | {len(traces)} | {alone:,.0f} | {training:.1f} |")
    return lines


def main() -> None:
    import tensorflow as tf

    print(f"{platform.machine()}, {THREADS} cores, Python {platform.python_version()}")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__} on {keras.backend.backend()}\n")
    for part in (importing, loading, first_translations, batches, serving):
        print("\n".join(part()), end="\n\n", flush=True)
    print(f"Serving: medians of {ROUNDS} rounds.")


if __name__ == "__main__":
    main()
