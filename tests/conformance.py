"""One row per layer and per model; `test_conformance.py` drives every row through every check.

Sizes are distinct primes, so that a swapped axis cannot pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from conftest import PAIRS

import keras_attention as ka
from keras_attention.layers import AdditiveAttention, DotProductAttention, RecurrentDecoder, RecurrentEncoder

B, Q, S, T, D, E, M = 2, 3, 5, 7, 11, 13, 17


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer, its call arguments, and the shapes that it has to answer with."""

    name: str
    make: Callable[[], Any]
    arguments: Callable[[np.random.Generator], dict[str, np.ndarray]]
    shapes: tuple[tuple[int, ...], ...]


def _attended(width: int = M) -> Callable[[np.random.Generator], dict]:
    def arguments(chance: np.random.Generator) -> dict:
        mask = np.array([[True] * S, [True, True, True, False, False]])
        query, memory = chance.normal(size=(B, Q, D)), chance.normal(size=(B, S, width))
        return {"query": query.astype("float32"), "memory": memory.astype("float32"), "mask": mask}

    return arguments


def _encoded(chance: np.random.Generator) -> dict:
    mask = np.array([[True] * S, [True, True, True, False, False]])
    return {"inputs": chance.normal(size=(B, S, E)).astype("float32"), "mask": mask}


def _decoded(states: int, memory: bool) -> Callable[[np.random.Generator], dict]:
    def arguments(chance: np.random.Generator) -> dict:
        given: dict = {"inputs": chance.normal(size=(B, T, E)).astype("float32")}
        given["states"] = [chance.normal(size=(B, M)).astype("float32") for _ in range(states)]
        if memory:
            given["memory"] = chance.normal(size=(B, S, M)).astype("float32")
            given["mask"] = np.array([[True] * S, [True, True, False, False, False]])
        return given

    return arguments


# fmt: off
LAYERS = [
    LayerRow("additive", lambda: AdditiveAttention(19), _attended(), ((B, Q, M), (B, Q, S))),
    LayerRow("dot", lambda: DotProductAttention(scaled=False), _attended(D), ((B, Q, D), (B, Q, S))),
    LayerRow("scaled dot", lambda: DotProductAttention(19), _attended(), ((B, Q, M), (B, Q, S))),
    LayerRow("simple encoder", lambda: RecurrentEncoder(14, cell="simple"), _encoded, ((B, S, 14), (B, 14))),
    LayerRow("gru encoder", lambda: RecurrentEncoder(7, 2, "gru", bidirectional=False), _encoded, ((B, S, 7), (B, 7))),
    LayerRow("lstm encoder", lambda: RecurrentEncoder(14, 2), _encoded, ((B, S, 14), (B, 14), (B, 14))),
    LayerRow("simple decoder", lambda: RecurrentDecoder(19, 23, cell="simple"), _decoded(1, False), ((B, T, 23),)),
    LayerRow("gru decoder", lambda: RecurrentDecoder(19, 23, 2, "gru", DotProductAttention(29)), _decoded(1, True),
             ((B, T, 23), (B, T, S))),
    LayerRow("lstm decoder", lambda: RecurrentDecoder(19, 23, 2, "lstm", AdditiveAttention(29)), _decoded(2, True),
             ((B, T, 23), (B, T, S))),
]
# fmt: on


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """A model, the verb that it answers strings with, and texts for it."""

    name: str
    make: Callable[[Any], Any]
    verb: str
    texts: tuple[str, ...] = ("we eat bread", "the girl drinks cold milk", "")


def _translator(preset: str, **sizes: Any) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> Any:
        tokenizers = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
        return ka.Translator.from_preset(preset, **tokenizers, **{"units": 14, "embedding_dim": 11, **sizes})

    return make


def _labelled(kind: type, preset: str) -> Callable[[Any], Any]:
    labels = ("first", "second", "third")
    return lambda tokenizer: kind.from_preset(preset, tokenizer=tokenizer, labels=labels, units=14, embedding_dim=11)


# fmt: off
MODELS = [
    ModelRow("seq2seq", _translator("rnn_seq2seq"), "translate"),
    ModelRow("seq2seq, simple cells", _translator("rnn_seq2seq", cell="simple"), "translate"),
    ModelRow("attention", _translator("rnn_attention"), "translate"),
    ModelRow("attention, two gru layers", _translator("rnn_attention", cell="gru", num_layers=2), "translate"),
    ModelRow("dot attention", _translator("rnn_attention", attention="dot"), "translate"),
    ModelRow("scaled dot attention", _translator("rnn_attention", attention="scaled_dot"), "translate"),
    ModelRow("language model", lambda tokenizer: ka.CausalLM.from_preset(
        "char_rnn", tokenizer=tokenizer, units=13, embedding_dim=11, max_length=31), "complete"),
    ModelRow("classifier", _labelled(ka.TextClassifier, "rnn_classifier"), "classify"),
    ModelRow("tagger", _labelled(ka.TextTagger, "rnn_tagger"), "tag"),
]
# fmt: on


def batch_for(model: Any) -> dict[str, np.ndarray]:
    """The inputs of one batch of `PAIRS`, with padding in it."""
    special = ka.data.special_ids(getattr(model, "source_tokenizer", None) or model.tokenizer)
    sources = ka.data.encode_texts(
        getattr(model, "source_tokenizer", None) or model.tokenizer, [a for a, _ in PAIRS[3:6]]
    )
    ids, mask = ka.data.pad_ids(sources, special.pad)
    if not isinstance(model, ka.Translator):
        return {"token_ids": ids, "padding_mask": mask}
    targets = ka.data.encode_texts(model.target_tokenizer, [b for _, b in PAIRS[3:6]])
    target_ids, _ = ka.data.pad_ids(targets, special.pad)
    return {"source_ids": ids, "source_mask": mask, "target_ids": target_ids}
