"""Read examples from files, and score a model on examples: functions that several tasks share."""

from __future__ import annotations

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


def check_known_labels(model: Any, labels: Sequence[str]) -> None:
    """Raise ValueError if the model, or the export, has none of the labels."""
    if not {*labels} & {*model.labels}:
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(model.labels)}; they have "
            f"{', '.join(label[:40] for label in labels[:3])}. Expected examples with labels of the model."
        )
