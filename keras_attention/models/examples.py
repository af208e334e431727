"""Make a model from examples, and score a model on examples: functions that all tasks share."""

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
    normalization: str = "identity",
    **sizes: Any,
) -> Any:
    """Make a model with the sizes of a preset, new weights, and tokenizers trained on the examples.

    Args:
        examples: training examples of the task, such as pairs of texts; see `keras_attention.data`.
        preset: a name of `keras_attention.presets()`; by default the task's `default_preset`.
        tokenizer_kind: see `train_tokenizer`; by default the task's `default_tokenizer` with the default preset, and
            `"sentencepiece"` with other presets.
        vocabulary_size: number of tokens of each tokenizer.
        lowercase: True to make the tokenizers convert text to lower case.
        normalization: `"identity"` or `"nfkc"`; see `train_tokenizer`.
        **sizes: sizes that replace those of the preset, such as `units=512`.

    Returns:
        a model of this task.

    Raises:
        ValueError: the preset, a size or the kind is unknown, or there are too few texts for the vocabulary.

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
    options["normalization"] = normalization
    parts = cls.train_tokenizers(examples, config, sizes, **options)
    labels = cls.labels_of(examples)
    return cls.from_preset(preset, **parts, **({"labels": labels} if labels else {}), **sizes)


def train_tokenizers(
    cls: Any, examples: Sequence, config: Any, sizes: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Train the tokenizers of a task on examples.

    Args:
        examples: training examples of the task.
        config: the preset's sizes.
        sizes: sizes that replace those of the preset.
        **options: the options of `train_tokenizer`: `kind`, `vocabulary_size`, `lowercase` and `normalization`.

    Returns:
        dict of tokenizers by the names of the constructor's arguments.
    """
    return {"tokenizer": train_tokenizer(cls.texts_of(examples), **options)}


def are_raw(data: Any) -> bool:
    """Return whether data for `fit` are raw examples: a list or tuple without arrays, tensors or dicts."""
    if not isinstance(data, (list, tuple)):
        return False
    arrays = (dict, np.ndarray)
    return not any(isinstance(part, arrays) or keras.ops.is_tensor(part) for part in data)


def only_path(paths: Sequence[str]) -> str:
    """Return the single path of a list.

    Raises:
        ValueError: there is not exactly one path.
    """
    if len(paths) != 1:
        raise ValueError(f"There are {len(paths)} files; this task reads exactly one.")
    return str(paths[0])


def read_documents(paths: Sequence[str]) -> list[str]:
    """Read texts for a language model: a text file is one document; each record of JSONL or `tfds:` is one document.

    Args:
        paths: one path, or one `tfds:NAME[:SPLIT]`.

    Returns:
        list of strings.

    Raises:
        ValueError: there is not exactly one path.
        FileNotFoundError: the file does not exist; see `keras_attention.data.read_texts` for more errors.
    """
    path = only_path(paths)
    texts = read_texts(path)
    if path.startswith("tfds:") or path.removesuffix(".gz").endswith(".jsonl"):
        return texts
    return ["\n".join(read_lines(path))]


def token_scores(model: keras.Model, batches: Any) -> dict[str, float]:
    """Compute loss, perplexity and accuracy over all tokens whose weight is not 0.

        loss = sum w cost / sum w,  perplexity = exp(loss)

    The sums are over all batches, so that the values do not depend on the batch size. A copy of the model is compiled,
    so that the metrics of `model` do not change.

    Args:
        model: a functional model with logits (B, T, V), or a dict of such outputs.
        batches: batches of (inputs, labels, weights).

    Returns:
        dict of `loss` in nats, `perplexity` and `accuracy` (0 to 1). For a dict of outputs, each name has the output's
        name as prefix, such as `logits_loss`.
    """
    outputs = model.output
    names = list(outputs) if isinstance(outputs, dict) else None

    def metrics() -> list:
        return [Perplexity(), MaskedAccuracy()]

    scored = keras.Model(model.input, outputs)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # Keras requires a loss
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
    """Raise ValueError if the model has none of the labels; exported models, which have no config, are not checked."""
    model_labels = getattr(getattr(model, "config", None), "labels", None)
    if model_labels and not {*labels} & {*model_labels}:
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(model_labels)}; they have "
            f"{', '.join(label[:40] for label in labels[:3])}. Expected examples with labels of the model."
        )
