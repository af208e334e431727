"""A `TransformerBlock` that generates text: it reads the prompt in one pass, and then one token per beam in each step.

    block_weights    the merged layers
    block_memory     keys and values of the memory
    prefill_block    tokens of the prompt (B L, M)      -> outputs (B L, M), the key/value cache of the prompt
    step_block       one token per beam (B K, M)        -> outputs (B K, M), the recent cache with its keys and values

Both run the branches of the block, as `TransformerBlock.call` does, with three differences: keys and values are in
caches (`cache.py`), the `Dense` layers are merged before the first step (`merged_dense.py`), and the axes of batch and
time are one axis, because TensorFlow computes a product of three axes with a dozen operations on shapes.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from keras_attention.layers.decoding.cache import MemoryInputs, PromptInputs, StepInputs, append, make_cache
from keras_attention.layers.decoding.merged_dense import merged_dense
from keras_attention.layers.decoding.step_attention import cached_attention, merge_step_heads, split_step_heads
from keras_attention.layers.transformer_block import TransformerBlock


def block_weights(block: TransformerBlock) -> dict:
    """Return the merged layers `dense` of a block: functions that replace its `Dense` layers in decoding, by name.

    Example:
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11)
        >>> block.build((None, None, 21))
        >>> sorted(block_weights(block)["dense"])
        ['attention_output', 'hidden', 'output', 'query_key_value']
    """
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
    return {"dense": dense}


def block_memory(block: TransformerBlock, memory: MemoryInputs) -> dict:
    """Return the `memory_cache` of a block with a cross-attention: the projected keys and values of the memory.

    The values of a memory that is only padding are 0, so that attention to it returns 0.

    Args:
        block: the block.
        memory: from `memory_inputs`.

    Returns:
        dict of `memory_cache`: its `keys` (B, H, D, S) and `values` (B, H, S, D).

    Example:
        >>> from keras_attention.layers.decoding.cache import memory_inputs
        >>> block, memory = TransformerBlock(num_heads=3, intermediate_dim=11), keras.ops.ones((2, 5, 13))
        >>> outputs = block(keras.ops.ones((2, 4, 21)), memory)
        >>> cache = block_memory(block, memory_inputs(memory, keras.ops.ones((2, 5), bool)))["memory_cache"]
        >>> tuple(cache["keys"].shape), tuple(cache["values"].shape)
        ((2, 3, 7, 5), (2, 3, 5, 7))
    """
    attention = block.cross_attention
    keys, values = (
        split_step_heads(merged_dense(layer)(memory.vectors), memory.sizes, attention.num_heads, attention.key_dim)[0]
        for layer in (attention.key_projection, attention.value_projection)
    )
    scale = ops.cast(ops.expand_dims(memory.scale, -1), values.dtype)
    return {"memory_cache": make_cache(keys, values * scale)}


def prefill_block(
    block: TransformerBlock, x, constants: dict, prompt: PromptInputs, query_and_bias: Callable | None = None
):
    """Run a block over the prompt of a decoder in one pass.

    Args:
        block: a block with `MultiHeadAttention`, or another attention and its `query_and_bias`.
        x: (B L, M); L may be 0.
        constants: `block_weights` and, with a memory, `block_memory`.
        prompt: what all blocks read, from `prompt_inputs`.
        query_and_bias: a function of projected queries (B, H, L, D) that returns the queries and the bias of
            `cached_attention`; the queries as they are and a causal bias when None.

    Returns:
        outputs (B L, M); and the key/value cache of the prompt.

    Example:
        >>> from keras_attention.layers.decoding.cache import prompt_inputs
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11)
        >>> block.build((None, None, 21))
        >>> x = keras.ops.ones((10, 21))  # two prompts of five tokens
        >>> outputs, cache = prefill_block(block, x, block_weights(block), prompt_inputs((2, 5)))
        >>> tuple(outputs.shape), tuple(cache["keys"].shape)
        ((10, 21), (2, 3, 7, 5))
    """
    if prompt.is_empty:
        return x, _empty_cache(block, prompt, x.dtype)

    def self_attend(query, key, value):
        cache, bias = make_cache(key, value), prompt.causal_bias
        if query_and_bias is not None:
            query, bias = query_and_bias(query)
        return cached_attention(query, [cache], bias)[0], cache

    outputs, cache, _ = run_decoding_branches(block, x, prompt.sizes, self_attend, constants, prompt.memory_bias)
    return outputs, cache


def _empty_cache(block: TransformerBlock, prompt: PromptInputs, dtype) -> dict:
    """Return the key/value cache of a prompt without tokens, or of no prompts."""
    batch, length = prompt.sizes
    empty = ops.zeros((batch, block.num_heads, length, block.attention.key_dim), dtype)
    return make_cache(empty, empty)


def step_block(block: TransformerBlock, x, constants: dict, recent_cache: dict, past_cache: dict, step: StepInputs):
    """Run a block over one token per beam.

    Args:
        block: a block with `MultiHeadAttention`.
        x: (B K, M).
        constants: `block_weights` and, with a memory, `block_memory`.
        recent_cache: `keys` (B, H, D, recent K) and `values` (B, H, recent K, D) of this block.
        past_cache: `keys` (B, H, D, past) and `values` (B, H, past, D) of this block.
        step: what all blocks read in this step, from `begin_step`.

    Returns:
        outputs (B K, M), the new recent cache, and the scores of the cross-attention (B, H, K, S) or None.

    Example:
        >>> from keras_attention.layers.decoding.cache import begin_step, first_state
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11)
        >>> block.build((None, None, 21))
        >>> past_cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> step, state = begin_step(first_state({"block_0": past_cache}, keras.ops.ones((2, 5), bool), length=16))
        >>> recent_cache = state["cache"]["recent"]["block_0"]
        >>> outputs, *_ = step_block(
        ...     block, keras.ops.ones((2, 21)), block_weights(block), recent_cache, past_cache, step)
        >>> tuple(outputs.shape)
        (2, 21)
    """

    def self_attend(query, key, value):
        new_recent_cache = append(recent_cache, key, value, step.new_slots)
        return cached_attention(query, [new_recent_cache, past_cache], step.cache_bias)[0], new_recent_cache

    return run_decoding_branches(block, x, (-1, step.num_beams), self_attend, constants, step.memory_bias)


def run_decoding_branches(
    block: TransformerBlock, x, sizes: tuple, self_attend: Callable, constants: dict, memory_bias=None
) -> tuple:
    """Run the branches of a block with the merged layers of its `constants`; see `TransformerBlock.run_branches`.

    Args:
        block: the block.
        x: (B Q, M): the tokens of the prompts, or one token per beam.
        sizes: (B, Q); one of them may be -1.
        self_attend: a function of queries, keys and values, (B, H, Q, D) each, that returns the context (B, H, Q, D)
            and the new cache.
        constants: `block_weights` and, with a memory, `block_memory`.
        memory_bias: (B, 1, 1, S), None without a memory.

    Returns:
        outputs (B Q, M), the new cache, and the scores of the cross-attention (B, H, Q, S) or None.

    Example:
        >>> block = TransformerBlock(num_heads=3, intermediate_dim=11)
        >>> block.build((None, None, 21))
        >>> attend_to_itself = lambda query, key, value: (value, None)
        >>> x, constants = keras.ops.ones((10, 21)), block_weights(block)
        >>> tuple(run_decoding_branches(block, x, (2, 5), attend_to_itself, constants)[0].shape)
        (10, 21)
    """
    dense, num_heads, key_dim = constants["dense"], block.num_heads, block.attention.key_dim

    def self_branch(x):
        context, cache = self_attend(*split_step_heads(dense["query_key_value"](x), sizes, num_heads, key_dim))
        return dense["attention_output"](merge_step_heads(context)), cache

    def cross_branch(x):
        (query,) = split_step_heads(dense["cross_query"](x), sizes, num_heads, key_dim)
        context, scores = cached_attention(query, [constants["memory_cache"]], memory_bias)
        return dense["cross_output"](merge_step_heads(context)), scores

    return block.run_branches(x, self_branch, cross_branch, lambda x: dense["output"](dense["hidden"](x)))
