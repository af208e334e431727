"""The most probable tokens of a large vocabulary."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attention.layers.decoding.cache import gather_beams

_CHUNK = 40  # tokens; a divisor of most round vocabulary sizes


def top_tokens(logits, count: int):
    """Return the J largest logits of each row and their tokens, like `keras.ops.top_k`, but faster.

    A `top_k` of TensorFlow compares each logit with the J best ones. Here, it compares the maxima of chunks of tokens,
    then the logits of J chunks: those with the J largest maxima contain the J largest logits.

    Args:
        logits: (R, V) float32.
        count: J, at most V.

    Returns:
        logits and tokens, (R, J) each, largest first; of equal logits, the first token is first.

    Example:
        >>> logits, tokens = top_tokens(keras.ops.arange(1000.0)[None], 3)
        >>> keras.ops.convert_to_numpy(tokens).tolist()
        [[999, 998, 997]]
    """
    size = logits.shape[1]
    if size < 2 * count * _CHUNK:
        return ops.top_k(logits, count)
    if size % _CHUNK:
        lowest = float(np.finfo("float32").min)
        logits = ops.pad(logits, ((0, 0), (0, -size % _CHUNK)), constant_values=lowest)
    chunks = ops.reshape(logits, (-1, logits.shape[1] // _CHUNK, _CHUNK))  # (R, chunks, 40)
    _, best = ops.top_k(ops.max(chunks, axis=-1), count)
    best = ops.sort(best)  # (R, J), the best chunks, in the order of the tokens
    in_best = ops.reshape(gather_beams(chunks, best), (-1, count * _CHUNK))  # (R, J 40), their logits
    values, indices = ops.top_k(in_best, count)  # (R, J) each
    return values, gather_beams(best, indices // _CHUNK) * _CHUNK + indices % _CHUNK
