"""The projections of attention layers with H heads of width D, and the axis H of their tensors.

    query (B, Q, M)         --> query_projection --> split heads --> queries (B, H, Q, D)
    key (B, S, any)         --> key_projection   --> split heads --> keys (B, H, S, D)
    value (B, S, any)       --> value_projection --> split heads --> values (B, H, S, D)
    contexts (B, H, Q, D)   --> merge heads --> output_projection --> outputs (B, Q, M)

`AttentionHeads` is a mixin of `MultiHeadAttention` and `RelativeAttention`, which differ in what is between the
projections.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require_positive_integers
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.shapes import output_specs, reshape, sizes_of


class AttentionHeads:
    """Mixin of the attention layers with H heads of width D; calls `self.make_dense` of `BaseLayer`.

    It has their arguments, their projections and their output shapes. A subclass calls this constructor and
    `make_layers`, and defines `call`.
    """

    def __init__(
        self, num_heads: int, key_dim: int, dropout: float, use_bias: bool, kernel_initializer, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        require_positive_integers(num_heads=num_heads, key_dim=key_dim)
        self.num_heads, self.key_dim, self.dropout, self.use_bias = num_heads, key_dim, dropout, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def make_layers(self, input_initializer, output_initializer) -> None:
        """Make the projections of queries, keys and values, with H D outputs each, and the dropout of the scores.

        Args:
            input_initializer: initializer of these projections.
            output_initializer: initializer of the projection of the outputs, which `build` makes.
        """
        self.output_initializer = output_initializer
        self.query_projection, self.key_projection, self.value_projection = (
            self.make_dense(self.num_heads * self.key_dim, name, input_initializer, self.use_bias)
            for name in ("query", "key", "value")
        )
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)

    def build(self, query_shape, value_shape=None, key_shape=None) -> None:
        """Create the weights of all projections, with that of the outputs, H D -> M.

        Args:
            query_shape: (B, Q, M).
            value_shape: (B, S, any); `query_shape` when None.
            key_shape: (B, S, any); `value_shape` when None.
        """
        value_shape = value_shape or query_shape
        self.query_projection.build(query_shape)
        self.key_projection.build(key_shape or value_shape)
        self.value_projection.build(value_shape)
        self.output_projection = self.make_dense(query_shape[-1], "output", self.output_initializer, self.use_bias)
        self.output_projection.build((*query_shape[:-1], self.num_heads * self.key_dim))

    def project_query(self, query):
        """Return the projected queries of all heads: (..., Q, M) -> (..., H, Q, D)."""
        return self.project_heads(self.query_projection, query)

    def project_key_value(self, value, key=None):
        """Return the projected keys and values of all heads, (..., H, S, D) each; `key` is `value` when None."""
        keys = self.project_heads(self.key_projection, value if key is None else key)
        return keys, self.project_heads(self.value_projection, value)

    # `project_heads` and `project_contexts` have one reshape for the rows and the heads. With `shapes.on_rows`, which
    # restores the axes of x, they would have two, and the layer 20 operations more in a graph of unknown sizes.

    def project_heads(self, projection: keras.layers.Dense, x):
        """Return a projection of x (..., S, any) for all heads, (..., H, S, D)."""
        outputs = projection(ops.reshape(x, (-1, x.shape[-1])))  # (rows, H D)
        return ops.swapaxes(reshape(outputs, (*sizes_of(x)[:-1], self.num_heads, self.key_dim)), -2, -3)

    def project_contexts(self, contexts):
        """Return the projected contexts of all heads side by side: (..., H, Q, D) -> (..., Q, M)."""
        x = ops.swapaxes(contexts, -2, -3)  # (..., Q, H, D)
        outputs = self.output_projection(ops.reshape(x, (-1, x.shape[-2] * x.shape[-1])))
        return reshape(outputs, (*sizes_of(x)[:-2], outputs.shape[-1]))

    def compute_output_spec(self, query, value=None, *_: object, return_attention_scores=False, **__: object):
        """Return shapes and dtypes of the outputs."""
        length = (query if value is None else value).shape[-2]
        scores_shape = (*query.shape[:-2], self.num_heads, query.shape[-2], length)
        return output_specs(self, query.shape, scores_shape if return_attention_scores else None)


def value_and_mask(query, value, query_mask, value_mask) -> tuple:
    """Return `value` and `value_mask`; in self-attention, where `value` is None, the query and its mask.

    Example:
        >>> value_and_mask("the query", None, "its mask", None)
        ('the query', 'its mask')
    """
    if value is not None:
        return value, value_mask
    return query, query_mask if value_mask is None else value_mask
