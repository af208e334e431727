"""Functions on tensor shapes, which may have unknown sizes."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


def sizes_of(x) -> tuple:
    """Return the size of each axis: an integer if it is known, else a scalar tensor.

    Example:
        >>> sizes_of(keras.ops.zeros((2, 3)))
        (2, 3)
    """
    if None not in x.shape:
        return tuple(x.shape)
    dynamic = ops.shape(x)
    return tuple(dynamic[axis] if size is None else size for axis, size in enumerate(x.shape))


def reshape(x, shape: tuple):
    """Reshape x like `keras.ops.reshape`, but keep known sizes static; sizes in `shape` may be scalar tensors."""
    unknown = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(unknown) == 1:
        shape = tuple(-1 if axis in unknown else size for axis, size in enumerate(shape))
    return ops.reshape(x, shape)


def split_heads(x, num_heads: int):
    """Split the last axis into H heads: (..., L, H D) -> (..., H, L, D).

    Example:
        >>> tuple(split_heads(keras.ops.zeros((2, 5, 21)), 3).shape)
        (2, 3, 5, 7)
    """
    return ops.swapaxes(reshape(x, (*sizes_of(x)[:-1], num_heads, x.shape[-1] // num_heads)), -2, -3)


def merge_heads(x):
    """Concatenate the heads: (..., H, L, D) -> (..., L, H D), the inverse of `split_heads`.

    Example:
        >>> tuple(merge_heads(keras.ops.zeros((2, 3, 5, 7))).shape)
        (2, 5, 21)
    """
    x = ops.swapaxes(x, -2, -3)
    return reshape(x, (*sizes_of(x)[:-2], x.shape[-2] * x.shape[-1]))


def split_step_heads(x, sizes: tuple, num_heads: int, width: int) -> list:
    """Split the vectors of tokens into parts and heads: (B K, n H D) -> n tensors (B, H, K, D), with sizes (B, K).

    Example:
        >>> [tuple(x.shape) for x in split_step_heads(keras.ops.zeros((6, 70)), (2, 3), num_heads=5, width=7)]
        [(2, 5, 3, 7), (2, 5, 3, 7)]
    """
    parts = x.shape[-1] // (num_heads * width)
    if not _can_gather(sizes[1]):
        x = ops.swapaxes(ops.reshape(x, (*sizes, parts * num_heads, width)), 1, 2)  # (B, n H, K, D)
        return ops.split(x, parts, axis=1)
    order = np.arange(sizes[1] * parts * num_heads).reshape(sizes[1], parts, num_heads)
    rows = ops.reshape(x, (-1, order.size, width))
    return [
        ops.reshape(_gather_rows(rows, order[:, part].T), (-1, num_heads, sizes[1], width)) for part in range(parts)
    ]


def _can_gather(num_beams) -> bool:
    """Return whether rows are gathered to swap beams and heads.

    TensorFlow transposes a few rows with all threads, which takes ten times as long as to copy them.
    """
    return keras.backend.backend() == "tensorflow" and isinstance(num_beams, int) and num_beams > 1


def _gather_rows(x, order):
    """Return the rows of x (B, R, D) in this order, an array of indices."""
    import tensorflow as tf

    return tf.gather(x, order.ravel().astype("int32"), axis=1)


def merge_step_heads(x):
    """Concatenate the heads: (B, H, K, D) -> (B K, H D), the inverse of `split_step_heads`.

    Example:
        >>> tuple(merge_step_heads(keras.ops.zeros((2, 5, 3, 7))).shape)
        (6, 35)
    """
    _, heads, beams, width = x.shape
    if _can_gather(beams):
        x = _gather_rows(ops.reshape(x, (-1, heads * beams, width)), np.arange(heads * beams).reshape(heads, beams).T)
    else:
        x = ops.swapaxes(x, 1, 2)
    return ops.reshape(x, (-1, heads * width))


def output_specs(layer: keras.layers.Layer, shape: tuple, scores_shape: tuple | None = None):
    """Return the symbolic output of a layer; if `scores_shape` is not None, the pair (output, scores)."""
    output = keras.KerasTensor(shape, dtype=layer.compute_dtype)
    return output if scores_shape is None else (output, keras.KerasTensor(scores_shape, dtype="float32"))
