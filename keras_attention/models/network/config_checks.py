"""Check the config of a task, and complete it with the vocabulary sizes of the tokenizers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_attention.data.tokenization.special_tokens import vocabulary


def with_vocabulary(config, field: str, tokenizer: Any, name: str = "tokenizer"):
    """Return `config` with the vocabulary size of the tokenizer, unless it already has one.

    A model without a tokenizer only reads token ids; its config must have the vocabulary size.

    Args:
        config: the config of a task.
        field: the field of the vocabulary size, such as `"vocabulary_size"`.
        tokenizer: KerasHub tokenizer, or None.
        name: the name of the task's tokenizer argument, for errors.

    Raises:
        TypeError: there is neither a tokenizer nor a size, or `tokenizer` is not a KerasHub tokenizer.
        ValueError: the size is smaller than the tokenizer's vocabulary.
    """
    if tokenizer is None and getattr(config, field):
        return config
    if not hasattr(tokenizer, "detokenize"):
        received = "None" if tokenizer is None else type(tokenizer).__name__
        raise TypeError(
            f"`{name}` is {received}; expected a KerasHub tokenizer. "
            "`keras_attention.data.train_tokenizer(texts)` trains one."
        )
    size = getattr(config, field)
    if not size:
        return dataclasses.replace(config, **{field: len(vocabulary(tokenizer))})
    pieces = known_vocabulary(tokenizer)
    if pieces is not None and size < len(pieces):
        raise ValueError(f"`{field}` is {size}, but the tokenizer has {len(pieces)} pieces; omit `{field}`.")
    return config


def known_vocabulary(tokenizer: Any) -> list[str] | None:
    """Return the pieces of a tokenizer; None without a tokenizer, and while Keras loads it."""
    try:
        return None if tokenizer is None else vocabulary(tokenizer)
    except ValueError:  # Keras sets its vocabulary later
        return None


def without_attention(config, task: str):
    """Return `config` after checking that it has no attention.

    Raises:
        ValueError: `config.attention` is not None.
    """
    if config.attention is not None:
        raise ValueError(f"`attention` is {config.attention!r}, but a recurrent {task} uses none; expected None.")
    return config


def check_labels(labels: Sequence[str], at_least: int = 2) -> None:
    """Raise ValueError unless `labels` is a list or tuple of at least `at_least` different strings."""
    ordered = isinstance(labels, Iterable) and not isinstance(labels, (str, Mapping, set, frozenset))
    names = ordered and all(isinstance(label, str) for label in labels)
    if not names or len(labels) < at_least or len(set(labels)) < len(labels):
        expected = "at least two different names" if at_least > 1 else "at least one name, each different"
        raise ValueError(f"`labels` is {labels!r}; expected a list of {expected}, each a string.")
