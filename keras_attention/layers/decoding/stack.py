"""The blocks of a stack that generates text: all blocks over the prompt, and all blocks in one step.

A state names the blocks `block_0`, `block_1`, ...; `cache.py` describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def prefill_stack(blocks: Sequence, x, constants: dict, prefill_block: Callable) -> dict:
    """Run the blocks of a stack over the prompt, and return its key/value caches, by name of the block.

    Args:
        blocks: the blocks.
        x: (B L, M).
        constants: name of the block -> `block_constants`.
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
    for i, block in enumerate(blocks):
        name = f"block_{i}"
        x, recent[name], block_scores = step_block(
            block, x, state["constants"][name], cache["recent"][name], cache["past"][name]
        )
        scores.append(block_scores)
    cache = {**cache, "recent": recent, "num_written": cache["num_written"] + 1}
    return x, {**state, "cache": cache}, scores
