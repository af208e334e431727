"""Multi-head attention: H scaled dot-product attentions side by side, each over D of the features."""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.attention import align_mask, attend, dot_scores
from keras_attention.layers.shapes import merge_heads, split_heads


@keras.saving.register_keras_serializable("keras_attention")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention, self or cross.

    For each head h: context_h = softmax(Q_h K_h' / sqrt(D) + bias) V_h with Q = query W_q + b_q, K = memory
    W_k + b_k and V = memory W_v + b_v; the answer is [context_1 ... context_H] W_o + b_o.

    Args:
        num_heads: H.
        key_dim: D, the width of a head.
        use_bias: add the vectors b.
        dropout: probability of dropping an attention weight, in training.
        kernel_initializer: of the four projections. Glorot's looks at W_q, W_k and W_v as one matrix: they begin
            smaller by sqrt(2), with which a post-norm stack learns much sooner.

    Call arguments:
        query: (..., Q, M).
        memory: (..., S, any); the query itself when absent (self-attention).
        mask: (B, S) or (B, Q, S) boolean, True = may be looked at.
        bias: added to the scores, broadcastable to (B, H, Q, S).
        projected: what `project_memory(memory)` gave; computed here when absent.
        return_attention_scores: answer the weights; without them the backend's fused kernel may run.
        training: whether dropout is active.

    Output:
        context (..., Q, M), and weights (..., H, Q, S) in float32, or [] where they were not asked for. A
        fully masked row of weights is all zero.

    Raises:
        ValueError: a size that is not positive.

    Example:
        >>> layer = MultiHeadAttention(num_heads=3, key_dim=5)
        >>> context, weights = layer(keras.ops.ones((2, 7, 15)), return_attention_scores=True)
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 7, 15), (2, 3, 7, 7))

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.2.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        use_bias: bool = True,
        dropout: float = 0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads <= 0 or key_dim <= 0:
            raise ValueError(f"`num_heads` is {num_heads} and `key_dim` {key_dim}; expected positive integers.")
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.num_heads, self.key_dim, self.use_bias, self.dropout = num_heads, key_dim, use_bias, dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        fused = self.kernel_initializer
        if isinstance(fused, keras.initializers.GlorotUniform):
            fused = keras.initializers.VarianceScaling(0.5, "fan_avg", "uniform")
        self.query_projection, self.key_projection, self.value_projection = (
            self._dense(num_heads * key_dim, name, fused) for name in ("query", "key", "value")
        )
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _dense(self, units: int, name: str, initializer: keras.initializers.Initializer) -> keras.layers.Dense:
        return keras.layers.Dense(
            units, use_bias=self.use_bias, kernel_initializer=initializer.clone(), dtype=self.dtype_policy, name=name
        )

    def build(self, query_shape, memory_shape=None) -> None:
        """Create the weights, for inputs of these shapes."""
        memory_shape = memory_shape or query_shape
        self.query_projection.build(query_shape)
        self.key_projection.build(memory_shape)
        self.value_projection.build(memory_shape)
        self.output_projection = self._dense(query_shape[-1], "output", self.kernel_initializer)
        self.output_projection.build((*query_shape[:-1], self.num_heads * self.key_dim))

    def project_query(self, query):
        """Return the queries (..., H, Q, D) of (..., Q, M)."""
        return split_heads(self.query_projection(query), self.num_heads)

    def project_memory(self, memory):
        """Return the keys and values (..., H, S, D) of a memory (..., S, any)."""
        projected = self.key_projection(memory), self.value_projection(memory)
        return tuple(split_heads(x, self.num_heads) for x in projected)

    def fuse_projections(self):
        """Return [W_q W_k W_v] (M, 3 H D) and [b_q b_k b_v] or None: one product for all three, step by step."""
        layers = (self.query_projection, self.key_projection, self.value_projection)
        kernel = ops.concatenate([ops.cast(layer.kernel, self.compute_dtype) for layer in layers], axis=1)
        bias = ops.concatenate([layer.bias for layer in layers], axis=0) if self.use_bias else None
        return kernel, bias

    def project_all(self, inputs, fused):
        """Return queries, keys and values (..., H, L, D) of inputs (..., L, M), through fused projections."""
        kernel, bias = fused
        projected = ops.matmul(inputs, kernel)
        projected = projected if bias is None else projected + ops.cast(bias, projected.dtype)
        return [split_heads(x, self.num_heads) for x in ops.split(projected, 3, axis=-1)]

    def call(
        self, query, memory=None, mask=None, bias=None, projected=None, return_attention_scores=False, training=False
    ):
        """Compute the output; the class describes arguments and shapes."""
        keys, values = projected or self.project_memory(query if memory is None else memory)
        return self.look(self.project_query(query), keys, values, mask, bias, return_attention_scores, training)

    def look(self, query, keys, values, mask=None, bias=None, return_attention_scores=False, training=False):
        """Compute the output from projected queries (..., H, Q, D), keys and values (..., H, S, D)."""
        dropping = self.dropout > 0 and training
        if _can_fuse(query) and not (return_attention_scores or dropping):
            context, weights = _fused(query, keys, values, mask, bias), None
        else:
            context, weights = self._attend(query, keys, values, mask, bias, training)
        return self.output_projection(merge_heads(context)), weights if return_attention_scores else []

    def _attend(self, query, keys, values, mask, bias, training):
        scores = dot_scores(query, keys)
        if bias is not None:
            scores = scores + bias
        if not (self.dropout and training):
            return attend(scores, values, mask)
        return attend(scores, values, mask, lambda weights: self.dropout_layer(weights, training=training))

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(self, query, memory=None, *_: object, return_attention_scores=False, **__: object):
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
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _can_fuse(query) -> bool:
    """JAX has a kernel of its own, but on a CPU none for float16."""
    if keras.backend.backend() != "jax" or len(query.shape) != 4:
        return False
    import jax

    return query.dtype != "float16" or jax.default_backend() != "cpu"


def _fused(query, keys, values, mask, bias):
    """The backend's own kernel: the same numbers, but the weights never leave it."""
    query, keys, values = (ops.swapaxes(x, 1, 2) for x in (query, keys, values))
    mask = align_mask(mask, 4)
    context = ops.swapaxes(ops.dot_product_attention(query, keys, values, bias=bias, mask=mask), 1, 2)
    if mask is None:
        return context
    return ops.where(ops.any(mask, axis=-1, keepdims=True), context, 0.0)  # a fully masked row sees nothing
