"""Two-stream attention: a stack of blocks with relative attention, with one or two streams, with or without memories.

    content stream  h_q: the token at q attends to the allowed tokens and to itself
    query stream    g_q: the query at q attends to the allowed tokens but never to the token at q, which it predicts

Both streams run through the same blocks, with the keys and values of the content stream. For a longer text, the
memories of the previous parts precede the tokens, and both streams also attend to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer, build_once, rematerialize_if
from keras_attention.layers.decoding.relative_stack import start_relative_transformer, step_relative_transformer
from keras_attention.layers.masks import attach_mask, combine_masks, implicit_mask
from keras_attention.layers.normalization import apply_norm, final_norm
from keras_attention.layers.relative import RelativeAttention, relative_encodings
from keras_attention.layers.shapes import output_specs


def gather_last(states, mask, length=None):
    """Return the last m real vectors of each text, padded on the left.

    Args:
        states: (B, L, M).
        mask: (B, L) padding mask, True = a real token.
        length: m, the maximum number of vectors; L when None or larger than L.

    Returns:
        states (B, m, M) and their mask (B, m), False for the padding on the left of texts with fewer than m vectors.

    Example:
        >>> states, mask = gather_last(keras.ops.ones((1, 3, 2)), keras.ops.convert_to_tensor([[True, True, False]]))
        >>> keras.ops.convert_to_numpy(mask).tolist()
        [[False, True, True]]
    """
    size = ops.shape(mask)[1]  # a number on JAX, where slices need one
    ranks = ops.arange(size) + size * ops.cast(mask, "int32")  # (B, L): padding, then real tokens in order
    order = ops.argsort(ranks, axis=1)  # (B, L)
    if length is not None:
        order = order[:, max(size - length, 0) if isinstance(size, int) else ops.maximum(size - length, 0) :]  # (B, m)
    return ops.take_along_axis(states, ops.expand_dims(order, -1), axis=1), ops.take_along_axis(mask, order, axis=1)


class AttentionInputs(NamedTuple):
    """Inputs shared by the attention of all blocks, besides the streams; the m memories precede the L tokens."""

    masks: list  # (B, L, m + L) of the content stream and of the query stream; B may be 1
    encodings: Any  # (L + m + L, M), the distance encodings
    same_segment: Any  # (B, L, m + L) boolean, or None for one segment
    target_mapping: Any  # (B, P, L), the positions of the queries, or None for all positions in order


@keras.saving.register_keras_serializable("keras_attention")
class RelativeTransformer(BaseLayer):
    """A stack of Transformer blocks with relative attention, with one or two streams and memories.

    Without `queries`, the layer is an encoder and returns the content stream. With `queries`, which are the input of
    the query stream, it runs both streams and returns the query stream.

        content stream:  h_0 = input_embedding(inputs);   h_i = block_i(h_(i-1), [memory_i; h_(i-1)])
        query stream:    g_0 = input_embedding(queries);  g_i = block_i(g_(i-1), [memory_i; h_(i-1)])

    where block(x, y) attends from x to y, with other masks in the two streams. The outputs are norm(h_n) or norm(g_n)
    of the last block n; without `norm_epsilon`, there is no norm.

    Args:
        blocks: list of `TransformerBlock`s whose attention is a `RelativeAttention`.
        input_embedding: an `InputEmbedding` without positions and segments.
        norm_epsilon: epsilon of a layer normalization after the last block, for pre-norm stacks; None for no
            normalization.

    Call arguments:
        inputs: (B, L, M) embedded tokens, M even.
        mask: (B, L) padding mask, True = a real token; the implicit mask of `inputs` when None.
        segment_ids: (B, L) int; one segment when None.
        permutation_mask: (B, L, L) attention mask, True = may be attended to; None allows all positions. In the content
            stream, a token always attends to itself; in the query stream, never.
        queries: (B, P, M), the input of the query stream, such as the output of a `MaskEmbedding`.
        target_mapping: (B, P, L), one-hot: the position of each query. When None, P is L, and query q is at
            position q.
        memories: dict of `block_0`, ... (B, m, M) and `mask` (B, m), from `encode_part`; they are in segment 0.
        return_attention_scores: also return the scores.
        training: whether dropout is active.

    Output:
        outputs, (B, L, M) of the content stream or (B, P, M) of the query stream. With `return_attention_scores`, the
        pair (outputs, scores): scores are a list with one float32 tensor per block, (B, H, L or P, m + L), of the same
        stream.

    Raises:
        ValueError: the attention of a block is not a `RelativeAttention`, M is odd, `segment_ids` was passed while the
            attention has no segments, or `target_mapping` was passed without `queries`.
        TypeError: a mask has floats.

    Example:
        >>> from keras_attention.layers import InputEmbedding, RelativeAttention, TransformerBlock
        >>> blocks = [TransformerBlock(3, 13, attention=RelativeAttention(3, 4)) for _ in range(2)]
        >>> stack = RelativeTransformer(blocks, InputEmbedding())
        >>> model = keras.Sequential([keras.layers.Embedding(11, 12, mask_zero=True), stack])
        >>> tuple(model(keras.ops.array([[7, 2, 0]])).shape)
        (1, 3, 12)

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, sections 2.3 and 2.4.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        input_embedding: keras.layers.Layer,
        norm_epsilon: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not all(isinstance(block.attention, RelativeAttention) for block in blocks):
            raise ValueError(
                "The attention of a block is not a `RelativeAttention`; expected blocks such as "
                "TransformerBlock(num_heads, intermediate_dim, attention=RelativeAttention(num_heads, key_dim))."
            )
        self.blocks, self.input_embedding, self.norm_epsilon = list(blocks), input_embedding, norm_epsilon
        self.rematerialize = False  # recompute activations in the backward pass; see `training.rematerialize`
        self.norm = final_norm(norm_epsilon, self.dtype_policy)

    def build(self, inputs_shape, **_: Any) -> None:
        """Create the weights."""
        for layer in (self.input_embedding, *self.blocks):
            build_once(layer, inputs_shape)
        if self.norm is not None:
            self.norm.build(inputs_shape)

    def call(
        self,
        inputs,
        mask=None,
        segment_ids=None,
        permutation_mask=None,
        queries=None,
        target_mapping=None,
        memories=None,
        return_attention_scores=False,
        training=None,
    ):
        """Compute the outputs; see the class docstring."""
        if queries is None and target_mapping is not None:
            raise ValueError(
                "`target_mapping` was passed, but `queries` is None; expected None. Omit it, or pass `queries`, too."
            )
        mask = implicit_mask(inputs) if mask is None else mask
        attention_inputs = _make_attention_inputs(inputs, mask, segment_ids, permutation_mask, memories, target_mapping)
        streams = [inputs] if queries is None else [inputs, queries]
        outputs, _, scores = self._run_blocks(streams, attention_inputs, memories, return_attention_scores, training)
        outputs = attach_mask(outputs, implicit_mask(inputs if queries is None else queries))
        return (outputs, scores) if return_attention_scores else outputs

    def encode_part(
        self, inputs, mask=None, segment_ids=None, permutation_mask=None, memories=None, memory_length=None
    ):
        """Encode one part of a longer text, with the memories of the previous parts.

        Args:
            inputs: (B, L, M) embedded tokens.
            mask: (B, L) padding mask, True = a real token.
            segment_ids: (B, L) int.
            permutation_mask: (B, L, L) attention mask, True = may be attended to.
            memories: the memories that this method returned for the previous part; None for the first part.
            memory_length: m, the maximum number of tokens in the new memories, old ones included; all when None.

        Returns:
            outputs (B, L, M), and memories: a dict of `block_0`, ... (B, m, M), the inputs of each block, and `mask`
            (B, m). Memories do not include padding. No gradient flows into them.
        """
        attention_inputs = _make_attention_inputs(inputs, mask, segment_ids, permutation_mask, memories)
        outputs, block_inputs, _ = self._run_blocks([inputs], attention_inputs, memories)
        mask = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else mask
        if memories is not None:
            mask = ops.concatenate([memories["mask"], mask], axis=1)
        new_memories = {}
        for i, x in enumerate(block_inputs):
            memory, memory_mask = gather_last(ops.stop_gradient(x), mask, memory_length)
            new_memories |= {f"block_{i}": memory, "mask": memory_mask}  # all blocks have the same mask
        return outputs, new_memories

    def _run_blocks(
        self, streams: list, attention_inputs: AttentionInputs, memories, return_attention_scores=False, training=False
    ):
        """Run all blocks over `streams`: the content stream and, if any, the query stream.

        Returns:
            the outputs of the last stream; the inputs of each block, which are its memories and the content stream,
            (B, m + L, M) each; and the scores of the last stream.
        """
        streams = [self.input_embedding(x, training=training) for x in streams]
        block_inputs, scores = [], []
        for i, block in enumerate(self.blocks):
            previous = [] if memories is None else [ops.cast(memories[f"block_{i}"], streams[0].dtype)]
            block_inputs.append(ops.concatenate([*previous, streams[0]], axis=1))
            run = functools.partial(_run_block, block, attention_inputs, training)
            if return_attention_scores:
                streams, block_scores = run(block_inputs[-1], *streams)
                scores.append(block_scores)
            else:
                run_streams = rematerialize_if(self.rematerialize and training, lambda *x, run=run: run(*x)[0])
                streams = run_streams(block_inputs[-1], *streams)
        return apply_norm(self.norm, streams[-1]), block_inputs, scores

    def start(self, inputs, length) -> dict:
        """Read a prompt (B, L, M), and return the state before the next token; see `start_relative_transformer`."""
        return start_relative_transformer(self, inputs, length)

    def step(self, inputs, state: dict, queries) -> tuple:
        """Advance every beam by one token (B, K, M); see `step_relative_transformer`."""
        return step_relative_transformer(self, inputs, state, queries)

    def compute_mask(self, *_: object, **__: object) -> None:
        """Return None, because `call` attaches the implicit mask of the returned stream itself."""
        return None

    def compute_output_spec(
        self, inputs, *_: object, queries=None, memories=None, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        stream = inputs if queries is None else queries
        if not return_attention_scores:
            return output_specs(self, stream.shape)
        length = inputs.shape[1]
        if memories is not None:
            known = length is not None and memories["mask"].shape[1] is not None
            length = length + memories["mask"].shape[1] if known else None
        shape = (inputs.shape[0], self.blocks[0].num_heads, stream.shape[1], length)
        return output_specs(self, stream.shape), [keras.KerasTensor(shape, dtype="float32") for _ in self.blocks]


def _run_block(block, attention_inputs: AttentionInputs, training, inputs, content, query=None) -> tuple[list, Any]:
    """Run a block over the content stream (B, L, M) and, if any, the query stream (B, P, M).

    Both streams attend to the keys and values of `inputs` (B, m + L, M), the memories and the content stream; only
    their masks and queries differ. Return the outputs, one per stream, and the scores of the last stream.
    """
    attention = block.attention
    keys, values = attention.project_key_value(block.self_attention_input(inputs))
    distances = attention.project_distances(attention_inputs.encodings)

    def attend_with(mask, x):
        return attention.attend_projected(
            attention.project_query(x), keys, values, mask, distances, attention_inputs.same_segment, bool(training)
        )

    content_mask, query_mask = attention_inputs.masks
    content, scores, _ = block.run_branches(content, functools.partial(attend_with, content_mask), training=training)
    if query is None:
        return [content], scores
    attend = _at_targets(functools.partial(attend_with, query_mask), attention_inputs.target_mapping)
    query, scores, _ = block.run_branches(query, attend, training=training)
    return [content, query], scores


def _at_targets(self_attend: Callable, target_mapping) -> Callable:
    """Return `self_attend` for queries (B, P, M) at the positions that the one-hot `target_mapping` (B, P, L) gives."""
    if target_mapping is None:
        return self_attend

    def self_attend_at_targets(x):
        mapping = ops.cast(target_mapping, x.dtype)
        context, scores = self_attend(ops.matmul(ops.swapaxes(mapping, 1, 2), x))  # (B, L, M), (B, H, L, m + L)
        scores = ops.matmul(ops.expand_dims(ops.cast(mapping, scores.dtype), 1), scores)
        return ops.matmul(mapping, context), scores

    return self_attend_at_targets


def _make_attention_inputs(
    inputs, mask, segment_ids, permutation_mask, memories, target_mapping=None
) -> AttentionInputs:
    """Return what the attention of all blocks reads; see `RelativeTransformer` for the arguments."""
    length, previous_mask = ops.shape(inputs)[1], None if memories is None else memories["mask"]
    num_keys = length if memories is None else length + ops.shape(previous_mask)[1]
    return AttentionInputs(
        masks=[_prepend_mask(x, previous_mask) for x in _stream_masks(length, mask, permutation_mask)],
        encodings=relative_encodings(length, num_keys, inputs.shape[-1]),
        same_segment=None if segment_ids is None else _same_segment(segment_ids, previous_mask),
        target_mapping=target_mapping,
    )


def _same_segment(segment_ids, previous_mask):
    """Return (B, L, m + L) boolean: whether a token is in the segment of a position; the memories are in segment 0."""
    key_segments = segment_ids
    if previous_mask is not None:
        previous = ops.zeros_like(previous_mask, dtype=segment_ids.dtype)
        key_segments = ops.concatenate([previous, segment_ids], axis=1)
    return ops.equal(ops.expand_dims(segment_ids, 2), ops.expand_dims(key_segments, 1))


def _stream_masks(length, mask, permutation_mask) -> list:
    """Return the masks (B, L, L) of the content and the query stream; B may be 1.

    In the content stream, every token attends to itself, even padding; in the query stream, never.
    """
    is_itself = ops.expand_dims(ops.equal(ops.expand_dims(ops.arange(length), 1), ops.arange(length)), 0)  # (1, L, L)
    allowed = combine_masks(mask, permutation_mask)
    allowed = ops.ones_like(is_itself) if allowed is None else allowed
    return [ops.logical_or(allowed, is_itself), ops.logical_and(allowed, ops.logical_not(is_itself))]


def _prepend_mask(mask, previous_mask):
    """Prepend the mask of the memories (B, m), if any, to a mask (B, L, L), B may be 1: return (B, L, m + L)."""
    if previous_mask is None:
        return mask
    previous = ops.logical_or(ops.expand_dims(previous_mask, 1), ops.zeros_like(mask[:, :, :1]))
    within = ops.broadcast_to(mask, (ops.shape(previous_mask)[0], *ops.shape(mask)[1:]))
    return ops.concatenate([previous, within], axis=2)
