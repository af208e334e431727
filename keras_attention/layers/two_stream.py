"""A stack of blocks with relative attention, read in one stream or in two, after a memory or without.

    content stream  h_q: looks at the tokens that it may, and at itself
    query stream    g_q: looks at the same tokens, but never at itself, so that it can predict itself

Both streams go through the same blocks; keys and values are always those of the content stream. What an earlier
segment of a text left behind, its memory, stands before the tokens and is looked at like them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.layers.cache import cache_mask, make_cache, write_cache
from keras_attention.layers.masks import causal_mask, combine_masks
from keras_attention.layers.relative import relative_encodings


def gather_last(states, mask, length=None):
    """Keep the last real vectors, moved to the right, so that what comes next stands directly after them.

    Args:
        states: (B, L, M).
        mask: (B, L) boolean, True = a real token.
        length: m, how many to keep at most; all L when absent or more than L.

    Returns:
        states (B, m, M) and their mask (B, m), False on the left where there were fewer than m.

    Example:
        >>> states, mask = gather_last(keras.ops.ones((1, 3, 2)), keras.ops.convert_to_tensor([[True, True, False]]))
        >>> keras.ops.convert_to_numpy(mask).tolist()
        [[False, True, True]]
    """
    size = ops.shape(mask)[1]
    order = ops.argsort(ops.arange(size) + size * ops.cast(mask, "int32"), axis=1)  # padding first, then in order
    order = order if length is None else order[:, ops.maximum(size - length, 0) :]
    return ops.take_along_axis(states, ops.expand_dims(order, -1), axis=1), ops.take_along_axis(mask, order, axis=1)


@keras.saving.register_keras_serializable("keras_attention")
class MaskEmbedding(keras.layers.Layer):
    """One learned vector for every token that is to be predicted: output[b, p] = m.

    Args:
        width: M.
        initializer: of m.

    Call arguments:
        inputs: (B, P, any); only its shape counts.

    Output:
        (B, P, M).

    Example:
        >>> tuple(MaskEmbedding(7)(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 7)

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, section 2.3.
    """

    def __init__(self, width: int, initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.width, self.initializer = width, keras.initializers.get(initializer)

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.vector = self.add_weight(shape=(1, self.width), initializer=self.initializer, name="vector")

    def call(self, inputs):
        """Compute the output; the class describes arguments and shapes."""
        return ops.zeros_like(inputs[..., :1], dtype=self.compute_dtype) + ops.cast(self.vector[0], self.compute_dtype)

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(self, inputs):
        """Return the shape and dtype of the output."""
        return keras.KerasTensor((*inputs.shape[:-1], self.width), dtype=self.compute_dtype)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "width": self.width, "initializer": initializer}


@keras.saving.register_keras_serializable("keras_attention")
class RelativeTransformer(keras.layers.Layer):
    """A stack of Transformer blocks with relative attention, in one stream or two, with a memory.

    Without `queries` it is an encoder, and has the content stream alone. With them, the query stream begins at
    `queries` and is answered.

    Args:
        blocks: `TransformerBlock`s whose attention is a `RelativeAttention`.
        inputs: an `InputEmbedding` without positions and segments.
        norm_epsilon: of a last layer normalisation, as pre-norm stacks have it; None for none.

    Call arguments:
        tokens: (B, L, M) embedded tokens.
        mask: (B, L) boolean, True = a real token.
        segment_ids: (B, L) int; all in one segment when absent.
        permutation_mask: (B, L, L) boolean, True = may be looked at; all may when absent. A token always looks at
            itself in the content stream, and never in the query stream.
        queries: (B, P, M) what the query stream begins with, such as a `MaskEmbedding`.
        target_mapping: (B, P, L), one-hot rows: where each query stands. P is L, in order, when absent.
        memories: dict of `block_0`, ... (B, m, M) and `mask` (B, m), from `read`; they count as segment 0.
        return_attention_scores: answer the weights.
        training: whether dropout is active.

    Output:
        outputs, (B, L, M) of the content stream or (B, P, M) of the query stream, and a list with the same stream's
        weights of each block, (B, H, L or P, m + L) in float32, empty where they were not asked for.

    Example:
        >>> from keras_attention.layers import InputEmbedding, RelativeAttention, TransformerBlock
        >>> blocks = [TransformerBlock(RelativeAttention(3, 4), intermediate_dim=11) for _ in range(2)]
        >>> stack = RelativeTransformer(blocks, InputEmbedding())
        >>> outputs, _ = stack(keras.ops.ones((2, 7, 12)), mask=keras.ops.ones((2, 7), "bool"))
        >>> tuple(outputs.shape)
        (2, 7, 12)

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
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.blocks, self.inputs, self.norm_epsilon = list(blocks), inputs, norm_epsilon
        self.remat = False  # see `training.rematerialize`
        self.norm = None
        if norm_epsilon is not None:
            self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, tokens_shape, **_: Any) -> None:
        """Create the weights, for inputs of these shapes."""
        for layer in (self.inputs, *self.blocks):
            if not layer.built:  # it is, when it was restored
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
        training=False,
    ):
        """Compute the output; the class describes arguments and shapes."""
        view = _view(tokens, mask, segment_ids, permutation_mask, memories)
        streams, _, weights = self._run(
            tokens, queries, target_mapping, view, memories, return_attention_scores, training
        )
        return streams[-1], weights

    def read(self, tokens, mask=None, segment_ids=None, permutation_mask=None, memories=None, memory_length=None):
        """Read one segment of a longer text after what is left of the ones before.

        Args:
            tokens: (B, L, M) embedded tokens.
            mask: (B, L) boolean, True = a real token.
            segment_ids: (B, L) int.
            permutation_mask: (B, L, L) boolean, True = may be looked at.
            memories: what this method answered for the segment before.
            memory_length: m, how many tokens to remember, the memory's own included; all when absent.

        Returns:
            outputs (B, L, M), and memories: a dict of `block_0`, ... (B, m, M), each block's inputs, and `mask`
            (B, m). Padding is not remembered, so it changes nothing; no gradient flows into a memory.
        """
        view = _view(tokens, mask, segment_ids, permutation_mask, memories)
        (outputs,), seen, _ = self._run(tokens, None, None, view, memories, False, False)
        mask = ops.ones(ops.shape(tokens)[:2], "bool") if mask is None else mask
        if memories is not None:
            mask = ops.concatenate([memories["mask"], mask], axis=1)
        kept = {f"block_{i}": gather_last(ops.stop_gradient(x), mask, memory_length) for i, x in enumerate(seen)}
        return outputs, {**{name: states for name, (states, _) in kept.items()}, "mask": kept["block_0"][1]}

    def _run(self, tokens, queries, target_mapping, view: dict, memories, return_attention_scores, training):
        """Return the streams that there are, content first; what each block looked at (B, m + L, M); and weights."""
        streams = [self.inputs(x, training=training) for x in (tokens, queries) if x is not None]
        seen, collected = [], []
        for i, block in enumerate(self.blocks):
            before = [] if memories is None else [ops.cast(memories[f"block_{i}"], streams[0].dtype)]
            seen.append(ops.concatenate([*before, streams[0]], axis=1))
            look = functools.partial(self._look, block, target_mapping, view, return_attention_scores, training)
            if self.remat and training and not return_attention_scores:
                streams = keras.remat(lambda *given, look=look: look(*given)[0])(seen[-1], *streams)
            else:
                streams, weights = look(seen[-1], *streams)
                collected += [weights] if return_attention_scores else []
        return [self._finish(x) for x in streams], seen, collected

    def _look(self, block, target_mapping, view: dict, return_attention_scores, training, seen, content, queries=None):
        """Return the streams after a block, which looked at `seen` (B, m + L, M), and the weights of the last."""
        options = {
            "projected": block.attention.project_memory(self._normed(block, seen)),
            "encodings": view["encodings"],
            "same_segment": view["same_segment"],
            "return_attention_scores": return_attention_scores,
            "training": training,
        }
        answers = [_advance(block, content, None, {**options, "mask": view["content_mask"]})]
        if queries is not None:
            answers.append(_advance(block, queries, target_mapping, {**options, "mask": view["query_mask"]}))
        return [x for x, _ in answers], answers[-1][1]

    def _normed(self, block, x):
        return block.attention_norm(x) if block.norm_first else x

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
        batch, read = ops.shape(tokens)[0], ops.shape(tokens)[1]
        carry: dict[str, Any] = {"position": ops.zeros((batch, 1), "int32") + read}
        encodings = relative_encodings(read, read, tokens.shape[-1])
        x = self.inputs(tokens)
        for i, block in enumerate(self.blocks):
            projected = block.attention.project_memory(self._normed(block, x))
            options = {"projected": projected, "encodings": encodings, "mask": causal_mask(read)}
            x, _ = _advance(block, x, None, options)
            carry[f"block_{i}"] = dict(zip(("keys", "values"), (make_cache(y, length) for y in projected), strict=True))
        return carry

    def step(self, tokens, queries, carry: dict):
        """Read one token per beam, and look from the place after it.

        The token at t and the query at t + 1 look at the same tokens, those up to t, so both go through each
        block as two rows of one sequence.

        Args:
            tokens: (B, K, M) embedded tokens.
            queries: (B, K, M) what the query stream begins with.
            carry: from `start` or the last step, each tensor (B, K, ...).

        Returns:
            outputs (B, K, M) of the query stream, and the new carry.
        """
        t = ops.max(carry["position"])
        x = self.inputs(ops.stack([tokens, queries], axis=2))  # (B, K, 2, M)
        length = ops.shape(carry["block_0"]["keys"])[3]
        options = {
            "encodings": relative_encodings(2, length, tokens.shape[-1], start=t),
            "mask": cache_mask(carry["block_0"]["keys"], t),
        }
        new: dict[str, Any] = {"position": carry["position"] + 1}
        for i, block in enumerate(self.blocks):
            written = block.attention.project_memory(self._normed(block, x[:, :, :1]))
            cache = carry[f"block_{i}"]
            cache = [write_cache(cache[name], y, t) for name, y in zip(("keys", "values"), written, strict=True)]
            new[f"block_{i}"] = dict(zip(("keys", "values"), cache, strict=True))
            x, _ = _advance(block, x, None, {**options, "projected": tuple(cache)})
        return self._finish(x[:, :, 1]), new

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(
        self, tokens, *_: object, queries=None, memories=None, return_attention_scores=False, **__: object
    ):
        """Return shapes and dtypes of the outputs."""
        stream = tokens if queries is None else queries
        outputs = keras.KerasTensor(stream.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs, []
        length = tokens.shape[1]
        if memories is not None:
            known = length is not None and memories["mask"].shape[1] is not None
            length = length + memories["mask"].shape[1] if known else None
        shape = (tokens.shape[0], self.blocks[0].attention.num_heads, stream.shape[1], length)
        return outputs, [keras.KerasTensor(shape, dtype="float32") for _ in self.blocks]

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks],
            "inputs": keras.saving.serialize_keras_object(self.inputs),
            "norm_epsilon": self.norm_epsilon,
        }

    @classmethod
    def from_config(cls, config: dict) -> RelativeTransformer:
        """Make what `get_config` described."""
        read = keras.saving.deserialize_keras_object
        blocks = [read(block) for block in config["blocks"]]
        return cls(**{**config, "blocks": blocks, "inputs": read(config["inputs"])})


def _advance(block, x, target_mapping, options: dict):
    """Take one stream through a block: queries that stand somewhere are put there to look, and taken back."""

    def look(x):
        if target_mapping is None:
            return block.attention(x, **options)
        mapping = ops.cast(target_mapping, x.dtype)
        answer, weights = block.attention(ops.matmul(ops.swapaxes(mapping, 1, 2), x), **options)
        if options.get("return_attention_scores"):
            weights = ops.matmul(ops.expand_dims(ops.cast(mapping, weights.dtype), 1), weights)
        return ops.matmul(mapping, answer), weights

    training = options.get("training", False)
    x, weights = block.branch(block.attention_norm, x, look, training)
    return block.feed_forward(x, training), weights


def _view(tokens, mask, segment_ids, permutation_mask, memories) -> dict:
    """What every block of a stack looks with: the masks of both streams, the encodings, and who is in whose segment.

    A token always looks at itself in the content stream, even as padding, and never in the query stream.
    """
    length, memory_mask = ops.shape(tokens)[1], None if memories is None else memories["mask"]
    own = ops.expand_dims(ops.equal(ops.expand_dims(ops.arange(length), 1), ops.arange(length)), 0)  # (1, L, L)
    allowed = combine_masks(mask, permutation_mask)
    allowed = ops.ones_like(own) if allowed is None else allowed
    others = ops.logical_and(allowed, ops.logical_not(own))
    keys, same = length, None
    if memories is not None:
        keys = length + ops.shape(memory_mask)[1]
    if segment_ids is not None:
        of_keys = segment_ids
        if memories is not None:
            of_keys = ops.concatenate([ops.zeros_like(memory_mask, dtype=segment_ids.dtype), segment_ids], axis=1)
        same = ops.equal(ops.expand_dims(segment_ids, 2), ops.expand_dims(of_keys, 1))
    return {
        "content_mask": _after_memory(ops.logical_or(allowed, own), memory_mask),
        "query_mask": _after_memory(others, memory_mask),
        "encodings": relative_encodings(length, keys, tokens.shape[-1]),
        "same_segment": same,
    }


def _after_memory(mask, memory_mask):
    """Return a mask (B, L, m + L) of a mask (B, L, L), where 1 may stand for B, and one of the memory (B, m)."""
    if memory_mask is None:
        return mask
    before = ops.logical_or(ops.expand_dims(memory_mask, 1), ops.zeros_like(mask[:, :, :1]))
    within = ops.broadcast_to(mask, (ops.shape(memory_mask)[0], *ops.shape(mask)[1:]))
    return ops.concatenate([before, within], axis=2)
