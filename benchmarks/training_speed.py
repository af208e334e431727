"""Measure the training speed and memory of a GPT-2, compared with KerasHub and Hugging Face.

    pip install torch transformers     # only for the comparison
    python benchmarks/training_speed.py

The model has 6 layers of width 512 and V = 8,192; a batch is 8 x 128 tokens. Each engine trains in a separate process,
on the same ids, with Adam. The table has tokens per second, the median of `ROUNDS` steps, and the peak memory.
`ours_bfloat16` is our model with `mixed_bfloat16`.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
LAYERS, WIDTH, HEADS, VOCABULARY, ROWS, LENGTH, ROUNDS = 6, 512, 8, 8192, 8, 128, 9


def ids():
    import numpy as np

    return np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, LENGTH + 1)).astype("int32")


def ours() -> Callable[[], object]:
    import dataclasses

    import numpy as np

    import keras_attention as ka

    sizes = {
        "width": WIDTH,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "intermediate_dim": 4 * WIDTH,
        "max_length": LENGTH,
    }
    config = dataclasses.replace(ka.presets()["gpt2_small"].config, vocabulary_size=VOCABULARY, **sizes)
    model, tokens = ka.CausalLM(config), ids()
    ka.training.compile_model(model, ka.training.TrainingPlan(label_smoothing=0.0), 100)
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((ROWS, LENGTH), bool)}
    return lambda: model.train_on_batch(inputs, tokens[:, 1:], np.ones((ROWS, LENGTH), "float32"))


def ours_bfloat16() -> Callable[[], object]:
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    return ours()


def keras_hub() -> Callable[[], object]:
    import keras
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone(
        VOCABULARY, LAYERS, HEADS, WIDTH, 4 * WIDTH, dropout=0.1, max_sequence_length=LENGTH
    )
    model, tokens = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None), ids()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss)
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((ROWS, LENGTH), bool)}
    return lambda: model.train_on_batch(inputs, tokens[:, 1:])


def hugging_face() -> Callable[[], object]:
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS
    )
    model, tokens = transformers.GPT2LMHeadModel(config).train(), torch.tensor(ids()).long()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        logits = model(tokens[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


ENGINES = (ours, keras_hub, hugging_face, ours_bfloat16)


def peak_gib() -> float:
    """Return the peak memory of this process; `ru_maxrss` would include the parent process."""
    status = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 2**20


def measure(step: Callable[[], object]) -> dict:
    step()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    peak = peak_gib()
    return {"speed": ROWS * LENGTH / statistics.median(times), "gib": peak}


def main() -> None:
    if len(sys.argv) > 1:
        print("RESULT", json.dumps(measure(globals()[sys.argv[1]]())))
        return
    packages = ("tensorflow", "keras", "keras-hub", "torch", "transformers")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {', '.join(f'{p} {metadata.version(p)}' for p in packages)}\n"
    )
    print("| engine | tokens/s | ours / engine | peak GiB |\n|---|---|---|---|")
    first = None
    for engine in ENGINES:
        done = subprocess.run([sys.executable, __file__, engine.__name__], capture_output=True, text=True, check=False)
        results = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not results:
            print(f"| {engine.__name__} | failed: {done.stderr.strip().splitlines()[-1][:200]} |", flush=True)
            continue
        result = json.loads(results[0])
        first = first or result["speed"]
        ratio = first / result["speed"]
        print(f"| {engine.__name__} | {result['speed']:,.0f} | {ratio:.2f} | {result['gib']:.2f} |", flush=True)
    print(f"\nMedians of {ROUNDS} steps, one after the other.")


if __name__ == "__main__":
    main()
