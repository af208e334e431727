"""The loop of a search. On TensorFlow, it has chunks of steps, and ended texts leave the batch between two chunks.

The shapes of `keras.ops.while_loop` are fixed. On TensorFlow, an outer loop changes them after each chunk of steps; the
inner loop runs the steps of one chunk. The outer loop moves a full chunk of slots to the past caches, which a step only
reads, and it removes ended texts from the batch. On JAX, the recent caches have all slots from the start, and all texts
stay in the batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attention.generation.search_step import (
    AttentionRecord,
    FinishedHypotheses,
    LoopState,
    SearchStep,
    SearchTexts,
)
from keras_attention.layers.decoding.cache import CHUNK, finish_chunk

_SIZES = 2 ** np.arange(31, dtype="int32")  # sizes of a smaller batch: few, because TensorFlow prepares each new shape


class Results(NamedTuple):
    """The results of the loop for all texts."""

    finished: FinishedHypotheses
    attention_scores: Any  # (T, B, K, S); () for a model without attention


class _Batch(NamedTuple):
    """The texts that have not left the batch."""

    rows: Any  # (B,) the rows of the texts in the results
    texts: SearchTexts
    loop: LoopState
    past: dict  # the past caches, by name of the block; {} for a model without a cache

    def results(self) -> Results:
        attention = self.loop.attention
        return Results(self.loop.finished, attention.attention_scores if attention else ())


def run_loop(step: SearchStep, loop: LoopState, past: dict) -> Results:
    """Run all steps of a search.

    Args:
        step: the step, with all texts.
        loop: the state before the first step.
        past: the past caches of the model, by name of the block; {} for a model without a cache.
    """
    batch = _Batch(ops.arange(ops.shape(loop.t)[0]), step.texts, loop, past)
    if keras.backend.backend() == "tensorflow":
        return _run_chunks(step, batch)
    may_improve = lambda loop: ops.any(step.may_improve(loop))  # noqa: E731
    (loop,) = ops.while_loop(may_improve, lambda loop: (step.advance(loop, past),), (loop,))
    return batch._replace(loop=loop).results()


def _run_chunks(step: SearchStep, first: _Batch) -> Results:
    """Run chunks of steps; after each, keep the smallest power of two of texts that includes all that may improve."""
    import tensorflow as tf

    def step_of(batch: _Batch) -> SearchStep:
        return dataclasses.replace(step, texts=batch.texts)

    def may_improve(batch: _Batch, _: Results) -> tf.Tensor:
        return tf.reduce_any(step_of(batch).may_improve(batch.loop))

    def advance(batch: _Batch, results: Results) -> tuple[_Batch, Results]:
        batch = _advance_chunk(step_of(batch), batch)
        improves = step_of(batch).may_improve(batch.loop)
        count = tf.math.count_nonzero(improves, dtype=tf.int32)
        size = tf.gather(_SIZES, tf.reduce_sum(tf.cast(count > _SIZES, tf.int32)))
        ended_last = tf.concat([tf.where(improves)[:, 0], tf.where(~improves)[:, 0]], axis=0)
        return tf.cond(
            (count > 0) & (size < tf.size(batch.rows)),
            lambda: (_take_rows(batch, ended_last[:size]), _store(batch, results)),
            lambda: (batch, results),
        )

    first = tf.nest.map_structure(tf.convert_to_tensor, first)
    variables = (first, first.results())
    batch, results = tf.while_loop(may_improve, advance, variables, _shapes(*variables))
    is_smaller = tf.size(batch.rows) < tf.size(first.rows)
    return tf.cond(is_smaller, lambda: _store(batch, results), batch.results)


def _advance_chunk(step: SearchStep, batch: _Batch) -> _Batch:
    """Run the steps of one chunk, and move its slots to the past caches."""
    steps = batch.loop.active.carry["written_by"].shape[2] if batch.past else CHUNK
    end = batch.loop.t[0, 0] + steps

    def is_in_chunk(loop: LoopState):
        return ops.logical_and(loop.t[0, 0] < end, ops.any(step.may_improve(loop)))

    (loop,) = ops.while_loop(is_in_chunk, lambda loop: (step.advance(loop, batch.past),), (batch.loop,))
    if not batch.past:
        return batch._replace(loop=loop)
    carry, cache = finish_chunk(loop.active.carry, {**loop.active.cache, "past": batch.past})
    past = cache.pop("past")
    return batch._replace(loop=loop._replace(active=loop.active._replace(carry=carry, cache=cache)), past=past)


def _take_rows(batch: _Batch, rows) -> _Batch:
    """Return the texts in these rows of a batch."""
    import tensorflow as tf

    def take(structure: Any, axis: int = 0) -> Any:
        return tf.nest.map_structure(lambda x: tf.gather(x, rows, axis=axis) if x.shape.rank else x, structure)

    attention = batch.loop.attention
    if attention:
        attention = AttentionRecord(take(attention.attention_scores, axis=1), take(attention.coverage))
    smaller = take(batch._replace(loop=batch.loop._replace(attention=())))
    return smaller._replace(loop=smaller.loop._replace(attention=attention))


def _store(batch: _Batch, results: Results) -> Results:
    """Return the results of all texts, with those of the batch in their rows."""
    import tensorflow as tf

    def write(all_texts: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
        return tf.tensor_scatter_nd_update(all_texts, batch.rows[:, None], texts)

    finished, scores = tf.nest.map_structure(write, results.finished, batch.loop.finished), ()
    if batch.loop.attention:  # (T, B, K, S) -> (B, T, K, S)
        by_text = (ops.swapaxes(x.attention_scores, 0, 1) for x in (results, batch.loop.attention))
        scores = ops.swapaxes(write(*by_text), 0, 1)
    return Results(finished, scores)


def _shapes(batch: _Batch, results: Results) -> tuple[_Batch, Results]:
    """Return the shapes of the loop variables; the batch size and the sizes that grow are unknown."""
    import tensorflow as tf

    def shape(x: tf.Tensor) -> tf.TensorShape:
        return tf.TensorShape([None, *x.shape[1:]] if x.shape.rank else [])

    shapes = tf.nest.map_structure(shape, batch)
    if batch.loop.attention:
        scores_shape = tf.TensorShape([None, None, *batch.loop.attention.attention_scores.shape[2:]])
        attention = shapes.loop.attention._replace(attention_scores=scores_shape)
        shapes = shapes._replace(loop=shapes.loop._replace(attention=attention))
    if batch.past:
        carry = shapes.loop.active.carry
        carry["past_bias"] = tf.TensorShape([*carry["past_bias"][:2], None])
    for cache in shapes.past.values():
        cache["keys"] = tf.TensorShape([*cache["keys"][:3], None])
        cache["values"] = tf.TensorShape([*cache["values"][:2], None, cache["values"][3]])
    return shapes, tf.nest.map_structure(lambda x: x.shape, results)
