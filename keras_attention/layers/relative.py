"""Relative attention: multi-head attention whose scores depend on the distance between two tokens.

    logits[q, s] = ((x_q + u) . k_s  +  (x_q + v) . r_(q - s)  +  (x_q + w) . e_[same segment]) / sqrt(D)

The distance encodings r are computed and not learned, so sequences of any length are possible. u, v, w and e are
learned.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require_even
from keras_attention.layers.attention import dot_logits, soft_attend
from keras_attention.layers.attention_heads import AttentionHeads, value_and_mask
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import scores_mask
from keras_attention.layers.positions import sinusoidal_positions
from keras_attention.layers.shapes import reshape, sizes_of


def relative_encodings(queries, keys, width: int, start=None):
    """Return the encodings of all distances between Q consecutive queries and S keys: start + Q, ..., start - S + 1.

    Args:
        queries: Q, an integer or a scalar tensor.
        keys: S, an integer or a scalar tensor.
        width: M, even.
        start: the position of the first query, if the first key is at position 0; S - Q when None.

    Returns:
        (Q + S, M) float32, sines before cosines. The distances decrease: keys far before the query are first.

    Example:
        >>> tuple(relative_encodings(3, 5, 4).shape)
        (8, 4)

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860, section 3.3.
    """
    start = keys - queries if start is None else start
    return sinusoidal_positions(start + queries - ops.arange(queries + keys), width)


def relative_shift(logits):
    """Convert logits per distance to logits per key position: output[q, s] = logits[q, Q - q + s].

    Column r of `logits` has the distance start + Q - r (see `relative_encodings`); query q is at position start + q.
    The shift is a reshape to a matrix with one column less, which moves the logits of a query by one column more than
    those of the previous query.

    Args:
        logits: (..., Q, Q + S).

    Returns:
        (..., Q, S).

    Example:
        >>> logits = keras.ops.reshape(keras.ops.arange(10), (1, 2, 5))
        >>> keras.ops.convert_to_numpy(relative_shift(logits)).tolist()
        [[[2, 3, 4], [6, 7, 8]]]

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860, appendix B.
    """
    *leading_shape, queries, distances = sizes_of(logits)
    x = reshape(logits, (*leading_shape, distances, queries))[..., 1:, :]  # (..., Q + S - 1, Q)
    columns = sizes_of(x)[-2]  # Q + S - 1, or 0 for an empty sequence
    return reshape(x, (*leading_shape, queries, columns))[..., : distances - queries]


@keras.saving.register_keras_serializable("keras_attention")
class RelativeAttention(AttentionHeads, BaseLayer):
    """Multi-head attention whose scores depend on content, distance and segment.

    With x = query W_q, k = key W_k and r = encodings W_r, for each head:

        logits[q, s] = ((x_q + u) . k_s + (x_q + v) . r_(q - s) + (x_q + w) . e_c) / sqrt(D)

    c = 0 if q and s are in the same segment, else 1. The output is [context_1 ... context_H] W_o with
    context_h = softmax(logits_h) (value W_v)_h.

    Args:
        num_heads: H.
        key_dim: D, the width of a head.
        use_segments: create the vectors w and e.
        use_bias: add bias vectors in the projections of queries, keys, values and outputs.
        dropout: probability of dropping an attention score, in training.
        kernel_initializer: initializer of the projections and of u, v, w and e.

    Call arguments:
        query: (B, Q, M), M even.
        value: (B, S, M); `query` when None (self-attention). The queries are at the last Q positions of `value`.
        key: (B, S, M); `value` when None.
        query_mask, value_mask, key_mask, attention_mask, use_causal_mask: as in `keras.layers.MultiHeadAttention`; see
            `scores_mask`, which combines them. The output gets the implicit mask of `query`.
        return_attention_scores: also return the scores.
        training: whether dropout is active.
        encodings: (Q + S, M), the distance encodings; `relative_encodings(Q, S, M)` when None.
        same_segment: (B, Q, S) boolean, True = in the same segment; None for logits without the third term.

    Output:
        context (B, Q, M). With `return_attention_scores`, the pair (context, scores): scores (B, H, Q, S) are float32,
        and those of a query sum to 1, or to 0 if it may attend to no position.

    Raises:
        ValueError: `num_heads` or `key_dim` is not a positive integer, M is odd, a mask has other lengths than Q and S,
            or `same_segment` was passed while `use_segments` is False.
        TypeError: a mask has floats.

    Example:
        >>> layer = RelativeAttention(num_heads=3, key_dim=4)
        >>> model = keras.Sequential([keras.layers.Embedding(11, 12, mask_zero=True), layer])
        >>> tuple(model(keras.ops.array([[7, 2, 0]])).shape)
        (1, 3, 12)

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
        super().__init__(num_heads, key_dim, dropout, use_bias, kernel_initializer, **kwargs)
        self.use_segments = use_segments
        self.make_layers(self.kernel_initializer, self.kernel_initializer)
        self.distance_projection = self.make_dense(
            num_heads * key_dim, "distance", self.kernel_initializer, use_bias=False
        )

    def build(self, query_shape, value_shape=None, key_shape=None, encodings_shape=None) -> None:
        """Create the weights."""
        require_even("width", query_shape[-1])
        super().build(query_shape, value_shape, key_shape)
        self.distance_projection.build(encodings_shape or (None, query_shape[-1]))
        self.content_bias = self._add_vectors("content_bias")  # u
        self.distance_bias = self._add_vectors("distance_bias")  # v
        if self.use_segments:
            self.segment_bias = self._add_vectors("segment_bias")  # w
            self.segments = self._add_vectors("segments", 2)  # e

    def _add_vectors(self, name: str, *leading_shape: int):
        """Return a weight with a vector for each head, (..., H, D)."""
        shape = (*leading_shape, self.num_heads, self.key_dim)
        return self.add_weight(shape=shape, initializer=self.kernel_initializer.clone(), name=name)

    def call(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        encodings=None,
        same_segment=None,
    ):
        """Compute the outputs; see the class docstring."""
        value, value_mask = value_and_mask(query, value, query_mask, value_mask)
        mask = scores_mask(query, value, key, value_mask, key_mask, attention_mask, use_causal_mask)
        if encodings is None:
            encodings = relative_encodings(ops.shape(query)[1], ops.shape(value)[1], query.shape[-1])
        query = self.project_query(query)  # (B, H, Q, D)
        keys, values = self.project_key_value(value, key)  # (B, H, S, D) each
        distances = self.project_distances(encodings)  # (H, Q + S, D)
        outputs, scores = self.attend_projected(query, keys, values, mask, distances, same_segment, bool(training))
        return (outputs, scores) if return_attention_scores else outputs

    def project_distances(self, encodings):
        """Return the projected distance encodings: (..., M) -> (H, ..., D); they depend only on the weights."""
        return self.project_heads(self.distance_projection, ops.cast(encodings, self.compute_dtype))

    def attend_projected(self, query, keys, values, mask, distances, same_segment=None, training=False):
        """Return the output and the scores for projected queries, keys and values.

        Args:
            query: (..., H, Q, D), from `project_query`.
            keys, values: (..., H, S, D), from `project_key_value`.
            mask: padding mask (B, S) or attention mask (B, Q, S), True = may be attended to; None allows all positions.
            distances: (H, Q + S, D), from `project_distances`.
            same_segment: (B, Q, S) boolean or None.
            training: whether dropout is active.

        Returns:
            (..., Q, M), and (..., H, Q, S) float32.
        """
        content_query, distance_query = self.biased_queries(query)
        distance_logits = dot_logits(distance_query, distances)  # (..., H, Q, Q + S)
        logits = dot_logits(content_query, keys) + relative_shift(distance_logits)  # (..., H, Q, S)
        if same_segment is not None:
            logits = logits + self._segment_logits(query, same_segment)
        context, scores = soft_attend(logits, values, mask, self.dropout_layer.function(training))
        return self.project_contexts(context), scores

    def biased_queries(self, query):
        """Return x + u and x + v of projected queries x (..., H, Q, D), for the logits of keys and of distances."""
        return _add_to_heads(query, self.content_bias), _add_to_heads(query, self.distance_bias)

    def _segment_logits(self, query, same_segment):
        """Return the third term of the logits: queries (B, H, Q, D) -> (B, H, Q, S)."""
        if not self.use_segments:
            raise ValueError(
                "`same_segment` was passed, but `use_segments` is False; expected None. Omit it, or create the layer "
                "with use_segments=True."
            )
        vectors = ops.swapaxes(ops.cast(self.segments, query.dtype), 0, 1)  # (H, 2, D)
        logits = dot_logits(_add_to_heads(query, self.segment_bias), vectors)  # (B, H, Q, 2)
        return ops.where(ops.expand_dims(same_segment, 1), logits[..., :1], logits[..., 1:])


def _add_to_heads(x, bias):
    """Add one vector per head: (..., H, Q, D) + (H, D)."""
    return x + ops.expand_dims(ops.cast(bias, x.dtype), 1)
