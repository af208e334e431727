"""Our Transformer translator in CTranslate2, with the same weights."""

from __future__ import annotations

import json
import pathlib

import ctranslate2
import numpy as np


def to_ctranslate2(folder: pathlib.Path) -> ctranslate2.specs.TransformerSpec:
    """Return a specification with the weights, the config and the vocabulary that `make_translator` wrote."""
    config, file = json.loads((folder / "config.json").read_text()), np.load(folder / "weights.npz")
    weights = {path.split("|", 1)[1] if path.startswith("translator") else path: file[path] for path in file.files}
    spec = ctranslate2.specs.TransformerSpec.from_config(config["num_layers"], config["num_heads"], pre_norm=False)

    def kernel(*paths: str):
        return np.concatenate([weights[f"{path}|kernel"].T for path in paths])

    def dense(target, *paths: str) -> None:
        target.weight = kernel(*paths)
        biases = [weights.get(f"{path}|bias") for path in paths]
        target.bias = np.concatenate(biases) if biases[0] is not None else np.zeros(len(target.weight), "float32")

    def norm(target, path: str) -> None:
        target.gamma, target.beta = weights[f"{path}|gamma"], weights[f"{path}|beta"]

    for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = stack.embeddings[0] if side == "encoder" else stack.embeddings
        embeddings.weight, stack.scale_embeddings = weights["embedding|embeddings"], True
        stack.position_encodings.encodings = positions(config["max_length"], config["width"])
        for i, layer in enumerate(stack.layer):
            block = f"{side}|block_{i}"
            dense(layer.self_attention.linear[0], *(f"{block}|attention|{part}" for part in ("query", "key", "value")))
            dense(layer.self_attention.linear[1], f"{block}|attention|output")
            norm(layer.self_attention.layer_norm, f"{block}|attention_norm")
            if side == "decoder":
                dense(layer.attention.linear[0], f"{block}|cross_attention|query")
                dense(layer.attention.linear[1], *(f"{block}|cross_attention|{part}" for part in ("key", "value")))
                dense(layer.attention.linear[2], f"{block}|cross_attention|output")
                norm(layer.attention.layer_norm, f"{block}|cross_norm")
            dense(layer.ffn.linear_0, f"{block}|hidden")
            dense(layer.ffn.linear_1, f"{block}|output")
            norm(layer.ffn.layer_norm, f"{block}|feed_forward_norm")
    spec.decoder.projection.weight = weights["embedding|embeddings"]
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = spec.config.decoder_start_token = "[START]"
    spec.config.eos_token, spec.config.unk_token = "[END]", "[UNK]"
    spec.validate()
    spec.optimize()
    return spec


def positions(length: int, width: int) -> np.ndarray:
    """Return sinusoidal positions from 0; those of CTranslate2 begin with 1."""
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype("float32")
