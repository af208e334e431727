"""Two-stream attention: a stack of blocks with relative attention, in one stream or in two, with a memory or without.

    content stream  h_q: attends to the tokens that it may attend to, and to itself
    query stream    g_q: attends to the same tokens, but never to itself, so that it can predict itself

Both streams go through the same blocks; keys and values are always those of the content stream. The memory of the
segments before, of a longer text, precedes the tokens and is attended to like them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer
from keras_attention.layers.cache import cache_mask, make_cache, write_cache
from keras_attention.layers.masks import attach_mask, causal_mask, combine_masks, implicit_mask
from keras_attention.layers.relative import RelativeAttention, relative_encodings
from keras_attention.layers.shapes import output_specs


def gather_last(states, mask, length=None):
    """Return the last real vectors of each row, moved to the right, so that a next segment follows them directly.

    Args:
        states: (B, L, M).
        mask: (B, L) boolean, True = a real token.
        length: m, how many to keep at most; all L when None or more than L.

    Returns:
        states (B, m, M) and their mask (B, m), False on the left where a row has fewer than m.

    Example:
        >>> states, mask = gather_last(keras.ops.ones((1, 3, 2)), keras.ops.convert_to_tensor([[True, True, False]]))
        >>> keras.ops.convert_to_numpy(mask).tolist()
        [[False, True, True]]
    """
    size = ops.shape(mask)[1]
    order = ops.argsort(ops.arange(size) + size * ops.cast(mask, "int32"), axis=1)  # padding, then real tokens in order
    order = order if length is None else order[:, ops.maximum(size - length, 0) :]
    return ops.take_along_axis(states, ops.expand_dims(order, -1), axis=1), ops.take_along_axis(mask, order, axis=1)


@keras.saving.register_keras_serializable("keras_attention")
class MaskEmbedding(BaseLayer):
    """One learned vector m at every position that is to be predicted: output[b, p] = m.

    Args:
        width: M.
        initializer: of m.

    Call arguments:
        inputs: (B, P, any), of which only the shape matters.

    Output:
        (B, P, M).

    Example:
        >>> tuple(MaskEmbedding(7)(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 7)

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, section 2.3.
    """

    def __init__(self, width: int, initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        self.width, self.initializer = width, keras.initializers.get(initializer)

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.vector = self.add_weight(shape=(1, self.width), initializer=self.initializer, name="vector")

    def call(self, inputs):
        """Compute the output; the class describes arguments and shapes."""
        return ops.zeros_like(inputs[..., :1], dtype=self.compute_dtype) + ops.cast(self.vector[0], self.compute_dtype)

    def compute_output_spec(self, inputs):
        """Return the shape and dtype of the output."""
        return output_specs(self, (*inputs.shape[:-1], self.width))


@keras.saving.register_keras_serializable("keras_attention")
class RelativeTransformer(BaseLayer):
    """A stack of Transformer blocks with relative attention, in one stream or two, with a memory.

    Without `queries` it is an encoder and has the content stream alone. With them it has the query stream too, which
    begins at `queries` and is the output.

    Args:
        blocks: `TransformerBlock`s whose attention is a `RelativeAttention`.
        inputs: an `InputEmbedding` without positions and segments.
        norm_epsilon: of a last layer normalisation, as pre-norm stacks have it; None for none.

    Call arguments:
        tokens: (B, L, M) embedded tokens, M even.
        mask: (B, L) boolean, True = a real token; the implicit mask of `tokens` when None.
        segment_ids: (B, L) int; all in one segment when None.
        permutation_mask: (B, L, L) boolean, True = may be attended to; everything may when None. A token always
            attends to itself in the content stream, and never in the query stream.
        queries: (B, P, M), what the query stream begins with, such as a `MaskEmbedding`.
        target_mapping: (B, P, L), one-hot rows: the position of each query. P is L, in order, when None.
        memories: dict of `block_0`, ... (B, m, M) and `mask` (B, m), from `encode_segment`; they are in segment 0.
        return_attention_scores: return the scores too.
        training: whether dropout is active.

    Output:
        outputs, (B, L, M) of the content stream or (B, P, M) of the query stream; with `return_attention_scores` the
        pair (outputs, scores), where the scores are a list of those of each block in the same stream,
        (B, H, L or P, m + L) in float32.

    Raises:
        ValueError: a block whose attention is not a `RelativeAttention`.

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
        inputs: keras.layers.Layer,
        norm_epsilon: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not all(isinstance(block.attention, RelativeAttention) for block in blocks):
            raise ValueError(
                "A block has no `RelativeAttention`; expected blocks such as "
                "TransformerBlock(num_heads, intermediate_dim, attention=RelativeAttention(num_heads, key_dim))."
            )
        self.blocks, self.inputs, self.norm_epsilon = list(blocks), inputs, norm_epsilon
        self.remat = False  # see `training.rematerialize`
        self.norm = None
        if norm_epsilon is not None:
            self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, tokens_shape, **_: Any) -> None:
        """Create the weights, for inputs of these shapes."""
        for layer in (self.inputs, *self.blocks):
            if not layer.built:  # it is built already where a file was loaded
                layer.build(tokens_shape)
        if self.norm is not None:
            self.norm.build(tokens_shape)

    def call(
        self,
        tokens,
        mask=None,
        segment_ids=None,
        permutation_mask=None,
        queries=None,
        target_mapping=None,
        memories=None,
        return_attention_scores=False,
        training=None,
    ):
        """Compute the output; the class describes arguments and shapes."""
        mask = implicit_mask(tokens) if mask is None else mask
        context = _attention_context(tokens, mask, segment_ids, permutation_mask, memories)
        streams = [x for x in (tokens, queries) if x is not None]
        outputs, _, scores = self._run(streams, context, target_mapping, memories, return_attention_scores, training)
        outputs = attach_mask(outputs, implicit_mask(tokens if queries is None else queries))
        return (outputs, scores) if return_attention_scores else outputs

    def encode_segment(
        self, tokens, mask=None, segment_ids=None, permutation_mask=None, memories=None, memory_length=None
    ):
        """Encode one segment of a longer text, with the memory of the segments before.

        Args:
            tokens: (B, L, M) embedded tokens.
            mask: (B, L) boolean, True = a real token.
            segment_ids: (B, L) int.
            permutation_mask: (B, L, L) boolean, True = may be attended to.
            memories: what this method returned for the segment before; None for the first one.
            memory_length: m, how many tokens to keep, those of `memories` included; all when None.

        Returns:
            outputs (B, L, M), and memories: a dict of `block_0`, ... (B, m, M), the inputs of each block, and `mask`
            (B, m). Padding is not kept, so it changes nothing; no gradient flows into a memory.
        """
        context = _attention_context(tokens, mask, segment_ids, permutation_mask, memories)
        outputs, attended, _ = self._run([tokens], context, None, memories)
        mask = ops.ones(ops.shape(tokens)[:2], "bool") if mask is None else mask
        if memories is not None:
            mask = ops.concatenate([memories["mask"], mask], axis=1)
        kept = [gather_last(ops.stop_gradient(x), mask, memory_length) for x in attended]
        return outputs, {**{f"block_{i}": states for i, (states, _) in enumerate(kept)}, "mask": kept[0][1]}

    def _run(
        self, streams: list, context: dict, target_mapping, memories, return_attention_scores=False, training=False
    ):
        """Run all blocks over the content stream and, where there is one, the query stream.

        Returns:
            the last stream's outputs, what each block attended to, (B, m + L, M) each, and the last stream's scores.
        """
        streams, attended, scores = [self.inputs(x, training=training) for x in streams], [], []
        for i, block in enumerate(self.blocks):
            before = [] if memories is None else [ops.cast(memories[f"block_{i}"], streams[0].dtype)]
            attended.append(ops.concatenate([*before, streams[0]], axis=1))

            def run(memory, *streams, block=block):
                return _run_block(block, memory, streams, context, target_mapping, training)

            if self.remat and training and not return_attention_scores:
                streams = keras.remat(lambda *inputs, run=run: run(*inputs)[0])(attended[-1], *streams)
            else:
                streams, block_scores = run(attended[-1], *streams)
                scores.append(block_scores)
        return self._finish(streams[-1]), attended, scores

    def _finish(self, x):
        return x if self.norm is None else self.norm(x)

    def start(self, tokens, length):
        """Read the first tokens from left to right, and return the `carry` that every step changes.

        Args:
            tokens: (B, L, M) embedded tokens; L may be 0.
            length: T, how many tokens there will be at most, an integer or a scalar tensor.

        Returns:
            a dict of the position (B, 1) and each block's cache of keys and values (B, 1, H, T, D).
        """
        batch, known = ops.shape(tokens)[0], ops.shape(tokens)[1]
        carry: dict[str, Any] = {"position": ops.zeros((batch, 1), "int32") + known}
        encodings, mask = relative_encodings(known, known, tokens.shape[-1]), causal_mask(known)
        x = self.inputs(tokens)
        for i, block in enumerate(self.blocks):
            keys, values = block.attention.project_memory(block.attention_inputs(x))
            x, _, _ = block.run_branches(x, _attend_to(block, keys, values, encodings, mask))
            carry[f"block_{i}"] = {"keys": make_cache(keys, length), "values": make_cache(values, length)}
        return carry

    def step(self, tokens, queries, carry: dict):
        """Read one token per beam, and return the features of the position after it.

        The token at t and the query at t + 1 attend to the same tokens, those up to t, so both go through each block
        as two rows of one sequence.

        Args:
            tokens: (B, K, M) embedded tokens.
            queries: (B, K, M), what the query stream begins with.
            carry: from `start` or the last step, each tensor (B, K, ...).

        Returns:
            outputs (B, K, M) of the query stream, and the new carry.
        """
        t = ops.max(carry["position"])
        x = self.inputs(ops.stack([tokens, queries], axis=2))  # (B, K, 2, M)
        encodings = relative_encodings(2, ops.shape(carry["block_0"]["keys"])[3], tokens.shape[-1], start=t)
        mask, new = cache_mask(carry["block_0"]["keys"], t), {"position": carry["position"] + 1}
        for i, block in enumerate(self.blocks):
            cache = carry[f"block_{i}"]
            projected = block.attention.project_memory(block.attention_inputs(x[:, :, :1]))
            keys, values = (write_cache(cache[n], y, t) for n, y in zip(("keys", "values"), projected, strict=True))
            x, _, _ = block.run_branches(x, _attend_to(block, keys, values, encodings, mask))
            new[f"block_{i}"] = {"keys": keys, "values": values}
        return self._finish(x[:, :, 1]), new

    def compute_mask(self, *_: object, **__: object) -> None:
        """Return None: `call` attaches the implicit mask of the stream that it returns."""
        return None

    def compute_output_spec(
        self, tokens, *_: object, queries=None, memories=None, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        stream = tokens if queries is None else queries
        if not return_attention_scores:
            return output_specs(self, stream.shape)
        length = tokens.shape[1]
        if memories is not None:
            known = length is not None and memories["mask"].shape[1] is not None
            length = length + memories["mask"].shape[1] if known else None
        shape = (tokens.shape[0], self.blocks[0].num_heads, stream.shape[1], length)
        return output_specs(self, stream.shape), [keras.KerasTensor(shape, dtype="float32") for _ in self.blocks]


def _run_block(block, memory, streams: Sequence, context: dict, target_mapping, training):
    """Return the streams after a block, whose keys and values are those of `memory` (B, m + L, M), and the last scores.

    Each stream attends to the same keys and values; only its mask differs.
    """
    keys, values = block.attention.project_memory(block.attention_inputs(memory))
    outputs, scores = [], None
    for x, mask in zip(streams, context["masks"], strict=False):
        attend = _attend_to(block, keys, values, context["encodings"], mask, context["same_segment"], training)
        if target_mapping is not None and outputs:  # the query stream follows the content stream
            attend = _at_targets(attend, target_mapping)
        x, scores, _ = block.run_branches(x, attend, training=training)
        outputs.append(x)
    return outputs, scores


def _attend_to(block, keys, values, encodings, mask, same_segment=None, training=False) -> Callable:
    """Return the function x -> (context, scores) with which a block attends to these keys and values."""

    def attend(x):
        query = block.attention.project_query(x)
        return block.attention.attend(query, keys, values, encodings, mask, same_segment, bool(training))

    return attend


def _at_targets(attend: Callable, target_mapping) -> Callable:
    """Return `attend` for queries (B, P, M): each attends from the position that its one-hot row (B, P, L) names."""

    def attend_at_targets(x):
        mapping = ops.cast(target_mapping, x.dtype)
        context, scores = attend(ops.matmul(ops.swapaxes(mapping, 1, 2), x))
        scores = ops.matmul(ops.expand_dims(ops.cast(mapping, scores.dtype), 1), scores)
        return ops.matmul(mapping, context), scores

    return attend_at_targets


def _attention_context(tokens, mask, segment_ids, permutation_mask, memories) -> dict:
    """Return what every block of a stack attends with: `masks` of both streams, `encodings` and `same_segment`."""
    length, memory_mask = ops.shape(tokens)[1], None if memories is None else memories["mask"]
    keys = length if memories is None else length + ops.shape(memory_mask)[1]
    same = None
    if segment_ids is not None:
        of_keys = segment_ids
        if memories is not None:
            of_keys = ops.concatenate([ops.zeros_like(memory_mask, dtype=segment_ids.dtype), segment_ids], axis=1)
        same = ops.equal(ops.expand_dims(segment_ids, 2), ops.expand_dims(of_keys, 1))
    return {
        "masks": [_after_memory(own, memory_mask) for own in _stream_masks(length, mask, permutation_mask)],
        "encodings": relative_encodings(length, keys, tokens.shape[-1]),
        "same_segment": same,
    }


def _stream_masks(length, mask, permutation_mask) -> list:
    """Return the masks (B, L, L) of the content and the query stream, where B may be 1.

    A token always attends to itself in the content stream, even as padding, and never in the query stream.
    """
    itself = ops.expand_dims(ops.equal(ops.expand_dims(ops.arange(length), 1), ops.arange(length)), 0)  # (1, L, L)
    allowed = combine_masks(mask, permutation_mask)
    allowed = ops.ones_like(itself) if allowed is None else allowed
    return [ops.logical_or(allowed, itself), ops.logical_and(allowed, ops.logical_not(itself))]


def _after_memory(mask, memory_mask):
    """Return a mask (B, L, m + L) of a mask (B, L, L), where B may be 1, and one of the memory (B, m) or None."""
    if memory_mask is None:
        return mask
    before = ops.logical_or(ops.expand_dims(memory_mask, 1), ops.zeros_like(mask[:, :, :1]))
    within = ops.broadcast_to(mask, (ops.shape(memory_mask)[0], *ops.shape(mask)[1:]))
    return ops.concatenate([before, within], axis=2)
