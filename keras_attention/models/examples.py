"""What the tasks share when a model is made from examples and scored on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.data.files import read_lines, read_texts
from keras_attention.data.tokenizers import train_tokenizer
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity
from keras_attention.presets import find_preset


def from_examples(
    cls: Any,
    examples: Sequence,
    preset: str | None = None,
    *,
    tokenizer_kind: str | None = None,
    vocabulary_size: int = 8000,
    lowercase: bool = False,
    **sizes: Any,
) -> Any:
    """Make a model with the sizes of a preset, new weights, and tokenizers that are trained on examples.

    Args:
        examples: what the task learns from, such as pairs of texts; see `keras_attention.data`.
        preset: a name of `keras_attention.presets()`; the task's `default_preset` when absent.
        tokenizer_kind: see `train_tokenizer`; `default_tokenizer` for the default preset, else `"sentencepiece"`.
        vocabulary_size: tokens of each tokenizer.
        lowercase: whether the tokenizers fold to lower case.
        **sizes: any size of the preset that should differ, such as `units=512`.

    Raises:
        ValueError: an unknown preset, size or kind, or too few texts for the vocabulary.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, "rnn_attention", tokenizer_kind="characters")
        >>> model.target_tokenizer.vocabulary_size() > 10
        True
    """
    preset = preset or cls.default_preset
    config = find_preset(preset, cls.task_name())
    default = cls.default_tokenizer if preset == cls.default_preset else "sentencepiece"
    options = {"kind": tokenizer_kind or default, "vocabulary_size": vocabulary_size, "lowercase": lowercase}
    parts = cls.train_tokenizers(examples, config, sizes, **options)
    labels = cls.labels_of(examples)
    return cls.from_preset(preset, **parts, **({"labels": labels} if labels else {}), **sizes)


def train_tokenizers(
    cls: Any, examples: Sequence, config: Any, sizes: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Return new tokenizers by their names.

    Args:
        examples: what the task learns from.
        config: the preset's sizes.
        sizes: those that differ from the preset.
        **options: those of `train_tokenizer`: `kind`, `vocabulary_size` and `lowercase`.
    """
    return {"tokenizer": train_tokenizer(cls.texts_of(examples), **options)}


def are_raw(data: Any) -> bool:
    """Whether data for `fit` are raw examples: a list or tuple, but not of arrays, tensors or dicts of them."""
    if not isinstance(data, (list, tuple)):
        return False
    arrays = (dict, np.ndarray)
    return not any(isinstance(part, arrays) or keras.ops.is_tensor(part) for part in data)


def only_path(paths: Sequence[str]) -> str:
    """Return the one path.

    Raises:
        ValueError: there are none, or several.
    """
    if len(paths) != 1:
        raise ValueError(f"There are {len(paths)} files; this task reads one.")
    return str(paths[0])


def read_documents(paths: Sequence[str]) -> list[str]:
    """Read texts for a language model: a text file is one document, a record of JSONL or `tfds:` is one each.

    Raises: as `keras_attention.data.read_texts`; ValueError where there are several paths.
    """
    path = only_path(paths)
    texts = read_texts(path)
    if path.startswith("tfds:") or path.removesuffix(".gz").endswith(".jsonl"):
        return texts
    return ["\n".join(read_lines(path))]


def token_scores(model: keras.Model, batches: Any) -> dict[str, float]:
    """Compute loss, perplexity and accuracy over all tokens whose weight is not 0.

        loss = sum w cost / sum w,  perplexity = exp(loss)

    The sums go over all batches, so that the values do not depend on how the batches are cut. The model's own
    `compile` is left as it is.

    Args:
        model: a functional model with logits (B, T, V), or a dict of such outputs.
        batches: of (inputs, labels, weights).

    Returns:
        `loss` in nats, `perplexity` and `accuracy` (0 to 1); of a dict of outputs, those of each with its name before
        them, such as `logits_loss`.
    """
    outputs = model.output
    names = list(outputs) if isinstance(outputs, dict) else None

    def metrics() -> list:
        return [Perplexity(), MaskedAccuracy()]

    scored = keras.Model(model.input, outputs)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # Keras requires one; it is not read
    scored.compile(
        loss=cross_entropy if names is None else dict.fromkeys(names, cross_entropy),
        weighted_metrics=metrics() if names is None else {name: metrics() for name in names},
    )
    values = scored.evaluate(batches, verbose=0, return_dict=True)
    scores = {}
    for prefix in [""] if names is None else [f"{name}_" for name in names]:
        perplexity = float(values[f"{prefix}perplexity"])
        scores[f"{prefix}loss"] = math.log(perplexity)
        scores[f"{prefix}perplexity"] = perplexity
        scores[f"{prefix}accuracy"] = float(values[f"{prefix}accuracy"])
    return scores


def check_known_labels(model: Any, labels: Sequence[str]) -> None:
    """Raise ValueError where none of the labels is one of the model's; an exported model does not tell its labels."""
    own = getattr(getattr(model, "config", None), "labels", None)
    if own and not {*labels} & {*own}:
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(own)}; they have "
            f"{', '.join(label[:40] for label in labels[:3])}. Expected examples of the task that the model learned."
        )
