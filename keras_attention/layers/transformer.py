"""The one Transformer block, and a stack of them that reads a sequence or writes one.

    post-norm:  x = norm(x + attention(x));  x = norm(x + cross(x));  x = norm(x + feed_forward(x))
    pre-norm:   x = x + attention(norm(x));  x = x + cross(norm(x));  x = x + feed_forward(norm(x))

A stack answers a whole sequence, or one token per beam with a cache; both go through the same blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.cache import cache_mask, make_cache, write_cache
from keras_attention.layers.masks import causal_mask, combine_masks
from keras_attention.layers.shapes import reshape, sizes_of


@keras.saving.register_keras_serializable("keras_attention")
class TransformerBlock(keras.layers.Layer):
    """Self-attention, cross-attention where there is a memory, and a feed-forward network.

    Each of them is a residual branch with dropout and a layer normalisation, before the branch (pre-norm) or
    after its sum (post-norm). The feed-forward network is W_2 f(W_1 x + b_1) + b_2.

    Args:
        attention: a layer such as `MultiHeadAttention`.
        intermediate_dim: width of the feed-forward network.
        cross_attention: a layer of the same kind that looks at the memory; None for none.
        activation: f.
        norm_first: pre-norm.
        dropout: probability of dropping a feature of a branch.
        epsilon: of the normalisations.
        kernel_initializer: of W_1 and W_2.

    Call arguments:
        inputs: (B, L, M).
        mask: (B, L) or (B, L, L) boolean, True = may be looked at.
        memory: (B, S, any), with a cross-attention.
        memory_mask: (B, S) boolean.
        return_attention_scores: answer the weights.
        training: whether dropout is active.

    Output:
        outputs (B, L, M), and the weights of the cross-attention (B, H, L, S), of the self-attention
        (B, H, L, L) where there is none, in float32, or [] where they were not asked for.

    Raises:
        ValueError: a cross-attention without a memory.

    Example:
        >>> from keras_attention.layers import MultiHeadAttention
        >>> block = TransformerBlock(MultiHeadAttention(3, 5), intermediate_dim=11)
        >>> outputs, _ = block(keras.ops.ones((2, 7, 15)))
        >>> tuple(outputs.shape)
        (2, 7, 15)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (post-norm); Radford et al., 2019
    (pre-norm, GPT-2); Xiong et al., 2020, https://arxiv.org/abs/2002.04745 (both compared).
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        intermediate_dim: int,
        cross_attention: keras.layers.Layer | None = None,
        activation="relu",
        norm_first: bool = False,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.attention, self.cross_attention = attention, cross_attention
        self.intermediate_dim, self.norm_first, self.dropout, self.epsilon = (
            intermediate_dim,
            norm_first,
            dropout,
            epsilon,
        )
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.attention_norm, self.feed_forward_norm = self._norm("attention_norm"), self._norm("feed_forward_norm")
        self.cross_norm = self._norm("cross_norm") if cross_attention is not None else None
        self.hidden = self._dense(intermediate_dim, "hidden", self.activation)
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _norm(self, name: str) -> keras.layers.Layer:
        return keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)

    def _dense(self, units: int, name: str, activation=None) -> keras.layers.Dense:
        initializer = self.kernel_initializer.clone()
        return keras.layers.Dense(units, activation, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)

    def build(self, inputs_shape, memory_shape=None) -> None:
        """Create the weights, for inputs of these shapes."""
        if not self.attention.built:  # it is, when it was restored
            self.attention.build(inputs_shape)
        self.attention_norm.build(inputs_shape)
        if self.cross_attention is not None:
            if not self.cross_attention.built:
                self.cross_attention.build(inputs_shape, memory_shape or inputs_shape)
            self.cross_norm.build(inputs_shape)
        self.hidden.build(inputs_shape)
        self.output_projection = self._dense(inputs_shape[-1], "output")
        self.output_projection.build((*inputs_shape[:-1], self.intermediate_dim))
        self.feed_forward_norm.build(inputs_shape)

    def call(self, inputs, mask=None, memory=None, memory_mask=None, return_attention_scores=False, training=False):
        """Compute the output; the class describes arguments and shapes."""
        options = {"return_attention_scores": return_attention_scores, "training": training}
        x, weights = self.branch(
            self.attention_norm, inputs, lambda x: self.attention(x, mask=mask, **options), training
        )
        if self.cross_attention is not None:
            if memory is None:
                raise ValueError("This block has a cross-attention, but `memory` is None; expected (B, S, any).")
            x, weights = self.branch(
                self.cross_norm, x, lambda x: self.cross_attention(x, memory, memory_mask, **options), training
            )
        return self.feed_forward(x, training), weights

    def branch(self, norm, x, function: Callable[[Any], tuple], training=False):
        """Return x with a residual branch added and normalised, and what else the branch answered."""
        answer, extra = function(norm(x) if self.norm_first else x)
        x = x + self.dropout_layer(answer, training=training)
        return (x if self.norm_first else norm(x)), extra

    def feed_forward(self, x, training=False):
        """Add the feed-forward branch."""
        x, _ = self.branch(
            self.feed_forward_norm, x, lambda x: (self.output_projection(self.hidden(x)), None), training
        )
        return x

    def read(self, inputs, length, memory=None, memory_mask=None):
        """Read the first L tokens at once, as a decoder.

        Args:
            inputs: (B, L, M); L may be 0.
            length: T, how many tokens there will be in the end.
            memory: (B, S, any) or None.
            memory_mask: (B, S) or None.

        Returns:
            outputs (B, L, M); constants, the projected memory, each (B, H, S, D), and the fused projections of the
            self-attention where they are plain weights; and the caches of keys and values (B, 1, H, T, D).
        """
        kept: dict[str, Any] = {"constants": {}}

        def look(x):
            kept["own"] = self.attention.project_memory(x)
            return self.attention(x, mask=causal_mask(ops.shape(x)[1]), projected=kept["own"])

        x, _ = self.branch(self.attention_norm, inputs, look)
        if self.cross_attention is not None:
            projected = self.cross_attention.project_memory(memory)
            kept["constants"] |= dict(zip(("keys", "values"), projected, strict=True))
            x, _ = self.branch(
                self.cross_norm, x, lambda x: self.cross_attention(x, mask=memory_mask, projected=projected)
            )
        if self.attention.query_projection.quantization_mode is None:
            kept["constants"]["fused"] = self.attention.fuse_projections()
        cache = {name: make_cache(x, length) for name, x in zip(("keys", "values"), kept["own"], strict=True)}
        return self.feed_forward(x), kept["constants"], cache

    def step(self, inputs, t, cache: dict, constants: dict, memory_mask=None, return_attention_scores=False):
        """Read one token per beam.

        Args:
            inputs: (B, K, M).
            t: scalar int, the position of these tokens.
            cache: keys and values (B, K, H, T, D).
            constants: from `read`.
            memory_mask: (B, S) or None.
            return_attention_scores: answer the weights of the cross-attention.

        Returns:
            outputs (B, K, M), the new cache, and the weights (B, H, K, S) or None.
        """
        kept: dict[str, Any] = {}

        def look(x):
            x = ops.expand_dims(x, 2)  # (B, K, 1, M)
            if "fused" in constants:
                query, *new = self.attention.project_all(x, constants["fused"])
            else:
                query, new = self.attention.project_query(x), self.attention.project_memory(x)
            kept["cache"] = [write_cache(cache[n], x, t) for n, x in zip(("keys", "values"), new, strict=True)]
            answer, _ = self.attention.look(query, *kept["cache"], mask=cache_mask(cache["keys"], t))
            return ops.squeeze(answer, 2), None

        x, weights = self.branch(self.attention_norm, inputs, look)
        if self.cross_attention is not None:
            projected = (constants["keys"], constants["values"])
            x, weights = self.branch(
                self.cross_norm,
                x,
                lambda x: self.cross_attention(
                    x, mask=memory_mask, projected=projected, return_attention_scores=return_attention_scores
                ),
            )
        return self.feed_forward(x), dict(zip(("keys", "values"), kept["cache"], strict=True)), weights

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(
        self, inputs, mask=None, memory=None, *_: object, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs, []
        looked_at = memory if self.cross_attention is not None else inputs
        shape = (inputs.shape[0], self.attention.num_heads, inputs.shape[1], looked_at.shape[1])
        return outputs, keras.KerasTensor(shape, dtype="float32")

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "intermediate_dim": self.intermediate_dim,
            "cross_attention": keras.saving.serialize_keras_object(self.cross_attention),
            "activation": keras.activations.serialize(self.activation),
            "norm_first": self.norm_first,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config: dict) -> TransformerBlock:
        """Make what `get_config` described."""
        layers = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("attention", "cross_attention")
        }
        return cls(**{**config, **layers})


@keras.saving.register_keras_serializable("keras_attention")
class Transformer(keras.layers.Layer):
    """A stack of Transformer blocks over embedded tokens: an encoder, or a decoder (causal).

    Args:
        blocks: `TransformerBlock`s; none only makes the inputs ready.
        inputs: an `InputEmbedding`, which adds positions.
        causal: each token looks only at itself and what came before.
        norm_epsilon: of a last layer normalisation, as pre-norm stacks have it; None for none.

    Call arguments:
        tokens: (B, L, M) embedded tokens.
        states: not used; a recurrent decoder begins with them.
        memory: (B, S, any), for blocks with a cross-attention.
        mask: (B, L) boolean, True = a real token, or (B, S) over the memory where there is one.
        segment_ids: (B, L) int or None.
        return_attention_scores: answer the weights.
        training: whether dropout is active.

    Output:
        outputs (B, L, M), and a list with the weights of each block, (B, H, L, S) in float32, empty where
        they were not asked for.

    Example:
        >>> from keras_attention.layers import InputEmbedding, MultiHeadAttention, SinusoidalPositions
        >>> blocks = [TransformerBlock(MultiHeadAttention(3, 4), intermediate_dim=11) for _ in range(2)]
        >>> stack = Transformer(blocks, InputEmbedding(SinusoidalPositions()))
        >>> outputs, _ = stack(keras.ops.ones((2, 7, 12)), mask=keras.ops.ones((2, 7), "bool"))
        >>> tuple(outputs.shape)
        (2, 7, 12)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        inputs: keras.layers.Layer,
        causal: bool = False,
        norm_epsilon: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.blocks, self.inputs, self.causal, self.norm_epsilon = list(blocks), inputs, causal, norm_epsilon
        self.remat = False  # see `training.rematerialize`
        self.norm = None
        if norm_epsilon is not None:
            self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, tokens_shape, memory_shape=None, **_: Any) -> None:
        """Create the weights, for inputs of these shapes."""
        if not self.inputs.built:
            self.inputs.build(tokens_shape)
        for block in self.blocks:
            if not block.built:
                block.build(tokens_shape, memory_shape)
        if self.norm is not None:
            self.norm.build(tokens_shape)

    @property
    def has_memory(self) -> bool:
        """Whether the blocks look at a memory."""
        return any(block.cross_attention is not None for block in self.blocks)

    def call(
        self,
        tokens,
        states=None,
        memory=None,
        mask=None,
        segment_ids=None,
        return_attention_scores=False,
        training=False,
    ):
        """Compute the output; the class describes arguments and shapes."""
        x, collected = self.inputs(tokens, segment_ids=segment_ids, training=training), []
        own, memory_mask = (None, mask) if self.has_memory else (mask, None)
        if self.causal:
            own = combine_masks(causal_mask(ops.shape(x)[1]), own)
        for block in self.blocks:
            options = {
                "mask": own,
                "memory_mask": memory_mask,
                "return_attention_scores": return_attention_scores,
                "training": training,
            }
            if self.remat and training and not return_attention_scores:
                x, weights = _rematerialized(block, x, memory, options), None
            else:
                x, weights = block(x, memory=memory, **options)
            collected += [weights] if return_attention_scores else []
        return self._finish(x), collected

    def _finish(self, x):
        return x if self.norm is None else self.norm(x)

    def start(self, tokens, length, states=None, memory=None, mask=None):
        """Return `(constants, carry)`: what no step changes, and what every step does.

        Args:
            tokens: (B, L, M) embedded tokens that are known already and read at once; L may be 0.
            length: T, how many tokens there will be at most, an integer or a scalar tensor.
            states: not used; a recurrent decoder begins with them.
            memory: (B, S, any) or None.
            mask: (B, S) boolean or None.

        Returns:
            constants, a dict of what each block keeps and, where there is a memory, its mask; and carry, a dict of
            the position (B, 1) and each block's cache (B, 1, H, T, D).
        """
        batch, read = ops.shape(tokens)[0], ops.shape(tokens)[1]
        constants, carry = {}, {"position": ops.zeros((batch, 1), "int32") + read}
        if self.has_memory:
            constants["mask"] = ops.ones(ops.shape(memory)[:2], "bool") if mask is None else mask
        x = self.inputs(tokens)
        for i, block in enumerate(self.blocks):
            x, projected, carry[f"block_{i}"] = block.read(x, length, memory, constants.get("mask"))
            constants[f"block_{i}"] = projected
        return constants, carry

    def step(self, tokens, constants: dict, carry: dict):
        """Advance every beam by one token.

        Args:
            tokens: (B, K, M) embedded tokens.
            constants: from `start`.
            carry: from `start` or the last step, each tensor (B, K, ...).

        Returns:
            outputs (B, K, M), the new carry, and the weights (B, K, S), the mean over blocks and heads, or None
            without a memory.
        """
        t = ops.max(carry["position"])
        x = reshape(self.inputs(ops.reshape(tokens, (-1, 1, tokens.shape[-1])), start=t), sizes_of(tokens))
        new, looks = {"position": carry["position"] + 1}, []
        for i, block in enumerate(self.blocks):
            name = f"block_{i}"
            x, new[name], weights = block.step(
                x,
                t,
                carry[name],
                constants.get(name, {}),
                constants.get("mask"),
                return_attention_scores=self.has_memory,
            )
            looks += [] if weights is None else [ops.mean(weights, axis=1)]
        return self._finish(x), new, sum(looks) / len(looks) if looks else None

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(
        self, tokens, states=None, memory=None, *_: object, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        outputs = keras.KerasTensor(tokens.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs, []
        length = (memory if self.has_memory else tokens).shape[1]
        sizes = tokens.shape[1], length
        shapes = [(tokens.shape[0], block.attention.num_heads, *sizes) for block in self.blocks]
        return outputs, [keras.KerasTensor(shape, dtype="float32") for shape in shapes]

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks],
            "inputs": keras.saving.serialize_keras_object(self.inputs),
            "causal": self.causal,
            "norm_epsilon": self.norm_epsilon,
        }

    @classmethod
    def from_config(cls, config: dict) -> Transformer:
        """Make what `get_config` described."""
        read = keras.saving.deserialize_keras_object
        return cls(
            **{**config, "blocks": [read(block) for block in config["blocks"]], "inputs": read(config["inputs"])}
        )


def _rematerialized(block, x, memory, options: dict):
    """Return a block's outputs, which the backward pass computes again, so that its insides need not be kept."""
    if memory is None:
        return keras.remat(lambda x: block(x, **options)[0])(x)
    return keras.remat(lambda x, memory: block(x, memory=memory, **options)[0])(x, memory)
