"""A `TransformerBlock` that generates text: it reads the prompt in one pass, and then one token per beam in each step.

    block_constants  what every call shares: merged layers, keys and values of the memory
    prefill_block    tokens of the prompt (B L, M)      -> outputs (B L, M), keys and values of the prompt
    step_block       one token per beam (B K, M)        -> outputs (B K, M), the cache with its keys and values

Both run the branches of the block, as `TransformerBlock.call` does, with three differences: keys and values are in a
cache (`cache.py`), the `Dense` layers are merged before the first step (`merged_dense.py`), and the axes of batch and
time are one axis, because TensorFlow computes a product of three axes with a dozen operations on shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_attention.layers.cache import MemoryInputs, PromptInputs, StepInputs, append, cache_part
from keras_attention.layers.merged_dense import merged_dense
from keras_attention.layers.shapes import merge_step_heads, split_step_heads
from keras_attention.layers.step_attention import attend_parts
from keras_attention.layers.transformer_block import TransformerBlock


def block_constants(block: TransformerBlock, memory: MemoryInputs | None = None) -> dict:
    """Return what all calls of `prefill_block` and `step_block` share.

    Args:
        block: a block with `MultiHeadAttention`.
        memory: from `memory_inputs`; None without a cross-attention.

    Returns:
        dict of the merged layers `dense` and, with a memory, `memory`: its `keys` (B, H, D, S) and `values`
        (B, H, S, D), 0 for an entry of the batch without real positions, because a step does not mask these.
    """
    constants: dict[str, Any] = {"dense": merged_layers(block)}
    if memory is None:
        return constants
    attention = block.cross_attention
    keys, values = (
        split_step_heads(merged_dense(layer)(memory.tokens), memory.sizes, attention.num_heads, attention.key_dim)[0]
        for layer in (attention.key_projection, attention.value_projection)
    )
    is_real = ops.cast(ops.expand_dims(memory.is_real, -1), values.dtype)
    return {**constants, "memory": cache_part(keys, values * is_real)}


def prefill_block(block: TransformerBlock, x, shared: PromptInputs, constants: dict):
    """Run a block over the prompt of a decoder in one pass.

    Args:
        block: a block with `MultiHeadAttention`.
        x: (B L, M); L may be 0.
        shared: what all blocks share.
        constants: from `block_constants`.

    Returns:
        outputs (B L, M); and the keys and values of the prompt, from `cache_part`.
    """

    length = shared.sizes[1]
    if isinstance(length, int) and length == 0:  # a translator has no prompt
        empty = ops.zeros((shared.sizes[0], block.num_heads, 0, block.attention.key_dim), x.dtype)
        return x, cache_part(empty, empty)

    def self_attend(query, key, value):
        own = cache_part(key, value)
        return attend_parts(query, [own], shared.bias)[0], own

    outputs, own, _ = _run_branches(block, x, shared.sizes, self_attend, shared.memory_bias, constants)
    return outputs, own


def step_block(block: TransformerBlock, x, shared: StepInputs, constants: dict, recent: dict, past: dict):
    """Run a block over one token per beam.

    Args:
        block: a block with `MultiHeadAttention`.
        x: (B K, M).
        shared: what all blocks share in this step.
        constants: from `block_constants`.
        recent, past: the two parts of the cache of this block; see `cache.py`.

    Returns:
        outputs (B K, M), the new recent part, and the scores of the cross-attention (B, H, K, S) or None.
    """

    def self_attend(query, key, value):
        written = append(recent, key, value, shared.write_at)
        return attend_parts(query, [written, past], shared.bias)[0], written

    return _run_branches(block, x, (-1, shared.num_beams), self_attend, shared.memory_bias, constants)


def _run_branches(
    block: TransformerBlock, x, sizes: tuple, self_attend: Callable, memory_bias, constants: dict
) -> tuple:
    """Run the branches of a block on tokens x (B T, M), with sizes (B, T); see `TransformerBlock.run_branches`.

    `self_attend` is a function of the queries, divided by sqrt(D), keys and values, each (B, H, T, D). It returns the
    context (B, H, T, D) and an extra result.
    """
    dense, heads, width = constants["dense"], block.num_heads, block.attention.key_dim

    def self_branch(x):
        query, key, value = split_step_heads(dense["query_key_value"](x), sizes, heads, width)
        context, extra = self_attend(query * width**-0.5, key, value)
        return dense["attention_output"](merge_step_heads(context)), extra

    def cross_branch(x):
        (query,) = split_step_heads(dense["cross_query"](x), sizes, heads, width)
        context, scores = attend_parts(query * width**-0.5, [constants["memory"]], memory_bias)
        return dense["cross_output"](merge_step_heads(context)), scores

    return block.run_branches(x, self_branch, cross_branch, lambda x: dense["output"](dense["hidden"](x)))


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
