"""A block with `RelativeAttention` that generates text: both streams of one step.

The content stream has the token at position t of each beam, and the query stream has a query for position t + 1. Both
attend to the tokens up to t, so a block reads them together, (2 K, M) for each text: first K tokens, then K queries.

The cache is that of `cache.py`. The distance of a query to a slot is the difference of their positions. The prompt has
the positions 0 ... L - 1. Each later position has K slots, one per beam, first in the past and then in the recent part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from keras_attention.layers.decoding.blocks import empty_part, run_decoding_branches
from keras_attention.layers.decoding.cache import PromptInputs, StepInputs, append, cache_part
from keras_attention.layers.decoding.step_attention import attend_parts, small_matmul
from keras_attention.layers.relative import relative_encodings, relative_shift
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


def prefill_content(block: TransformerBlock, x, shared: PromptInputs, constants: dict, distances):
    """Run the content stream of a block over the prompt in one pass.

    Args:
        block: a block with `RelativeAttention`.
        x: (B L, M); L may be 0.
        shared: what all blocks share.
        constants: from `block_constants`.
        distances: (H, 2 L, D), from `RelativeAttention.project_distances`.

    Returns:
        outputs (B L, M); and the keys and values of the prompt, from `cache_part`.
    """
    scale = block.attention.key_dim**-0.5
    if shared.is_empty:
        return x, empty_part(block, shared, x.dtype)

    def self_attend(query, key, value):
        own = cache_part(key, value)
        content_query, distance_query = (y * scale for y in block.attention.biased_queries(query))
        logits = relative_shift(small_matmul(distance_query, ops.swapaxes(distances, 1, 2)))
        return attend_parts(content_query, [own], ops.cast(logits, "float32") + shared.bias)[0], own

    outputs, own, _ = run_decoding_branches(block, x, shared.sizes, self_attend, constants)
    return outputs, own


def step_streams(block: TransformerBlock, x, at: StreamInputs, constants: dict, recent: dict, past: dict):
    """Run a block over one token and one query per beam.

    Args:
        block: a block with `RelativeAttention`.
        x: (B 2 K, M), for each text K tokens, then K queries.
        at: what all blocks share in this step.
        constants: from `block_constants`, and `distances` from `decoding_distances`.
        recent, past: the two parts of the cache of this block; see `cache.py`.

    Returns:
        outputs (B 2 K, M), the new recent part, and None, because there is no cross-attention.
    """
    beams, scale = at.shared.num_beams, block.attention.key_dim**-0.5

    def self_attend(query, key, value):  # (B, H, 2 K, D)
        written = append(recent, key[:, :, :beams], value[:, :, :beams], at.shared.write_at)
        content_query, distance_query = (y * scale for y in block.attention.biased_queries(query))
        bias = _slot_logits(distance_query, constants["distances"], at, [written, past])
        bias = bias + ops.concatenate([at.shared.bias, at.shared.bias], axis=2)
        return attend_parts(content_query, [written, past], bias)[0], written

    return run_decoding_branches(block, x, (-1, 2 * beams), self_attend, constants)


def _slot_logits(query, distances, at: StreamInputs, parts: list):
    """Return the logits of the distance of each query (B, H, 2 K, D) to each slot, (B, H, 2 K, r K + f) in float32.

    `distances` (H, D, T + r) are those of T, T - 1, ..., 1 - r.
    """
    beams, (recent, past) = at.shared.num_beams, parts
    slots = recent["keys"].shape[3] // beams  # r
    positions = at.prompt_length + (ops.shape(past["keys"])[3] - at.prompt_length) // beams + slots
    first = ops.shape(distances)[2] - slots - (at.t + 1)  # the index of the distance t + 1
    logits = small_matmul(query, ops.slice(distances, (0, 0, first), (*distances.shape[:2], positions + 1)))
    of_tokens, of_queries = logits[:, :, :beams, 1:], logits[:, :, beams:, :-1]  # at t, and at t + 1
    logits = ops.concatenate([of_tokens, of_queries], axis=2)  # (B, H, 2 K, positions)
    written = ops.repeat(logits[..., at.prompt_length :], beams, axis=3)  # K slots have the same position
    logits = ops.concatenate([logits[..., : at.prompt_length], written], axis=3)  # of the past, then the recent slots
    logits = ops.concatenate([logits[..., -slots * beams :], logits[..., : -slots * beams]], axis=3)
    return ops.cast(logits, "float32")
