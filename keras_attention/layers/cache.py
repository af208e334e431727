"""The key/value cache of step-by-step decoding, as pure functions.

A cache (B, K, H, T, D) stores the keys or the values of up to T tokens for each of K beams. On TensorFlow, a write uses
`keras.ops.where`, which was as fast as a scatter or a strided update. `keras.ops.slice_update` would need XLA, which an
unmodified TensorFlow Serving does not use.

A decoder that generates text (`Transformer`, `RecurrentDecoder`, `RelativeTransformer`) has two methods:

    start(tokens, length, ...) -> (constants, carry)                the state after the prompt, tokens (B, L, M)
    step(tokens, constants, carry) -> (outputs, carry, scores)      one token per beam, tokens (B, K, M)

    constants   dict, the same at every step: projected memory and its mask   (B, ...)
    carry       dict, updated at every step: position, caches or cell states  (B, K, ...); K is 1 after `start`
    outputs     features of the new position                                  (B, K, M)
    scores      cross-attention, None without a memory                        (B, K, S)
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.shapes import reshape, sizes_of


def make_cache(projected, length):
    """Return a cache for T tokens that contains the first L tokens.

    Args:
        projected: (B, H, L, D) keys or values of the first L tokens; L may be 0.
        length: T, at least L, an integer or a scalar tensor.

    Returns:
        (B, 1, H, T, D), zero after the first L tokens.

    Example:
        >>> tuple(make_cache(keras.ops.ones((2, 3, 5, 7)), 11).shape)
        (2, 1, 3, 11, 7)
    """
    padding = length - ops.shape(projected)[2]
    return ops.expand_dims(ops.pad(projected, ((0, 0), (0, 0), (0, padding), (0, 0))), 1)


def write_cache(cache, new, t):
    """Return the cache with one more token per beam, at position t.

    Args:
        cache: (B, K, H, T, D).
        new: (B, K, H, 1, D), the keys or the values of the token.
        t: scalar int.

    Returns:
        (B, K, H, T, D).
    """
    if keras.backend.backend() == "jax":
        return ops.slice_update(cache, (0, 0, 0, t, 0), ops.cast(new, cache.dtype))
    is_t = ops.expand_dims(ops.equal(ops.arange(ops.shape(cache)[3]), t), -1)  # (T, 1)
    return ops.where(is_t, ops.cast(new, cache.dtype), cache)


def cache_mask(cache, t):
    """Return the mask of the written positions of a cache: (1, T) boolean, True up to and including t."""
    return ops.expand_dims(ops.arange(ops.shape(cache)[3]) <= t, 0)


def gather_beams(values, indices):
    """Select beams by index: (B, K, ...) -> (B, C, ...).

    This copies whole rows. On TensorFlow, it is one operation, where `keras.ops.take` adds 18 that compute shapes and
    `keras.ops.take_along_axis` gathers element by element.

    Args:
        values: (B, K, ...).
        indices: (B, C) int, each in [0, K).

    Returns:
        (B, C, ...).

    Example:
        >>> values = keras.ops.array([[[3], [5], [7]]])
        >>> keras.ops.convert_to_numpy(gather_beams(values, keras.ops.array([[2, 0]]))).tolist()
        [[[7], [3]]]
    """
    count = indices.shape[1]
    if values.shape[1] == 1 and count == 1:
        return values  # one beam has itself as its only parent
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, indices, axis=1, batch_dims=1)
    batch, beams, *rest = sizes_of(values)
    rows = ops.expand_dims(ops.arange(batch) * beams, 1) + ops.cast(indices, "int32")
    gathered = ops.take(ops.reshape(values, (-1, *rest)), ops.reshape(rows, (-1,)), axis=0)
    return reshape(gathered, (batch, count, *rest))
