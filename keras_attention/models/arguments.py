"""From a task's arguments, its config and tokenizers, to what its network needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras


def with_vocabulary(config, field: str, tokenizer: Any, name: str = "tokenizer"):
    """Return `config` with its vocabulary size taken from a tokenizer, unless it is known already.

    Without a tokenizer a model whose vocabulary size is known works on ids; it has no verb.

    Raises:
        TypeError: there is neither a tokenizer nor a size, or the tokenizer is of another type.
        ValueError: the size is too small for the tokenizer.
    """
    if tokenizer is None and getattr(config, field):
        return config
    if not hasattr(tokenizer, "detokenize"):
        raise TypeError(
            f"`{name}` is {type(tokenizer).__name__}; expected a KerasHub tokenizer. "
            "`keras_attention.data.train_tokenizer(texts)` makes one."
        )
    size = getattr(config, field)
    if not size:
        return dataclasses.replace(config, **{field: tokenizer.vocabulary_size()})
    try:
        pieces = tokenizer.vocabulary_size()
    except ValueError:  # it is being loaded and gets its vocabulary later
        return config
    if size < pieces:
        raise ValueError(f"`{field}` is {size}, but the tokenizer has {pieces} pieces; leave it out.")
    return config


def without_attention(config, task: str):
    """Return `config`.

    Raises:
        ValueError: it is the config of a recurrent network with attention.
    """
    if config.attention is not None:
        raise ValueError(f"`attention` is {config.attention!r}, but a recurrent {task} has none; expected None.")
    return config


def text_inputs(config) -> dict[str, keras.KerasTensor]:
    """Return the inputs of a network over one text: ids, padding, and segments and characters where it has them."""
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
    }
    if config.num_segments:
        inputs["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
    if config.character_vocabulary_size:
        inputs["character_ids"] = keras.Input((None, None), dtype="int32", name="character_ids")
        inputs["character_mask"] = keras.Input((None, None), dtype="bool", name="character_mask")
    return inputs


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are two or more different names."""
    names = not isinstance(labels, str) and all(isinstance(label, str) for label in labels)
    if not names or len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"`labels` is {labels!r}; expected at least two different names, each a string.")


def has_learned_positions(config) -> bool:
    """Whether a network has a table of positions, so that a text has at most `config.max_length` tokens."""
    return config.positions == "learned"
