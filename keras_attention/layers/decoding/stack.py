"""The blocks of a stack that generates text: all blocks over the prompt, and all blocks in one step.

A state names the blocks `block_0`, `block_1`, ...; `cache.py` describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def prefill_stack(blocks: Sequence, x, constants: dict, prefill: Callable) -> dict:
    """Run the blocks of a stack over the prompt, and return its keys and values, by name of the block.

    Args:
        blocks: the blocks.
        x: (B L, M).
        constants: name of the block -> `block_constants`.
        prefill: a function (block, x, constants of the block) -> (outputs, keys and values).
    """
    prompts = {}
    for i, block in enumerate(blocks):
        x, prompts[f"block_{i}"] = prefill(block, x, constants[f"block_{i}"])
    return prompts


def step_stack(blocks: Sequence, x, state: dict, step: Callable) -> tuple:
    """Run the blocks of a stack in one step.

    Args:
        blocks: the blocks.
        x: (B K, M).
        state: the state of the decoder, with the next carry; see `step_inputs`.
        step: a function (block, x, constants, recent, past) -> (outputs, new recent part, scores), as `step_block`.

    Returns:
        outputs (B K, M), the state with the next cache, and the scores of each block.
    """
    cache, recent, scores = state["cache"], {}, []
    for i, block in enumerate(blocks):
        name = f"block_{i}"
        own = state["constants"][name], cache["recent"][name], cache["past"][name]
        x, recent[name], block_scores = step(block, x, *own)
        scores.append(block_scores)
    cache = {**cache, "recent": recent, "num_written": cache["num_written"] + 1}
    return x, {**state, "cache": cache}, scores
