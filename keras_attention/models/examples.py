"""Read examples from files, and score a model on examples: functions that several tasks share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_attention.data.files import has_records, read_texts
from keras_attention.data.lines import DataError, read_lines
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity


def only_path(paths: Sequence[str]) -> str:
    """Return the single path of a list.

    Raises:
        ValueError: there is not exactly one path.
    """
    if len(paths) != 1:
        raise ValueError(f"There are {len(paths)} files; this task reads exactly one.")
    return str(paths[0])


def read_documents(paths: Sequence[str], columns: dict[str, str] | None = None) -> list[str]:
    """Read texts for a language model: a text file is one document; a row of a table or data set is one document.

    Args:
        paths: one path, or one `tfds:NAME[:SPLIT]`.
        columns: name of the column `text`; see `read_texts`.

    Returns:
        list of strings.

    Raises:
        ValueError: there is not exactly one path.
        FileNotFoundError: the file does not exist; see `keras_attention.data.read_texts` for more errors.
    """
    path = only_path(paths)
    if columns or has_records(path):
        return read_texts(path, columns)
    lines = read_lines(path)
    if not any(map(str.strip, lines)):
        raise DataError(f"{path} contains no examples; expected at least one line that is not empty.")
    return ["\n".join(lines)]


def token_scores(model: keras.Model, batches: Any) -> dict[str, float]:
    """Compute loss, perplexity and accuracy over all tokens whose weight is not 0.

        loss = sum |w| cost / sum |w|,  perplexity = exp(loss)

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
    one = not isinstance(outputs, dict)
    metrics = {name: (Perplexity(), MaskedAccuracy()) for name in ([""] if one else outputs)}
    scored = keras.Model(model.input, outputs)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # Keras requires a loss
    scored.compile(
        loss=cross_entropy if one else dict.fromkeys(outputs, cross_entropy),
        weighted_metrics=list(metrics[""]) if one else {name: list(pair) for name, pair in metrics.items()},
    )
    scored.evaluate(batches, verbose=0)
    scores = {}
    for name, (perplexity, accuracy) in metrics.items():
        prefix = f"{name}_" if name else ""
        scores[f"{prefix}loss"] = float(perplexity.cross_entropy())
        scores[f"{prefix}perplexity"] = float(perplexity.result())
        scores[f"{prefix}accuracy"] = float(accuracy.result())
    return scores


def check_known_labels(model: Any, counts: Mapping[str, int]) -> None:
    """Warn about labels that the model, or the export, does not have.

    Args:
        model: a task or an exported model.
        counts: label -> number of examples.

    Raises:
        ValueError: the model has none of the labels.
    """
    unknown = {label: count for label, count in counts.items() if label not in model.labels}
    shown = ", ".join(label[:40] for label in list(unknown)[:3])
    if len(unknown) == len(counts):
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(model.labels)}; they have {shown}. "
            "Expected examples with labels of the model."
        )
    if unknown:
        warnings.warn(
            f"{sum(unknown.values())} examples count as wrong: the model does not have their labels, {shown}."
        )
