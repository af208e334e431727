"""Functions on tensor shapes, which may have unknown sizes."""

from __future__ import annotations

import keras
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
    x = ops.reshape(x, (*sizes, x.shape[-1] // (num_heads * width), num_heads, width))
    return ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), axis=0)


def merge_step_heads(x):
    """Concatenate the heads: (B, H, K, D) -> (B K, H D), the inverse of `split_step_heads`.

    Example:
        >>> tuple(merge_step_heads(keras.ops.zeros((2, 5, 3, 7))).shape)
        (6, 35)
    """
    return ops.reshape(ops.swapaxes(x, 1, 2), (-1, x.shape[1] * x.shape[3]))


def output_specs(layer: keras.layers.Layer, shape: tuple, scores_shape: tuple | None = None):
    """Return the symbolic output of a layer; if `scores_shape` is not None, the pair (output, scores)."""
    output = keras.KerasTensor(shape, dtype=layer.compute_dtype)
    return output if scores_shape is None else (output, keras.KerasTensor(scores_shape, dtype="float32"))
