"""The projections of attention layers with H heads of width D, and the axis H of their tensors.

    query (B, Q, M)         --> query_projection --> split heads --> queries (B, H, Q, D)
    key (B, S, any)         --> key_projection   --> split heads --> keys (B, H, S, D)
    value (B, S, any)       --> value_projection --> split heads --> values (B, H, S, D)
    contexts (B, H, Q, D)   --> merge heads --> output_projection --> outputs (B, Q, M)

`MultiHeadAttention` and `RelativeAttention` differ in what is between the projections. The projections are attributes
of the layer, with these names, so that Keras saves and quantizes them.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attention.layers.base import BaseLayer
from keras_attention.layers.shapes import output_specs, reshape, sizes_of


def make_projections(layer: BaseLayer, kernel_initializer) -> list[keras.layers.Dense]:
    """Return the projections of queries, keys and values of a layer: each has H D outputs."""
    units = layer.num_heads * layer.key_dim
    return [layer.make_dense(units, name, kernel_initializer, layer.use_bias) for name in ("query", "key", "value")]


def build_projections(layer: BaseLayer, query_shape, value_shape=None, key_shape=None) -> keras.layers.Dense:
    """Create the weights of all projections of a layer, and return the projection of its outputs, H D -> M.

    Args:
        layer: a layer with the projections of `make_projections`.
        query_shape: (B, Q, M).
        value_shape: (B, S, any); `query_shape` when None.
        key_shape: (B, S, any); `value_shape` when None.
    """
    value_shape = value_shape or query_shape
    layer.query_projection.build(query_shape)
    layer.key_projection.build(key_shape or value_shape)
    layer.value_projection.build(value_shape)
    output_projection = layer.make_dense(query_shape[-1], "output", layer.kernel_initializer, layer.use_bias)
    output_projection.build((*query_shape[:-1], layer.num_heads * layer.key_dim))
    return output_projection


def project_query(layer: BaseLayer, query):
    """Return the projected queries of all heads: (..., Q, M) -> (..., H, Q, D).

    Example:
        >>> layer = ka.layers.MultiHeadAttention(num_heads=3, key_dim=7)
        >>> layer.build((None, None, 13))
        >>> tuple(project_query(layer, keras.ops.ones((2, 5, 13))).shape)
        (2, 3, 5, 7)
    """
    return _project(layer.query_projection, query, sizes_of(query), layer.num_heads)


def project_key_value(layer: BaseLayer, value, key=None):
    """Return the projected keys and values of all heads, (..., H, S, D) each; `key` is `value` when None.

    Example:
        >>> layer = ka.layers.MultiHeadAttention(num_heads=3, key_dim=7)
        >>> layer.build((None, None, 13), (None, None, 11))
        >>> keys, values = project_key_value(layer, keras.ops.ones((2, 5, 11)))
        >>> tuple(keys.shape), tuple(values.shape)
        ((2, 3, 5, 7), (2, 3, 5, 7))
    """
    pairs = (layer.key_projection, value if key is None else key), (layer.value_projection, value)
    sizes = sizes_of(value)
    return tuple(_project(dense, x, sizes, layer.num_heads) for dense, x in pairs)


def project_contexts(layer: BaseLayer, contexts):
    """Return the projected contexts of all heads side by side: (..., H, Q, D) -> (..., Q, M).

    Example:
        >>> layer = ka.layers.MultiHeadAttention(num_heads=3, key_dim=7)
        >>> layer.build((None, None, 13))
        >>> tuple(project_contexts(layer, keras.ops.ones((2, 3, 5, 7))).shape)
        (2, 5, 13)
    """
    x = ops.swapaxes(contexts, -2, -3)
    outputs = layer.output_projection(ops.reshape(x, (-1, x.shape[-2] * x.shape[-1])))
    return reshape(outputs, (*sizes_of(x)[:-2], outputs.shape[-1]))


def _project(dense: keras.layers.Dense, x, sizes: tuple, num_heads: int):
    """Return dense(x) of all heads, (..., H, L, D), for x (..., L, any) of these sizes; see `shapes.on_rows`."""
    outputs = dense(ops.reshape(x, (-1, x.shape[-1])))
    return ops.swapaxes(reshape(outputs, (*sizes[:-1], num_heads, outputs.shape[-1] // num_heads)), -2, -3)


def head_specs(layer: BaseLayer, query, value, return_attention_scores: bool):
    """Return shapes and dtypes of the outputs of a layer with H heads."""
    length = (query if value is None else value).shape[-2]
    scores_shape = (*query.shape[:-2], layer.num_heads, query.shape[-2], length)
    return output_specs(layer, query.shape, scores_shape if return_attention_scores else None)


def split_heads(x, num_heads: int):
    """Split the last axis into H heads: (..., L, H D) -> (..., H, L, D).

    Example:
        >>> tuple(split_heads(keras.ops.zeros((2, 5, 21)), 3).shape)
        (2, 3, 5, 7)
    """
    return ops.swapaxes(reshape(x, (*sizes_of(x)[:-1], num_heads, x.shape[-1] // num_heads)), -2, -3)


def split_step_heads(x, sizes: tuple, num_heads: int, width: int) -> list:
    """Split the vectors of tokens into projections and heads: (B Q, n H D) -> n tensors (B, H, Q, D).

    Args:
        x: (B Q, n H D), such as queries, keys and values side by side, n = 3.
        sizes: (B, Q); one of them may be -1.
        num_heads: H.
        width: D.

    Example:
        >>> [tuple(x.shape) for x in split_step_heads(keras.ops.zeros((6, 70)), (2, 3), num_heads=5, width=7)]
        [(2, 5, 3, 7), (2, 5, 3, 7)]
    """
    parts = x.shape[-1] // (num_heads * width)
    if not _can_gather(sizes[1]):
        x = ops.swapaxes(ops.reshape(x, (*sizes, parts * num_heads, width)), 1, 2)  # (B, n H, Q, D)
        return ops.split(x, parts, axis=1)
    order = np.arange(sizes[1] * parts * num_heads).reshape(sizes[1], parts, num_heads)
    rows = ops.reshape(x, (-1, order.size, width))
    shape = (-1, num_heads, sizes[1], width)
    return [ops.reshape(_gather_rows(rows, order[:, part].T), shape) for part in range(parts)]


def _can_gather(num_queries) -> bool:
    """Return whether rows are gathered to swap queries and heads.

    TensorFlow transposes the few rows of a step with all threads, which takes ten times as long as to copy them.
    """
    return keras.backend.backend() == "tensorflow" and isinstance(num_queries, int) and num_queries > 1


def _gather_rows(x, order):
    """Return the rows of x (B, R, D) in this order, an array of indices."""
    import tensorflow as tf

    return tf.gather(x, order.ravel().astype("int32"), axis=1)


def merge_step_heads(x):
    """Concatenate the heads: (B, H, Q, D) -> (B Q, H D), the inverse of `split_step_heads`.

    Example:
        >>> tuple(merge_step_heads(keras.ops.zeros((2, 5, 3, 7))).shape)
        (6, 35)
    """
    _, heads, queries, width = x.shape
    if _can_gather(queries):
        order = np.arange(heads * queries).reshape(heads, queries).T
        x = _gather_rows(ops.reshape(x, (-1, heads * queries, width)), order)
    else:
        x = ops.swapaxes(x, 1, 2)
    return ops.reshape(x, (-1, heads * width))
