"""Multi-head attention: H scaled dot-product attentions in parallel, each of width D."""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.attention import align_mask, dot_logits, soft_attend
from keras_attention.layers.attention_heads import AttentionHeads, value_and_mask
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import scores_mask


@keras.saving.register_keras_serializable("keras_attention")
class MultiHeadAttention(AttentionHeads, BaseLayer):
    """Multi-head attention, self or cross.

    For each head h: context_h = softmax(q_h k_h' / sqrt(D)) v_h with q = query W_q + b_q, k = key W_k + b_k and
    v = value W_v + b_v; the output is [context_1 ... context_H] W_o + b_o.

    Args:
        num_heads: H.
        key_dim: D, the width of a head.
        dropout: probability of dropping an attention score, in training.
        use_bias: add the vectors b.
        kernel_initializer: initializer of the four projections. None for `"glorot_uniform"`, but with W_q, W_k and W_v
            as one matrix: their initial values are smaller by sqrt(2), and the loss of a post-norm stack falls much
            sooner.

    Call arguments:
        query: (B, Q, M).
        value: (B, S, any); `query` when None (self-attention).
        key: (B, S, any); `value` when None.
        query_mask, value_mask, key_mask, attention_mask, use_causal_mask: as in `keras.layers.MultiHeadAttention`; see
            `scores_mask`, which combines them. The output gets the implicit mask of `query`.
        return_attention_scores: also return the scores; without them, the backend's fused kernel may run.
        training: whether dropout is active.

    Output:
        context (B, Q, M). With `return_attention_scores`, the pair (context, scores): scores (B, H, Q, S) are float32,
        and those of a query sum to 1, or to 0 if it may attend to no position.

    Raises:
        ValueError: `num_heads` or `key_dim` is not a positive integer, or a mask has other lengths than Q and S.
        TypeError: a mask has floats.

    Example:
        >>> layer = MultiHeadAttention(num_heads=3, key_dim=5)
        >>> model = keras.Sequential([keras.layers.Embedding(11, 15, mask_zero=True), layer])
        >>> tuple(model(keras.ops.array([[7, 2, 0]])).shape)
        (1, 3, 15)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.2.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer=None,
        **kwargs,
    ) -> None:
        super().__init__(num_heads, key_dim, dropout, use_bias, kernel_initializer, **kwargs)
        input_initializer = output_initializer = self.kernel_initializer
        if kernel_initializer is None:
            output_initializer = keras.initializers.GlorotUniform()
            input_initializer = keras.initializers.VarianceScaling(0.5, "fan_avg", "uniform")
        self.make_layers(input_initializer, output_initializer)

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
    ):
        """Compute the outputs; see the class docstring."""
        value, value_mask = value_and_mask(query, value, query_mask, value_mask)
        mask = scores_mask(query, value, key, value_mask, key_mask, attention_mask, use_causal_mask)
        query = self.project_query(query)  # (B, H, Q, D)
        keys, values = self.project_key_value(value, key)  # (B, H, S, D) each
        dropout_fn = self.dropout_layer.function(bool(training))
        if _can_fuse(query) and dropout_fn is None and not return_attention_scores:
            return self.project_contexts(_fused_attention(query, keys, values, mask))
        contexts, scores = soft_attend(dot_logits(query, keys), values, mask, dropout_fn)  # (B, H, Q, D), (B, H, Q, S)
        outputs = self.project_contexts(contexts)
        return (outputs, scores) if return_attention_scores else outputs


def _can_fuse(query) -> bool:
    """Return whether the backend has a fused kernel for this query: JAX has one, except for float16 on a CPU."""
    if keras.backend.backend() != "jax" or len(query.shape) != 4:
        return False
    import jax

    return query.dtype != "float16" or jax.default_backend() != "cpu"


def _fused_attention(query, keys, values, mask):
    """Return the context (B, H, Q, D) from the backend's fused kernel, which does not store the scores."""
    query, keys, values = (ops.swapaxes(x, 1, 2) for x in (query, keys, values))
    mask = align_mask(mask, 4)
    context = ops.swapaxes(ops.dot_product_attention(query, keys, values, mask=mask), 1, 2)
    if mask is None:
        return context
    return ops.where(ops.any(mask, axis=-1, keepdims=True), context, 0.0)  # 0 if all positions are masked
