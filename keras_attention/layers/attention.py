"""The one attention: scores -> masked softmax -> context.

    query (B, Q, D) --+
                      +--> scores (B, Q, S) --> masked softmax --> weights (B, Q, S) --+
    keys (B, S, D) ---+                         mask (B, S)                            +--> context (B, Q, M)
    values (B, S, M) ------------------------------------------------------------------+

B batch, Q query length, S source length, D score width, M memory width; with several heads, H of them
stand between B and the lengths. A mask is boolean, True
where a position may be looked at. The free functions are the whole computation; a layer adds the
projections. `project_keys` is separate from the call, so that a decoder projects its source once
and not once per step.
"""

from __future__ import annotations

import keras
from keras import ops


def additive_scores(query, keys, vector):
    """Score every query against every key: score[q, s] = v' tanh(query[q] + keys[s]).

    Args:
        query: (B, Q, D) projected queries.
        keys: (B, S, D) projected keys.
        vector: (D,) the vector v.

    Returns:
        (B, Q, S) scores, in the dtype of the inputs.

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.
    """
    hidden = ops.tanh(ops.expand_dims(query, 2) + ops.expand_dims(keys, 1))  # (B, Q, S, D)
    return ops.squeeze(ops.matmul(hidden, ops.expand_dims(vector, -1)), -1)


def dot_scores(query, keys, scaled: bool = True):
    """Score every query against every key: score[q, s] = query[q] . keys[s] (/ sqrt(D)).

    Args:
        query: (..., Q, D) queries.
        keys: (..., S, D) keys.
        scaled: divide by sqrt(D).

    Returns:
        (..., Q, S) scores, in the dtype of the inputs.

    Reference: Luong et al., 2015, https://arxiv.org/abs/1508.04025 (plain);
    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (scaled).
    """
    if scaled:
        query = query / float(query.shape[-1]) ** 0.5
    return ops.matmul(query, ops.swapaxes(keys, -1, -2))


def masked_softmax(scores, mask=None):
    """Softmax over the last axis, in float32, giving masked positions exactly zero.

    Args:
        scores: (..., S) scores.
        mask: boolean, broadcastable to `scores`; True where a position may be looked at.

    Returns:
        (..., S) float32 weights. Each row sums to 1, or to 0 where the mask allows nothing.
    """
    scores = ops.cast(scores, "float32")
    if mask is None:
        return ops.softmax(scores, axis=-1)
    mask = ops.cast(mask, "bool")
    weights = ops.softmax(ops.where(mask, scores, -1e30), axis=-1)
    return ops.where(mask, weights, 0.0)


def attend(scores, values, mask=None, dropout_fn=None):
    """Turn scores into a weighted sum of values: context[q] = sum_s softmax(scores)[q, s] values[s].

    Args:
        scores: (B, ..., Q, S) scores, such as (B, H, Q, S) for H heads.
        values: (B, ..., S, M) what is summed.
        mask: (B, S) or (B, Q, S) boolean, True where a position may be looked at; 1 for B serves all.
        dropout_fn: dropout, a function of the weights; it does not change the weights that are answered.

    Returns:
        context (B, ..., Q, M) in the dtype of `values`, and weights (B, ..., Q, S) in float32.
    """
    weights = masked_softmax(scores, align_mask(mask, len(scores.shape)))
    used = weights if dropout_fn is None else dropout_fn(weights)
    return ops.matmul(ops.cast(used, values.dtype), values), weights


def hard_attend(scores, values, mask=None, noise=None):
    """Turn scores into one chosen value per query: context[q] = values[argmax_s(log softmax(scores)[q, s] + noise)].

    With noise from `gumbel_noise` the choice is a draw from the softmax; without it, the likeliest. No gradient
    flows from the context to the scores.

    Args:
        scores: (B, Q, S) scores.
        values: (B, S, M) what is chosen from.
        mask: (B, S) or (B, Q, S) boolean, True where a position may be looked at.
        noise: (B, Q, S), or None.

    Returns:
        context (B, Q, M) in the dtype of `values`, and the softmax's weights (B, Q, S) in float32.

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, section 4.1; Maddison et al., 2014 (drawing by
    Gumbel noise), https://arxiv.org/abs/1411.0030.
    """
    weights = masked_softmax(scores, align_mask(mask, len(scores.shape)))
    chosen = chosen_positions(weights, noise) * ops.cast(weights > 0, "float32")  # nothing, where all is masked
    return ops.matmul(ops.cast(chosen, values.dtype), values), weights


def chosen_positions(weights, noise=None):
    """Return (B, Q, S) float32, 1 where weights (B, Q, S) and noise, if any, choose; see `hard_attend`."""
    chances = ops.log(ops.maximum(weights, 1e-30))
    chances = chances if noise is None else chances + ops.cast(noise, "float32")
    best = ops.argmax(chances, axis=-1, keepdims=True)
    return ops.cast(ops.equal(ops.arange(ops.shape(weights)[-1], dtype=best.dtype), best), "float32")


def align_mask(mask, rank: int):
    """Give a mask (B, S) or (B, Q, S) the rank of the scores (B, ..., Q, S) that it belongs to."""
    if mask is None:
        return None
    if len(mask.shape) == 2:
        mask = ops.expand_dims(mask, 1)
    while len(mask.shape) < rank:
        mask = ops.expand_dims(mask, 1)
    return mask


@keras.saving.register_keras_serializable("keras_attention")
class AdditiveAttention(keras.layers.Layer):
    """Additive attention: score[q, s] = v' tanh(W query[q] + U memory[s]).

    Args:
        units: D, the width in which queries and keys are compared.
        hard: the context is one value, drawn or the likeliest, and not the mean of all; see `hard_attend`.

    Call arguments:
        query: (B, Q, any).
        memory: (B, S, M), the values.
        mask: (B, S) or (B, Q, S) boolean, True = may be looked at.
        keys: (B, S, D), what `project_keys(memory)` gave; computed here when absent.
        noise: (B, Q, S) for a hard attention, which draws with it.

    Output:
        context (B, Q, M) and weights (B, Q, S) in float32. A fully masked row is all zero.

    Raises:
        ValueError: `units` is not positive.

    Example:
        >>> layer = AdditiveAttention(7)
        >>> context, weights = layer(keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 11, 13)))
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 3, 13), (2, 3, 11))

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473.
    """

    def __init__(self, units: int, hard: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        if units <= 0:
            raise ValueError(f"`units` is {units}; expected a positive integer.")
        self.units, self.hard = units, hard
        self.query_projection = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name="query")
        self.key_projection = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name="key")

    def build(self, query_shape, memory_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.query_projection.build(query_shape)
        self.key_projection.build(memory_shape)
        self.vector = self.add_weight(shape=(self.units,), initializer=_vector_initializer, name="vector")

    def project_keys(self, memory):
        """Return U memory, (B, S, D): the part of the score that does not depend on the query."""
        return self.key_projection(memory)

    def call(self, query, memory, mask=None, keys=None, noise=None):
        """Compute the output; the class describes arguments and shapes."""
        keys = self.project_keys(memory) if keys is None else keys
        scores = additive_scores(self.query_projection(query), keys, self.vector)
        return hard_attend(scores, memory, mask, noise) if self.hard else attend(scores, memory, mask)

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_shape(self, query_shape, memory_shape):
        """Return the shapes of the outputs."""
        return _output_shapes(query_shape, memory_shape)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {**super().get_config(), "units": self.units, "hard": self.hard}


@keras.saving.register_keras_serializable("keras_attention")
class DotProductAttention(keras.layers.Layer):
    """Dot-product attention: score[q, s] = (W query[q]) . (U memory[s]) (/ sqrt(D)).

    Args:
        units: D, the width of the projections; None for none, when query and memory are compared
            as they are and need the same width.
        scaled: divide the scores by sqrt(D).

    Call arguments:
        query: (B, Q, any).
        memory: (B, S, M), the values.
        mask: (B, S) or (B, Q, S) boolean, True = may be looked at.
        keys: (B, S, D), what `project_keys(memory)` gave; computed here when absent.

    Output:
        context (B, Q, M) and weights (B, Q, S) in float32. A fully masked row is all zero.

    Raises:
        ValueError: `units` is None and the two widths differ.

    Example:
        >>> layer = DotProductAttention()
        >>> context, weights = layer(keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 7, 5)))
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 3, 5), (2, 3, 7))

    Reference: Luong et al., 2015, https://arxiv.org/abs/1508.04025.
    """

    def __init__(self, units: int | None = None, scaled: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.units, self.scaled = units, scaled
        self.query_projection = self.key_projection = None
        if units is not None:
            self.query_projection = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name="query")
            self.key_projection = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name="key")

    def build(self, query_shape, memory_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        if self.units is not None:
            self.query_projection.build(query_shape)
            self.key_projection.build(memory_shape)
        elif query_shape[-1] != memory_shape[-1]:
            raise ValueError(
                f"Queries are {query_shape[-1]} wide and the memory {memory_shape[-1]}; without projections "
                "both need the same width. Pass `units` to project them."
            )

    def project_keys(self, memory):
        """Return U memory, (B, S, D); the memory itself where there is no projection."""
        return memory if self.units is None else self.key_projection(memory)

    def call(self, query, memory, mask=None, keys=None):
        """Compute the output; the class describes arguments and shapes."""
        keys = self.project_keys(memory) if keys is None else keys
        query = query if self.units is None else self.query_projection(query)
        return attend(dot_scores(query, keys, self.scaled), memory, mask)

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_shape(self, query_shape, memory_shape):
        """Return the shapes of the outputs."""
        return _output_shapes(query_shape, memory_shape)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {**super().get_config(), "units": self.units, "scaled": self.scaled}


def _vector_initializer(shape, dtype=None):
    """Glorot's range for a (D,) vector seen as the D x 1 matrix that it is."""
    limit = (6.0 / (shape[0] + 1)) ** 0.5
    return keras.random.uniform(shape, -limit, limit, dtype=dtype)


def _output_shapes(query_shape, memory_shape):
    return (*query_shape[:-1], memory_shape[-1]), (*query_shape[:-1], memory_shape[1])
