"""Weights of classes and of examples in batches."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_attention.argument_checks import one_of
from keras_attention.data.batches import LengthBatches

ClassWeight = Mapping[Any, float] | Literal["balanced"]


class WeightedBatches(keras.utils.PyDataset):
    """Batches whose token weights are multiplied by the weights of their classes and of their examples.

    Args:
        batches: batches of (inputs, labels, weights), from `keras_attention.data`.
        class_weight: label id or name -> weight; a class that is missing has the weight 1. `"balanced"` is the weight
            tokens / (classes * tokens of the class), so that the weights of the tokens of each class have the same sum.
            None for no weights of classes.
        labels: the names of the classes.
        sample_weight: (B,), the weight of each example; None for no weights of examples.

    Raises:
        ValueError: there are no classes, a class does not exist, an id is the name of another class, a weight
            is negative or not a number, or the number of weights is wrong.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["good bread", "bad milk"], "characters")
        >>> model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("bad", "good"))
        >>> batches = ka.data.classification_batches([("good bread", "good"), ("bad milk", "bad")], model)
        >>> WeightedBatches(batches, {"bad": 3.0}, model.config.labels)[0][2].tolist()
        [3.0, 1.0]
    """

    def __init__(
        self,
        batches: LengthBatches,
        class_weight: ClassWeight | None = None,
        labels: Sequence[str] = (),
        sample_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.batches, self.class_weights = batches, None
        if class_weight is not None:
            self.class_weights = _class_weights(batches, class_weight, labels)
        self.example_weights = None if sample_weight is None else _example_weights(batches, sample_weight)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple:
        inputs, labels, weights = self.batches[index]
        if self.class_weights is not None:
            weights = weights * self.class_weights[labels]
        if self.example_weights is not None:
            rows = self.example_weights[self.batches.example_indices[self.batches.batches[index]]]
            count = min(map(len, inputs.values()))  # with rows of padding; for a captioner, the images
            rows = np.repeat(np.pad(rows, (0, count - len(rows))), len(weights) // count)
            weights = weights * rows.reshape(-1, *[1] * (weights.ndim - 1))
        return inputs, labels, weights.astype("float32")

    def on_epoch_end(self) -> None:
        """Arrange the batches of the next epoch."""
        self.batches.on_epoch_end()

    def start_epoch(self, epoch: int) -> None:
        """Arrange the batches of an epoch, counted from 0."""
        self.batches.start_epoch(epoch)


def _class_weights(batches: LengthBatches, class_weight: ClassWeight, labels: Sequence[str]) -> np.ndarray:
    """Return the weight of each class, (classes,) float32."""
    if not labels:
        raise ValueError("`class_weight` is set, but the model has no classes; leave it out.")
    if class_weight == "balanced":
        read = (batches[index] for index in range(len(batches)))
        counts = sum(np.bincount(ids.ravel(), weights.ravel() != 0, len(labels)) for _, ids, weights in read)
        return np.where(counts, counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts), 1.0).astype("float32")
    weights = np.ones(len(labels), "float32")
    for label, weight in class_weight.items():
        if not isinstance(weight, numbers.Real) or not 0 <= weight < np.inf:
            raise ValueError(f"`class_weight` has the weight {weight!r} of {label!r}; expected a number, 0 or more.")
        weights[_class_id(label, labels)] = weight
    return weights


def _class_id(label: Any, labels: Sequence[str]) -> int:
    """Return the id of a class; a number that is an id of one class and the name of another is an error."""
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    is_id = isinstance(label, numbers.Integral) and not isinstance(label, bool) and 0 <= label < len(labels)
    if isinstance(label, numbers.Integral) and str(label) in labels and not (is_id and labels[label] == str(label)):
        meaning = f", which is the id of the class {labels[label]!r}" if is_id else ""
        raise ValueError(
            f"`class_weight` has the integer {label!r}{meaning}, but there is also a class with the name "
            f"{str(label)!r}; expected names. Write each class as a string, such as {str(label)!r}."
        )
    if not is_id:
        raise ValueError(f"`class_weight` has the class {label!r}; expected {one_of(labels)}, or its id.")
    return int(label)


def _example_weights(batches: LengthBatches, sample_weight: Sequence[float]) -> np.ndarray:
    """Return the weight of each example, (B,) float32."""
    if batches.example_indices is None:
        raise ValueError("`sample_weight` is set, but a row of these batches is made from several texts; leave it out.")
    weights, count = np.asarray(sample_weight, "float32"), batches.num_examples
    if weights.shape != (count,):
        raise ValueError(f"`sample_weight` has the shape {weights.shape}; expected ({count},), one for each example.")
    if (wrong := ~((weights >= 0) & (weights < np.inf))).any():
        index = int(wrong.argmax())
        raise ValueError(
            f"`sample_weight` has the weight {weights[index]} of example {index}; expected numbers from 0."
        )
    return weights
