"""The Transformer block: attention and a feed-forward network, each in a residual branch.

`call` runs the branches over a whole sequence. To generate text, `decoding/blocks.py` runs the same branches over one
token at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_attention.argument_checks import require_positive_integers
from keras_attention.layers.base import BaseLayer, build_once
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.masks import check_memory, implicit_mask
from keras_attention.layers.multihead import MultiHeadAttention
from keras_attention.layers.normalization import LayerNormalization
from keras_attention.layers.shapes import on_rows, output_specs


@keras.saving.register_keras_serializable("keras_attention")
class TransformerBlock(BaseLayer):
    """Self-attention, cross-attention to a memory (if any), and a feed-forward network, each in a residual branch.

        post-norm:  x = norm(x + attention(x));  x = norm(x + cross(x, memory));  x = norm(x + feed_forward(x))
        pre-norm:   x = x + attention(norm(x));  x = x + cross(norm(x), memory);  x = x + feed_forward(norm(x))

    with feed_forward(x) = W_2 f(W_1 x + b_1) + b_2, another norm in each branch, and dropout of what is added to x. If
    the first call has a memory, the block creates a cross-attention.

    Args:
        num_heads: H.
        intermediate_dim: the width of the feed-forward network.
        activation: the activation f.
        norm_first: use pre-norm.
        dropout: probability of dropping a feature of a branch.
        epsilon: epsilon of the normalizations.
        kernel_initializer: initializer of W_1, W_2 and, if `attention` is None, of the attention. None for
            `"glorot_uniform"` and the default of `MultiHeadAttention`.
        attention: a layer with H heads, such as `RelativeAttention`; `MultiHeadAttention(H, M // H)` when None. The
            cross-attention is a new layer with the same arguments.

    Call arguments:
        inputs: (B, L, M).
        memory: (B, S, any), the keys and values of the cross-attention.
        mask: (B, L) padding mask, True = a real token; the implicit mask of `inputs` when None.
        memory_mask: (B, S) padding mask, True = a real vector; the implicit mask of `memory` when None.
        attention_mask: (B, L, L) attention mask, True = may be attended to.
        return_attention_scores: also return the scores.
        training: whether dropout is active.
        use_causal_mask: each token attends to itself and to earlier tokens only.

    Output:
        outputs (B, L, M). With `return_attention_scores`, the pair (outputs, scores): float32 scores of the
        cross-attention (B, H, L, S) or, without a memory, of the self-attention (B, H, L, L).

    Raises:
        ValueError: a number is not a positive integer, M is not a multiple of H, `attention` does not have H heads,
            calls with and without a memory are mixed, `memory_mask` was passed without `memory`, or a mask has
            other lengths than L and S.
        TypeError: a mask has floats.

    Example:
        >>> embedding, block = keras.layers.Embedding(11, 6, mask_zero=True), TransformerBlock(2, 13)
        >>> model = keras.Sequential([embedding, block])
        >>> tuple(model(keras.ops.array([[7, 2, 0]])).shape)
        (1, 3, 6)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (post-norm); Radford et al., 2019
    (pre-norm, GPT-2); Xiong et al., 2020, https://arxiv.org/abs/2002.04745 (both compared).
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        activation="relu",
        norm_first: bool = False,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        kernel_initializer=None,
        attention: keras.layers.Layer | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_positive_integers(num_heads=num_heads, intermediate_dim=intermediate_dim)
        if attention is not None and attention.num_heads != num_heads:
            raise ValueError(
                f"`num_heads` is {num_heads}, but `attention` has {attention.num_heads} heads; expected equal numbers."
            )
        self.num_heads, self.intermediate_dim, self.norm_first = num_heads, intermediate_dim, norm_first
        self.dropout, self.epsilon, self.attention = dropout, epsilon, attention
        self.cross_attention = None  # `build` creates it for a memory
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, inputs_shape, memory_shape=None) -> None:
        """Create the weights."""
        if self.attention is None:
            self.attention = self._make_attention(inputs_shape[-1])
        build_once(self.attention, inputs_shape, inputs_shape)
        if memory_shape is not None:
            config = {**self.attention.get_config(), "name": "cross_attention"}
            self.cross_attention = type(self.attention).from_config(config)
            self.cross_attention.build(inputs_shape, memory_shape)
            self.cross_norm = self._norm("cross_norm", inputs_shape)
        self.attention_norm = self._norm("attention_norm", inputs_shape)
        self.feed_forward_norm = self._norm("feed_forward_norm", inputs_shape)
        initializer = "glorot_uniform" if self.kernel_initializer is None else self.kernel_initializer
        self.hidden = self.make_dense(self.intermediate_dim, "hidden", initializer, activation=self.activation)
        self.hidden.build(inputs_shape)
        self.output_projection = self.make_dense(inputs_shape[-1], "output", initializer)
        self.output_projection.build((*inputs_shape[:-1], self.intermediate_dim))

    def _norm(self, name: str, shape) -> keras.layers.Layer:
        norm = LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
        norm.build(shape)
        return norm

    def _make_attention(self, width: int) -> MultiHeadAttention:
        if width % self.num_heads:
            raise ValueError(f"The inputs are {width} wide; expected a multiple of `num_heads`, {self.num_heads}.")
        options = {"kernel_initializer": self.kernel_initializer, "dtype": self.dtype_policy, "name": "attention"}
        return MultiHeadAttention(self.num_heads, width // self.num_heads, **options)

    def call(
        self,
        inputs,
        memory=None,
        mask=None,
        memory_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        """Compute the outputs; see the class docstring."""
        self._check_memory(memory, memory_mask)
        mask = implicit_mask(inputs) if mask is None else mask
        memory_mask = implicit_mask(memory) if memory_mask is None else memory_mask
        options = {"return_attention_scores": return_attention_scores, "training": training}

        def self_attend(x):
            masks = {"value_mask": mask, "attention_mask": attention_mask, "use_causal_mask": use_causal_mask}
            return as_pair(self.attention(x, x, **masks, **options))

        def cross_attend(x):
            return as_pair(self.cross_attention(x, memory, value_mask=memory_mask, **options))

        def as_pair(output):
            return output if return_attention_scores else (output, None)

        outputs, scores, cross_scores = self.run_branches(inputs, self_attend, cross_attend, training=training)
        scores = scores if self.cross_attention is None else cross_scores
        return (outputs, scores) if return_attention_scores else outputs

    def _check_memory(self, memory, memory_mask) -> None:
        """Raise ValueError unless all calls have a memory, or none has one."""
        has_memory = self.cross_attention is not None
        fix = "use another block for calls without a memory" if has_memory else "pass `memory` in the first call, too"
        check_memory(has_memory, fix, memory, memory_mask=memory_mask)

    def run_branches(
        self,
        inputs,
        self_attend: Callable,
        cross_attend: Callable | None = None,
        feed_forward: Callable | None = None,
        training=False,
    ):
        """Run the residual branches of the block with these functions.

        Args:
            inputs: (..., M).
            self_attend: the self-attention, a function x -> (context, extra). The context has the shape of x; extra is
                any other result, such as scores.
            cross_attend: the cross-attention, a function like `self_attend`; called only if the block has a
                cross-attention.
            feed_forward: the feed-forward network, a function x -> outputs; `self.feed_forward` when None.
            training: whether dropout is active.

        Returns:
            outputs (..., M), the extra result of `self_attend`, and the extra result of `cross_attend` or None.
        """
        feed_forward = self.feed_forward if feed_forward is None else feed_forward
        x, extra = self._run_branch(self.attention_norm, inputs, self_attend, training)
        cross_extra = None
        if self.cross_attention is not None:
            x, cross_extra = self._run_branch(self.cross_norm, x, cross_attend, training)
        x, _ = self._run_branch(self.feed_forward_norm, x, lambda x: (feed_forward(x), None), training)
        return x, extra, cross_extra

    def _run_branch(self, norm, x, function: Callable, training) -> tuple:
        """Return x + function(norm(x)) with pre-norm, norm(x + function(x)) with post-norm, and the extra result."""
        output, extra = function(norm(x) if self.norm_first else x)
        x = x + self.dropout_layer(output, training=training)
        return (x if self.norm_first else norm(x)), extra

    def self_attention_input(self, x):
        """Return what the self-attention reads of the inputs x: norm(x) with pre-norm, x with post-norm."""
        return self.attention_norm(x) if self.norm_first else x

    def feed_forward(self, x):
        """Return W_2 f(W_1 x + b_1) + b_2."""
        return on_rows(lambda rows: self.output_projection(self.hidden(rows)), x)

    def compute_output_spec(
        self, inputs, memory=None, *_: object, memory_mask=None, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        self._check_memory(memory, memory_mask)
        length = (inputs if memory is None else memory).shape[1]
        scores_shape = (inputs.shape[0], self.num_heads, inputs.shape[1], length)
        return output_specs(self, inputs.shape, scores_shape if return_attention_scores else None)
