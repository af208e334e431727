"""The one search loop, over any model with `start(inputs)` and `step(tokens, state)`.

    open hypotheses      (B, K): the tokens so far, their log-probability, the model's carry
    finished hypotheses  (B, N): the best that have ended, best first

Each step asks the model for logits, applies the constraints, lets the strategy propose, reorders the carry (and only
the carry: all beams share the `constants`), and moves hypotheses that ended to the finished ones. Attention is written
once and never reordered: each hypothesis remembers in which beam each of its steps was made (its `parent_beams`), and
its attention is gathered at the end.

All sizes are fixed, all operations are `keras.ops`, and none needs XLA, so that the loop computes the same on
TensorFlow, on JAX and in an exported graph.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_attention.generation.constraints import apply_constraints, uniform_numbers
from keras_attention.generation.strategies import NEVER, Proposal, Strategy
from keras_attention.layers.cache import gather_beams


class OpenHypotheses(NamedTuple):
    """The K hypotheses of each row that go on."""

    last: Any  # (B, K) the token written last
    log_probs: Any  # (B, K)
    tokens: Any  # (B, K, T)
    parent_beams: Any  # (B, K, T) the beam in which each step was made
    carry: Any  # the model's own tensors (B, K, ...)


class FinishedHypotheses(NamedTuple):
    """The N best hypotheses of each row that have ended, best first."""

    scores: Any  # (B, N)
    lengths: Any  # (B, N)
    tokens: Any  # (B, N, T)
    parent_beams: Any  # (B, N, T)


class AttentionRecord(NamedTuple):
    """What each beam attended to."""

    weights: Any  # (T, B, K, S), never reordered
    coverage: Any  # (B, K, S), the sum over the steps of each open hypothesis; 1 at padding


class LoopState(NamedTuple):
    """What the loop carries from step to step."""

    t: Any  # scalar, the step
    open: OpenHypotheses
    finished: FinishedHypotheses
    attention: AttentionRecord | tuple  # () for a model without attention


def decode(
    model: Any,
    inputs: dict,
    strategy: Strategy,
    *,
    start_ids,
    end_id: int,
    limits,
    prefix_ids,
    prefix_mask,
    seeds,
) -> dict:
    """Search for the best texts of a model.

    Args:
        model: has `start(inputs, length) -> state`, with length the most tokens that it will read, and
            `step(tokens, state) -> (logits, state, attention)`, where state is a dict of `constants` and `carry`;
            with attention, `constants["mask"]` (B, S) says what may be attended to.
        inputs: dict of tensors for `start`. Where it has `token_ids` (B, L), `start` reads these L tokens at
            once: the start token and as much as all rows have of the prefix, without the last token of either.
        strategy: how to choose.
        start_ids: (B,) int, the token before the first.
        end_id: the token that ends a text.
        limits: (B,) int, the most tokens of each text; one that reaches it ends without an end token.
        prefix_ids: (B, T) int, tokens with which a text has to begin; T is the longest limit.
        prefix_mask: (B, T) bool, where `prefix_ids` holds. Forced tokens cost nothing, and the length in a score
            does not count them.
        seeds: (B,) int, the seed of each row's random numbers.

    Returns:
        dict of `tokens` (B, N, T) int, T now at least the longest length; `lengths` (B, N) int, the end token included;
        `scores` (B, N) float32 with `NEVER` or less where there is no such hypothesis, best first; and, from a model
        with attention, `attention` (B, N, T, S) float32.
    """
    steps = ops.shape(prefix_ids)[1]
    begun = ops.concatenate([ops.cast(ops.expand_dims(start_ids, 1), "int32"), ops.cast(prefix_ids, "int32")], axis=1)
    state = model.start(inputs, steps)
    search = Search(
        model=model,
        strategy=strategy,
        constants=state["constants"],
        start_ids=start_ids,
        end_id=end_id,
        limits=ops.expand_dims(ops.minimum(ops.cast(limits, "int32"), steps), 1),
        prefix_ids=prefix_ids,
        prefix_mask=prefix_mask,
        seeds=seeds,
    )
    num_read = ops.shape(inputs["token_ids"])[1] if "token_ids" in inputs else 0
    first = search.first_state(state["carry"], begun, num_read)
    (last,) = ops.while_loop(search.may_improve, lambda loop: (search.advance(loop),), (first,))
    return _results(last)


@dataclasses.dataclass(frozen=True)
class Search:
    """What no step of a search changes; `decode` describes the fields. `limits` are (B, 1) here."""

    model: Any
    strategy: Strategy
    constants: Any
    start_ids: Any
    end_id: int
    limits: Any
    prefix_ids: Any
    prefix_mask: Any
    seeds: Any

    @property
    def forced_tokens(self):
        """(B, 1), how many tokens of each text are forced."""
        return ops.sum(ops.cast(self.prefix_mask, "int32"), axis=1, keepdims=True)

    def first_state(self, carry, begun, num_read) -> LoopState:
        """Return the state before the first step.

        Args:
            carry: the model's tensors (B, 1, ...).
            begun: (B, 1 + T), the start token and the prefix.
            num_read: how many of these the model has read.
        """
        (batch, steps), beams = ops.shape(self.prefix_ids), self.strategy.num_beams
        already = ops.where(ops.arange(steps) < num_read, begun[:, 1:], 0)
        open_hypotheses = OpenHypotheses(
            last=ops.repeat(ops.expand_dims(ops.take(begun, num_read, axis=1), 1), beams, axis=1),
            log_probs=ops.zeros((batch, beams), "float32") + ops.convert_to_tensor(self.strategy.initial_log_probs),
            tokens=ops.repeat(ops.expand_dims(already, 1), beams, axis=1),
            parent_beams=ops.zeros((batch, beams, steps), "int32"),
            carry=keras.tree.map_structure(lambda x: ops.repeat(x, beams, axis=1), carry),
        )
        count = self.strategy.num_return_sequences
        finished = FinishedHypotheses(
            scores=ops.full((batch, count), 3 * NEVER, "float32"),
            lengths=ops.zeros((batch, count), "int32"),
            tokens=ops.zeros((batch, count, steps), "int32"),
            parent_beams=ops.zeros((batch, count, steps), "int32"),
        )
        t = ops.convert_to_tensor(num_read, "int32")
        return LoopState(t, open_hypotheses, finished, self._first_attention(batch, beams, steps))

    def _first_attention(self, batch, beams: int, steps) -> AttentionRecord | tuple:
        mask = self.constants.get("mask")
        if mask is None:
            return ()
        padding = ops.cast(ops.logical_not(mask), "float32")
        return AttentionRecord(
            weights=ops.zeros((steps, batch, beams, ops.shape(mask)[1]), "float32"),
            coverage=ops.repeat(ops.expand_dims(padding, 1), beams, axis=1),
        )

    def may_improve(self, loop: LoopState):
        """Whether an open hypothesis could still enter the finished ones."""
        longest = ops.maximum(self.limits - self.forced_tokens, 1)
        score_bound = self.strategy.final_score(loop.open.log_probs, longest)
        score_bound = ops.where(loop.open.log_probs > NEVER / 2, score_bound, 3 * NEVER)
        better = ops.max(score_bound, 1) > ops.min(loop.finished.scores, 1)
        return ops.logical_and(loop.t < ops.shape(self.prefix_ids)[1], ops.any(better))

    def advance(self, loop: LoopState) -> LoopState:
        """Compute one step."""
        state = {"constants": self.constants, "carry": loop.open.carry}
        logits, state, attention = self.model.step(loop.open.last, state)
        proposal = self._propose(logits, loop)
        record, coverage = self._record(attention, loop, proposal.parents)
        return LoopState(
            t=loop.t + 1,
            open=self._extend(loop, proposal, state["carry"]),
            finished=self._finish(loop, proposal, coverage),
            attention=record,
        )

    def _propose(self, logits, loop: LoopState) -> Proposal:
        log_probs = apply_constraints(
            ops.log_softmax(ops.cast(logits, "float32"), axis=-1),
            loop.open.tokens,
            loop.t,
            self.strategy,
            self.end_id,
            self.start_ids,
            self.prefix_ids,
            self.prefix_mask,
        )
        forced = ops.expand_dims(ops.take(self.prefix_mask, loop.t, axis=1), 1)
        end = ops.where(forced, -1, self.end_id)  # an end within a prefix, as between two documents, ends nothing
        uniform = uniform_numbers(self.seeds, loop.t, self.strategy.num_beams)
        return self.strategy.propose(ops.expand_dims(loop.open.log_probs, -1) + log_probs, end, uniform)

    def _at_limit(self, loop: LoopState):
        return loop.t + 1 >= self.limits

    def _extend(self, loop: LoopState, proposal: Proposal, carry) -> OpenHypotheses:
        """Return the hypotheses that go on."""
        parents = proposal.parents
        return OpenHypotheses(
            last=ops.cast(proposal.tokens, "int32"),
            log_probs=ops.where(self._at_limit(loop), NEVER, proposal.log_probs),
            tokens=_write(gather_beams(loop.open.tokens, parents), loop.t, proposal.tokens),
            parent_beams=_write(gather_beams(loop.open.parent_beams, parents), loop.t, parents),
            carry=keras.tree.map_structure(lambda x: gather_beams(x, parents), carry),
        )

    def _record(self, attention, loop: LoopState, parents) -> tuple[AttentionRecord | tuple, Any]:
        """Return the attention with this step's, and the coverage (B, K, S) of each beam before it is reordered."""
        if attention is None:
            return loop.attention, None
        attention = ops.cast(attention, "float32")
        weights = ops.scatter_update(loop.attention.weights, ops.reshape(loop.t, (1, 1)), attention[None])
        coverage = loop.attention.coverage + attention
        return AttentionRecord(weights, gather_beams(coverage, parents)), coverage

    def _finish(self, loop: LoopState, proposal: Proposal, coverage) -> FinishedHypotheses:
        """Return the best of the finished hypotheses and those that end at this step.

        A hypothesis ends by the end token or, without one, at its limit.
        """
        cut = ops.where(self._at_limit(loop), proposal.log_probs, NEVER)
        parents = ops.concatenate([proposal.ended_parents, proposal.parents], 1)
        log_probs = ops.concatenate([proposal.ended_log_probs, cut], 1)
        last = ops.concatenate([ops.zeros_like(proposal.ended_parents) + self.end_id, proposal.tokens], 1)
        ended = FinishedHypotheses(
            scores=self._final_scores(log_probs, parents, loop.t + 1, coverage),
            lengths=ops.zeros_like(ops.cast(parents, "int32")) + loop.t + 1,
            tokens=_write(gather_beams(loop.open.tokens, parents), loop.t, last),
            parent_beams=_write(gather_beams(loop.open.parent_beams, parents), loop.t, parents),
        )
        both = [ops.concatenate(pair, 1) for pair in zip(loop.finished, ended, strict=True)]
        _, best = ops.top_k(both[0], self.strategy.num_return_sequences)
        return FinishedHypotheses(*(gather_beams(values, best) for values in both))

    def _final_scores(self, log_probs, parents, length, coverage):
        own_length = ops.maximum(length - self.forced_tokens, 1)
        covered = None if coverage is None else gather_beams(coverage, parents)
        scores = self.strategy.final_score(log_probs, own_length, covered)
        return ops.where(log_probs > NEVER / 2, scores, 3 * NEVER)


def _results(loop: LoopState) -> dict:
    """Return what was found. On TensorFlow, where shapes may depend on values, T is the longest length."""
    scores, lengths, tokens, parent_beams = loop.finished
    longest = ops.max(lengths) if keras.backend.backend() == "tensorflow" else ops.shape(tokens)[2]
    results = {"tokens": tokens[:, :, :longest], "lengths": lengths, "scores": scores}
    if loop.attention:
        weights = loop.attention.weights[:longest]
        beams = ops.one_hot(parent_beams[:, :, :longest], weights.shape[2], dtype="float32")  # (B, N, T, K)
        attention = ops.einsum("tbks,bntk->bnts", weights, beams)
        written = ops.arange(longest) < ops.expand_dims(lengths, -1)
        results["attention"] = ops.where(ops.expand_dims(written, -1), attention, 0.0)
    return results


def best_hypotheses(found: dict, is_real) -> dict:
    """Return what a search found without what it found for empty inputs.

    Args:
        found: from `decode`.
        is_real: (B,) bool, False for an input that is empty or could not be read.

    Returns:
        dict of `tokens` (B, N, T), `lengths` and `scores` (B, N), 0 where `is_real` is False; and of the best
        hypothesis `is_written` (B, T) bool and, where there is attention, `attention` (B, T, S).
    """
    is_real = ops.expand_dims(is_real, 1)
    lengths, scores = (ops.where(is_real, found[name], 0) for name in ("lengths", "scores"))
    is_written = ops.arange(ops.shape(found["tokens"])[2]) < lengths[:, :1]
    best = {"tokens": found["tokens"], "lengths": lengths, "scores": scores, "is_written": is_written}
    if "attention" in found:
        best["attention"] = ops.where(ops.expand_dims(is_real, -1), found["attention"][:, 0], 0.0)
    return best


def search_inputs(limits, seeds, prefix_ids, prefix_mask) -> dict:
    """Return `limits`, `seeds`, `prefix_ids` and `prefix_mask` of `decode`: T is made as long as the longest limit.

    JAX compiles each shape, so T is a multiple of 16 there.

    Args:
        limits: (B,) int.
        seeds: (B,) int.
        prefix_ids: (B, P) int; P may be 0.
        prefix_mask: (B, P) bool.
    """
    width = ops.shape(prefix_ids)[1]
    steps = ops.maximum(ops.max(limits), width)
    if keras.backend.backend() == "jax":
        steps = -(-int(steps) // 16) * 16
    room = ((0, 0), (0, steps - width))
    return {
        "limits": ops.cast(limits, "int32"),
        "seeds": ops.cast(seeds, "int32"),
        "prefix_ids": ops.pad(ops.cast(prefix_ids, "int32"), room),
        "prefix_mask": ops.cast(ops.pad(ops.cast(prefix_mask, "int32"), room), "bool"),
    }


def _write(values, t, new):
    """Put (B, K) at time t of (B, K, T)."""
    here = ops.equal(ops.arange(ops.shape(values)[2]), t)
    return ops.where(here, ops.expand_dims(ops.cast(new, values.dtype), -1), values)
