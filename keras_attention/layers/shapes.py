"""Sizes of tensors, as far as they are known."""

from __future__ import annotations

from keras import ops


def sizes_of(x) -> tuple:
    """Return the size of each axis: an integer where it is known, a scalar tensor where it is not.

    Example:
        >>> import keras
        >>> sizes_of(keras.ops.zeros((2, 3)))
        (2, 3)
    """
    if None not in x.shape:
        return tuple(x.shape)
    dynamic = ops.shape(x)
    return tuple(dynamic[axis] if size is None else size for axis, size in enumerate(x.shape))


def reshape(x, shape: tuple):
    """Reshape as `ops.reshape`, to sizes of which some are scalar tensors, and keep what is known of them."""
    unknown = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(unknown) == 1:
        shape = tuple(-1 if axis in unknown else size for axis, size in enumerate(shape))
    return ops.reshape(x, shape)


def split_heads(x, num_heads: int):
    """(..., L, H D) -> (..., H, L, D), for H heads.

    Example:
        >>> import keras
        >>> tuple(split_heads(keras.ops.zeros((2, 5, 21)), 3).shape)
        (2, 3, 5, 7)
    """
    return ops.swapaxes(reshape(x, (*sizes_of(x)[:-1], num_heads, x.shape[-1] // num_heads)), -2, -3)


def merge_heads(x):
    """(..., H, L, D) -> (..., L, H D), what `split_heads` came from."""
    x = ops.swapaxes(x, -2, -3)
    return reshape(x, (*sizes_of(x)[:-2], x.shape[-2] * x.shape[-1]))
