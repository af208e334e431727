"""Run a function over the steps of a sequence: the loop of recurrent layers whose cells Keras does not have."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops


def scan(body: Callable, carry, steps: dict, reverse: bool = False):
    """Run a function over the T steps of a sequence; each step reads the carry of the step before.

    Args:
        body: a function (carry, step) -> (carry, outputs). `step` is a dict of the tensors (B, any) of one step.
            TensorFlow collects the outputs only if they have the structure of the carry.
        carry: tensors in any structure, before the first step.
        steps: dict of tensors (T, B, any), which are cast to the dtype of the first one; without those that are None.
        reverse: start at the last step.

    Returns:
        the last carry, and the outputs of all steps, with the axis T first.

    Example:
        >>> body = lambda total, step: (total + step["x"],) * 2
        >>> _, totals = scan(body, keras.ops.zeros((1, 1)), {"x": keras.ops.array([[[2.0]], [[3.0]], [[5.0]]])})
        >>> keras.ops.convert_to_numpy(totals)[:, 0, 0].tolist()
        [2.0, 5.0, 10.0]
    """
    # TensorFlow can scan several tensors only if T is known, so they are packed side by side.
    steps = {name: x for name, x in steps.items() if x is not None}
    widths = {
        name: x.shape[-1] for name, x in sorted(steps.items(), key=lambda item: item[1].shape[-1] is None)
    }  # an unknown one last
    dtype = next(iter(steps.values())).dtype
    packed = ops.concatenate([ops.cast(steps[name], dtype) for name in widths], axis=-1)  # (T, B, all widths)
    return _scan_tensor(lambda carry, row: body(carry, _unpack(row, widths)), carry, packed, reverse)


def _scan_tensor(body: Callable, carry, steps, reverse: bool):
    """Return the last carry and the outputs of `keras.ops.scan` for steps (T, B, any), also for 0 steps.

    In a TensorFlow graph with an unknown batch size, the outputs of 0 steps cannot be stacked. So a step of zeros is
    added, and its output is removed.
    """
    if steps.shape[0] or keras.backend.backend() == "jax":
        return ops.scan(body, carry, steps, reverse=reverse)
    length = ops.shape(steps)[0]
    padding = ((0, ops.maximum(1 - length, 0)), *((0, 0) for _ in steps.shape[1:]))
    last, outputs = ops.scan(body, carry, ops.pad(steps, padding), reverse=reverse)
    last = keras.tree.map_structure(lambda new, old: ops.where(length > 0, new, old), last, carry)
    return last, keras.tree.map_structure(lambda x: x[:length], outputs)


def _unpack(packed, widths: dict) -> dict:
    """Split one step (B, all widths) into its parts (B, width), by name; only the last width may be None."""
    parts, begin = {}, 0
    for name, width in widths.items():
        end = None if width is None else begin + width
        parts[name], begin = packed[:, begin:end], end
    return parts


def select_real(mask, new, old):
    """Return the tensors `new` (B, ...) of a step, but `old` where the mask of the step is 0; `new` without a mask.

    Args:
        mask: (B, 1), 1 = a real step; None for no padding.
        new, old: tensors in the same structure.

    Example:
        >>> mask = keras.ops.array([[1.0], [0.0]])
        >>> keras.ops.convert_to_numpy(select_real(mask, keras.ops.ones((2, 1)), keras.ops.zeros((2, 1)))).tolist()
        [[1.0], [0.0]]
    """
    if mask is None:
        return new
    return keras.tree.map_structure(lambda x, y: ops.where(mask > 0, x, y), new, old)
