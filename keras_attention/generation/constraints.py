"""Constraints on the next token."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attention.generation.proposals import NEVER
from keras_attention.generation.strategy import Strategy


def constrained_log_probs(logits, tokens, t, strategy: Strategy, end_id: int, start_ids, prefix_lengths):
    """Return log-probabilities without the tokens that the constraints forbid.

    Args:
        logits: (B, K, V).
        tokens: (B, K, T) int, the tokens generated before step t.
        t: (B, 1) int, the step of each text.
        strategy: `repetition_penalty`, `suppress_tokens`, `min_new_tokens` and `no_repeat_ngram_size` are read.
        end_id: the end token, forbidden before `min_new_tokens`.
        start_ids: (B,) int, the start token or, in a model without a start token, the first token of the prompt.
        prefix_lengths: (B, 1) int, the number of prefix tokens of each text.

    Returns:
        (B, K, V) log-probabilities: about `NEVER` for a forbidden token.
    """
    logits, num_written, written = ops.cast(logits, "float32"), ops.expand_dims(t + 1, 2), None
    if strategy.penalizes_repetition or strategy.no_repeat_ngram_size:
        start = ops.cast(ops.reshape(start_ids, (-1, 1, 1)), tokens.dtype)
        written = ops.concatenate([ops.broadcast_to(start, (*ops.shape(tokens)[:2], 1)), tokens], axis=2)
    if strategy.penalizes_repetition:
        logits = _penalize_repetition(logits, written, num_written, strategy.repetition_penalty)
    log_probs, is_end = ops.log_softmax(logits, axis=-1), np.arange(logits.shape[-1]) == end_id
    too_short = ops.cast(ops.expand_dims(t - prefix_lengths < strategy.min_new_tokens, 2), "float32")  # not floatx
    bias = too_short * np.where(is_end, NEVER, 0.0).astype("float32")  # (B, 1, V), one pass over it for each constraint
    if strategy.suppresses_tokens:
        bias = ops.minimum(bias, _suppression(strategy.suppress_tokens, len(is_end)))
    if strategy.no_repeat_ngram_size:
        without_repeats = _forbid_repeats(log_probs, written, num_written, strategy.no_repeat_ngram_size)
        log_probs = ops.where(is_end, log_probs, without_repeats)  # the end token may also start the text
        return ops.maximum(log_probs + bias, NEVER)
    return log_probs + bias


def force_prefix(log_probs, tokens, prefix_token):
    """Replace the candidates in a prefix by its token, with probability 1, because a prefix does not count.

    Args:
        log_probs, tokens: (B, K, J), the candidates of each beam.
        prefix_token: (B, 1) int, the prefix token of this step, which overrides all constraints; -1 after the prefix.

    Returns:
        log-probabilities and tokens, (B, K, J).

    Example:
        >>> tokens, prefix_token = np.array([[[3, 5]], [[3, 5]]]), np.array([[7], [-1]])
        >>> log_probs, tokens = force_prefix(np.full((2, 1, 2), -0.7), tokens, prefix_token)
        >>> np.array(log_probs).round(1).tolist(), np.array(tokens).tolist()
        ([[[0.0, -1000000000.0]], [[-0.7, -0.7]]], [[[7, 5]], [[3, 5]]])
    """
    prefix_token, is_first = ops.expand_dims(prefix_token, 2), np.arange(tokens.shape[-1]) == 0
    log_probs = ops.where(prefix_token >= 0, np.where(is_first, 0.0, NEVER).astype("float32"), log_probs)
    return log_probs, ops.where(ops.logical_and(prefix_token >= 0, is_first), prefix_token, tokens)


def _penalize_repetition(logits, tokens, t, penalty):
    """Divide the positive logits of the first t tokens (B, K, T) by the penalty, and multiply the negative ones."""
    old = ops.take_along_axis(logits, tokens, axis=-1)
    new = ops.where(old > 0, old / penalty, old * penalty)
    return _replace(logits, tokens, ops.arange(ops.shape(tokens)[2]) < t, new)


def _suppression(tokens, size: int):
    """Return (V,) float32, `NEVER` for each token of (n,) and else 0; ids beyond the vocabulary have no effect."""
    tokens = ops.convert_to_tensor(tokens, "int32")
    tokens = ops.where(tokens < 0, size, ops.minimum(tokens, size))
    never = ops.cast(tokens * 0, "float32") + NEVER
    return ops.scatter_update(np.zeros(size + 1, "float32"), ops.expand_dims(tokens, 1), never)[:size]


def _forbid_repeats(log_probs, tokens, t, n: int):
    """Forbid each token that would complete an n-gram for the second time in its hypothesis."""
    positions = ops.arange(ops.shape(tokens)[2])  # positions of the last token of an earlier n-gram
    is_repeat = ops.logical_and(positions >= n - 1, positions < t)
    is_repeat = ops.broadcast_to(is_repeat, ops.shape(tokens))
    for back in range(1, n):
        recent = ops.take_along_axis(tokens, ops.maximum(t - back, 0), axis=2)
        earlier = ops.roll(tokens, back, axis=2)
        is_repeat = ops.logical_and(is_repeat, ops.equal(earlier, recent))
    return _replace(log_probs, tokens, is_repeat, ops.full(ops.shape(tokens), NEVER, log_probs.dtype))


def _replace(values, tokens, mask, new):
    """Return values (B, K, V), at the tokens (B, K, T) with mask (B, K, T) replaced by new values (B, K, T)."""
    beams, vocabulary = values.shape[1:]
    steps = ops.shape(tokens)[2]
    hypotheses = ops.expand_dims(ops.arange(ops.shape(tokens)[0] * beams), -1)
    unused = ops.shape(tokens)[0] * beams * vocabulary  # the index of an extra element, which is removed at the end
    mask = ops.reshape(ops.broadcast_to(mask, ops.shape(tokens)), (-1, steps))
    targets = ops.where(mask, hypotheses * vocabulary + ops.reshape(tokens, (-1, steps)), unused)
    flat = ops.concatenate([ops.reshape(values, (-1,)), ops.zeros((1,), values.dtype)])
    flat = ops.scatter_update(flat, ops.reshape(targets, (-1, 1)), ops.reshape(new, (-1,)))
    return ops.reshape(flat[:-1], (-1, beams, vocabulary))
