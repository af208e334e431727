"""A block with `RelativeAttention` that generates text: both streams of one step.

The content stream has the token at position t of each beam, and the query stream has a query for position t + 1. Both
attend to the tokens up to t, so a block reads them together, (2 K, M) for each text: first K tokens, then K queries.

The caches are those of `cache.py`. The distance of a query to a slot is the difference of their positions. The prompt
has the positions 0 ... L - 1. Each later position has K slots, one per beam, first in the past and then in the recent
cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from keras_attention.layers.attention import divide_by_root_width
from keras_attention.layers.decoding.blocks import prefill_block, run_decoding_branches
from keras_attention.layers.decoding.cache import PromptInputs, StepInputs, append
from keras_attention.layers.decoding.step_attention import cached_attention, small_matmul
from keras_attention.layers.relative import relative_encodings, relative_shift
from keras_attention.layers.transformer_block import TransformerBlock


class StreamInputs(NamedTuple):
    """Inputs shared by all blocks in one step of both streams, besides the vectors and the caches."""

    step: StepInputs  # what they read in a step of any decoder
    position: Any  # of the tokens, a scalar int; the queries are at the next position
    prompt_length: Any  # L, an integer or a scalar tensor


def decoding_distances(block: TransformerBlock, length, slots: int, width: int):
    """Return the scaled projections of all distances in decoding, from T to 1 - recent: (H, D, T + recent).

    Args:
        block: a block with `RelativeAttention`.
        length: T, the maximum number of tokens, an integer or a scalar tensor.
        slots: the number of recent slots.
        width: M.

    Example:
        >>> from keras_attention.layers.relative import RelativeAttention
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11, attention=RelativeAttention(3, key_dim=5))
        >>> block.build((None, None, 14))
        >>> tuple(decoding_distances(block, length=16, slots=7, width=14).shape)
        (3, 5, 23)
    """
    return _scaled_distances(block, relative_encodings(length, slots, width, start=0))


def _scaled_distances(block: TransformerBlock, encodings):
    """Return the projected distances divided by sqrt(D): (distances, M) -> (H, D, distances).

    `cached_attention` divides the queries, but only for the logits of the keys.
    """
    return ops.swapaxes(divide_by_root_width(block.attention.project_distances(encodings)), 1, 2)


def prefill_content(block: TransformerBlock, x, constants: dict, prompt: PromptInputs, encodings):
    """Run the content stream of a block over the prompt in one pass.

    Args:
        block: a block with `RelativeAttention`.
        x: (B L, M); L may be 0.
        constants: `block_weights`.
        prompt: what all blocks read, from `prompt_inputs`.
        encodings: (2 L, M), from `relative_encodings`.

    Returns:
        outputs (B L, M); and the key/value cache of the prompt.

    Example:
        >>> from keras_attention.layers.decoding.blocks import block_weights
        >>> from keras_attention.layers.decoding.cache import prompt_inputs
        >>> from keras_attention.layers.relative import RelativeAttention
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11, attention=RelativeAttention(3, key_dim=5))
        >>> block.build((None, None, 14))
        >>> x, encodings = keras.ops.ones((8, 14)), relative_encodings(4, 4, 14)  # two prompts of four tokens
        >>> outputs, cache = prefill_content(block, x, block_weights(block), prompt_inputs((2, 4)), encodings)
        >>> tuple(outputs.shape), tuple(cache["keys"].shape)
        ((8, 14), (2, 3, 5, 4))
    """

    def query_and_bias(query):
        distances = _scaled_distances(block, encodings)  # (H, D, 2 L)
        content_query, distance_query = block.attention.biased_queries(query)
        distance_logits = ops.cast(relative_shift(small_matmul(distance_query, distances)), "float32")
        return content_query, distance_logits + prompt.causal_bias

    return prefill_block(block, x, constants, prompt, query_and_bias)


def step_streams(
    block: TransformerBlock, x, constants: dict, recent_cache: dict, past_cache: dict, streams: StreamInputs
):
    """Run a block over one token and one query per beam.

    Args:
        block: a block with `RelativeAttention`.
        x: (B 2 K, M), for each text K tokens, then K queries.
        constants: `block_weights`, and `distances` from `decoding_distances`.
        recent_cache, past_cache: of this block; see `step_block`.
        streams: what all blocks read in this step.

    Returns:
        outputs (B 2 K, M), the new recent cache, and None, because there is no cross-attention.

    Example:
        >>> from keras_attention.layers.decoding.blocks import block_weights
        >>> from keras_attention.layers.decoding.cache import begin_step, first_state, make_cache
        >>> from keras_attention.layers.relative import RelativeAttention
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11, attention=RelativeAttention(3, key_dim=5))
        >>> block.build((None, None, 14))
        >>> past_cache = make_cache(keras.ops.ones((2, 3, 4, 5)), keras.ops.ones((2, 3, 4, 5)))
        >>> step, state = begin_step(first_state({"block_0": past_cache}, keras.ops.ones((2, 4), bool), length=16))
        >>> recent_cache = state["cache"]["recent"]["block_0"]
        >>> distances = decoding_distances(block, length=16, slots=12, width=14)
        >>> constants, streams = {**block_weights(block), "distances": distances}, StreamInputs(step, 4, 4)
        >>> outputs, *_ = step_streams(block, keras.ops.ones((4, 14)), constants, recent_cache, past_cache, streams)
        >>> tuple(outputs.shape)  # one token and one query for each of two texts
        (4, 14)
    """
    beams = streams.step.num_beams

    def self_attend(query, key, value):  # (B, H, 2 K, D)
        caches = [append(recent_cache, key[:, :, :beams], value[:, :, :beams], streams.step.new_slots), past_cache]
        content_query, distance_query = block.attention.biased_queries(query)
        distance_logits = _slot_logits(distance_query, constants["distances"], caches, streams)
        bias = distance_logits + ops.concatenate([streams.step.cache_bias, streams.step.cache_bias], axis=2)
        return cached_attention(content_query, caches, bias)[0], caches[0]

    return run_decoding_branches(block, x, (-1, 2 * beams), self_attend, constants)


def _slot_logits(query, distances, caches: list, streams: StreamInputs):
    """Return the logits of the distance of each query to each slot, (B, H, 2 K, recent K + past) in float32.

    Args:
        query: (B, H, 2 K, D), for each text K tokens, then K queries.
        distances: (H, D, T + recent), from `decoding_distances`.
        caches: the recent and the past cache of the block.
        streams: what all blocks read in this step.
    """
    beams, prompt_length = streams.step.num_beams, streams.prompt_length
    recent_slots, past_slots = caches[0]["keys"].shape[3], ops.shape(caches[1]["keys"])[3]
    num_positions = prompt_length + (past_slots - prompt_length) // beams + recent_slots // beams
    largest_distance = ops.shape(distances)[2] - recent_slots // beams  # T, at index 0
    first = largest_distance - (streams.position + 1)  # the index of the distance from the queries to position 0
    needed = ops.slice(distances, (0, 0, first), (*distances.shape[:2], num_positions + 1))
    logits = small_matmul(query, needed)
    token_logits, query_logits = logits[:, :, :beams, 1:], logits[:, :, beams:, :-1]  # queries are one position later
    logits = ops.concatenate([token_logits, query_logits], axis=2)  # (B, H, 2 K, num_positions)
    later_logits = ops.repeat(logits[..., prompt_length:], beams, axis=3)  # K slots have the same position
    logits = ops.concatenate([logits[..., :prompt_length], later_logits], axis=3)  # of the past, then the recent slots
    logits = ops.concatenate([logits[..., -recent_slots:], logits[..., :-recent_slots]], axis=3)
    return ops.cast(logits, "float32")
