"""Attention: logits -> masked softmax -> attention scores -> context.

    query (B, Q, D) --+
                      +--> logits (B, Q, S) --> masked softmax --> scores (B, Q, S) --+
    key (B, S, D) ----+                         mask (B, S)                           +--> context (B, Q, M)
    value (B, S, M) ------------------------------------------------------------------+

B batch, Q query length, S source length, D width of the projected queries and keys (of one head), M model width. With H
heads, the axis H follows B. `masks.py` explains the masks. The functions compute attention; the layers
add projections. `project_keys` is separate from `call`, so that a decoder projects its source once, not at each step.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import missing_method, require_positive_integer
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import NOT_ALLOWED, scores_mask
from keras_attention.layers.shapes import on_rows, output_specs


def additive_logits(query, keys, vector):
    """Compare every query with every key: logits[q, s] = v' tanh(query[q] + keys[s]).

    Args:
        query: (B, Q, D) projected queries.
        keys: (B, S, D) projected keys.
        vector: (D,) the vector v.

    Returns:
        (B, Q, S) logits, in the dtype of the inputs.

    Example:
        >>> logits = additive_logits(keras.ops.ones((2, 3, 7)), keras.ops.ones((2, 5, 7)), keras.ops.ones((7,)))
        >>> tuple(logits.shape)
        (2, 3, 5)

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.
    """
    hidden = ops.tanh(ops.expand_dims(query, 2) + ops.expand_dims(keys, 1))  # (B, Q, S, D)
    return ops.squeeze(ops.matmul(hidden, ops.expand_dims(vector, -1)), -1)


def dot_logits(query, keys, scaled: bool = True):
    """Compare every query with every key: logits[q, s] = query[q] . keys[s], divided by sqrt(D) if `scaled`.

    Args:
        query: (..., Q, D) queries.
        keys: (..., S, D) keys.
        scaled: divide by sqrt(D).

    Returns:
        (..., Q, S) logits, in the dtype of the inputs.

    Example:
        >>> tuple(dot_logits(keras.ops.ones((2, 3, 7)), keras.ops.ones((2, 5, 7))).shape)
        (2, 3, 5)

    Reference: Luong et al., 2015, https://arxiv.org/abs/1508.04025 (plain);
    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (scaled).
    """
    query = divide_by_root_width(query) if scaled else query
    return ops.matmul(query, ops.swapaxes(keys, -1, -2))


def divide_by_root_width(x):
    """Return x (..., D) / sqrt(D), so that the variance of the logits of scaled attention does not grow with D.

    Example:
        >>> divide_by_root_width(np.array([2.0, 4.0, 6.0, 8.0])).tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    return x / float(x.shape[-1]) ** 0.5


def masked_softmax(logits, mask=None, for_decoding: bool = False):
    """Return attention scores, the softmax over the last axis, in float32; masked positions are exactly 0.

    Args:
        logits: (..., S).
        mask: boolean, broadcastable to `logits`; True = may be attended to.
        for_decoding: the logits are those of one decoding step. The softmax is computed with elementary operations,
            because that of TensorFlow has a high overhead for the small inputs of a step.

    Returns:
        (..., S) float32. They sum to 1 over S, or to 0 if all positions are masked.

    Example:
        >>> scores = masked_softmax(keras.ops.zeros((1, 3)), keras.ops.array([[True, True, False]]))
        >>> keras.ops.convert_to_numpy(scores).tolist()
        [[0.5, 0.5, 0.0]]
    """
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] == 0:
        return logits  # there is nothing to attend to, and no maximum
    if mask is not None:
        mask = ops.cast(mask, "bool")
        logits = ops.where(mask, logits, NOT_ALLOWED)
    if for_decoding:
        powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
        scores = powers / ops.sum(powers, axis=-1, keepdims=True)
    else:
        scores = ops.softmax(logits, axis=-1)
    return scores if mask is None else ops.where(mask, scores, 0.0)


def soft_attend(logits, values, mask=None, dropout_fn=None):
    """Return the weighted sum of values: context[q] = sum_s scores[q, s] values[s] with scores = softmax(logits).

    Args:
        logits: (B, ..., Q, S), such as (B, H, Q, S) for H heads.
        values: (B, ..., S, M).
        mask: padding mask (B, S) or attention mask (B, Q, S), True = may be attended to; B may be 1.
        dropout_fn: function that applies dropout to the scores. The returned scores are without dropout.

    Returns:
        context (B, ..., Q, M) in the dtype of `values`, and the scores (B, ..., Q, S) in float32.

    Example:
        >>> context, scores = soft_attend(keras.ops.zeros((2, 3, 5)), keras.ops.ones((2, 5, 7)))
        >>> tuple(context.shape), tuple(scores.shape)
        ((2, 3, 7), (2, 3, 5))
    """
    scores = masked_softmax(logits, align_mask(mask, len(logits.shape)))
    dropped = scores if dropout_fn is None else dropout_fn(scores)
    return ops.matmul(ops.cast(dropped, values.dtype), values), scores


def hard_attend(logits, values, mask=None, noise=None):
    """Return one value per query.

        s[q] = argmax_s(log softmax(logits)[q, s] + noise[q, s])
        context[q] = values[s[q]]

    With Gumbel noise, the position is a sample from the softmax. Without noise, it is the most probable position. No
    gradient flows from the context to the logits.

    Args:
        logits: (B, Q, S).
        values: (B, S, M).
        mask: padding mask (B, S) or attention mask (B, Q, S), True = may be attended to.
        noise: (B, Q, S), or None.

    Returns:
        context (B, Q, M) in the dtype of `values`, and the scores (B, Q, S) in float32.

    Example:
        >>> context, _ = hard_attend(keras.ops.array([[[0.0, 2.0]]]), keras.ops.array([[[3.0], [5.0]]]))
        >>> keras.ops.convert_to_numpy(context).tolist()
        [[[5.0]]]

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, section 4.1; Maddison et al., 2014 (sampling with
    Gumbel noise), https://arxiv.org/abs/1411.0030.
    """
    scores = masked_softmax(logits, align_mask(mask, len(logits.shape)))  # (B, Q, S)
    chosen = chosen_positions(scores, noise)  # s[q], one-hot (B, Q, S)
    chosen = chosen * ops.cast(scores > 0, "float32")  # all 0 if all positions are masked
    return ops.matmul(ops.cast(chosen, values.dtype), values), scores


def chosen_positions(scores, noise=None):
    """Return the positions that `hard_attend` selects, as one-hot vectors (B, Q, S) in float32."""
    if scores.shape[-1] == 0:
        return scores
    noisy = log_scores(scores) if noise is None else log_scores(scores) + ops.cast(noise, "float32")  # (B, Q, S)
    best = ops.argmax(noisy, axis=-1, keepdims=True)  # (B, Q, 1)
    return ops.cast(ops.equal(ops.arange(ops.shape(scores)[-1], dtype=best.dtype), best), "float32")


def log_scores(scores):
    """Return log(scores), which is about -69 for masked positions, so that sums remain finite."""
    return ops.log(ops.maximum(scores, 1e-30))


def align_mask(mask, rank: int):
    """Insert axes into a padding or attention mask, so that it broadcasts to logits (B, ..., Q, S) of this rank."""
    while mask is not None and len(mask.shape) < rank:
        mask = ops.expand_dims(mask, 1)
    return mask


class OneHead:
    """Mixin of the attention layers with one head; calls `self.make_dense` of `BaseLayer`.

        query --> project_query --+
                                  +--> logits --> attend --> context and scores
        key   --> project_keys ---+

    A subclass calls this constructor and defines `logits`, which differs between the layers. All else is here.
    """

    def __init__(self, units: int | None, hard: bool, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.hard = units, hard
        self.query_projection = self.key_projection = None
        if units is not None:
            self.query_projection, self.key_projection = (
                self.make_dense(units, name, "glorot_uniform", use_bias=False) for name in ("query", "key")
            )

    def build(self, query_shape, value_shape, key_shape=None) -> None:
        """Create the weights of the projections, if there are any."""
        if self.units is not None:
            self.query_projection.build(query_shape)
            self.key_projection.build(key_shape or value_shape)

    def project_query(self, query):
        """Return the projected queries W query, (B, Q, D); `query` without projections."""
        return query if self.query_projection is None else on_rows(self.query_projection, query)

    def project_keys(self, key):
        """Return the projected keys U key, (B, S, D), which do not depend on the query; `key` without projections."""
        return key if self.key_projection is None else self.key_projection(key)

    def logits(self, query, projected_keys):
        """Return the logits (B, Q, S) of queries (B, Q, any) and projected keys (B, S, D)."""
        raise missing_method(self, "logits")

    def attend(self, logits, value, mask=None, noise=None):
        """Return the context (B, Q, M) and the scores (B, Q, S) of `hard_attend` or `soft_attend`."""
        if self.hard:
            return hard_attend(logits, value, mask, noise)
        if noise is not None:
            raise ValueError(
                "`noise` was passed, but `hard` is False; expected None. Omit it, or create the layer with hard=True."
            )
        return soft_attend(logits, value, mask)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        projected_keys=None,
        noise=None,
    ):
        """Compute the outputs; see the docstring of the subclass."""
        mask = scores_mask(query, value, key, value_mask, key_mask, attention_mask, use_causal_mask)  # (B, Q, S)
        if projected_keys is None:
            projected_keys = self.project_keys(value if key is None else key)  # (B, S, D)
        context, scores = self.attend(self.logits(query, projected_keys), value, mask, noise)
        return (context, scores) if return_attention_scores else context

    def compute_output_spec(self, query, value, *_: object, return_attention_scores=False, **__: object):
        """Return shapes and dtypes of the outputs."""
        scores_shape = (*query.shape[:-1], value.shape[1]) if return_attention_scores else None
        return output_specs(self, (*query.shape[:-1], value.shape[-1]), scores_shape)


@keras.saving.register_keras_serializable("keras_attention")
class AdditiveAttention(OneHead, BaseLayer):
    """Additive attention: logits[q, s] = v' tanh(W query[q] + U key[s]).

    The context is the weighted mean of the values: context[q] = sum_s softmax(logits)[q, s] value[s].

    Args:
        units: D, the width of the projected queries and keys.
        hard: return the value of one position instead of the weighted mean; see `hard_attend`.

    Call arguments:
        query: (B, Q, any).
        value: (B, S, M).
        key: (B, S, any); `value` when None.
        query_mask, value_mask, key_mask, attention_mask, use_causal_mask: as in `keras.layers.MultiHeadAttention`; see
            `scores_mask`, which combines them. The output gets the implicit mask of `query`.
        return_attention_scores: also return the scores.
        training: not used.
        projected_keys: (B, S, D), the result of `project_keys`, so that a decoder computes it once; computed from
            `key` when None.
        noise: (B, Q, S), Gumbel noise for sampling with hard attention.

    Output:
        context (B, Q, M). With `return_attention_scores`, the pair (context, scores): scores (B, Q, S) are float32, and
        those of a query sum to 1, or to 0 if it may attend to no position.

    Raises:
        ValueError: `units` is not a positive integer, a mask has other lengths than Q and S, or `noise` was passed
            while `hard` is False.
        TypeError: a mask has floats.

    Example:
        >>> layer = AdditiveAttention(7)
        >>> context, scores = layer(
        ...     keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 11, 13)), return_attention_scores=True)
        >>> tuple(context.shape), tuple(scores.shape)
        ((2, 3, 13), (2, 3, 11))

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473.
    """

    def __init__(self, units: int, hard: bool = False, **kwargs) -> None:
        require_positive_integer("units", units)
        super().__init__(units, hard, **kwargs)

    def build(self, query_shape, value_shape, key_shape=None) -> None:
        """Create the weights."""
        super().build(query_shape, value_shape, key_shape)
        self.vector = self.add_weight(shape=(self.units,), initializer=_vector_initializer, name="vector")

    def logits(self, query, projected_keys):
        """Return the logits (B, Q, S) of queries (B, Q, any) and projected keys (B, S, D)."""
        vector = ops.cast(self.vector, self.compute_dtype)  # not in `call`, Keras does not cast it
        return additive_logits(self.project_query(query), projected_keys, vector)


@keras.saving.register_keras_serializable("keras_attention")
class DotProductAttention(OneHead, BaseLayer):
    """Dot-product attention: logits[q, s] = (W query[q]) . (U key[s]), divided by sqrt(D) if `scaled`.

    The context is the weighted mean of the values: context[q] = sum_s softmax(logits)[q, s] value[s].

    Args:
        units: D, the width of the projections; None for no projections; then queries and keys need the same width.
        scaled: divide the logits by sqrt(D).
        hard: return the value of one position instead of the weighted mean; see `hard_attend`.

    Call arguments:
        query: (B, Q, any).
        value: (B, S, M).
        key: (B, S, any); `value` when None.
        projected_keys (B, S, D), noise (B, Q, S), and all others: as in `AdditiveAttention`.

    Output:
        context (B, Q, M). With `return_attention_scores`, the pair (context, scores): scores (B, Q, S) are float32, and
        those of a query sum to 1, or to 0 if it may attend to no position.

    Raises:
        ValueError: `units` is not a positive integer, `units` is None and the widths of query and key differ, a mask
            has other lengths than Q and S, or `noise` was passed while `hard` is False.
        TypeError: a mask has floats.

    Example:
        >>> layer = DotProductAttention()
        >>> tuple(layer(keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 7, 5))).shape)
        (2, 3, 5)

    Reference: Luong et al., 2015, https://arxiv.org/abs/1508.04025.
    """

    def __init__(self, units: int | None = None, scaled: bool = True, hard: bool = False, **kwargs) -> None:
        if units is not None:
            require_positive_integer("units", units, ", or None for no projections")
        super().__init__(units, hard, **kwargs)
        self.scaled = scaled

    def build(self, query_shape, value_shape, key_shape=None) -> None:
        """Create the weights."""
        query_dim, key_dim = query_shape[-1], (key_shape or value_shape)[-1]
        if self.units is None and query_dim != key_dim:
            raise ValueError(
                f"Queries are {query_dim} wide and keys {key_dim}; without projections both need the same width. Pass "
                "`units` to project them."
            )
        super().build(query_shape, value_shape, key_shape)

    def logits(self, query, projected_keys):
        """Return the logits (B, Q, S) of queries (B, Q, any) and projected keys (B, S, D)."""
        return dot_logits(self.project_query(query), projected_keys, self.scaled)


def _vector_initializer(shape, dtype=None):
    """Return Glorot-uniform values for a vector (D,), treated as a D x 1 matrix."""
    limit = (6.0 / (shape[0] + 1)) ** 0.5
    return keras.random.uniform(shape, -limit, limit, dtype=dtype)
