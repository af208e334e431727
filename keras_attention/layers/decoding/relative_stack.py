"""A stack of blocks with relative attention that generates text: `start` and `step` of a `RelativeTransformer`."""

from __future__ import annotations

import functools
from typing import Any

from keras import ops

from keras_attention.layers.decoding.blocks import block_weights
from keras_attention.layers.decoding.cache import begin_step, first_state, prompt_inputs
from keras_attention.layers.decoding.relative_blocks import (
    StreamInputs,
    decoding_distances,
    prefill_content,
    step_streams,
)
from keras_attention.layers.decoding.stack import prefill_stack, step_stack
from keras_attention.layers.normalization import apply_norm
from keras_attention.layers.relative import relative_encodings


def start_relative_transformer(stack: Any, inputs, length) -> dict:
    """Read a prompt in one pass, and return the state before the next token; `cache.py` describes it.

    Args:
        stack: a `RelativeTransformer`.
        inputs: (B, L, M) embedded tokens of the prompt, without padding; L may be 0.
        length: T, the maximum number of tokens, an integer or a scalar tensor.

    Returns:
        dict of four dicts, for one beam:

        weights     block_i       the merged layers `dense`, and `distances` (H, D, T + recent)
        constants   prompt_mask   (B, L)
        carry       position      (B, 1), the number of tokens read
                    written_by    (B, 1, recent), the beam that wrote each recent slot; -1 for none
                    past_bias     (B, 1, L), added to the logits of the past slots
        cache       num_written   how many recent slots are written
                    recent, past  for each block_i, `keys` (B, H, D, slots) and `values` (B, H, slots, D)
    """
    (batch, prompt_length), width = ops.shape(inputs)[:2], inputs.shape[-1]
    weights = {f"block_{i}": block_weights(block) for i, block in enumerate(stack.blocks)}
    encodings = relative_encodings(prompt_length, prompt_length, width)
    prompt = prompt_inputs((batch, prompt_length))
    prefill = functools.partial(prefill_content, prompt=prompt, encodings=encodings)
    x = ops.reshape(stack.input_embedding(inputs), (-1, width))  # (B L, M)
    prompt_caches = prefill_stack(stack.blocks, x, weights, prefill)
    prompt_mask = ops.ones((batch, prompt_length), "bool")
    state = first_state(prompt_caches, prompt_mask, length)
    recent_slots = state["carry"]["written_by"].shape[2]
    for i, block in enumerate(stack.blocks):
        weights[f"block_{i}"]["distances"] = decoding_distances(block, length, recent_slots, width)
    return {"weights": weights, "constants": {"prompt_mask": prompt_mask}, **state}


def step_relative_transformer(stack: Any, inputs, state: dict, queries) -> tuple:
    """Advance every beam by one token, and return the output for the next position.

    Args:
        stack: a `RelativeTransformer`.
        inputs: (B, K, M) embedded tokens.
        state: from `start_relative_transformer` or the last step.
        queries: (B, K, M), the input of the query stream.

    Returns:
        outputs (B, K, M) of the query stream, the new state, and None, because there is no cross-attention.
    """
    _, beams, width = inputs.shape
    x = ops.reshape(stack.input_embedding(ops.concatenate([inputs, queries], axis=1)), (-1, width))  # (B 2 K, M)
    position = ops.max(state["carry"]["position"])  # equal in all texts
    step, state = begin_step(state, dtype=stack.compute_dtype)
    streams = StreamInputs(step, position, ops.shape(state["constants"]["prompt_mask"])[1])
    x, state, _ = step_stack(stack.blocks, x, state, functools.partial(step_streams, streams=streams))
    return ops.reshape(apply_norm(stack.norm, x), (-1, 2 * beams, width))[:, beams:], state, None
