"""Make a model from a preset, with tokenizers that exist or that are trained on examples; `Task` has these methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_attention import config as configs
from keras_attention.data.tokenizers import train_tokenizer
from keras_attention.defaults import DataSize, default_tokenizer_kind, network_defaults
from keras_attention.presets import find_preset


def from_preset(cls: Any, name: str, **overrides: Any):
    """Make a model of this task with the config of a preset and new weights.

    Args:
        name: a name of `keras_attention.presets()`.
        **overrides: the tokenizers; for classifiers and taggers, `labels`; and other config fields with new values,
            such as `units=512`.

    Returns:
        a model of this task.

    Raises:
        ValueError: the preset or a field is unknown; for a preset, the message suggests similar names.
    """
    config = find_preset(name, cls.task_name())
    tokenizers = {key: overrides.pop(key) for key in cls.tokenizer_names if key in overrides}
    return cls(cls.override_config(config, overrides), **tokenizers)


def from_examples(
    cls: Any,
    examples: Sequence,
    preset: str | None = None,
    *,
    tokenizer_kind: str | None = None,
    vocabulary_size: int | None = None,
    lowercase: bool = False,
    normalization: str = "identity",
    **overrides: Any,
) -> Any:
    """Make a model with the config of a preset, new weights, and tokenizers trained on the examples.

    The vocabulary size and the dropout follow from the size of the data and, if no preset is named, so do the sizes of
    the network; see `keras_attention.defaults.network_defaults`.

    Args:
        examples: training examples of the task, such as pairs of texts; see `keras_attention.data`.
        preset: a name of `keras_attention.presets()`; by default the task's `default_preset`.
        tokenizer_kind: see `train_tokenizer`; by default the task's `default_tokenizer` with the default preset, and
            `"sentencepiece"` with other presets.
        vocabulary_size: maximum number of tokens of each tokenizer; by default it follows from the size of the data.
        lowercase: True to make the tokenizers convert text to lower case.
        normalization: `"identity"` or `"nfkc"`; see `train_tokenizer`.
        **overrides: config fields with new values, such as `units=512`.

    Returns:
        a model of this task.

    Raises:
        TypeError: `examples` are not those of the task.
        ValueError: the preset, a field or the kind is unknown, or there are too few texts for the vocabulary.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, "rnn_attention", tokenizer_kind="characters")
        >>> model.target_tokenizer.vocabulary_size() > 10
        True
    """
    cls.check_examples(examples)
    config = find_preset(preset or cls.default_preset, cls.task_name())
    kind = tokenizer_kind or default_tokenizer_kind(cls, preset)
    size, only_dropout = DataSize.measure(cls, examples), preset is not None
    overrides |= network_defaults(cls, size, config, kind, only_dropout=only_dropout, overrides=overrides)
    derived_size = overrides.pop("vocabulary_size")
    options = {"vocabulary_size": vocabulary_size or derived_size, "lowercase": lowercase}
    tokenizers = cls.train_tokenizers(examples, config, overrides, kind=kind, **options, normalization=normalization)
    if labels := cls.labels_of(examples):
        overrides.setdefault("labels", labels)
    model = cls.from_preset(preset or cls.default_preset, **tokenizers, **overrides)
    model.initialize_from_examples(examples)
    return model


def train_tokenizers(
    cls: Any, examples: Sequence, config: Any, overrides: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Train the tokenizers of a task on examples.

    Args:
        examples: training examples of the task.
        config: the config of the preset.
        overrides: config fields with new values.
        **options: the options of `train_tokenizer`: `kind`, `vocabulary_size`, `lowercase` and `normalization`.

    Returns:
        dict of tokenizers by the names of the constructor's arguments.
    """
    return {"tokenizer": train_tokenizer(cls.texts_of(examples), **options)}


def override_config(cls: Any, config, overrides: dict[str, Any]):
    """Return `config` with new values of some fields.

    Raises:
        ValueError: a field is unknown.
    """
    fields = configs.fields_for(config, cls.task_name())
    unknown = sorted(set(overrides) - fields)
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no {', '.join(unknown)}. Tokenizers: {', '.join(cls.tokenizer_names)}; "
            f"config fields: {', '.join(sorted(fields))}."
        )
    return dataclasses.replace(config, **overrides)
