"""Functions on tensor shapes, which may have unknown sizes."""

from __future__ import annotations

from collections.abc import Callable

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


def on_rows(function: Callable, x):
    """Apply a function of matrices (rows, E) -> (rows, F), such as a `Dense` layer, to x: (..., E) -> (..., F).

    TensorFlow computes a `Dense` layer on three axes of unknown sizes with 20 more operations, most of them on shapes.

    Example:
        >>> tuple(on_rows(keras.layers.Dense(5), keras.ops.ones((2, 3, 7))).shape)
        (2, 3, 5)
    """
    outputs = function(ops.reshape(x, (-1, x.shape[-1])))
    return reshape(outputs, (*sizes_of(x)[:-1], outputs.shape[-1]))


def output_specs(layer: keras.layers.Layer, shape: tuple, scores_shape: tuple | None = None):
    """Return the symbolic output of a layer; if `scores_shape` is not None, the pair (output, scores)."""
    output = keras.KerasTensor(shape, dtype=layer.compute_dtype)
    return output if scores_shape is None else (output, keras.KerasTensor(scores_shape, dtype="float32"))
