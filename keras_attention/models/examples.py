"""Read examples from files, check them, and score a model on examples: functions that several tasks share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_attention.data.captions import CaptionedImage
from keras_attention.data.files import has_records, read_texts
from keras_attention.data.lines import DataError, counted, read_lines
from keras_attention.metrics.baselines import Baseline, unigram_loss
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity


def _is_pair(value: Any) -> bool:
    """Return whether a value is two strings."""
    return (
        not isinstance(value, str) and _has_items(value) and len(value) == 2 and all(isinstance(v, str) for v in value)
    )


def _has_items(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def _is_labelled(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return _is_pair(value)
    return (isinstance(value[0], str) or _is_pair(value[0])) and isinstance(value[1], str)


# Prediction method of a task -> what an example is, the function that reads a file of them, and a test of an example.
_FORMATS: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "translate": ("(source, target), two strings", "ka.data.read_pairs(path)", _is_pair),
    "classify": ("(text, label), two strings", "ka.data.read_labelled(path)", _is_labelled),
    "tag": (
        "sentences, each a list of (word, tag)",
        "ka.data.read_tagged(path)",
        lambda value: not isinstance(value, str) and _has_items(value) and all(map(_is_pair, value)),
    ),
    "caption": (
        "CaptionedImage",
        "ka.data.read_captions(path, images)",
        lambda value: isinstance(value, CaptionedImage),
    ),
    **dict.fromkeys(
        ("complete", "fill"), ("texts, each a string", "ka.data.read_texts(path)", lambda value: isinstance(value, str))
    ),
}


def has_format(cls: Any) -> bool:
    """Return whether the examples of a task have a format of this library; those of a user's task may have another."""
    return cls.predict_method in _FORMATS


def check_examples(cls: Any, examples: Any) -> None:
    """Check that raw examples are those of this task.

    Args:
        examples: what a user passed as raw examples.

    Raises:
        TypeError: `examples` is no list, such as the path of a file; or an example is not one of the task.
    """
    if not has_format(cls):
        return
    expected, reader, is_example = _FORMATS[cls.predict_method]
    fix = f"expected a list of {expected}. `{reader}` reads a file."
    if isinstance(examples, (str, bytes, os.PathLike)) or not _has_items(examples):
        shown = f" {str(examples)[:80]!r}" if isinstance(examples, (str, os.PathLike)) else ""
        raise TypeError(f"`examples` is a {type(examples).__name__}{shown}; {fix}")
    for index, example in enumerate(examples):
        if not is_example(example):
            raise TypeError(f"Example {index} of `examples` is {repr(example)[:80]}; {fix}")


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


def token_baseline(
    model: Any, examples: Any, validation: Any, metric: str, label_smoothing: float = 0.0
) -> Baseline | None:
    """Return the loss of the frequencies of tokens; see `keras_attention.training.baseline`.

    Args:
        model: a language model.
        examples: texts or batches.
        validation: texts or batches.
        metric: `"loss"`; for a model with several outputs `"logits_loss"`.
        label_smoothing: label smoothing of the loss.
    """
    several = isinstance(model.output, dict)
    if metric != ("logits_loss" if several else "loss"):
        return None

    def batches_of(data: Any) -> Iterator[tuple]:
        batches = data if isinstance(data, keras.utils.PyDataset) else model.make_batches(data, shuffle=False)
        for index in range(len(batches)):
            _, labels, weights = batches[index]
            yield (None, labels["logits"], weights["logits"]) if several else (None, labels, weights)

    loss = unigram_loss(batches_of(examples), batches_of(validation), model.config.vocabulary_size, label_smoothing)
    return Baseline(loss, "the frequency of each token")


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
            f"The model does not have the label of {counted(sum(unknown.values()), 'example')}, so each counts as "
            f"wrong: {shown}."
        )
