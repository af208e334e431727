"""Attention that knows how far apart two tokens are, not where they stand.

    score[q, s] = ((x_q + u) . k_s  +  (x_q + v) . r_(q - s)  +  (x_q + w) . e_[same segment]) / sqrt(D)

The encodings r of the distances are computed, so any length will do; u, v, w and e are learned.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attention.layers.attention import attend, dot_scores
from keras_attention.layers.positions import sinusoidal_positions
from keras_attention.layers.shapes import merge_heads, reshape, sizes_of, split_heads


def relative_encodings(queries, keys, width: int, start=None):
    """Encode every distance between Q queries that stand side by side and S keys: d = start + Q, ..., start - S + 1.

    Args:
        queries: Q, an integer or a scalar tensor.
        keys: S, the same.
        width: M, even.
        start: position of the first query, the first key being at 0; S - Q when absent.

    Returns:
        (Q + S, M) float32, sines before cosines, from the key farthest behind to the one farthest ahead.

    Example:
        >>> tuple(relative_encodings(3, 5, 4).shape)
        (8, 4)

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860, section 3.3.
    """
    start = keys - queries if start is None else start
    return sinusoidal_positions(start + queries - ops.arange(queries + keys), width)


def relative_shift(scores):
    """Turn scores by distance into scores by position: output[q, s] = scores[q, Q - q + s].

    Column r of `scores` belongs to the distance start + Q - r (see `relative_encodings`), and query q stands at
    start + q. Reading the same numbers row by row, one column narrower, moves each row by one more than the last.

    Args:
        scores: (..., Q, Q + S).

    Returns:
        (..., Q, S).

    Example:
        >>> scores = keras.ops.reshape(keras.ops.arange(10), (1, 2, 5))
        >>> keras.ops.convert_to_numpy(relative_shift(scores)).tolist()
        [[[2, 3, 4], [6, 7, 8]]]

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860, appendix B.
    """
    *lead, queries, distances = sizes_of(scores)
    x = reshape(scores, (*lead, distances, queries))[..., 1:, :]
    rest = sizes_of(x)[-2]  # Q + S - 1, or 0 of nothing
    return reshape(x, (*lead, queries, rest))[..., : distances - queries]


@keras.saving.register_keras_serializable("keras_attention")
class RelativeAttention(keras.layers.Layer):
    """Multi-head attention by content, distance and segment.

    With x = query W_q, k = memory W_k and r = encodings W_r, for each head:

        score[q, s] = ((x_q + u) . k_s + (x_q + v) . r_(q - s) + (x_q + w) . e_c) / sqrt(D)

    where c says whether q and s stand in the same segment (e_0) or not (e_1). The answer is
    [context_1 ... context_H] W_o. Distances are encoded before they are projected, so any length will do.

    Args:
        num_heads: H.
        key_dim: D, the width of a head.
        use_segments: have the vectors w and e.
        use_bias: the projections of queries, keys, values and the answer add a vector.
        dropout: probability of dropping an attention weight, in training.
        kernel_initializer: of the projections and of u, v, w and e.

    Call arguments:
        query: (..., Q, M).
        encodings: (Q + S, M), from `relative_encodings`.
        memory: (..., S, M); the query itself when absent.
        mask: (B, S) or (B, Q, S) boolean, True = may be looked at.
        same_segment: (B, Q, S) boolean; all in one segment when absent.
        projected: what `project_memory(memory)` gave; computed here when absent.
        return_attention_scores: answer the weights.
        training: whether dropout is active.

    Output:
        context (..., Q, M), and weights (..., H, Q, S) in float32, or [] where they were not asked for. A fully
        masked row of weights is all zero.

    Raises:
        ValueError: a size that is not positive, or segments for a layer that has no vectors for them.

    Example:
        >>> layer = RelativeAttention(num_heads=3, key_dim=4)
        >>> inputs, encodings = keras.ops.ones((2, 7, 12)), relative_encodings(7, 7, 12)
        >>> context, weights = layer(inputs, encodings, return_attention_scores=True)
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 7, 12), (2, 3, 7, 7))

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860 (Transformer-XL); Yang et al., 2019,
    https://arxiv.org/abs/1906.08237, section 2.5 (segments).
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        use_segments: bool = True,
        use_bias: bool = False,
        dropout: float = 0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads <= 0 or key_dim <= 0:
            raise ValueError(f"`num_heads` is {num_heads} and `key_dim` {key_dim}; expected positive integers.")
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.num_heads, self.key_dim, self.use_segments = num_heads, key_dim, use_segments
        self.use_bias, self.dropout = use_bias, dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.query_projection, self.key_projection, self.value_projection = (
            self._dense(num_heads * key_dim, name, use_bias) for name in ("query", "key", "value")
        )
        self.distance_projection = self._dense(num_heads * key_dim, "distance", False)
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _dense(self, units: int, name: str, use_bias: bool) -> keras.layers.Dense:
        initializer = self.kernel_initializer.clone()
        return keras.layers.Dense(
            units, use_bias=use_bias, kernel_initializer=initializer, dtype=self.dtype_policy, name=name
        )

    def _vectors(self, name: str, *lead: int):
        initializer, shape = self.kernel_initializer.clone(), (*lead, self.num_heads, self.key_dim)
        return self.add_weight(shape=shape, initializer=initializer, name=name)

    def build(self, query_shape, encodings_shape=None, memory_shape=None, **_: Any) -> None:
        """Create the weights, for inputs of these shapes."""
        memory_shape = memory_shape or query_shape
        self.query_projection.build(query_shape)
        self.key_projection.build(memory_shape)
        self.value_projection.build(memory_shape)
        self.distance_projection.build(encodings_shape or (None, query_shape[-1]))
        self.output_projection = self._dense(query_shape[-1], "output", self.use_bias)
        self.output_projection.build((*query_shape[:-1], self.num_heads * self.key_dim))
        self.content_bias, self.distance_bias = self._vectors("content_bias"), self._vectors("distance_bias")
        if self.use_segments:
            self.segment_bias, self.segments = self._vectors("segment_bias"), self._vectors("segments", 2)

    def project_memory(self, memory):
        """Return the keys and values (..., H, S, D) of a memory (..., S, M)."""
        projected = self.key_projection(memory), self.value_projection(memory)
        return tuple(split_heads(x, self.num_heads) for x in projected)

    def call(
        self,
        query,
        encodings,
        memory=None,
        mask=None,
        same_segment=None,
        projected=None,
        return_attention_scores=False,
        training=False,
    ):
        """Compute the output; the class describes arguments and shapes."""
        keys, values = projected or self.project_memory(query if memory is None else memory)
        x = split_heads(self.query_projection(query), self.num_heads)
        distances = self.distance_projection(ops.cast(encodings, x.dtype))
        distances = split_heads(distances, self.num_heads)  # (H, Q + S, D)
        scores = dot_scores(_shifted(x, self.content_bias), keys)
        scores = scores + relative_shift(dot_scores(_shifted(x, self.distance_bias), distances))
        if same_segment is not None:
            scores = scores + self._segment_scores(x, same_segment)
        dropout_fn = None
        if self.dropout and training:
            dropout_fn = lambda weights: self.dropout_layer(weights, training=training)  # noqa: E731
        context, weights = attend(scores, values, mask, dropout_fn)
        return self.output_projection(merge_heads(context)), weights if return_attention_scores else []

    def _segment_scores(self, x, same):
        """Score (B, H, Q, D) by whether (B, Q, S) are in the same segment."""
        if not self.use_segments:
            raise ValueError("`same_segment` was given, but `use_segments` is False; make the layer with True.")
        vectors = ops.swapaxes(ops.cast(self.segments, x.dtype), 0, 1)  # (H, 2, D)
        scores = dot_scores(_shifted(x, self.segment_bias), vectors)  # (B, H, Q, 2)
        return ops.where(ops.expand_dims(same, 1), scores[..., :1], scores[..., 1:])

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(
        self, query, encodings=None, memory=None, *_: object, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        context = keras.KerasTensor(query.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return context, []
        length = (query if memory is None else memory).shape[-2]
        shape = (*query.shape[:-2], self.num_heads, query.shape[-2], length)
        return context, keras.KerasTensor(shape, dtype="float32")

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "use_segments": self.use_segments,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _shifted(x, bias):
    """Add (H, D) to (..., H, Q, D)."""
    return x + ops.expand_dims(ops.cast(bias, x.dtype), 1)
