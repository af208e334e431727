"""Megatron-LM's own names: GPT-2's network, with query, key and value interleaved by head.

transformers' conversion of such a checkpoint is in GPT-2's form, and needs nothing of this. This is for the
arrays as Megatron-LM wrote them, taken out of the pickle into `model.safetensors`. Beside it stands a `config.json`
with GPT-2's attributes and the pickle's `checkpoint_version`.

Reference: Shoeybi et al., 2019, https://arxiv.org/abs/1909.08053.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_attention.weights.convert import Family, Row, Transform, dense, norm
from keras_attention.weights.gpt2 import BIASES, GPT2, KERNELS

# How the rows of (3 H D, M) are ordered, by version of the checkpoint: on which axis part, head and feature stand.
_ORDERS = {0.0: (0, 1, 2), 1.0: (2, 0, 1), 2.0: (1, 0, 2), 3.0: (1, 0, 2)}
_THEIRS, _OURS = "language_model.transformer.layers.{i}", "decoder.blocks.{i}"


def is_megatron(arrays: Iterable[str]) -> bool:
    """Return whether the names are Megatron-LM's."""
    return any(name.removeprefix("model.").startswith("language_model.") for name in arrays)


def megatron_family(attributes: Mapping[str, Any]) -> Family:
    """Return the tables for a checkpoint of Megatron-LM.

    Raises:
        ValueError: its version is not known.
    """
    version = attributes.get("checkpoint_version")
    if version not in _ORDERS:
        raise ValueError(f"`checkpoint_version` is {version!r}; expected one of {', '.join(map(str, _ORDERS))}.")
    form = _interleaved(_ORDERS[version])
    return dataclasses.replace(
        GPT2,
        ignored_attributes=GPT2.ignored_attributes | {"checkpoint_version"},
        rows=_rows(form),
        tied={},
        ignored=(r"\.attention\.(bias|masked_bias)$", r"\._extra_state$"),
        prefix="",
        renamed=(
            (r"^model\.", ""),
            (r"^language_model\.embedding\.(word|position)_embeddings\.weight$", r"\1_embeddings.weight"),
            (r"^language_model\.(encoder|transformer)\.", "language_model.transformer."),
            (r"\.self_attention\.", ".attention."),
        ),
    )


def _rows(form: Transform) -> tuple[Row, ...]:
    return (
        Row("word_embeddings.weight", "embedding.embeddings"),
        Row("position_embeddings.weight", "decoder.inputs.positions.table"),
        *norm(f"{_THEIRS}.input_layernorm", f"{_OURS}.attention_norm"),
        Row(f"{_THEIRS}.attention.query_key_value.weight", KERNELS, form),
        Row(f"{_THEIRS}.attention.query_key_value.bias", BIASES, form),
        *dense(f"{_THEIRS}.attention.dense", f"{_OURS}.attention.output_projection"),
        *norm(f"{_THEIRS}.post_attention_layernorm", f"{_OURS}.feed_forward_norm"),
        *dense(f"{_THEIRS}.mlp.dense_h_to_4h", f"{_OURS}.hidden"),
        *dense(f"{_THEIRS}.mlp.dense_4h_to_h", f"{_OURS}.output_projection"),
        *norm("language_model.transformer.final_layernorm", "decoder.norm"),
    )


def _interleaved(order: tuple[int, int, int]) -> Transform:
    """Return the form of (3 H D, ...), whose first axis holds part, head and feature in some order."""

    def read(array: np.ndarray, heads: int) -> list[np.ndarray]:
        sizes = np.array([3, heads, len(array) // (3 * heads)])
        stored = array.reshape(*sizes[np.argsort(order)], *array.shape[1:])
        parts = np.moveaxis(stored, order, (0, 1, 2))  # (3, H, D, ...)
        return [part.reshape(-1, *array.shape[1:]).T for part in parts]

    def write(arrays: list[np.ndarray], heads: int) -> np.ndarray:
        parts = np.stack([array.T for array in arrays])
        parts = parts.reshape(3, heads, -1, *parts.shape[2:])
        return np.moveaxis(parts, (0, 1, 2), order).reshape(-1, *parts.shape[3:])

    return Transform(read, write)
