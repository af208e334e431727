"""Measure the training speed compared with PyTorch, the overhead of serving, and the import time.

    pip install torch     # only for the comparison
    python benchmarks/speed.py

Training: `rnn_attention` and the same network in PyTorch (nn.LSTM on packed sequences, nn.LSTMCell with additive
attention and input feeding, tied embeddings, Adam, gradient clipping, label smoothing), on the same batches of random
ids; median of target tokens per second.
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
import numpy as np

import keras_attention as ka

THREADS = os.cpu_count()
ROUNDS = 5


def batch(rng: np.random.Generator, rows: int, source: int, target: int, vocabulary: int) -> tuple:
    """Return a batch of random ids; at most a quarter of each source is padding."""
    lengths = rng.integers(source * 3 // 4, source + 1, rows)
    lengths[0] = source
    mask = np.arange(source) < lengths[:, None]
    ids = rng.integers(4, vocabulary, (rows, source)).astype("int32") * mask
    labels = rng.integers(4, vocabulary, (rows, target)).astype("int32")
    inputs = {"source_ids": ids, "source_mask": mask, "target_ids": ka.data.batches.shift_right(labels, 2)}
    return inputs, labels, np.ones(labels.shape, "float32")


def ours(config) -> tuple:
    """Return the preset, compiled as `train` compiles it, and its training step."""
    tokenizer = ka.data.train_tokenizer(["a b"], "characters")
    model = ka.Translator(config, tokenizer, tokenizer)
    ka.training.compile_model(model, ka.training.TrainingPlan(), 100)
    return model, lambda inputs, labels, weights: model.train_on_batch(inputs, labels, weights)


def torch_network(config):
    """Return the same network in PyTorch, with the same sizes and number of parameters, except for biases."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, units = config.embedding_dim, config.units
            self.source = nn.Embedding(config.source_vocabulary_size, width)
            self.target = nn.Embedding(config.target_vocabulary_size, width)
            self.encoder = nn.LSTM(width, units // 2, bidirectional=True, batch_first=True)
            self.bridge = nn.ModuleList([nn.Linear(units, units) for _ in range(2)])
            self.cell = nn.LSTMCell(2 * width, units)
            self.query, self.key = (nn.Linear(units, units, bias=False) for _ in range(2))
            self.vector = nn.Linear(units, 1, bias=False)
            self.output = nn.Linear(2 * units, width)
            self.dropout = nn.Dropout(config.dropout)

        def forward(self, ids, mask, targets):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.dropout(self.source(ids)), mask.sum(1), batch_first=True, enforce_sorted=False
            )
            memory, states = self.encoder(packed)
            memory, _ = nn.utils.rnn.pad_packed_sequence(memory, batch_first=True, total_length=ids.shape[1])
            memory = self.dropout(memory)
            pairs = [torch.cat([state[0], state[1]], -1) for state in states]
            hidden, cell = (torch.tanh(b(s)) for b, s in zip(self.bridge, pairs, strict=True))
            keys, words = self.key(memory), self.dropout(self.target(targets))
            feed, outputs = torch.zeros_like(words[:, 0]), []
            for t in range(targets.shape[1]):
                hidden, cell = self.cell(torch.cat([words[:, t], feed], -1), (hidden, cell))
                scores = self.vector(torch.tanh(self.query(hidden)[:, None] + keys)).squeeze(-1)
                weights = torch.softmax(scores.masked_fill(~mask, -1e30), -1)
                context = torch.bmm(weights[:, None], memory).squeeze(1)
                feed = torch.tanh(self.output(torch.cat([hidden, context], -1)))
                outputs.append(feed)
            return self.dropout(torch.stack(outputs, 1)) @ self.target.weight.T

    return Network()


def torch_step(config):
    """Return the training step of the PyTorch network."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    network = torch_network(config)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.9, 0.98), eps=1e-9)

    def step(inputs, labels, weights) -> None:
        optimizer.zero_grad()
        arguments = [torch.from_numpy(inputs[name]) for name in ("source_ids", "source_mask", "target_ids")]
        logits = network(*arguments)
        torch_labels = torch.from_numpy(labels).long().flatten()
        nn.functional.cross_entropy(logits.flatten(0, 1), torch_labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def training() -> list[str]:
    import torch

    config = ka.config.RecurrentConfig(
        embedding_dim=256, units=384, dropout=0.3, attention="additive",
        source_vocabulary_size=5000, target_vocabulary_size=5000,
    )  # fmt: skip
    rng, lines = (
        np.random.default_rng(0),
        ["| batch | ours, tokens/s | PyTorch, tokens/s | ratio |", "|---|---|---|---|"],
    )
    _, our_step = ours(config)
    step_in_torch = torch_step(config)
    for rows, source, target in ((96, 16, 16), (32, 16, 16), (48, 32, 32)):
        batches = [batch(rng, rows, source, target, 5000) for _ in range(4)]
        speeds = {"ours": [], "torch": []}
        for step in (our_step, step_in_torch):
            step(*batches[0])
        for _ in range(ROUNDS):
            for name, step in (("ours", our_step), ("torch", step_in_torch)):
                begin = time.perf_counter()
                for one in batches:
                    step(*one)
                speeds[name].append(len(batches) * rows * target / (time.perf_counter() - begin))
        our_speed, torch_speed = (statistics.median(speeds[name]) for name in ("ours", "torch"))
        lines.append(
            f"| {rows} x {source} -> {target} | {our_speed:,.0f} | {torch_speed:,.0f} | {our_speed / torch_speed:.2f} |"
        )
    return [f"Training, PyTorch {torch.__version__}", "", *lines]


def serving() -> list[str]:
    """Return a table of the times of the exported signature, on strings, and of `decode`, on ids."""
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
        return ka.generation.decode.decode(
            model, {"source_ids": ids, "source_mask": mask}, strategy,
            start_ids=tf.zeros_like(limits) + special.start, end_id=special.end,
            limits=limits, prefix_ids=nothing, prefix_mask=tf.cast(nothing, tf.bool), seeds=limits,
        )  # fmt: skip

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
    for part in (importing, training, serving):
        print("\n".join(part()), end="\n\n", flush=True)
    print(f"Script: {pathlib.Path(__file__).name}; medians of {ROUNDS} rounds (import: 7, serving: {4 * ROUNDS}).")


if __name__ == "__main__":
    main()
