"""The attention of one decoding step, whose matrices are small."""

from __future__ import annotations

import functools

import keras
from keras import ops

from keras_attention.layers.attention import masked_softmax


def cached_attention(query, caches, bias):
    """Return the attention of one decoding step, or of a prompt, to key/value caches.

    Args:
        query: (B, H, Q, D), one query per beam, or the tokens of a prompt. They are divided by sqrt(D).
        caches: list of key/value caches, `keys` (B, H, D, S_i) and `values` (B, H, S_i, D).
        bias: (B, 1 or H, Q, S) float32, S the sum of all S_i; B and Q may be 1. The result of `mask_bias`, to which
            other logits may be added.

    Returns:
        context (B, H, Q, D), and the scores (B, H, Q, S) in float32. If no position is allowed, the scores are equal,
        and not 0 as in `masked_softmax`.

    Example:
        >>> cache = {"keys": keras.ops.ones((2, 3, 7, 5)), "values": keras.ops.ones((2, 3, 5, 7))}
        >>> query, bias = keras.ops.ones((2, 3, 11, 7)), keras.ops.zeros((1, 1, 1, 10))
        >>> context, scores = cached_attention(query, [cache, cache], bias)
        >>> tuple(context.shape), tuple(scores.shape)
        ((2, 3, 11, 7), (2, 3, 11, 10))
    """
    query = query * query.shape[-1] ** -0.5
    logits = [small_matmul(query, cache["keys"]) for cache in caches]  # (B, H, Q, S_i) each
    logits = ops.concatenate(logits, axis=-1) if len(caches) > 1 else logits[0]  # (B, H, Q, S)
    scores = masked_softmax(ops.cast(logits, "float32") + bias, for_decoding=True)
    remaining_scores, contexts = ops.cast(scores, query.dtype), []
    for cache in caches[:-1]:  # only the last cache may have an unknown length
        slots = cache["keys"].shape[-1]
        contexts.append(small_matmul(remaining_scores[..., :slots], cache["values"]))  # (B, H, Q, D)
        remaining_scores = remaining_scores[..., slots:]
    contexts.append(small_matmul(remaining_scores, caches[-1]["values"]))
    return functools.reduce(ops.add, contexts), scores


def attend_step(logits, values, mask):
    """Return the attention of one step of a recurrent decoder; `soft_attend` for the small matrices of a step.

    Args:
        logits: (B, K, S), one query per beam.
        values: (B, S, M).
        mask: (B, S), True = may be attended to.

    Returns:
        context (B, K, M) in the dtype of `values`, and the scores (B, K, S) in float32.

    Example:
        >>> mask = keras.ops.array([[True, False]])
        >>> context, scores = attend_step(keras.ops.zeros((1, 3, 2)), keras.ops.ones((1, 2, 7)), mask)
        >>> tuple(context.shape), keras.ops.convert_to_numpy(scores)[0, 0].tolist()
        ((1, 3, 7), [1.0, 0.0])
    """
    scores = masked_softmax(logits, ops.expand_dims(mask, 1), for_decoding=True)
    return small_matmul(ops.cast(scores, values.dtype), values), scores


def small_matmul(a, b, transpose_a: bool = False):
    """Return a b, or a' b, for the small matrices of a decoding step.

    TensorFlow replaces its other batch products by oneDNN's, which takes ten times as long to start as a small product.

    Args:
        a: (..., rows, terms), or (..., terms, rows) with `transpose_a`.
        b: (..., terms, columns), of the same dtype.

    Returns:
        (..., rows, columns).

    Example:
        >>> tuple(small_matmul(keras.ops.ones((2, 3, 5)), keras.ops.ones((5, 7))).shape)
        (2, 3, 7)
    """
    if keras.backend.backend() != "tensorflow" or a.dtype == "float16":  # which has no kernel on a CPU
        return ops.matmul(ops.swapaxes(a, -1, -2) if transpose_a else a, b)
    import tensorflow as tf

    return tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=a.dtype, adj_x=transpose_a)
