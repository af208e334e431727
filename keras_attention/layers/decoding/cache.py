"""The state of a decoder that generates text, and its key/value caches, as pure functions.

A decoder (`Transformer`, `RecurrentDecoder`, `RelativeTransformer`) has two methods:

    start(inputs, length, ...) -> state                  the state after the prompt, inputs (B, L, M)
    step(inputs, state) -> (outputs, state, scores)      one token per beam: inputs and outputs (B, K, M), scores of the
                                                         cross-attention (B, K, S), None without a memory

    state["weights"]     of Transformer blocks: merged layers, the same at every step
    state["constants"]   the same at every step: the projected memory and its mask               (B, ...)
    state["carry"]       updated at every step, and reordered with the beams                     (B, K, ...)
    state["cache"]       of Transformer blocks: grows at every step, and is never reordered

A key/value cache is a dict of `keys` (B, H, D, slots) and `values` (B, H, slots, D). Each block has two, which all
beams share:

    past        the prompt and full chunks of slots, which a step only reads      past slots
    recent      the slots of the last tokens, `num_written` of them written       recent slots for each beam: recent K

A beam attends to the slots of its ancestors. The carry has `position` (B, K), the number of tokens read; `written_by`
(B, K, recent), the beam that wrote each recent slot of a hypothesis, -1 for a slot that is not written; and `past_bias`
(B, K, past), the `mask_bias` of its past slots: padding is not attended to.

If the maximum length is a number, there are recent slots for all new tokens. In a TensorFlow graph of unknown length,
there are 16, and `finish_chunk` moves them to the past cache, so that the work of a step does not depend on the maximum
length.

On TensorFlow, a write is a product. `keras.ops.slice_update` would need XLA, which TensorFlow Serving does not use.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attention.layers.decoding.step_attention import small_matmul
from keras_attention.layers.masks import causal_mask, mask_bias

CHUNK = 16  # steps between two changes of the shapes of a search, and slots that are moved to the past at once


class MemoryInputs(NamedTuple):
    """A memory, as the cross-attention of each block reads it.

    Example:
        >>> memory = memory_inputs(keras.ops.ones((2, 3, 5)), keras.ops.array([[True, True, False], [False] * 3]))
        >>> tuple(memory.vectors.shape), keras.ops.convert_to_numpy(memory.scale)[:, 0, 0].tolist()
        ((6, 5), [1.0, 0.0])
    """

    vectors: Any  # (B S, M)
    sizes: tuple  # (B, S)
    bias: Any  # (B, 1, 1, S)
    scale: Any  # (B, 1, 1) float32: 1, or 0 if all positions are masked; contexts are multiplied by it


class PromptInputs(NamedTuple):
    """Inputs shared by all blocks when they read a prompt, besides its tokens.

    Example:
        >>> prompt_inputs((2, 3)).is_empty, prompt_inputs((2, 0)).is_empty
        (False, True)
    """

    sizes: tuple  # (B, L)
    causal_bias: Any  # (1, 1, L, L); padding comes last, so that no token attends to it
    memory_bias: Any  # (B, 1, 1, S), None without a memory

    @property
    def is_empty(self) -> bool:
        """Whether B or L is known to be 0; a translator has no prompt."""
        return any(isinstance(size, int) and size == 0 for size in self.sizes)


class StepInputs(NamedTuple):
    """Inputs shared by all blocks in one step, besides the tokens and the caches.

    Example:
        >>> prompt_cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> state = first_state({"block_0": prompt_cache}, keras.ops.ones((2, 5), bool), length=8)
        >>> step, _ = begin_step(repeat_beams(state, num_beams=11))
        >>> step.num_beams, tuple(step.cache_bias.shape)  # 3 recent slots of each beam, and 5 past slots
        (11, (2, 1, 11, 38))
    """

    num_beams: int  # K
    new_slots: Any  # the slots that `append` writes: one-hot (K, recent K) on TensorFlow, the first index on JAX
    cache_bias: Any  # (B, 1, K, recent K + past)
    memory_bias: Any  # (B, 1, 1, S), None without a memory


def memory_inputs(memory, mask) -> MemoryInputs:
    """Return a memory as the blocks read it.

    Args:
        memory: (B, S, M).
        mask: (B, S) padding mask, True = a real vector.

    Example:
        >>> memory = memory_inputs(keras.ops.ones((1, 3, 5)), keras.ops.array([[True, True, False]]))
        >>> print(keras.ops.convert_to_numpy(memory.bias)[0, 0])
        [[ 0.e+00  0.e+00 -1.e+30]]
    """
    scale = ops.expand_dims(ops.cast(ops.any(mask, axis=1), "float32"), (1, 2))
    vectors = ops.reshape(memory, (-1, memory.shape[-1]))
    return MemoryInputs(vectors, ops.shape(memory)[:2], ops.expand_dims(mask_bias(mask), (1, 2)), scale)


def prompt_inputs(sizes: tuple, memory: MemoryInputs | None = None) -> PromptInputs:
    """Return what all blocks read besides the tokens of a prompt.

    Args:
        sizes: (B, L), integers or scalar tensors.
        memory: the memory of the blocks, if they have a cross-attention.

    Example:
        >>> print(keras.ops.convert_to_numpy(prompt_inputs((2, 3)).causal_bias)[0, 0, :2])
        [[ 0.e+00 -1.e+30 -1.e+30]
         [ 0.e+00  0.e+00 -1.e+30]]
    """
    causal_bias = ops.expand_dims(mask_bias(causal_mask(sizes[1])), 1)
    return PromptInputs(sizes, causal_bias, None if memory is None else memory.bias)


def make_cache(keys, values) -> dict:
    """Return the key/value cache of projected keys and values, (B, H, S, D) each.

    Example:
        >>> cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> tuple(cache["keys"].shape), tuple(cache["values"].shape)
        ((2, 3, 7, 5), (2, 3, 5, 7))
    """
    return {"keys": ops.swapaxes(keys, 2, 3), "values": values}


def first_state(prompt_caches: dict, prompt_mask, length) -> dict:
    """Return the `carry` and the `cache` after the prompt, for one beam.

    Args:
        prompt_caches: name of the block -> the key/value cache of the prompt: `keys` (B, H, D, L) and `values`
            (B, H, L, D).
        prompt_mask: (B, L) padding mask, True = a real token.
        length: T, the maximum number of tokens, an integer or a scalar tensor.

    Example:
        >>> prompt_cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> state = first_state({"block_0": prompt_cache}, keras.ops.ones((2, 5), bool), length=16)
        >>> {name: tuple(x.shape) for name, x in state["carry"].items()}
        {'position': (2, 1), 'written_by': (2, 1, 11), 'past_bias': (2, 1, 5)}
        >>> tuple(state["cache"]["recent"]["block_0"]["keys"].shape)
        (2, 3, 7, 11)
    """
    batch, num_read = ops.shape(prompt_mask)
    slots = length - num_read
    slots = max(slots, 1) if isinstance(slots, int) else CHUNK

    empty, recent = {}, {}
    for name, past in prompt_caches.items():
        (_, heads, key_dim, _), dtype = past["keys"].shape, keras.backend.standardize_dtype(past["keys"].dtype)
        if (heads, key_dim, dtype) not in empty:  # a graph computes the shapes once for all blocks with equal heads
            keys, values = (batch, heads, key_dim, slots), (batch, heads, slots, key_dim)
            empty[heads, key_dim, dtype] = {"keys": ops.zeros(keys, dtype), "values": ops.zeros(values, dtype)}
        recent[name] = keras.tree.map_structure(ops.zeros_like, empty[heads, key_dim, dtype])
    carry = {
        "position": ops.sum(ops.cast(prompt_mask, "int32"), axis=1, keepdims=True),
        "written_by": ops.full((batch, 1, slots), -1, "int32"),
        "past_bias": ops.expand_dims(mask_bias(prompt_mask), 1),
    }
    num_written = ops.convert_to_tensor(0, "int32")
    return {"carry": carry, "cache": {"num_written": num_written, "recent": recent, "past": prompt_caches}}


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
        name: {"keys": repeat(cache["keys"], 3), "values": repeat(cache["values"], 2)}
        for name, cache in state["cache"]["recent"].items()
    }
    return {**state, "cache": {**state["cache"], "recent": recent}}


def begin_step(state: dict, memory_bias=None, dtype="float32") -> tuple[StepInputs, dict]:
    """Return the inputs that all blocks share in the next step, and the state with the carry after it.

    The carry says that each beam has written the next slot; the blocks write it.

    Args:
        state: the state of the decoder.
        memory_bias: (B, 1, 1, S), None without a memory.
        dtype: that of the caches.

    Example:
        >>> prompt_cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> state = first_state({"block_0": prompt_cache}, keras.ops.ones((2, 5), bool), length=8)
        >>> step, state = begin_step(state)
        >>> keras.ops.convert_to_numpy(state["carry"]["written_by"])[0, 0].tolist()
        [0, -1, -1]
    """
    carry, slot = state["carry"], state["cache"]["num_written"]
    written_by = carry["written_by"]
    num_beams, slots = written_by.shape[1:]
    is_slot = ops.equal(np.arange(slots, dtype="int32"), slot)
    written_by = ops.where(is_slot, np.arange(num_beams, dtype="int32")[:, None], written_by)
    cache_bias = ops.expand_dims(ops.concatenate([_recent_bias(written_by), carry["past_bias"]], axis=-1), 1)
    if keras.backend.backend() == "jax":
        new_slots = slot * num_beams
    else:
        one_hot = np.eye(num_beams)[:, None] * ops.cast(ops.expand_dims(is_slot, -1), dtype)  # (K, recent, K)
        new_slots = ops.reshape(one_hot, (num_beams, slots * num_beams))
    carry = {**carry, "written_by": written_by, "position": carry["position"] + 1}
    return StepInputs(num_beams, new_slots, cache_bias, memory_bias), {**state, "carry": carry}


def _recent_bias(written_by):
    """Return the bias (B, K, recent K) of the recent slots, written by the beams `written_by` (B, K, recent)."""
    num_beams, slots = written_by.shape[1:]
    is_ancestor = ops.equal(ops.expand_dims(written_by, -1), np.arange(num_beams, dtype="int32"))
    return ops.reshape(mask_bias(is_ancestor), (-1, num_beams, slots * num_beams))


def append(recent_cache: dict, key, value, new_slots) -> dict:
    """Write the key and the value of one token per beam into the recent cache of a block.

    Args:
        recent_cache: `keys` (B, H, D, recent K) and `values` (B, H, recent K, D).
        key, value: (B, H, K, D).
        new_slots: see `StepInputs`.

    Example:
        >>> empty = make_cache(keras.ops.zeros((1, 1, 3, 1)), keras.ops.zeros((1, 1, 3, 1)))
        >>> key, value, new_slots = ([[[[5.0]]]], [[[[7.0]]]], [[0.0, 1.0, 0.0]])  # one beam writes the second slot
        >>> cache = append(empty, *(keras.ops.array(x) for x in (key, value, new_slots)))
        >>> keras.ops.convert_to_numpy(cache["values"])[0, 0, :, 0].tolist()
        [0.0, 7.0, 0.0]
    """
    if keras.backend.backend() == "jax":
        keys = ops.slice_update(recent_cache["keys"], (0, 0, 0, new_slots), ops.swapaxes(key, 2, 3))
        return {"keys": keys, "values": ops.slice_update(recent_cache["values"], (0, 0, new_slots, 0), value)}
    keys = recent_cache["keys"] + small_matmul(key, new_slots, transpose_a=True)  # the slot is zero; keys are finite
    return {"keys": keys, "values": recent_cache["values"] + small_matmul(new_slots, value, transpose_a=True)}


def finish_chunk(carry: dict, cache: dict) -> tuple[dict, dict]:
    """Move the recent slots, which must all be written, to the past caches; return the new carry and cache.

    Example:
        >>> prompt_cache = make_cache(keras.ops.ones((2, 3, 5, 7)), keras.ops.ones((2, 3, 5, 7)))
        >>> state = first_state({"block_0": prompt_cache}, keras.ops.ones((2, 5), bool), length=16)
        >>> carry, cache = finish_chunk(state["carry"], state["cache"])
        >>> tuple(cache["past"]["block_0"]["keys"].shape), tuple(carry["past_bias"].shape)
        ((2, 3, 7, 16), (2, 1, 16))
    """
    past, empty = {}, keras.tree.map_structure(ops.zeros_like, cache["recent"])
    for name, recent_cache in cache["recent"].items():
        past_cache = cache["past"][name]
        past[name] = {
            kind: ops.concatenate([past_cache[kind], recent_cache[kind]], axis)
            for kind, axis in (("keys", 3), ("values", 2))
        }
    past_bias = ops.concatenate([carry["past_bias"], _recent_bias(carry["written_by"])], axis=-1)
    carry = {**carry, "written_by": ops.full_like(carry["written_by"], -1), "past_bias": past_bias}
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
