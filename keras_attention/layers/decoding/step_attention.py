"""The attention of one decoding step, whose matrices are small."""

from __future__ import annotations

import functools

import keras
from keras import ops

from keras_attention.layers.attention import masked_softmax


def attend_parts(query, parts, bias):
    """Return the attention of one decoding step, or of a prompt, to keys and values that are in several parts.

    K is the number of beams, or of the tokens of a prompt.

    Args:
        query: (B, H, K, D), divided by sqrt(D).
        parts: list of dicts, `keys` (B, H, D, S_i) and `values` (B, H, S_i, D).
        bias: (B, 1 or H, K, S) float32, S the sum of all S_i; B and K may be 1. The result of `mask_bias`, to which
            other logits may be added.

    Returns:
        context (B, H, K, D), and the scores (B, H, K, S) in float32. If no position is allowed, the scores are equal,
        and not 0 as in `masked_softmax`.

    Example:
        >>> part = {"keys": keras.ops.ones((2, 3, 7, 5)), "values": keras.ops.ones((2, 3, 5, 7))}
        >>> context, scores = attend_parts(keras.ops.ones((2, 3, 11, 7)), [part, part], keras.ops.zeros((1, 1, 1, 10)))
        >>> tuple(context.shape), tuple(scores.shape)
        ((2, 3, 11, 7), (2, 3, 11, 10))
    """
    logits = [small_matmul(query, part["keys"]) for part in parts]  # (B, H, K, S_i) each
    logits = ops.concatenate(logits, axis=-1) if len(parts) > 1 else logits[0]  # (B, H, K, S)
    scores = masked_softmax(ops.cast(logits, "float32") + bias, small=True)
    rest, contexts = ops.cast(scores, query.dtype), []
    for part in parts[:-1]:  # only the last part may have an unknown length
        size = part["keys"].shape[-1]
        contexts.append(small_matmul(rest[..., :size], part["values"]))  # (B, H, K, D)
        rest = rest[..., size:]
    return functools.reduce(ops.add, [*contexts, small_matmul(rest, parts[-1]["values"])]), scores


def small_matmul(a, b, transpose_a: bool = False):
    """Return a b, or a' b, for the small matrices of a decoding step.

    TensorFlow replaces its other batch products by oneDNN's, which takes ten times as long to start as a small product.

    Args:
        a: (..., K, M), or (..., M, K) with `transpose_a`.
        b: (..., M, N), of the same dtype.

    Returns:
        (..., K, N).

    Example:
        >>> tuple(small_matmul(keras.ops.ones((2, 3, 5)), keras.ops.ones((5, 7))).shape)
        (2, 3, 7)
    """
    if keras.backend.backend() != "tensorflow" or a.dtype == "float16":  # which has no kernel on a CPU
        return ops.matmul(ops.swapaxes(a, -1, -2) if transpose_a else a, b)
    import tensorflow as tf

    return tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=a.dtype, adj_x=transpose_a)
