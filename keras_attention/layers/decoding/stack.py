"""A stack of blocks that generates text: `start_transformer` reads the prompt, `step_transformer` is one step.

They are `Transformer.start` and `Transformer.step`; `relative_stack.py` has those of a `RelativeTransformer`. Both run
all blocks with `prefill_stack` and `step_stack`. A state names the blocks `block_0`, `block_1`, ...; `cache.py`
describes it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_attention.layers.decoding.blocks import block_memory, block_weights, prefill_block, step_block
from keras_attention.layers.decoding.cache import begin_step, first_state, memory_inputs, prompt_inputs
from keras_attention.layers.normalization import apply_norm


def start_transformer(stack: Any, inputs, length, memory, memory_mask, mask) -> dict:
    """Read a prompt in one pass, and return the state before the next token.

    Args:
        stack: a causal `Transformer`.
        inputs: (B, L, M) embedded tokens of the prompt; L may be 0.
        length: T, the maximum number of tokens, an integer or a scalar tensor.
        memory: (B, S, any) or None.
        memory_mask: (B, S) padding mask, True = a real vector; None for no padding.
        mask: (B, L) padding mask, True = a real token; None for no padding. Padding is on the right. On JAX,
            `length` counts the padding too.

    Returns:
        dict of `weights`, `constants`, `carry` and `cache`.
    """
    sizes, constants, memory_of_blocks = ops.shape(inputs)[:2], {}, None
    if stack.has_memory:
        memory_mask = ops.ones(ops.shape(memory)[:2], "bool") if memory_mask is None else memory_mask
        memory_of_blocks = memory_inputs(ops.cast(memory, stack.compute_dtype), memory_mask)
        constants = {"mask": memory_mask, "memory": {"bias": memory_of_blocks.bias, "scale": memory_of_blocks.scale}}
        constants |= {f"block_{i}": block_memory(block, memory_of_blocks) for i, block in enumerate(stack.blocks)}
    weights = {f"block_{i}": block_weights(block) for i, block in enumerate(stack.blocks)}
    prefill = functools.partial(prefill_block, prompt=prompt_inputs(sizes, memory_of_blocks))
    x = ops.reshape(stack.input_embedding(inputs), (-1, inputs.shape[-1]))  # (B L, M)
    prompt_caches = prefill_stack(stack.blocks, x, _constants_of_blocks(weights, constants), prefill)
    mask = ops.ones(sizes, "bool") if mask is None else mask
    return {"weights": weights, "constants": constants, **first_state(prompt_caches, mask, length)}


def step_transformer(stack: Any, inputs, state: dict) -> tuple:
    """Advance every beam by one token.

    Args:
        stack: a causal `Transformer`.
        inputs: (B, K, M) embedded tokens.
        state: from `start_transformer` or the last step.

    Returns:
        outputs (B, K, M), the new state, and the scores (B, K, S), their mean over blocks and heads, or None without a
        memory.
    """
    _, beams, width = inputs.shape
    x = ops.reshape(inputs, (-1, 1, width))  # (B K, 1, M)
    position = ops.reshape(state["carry"]["position"], (-1, 1))  # (B K, 1)
    x = ops.reshape(stack.input_embedding(x, start=position), (-1, width))  # (B K, M)
    memory = state["constants"].get("memory", {})
    step, state = begin_step(state, memory.get("bias"), stack.compute_dtype)
    x, state, scores = step_stack(stack.blocks, x, state, functools.partial(step_block, step=step))
    means = [ops.mean(block_scores, axis=1) for block_scores in scores if block_scores is not None]  # (B, K, S)
    mean = functools.reduce(ops.add, means) * (memory["scale"] / len(means)) if means else None
    return ops.reshape(apply_norm(stack.norm, x), (-1, beams, width)), state, mean


def prefill_stack(blocks: Sequence, x, constants: dict, prefill_block: Callable) -> dict:
    """Run the blocks of a stack over the prompt, and return its key/value caches, by name of the block.

    Args:
        blocks: the blocks.
        x: (B L, M).
        constants: name of the block -> what `prefill_block` reads.
        prefill_block: a function (block, x, constants of the block) -> (outputs, key/value cache).

    Example:
        >>> add = lambda block, x, constants: (x + block, {"keys": x})
        >>> prefill_stack([3, 5], 1, {"block_0": {}, "block_1": {}}, add)
        {'block_0': {'keys': 1}, 'block_1': {'keys': 4}}
    """
    caches = {}
    for i, block in enumerate(blocks):
        x, caches[f"block_{i}"] = prefill_block(block, x, constants[f"block_{i}"])
    return caches


def step_stack(blocks: Sequence, x, state: dict, step_block: Callable) -> tuple:
    """Run the blocks of a stack in one step.

    Args:
        blocks: the blocks.
        x: (B K, M).
        state: the state of the decoder, with the next carry; see `begin_step`.
        step_block: a function (block, x, constants, recent cache, past cache) -> (outputs, new recent cache, scores).

    Returns:
        outputs (B K, M), the state with the next cache, and the scores of each block.
    """
    cache, recent, scores = state["cache"], {}, []
    constants = _constants_of_blocks(state["weights"], state["constants"])
    for i, block in enumerate(blocks):
        name = f"block_{i}"
        x, recent[name], block_scores = step_block(
            block, x, constants[name], cache["recent"][name], cache["past"][name]
        )
        scores.append(block_scores)
    cache = {**cache, "recent": recent, "num_written": cache["num_written"] + 1}
    return x, {**state, "cache": cache}, scores


def _constants_of_blocks(weights: dict, constants: dict) -> dict:
    """Return the weights of each block, and its constants if it has any, by name of the block."""
    return {name: values | constants.get(name, {}) for name, values in weights.items()}
