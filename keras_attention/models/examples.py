"""Read examples from files, and score a model on examples: functions that several tasks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.data.files import read_lines, read_texts
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity


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
    """Raise ValueError if the model, or the export, has none of the labels."""
    if not {*labels} & {*model.labels}:
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(model.labels)}; they have "
            f"{', '.join(label[:40] for label in labels[:3])}. Expected examples with labels of the model."
        )
