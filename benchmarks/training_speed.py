"""Measure the training speed and memory of our models, KerasHub's, Hugging Face's and PyTorch's.

    pip install torch transformers     # only for the comparison
    python benchmarks/training_speed.py gpt2               # 6 layers of width 512, V = 8,192, batches of 8 x 128 tokens
    python benchmarks/training_speed.py rnn_attention      # against the same network in PyTorch
    python benchmarks/training_speed.py transformer_tiny   # against the same network in PyTorch
    python benchmarks/training_speed.py show_attend_and_tell   # the same, 64 captions of 14 tokens, cached regions
    python benchmarks/training_speed.py gpt2 ours keras_hub    # only some engines

Each engine is loaded in a process of its own, with one thread per core, and trains with Adam on the same random ids. In
each of `ROUNDS` rounds, the engines run one after the other; the table has medians. The engines `products` compute only
the matrix products of the layers of the GPT-2, forward and backward, with TensorFlow: what they reach is the peak of
the machine for these shapes. `ours_bfloat16` is our model with `mixed_bfloat16`.
"""

from __future__ import annotations

import importlib.metadata as metadata
import itertools
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
LAYERS, WIDTH, HEADS, VOCABULARY, ROWS, LENGTH, ROUNDS = 6, 512, 8, 8192, 8, 128, 9
PAIRS, SIDE, PAIR_VOCABULARY = 64, 24, 5000  # of the translators: rows, tokens of a side, vocabulary
CAPTION, REGIONS, CHANNELS, CAPTION_VOCABULARY = 14, 49, 768, 3000
WORK = next(iter(sys.argv[2:] if sys.argv[1:2] == ["serve"] else sys.argv[1:]), "gpt2")
BLOCK = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
PRODUCTS = LAYERS * BLOCK + [(WIDTH, VOCABULARY)]  # inputs and outputs of the matrices
PRODUCT_FLOP = 6 * ROWS * LENGTH * sum(inputs * outputs for inputs, outputs in PRODUCTS)  # forward and backward


def serve(step: Callable[[], object]) -> None:
    """Run a step for each line, and print the seconds and the peak memory."""
    for _ in sys.stdin:
        begin = time.perf_counter()
        step()
        print(f"RESULT {time.perf_counter() - begin} {peak_gib()}", flush=True)


def peak_gib() -> float:
    """Return the peak memory of this process; `ru_maxrss` would include the parent process."""
    status = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 2**20


class Engine:
    """An engine in a process of its own; `failure` is the last line of its errors if it ended."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self.name, self.gib, self.failure, self.errors = name, 0.0, None, open(folder / f"{name}.log", "w+")
        command, pipe = [sys.executable, __file__, "serve", WORK, name], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.seconds: list[float] = []

    def run(self) -> float:
        """Run a step and return its seconds; 0 if the engine failed."""
        if not self.failure:
            try:
                self.process.stdin.write("\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass
            for line in self.process.stdout:
                if line.startswith("RESULT"):
                    seconds, self.gib = map(float, line.split()[1:])
                    return seconds
            self.errors.seek(0)
            self.failure = (self.errors.read().strip().splitlines() or ["no message"])[-1][:200]
        return 0.0

    def median(self) -> float:
        """Return the median of the seconds of a step."""
        return statistics.median(self.seconds)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def products_float32(dtype: str = "float32") -> Callable[[], object]:
    import tensorflow as tf

    tokens, weights = ROWS * LENGTH, [tf.cast(tf.random.normal(shape), dtype) for shape in PRODUCTS]
    activations = {size: tf.cast(tf.random.normal((tokens, size)), dtype) for shape in PRODUCTS for size in shape}

    @tf.function
    def step():
        results = []
        for weight in weights:
            inputs, gradients = (activations[size] for size in weight.shape)
            results.append(tf.matmul(inputs, weight))
            results.append(tf.matmul(gradients, weight, transpose_b=True))
            scale = tf.cast(1 + len(results), dtype)  # or TensorFlow would compute equal products once
            results.append(tf.matmul(inputs, gradients + scale, transpose_a=True))
        return [result[0, 0] for result in results]

    return lambda: [value.numpy() for value in step()]


def products_bfloat16() -> Callable[[], object]:
    return products_float32("bfloat16")


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


def pairs() -> tuple:
    """Return a batch of random ids; at most a quarter of each source is padding."""
    import numpy as np

    rng = np.random.default_rng(0)
    mask = np.arange(SIDE) < rng.integers(SIDE * 3 // 4, SIDE + 1, PAIRS)[:, None]
    mask[0] = True
    source, labels = (rng.integers(4, PAIR_VOCABULARY, (PAIRS, SIDE)).astype("int32") for _ in range(2))
    targets = np.concatenate([np.full((PAIRS, 1), 2, "int32"), labels[:, :-1]], 1)
    return {"source_ids": source * mask, "source_mask": mask, "target_ids": targets}, labels


def ours_pairs() -> Callable[[], object]:
    import keras_hub
    import numpy as np

    import keras_attention as ka

    words = ["[PAD]", "[UNK]", "[START]", "[END]", *map("".join, itertools.product("abcdefghijklmnopqr", repeat=3))]
    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(vocabulary=words[:PAIR_VOCABULARY], oov_token="[UNK]")
    model = ka.Translator(ka.presets()[WORK].config, tokenizer, tokenizer)
    ka.training.compile_model(model, ka.training.TrainingPlan(), 100)
    inputs, labels = pairs()
    return lambda: model.train_on_batch(inputs, labels, np.ones(labels.shape, "float32"))


def torch_pairs() -> Callable[[], object]:
    import torch
    import torch_networks

    import keras_attention as ka

    config = ka.presets()[WORK].config
    if WORK == "rnn_attention":
        sizes = (config.embedding_dim, config.units, config.dropout)
        network = torch_networks.RecurrentTranslator(PAIR_VOCABULARY, *sizes)
    else:
        sizes = (config.width, config.num_heads, config.num_layers, config.intermediate_dim, config.dropout)
        network = torch_networks.TransformerTranslator(PAIR_VOCABULARY, SIDE, *sizes)
    inputs, labels = pairs()
    arguments = [torch.from_numpy(inputs[name]) for name in ("target_ids", "source_ids", "source_mask")]
    return torch_step(network, arguments, labels)


def captions() -> tuple:
    """Return random regions and captions."""
    import numpy as np

    rng = np.random.default_rng(0)
    regions = rng.uniform(0, 2, (PAIRS, REGIONS, CHANNELS)).astype("float32")
    labels = rng.integers(4, CAPTION_VOCABULARY, (PAIRS, CAPTION)).astype("int32")
    targets = np.concatenate([np.full((PAIRS, 1), 2, "int32"), labels[:, :-1]], 1)
    return {"regions": regions, "target_ids": targets}, labels


def ours_captions() -> Callable[[], object]:
    import dataclasses

    import numpy as np

    import keras_attention as ka

    encoder = {"image_encoder": "mobilenet_0.75", "vocabulary_size": CAPTION_VOCABULARY}
    model = ka.Captioner(dataclasses.replace(ka.presets()[WORK].config, **encoder))
    ka.training.compile_model(model, ka.training.TrainingPlan(), 100)
    inputs, labels = captions()
    return lambda: model.train_on_batch(inputs, labels, np.ones(labels.shape, "float32"))


def torch_captions() -> Callable[[], object]:
    import torch
    import torch_networks

    import keras_attention as ka

    config = ka.presets()[WORK].config
    sizes = (config.embedding_dim, config.units, config.dropout)
    network = torch_networks.RecurrentCaptioner(None, CHANNELS, CAPTION_VOCABULARY, *sizes)
    inputs, labels = captions()
    arguments = [torch.from_numpy(inputs[name]) for name in ("target_ids", "regions")]
    return torch_step(network, arguments, labels, config.doubly_stochastic)


def torch_step(network, arguments: list, labels, doubly_stochastic: float = 0.0) -> Callable[[], object]:
    """Return a step of training; the arguments of the network are tensors."""
    import torch

    torch.set_num_threads(os.cpu_count())
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.9, 0.98), eps=1e-9)

    def step() -> None:
        optimizer.zero_grad()
        (logits, scores), flat = network(*arguments), torch.from_numpy(labels).long().flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), flat, label_smoothing=0.1)
        if doubly_stochastic:
            loss = loss + doubly_stochastic * ((1 - scores.sum(1)) ** 2).sum() / labels.size
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


ENGINES = {
    "gpt2": ["ours", "keras_hub", "hugging_face", "ours_bfloat16", "products_float32", "products_bfloat16"],
    "rnn_attention": ["ours_pairs", "torch_pairs"],
    "transformer_tiny": ["ours_pairs", "torch_pairs"],
    "show_attend_and_tell": ["ours_captions", "torch_captions"],
}


def print_table(engines: list[Engine]) -> None:
    """Print the speeds relative to each peer and, for the GPT-2, to the peak of the machine."""
    working = {engine.name: engine for engine in engines if not engine.failure}
    peers = [name for name in ("keras_hub", "hugging_face", "torch_pairs", "torch_captions") if name in working]
    tokens = {"gpt2": ROWS * LENGTH, "show_attend_and_tell": PAIRS * CAPTION}.get(WORK, PAIRS * SIDE)
    titles = ["engine", "tokens/s", *(f"to {peer}" for peer in peers), "GFLOP/s", "fraction of the peak", "peak GiB"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for engine in engines:
        if engine.failure:
            print(f"| {engine.name} | failed: {engine.failure} |")
            continue
        seconds = engine.median()
        ratios = [f"{working[peer].median() / seconds:.2f}" for peer in peers]
        peak = working.get("products_bfloat16" if "bfloat16" in engine.name else "products_float32")
        flop = f"{PRODUCT_FLOP / seconds / 1e9:.0f}" if WORK == "gpt2" else ""
        fraction = f"{peak.median() / seconds:.0%}" if peak else ""
        print(
            f"| {' | '.join([engine.name, f'{tokens / seconds:,.0f}', *ratios, flop, fraction, f'{engine.gib:.2f}'])} |"
        )


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(globals()[sys.argv[3]]())
        return
    packages = ("tensorflow", "keras", "keras-hub", "torch", "transformers")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {versions}\n")
    with tempfile.TemporaryDirectory() as folder:
        engines = [Engine(name, pathlib.Path(folder)) for name in sys.argv[2:] or ENGINES[WORK]]
        for engine in engines:
            engine.run()  # the first step compiles
            engine.run()
        for _ in range(ROUNDS):
            for engine in engines:
                engine.seconds.append(engine.run())
        print_table(engines)
        for engine in engines:
            engine.close()
    print(f"\nMedians of {ROUNDS} rounds.")


if __name__ == "__main__":
    main()
