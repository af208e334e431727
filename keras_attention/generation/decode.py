"""The one search loop, over any model with `start(inputs)` and `step(tokens, state)`.

    open hypotheses  (B, K): tokens so far, log-probability, the model's carry
    finished             (B, N): the best that have ended, frozen

Each turn asks the model for logits, applies the constraints, lets the strategy propose, reorders
the carry (and only the carry: `constants` are shared by all beams), and moves what ended into the
finished. Attention rows are written once and never reordered; a hypothesis remembers in which beam
each of its steps was made (its parent_beams), and its map is gathered at the end.

Everything has a fixed size, is `keras.ops`, and avoids XLA-only writes, so that the loop runs the
same on TensorFlow, on JAX and in an exported graph.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attention.generation.constraints import apply_constraints, uniform_numbers
from keras_attention.generation.strategies import NEVER, Strategy
from keras_attention.layers.cache import gather_beams


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
    """Search for the best texts under a model.

    Args:
        model: has `start(inputs, length) -> state`, with length the most tokens that it will read, and
            `step(tokens, state) -> (logits, state, attention)`, where state is a dict of `constants` and `carry`;
            with attention, `constants["mask"]` (B, S) says what may be looked at.
        inputs: dict of tensors for `start`. Where it has `token_ids` (B, L), `start` reads these L tokens at
            once: the start token and as much as all rows have of the prefix, without the last token of either.
        strategy: how to choose.
        start_ids: (B,) int, the token before the first.
        end_id: the token that ends a text.
        limits: (B,) int, the most tokens of each answer; one that reaches it ends as it is.
        prefix_ids: (B, T) int, tokens that an answer has to begin with; T is the longest answer.
        prefix_mask: (B, T) bool, where `prefix_ids` holds. Forced tokens cost nothing, and the
            length in a score leaves them out.
        seeds: (B,) int, where each row's chance begins.
    Returns:
        dict of `tokens` (B, N, T) int, `lengths` (B, N) int (the end token included), `scores` (B, N)
        float32 with `NEVER` or less where there is no such answer, best first; and, from a model
        with attention, `attention` (B, N, T, S) float32.
    """
    batch, steps = ops.shape(prefix_ids)[0], ops.shape(prefix_ids)[1]
    given = ops.concatenate([ops.cast(ops.expand_dims(start_ids, 1), "int32"), ops.cast(prefix_ids, "int32")], axis=1)
    loop = _begin(model, inputs, strategy, batch, steps, given)
    state = loop.pop("state")
    constants = state["constants"]
    loop["carry"] = keras.tree.map_structure(lambda x: ops.repeat(x, strategy.num_beams, axis=1), state["carry"])
    limits = ops.minimum(ops.cast(limits, "int32"), steps)
    forced_tokens = ops.sum(ops.cast(prefix_mask, "int32"), axis=1, keepdims=True)

    def may_improve(loop):
        longest = ops.maximum(ops.expand_dims(limits, 1) - forced_tokens, 1)
        score_bound = strategy.final_score(loop["log_probs"], longest)
        score_bound = ops.where(loop["log_probs"] > NEVER / 2, score_bound, 3 * NEVER)
        return ops.logical_and(
            loop["t"] < steps, ops.any(ops.max(score_bound, 1) > ops.min(loop["finished"]["scores"], 1))
        )

    def advance(loop):
        logits, state, attention = model.step(loop["last"], {"constants": constants, "carry": loop["carry"]})
        log_probs = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        log_probs = apply_constraints(
            log_probs, loop["tokens"], loop["t"], strategy, end_id, start_ids, prefix_ids, prefix_mask
        )
        chance = uniform_numbers(seeds, loop["t"], strategy.num_beams)
        forced = ops.expand_dims(ops.take(prefix_mask, loop["t"], axis=1), 1)
        end = ops.where(
            forced, -1, end_id
        )  # an end that is given, such as that of a document in a prompt, ends nothing
        proposal = strategy.propose(ops.expand_dims(loop["log_probs"], -1) + log_probs, end, chance)
        own_length = ops.maximum(loop["t"] + 1 - forced_tokens, 1)
        return _update(loop, state["carry"], attention, proposal, strategy, end_id, limits, own_length)

    (loop,) = ops.while_loop(lambda loop: may_improve(loop), lambda loop: (advance(loop),), (loop,))
    return _answers(loop)


def _begin(model, inputs, strategy: Strategy, batch, steps, given) -> dict:
    """The loop's variables before the first step, and the model's state."""
    state = model.start(inputs, steps)
    beams, answers = strategy.num_beams, strategy.num_return_sequences
    read = ops.shape(inputs["token_ids"])[1] if "token_ids" in inputs else 0
    already = ops.where(ops.arange(steps) < read, given[:, 1:], 0)
    loop = {
        "t": ops.convert_to_tensor(read, "int32"),
        "last": ops.repeat(ops.expand_dims(ops.take(given, read, axis=1), 1), beams, axis=1),
        "log_probs": ops.zeros((batch, beams), "float32") + ops.convert_to_tensor(strategy.initial_log_probs),
        "tokens": ops.repeat(ops.expand_dims(already, 1), beams, axis=1),
        "parent_beams": ops.zeros((batch, beams, steps), "int32"),
        "finished": {
            "scores": ops.full((batch, answers), 3 * NEVER, "float32"),
            "lengths": ops.zeros((batch, answers), "int32"),
            "tokens": ops.zeros((batch, answers, steps), "int32"),
            "parent_beams": ops.zeros((batch, answers, steps), "int32"),
        },
        "state": state,
    }
    mask = state["constants"].get("mask")
    if mask is not None:
        loop["attention"] = ops.zeros((steps, batch, beams, ops.shape(mask)[1]), "float32")
        outside = ops.cast(ops.logical_not(mask), "float32")
        loop["coverage"] = ops.repeat(ops.expand_dims(outside, 1), beams, axis=1)
    return loop


def _update(loop: dict, carry, attention, proposal, strategy: Strategy, end_id: int, limits, own_length) -> dict:
    """Move what ended into the finished and let the rest go on; `own_length` (B, 1) counts what was not forced."""
    t, at_limit = loop["t"], ops.expand_dims(loop["t"] + 1 >= limits, 1)
    parents = proposal.parents
    new = {
        "t": t + 1,
        "last": ops.cast(proposal.tokens, "int32"),
        "log_probs": ops.where(at_limit, NEVER, proposal.log_probs),
        "carry": keras.tree.map_structure(lambda x: gather_beams(x, parents), carry),
        "tokens": _write(gather_beams(loop["tokens"], parents), t, proposal.tokens),
        "parent_beams": _write(gather_beams(loop["parent_beams"], parents), t, parents),
    }
    coverage = None
    if attention is not None:
        attention = ops.cast(attention, "float32")
        new["attention"] = ops.scatter_update(loop["attention"], ops.reshape(t, (1, 1)), attention[None])
        coverage = loop["coverage"] + attention
        new["coverage"] = gather_beams(coverage, parents)
    cut = ops.where(at_limit, proposal.log_probs, NEVER)  # too long: they end without an end token
    ended_parents = ops.concatenate([proposal.ended_parents, parents], 1)
    ended_log_probs = ops.concatenate([proposal.ended_log_probs, cut], 1)
    ends = ops.zeros_like(proposal.ended_parents) + end_id
    ended = {
        "scores": _final_scores(strategy, ended_log_probs, ended_parents, own_length, coverage),
        "lengths": ops.zeros_like(ops.cast(ended_parents, "int32")) + t + 1,
        "tokens": _write(gather_beams(loop["tokens"], ended_parents), t, ops.concatenate([ends, proposal.tokens], 1)),
        "parent_beams": _write(gather_beams(loop["parent_beams"], ended_parents), t, ended_parents),
    }
    new["finished"] = _keep_best(loop["finished"], ended, strategy.num_return_sequences)
    return new


def _final_scores(strategy: Strategy, log_probs, parents, length, coverage):
    seen = None if coverage is None else gather_beams(coverage, parents)
    scores = strategy.final_score(log_probs, length, seen)
    return ops.where(log_probs > NEVER / 2, scores, 3 * NEVER)


def _keep_best(finished: dict, ended: dict, answers: int) -> dict:
    both = {key: ops.concatenate([finished[key], ended[key]], 1) for key in finished}
    _, order = ops.top_k(both["scores"], answers)
    return {key: gather_beams(value, order) for key, value in both.items()}


def _answers(loop: dict) -> dict:
    finished = loop["finished"]
    result = {key: finished[key] for key in ("tokens", "lengths", "scores")}
    if "attention" in loop:
        beams = ops.one_hot(finished["parent_beams"], loop["attention"].shape[2], dtype="float32")  # (B, N, T, K)
        maps = ops.einsum("tbks,bntk->bnts", loop["attention"], beams)
        steps = ops.arange(ops.shape(finished["tokens"])[2])
        written = steps < ops.expand_dims(finished["lengths"], -1)
        result["attention"] = ops.where(ops.expand_dims(written, -1), maps, 0.0)
    return result


def _write(values, t, new):
    """Put (B, K) at time t of (B, K, T)."""
    here = ops.equal(ops.arange(ops.shape(values)[2]), t)
    return ops.where(here, ops.expand_dims(ops.cast(new, values.dtype), -1), values)
