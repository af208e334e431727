"""The attention of one decoding step, whose matrices are small: products, heads, and attention to caches."""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import ops

from keras_attention.layers.attention import divide_by_root_width, masked_softmax


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
    query = divide_by_root_width(query)
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


def split_step_heads(x, sizes: tuple, num_heads: int, key_dim: int) -> list:
    """Split the vectors of tokens into projections and heads: (B Q, n H D) -> n tensors (B, H, Q, D).

    Args:
        x: (B Q, n H D), such as queries, keys and values side by side, n = 3.
        sizes: (B, Q); one of them may be -1.
        num_heads: H.
        key_dim: D.

    Example:
        >>> [tuple(x.shape) for x in split_step_heads(keras.ops.zeros((6, 70)), (2, 3), num_heads=5, key_dim=7)]
        [(2, 5, 3, 7), (2, 5, 3, 7)]
    """
    parts = x.shape[-1] // (num_heads * key_dim)
    if not _can_gather(sizes[1]):
        x = ops.swapaxes(ops.reshape(x, (*sizes, parts * num_heads, key_dim)), 1, 2)  # (B, n H, Q, D)
        return ops.split(x, parts, axis=1)
    order = np.arange(sizes[1] * parts * num_heads).reshape(sizes[1], parts, num_heads)
    rows = ops.reshape(x, (-1, order.size, key_dim))
    shape = (-1, num_heads, sizes[1], key_dim)
    return [ops.reshape(_gather_rows(rows, order[:, part].T), shape) for part in range(parts)]


def _can_gather(num_queries) -> bool:
    """Return whether rows are gathered to swap queries and heads.

    TensorFlow transposes the few rows of a step with all threads, which takes ten times as long as to copy them.
    """
    return keras.backend.backend() == "tensorflow" and isinstance(num_queries, int) and num_queries > 1


def _gather_rows(x, order):
    """Return the vectors of x (B, vectors, D) in this order, an array of indices."""
    import tensorflow as tf

    return tf.gather(x, order.ravel().astype("int32"), axis=1)


def merge_step_heads(x):
    """Concatenate the heads: (B, H, Q, D) -> (B Q, H D), the inverse of `split_step_heads`.

    Example:
        >>> tuple(merge_step_heads(keras.ops.zeros((2, 5, 3, 7))).shape)
        (6, 35)
    """
    _, heads, queries, key_dim = x.shape
    if _can_gather(queries):
        order = np.arange(heads * queries).reshape(heads, queries).T
        x = _gather_rows(ops.reshape(x, (-1, heads * queries, key_dim)), order)
    else:
        x = ops.swapaxes(x, 1, 2)
    return ops.reshape(x, (-1, heads * key_dim))
