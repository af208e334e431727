"""Compute rows in batches of examples of similar length, and make an output of each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attention.outputs import split_rows


def run_batches(
    lengths: Sequence[int], batch_size: int, compute: Callable[[np.ndarray], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Compute a row for each example, in batches of similar length, which need little padding.

    Args:
        lengths: the length of each example.
        batch_size: number of examples in a batch.
        compute: a function from the indices of a batch (B,) to a dict of arrays; axis 0 is the batch.

    Returns:
        one dict per example, in the order of the examples.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; expected a positive integer.")
    order = np.argsort(np.asarray(lengths, "int64"), kind="stable")
    rows: list[Any] = [None] * len(order)
    for begin in range(0, len(order), batch_size):
        indices = order[begin : begin + batch_size]
        for index, row in zip(indices, split_rows(compute(indices)), strict=True):
            rows[index] = row
    return rows


def objects_from_rows(output_class: type, rows: Sequence[dict[str, Any]], texts: Sequence[str] | None) -> list:
    """Return an object of `output_class` for each row and, except for images, its text."""
    if texts is None:
        return [output_class.from_row(row) for row in rows]
    return [output_class.from_row(row, text) for row, text in zip(rows, texts, strict=True)]
