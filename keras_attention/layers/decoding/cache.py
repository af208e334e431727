"""The state of a decoder that generates text, and its key/value cache, as pure functions.

A decoder (`Transformer`, `RecurrentDecoder`, `RelativeTransformer`) has two methods:

    start(tokens, length, ...) -> state                  the state after the prompt, tokens (B, L, M)
    step(tokens, state) -> (outputs, state, scores)      one token per beam: tokens and outputs (B, K, M), scores of the
                                                         cross-attention (B, K, S), None without a memory

    state["constants"]   the same at every step: weights, the projected memory and its mask      (B, ...)
    state["carry"]       updated at every step, and reordered with the beams                     (B, K, ...)
    state["cache"]       of Transformer blocks: grows at every step, and is never reordered

A cache has two parts with one entry per block. All beams share both parts:

    past       the prompt and full chunks of slots, which a step only reads   keys (B, H, D, f), values (B, H, f, D)
    recent     r slots for each beam, `num_written` of them written       keys (B, H, D, r K), values (B, H, r K, D)

A beam attends to the slots of its ancestors. The carry has `position` (B, K), the number of tokens read; `written_by`
(B, K, r), the beam that wrote each recent slot of a hypothesis, -1 for a slot that is not written; and `bias`
(B, K, f), the `mask_bias` of its past slots: padding is not attended to.

If the maximum length is a number, there are r slots for all tokens. In a TensorFlow graph of unknown length, r is 16,
and `finish_chunk` moves them to the past part, so that the work of a step does not depend on the maximum length.

On TensorFlow, a write is a product. `keras.ops.slice_update` would need XLA, which TensorFlow Serving does not use.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attention.layers.decoding.step_attention import small_matmul
from keras_attention.layers.masks import causal_mask, mask_bias

_CHUNK = 16  # the number of slots that are moved to the past at once


class StepInputs(NamedTuple):
    """What all blocks share in one step."""

    num_beams: int  # K
    write_at: Any  # where `append` writes: a matrix (K, r K) on TensorFlow, the first index on JAX
    bias: Any  # (B, 1, K, r K + f) of the recent and the past slots
    memory_bias: Any  # (B, 1, 1, S), None without a memory


class PromptInputs(NamedTuple):
    """What all blocks share when they read the prompt."""

    sizes: tuple  # (B, L)
    bias: Any  # (1, 1, L, L) of the causal mask; padding comes last, so that no token attends to it
    memory_bias: Any  # (B, 1, 1, S), None without a memory

    @property
    def is_empty(self) -> bool:
        """Whether B or L is known to be 0; a translator has no prompt."""
        return any(isinstance(size, int) and size == 0 for size in self.sizes)


class MemoryInputs(NamedTuple):
    """A memory, as all blocks read it."""

    tokens: Any  # (B S, M)
    sizes: tuple  # (B, S)
    bias: Any  # (B, 1, 1, S)
    is_real: Any  # (B, 1, 1) float32, 0 if all positions are masked


def first_cache(prompts: dict, mask, length) -> dict:
    """Return the `carry` and the `cache` after the prompt, for one beam.

    Args:
        prompts: block -> keys (B, H, D, L) and values (B, H, L, D) of the prompt.
        mask: (B, L) padding mask, True = a real token of the prompt.
        length: T, the maximum number of tokens, an integer or a scalar tensor.
    """
    batch, num_read = ops.shape(mask)
    slots = length - num_read
    slots = max(slots, 1) if isinstance(slots, int) else _CHUNK

    def empty(prompt):
        _, heads, width, _ = prompt["keys"].shape
        return {
            "keys": ops.zeros((batch, heads, width, slots), prompt["keys"].dtype),
            "values": ops.zeros((batch, heads, slots, width), prompt["keys"].dtype),
        }

    recent = {name: empty(prompt) for name, prompt in prompts.items()}
    carry = {
        "position": ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True),
        "written_by": ops.full((batch, 1, slots), -1, "int32"),
        "bias": ops.expand_dims(mask_bias(mask), 1),
    }
    num_written = ops.convert_to_tensor(0, "int32")
    return {"carry": carry, "cache": {"num_written": num_written, "recent": recent, "past": prompts}}


def repeat_beams(state: dict, num_beams: int) -> dict:
    """Return the state for K beams, of a state for one beam.

    Example:
        >>> state = {"constants": {}, "carry": {"x": keras.ops.ones((2, 1, 5))}}
        >>> tuple(repeat_beams(state, 3)["carry"]["x"].shape)
        (2, 3, 5)
    """
    if num_beams == 1:
        return state

    def repeat(x, axis: int):  # the order of slots is of no importance before the first write
        return ops.concatenate([x] * num_beams, axis=axis)

    state = {**state, "carry": keras.tree.map_structure(lambda x: repeat(x, 1), state["carry"])}
    if "cache" not in state:
        return state
    recent = {
        name: {"keys": repeat(part["keys"], 3), "values": repeat(part["values"], 2)}
        for name, part in state["cache"]["recent"].items()
    }
    return {**state, "cache": {**state["cache"], "recent": recent}}


def step_inputs(state: dict, memory_bias=None, dtype="float32") -> tuple[StepInputs, dict]:
    """Return what all blocks share in a step, which writes the next slot, and the state with the next carry.

    `dtype` is that of the cache.
    """
    carry, slot = state["carry"], state["cache"]["num_written"]
    written_by = carry["written_by"]
    num_beams, slots = written_by.shape[1:]
    is_slot = ops.equal(np.arange(slots, dtype="int32"), slot)
    written_by = ops.where(is_slot, np.arange(num_beams, dtype="int32")[:, None], written_by)
    bias = ops.expand_dims(ops.concatenate([_recent_bias(written_by), carry["bias"]], axis=-1), 1)
    if keras.backend.backend() == "jax":
        write_at = slot * num_beams
    else:  # write_at[k] is 1 at the slot of beam k
        of_beams = np.eye(num_beams)[:, None] * ops.cast(ops.expand_dims(is_slot, -1), dtype)
        write_at = ops.reshape(of_beams, (num_beams, slots * num_beams))
    carry = {**carry, "written_by": written_by, "position": carry["position"] + 1}
    return StepInputs(num_beams, write_at, bias, memory_bias), {**state, "carry": carry}


def _recent_bias(written_by):
    """Return the bias (B, K, r K) of the recent slots, written by the beams `written_by` (B, K, r)."""
    num_beams, slots = written_by.shape[1:]
    is_ancestor = ops.equal(ops.expand_dims(written_by, -1), np.arange(num_beams, dtype="int32"))
    return ops.reshape(mask_bias(is_ancestor), (-1, num_beams, slots * num_beams))


def memory_inputs(memory, mask) -> MemoryInputs:
    """Return a memory (B, S, M) with this mask (B, S) as all blocks read it."""
    is_real = ops.expand_dims(ops.cast(ops.any(mask, axis=1), "float32"), (1, 2))
    tokens = ops.reshape(memory, (-1, memory.shape[-1]))
    return MemoryInputs(tokens, ops.shape(memory)[:2], ops.expand_dims(mask_bias(mask), (1, 2)), is_real)


def prompt_inputs(sizes: tuple, memory: MemoryInputs | None = None) -> PromptInputs:
    """Return what all blocks share when they read a prompt with the sizes (B, L)."""
    bias = ops.expand_dims(mask_bias(causal_mask(sizes[1])), 1)
    return PromptInputs(sizes, bias, None if memory is None else memory.bias)


def cache_part(keys, values) -> dict:
    """Return a part of a cache, `keys` (B, H, D, S) and `values` (B, H, S, D), of projected ones (B, H, S, D)."""
    return {"keys": ops.swapaxes(keys, 2, 3), "values": values}


def append(recent: dict, key, value, write_at) -> dict:
    """Return the recent part of a block's cache, with the keys and values (B, H, K, D) of one token per beam."""
    if keras.backend.backend() == "jax":
        keys = ops.slice_update(recent["keys"], (0, 0, 0, write_at), ops.swapaxes(key, 2, 3))
        return {"keys": keys, "values": ops.slice_update(recent["values"], (0, 0, write_at, 0), value)}
    keys = recent["keys"] + small_matmul(key, write_at, transpose_a=True)  # the slot is zero; keys are finite
    return {"keys": keys, "values": recent["values"] + small_matmul(write_at, value, transpose_a=True)}


def finish_chunk(carry: dict, cache: dict) -> tuple[dict, dict]:
    """Move the recent slots, which must all be written, to the past; return the new carry and cache."""
    past, empty = {}, keras.tree.map_structure(ops.zeros_like, cache["recent"])
    for name, recent in cache["recent"].items():
        old = cache["past"][name]
        past[name] = {
            part: ops.concatenate([old[part], recent[part]], axis) for part, axis in (("keys", 3), ("values", 2))
        }
    bias = ops.concatenate([carry["bias"], _recent_bias(carry["written_by"])], axis=-1)
    carry = {**carry, "written_by": ops.full_like(carry["written_by"], -1), "bias": bias}
    num_written = ops.zeros_like(cache["num_written"])
    return carry, {"num_written": num_written, "recent": empty, "past": past}


def gather_beams(values, indices):
    """Select beams by index: (B, K, ...) -> (B, J, ...).

    This copies whole beams. On TensorFlow, it is one operation, where `keras.ops.take` adds 18 that compute shapes and
    `keras.ops.take_along_axis` gathers element by element.

    Args:
        values: (B, K, ...).
        indices: (B, J) int, each in [0, K).

    Returns:
        (B, J, ...).

    Example:
        >>> values = keras.ops.array([[[3], [5], [7]]])
        >>> keras.ops.convert_to_numpy(gather_beams(values, keras.ops.array([[2, 0]]))).tolist()
        [[[7], [3]]]
    """
    count = indices.shape[1]
    if values.shape[1] == 1 and count == 1:
        return values  # one beam has itself as its only parent
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, indices, axis=1, batch_dims=1)
    batch, beams, *rest = values.shape
    flat = ops.expand_dims(ops.arange(batch) * beams, 1) + ops.cast(indices, "int32")
    gathered = ops.take(ops.reshape(values, (batch * beams, *rest)), ops.reshape(flat, (-1,)), axis=0)
    return ops.reshape(gathered, (batch, count, *rest))
