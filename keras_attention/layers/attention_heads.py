"""What the attention layers with H heads of width D share: the projections of all heads, and the axis H.

    query (B, Q, M)         --> query_projection --> split_heads --> queries (B, H, Q, D)
    key (B, S, any)         --> key_projection   --> split_heads --> keys (B, H, S, D)
    value (B, S, any)       --> value_projection --> split_heads --> values (B, H, S, D)
    contexts (B, H, Q, D)   --> merge_heads --> output_projection --> outputs (B, Q, M)

`MultiHeadAttention` and `RelativeAttention` differ in what is between the projections. The projections are attributes
of the layer, with these names, so that Keras saves and quantizes them.
"""

from __future__ import annotations

import keras
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
    return split_heads(layer.query_projection(query), layer.num_heads)


def project_key_value(layer: BaseLayer, value, key=None):
    """Return the projected keys and values of all heads, (..., H, S, D) each; `key` is `value` when None.

    Example:
        >>> layer = ka.layers.MultiHeadAttention(num_heads=3, key_dim=7)
        >>> layer.build((None, None, 13), (None, None, 11))
        >>> keys, values = project_key_value(layer, keras.ops.ones((2, 5, 11)))
        >>> tuple(keys.shape), tuple(values.shape)
        ((2, 3, 5, 7), (2, 3, 5, 7))
    """
    keys, values = layer.key_projection(value if key is None else key), layer.value_projection(value)
    return split_heads(keys, layer.num_heads), split_heads(values, layer.num_heads)


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


def merge_heads(x):
    """Concatenate the heads: (..., H, L, D) -> (..., L, H D), the inverse of `split_heads`.

    Example:
        >>> tuple(merge_heads(keras.ops.zeros((2, 3, 5, 7))).shape)
        (2, 5, 21)
    """
    x = ops.swapaxes(x, -2, -3)
    return reshape(x, (*sizes_of(x)[:-2], x.shape[-2] * x.shape[-1]))


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
    x = ops.reshape(x, (*sizes, x.shape[-1] // (num_heads * width), num_heads, width))
    return ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), axis=0)


def merge_step_heads(x):
    """Concatenate the heads: (B, H, Q, D) -> (B Q, H D), the inverse of `split_step_heads`.

    Example:
        >>> tuple(merge_step_heads(keras.ops.zeros((2, 5, 3, 7))).shape)
        (6, 35)
    """
    return ops.reshape(ops.swapaxes(x, 1, 2), (-1, x.shape[1] * x.shape[3]))
