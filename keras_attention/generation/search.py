"""A search, for any model with `start(inputs, length)` and `step(tokens, state)`: its inputs and its results.

`search_loop.py` has the loop, `search_step.py` a step. All shapes are fixed, and all operations are `keras.ops` that do
not need XLA, so the loop computes the same on TensorFlow, on JAX and in an exported graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_attention.generation.base_strategy import Strategy
from keras_attention.generation.search_loop import Results, run_loop
from keras_attention.generation.search_step import SearchStep, SearchTexts
from keras_attention.layers.decoding.cache import repeat_beams


class SearchInputs(NamedTuple):
    """The inputs of a search, besides those of the model; T is the largest limit.

    Prefix tokens do not change the final score, and the length penalty does not count them. A text begins in state 0 of
    the stop table after the prefix, and ends in the last state.
    """

    start_ids: Any  # (B,) int, the token before the first generated or prefix token
    limits: Any  # (B,) int, the maximum number of tokens of a text; a text of this length ends without an end token
    seeds: Any  # (B,) int, the seed of the random numbers
    prefix_ids: Any  # (B, T) int, the tokens with which a text begins
    prefix_mask: Any  # (B, T) bool, True = a prefix token
    stop_table: Any = None  # (states, V) int, the next state; see `data.stop_strings.stop_table`


def search_fields(limits, seeds, prefix_ids, prefix_mask) -> dict:
    """Return `limits`, `seeds`, `prefix_ids` and `prefix_mask` of `SearchInputs`, padded from L to T.

    T is the largest limit. JAX compiles each shape, so on JAX T is rounded up to a multiple of 16.

    Args:
        limits: (B,) int.
        seeds: (B,) int.
        prefix_ids: (B, L) int; L may be 0.
        prefix_mask: (B, L) bool.

    Returns:
        dict of `limits` (B,), `seeds` (B,), `prefix_ids` (B, T) and `prefix_mask` (B, T).

    Example:
        >>> prefix = np.array([[2, 3]])
        >>> inputs = search_fields(np.array([16]), np.array([7]), prefix, prefix > 0)
        >>> tuple(inputs["prefix_ids"].shape)
        (1, 16)
    """
    width = ops.shape(prefix_ids)[1]
    steps = ops.maximum(ops.max(limits), width)
    if keras.backend.backend() == "jax":
        steps = -(-int(steps) // 16) * 16
    padding = ((0, 0), (0, steps - width))
    return {
        "limits": ops.cast(limits, "int32"),
        "seeds": ops.cast(seeds, "int32"),
        "prefix_ids": ops.pad(ops.cast(prefix_ids, "int32"), padding),
        "prefix_mask": ops.cast(ops.pad(ops.cast(prefix_mask, "int32"), padding), "bool"),
    }


def generate(model: Any, inputs: dict, strategy: Strategy, search_inputs: SearchInputs, end_id: int) -> dict:
    """Generate the N best texts of each input with a model and a strategy.

    Args:
        model: has two methods: `start(inputs, length) -> state`, with length the maximum number of tokens, and
            `step(tokens, state) -> (logits, state, attention)`. Tokens are (B, K), logits (B, K, V), attention is
            (B, K, S) or None, and a state is a dict of `constants` (B, ...) and `carry` (B, K, ...). With attention,
            `constants["mask"]` (B, S) is True for positions that may be attended to.
        inputs: dict of tensors for `start`. If it has `token_ids` (B, L) and `padding_mask` (B, L), `start` reads these
            tokens in one pass. They are the start token and the prefix, without at least its last token.
        strategy: a `Strategy`, such as `Greedy()`.
        search_inputs: a `SearchInputs`.
        end_id: the token that ends a text.

    Returns:
        dict, hypotheses in order, best first: `tokens` (B, N, T) int; `lengths` (B, N) int, including the end token;
        `final_scores` (B, N) float32, <= `NEVER` marks an empty entry; and, for a model with attention,
        `attention` (B, N, T, S) float32. T may be smaller than in `prefix_ids`.

    Example:
        >>> from keras_attention.generation import Greedy
        >>> class Counter:  # generates 1, 2, 3, ...
        ...     def start(self, inputs, length):
        ...         return {"constants": {}, "carry": {}}
        ...     def step(self, tokens, state):
        ...         return 9 * keras.ops.one_hot(tokens + 1, 7), state, None
        >>> prefix = np.zeros((1, 0), "int32")
        >>> inputs = search_fields(np.array([11]), np.array([0]), prefix, prefix)
        >>> results = generate(Counter(), {}, Greedy(), SearchInputs(start_ids=np.array([0]), **inputs), end_id=3)
        >>> keras.ops.convert_to_numpy(results["tokens"])[0, 0, :3].tolist()
        [1, 2, 3]
    """
    prefix_ids = ops.cast(search_inputs.prefix_ids, "int32")  # (B, T)
    steps = ops.shape(prefix_ids)[1]
    start_ids = ops.cast(search_inputs.start_ids, "int32")  # (B,)
    prompt = ops.concatenate([ops.expand_dims(start_ids, 1), prefix_ids], axis=1)  # (B, 1 + T)
    state = repeat_beams(model.start(inputs, steps), strategy.num_beams)
    prefix = ops.where(search_inputs.prefix_mask, prefix_ids, -1)
    texts = SearchTexts(
        constants=state["constants"],
        start_ids=start_ids,
        length_limits=ops.expand_dims(ops.minimum(ops.cast(search_inputs.limits, "int32"), steps), 1),
        prefix=prefix,
        prefix_lengths=ops.sum(ops.cast(prefix >= 0, "int32"), axis=1, keepdims=True),
        seeds=search_inputs.seeds,
    )
    step = SearchStep(
        model=model,
        strategy=strategy,
        weights=state.get("weights", {}),
        texts=texts,
        end_id=end_id,
        positions=ops.arange(steps, dtype="int32"),
        stop_table=search_inputs.stop_table,
    )
    num_read = ops.zeros_like(texts.prefix_lengths)
    if "token_ids" in inputs:
        num_read = ops.sum(ops.cast(inputs["padding_mask"], "int32"), axis=1, keepdims=True)
    cache = dict(state.get("cache", {}))
    past = cache.pop("past", {})
    first = step.first_state(state["carry"], cache, prompt, num_read)
    return _to_dict(run_loop(step, first, past))


def _to_dict(results: Results) -> dict:
    """Return the results of `generate`. On TensorFlow, T is the largest length; JAX needs a fixed shape."""
    final_scores, lengths, history = results.finished
    tokens = history["tokens"]
    steps = ops.max(lengths) if keras.backend.backend() == "tensorflow" else ops.shape(tokens)[2]
    outputs = {"tokens": tokens[:, :, :steps], "lengths": lengths, "final_scores": final_scores}
    if "parent_beams" in history:
        attention_scores = results.attention_scores[:steps]
        parent_beams = history["parent_beams"][:, :, :steps]
        beams = ops.one_hot(parent_beams, attention_scores.shape[2], dtype="float32")  # (B, N, T, K)
        attention = ops.einsum("tbks,bntk->bnts", attention_scores, beams)
        is_written = ops.arange(steps) < ops.expand_dims(lengths, -1)
        outputs["attention"] = ops.where(ops.expand_dims(is_written, -1), attention, 0.0)
    return outputs


def best_hypotheses(results: dict, valid) -> dict:
    """Return the results of `generate`, with lengths, final scores and attention 0 for inputs that are not valid.

    Args:
        results: the results of `generate`.
        valid: (B,) bool, False for a text without words or an image that cannot be read.

    Returns:
        dict of `tokens` (B, N, T), `is_written` (B, N, T) bool, `lengths` and `final_scores` (B, N), and, if the model
        has attention, `attention` (B, T, S) of the best hypothesis.

    Example:
        >>> lengths, final_scores = np.full((2, 1), 3, "int32"), np.full((2, 1), -5.0, "float32")
        >>> results = {"tokens": np.ones((2, 1, 3), "int32"), "lengths": lengths, "final_scores": final_scores}
        >>> keras.ops.convert_to_numpy(best_hypotheses(results, np.array([True, False]))["lengths"]).tolist()
        [[3], [0]]
    """
    valid = ops.expand_dims(valid, 1)
    lengths, final_scores = (ops.where(valid, results[name], 0) for name in ("lengths", "final_scores"))
    is_written = ops.arange(ops.shape(results["tokens"])[2]) < ops.expand_dims(lengths, -1)
    best = {"tokens": results["tokens"], "lengths": lengths, "final_scores": final_scores, "is_written": is_written}
    if "attention" in results:
        best["attention"] = ops.where(ops.expand_dims(valid, -1), results["attention"][:, 0], 0.0)
    return best
