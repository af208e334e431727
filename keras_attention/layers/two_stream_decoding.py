"""A block with `RelativeAttention` that generates text: both streams of one step.

The content stream has the token at position t of each beam, and the query stream has a query for position t + 1. Both
attend to the tokens up to t, so a block reads them together, (2 K, M) for each text: first K tokens, then K queries.

The cache is that of `cache.py`. The distance of a query to a slot is the difference of their positions. The prompt has
the positions 0 ... L - 1. Each later position has K slots, one per beam, first in the past and then in the recent part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from keras_attention.layers.cache import StepInputs, append
from keras_attention.layers.relative import relative_encodings
from keras_attention.layers.shapes import merge_step_heads, split_step_heads
from keras_attention.layers.step_attention import attend_parts, small_matmul
from keras_attention.layers.transformer_block import TransformerBlock


class StreamInputs(NamedTuple):
    """What all blocks share in one step of both streams."""

    shared: StepInputs  # what they share in a step of any decoder
    t: Any  # the position of the tokens, a scalar int
    prompt_length: Any  # L, an integer or a scalar tensor


def decoding_distances(block: TransformerBlock, length, slots: int, width: int):
    """Return the projected encodings of all distances in decoding, from T to 1 - r: (H, D, T + r).

    Args:
        block: a block with `RelativeAttention`.
        length: T, the maximum number of tokens, an integer or a scalar tensor.
        slots: r.
        width: M.
    """
    encodings = relative_encodings(length, slots, width, start=0)
    return ops.swapaxes(block.attention.project_distances(encodings), 1, 2)


def step_streams(block: TransformerBlock, x, at: StreamInputs, constants: dict, recent: dict, past: dict):
    """Run a block over one token and one query per beam.

    Args:
        block: a block with `RelativeAttention`.
        x: (B 2 K, M), for each text K tokens, then K queries.
        at: what all blocks share in this step.
        constants: from `prefill_block`, and `distances` from `decoding_distances`.
        recent, past: the two parts of the cache of this block; see `cache.py`.

    Returns:
        outputs (B 2 K, M), and the new recent part.
    """
    attention, dense, beams = block.attention, constants["dense"], at.shared.num_beams
    heads, width = attention.num_heads, attention.key_dim

    def self_attend(x):
        query, key, value = split_step_heads(dense["query_key_value"](x), 2 * beams, heads, width)  # (B, H, 2 K, D)
        written = append(recent, key[:, :, :beams], value[:, :, :beams], at.shared.write_at)
        content_query, distance_query = (y * width**-0.5 for y in attention.biased_queries(query))
        bias = _slot_logits(distance_query, constants["distances"], at, [written, past])
        bias = bias + ops.concatenate([at.shared.bias, at.shared.bias], axis=2)
        context, _ = attend_parts(content_query, [written, past], bias)
        return dense["attention_output"](merge_step_heads(context)), written

    outputs, written, _ = block.run_branches(x, self_attend, feed_forward=lambda x: dense["output"](dense["hidden"](x)))
    return outputs, written


def _slot_logits(query, distances, at: StreamInputs, parts: list):
    """Return the logits of the distance of each query (B, H, 2 K, D) to each slot, (B, H, 2 K, r K + f) in float32.

    `distances` (H, D, T + r) are those of T, T - 1, ..., 1 - r.
    """
    beams, (recent, past) = at.shared.num_beams, parts
    slots = recent["keys"].shape[3] // beams  # r
    positions = at.prompt_length + (ops.shape(past["keys"])[3] - at.prompt_length) // beams + slots
    first = ops.shape(distances)[2] - slots - (at.t + 1)  # the index of the distance t + 1
    logits = small_matmul(query, ops.slice(distances, (0, 0, first), (*distances.shape[:2], positions + 1)))
    of_tokens, of_queries = (
        logits[:, :, :beams, 1:],
        logits[:, :, beams:, :-1],
    )  # the tokens are at t, the queries at t + 1
    logits = ops.concatenate([of_tokens, of_queries], axis=2)  # (B, H, 2 K, positions)
    written = ops.repeat(logits[..., at.prompt_length :], beams, axis=3)  # K slots have the same position
    logits = ops.concatenate([logits[..., : at.prompt_length], written], axis=3)  # of the past, then the recent slots
    logits = ops.concatenate([logits[..., -slots * beams :], logits[..., : -slots * beams]], axis=3)
    return ops.cast(logits, "float32")
