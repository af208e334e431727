"""The key/value cache of step-by-step decoding, as pure functions.

A cache is (B, K, H, T, D): the keys, or the values, of what each of K beams has written so far, with room
for T tokens. On TensorFlow the write is a choice by position, which needs no XLA (`keras.ops.slice_update` would be an
op that a stock server cannot run); it was as fast there as a scatter and as a strided update.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.shapes import reshape, sizes_of


def make_cache(projected, length):
    """Give what has been read so far room to grow.

    Args:
        projected: (B, H, L, D) keys or values of the first L tokens; L may be 0.
        length: T, at least L, an integer or a scalar tensor.

    Returns:
        (B, 1, H, T, D), zero beyond L.
    """
    room = length - ops.shape(projected)[2]
    return ops.expand_dims(ops.pad(projected, ((0, 0), (0, 0), (0, room), (0, 0))), 1)


def write_cache(cache, new, t):
    """Put (B, K, H, 1, D) at time t of a cache (B, K, H, T, D).

    Args:
        cache: (B, K, H, T, D).
        new: (B, K, H, 1, D).
        t: scalar int.

    Returns:
        the cache, with `new` at t.
    """
    if keras.backend.backend() == "jax":
        return ops.slice_update(cache, (0, 0, 0, t, 0), ops.cast(new, cache.dtype))
    here = ops.expand_dims(ops.equal(ops.arange(ops.shape(cache)[3]), t), -1)  # (T, 1)
    return ops.where(here, ops.cast(new, cache.dtype), cache)


def cache_mask(cache, t):
    """Return (1, T) boolean: True up to and with time t."""
    return ops.expand_dims(ops.arange(ops.shape(cache)[3]) <= t, 0)


def gather_beams(values, indices):
    """Reorder beams: (B, K, ...) at (B, C) -> (B, C, ...), whole rows at a time.

    `keras.ops.take_along_axis` picks element by element on TensorFlow, which for a cache takes longer than the
    network.

    Args:
        values: (B, K, ...).
        indices: (B, C) int, which of the K beams.
    """
    count = indices.shape[1]
    if values.shape[1] == 1 and count == 1:
        return values  # a single beam has a single parent
    batch, beams, *rest = sizes_of(values)
    rows = ops.expand_dims(ops.arange(batch) * beams, 1) + ops.cast(indices, "int32")
    taken = ops.take(ops.reshape(values, (-1, *rest)), ops.reshape(rows, (-1,)), axis=0)
    return reshape(taken, (batch, count, *rest))
