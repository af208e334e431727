"""A stack of Transformer blocks: an encoder or a decoder."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer, build_once
from keras_attention.layers.decoding.blocks import block_constants, prefill_block, step_block
from keras_attention.layers.decoding.cache import begin_step, first_state, memory_inputs, prompt_inputs
from keras_attention.layers.decoding.stack import prefill_stack, step_stack
from keras_attention.layers.masks import causal_mask, implicit_mask
from keras_attention.layers.normalization import apply_norm, final_norm
from keras_attention.layers.shapes import output_specs


@keras.saving.register_keras_serializable("keras_attention")
class Transformer(BaseLayer):
    """A stack of Transformer blocks over embedded tokens: an encoder, or a decoder (causal).

    outputs = norm(blocks(inputs(tokens))); without `norm_epsilon`, outputs = blocks(inputs(tokens)).

    Args:
        blocks: list of `TransformerBlock`s; may be empty.
        inputs: an `InputEmbedding`, which adds positions.
        causal: each token attends to itself and to earlier tokens only.
        norm_epsilon: epsilon of a layer normalization after the last block, for pre-norm stacks; None for no
            normalization.
        has_memory: the blocks attend to a memory.

    Call arguments:
        tokens: (B, L, M) embedded tokens.
        memory: (B, S, any); required with `has_memory`.
        mask: (B, L) padding mask, True = a real token; the implicit mask of `tokens` when None.
        memory_mask: (B, S) padding mask, True = a real vector; the implicit mask of `memory` when None.
        segment_ids: (B, L) int or None.
        return_attention_scores: also return the scores.
        training: whether dropout is active.

    Output:
        outputs (B, L, M). With `return_attention_scores`, the pair (outputs, scores): scores are a list with one
        float32 tensor per block, (B, H, L, S) with a memory or else (B, H, L, L).

    Raises:
        ValueError: `memory` is missing with `has_memory`, or is an argument without it.

    Example:
        >>> from keras_attention.layers import InputEmbedding, SinusoidalPositions, TransformerBlock
        >>> stack = Transformer([TransformerBlock(2, 13) for _ in range(3)], InputEmbedding(SinusoidalPositions()))
        >>> model = keras.Sequential([keras.layers.Embedding(11, 6, mask_zero=True), stack])
        >>> tuple(model(keras.ops.array([[7, 2, 0]])).shape)
        (1, 3, 6)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        inputs: keras.layers.Layer,
        causal: bool = False,
        norm_epsilon: float | None = None,
        has_memory: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.blocks, self.inputs, self.causal, self.norm_epsilon = list(blocks), inputs, causal, norm_epsilon
        self.has_memory = has_memory
        self.rematerialize = False  # recompute activations in the backward pass; see `training.rematerialize`
        self.norm = final_norm(norm_epsilon, self.dtype_policy)

    def build(self, tokens_shape, memory_shape=None) -> None:
        """Create the weights."""
        if (memory_shape is not None) != self.has_memory:
            received = "is None" if memory_shape is None else f"has the shape {tuple(memory_shape)}"
            raise ValueError(
                f"`has_memory` is {self.has_memory}, but `memory` {received}; expected a memory if and "
                "only if `has_memory` is True."
            )
        build_once(self.inputs, tokens_shape)
        for block in self.blocks:
            build_once(block, tokens_shape, memory_shape)
        if self.norm is not None:
            self.norm.build(tokens_shape)

    @staticmethod
    def encoder_arguments(encoded, mask) -> dict:
        """Return the arguments of `call` and `start` for the outputs (B, S, any) and the mask (B, S) of an encoder."""
        return {"memory": encoded, "memory_mask": mask}

    def call(
        self,
        tokens,
        memory=None,
        mask=None,
        memory_mask=None,
        segment_ids=None,
        return_attention_scores=False,
        training=None,
    ):
        """Compute the outputs; see the class docstring."""
        x, scores = self.inputs(tokens, segment_ids=segment_ids, training=training), []
        options = {
            "mask": implicit_mask(tokens) if mask is None else mask,
            "memory_mask": implicit_mask(memory) if memory_mask is None else memory_mask,
            "attention_mask": causal_mask(ops.shape(x)[1]) if self.causal else None,
            "training": training,
        }
        arguments = [] if memory is None else [memory]
        for block in self.blocks:
            if return_attention_scores:
                x, block_scores = block(x, *arguments, return_attention_scores=True, **options)
                scores.append(block_scores)
            elif self.rematerialize and training:
                x = keras.remat(lambda *inputs, block=block: block(*inputs, **options))(x, *arguments)
            else:
                x = block(x, *arguments, **options)
        outputs = apply_norm(self.norm, x)
        return (outputs, scores) if return_attention_scores else outputs

    def start(self, tokens, length, memory=None, memory_mask=None, mask=None) -> dict:
        """Read `tokens` in one pass, and return the state before the next token; `decoding/cache.py` describes it.

        Args:
            tokens: (B, L, M) embedded tokens of the prompt; L may be 0.
            length: T, the maximum number of tokens, an integer or a scalar tensor.
            memory: (B, S, any) or None.
            memory_mask: (B, S) padding mask, True = a real vector; None for no padding.
            mask: (B, L) padding mask, True = a real token; None for no padding. Padding is on the right. On JAX,
                `length` counts the padding too.

        Returns:
            dict of `constants`, `carry` and `cache`.
        """
        sizes, constants, block_memory = ops.shape(tokens)[:2], {}, None
        if self.has_memory:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool") if memory_mask is None else memory_mask
            block_memory = memory_inputs(ops.cast(memory, self.compute_dtype), memory_mask)
            constants = {"mask": memory_mask, "memory": {"bias": block_memory.bias, "scale": block_memory.scale}}
        constants |= {f"block_{i}": block_constants(block, block_memory) for i, block in enumerate(self.blocks)}
        prefill = functools.partial(prefill_block, prompt=prompt_inputs(sizes, block_memory))
        x = ops.reshape(self.inputs(tokens), (-1, tokens.shape[-1]))  # (B L, M)
        prompt_caches = prefill_stack(self.blocks, x, constants, prefill)
        mask = ops.ones(sizes, "bool") if mask is None else mask
        return {"constants": constants, **first_state(prompt_caches, mask, length)}

    def step(self, tokens, state: dict):
        """Advance every beam by one token.

        Args:
            tokens: (B, K, M) embedded tokens.
            state: from `start` or the last step; see `decoding/cache.py`.

        Returns:
            outputs (B, K, M), the new state, and the scores (B, K, S), their mean over blocks and heads, or None
            without a memory.
        """
        _, beams, width = tokens.shape
        x = ops.reshape(tokens, (-1, 1, width))  # (B K, 1, M)
        position = ops.reshape(state["carry"]["position"], (-1, 1))  # (B K, 1)
        x = ops.reshape(self.inputs(x, start=position), (-1, width))  # (B K, M)
        memory = state["constants"].get("memory", {})
        step, state = begin_step(state, memory.get("bias"), self.compute_dtype)
        x, state, scores = step_stack(self.blocks, x, state, functools.partial(step_block, step=step))
        means = [ops.mean(block_scores, axis=1) for block_scores in scores if block_scores is not None]  # (B, K, S)
        mean = functools.reduce(ops.add, means) * (memory["scale"] / len(means)) if means else None
        return ops.reshape(apply_norm(self.norm, x), (-1, beams, width)), state, mean

    def compute_output_spec(self, tokens, memory=None, *_: object, return_attention_scores=False, **__: object):
        """Return shapes and dtypes of the outputs."""
        if not return_attention_scores:
            return output_specs(self, tokens.shape)
        specs = [block.compute_output_spec(tokens, memory, return_attention_scores=True) for block in self.blocks]
        return output_specs(self, tokens.shape), [scores for _, scores in specs]
