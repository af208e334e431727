"""A stack of Transformer blocks: an encoder or a decoder."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer, build_once, rematerialize_if
from keras_attention.layers.decoding.stack import start_transformer, step_transformer
from keras_attention.layers.masks import causal_mask, check_memory, implicit_mask
from keras_attention.layers.normalization import apply_norm, final_norm
from keras_attention.layers.shapes import output_specs


@keras.saving.register_keras_serializable("keras_attention")
class Transformer(BaseLayer):
    """A stack of Transformer blocks over embedded tokens: an encoder, or a decoder (causal).

    x = blocks(input_embedding(inputs)); outputs = norm(x), or x without `norm_epsilon`.

    Args:
        blocks: list of `TransformerBlock`s; may be empty.
        input_embedding: an `InputEmbedding`, which adds positions.
        causal: each token attends to itself and to earlier tokens only.
        norm_epsilon: epsilon of a layer normalization after the last block, for pre-norm stacks; None for no
            normalization.
        has_memory: the blocks attend to a memory.

    Call arguments:
        inputs: (B, L, M) embedded tokens.
        memory: (B, S, any); required with `has_memory`.
        mask: (B, L) padding mask, True = a real token; the implicit mask of `inputs` when None.
        memory_mask: (B, S) padding mask, True = a real vector; the implicit mask of `memory` when None.
        segment_ids: (B, L) int or None.
        return_attention_scores: also return the scores.
        training: whether dropout is active.

    Output:
        outputs (B, L, M). With `return_attention_scores`, the pair (outputs, scores): scores are a list with one
        float32 tensor per block, (B, H, L, S) with a memory or else (B, H, L, L).

    Raises:
        ValueError: `memory` is missing with `has_memory`, or `memory` or `memory_mask` was passed without it; a mask
            has other lengths than L and S; or `segment_ids` was passed and `input_embedding` has no segments.
        TypeError: a mask has floats.

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
        input_embedding: keras.layers.Layer,
        causal: bool = False,
        norm_epsilon: float | None = None,
        has_memory: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.blocks, self.input_embedding, self.has_memory = list(blocks), input_embedding, has_memory
        self.causal, self.norm_epsilon = causal, norm_epsilon
        self.rematerialize = False  # recompute activations in the backward pass; see `training.rematerialize`
        self.norm = final_norm(norm_epsilon, self.dtype_policy)

    def build(self, inputs_shape, memory_shape=None) -> None:
        """Create the weights."""
        self._check_memory(memory_shape)
        build_once(self.input_embedding, inputs_shape)
        for block in self.blocks:
            build_once(block, inputs_shape, memory_shape)
        if self.norm is not None:
            self.norm.build(inputs_shape)

    def _check_memory(self, memory, memory_mask=None) -> None:
        """Raise ValueError unless there is a memory, or its shape, if and only if `has_memory`."""
        fix = f"create the layer with has_memory={not self.has_memory}"
        check_memory(self.has_memory, fix, memory, memory_mask=memory_mask)

    @staticmethod
    def encoder_arguments(encoded, mask) -> dict:
        """Return the arguments of `call` and `start` for the outputs (B, S, any) and the mask (B, S) of an encoder."""
        return {"memory": encoded, "memory_mask": mask}

    def call(
        self,
        inputs,
        memory=None,
        mask=None,
        memory_mask=None,
        segment_ids=None,
        return_attention_scores=False,
        training=None,
    ):
        """Compute the outputs; see the class docstring."""
        self._check_memory(memory, memory_mask)
        x = self.input_embedding(inputs, segment_ids=segment_ids, training=training)
        options = {
            "mask": implicit_mask(inputs) if mask is None else mask,
            "memory_mask": implicit_mask(memory) if memory_mask is None else memory_mask,
            "attention_mask": causal_mask(ops.shape(x)[1]) if self.causal else None,
            "training": training,
        }
        arguments, scores = [] if memory is None else [memory], []
        for block in self.blocks:
            run = functools.partial(block, **options)
            if return_attention_scores:
                x, block_scores = run(x, *arguments, return_attention_scores=True)
                scores.append(block_scores)
            else:
                x = rematerialize_if(self.rematerialize and training, run)(x, *arguments)
        outputs = apply_norm(self.norm, x)
        return (outputs, scores) if return_attention_scores else outputs

    def start(self, inputs, length, memory=None, memory_mask=None, mask=None) -> dict:
        """Read a prompt (B, L, M) in one pass, and return the state before the next token; see `start_transformer`."""
        self._check_memory(memory, memory_mask)
        return start_transformer(self, inputs, length, memory, memory_mask, mask)

    def step(self, inputs, state: dict) -> tuple:
        """Advance every beam by one token (B, K, M); see `step_transformer`."""
        return step_transformer(self, inputs, state)

    def compute_output_spec(
        self, inputs, memory=None, *_: object, memory_mask=None, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        self._check_memory(memory, memory_mask)
        if not return_attention_scores:
            return output_specs(self, inputs.shape)
        specs = [block.compute_output_spec(inputs, memory, return_attention_scores=True) for block in self.blocks]
        return output_specs(self, inputs.shape), [scores for _, scores in specs]
