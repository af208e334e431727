"""Constraints on the next token."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attention.generation.base_strategy import Strategy
from keras_attention.generation.proposals import NEVER
from keras_attention.generation.top_tokens import top_tokens
from keras_attention.layers.decoding.cache import gather_beams


def constrained_candidates(logits, tokens, t, strategy: Strategy, end_id: int, start_ids, prefix_lengths):
    """Return the J most probable tokens that the constraints allow.

    In a small model, a pass over (B, K, V) takes as long as a block, so there are as few as possible.

    Args:
        logits: (B, K, V).
        tokens: (B, K, T) int, the tokens generated before step t.
        t: (B, 1) int, the step of each text.
        strategy: has `num_candidates`; `repetition_penalty`, `suppress_tokens`, `min_new_tokens` and
            `no_repeat_ngram_size` are read.
        end_id: the end token, forbidden before `min_new_tokens`.
        start_ids: (B,) int, the start token or, in a model without a start token, the first token of the prompt.
        prefix_lengths: (B, 1) int, the number of prefix tokens of each text.

    Returns:
        log-probabilities and tokens, (B, K, J) each, best first; a forbidden token has about `NEVER`.
    """
    _, beams, size = logits.shape
    logits, allowed = _constrained_logits(ops.cast(logits, "float32"), tokens, t + 1, strategy, end_id, start_ids)
    logits, allowed = ops.reshape(logits, (-1, size)), ops.reshape(allowed, (-1, size))
    count = strategy.num_candidates(size)
    if count < size:
        best, candidates = top_tokens(allowed, count + 1)  # one of them may be the end token
        log_probs = best - _log_normalizer(logits, candidates[:, :1])
    else:
        log_probs = allowed - ops.logsumexp(logits, axis=1, keepdims=True)
        candidates = ops.zeros_like(logits, "int32") + np.arange(size, dtype="int32")
    num_new = ops.reshape(t - prefix_lengths + np.zeros(beams, "int32"), (-1, 1))  # (B K, 1)
    is_early = ops.logical_and(num_new < strategy.min_new_tokens, ops.equal(candidates, end_id))
    log_probs = ops.where(is_early, NEVER, log_probs)
    log_probs, order = ops.top_k(log_probs, count)
    return tuple(ops.reshape(x, (-1, beams, count)) for x in (log_probs, gather_beams(candidates, order)))


def _constrained_logits(logits, tokens, num_written, strategy: Strategy, end_id: int, start_ids) -> tuple:
    """Return the logits with the repetition penalty, and the same with about `NEVER` for forbidden tokens.

    Args:
        logits: (B, K, V) float32.
        tokens: (B, K, T) int, the tokens generated so far.
        num_written: (B, 1) int, their number, with the start token.
        strategy, end_id, start_ids: see `constrained_candidates`.

    Returns:
        two tensors (B, K, V).
    """
    written, num_written = None, ops.expand_dims(num_written, 2)
    if strategy.penalizes_repetition or strategy.no_repeat_ngram_size:
        start = ops.cast(ops.reshape(start_ids, (-1, 1, 1)), tokens.dtype)
        start = ops.broadcast_to(start, (*ops.shape(tokens)[:2], 1))  # (B, K, 1)
        written = ops.concatenate([start, tokens], axis=2)  # (B, K, 1 + T)
    if strategy.penalizes_repetition:
        logits = _penalize_repetition(logits, written, num_written, strategy.repetition_penalty)
    allowed, size = logits, logits.shape[-1]
    if strategy.suppresses_tokens:
        allowed = allowed + _suppression(strategy.suppress_tokens, size)
    if strategy.no_repeat_ngram_size:
        without_repeats = _forbid_repeats(allowed, written, num_written, strategy.no_repeat_ngram_size)
        is_end = np.arange(size) == end_id
        allowed = ops.where(is_end, allowed, without_repeats)  # the end token may also start the text
    return logits, allowed


def _log_normalizer(logits, token):
    """Return log sum exp(logits), (R, 1), of logits (R, V), from the probability of one token (R, 1) of each row.

    For a large vocabulary, TensorFlow computes `softmax` in half the time of `logsumexp`. A token whose probability is
    too small for float32 counts as one of 1e-37.
    """
    probability = gather_beams(ops.softmax(logits), token)
    return gather_beams(logits, token) - ops.log(ops.maximum(probability, 1e-37))


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
    old = ops.take_along_axis(logits, tokens, axis=-1)  # (B, K, T)
    new = ops.where(old > 0, old / penalty, old * penalty)
    return _replace(logits, tokens, ops.arange(ops.shape(tokens)[2]) < t, new)


def _suppression(tokens, size: int):
    """Return (V,) float32, `NEVER` for each token of (n,) and else 0; ids beyond the vocabulary have no effect."""
    if isinstance(tokens, tuple):  # numbers of an export, and not a tensor: computed once, and not at each step
        return np.where(np.isin(np.arange(size), tokens), NEVER, 0.0).astype("float32")
    tokens = ops.convert_to_tensor(tokens, "int32")
    tokens = ops.where(tokens < 0, size, ops.minimum(tokens, size))
    never = ops.cast(tokens * 0, "float32") + NEVER
    return ops.scatter_update(np.zeros(size + 1, "float32"), ops.expand_dims(tokens, 1), never)[:size]


def _forbid_repeats(log_probs, tokens, t, n: int):
    """Forbid each token that would complete an n-gram for the second time in its hypothesis.

    Args:
        log_probs: (B, K, V).
        tokens: (B, K, T) int.
        t: (B, 1, 1) int, the number of tokens so far.
        n: the size of the n-grams.
    """
    positions = ops.arange(ops.shape(tokens)[2])  # positions of the last token of an earlier n-gram
    is_repeat = ops.logical_and(positions >= n - 1, positions < t)
    is_repeat = ops.broadcast_to(is_repeat, ops.shape(tokens))
    for back in range(1, n):
        recent = ops.take_along_axis(tokens, ops.maximum(t - back, 0), axis=2)  # (B, K, 1), the token at t - back
        earlier = ops.roll(tokens, back, axis=2)  # (B, K, T), the token `back` places before each position
        is_repeat = ops.logical_and(is_repeat, ops.equal(earlier, recent))
    return _replace(log_probs, tokens, is_repeat, ops.full(ops.shape(tokens), NEVER, log_probs.dtype))


def _replace(values, tokens, mask, new):
    """Return values (B, K, V), at the tokens (B, K, T) with mask (B, K, T) replaced by new values (B, K, T)."""
    beams, vocabulary = values.shape[1:]
    steps = ops.shape(tokens)[2]
    hypotheses = ops.expand_dims(ops.arange(ops.shape(tokens)[0] * beams), -1)  # (B K, 1)
    unused = ops.shape(tokens)[0] * beams * vocabulary  # the index of an extra element, which is removed at the end
    mask = ops.reshape(ops.broadcast_to(mask, ops.shape(tokens)), (-1, steps))
    targets = ops.where(mask, hypotheses * vocabulary + ops.reshape(tokens, (-1, steps)), unused)
    flat = ops.concatenate([ops.reshape(values, (-1,)), ops.zeros((1,), values.dtype)])  # (B K V + 1,)
    flat = ops.scatter_update(flat, ops.reshape(targets, (-1, 1)), ops.reshape(new, (-1,)))
    return ops.reshape(flat[:-1], (-1, beams, vocabulary))
