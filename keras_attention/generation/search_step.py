"""One step of a search: its state, and what a step changes.

    active hypotheses    (B, K): the tokens so far, their log-probability, the carry of the model
    finished hypotheses  (B, N): the best finished hypotheses, best first

A step computes the logits, applies the constraints, calls the strategy to choose among the continuations, reorders the
carry, and moves finished hypotheses to their list. The `constants` are not reordered, because all beams share them.
Attention is written once and never reordered: each hypothesis stores the beam of each of its steps (`parent_beams`),
and its attention is gathered at the end.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_attention.generation.base_strategy import Strategy
from keras_attention.generation.constraints import constrained_candidates, force_prefix
from keras_attention.generation.proposals import NEVER, NO_HYPOTHESIS, Proposal, is_possible
from keras_attention.generation.random_numbers import uniform_numbers
from keras_attention.layers.decoding.cache import gather_beams


class ActiveHypotheses(NamedTuple):
    """The K unfinished hypotheses of each input."""

    last: Any  # (B, K) the last token
    log_probs: Any  # (B, K)
    history: dict  # `tokens` (B, K, T) and, with attention, `parent_beams` (B, K, T), the beam of each step
    stop_states: Any  # (B, K) the state in `stop_table`; () without stop strings
    carry: Any  # the carry of the model, tensors (B, K, ...)
    cache: dict  # the cache of the model without its past, never reordered; {} if it has none


class FinishedHypotheses(NamedTuple):
    """The N best finished hypotheses of each input, best first."""

    final_scores: Any  # (B, N)
    lengths: Any  # (B, N)
    history: dict  # as that of the active hypotheses, (B, N, T)


class AttentionRecord(NamedTuple):
    """The attention scores of all steps, and their sums."""

    attention_scores: Any  # (T, B, K, S), never reordered
    coverage: Any  # (B, K, S), their sum for each active hypothesis, 1 at padding; () without a coverage penalty


class LoopState(NamedTuple):
    """The state of the loop between two steps."""

    t: Any  # (B, 1) the step of each text = number of tokens so far
    active: ActiveHypotheses
    finished: FinishedHypotheses
    attention: AttentionRecord | tuple  # () for a model without attention


class SearchTexts(NamedTuple):
    """What a step reads of each text, and does not change."""

    constants: Any  # of the model, tensors (B, ...)
    start_ids: Any  # (B,)
    length_limits: Any  # (B, 1) the maximum number of tokens
    prefix: Any  # (B, T) the prefix tokens, -1 after the prefix
    prefix_lengths: Any  # (B, 1) their number
    seeds: Any  # (B,)


@dataclasses.dataclass(frozen=True)
class SearchStep:
    """The inputs that are the same at every step of a search; see `generate`."""

    model: Any
    strategy: Strategy
    weights: dict  # of the model, {} if it has none
    texts: SearchTexts
    end_id: int
    positions: Any  # (T,) 0, 1, ...
    stop_table: Any

    def first_state(self, carry, cache: dict, prompt, num_read) -> LoopState:
        """Return the state of the loop before the first step.

        Args:
            carry: the carry of the model, tensors (B, K, ...).
            cache: the cache of the model without its past.
            prompt: (B, 1 + T), the start token and the prefix.
            num_read: (B, 1) int, the number of tokens of each prompt that `start` has read.
        """
        (batch, steps), beams = ops.shape(self.texts.prefix), self.strategy.num_beams
        tokens_read = ops.where(self.positions < num_read, prompt[:, 1:], 0)
        active_hypotheses = ActiveHypotheses(
            last=ops.repeat(gather_beams(prompt, num_read), beams, axis=1),
            log_probs=ops.zeros((batch, beams), "float32") + ops.convert_to_tensor(self.strategy.initial_log_probs),
            history=self._history(ops.repeat(ops.expand_dims(tokens_read, 1), beams, axis=1)),
            stop_states=() if self.stop_table is None else ops.zeros((batch, beams), "int32"),
            carry=carry,
            cache=cache,
        )
        count = self.strategy.num_return_sequences
        finished = FinishedHypotheses(
            final_scores=ops.full((batch, count), NO_HYPOTHESIS, "float32"),
            lengths=ops.zeros((batch, count), "int32"),
            history=self._history(ops.zeros((batch, count, steps), "int32")),
        )
        return LoopState(num_read, active_hypotheses, finished, self._first_attention(batch, beams, steps))

    def _history(self, tokens) -> dict:
        return {"tokens": tokens} | ({"parent_beams": ops.zeros_like(tokens)} if "mask" in self.texts.constants else {})

    def _first_attention(self, batch, beams: int, steps) -> AttentionRecord | tuple:
        if "mask" not in self.texts.constants:
            return ()
        padding = ops.cast(ops.logical_not(self.texts.constants["mask"]), "float32")
        coverage = ops.repeat(ops.expand_dims(padding, 1), beams, axis=1) if self.strategy.penalizes_coverage else ()
        return AttentionRecord(ops.zeros((steps, batch, beams, ops.shape(padding)[1]), "float32"), coverage)

    def may_improve(self, loop: LoopState):
        """Return (B,) bool, whether an active hypothesis could become one of the N best finished ones of its text."""
        max_length = ops.maximum(self.texts.length_limits - self.texts.prefix_lengths, 1)
        score_bound = self.strategy.final_score(loop.active.log_probs, max_length)
        score_bound = ops.where(is_possible(loop.active.log_probs), score_bound, NO_HYPOTHESIS)
        better = ops.max(score_bound, 1) > ops.min(loop.finished.final_scores, 1)
        return ops.logical_and(better, loop.t[:, 0] < ops.shape(self.positions)[0])

    def advance(self, loop: LoopState, past: dict) -> LoopState:
        """Compute one step; `past` is the part of the model's cache that the step only reads."""
        state = {"weights": self.weights, "constants": self.texts.constants, "carry": loop.active.carry}
        if past:
            state["cache"] = {**loop.active.cache, "past": past}
        logits, state, attention = self.model.step(loop.active.last, state)
        proposal = self._propose(logits, loop)
        record, coverage = self._record(attention, loop, proposal.parents)
        at_limit, is_t = loop.t + 1 >= self.texts.length_limits, ops.expand_dims(ops.equal(self.positions, loop.t), 1)
        return LoopState(
            t=loop.t + 1,
            active=self._extend(loop, proposal, state, at_limit, is_t),
            finished=self._finish(loop, proposal, coverage, at_limit, is_t),
            attention=record,
        )

    def _propose(self, logits, loop: LoopState) -> Proposal:
        prefix_token, strategy = self._prefix_token(loop), self.strategy
        candidates = constrained_candidates(
            logits,
            loop.active.history["tokens"],
            loop.t,
            strategy,
            self.end_id,
            self.texts.start_ids,
            self.texts.prefix_lengths,
        )
        log_probs, tokens = force_prefix(*candidates, prefix_token)
        return strategy.propose(
            ops.expand_dims(loop.active.log_probs, -1) + log_probs,
            tokens,
            functools.partial(self._ends, loop, prefix_token >= 0),
            lambda: uniform_numbers(self.texts.seeds, loop.t, strategy.num_beams),
        )

    def _prefix_token(self, loop: LoopState):
        """Return the prefix token of this step, (B, 1), or -1."""
        return gather_beams(self.texts.prefix, ops.minimum(loop.t, self.positions[-1]))

    def _ends(self, loop: LoopState, is_prefix, parents, tokens):
        """Return whether a token (B, J) ends the text of its beam (B, J); a prefix token does not."""
        ends = ops.equal(tokens, self.end_id)
        if self.stop_table is not None:
            states = self._next_stop_states(loop, parents, tokens)
            ends = ops.logical_or(ends, ops.equal(states, ops.shape(self.stop_table)[0] - 1))
        return ops.logical_and(ends, ops.logical_not(is_prefix))

    def _next_stop_states(self, loop: LoopState, parents, tokens):
        """Return the states (B, J) in `stop_table` after the tokens (B, J) of the beams (B, J); 0 in the prefix."""
        if self.stop_table is None:
            return ()
        indices = gather_beams(loop.active.stop_states, parents) * ops.shape(self.stop_table)[1] + tokens
        return ops.where(self._prefix_token(loop) >= 0, 0, ops.take(ops.reshape(self.stop_table, (-1,)), indices))

    def _extend(self, loop: LoopState, proposal: Proposal, state: dict, at_limit, is_t) -> ActiveHypotheses:
        """Return the active hypotheses after this step."""
        parents = proposal.parents
        return ActiveHypotheses(
            last=proposal.tokens,
            log_probs=ops.where(at_limit, NEVER, proposal.log_probs),
            history=_extend_history(loop.active.history, is_t, parents, proposal.tokens),
            stop_states=self._next_stop_states(loop, parents, proposal.tokens),
            carry=keras.tree.map_structure(lambda x: gather_beams(x, parents), state["carry"]),
            cache={name: x for name, x in state.get("cache", {}).items() if name != "past"},
        )

    def _record(self, attention, loop: LoopState, parents) -> tuple[AttentionRecord | tuple, Any]:
        """Add the attention of this step; return the new record, and the coverage (B, K, S) before reordering."""
        if attention is None:
            return loop.attention, None
        attention = ops.cast(attention, "float32")
        step = loop.t[:1]  # equal for all inputs: a model with attention reads no prompts of different lengths
        attention_scores = ops.scatter_update(loop.attention.attention_scores, step, attention[None])
        if not self.strategy.penalizes_coverage:
            return AttentionRecord(attention_scores, ()), None
        coverage = loop.attention.coverage + attention
        return AttentionRecord(attention_scores, gather_beams(coverage, parents)), coverage

    def _finish(self, loop: LoopState, proposal: Proposal, coverage, at_limit, is_t) -> FinishedHypotheses:
        """Return the N best finished hypotheses, with the hypotheses that end at this step.

        A hypothesis ends with the end token, with a stop string, or at its limit.
        """
        parents = ops.concatenate([proposal.finished_parents, proposal.parents], 1)
        log_probs = ops.where(at_limit, proposal.log_probs, NEVER)
        log_probs = ops.concatenate([proposal.finished_log_probs, log_probs], 1)
        last = ops.concatenate([proposal.finished_tokens, proposal.tokens], 1)
        new = FinishedHypotheses(
            final_scores=self._final_scores(log_probs, parents, loop.t + 1, coverage),
            lengths=ops.zeros_like(parents) + (loop.t + 1),
            history=_extend_history(loop.active.history, is_t, parents, last),
        )
        both = keras.tree.map_structure(lambda *pair: ops.concatenate(pair, 1), loop.finished, new)
        _, best = ops.top_k(both.final_scores, self.strategy.num_return_sequences)
        return keras.tree.map_structure(lambda values: gather_beams(values, best), both)

    def _final_scores(self, log_probs, parents, length, coverage):
        length = ops.maximum(length - self.texts.prefix_lengths, 1)
        coverage = None if coverage is None else gather_beams(coverage, parents)
        final_scores = self.strategy.final_score(log_probs, length, coverage)
        return ops.where(is_possible(log_probs), final_scores, NO_HYPOTHESIS)


def _extend_history(history: dict, is_t, parents, tokens) -> dict:
    """Return the histories (B, J, T) of the beams `parents` (B, J), with the tokens (B, J) where `is_t` (B, 1, T)."""
    new = {"tokens": tokens, "parent_beams": parents}
    return {
        name: ops.where(is_t, ops.expand_dims(new[name], -1), gather_beams(values, parents))
        for name, values in history.items()
    }
