"""Run a prediction: batches of similar length -> compiled computation -> one output for each text or image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import require_positive_integer
from keras_attention.generation import CompiledFunction
from keras_attention.outputs import split_rows


def predict_outputs(
    model: Any,
    inputs: Any,
    texts: Sequence | None,
    batch_size: int,
    add_inputs: Callable | None = None,
    **options: Any,
) -> list:
    """Compute one output of a task for each text or image.

    Args:
        model: a task.
        inputs: B texts or images, from `encoded_inputs.py`.
        texts: the B texts; None for images.
        batch_size: number of texts or images in a batch.
        add_inputs: function from the indices of a batch to more inputs of `Task.predict_arrays`, such as prefixes.
        **options: constants of the compiled function, such as the `strategy` of a search.

    Returns:
        B objects of the task's `output_class`.
    """

    def compute(indices: np.ndarray) -> dict[str, Any]:
        batch = inputs.take(indices)
        added = {} if add_inputs is None else add_inputs(indices)
        if "strategy" in options:
            added["seeds"] = options["strategy"].seeds(indices)
        return model.predict_arrays({**model.to_inputs(batch), **added}, batch.strings, **options)

    return objects_from_rows(model.spec.output_class, run_batches(inputs.lengths, batch_size, compute), texts)


def compiled_function(model: Any, function: Callable[..., dict]) -> CompiledFunction:
    """Compile `function(model, inputs, **options)` for arrays, once for each model; see `CompiledFunction`."""
    if function not in model.compiled_functions:
        model.compiled_functions[function] = CompiledFunction(model, function)
    return model.compiled_functions[function]


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
    require_positive_integer("batch_size", batch_size)
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
