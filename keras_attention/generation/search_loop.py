"""The loop of a search, in chunks of steps if the model's cache grows.

The shapes of `keras.ops.while_loop` are fixed. On TensorFlow, an outer loop moves each full chunk of slots to the past
caches, which a step only reads; the inner loop runs the steps of one chunk. On JAX, the recent caches have all slots
from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_attention.layers.decoding.cache import finish_chunk


def run_loop(may_continue: Callable, advance: Callable, loop: Any, past: dict) -> Any:
    """Return the state of the loop after its last step.

    Args:
        may_continue: a function loop -> bool.
        advance: a function (loop, past) -> loop, one step.
        loop: a `LoopState`.
        past: the past caches of the model, by name of the block; empty for a model without a cache.
    """
    if not past or keras.backend.backend() != "tensorflow":
        return ops.while_loop(may_continue, lambda loop: (advance(loop, past),), (loop,))[0]
    import tensorflow as tf

    slots = loop.active.carry["written_by"].shape[2]

    def is_in_chunk(loop):
        return ops.logical_and(loop.active.cache["num_written"] < slots, may_continue(loop))

    def advance_chunk(loop, past):
        (loop,) = ops.while_loop(is_in_chunk, lambda loop: (advance(loop, past),), (loop,))
        carry, cache = finish_chunk(loop.active.carry, {**loop.active.cache, "past": past})
        past = cache.pop("past")
        return loop._replace(active=loop.active._replace(carry=carry, cache=cache)), past

    first = (loop, past)
    return tf.while_loop(lambda loop, _: may_continue(loop), advance_chunk, first, _shapes(first))[0]


def _shapes(variables: tuple) -> tuple:
    """Return the shapes of the loop variables; the sizes that grow are unknown."""
    import tensorflow as tf

    loop, past = tf.nest.map_structure(lambda x: x.shape, variables)
    past_bias = loop.active.carry["past_bias"]
    loop.active.carry["past_bias"] = tf.TensorShape([*past_bias[:2], None])
    past = {
        name: {"keys": cache["keys"][:3] + [None], "values": cache["values"][:2] + [None, cache["values"][3]]}
        for name, cache in past.items()
    }
    return loop, past
