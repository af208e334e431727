"""A `TransformerBlock` that generates text: it reads the prompt in one pass, and then one token per beam in each step.

    prefill_block   prompt (B, L, M)                -> outputs (B, L, M), keys and values of the prompt
    step_block      one token per beam, (B K, M)    -> outputs (B K, M), the cache with its keys and values

Both run the branches of the block, as `TransformerBlock.call` does, with three differences: keys and values are in a
cache (`cache.py`), the `Dense` layers are merged before the first step (`merged_dense.py`), and the matrices of a step
are small (`step_attention.py`).
"""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_attention.layers.cache import StepInputs, append, cache_part
from keras_attention.layers.masks import causal_mask
from keras_attention.layers.merged_dense import merged_dense
from keras_attention.layers.shapes import merge_step_heads, split_heads, split_step_heads
from keras_attention.layers.step_attention import attend_parts
from keras_attention.layers.transformer_block import TransformerBlock


def prefill_block(block: TransformerBlock, prompt, memory=None, memory_mask=None, **arguments: Any):
    """Run a block over the prompt of a decoder in one pass.

    Args:
        block: the block.
        prompt: (B, L, M); L may be 0.
        memory: (B, S, any) or None.
        memory_mask: (B, S) padding mask, True = a real vector; None for no padding.
        **arguments: more arguments of the self-attention's `attend_projected`: `distances` of a `RelativeAttention`.

    Returns:
        outputs (B, L, M); the constants of `step_block`, a dict of the merged layers `dense` and, with a memory, its
        `memory_keys` and `memory_values`; and the keys and values of the prompt, from `cache_part`.
    """
    attention, cross_attention, dense = block.attention, block.cross_attention, merged_layers(block)
    mask = causal_mask(ops.shape(prompt)[1])

    def self_attend(x):
        projected = ops.split(dense["query_key_value"](x), 3, axis=-1)
        query, keys, values = (split_heads(y, attention.num_heads) for y in projected)  # (B, H, L, D)
        context, _ = attention.attend_projected(query, keys, values, mask, **arguments)
        return context, cache_part(keys, values)

    def cross_attend(x):
        keys, values = cross_attention.project_key_value(memory)  # (B, H, S, D)
        context, _ = cross_attention.attend_projected(cross_attention.project_query(x), keys, values, memory_mask)
        return context, cache_part(keys, values)

    outputs, own_cache, memory_cache = block.run_branches(prompt, self_attend, cross_attend)
    constants: dict[str, Any] = {"dense": dense}
    if memory_cache is not None:
        is_real = 1.0 if memory_mask is None else ops.expand_dims(ops.any(memory_mask, axis=1), (1, 2, 3))
        values = memory_cache["values"] * ops.cast(is_real, outputs.dtype)  # a step does not mask an empty memory
        constants["memory"] = {"keys": memory_cache["keys"], "values": values}
    return outputs, constants, own_cache


def step_block(block: TransformerBlock, x, shared: StepInputs, constants: dict, recent: dict, past: dict):
    """Run a block over one token per beam.

    Args:
        block: a block with `MultiHeadAttention`.
        x: (B K, M).
        shared: what all blocks share in this step.
        constants: from `prefill_block`.
        recent, past: the two parts of the cache of this block; see `cache.py`.

    Returns:
        outputs (B K, M), the new recent part, and the scores of the cross-attention (B, H, K, S) or None.
    """
    dense, beams, heads, width = constants["dense"], shared.num_beams, block.num_heads, block.attention.key_dim
    scale = width**-0.5

    def self_attend(x):
        query, key, value = split_step_heads(dense["query_key_value"](x), beams, heads, width)  # (B, H, K, D)
        written = append(recent, key, value, shared.write_at)
        context, _ = attend_parts(query * scale, [written, past], shared.bias)
        return dense["attention_output"](merge_step_heads(context)), written

    def cross_attend(x):
        (query,) = split_step_heads(dense["cross_query"](x), beams, heads, width)
        context, scores = attend_parts(query * scale, [constants["memory"]], shared.memory_bias)
        return dense["cross_output"](merge_step_heads(context)), scores

    return block.run_branches(x, self_attend, cross_attend, lambda x: dense["output"](dense["hidden"](x)))


def merged_layers(block: TransformerBlock) -> dict:
    """Return the functions that replace the `Dense` layers of a block in decoding, by name."""
    attention, cross_attention = block.attention, block.cross_attention
    dense = {
        "query_key_value": merged_dense(
            attention.query_projection, attention.key_projection, attention.value_projection
        ),
        "attention_output": merged_dense(attention.output_projection),
        "hidden": merged_dense(block.hidden),
        "output": merged_dense(block.output_projection),
    }
    if cross_attention is not None:
        dense["cross_query"] = merged_dense(cross_attention.query_projection)
        dense["cross_output"] = merged_dense(cross_attention.output_projection)
    return dense
