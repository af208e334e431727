"""The key/value cache of step-by-step decoding, as pure functions.

A cache is (B, K, H, T, D): the keys, or the values, of the tokens of each of K beams, with room for T tokens. On
TensorFlow a write selects by position, which needs no XLA (`keras.ops.slice_update` becomes an op that a stock server
cannot run) and was as fast as a scatter or a strided update.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.shapes import reshape, sizes_of


def make_cache(projected, length):
    """Return a cache that holds the first L tokens and has room for T.

    Args:
        projected: (B, H, L, D) keys or values of the first L tokens; L may be 0.
        length: T, at least L, an integer or a scalar tensor.

    Returns:
        (B, 1, H, T, D), zero beyond L.
    """
    room = length - ops.shape(projected)[2]
    return ops.expand_dims(ops.pad(projected, ((0, 0), (0, 0), (0, room), (0, 0))), 1)


def write_cache(cache, new, t):
    """Return the cache with the keys or values of one more token per beam at position t.

    Args:
        cache: (B, K, H, T, D).
        new: (B, K, H, 1, D).
        t: scalar int.

    Returns:
        (B, K, H, T, D).
    """
    if keras.backend.backend() == "jax":
        return ops.slice_update(cache, (0, 0, 0, t, 0), ops.cast(new, cache.dtype))
    is_t = ops.expand_dims(ops.equal(ops.arange(ops.shape(cache)[3]), t), -1)  # (T, 1)
    return ops.where(is_t, ops.cast(new, cache.dtype), cache)


def cache_mask(cache, t):
    """Return which positions of a cache are written once position t is: (1, T) boolean, True up to t."""
    return ops.expand_dims(ops.arange(ops.shape(cache)[3]) <= t, 0)


def gather_beams(values, indices):
    """Return the beams that `indices` names, whole rows at a time: (B, K, ...) -> (B, C, ...).

    `keras.ops.take_along_axis` picks element by element on TensorFlow, which for a cache takes longer than the
    network.

    Args:
        values: (B, K, ...).
        indices: (B, C) int, each in [0, K).
    """
    count = indices.shape[1]
    if values.shape[1] == 1 and count == 1:
        return values  # a single beam has a single parent
    batch, beams, *rest = sizes_of(values)
    rows = ops.expand_dims(ops.arange(batch) * beams, 1) + ops.cast(indices, "int32")
    taken = ops.take(ops.reshape(values, (-1, *rest)), ops.reshape(rows, (-1,)), axis=0)
    return reshape(taken, (batch, count, *rest))
