"""Measure captions and training steps per second of a captioner, and of the same network in PyTorch.

    pip install torch     # only for the comparison
    python benchmarks/captioning_speed.py MODEL.keras IMAGE...

MODEL is a `show_attend_and_tell` with a MobileNet, such as `captioning_quality.py` trains. The network in PyTorch has
the same weights: Pillow decodes the images, the batch normalization is folded into the convolutions, and an LSTM cell
has additive attention. Its beam search has 3 beams, the same length penalty and the same stopping rule. The script
compares the captions.

Training: one step on a batch of cached regions, with forward pass, backward pass, gradient clipping and Adam. The
measurements alternate between both networks; each ratio is a ratio of medians.
"""

from __future__ import annotations

import io
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import keras_attention as ka

THREADS = os.cpu_count()
ROUNDS, BEAM, PENALTY = 5, 3, 0.6


def torch_captioner(model: ka.Captioner):
    """Return the same network and search in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    tensor = lambda value: torch.from_numpy(np.array(keras.ops.convert_to_numpy(value), "float32"))  # noqa: E731
    decoder, attention, sizes = model.decoder, model.decoder.attention, model.config
    special = ka.data.special_tokens_of(model.tokenizer)

    class Captioner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = _mobilenet(model.image_encoder.network, torch)
            units, width = sizes.units, sizes.embedding_dim
            self.embedding = nn.Parameter(tensor(model.embedding.embeddings))
            tied = sizes.tie_weights
            self.logits = self.embedding.T if tied else nn.Parameter(tensor(model.embedding.reverse_embeddings))
            self.cell = nn.LSTMCell(width + model.image_encoder.channels, units)
            kernel, recurrent, bias = decoder.cells[0].get_weights()
            for name, value in (("weight_ih", kernel.T), ("weight_hh", recurrent.T), ("bias_ih", bias)):
                setattr(self.cell, name, nn.Parameter(tensor(value)))
            self.cell.bias_hh = nn.Parameter(torch.zeros(4 * units))
            dense = [*decoder.state_projections, attention.query_projection, attention.key_projection, decoder.gate]
            self.bridge_h, self.bridge_c, self.query, self.key, self.gate, self.output = (
                _linear(layer, nn, tensor) for layer in (*dense, decoder.output_projection)
            )
            self.vector = nn.Parameter(tensor(attention.vector))
            self.dropout = nn.Dropout(sizes.dropout)

        def encode_images(self, images):
            grid = self.convolutions((images / 127.5 - 1).permute(0, 3, 1, 2))
            return grid.flatten(2).transpose(1, 2)

        def begin(self, regions):
            mean = regions.mean(1)
            return torch.tanh(self.bridge_h(mean)), torch.tanh(self.bridge_c(mean)), self.key(regions)

        def step(self, x, h, c, regions, keys):
            scores = torch.tanh(self.query(torch.cat([x, h], -1))[..., None, :] + keys) @ self.vector
            weights = scores.softmax(-1)
            context = (weights[..., None, :] @ regions)[..., 0, :] * torch.sigmoid(self.gate(h))
            h, c = self.cell(torch.cat([x, context], -1), (h, c))
            return torch.tanh(self.output(torch.cat([x, h, context], -1))), h, c, weights

        def forward(self, regions, tokens):
            (h, c, keys), outputs, attention_weights = self.begin(regions), [], []
            for x in self.dropout(self.embedding[tokens]).unbind(1):
                output, h, c, weights = self.step(x, h, c, regions, keys)
                outputs.append(output)
                attention_weights.append(weights)
            return self.dropout(torch.stack(outputs, 1)) @ self.logits, torch.stack(attention_weights, 1)

        @torch.inference_mode()
        def caption(self, files: list[bytes]) -> list[list[int]]:
            images = np.stack([ka.data.images.decode_image(file, sizes.image_size) for file in files])
            return self.search(self.encode_images(torch.from_numpy(images)))

        def search(self, regions) -> list[list[int]]:
            batch = len(regions)
            h, c, keys = (x.repeat_interleave(BEAM, 0) for x in self.begin(regions))
            regions = regions.repeat_interleave(BEAM, 0)
            totals = torch.full((batch, BEAM), -1e9)
            totals[:, 0] = 0
            tokens = torch.full((batch * BEAM, 1), special.start)
            best: list = [(-1e9, [])] * batch
            limit = sizes.max_length
            for t in range(1, limit + 1):
                outputs, h, c, _ = self.step(self.embedding[tokens[:, -1]], h, c, regions, keys)
                log_probs = F.log_softmax(outputs @ self.logits, -1).view(batch, BEAM, -1) + totals[..., None]
                values, indices = log_probs.flatten(1).topk(2 * BEAM)
                parents, words = indices // log_probs.shape[-1], indices % log_probs.shape[-1]
                ends, norm = words == special.end, ((5 + t) / 6) ** PENALTY
                rows = torch.arange(batch)[:, None] * BEAM + parents
                for b, k in torch.argwhere(ends[:, :BEAM]).tolist():
                    score = float(values[b, k]) / norm
                    if score > best[b][0]:
                        best[b] = (score, tokens[rows[b, k]].tolist()[1:])
                totals, order = values.masked_fill(ends, -2e9).topk(BEAM)
                selected = rows.gather(1, order).flatten()
                tokens = torch.cat([tokens[selected], words.gather(1, order).view(-1, 1)], 1)
                h, c = h[selected], c[selected]
                score_bound = totals.max(1).values / ((5 + limit) / 6) ** PENALTY
                if not (score_bound > torch.tensor([score for score, _ in best])).any():
                    break
            for b, (score, _) in enumerate(best):  # a hypothesis of maximum length needs no end token
                last = float(totals[b, 0]) / ((5 + limit) / 6) ** PENALTY
                if t == limit and last > score:
                    best[b] = (last, tokens[b * BEAM].tolist()[1:])
            return [ids for _, ids in best]

    return Captioner().eval()


def _linear(layer, nn, tensor):
    kernel, *bias = layer.get_weights()
    linear = nn.Linear(*kernel.shape, bias=bool(bias))
    linear.weight = nn.Parameter(tensor(kernel.T))
    if bias:
        linear.bias = nn.Parameter(tensor(bias[0]))
    return linear


def _mobilenet(network: keras.Model, torch):
    """Return a Keras MobileNet as a PyTorch module, with batch normalization folded into the convolutions."""
    parts = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.ZeroPadding2D):
            parts.append(torch.nn.ZeroPad2d((0, 1, 0, 1)))
        elif isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.Conv2D)):
            kernel, stride, same = layer.get_weights()[0], layer.strides[0], layer.padding == "same"
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
            groups, size = (len(kernel) if depthwise else 1), kernel.shape[-1]
            padding = size // 2 if same or layer.name == "conv1" else 0
            convolution = torch.nn.Conv2d(kernel.shape[1] * groups, len(kernel), size, stride, padding, groups=groups)
            if layer.name == "conv1":  # Keras pads an even image only on the right and at the bottom
                parts.append(torch.nn.ZeroPad2d((0, 1, 0, 1)))
                convolution.padding = (0, 0)
            convolution.weight.data = torch.from_numpy(kernel.copy())
            parts.append(convolution)
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            scale = torch.from_numpy(gamma / np.sqrt(variance + layer.epsilon))
            parts[-1].weight.data *= scale[:, None, None, None]
            parts[-1].bias.data = torch.from_numpy(beta) - torch.from_numpy(mean) * scale
        elif isinstance(layer, keras.layers.ReLU):
            parts.append(torch.nn.ReLU6())
    return torch.nn.Sequential(*parts)


def median_seconds(*functions) -> list[float]:
    """Return the median time of each function; they run alternately, ROUNDS times after a warm-up."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(ROUNDS):
        for row, function in zip(times, functions, strict=True):
            begin = time.perf_counter()
            function()
            row.append(time.perf_counter() - begin)
    return [statistics.median(row) for row in times]


def inference(model: ka.Captioner, files: list[bytes]) -> None:
    import tensorflow as tf

    peer = torch_captioner(model)
    strategy = ka.BeamSearch(num_beams=BEAM, length_penalty=PENALTY)
    with tempfile.TemporaryDirectory() as directory:
        served = ka.load(model.export(directory, strategy=strategy))
        our_captions = [c.text for c in served.caption(files)]
        torch_captions = [ka.data.decode_ids(model.tokenizer, ids) for ids in peer.caption(files)]
        same = sum(a == b for a, b in zip(our_captions, torch_captions, strict=True))
        print(f"{same} of {len(files)} captions are the same\n")
        from keras_attention.serving.images import decode_images

        size = model.config.image_size
        decode = tf.function(lambda raw: decode_images(raw, size)[0])
        encode = tf.function(lambda raw: model.image_encoder(decode_images(raw, size)[0]))
        print("| batch | ours, captions/s | PyTorch | ratio | fraction of time: decode | CNN | search |")
        print("|---|---|---|---|---|---|---|")
        for batch in (1, 32):
            some = (files * batch)[:batch]
            raw = tf.constant(some)
            whole, other, first, second = median_seconds(
                lambda raw=raw: served.signature(image_bytes=raw)["caption"].numpy(),
                lambda some=some: peer.caption(some),
                lambda raw=raw: decode(raw).numpy(),
                lambda raw=raw: encode(raw).numpy(),
            )
            fractions = [100 * part / whole for part in (first, second - first, whole - second)]
            print(
                f"| {batch} | {batch / whole:.1f} | {batch / other:.1f} | {other / whole:.2f} | "
                + " | ".join(f"{fraction:.0f} %" for fraction in fractions)
                + " |",
                flush=True,
            )


def training(model: ka.Captioner) -> None:
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(0)
    vocabulary, rows, steps = model.config.vocabulary_size, 64, 14
    regions = rng.uniform(
        0, 2, (rows, model.image_encoder.rows * model.image_encoder.columns, model.image_encoder.channels)
    )
    regions, labels = regions.astype("float32"), rng.integers(4, vocabulary, (rows, steps)).astype("int32")
    inputs = {"regions": regions, "target_ids": ka.data.batches.shift_right(labels, 2)}
    peer = torch_captioner(model).train()
    trainable = [p for name, p in peer.named_parameters() if not name.startswith("convolutions")]
    optimizer = torch.optim.Adam(trainable, 1e-4, betas=(0.9, 0.98), eps=1e-9)
    torch_inputs = [torch.from_numpy(np.array(x)) for x in (regions, inputs["target_ids"].astype("int64"))]
    torch_labels = torch.from_numpy(labels.astype("int64"))
    penalty = model.config.doubly_stochastic

    def torch_step() -> None:
        optimizer.zero_grad()
        logits, weights = peer(*torch_inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), torch_labels.flatten(), label_smoothing=0.1)
        loss = loss + penalty * ((1 - weights.sum(1)) ** 2).sum() / labels.size
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()

    ka.training.compile_model(model, ka.training.TrainingPlan(learning_rate=1e-4), 100)
    weights = np.ones(labels.shape, "float32")
    ours, other = median_seconds(lambda: model.train_on_batch(inputs, labels, weights), torch_step)
    print(f"\n| training, {rows} captions of {steps} tokens, cached regions | ours, steps/s | PyTorch | ratio |")
    print("|---|---|---|---|")
    print(f"| | {1 / ours:.2f} | {1 / other:.2f} | {other / ours:.2f} |")


def main(path: str, images: list[str]) -> None:
    sys.modules["triton"] = None  # with Triton, PyTorch and TensorFlow crash in the same process
    import tensorflow as tf
    import torch

    torch.set_num_threads(THREADS)
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, PyTorch {torch.__version__}"
    print(f"{versions}, Python {platform.python_version()}, {THREADS} cores, medians of {ROUNDS}\n")
    model = keras.saving.load_model(path, compile=False)
    inference(model, [_jpeg(pathlib.Path(image)) for image in images])
    training(model)


def _jpeg(path: pathlib.Path) -> bytes:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return path.read_bytes()
    file = io.BytesIO()
    Image.open(path).convert("RGB").save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
