"""One row per layer; `test_layers.py` and `test_backends.py` run every check on every row.

Different axes of an input or an output differ in size, so that a swapped axis cannot pass. A width is even and a
multiple of the number of heads (22 = 2 * 11), the units of two directions are even, and a network sets its channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_attention import layers

# The letters of docs/glossary.md: E is the width of inputs, F that of a memory or of values.
B, Q, S, T, E, F = 2, 3, 5, 7, 13, 17
M, H = 22, 11  # the width of a Transformer, not a prime but an even multiple of its number of attention heads
SOURCE_MASK = np.array([[True] * S, [True, True, True, False, False]])  # (B, S)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LayerRow:
    """A layer, its call arguments, and the shapes of its outputs."""

    name: str
    make: Callable[[], Any]
    arguments: Callable[[np.random.Generator], dict[str, np.ndarray]]
    output_shapes: tuple[tuple[int, ...], ...]
    has_dense: bool = False  # it contains `keras.layers.Dense`, which has LoRA and int8
    in_sequential: bool = False  # one input and one output are enough, as in `keras.Sequential`
    whole_outputs: int = 0  # the last outputs have no axis for the positions of the first input, as final states

    @property
    def parts_have_rows(self) -> bool:
        """Whether the layer is a stack or a decoder, whose parts have rows of their own."""
        return isinstance(self.make(), layers.Transformer | layers.RelativeTransformer | layers.RecurrentDecoder)

    @property
    def is_hard(self) -> bool:
        """Whether the layer attends to one position, which rounding can change."""
        return getattr(self.make(), "hard", False)


def _query_and_value(width: int = F) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        query, value = rng.normal(size=(B, Q, E)), rng.normal(size=(B, S, width))
        inputs = {"query": query.astype("float32"), "value": value.astype("float32")}
        return {
            **inputs,
            "query_mask": np.arange(Q) < [[2], [3]],
            "value_mask": SOURCE_MASK,
            "return_attention_scores": True,
        }

    return arguments


def _sequence(rng: np.random.Generator) -> dict:
    return {"inputs": rng.normal(size=(B, S, E)).astype("float32"), "mask": SOURCE_MASK}


def _characters(rng: np.random.Generator) -> dict:
    mask = np.arange(S) < np.array([[5, 3, 0], [1, 5, 2]])[:, :, None]
    return {"inputs": rng.integers(0, 11, (B, Q, S)), "mask": mask}


def _token_ids(rng: np.random.Generator) -> dict:
    return {"inputs": rng.integers(0, 11, (B, S)), "mask": np.arange(S) < [[5], [3]]}


def _decoder(states: int, *, memory: bool = False) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        arrays: dict = {"inputs": rng.normal(size=(B, T, E)).astype("float32")}
        arrays["initial_state"] = [rng.normal(size=(B, F)).astype("float32") for _ in range(states)]
        arrays["mask"] = np.arange(T) < [[3], [T]]
        if memory:
            arrays["memory"] = rng.normal(size=(B, S, F)).astype("float32")
            arrays["memory_mask"] = np.array([[True] * S, [True, True, False, False, False]])
            arrays["return_attention_scores"] = True
        return arrays

    return arguments


def _hard_attention(rng: np.random.Generator) -> dict:
    return {**_query_and_value()(rng), "noise": rng.gumbel(size=(B, Q, S)).astype("float32")}


def _noise_inputs(rng: np.random.Generator) -> dict:
    arrays = _query_and_value()(rng)
    return {"query": arrays["query"], "memory": arrays["value"]}


def _outputs_and_scores(rng: np.random.Generator) -> dict:
    return {"inputs": np.ones((B, T, E), "float32"), "scores": np.ones((B, T, S), "float32")}


def _regions(rng: np.random.Generator) -> dict:
    return {"regions": rng.normal(size=(B, Q * S, F)).astype("float32")}


def _pixels(rng: np.random.Generator) -> dict:
    return {"images": rng.uniform(0, 255, (B, 32, 32, 3)).astype("float32")}


def _feature_map(rng: np.random.Generator) -> dict:
    return {"inputs": rng.normal(size=(B, Q, S, M)).astype("float32"), "return_attention_scores": True}


def _multi_head(*, memory: bool) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        arrays = {"query": rng.normal(size=(B, Q if memory else S, M)).astype("float32")}
        arrays["value_mask" if memory else "query_mask"] = SOURCE_MASK
        if memory:
            arrays["value"] = rng.normal(size=(B, S, F)).astype("float32")
        return {**arrays, "return_attention_scores": True}

    return arguments


def _stack(*, memory: bool) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        arrays = {"inputs": rng.normal(size=(B, T if memory else S, M)).astype("float32")}
        if memory:
            arrays["memory"] = rng.normal(size=(B, S, F)).astype("float32")
            arrays["memory_mask"] = SOURCE_MASK
        arrays["mask"] = np.arange(T) < [[3], [T]] if memory else SOURCE_MASK
        return {**arrays, "return_attention_scores": True}

    return arguments


def _vectors(**others: Any) -> Callable[[np.random.Generator], dict]:
    return lambda rng: {"inputs": rng.normal(size=(B, S, M)).astype("float32"), **others}


def _relative_attention(rng: np.random.Generator) -> dict:
    """Queries, values, and which pairs are in the same segment. The queries are the last positions of the values."""
    arrays = _multi_head(memory=True)(rng)
    arrays["value"] = rng.normal(size=(B, S, M)).astype("float32")
    return {**arrays, "same_segment": rng.random((B, Q, S)) < 0.5}


def _two_streams(rng: np.random.Generator) -> dict:
    """Q queries at some positions of S tokens, and a memory of four tokens."""
    targets = np.array([[0, 2, 1], [2, 0, 1]])
    memory = {f"block_{i}": rng.normal(size=(B, 4, M)).astype("float32") for i in range(2)}
    return {
        **_stack(memory=False)(rng),
        "segment_ids": np.array([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]),
        "permutation_mask": rng.random((B, S, S)) < 0.5,
        "queries": rng.normal(size=(B, Q, M)).astype("float32"),
        "target_mapping": np.eye(S, dtype="float32")[targets],
        "memories": {**memory, "mask": np.arange(4) >= [[0], [1]]},
    }


def _block(**options: Any) -> layers.TransformerBlock:
    return layers.TransformerBlock(num_heads=H, intermediate_dim=11, **options)


def _relative_block() -> layers.TransformerBlock:
    return _block(attention=layers.RelativeAttention(num_heads=H, key_dim=6))


# fmt: off
LAYERS = [
    LayerRow(name="additive", has_dense=True,
             make=lambda: layers.AdditiveAttention(units=19),
             arguments=_query_and_value(), output_shapes=((B, Q, F), (B, Q, S))),
    LayerRow(name="dot-product",
             make=lambda: layers.DotProductAttention(scaled=False),
             arguments=_query_and_value(width=E), output_shapes=((B, Q, E), (B, Q, S))),
    LayerRow(name="scaled dot-product", has_dense=True,
             make=lambda: layers.DotProductAttention(units=19),
             arguments=_query_and_value(), output_shapes=((B, Q, F), (B, Q, S))),
    LayerRow(name="simple encoder", in_sequential=True,
             make=lambda: layers.RecurrentEncoder(units=14, cell="simple"),
             arguments=_sequence, output_shapes=((B, S, 14),)),
    LayerRow(name="gru encoder", whole_outputs=1,
             make=lambda: layers.RecurrentEncoder(7, num_layers=2, cell="gru", bidirectional=False, return_state=True),
             arguments=_sequence, output_shapes=((B, S, 7), (B, 7))),
    LayerRow(name="lstm encoder", whole_outputs=2,
             make=lambda: layers.RecurrentEncoder(units=14, num_layers=2, return_state=True),
             arguments=_sequence, output_shapes=((B, S, 14), (B, 14), (B, 14))),
    LayerRow(name="character encoder", whole_outputs=1, in_sequential=True,
             make=lambda: layers.CharacterEncoder(vocabulary_size=11, embedding_dim=13, units=14),
             arguments=_characters, output_shapes=((B, Q, 14),)),
    LayerRow(name="affix encoder", whole_outputs=1, in_sequential=True,
             make=lambda: layers.AffixEncoder(11, affix_dim=2, max_affix_length=3, hash_buckets=97,
                                              characters="..aBcD12éÉ-"),
             arguments=_characters, output_shapes=((B, Q, 21),)),
    LayerRow(name="bag of n-grams", whole_outputs=1, in_sequential=True,
             make=lambda: layers.BagOfNGrams(vocabulary_size=11, units=7, hash_buckets=97, pieces="abcd"),
             arguments=_token_ids, output_shapes=((B, 7),)),
    LayerRow(name="simple decoder", in_sequential=True, has_dense=True,
             make=lambda: layers.RecurrentDecoder(units=19, output_dim=23, cell="simple"),
             arguments=_decoder(states=1), output_shapes=((B, T, 23),)),
    LayerRow(name="gru decoder", has_dense=True,
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, cell="gru",
                                                  attention=layers.DotProductAttention(units=29)),
             arguments=_decoder(states=1, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="lstm decoder", has_dense=True,
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, cell="lstm",
                                                  attention=layers.AdditiveAttention(units=29)),
             arguments=_decoder(states=2, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="attention-first decoder", has_dense=True,
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, attend_first=True,
                                                  attention=layers.AdditiveAttention(units=29)),
             arguments=_decoder(states=1, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="hard attention", has_dense=True,
             make=lambda: layers.AdditiveAttention(units=19, hard=True),
             arguments=_hard_attention, output_shapes=((B, Q, F), (B, Q, S))),
    LayerRow(name="gumbel noise",
             make=layers.GumbelNoise,
             arguments=_noise_inputs, output_shapes=((B, Q, S),)),
    LayerRow(name="attention loss",
             make=layers.AttentionLoss,
             arguments=_outputs_and_scores, output_shapes=((B, T, E),)),
    LayerRow(name="image encoder", in_sequential=True,
             make=lambda: layers.ImageEncoder("small_cnn", image_size=32),
             arguments=_pixels, output_shapes=((B, 64, 96),)),
    LayerRow(name="shift regions", in_sequential=True,
             make=lambda: layers.ShiftRegions(rows=Q, columns=S),
             arguments=_regions, output_shapes=((B, Q * S, F),)),
    LayerRow(name="2d self-attention", in_sequential=True,
             make=lambda: layers.SelfAttention2D(units=7),
             arguments=_feature_map, output_shapes=((B, Q, S, M), (B, Q * S, Q * S))),
    LayerRow(name="self-attention", in_sequential=True, has_dense=True,
             make=lambda: layers.MultiHeadAttention(num_heads=H, key_dim=3),
             arguments=_multi_head(memory=False), output_shapes=((B, S, M), (B, H, S, S))),
    LayerRow(name="cross-attention", has_dense=True,
             make=lambda: layers.MultiHeadAttention(num_heads=H, key_dim=6, use_bias=False),
             arguments=_multi_head(memory=True), output_shapes=((B, Q, M), (B, H, Q, S))),
    LayerRow(name="transformer block", in_sequential=True, has_dense=True,
             make=_block,
             arguments=_stack(memory=False), output_shapes=((B, S, M), (B, H, S, S))),
    LayerRow(name="block with cross-attention", has_dense=True,
             make=lambda: _block(activation="gelu", norm_first=True,
                                 attention=layers.MultiHeadAttention(num_heads=H, key_dim=3, use_bias=False)),
             arguments=_stack(memory=True), output_shapes=((B, T, M), (B, H, T, S))),
    LayerRow(name="post-norm stack", in_sequential=True, has_dense=True,
             make=lambda: layers.Transformer([_block(), _block()], layers.InputEmbedding(layers.SinusoidalPositions())),
             arguments=_stack(memory=False), output_shapes=((B, S, M), (B, H, S, S), (B, H, S, S))),
    LayerRow(name="pre-norm causal stack", in_sequential=True, has_dense=True,
             make=lambda: layers.Transformer([_block(norm_first=True)], causal=True, norm_epsilon=1e-5,
                                             input_embedding=layers.InputEmbedding(layers.PositionEmbedding(max_length=S))),
             arguments=_stack(memory=False), output_shapes=((B, S, M), (B, H, S, S))),
    LayerRow(name="decoder stack", has_dense=True,
             make=lambda: layers.Transformer([_block(), _block()], layers.InputEmbedding(), causal=True,
                                             has_memory=True),
             arguments=_stack(memory=True), output_shapes=((B, T, M), (B, H, T, S), (B, H, T, S))),
    LayerRow(name="position embedding", in_sequential=True,
             make=lambda: layers.PositionEmbedding(max_length=S),
             arguments=_vectors(), output_shapes=((B, S, M),)),
    LayerRow(name="input embedding", in_sequential=True,
             make=lambda: layers.InputEmbedding(layers.PositionEmbedding(max_length=S, offset=2), scale=3.0,
                                                num_segments=2, norm_epsilon=1e-12),
             arguments=_vectors(segment_ids=np.array([[0, 0, 0, 1, 1]] * B)), output_shapes=((B, S, M),)),
    LayerRow(name="relative attention", has_dense=True,
             make=lambda: layers.RelativeAttention(num_heads=H, key_dim=6),
             arguments=_relative_attention, output_shapes=((B, Q, M), (B, H, Q, S))),
    LayerRow(name="relative stack", in_sequential=True, has_dense=True,
             make=lambda: layers.RelativeTransformer([_relative_block()], layers.InputEmbedding()),
             arguments=_stack(memory=False), output_shapes=((B, S, M), (B, H, S, S))),
    LayerRow(name="two streams", whole_outputs=3, has_dense=True,
             make=lambda: layers.RelativeTransformer([_relative_block(), _relative_block()], layers.InputEmbedding()),
             arguments=_two_streams, output_shapes=((B, Q, M), (B, H, Q, 4 + S), (B, H, Q, 4 + S))),
    LayerRow(name="mask embedding", in_sequential=True,
             make=lambda: layers.MaskEmbedding(width=M),
             arguments=_vectors(), output_shapes=((B, S, M),)),
    LayerRow(name="masked lm head", in_sequential=True, has_dense=True,
             make=layers.MaskedLMHead,
             arguments=_vectors(), output_shapes=((B, S, M),)),
    LayerRow(name="output bias", in_sequential=True,
             make=layers.OutputBias,
             arguments=_vectors(), output_shapes=((B, S, M),)),
]
# fmt: on
