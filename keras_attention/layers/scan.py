"""Run a function over the steps of a sequence: the loop of recurrent layers whose cells Keras does not have."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops


def scan(body: Callable, carry, steps, reverse: bool = False):
    """Return the last carry and the outputs of `keras.ops.scan`, also for 0 steps.

    In a TensorFlow graph with an unknown batch size, the outputs of 0 steps cannot be stacked. So a step of zeros is
    added, and its output is removed.

    Args:
        body: a function (carry, step) -> (carry, outputs).
        carry: tensors in any structure, before the first step.
        steps: (T, B, any).
        reverse: start at the last step.

    Example:
        >>> total, totals = scan(lambda total, x: (total + x,) * 2, keras.ops.zeros((1,)), keras.ops.ones((3, 1)))
        >>> keras.ops.convert_to_numpy(totals)[:, 0].tolist()
        [1.0, 2.0, 3.0]
    """
    if steps.shape[0] or keras.backend.backend() == "jax":
        return ops.scan(body, carry, steps, reverse=reverse)
    length = ops.shape(steps)[0]
    padding = ((0, ops.maximum(1 - length, 0)), *((0, 0) for _ in steps.shape[1:]))
    last, outputs = ops.scan(body, carry, ops.pad(steps, padding), reverse=reverse)
    last = keras.tree.map_structure(lambda new, old: ops.where(length > 0, new, old), last, carry)
    return last, keras.tree.map_structure(lambda x: x[:length], outputs)


def scan_steps(advance: Callable, steps: dict, carry, first_outputs: dict) -> tuple[dict, object]:
    """Run a function over the T steps of a sequence; each step reads the carry of the step before.

    Args:
        advance: a function (step, carry) -> (outputs, carry). `step` is a dict of tensors (B, 1, any), and `outputs`
            is a dict of them.
        steps: dict of `inputs` (B, T, any) and of more tensors (B, T) or (B, T, any), which are cast to the dtype of
            the inputs; None for a missing one. A step whose `mask` (B, T) is False does not change the carry.
        carry: tensors (B, 1, any) in any structure, before the first step.
        first_outputs: tensors like the outputs of one step; only their shapes and dtypes are used.

    Returns:
        the outputs, a dict of tensors (B, T, any), and the carry after the last step.

    Example:
        >>> add = lambda step, total: ({"sum": total + step["inputs"]}, total + step["inputs"])
        >>> outputs, _ = scan_steps(
        ...     add, {"inputs": keras.ops.array([[[2.0], [3.0], [5.0]]])}, keras.ops.zeros((1, 1, 1)),
        ...     {"sum": keras.ops.zeros((1, 1, 1))})
        >>> keras.ops.convert_to_numpy(outputs["sum"])[0, :, 0].tolist()
        [2.0, 5.0, 10.0]
    """
    steps = {name: x if len(x.shape) == 3 else ops.expand_dims(x, -1) for name, x in steps.items() if x is not None}
    names = sorted(steps, key=lambda name: steps[name].shape[-1] is None)  # an unknown width is last
    # TensorFlow can scan several tensors only if T is known, and collects only a structure like the carry.
    packed = ops.concatenate([ops.cast(steps[name], steps["inputs"].dtype) for name in names], axis=-1)

    def body(loop, packed_step):
        step = _unpack(packed_step, {name: steps[name].shape[-1] for name in names})
        outputs, carry = advance(step, loop["carry"])
        if "mask" in step:
            keep = step["mask"] > 0
            carry = keras.tree.map_structure(lambda new, old: ops.where(keep, new, old), carry, loop["carry"])
        loop = {"carry": carry, "outputs": outputs}
        return loop, loop

    last, collected = scan(body, {"carry": carry, "outputs": first_outputs}, ops.swapaxes(packed, 0, 1))
    return {name: ops.swapaxes(x[:, :, 0], 0, 1) for name, x in collected["outputs"].items()}, last["carry"]


def _unpack(packed, widths: dict) -> dict:
    """Split one step (B, any) into its parts (B, 1, width), by name; only the last width may be None."""
    parts, begin = {}, 0
    for name, width in widths.items():
        end = None if width is None else begin + width
        parts[name], begin = ops.expand_dims(packed[:, begin:end], 1), end
    return parts
