"""A `TransformerBlock` that generates text: it reads the prompt in one pass, and then one token per beam in each step.

    block_constants  what no step changes: merged layers, keys and values of the memory
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

from keras_attention.layers.attention_heads import merge_step_heads, split_step_heads
from keras_attention.layers.decoding.cache import MemoryInputs, PromptInputs, StepInputs, append, cache_part
from keras_attention.layers.decoding.merged_dense import merged_dense
from keras_attention.layers.decoding.step_attention import attend_parts
from keras_attention.layers.transformer_block import TransformerBlock


def block_constants(block: TransformerBlock, memory: MemoryInputs | None = None) -> dict:
    """Return what does not change between the steps: merged layers, and the projected keys and values of the memory.

    Args:
        block: the block.
        memory: from `memory_inputs`; None without a cross-attention.

    Returns:
        dict of the merged layers `dense` and, with a memory, `memory`: its `keys` (B, H, D, S) and `values`
        (B, H, S, D). The values of a memory that is only padding are 0, so that attention to it returns 0.
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
    if shared.is_empty:
        return x, empty_part(block, shared, x.dtype)

    def self_attend(query, key, value):
        own = cache_part(key, value)
        return attend_parts(query * block.attention.key_dim**-0.5, [own], shared.bias)[0], own

    outputs, own, _ = run_decoding_branches(block, x, shared.sizes, self_attend, constants, shared.memory_bias)
    return outputs, own


def empty_part(block: TransformerBlock, shared: PromptInputs, dtype) -> dict:
    """Return the keys and values of a prompt without tokens, or of no prompts."""
    batch, length = shared.sizes
    empty = ops.zeros((batch, block.num_heads, length, block.attention.key_dim), dtype)
    return cache_part(empty, empty)


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
        return attend_parts(query * block.attention.key_dim**-0.5, [written, past], shared.bias)[0], written

    return run_decoding_branches(block, x, (-1, shared.num_beams), self_attend, constants, shared.memory_bias)


def run_decoding_branches(
    block: TransformerBlock, x, sizes: tuple, self_attend: Callable, constants: dict, memory_bias=None
) -> tuple:
    """Run the branches of a block with the merged layers of its `constants`; see `TransformerBlock.run_branches`.

    Args:
        block: the block.
        x: (B T, M).
        sizes: (B, T); one of them may be -1.
        self_attend: a function of queries, keys and values, (B, H, T, D) each, that returns the context (B, H, T, D)
            and any other result.
        constants: from `block_constants`.
        memory_bias: (B, 1, 1, S), None without a memory.

    Returns:
        outputs (B T, M), the other result of `self_attend`, and the scores of the cross-attention (B, H, T, S) or None.
    """
    dense, heads, width = constants["dense"], block.num_heads, block.attention.key_dim

    def self_branch(x):
        context, extra = self_attend(*split_step_heads(dense["query_key_value"](x), sizes, heads, width))
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
