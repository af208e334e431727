"""One row per layer and per model; `test_conformance.py` and `test_layers.py` run every check on every row.

Different axes of an input or an output differ in size, so that a swapped axis cannot pass. A width is even and a
multiple of the number of heads (28 = 4 * 7), the units of two directions are even, and a network sets its channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from conftest import PAIRS

import keras_attention as ka
from keras_attention.layers import (
    AdditiveAttention,
    AffixEncoder,
    AttentionLoss,
    BagOfNGrams,
    CharacterEncoder,
    DotProductAttention,
    GumbelNoise,
    ImageEncoder,
    InputEmbedding,
    MaskedLMHead,
    MaskEmbedding,
    MultiHeadAttention,
    OutputBias,
    PositionEmbedding,
    RecurrentDecoder,
    RecurrentEncoder,
    RelativeAttention,
    RelativeTransformer,
    SelfAttention2D,
    ShiftRegions,
    SinusoidalPositions,
    Transformer,
    TransformerBlock,
)

B, Q, S, T, D, E, M = 2, 3, 5, 4, 11, 13, 17
W, H = 28, 7  # the width and the heads of a Transformer


@dataclasses.dataclass(frozen=True, eq=False)
class LayerRow:
    """A layer, its call arguments, and the shapes of its outputs."""

    name: str
    make: Callable[[], Any]
    arguments: Callable[[np.random.Generator], dict[str, np.ndarray]]
    shapes: tuple[tuple[int, ...], ...]


def _query_and_value(width: int = M) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        mask = np.array([[True] * S, [True, True, True, False, False]])
        query, value = rng.normal(size=(B, Q, D)), rng.normal(size=(B, S, width))
        inputs = {"query": query.astype("float32"), "value": value.astype("float32")}
        return {**inputs, "query_mask": np.arange(Q) < [[2], [3]], "value_mask": mask, "return_attention_scores": True}

    return arguments


def _sequence(rng: np.random.Generator) -> dict:
    mask = np.array([[True] * S, [True, True, True, False, False]])
    return {"inputs": rng.normal(size=(B, S, E)).astype("float32"), "mask": mask}


def _characters(rng: np.random.Generator) -> dict:
    mask = np.arange(S) < np.array([[5, 3, 0], [1, 5, 2]])[:, :, None]
    return {"inputs": rng.integers(0, 11, (B, Q, S)), "mask": mask}


def _token_ids(rng: np.random.Generator) -> dict:
    return {"inputs": rng.integers(0, 11, (B, S)), "mask": np.arange(S) < [[5], [3]]}


def _decoder(states: int, *, memory: bool = False) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        arrays: dict = {"inputs": rng.normal(size=(B, T, E)).astype("float32")}
        arrays["initial_state"] = [rng.normal(size=(B, M)).astype("float32") for _ in range(states)]
        arrays["mask"] = np.arange(T) < [[3], [T]]
        if memory:
            arrays["memory"] = rng.normal(size=(B, S, M)).astype("float32")
            arrays["memory_mask"] = np.array([[True] * S, [True, True, False, False, False]])
            arrays["return_attention_scores"] = True
        return arrays

    return arguments


def _hard_attention(rng: np.random.Generator) -> dict:
    return {**_query_and_value()(rng), "noise": rng.gumbel(size=(B, Q, S)).astype("float32")}


def _noise_inputs(rng: np.random.Generator) -> dict:
    arrays = _query_and_value()(rng)
    return {"query": arrays["query"], "memory": arrays["value"]}


def _pixels(rng: np.random.Generator) -> dict:
    return {"images": rng.uniform(0, 255, (B, 32, 32, 3)).astype("float32")}


def _feature_map(rng: np.random.Generator) -> dict:
    return {"inputs": rng.normal(size=(B, Q, S, W)).astype("float32"), "return_attention_scores": True}


def _multi_head(*, memory: bool) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        mask = np.array([[True] * S, [True, True, True, False, False]])
        arrays = {"query": rng.normal(size=(B, Q if memory else S, W)).astype("float32")}
        arrays["value_mask" if memory else "query_mask"] = mask
        if memory:
            arrays["value"] = rng.normal(size=(B, S, M)).astype("float32")
        return {**arrays, "return_attention_scores": True}

    return arguments


def _stack(name: str = "tokens", *, memory: bool) -> Callable[[np.random.Generator], dict]:
    def arguments(rng: np.random.Generator) -> dict:
        mask = np.array([[True] * S, [True, True, True, False, False]])
        arrays = {name: rng.normal(size=(B, T if memory else S, W)).astype("float32")}
        if memory:
            arrays["memory"] = rng.normal(size=(B, S, M)).astype("float32")
            arrays["memory_mask"] = mask
        arrays["mask"] = np.arange(T) < [[3], [T]] if memory else mask
        return {**arrays, "return_attention_scores": True}

    return arguments


def _vectors(name: str, **others: Any) -> Callable[[np.random.Generator], dict]:
    return lambda rng: {name: rng.normal(size=(B, S, W)).astype("float32"), **others}


def _relative_attention(rng: np.random.Generator) -> dict:
    """Queries, values, and which pairs are in the same segment. The queries are the last positions of the values."""
    arrays = _multi_head(memory=True)(rng)
    arrays["value"] = rng.normal(size=(B, S, W)).astype("float32")
    return {**arrays, "same_segment": rng.random((B, Q, S)) < 0.5}


def _two_streams(rng: np.random.Generator) -> dict:
    """Q queries at some positions of S tokens, and a memory of four tokens."""
    targets = np.array([[0, 2, 1], [2, 0, 1]])
    memory = {f"block_{i}": rng.normal(size=(B, 4, W)).astype("float32") for i in range(2)}
    return {
        **_stack(memory=False)(rng),
        "segment_ids": np.array([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]),
        "permutation_mask": rng.random((B, S, S)) < 0.5,
        "queries": rng.normal(size=(B, Q, W)).astype("float32"),
        "target_mapping": np.eye(S, dtype="float32")[targets],
        "memories": {**memory, "mask": np.arange(4) >= [[0], [1]]},
    }


def _relative_block() -> TransformerBlock:
    return TransformerBlock(H, 11, attention=RelativeAttention(H, 6))


# fmt: off
LAYERS = [
    LayerRow("additive", lambda: AdditiveAttention(19), _query_and_value(), ((B, Q, M), (B, Q, S))),
    LayerRow("dot-product", lambda: DotProductAttention(scaled=False), _query_and_value(D), ((B, Q, D), (B, Q, S))),
    LayerRow("scaled dot-product", lambda: DotProductAttention(19), _query_and_value(), ((B, Q, M), (B, Q, S))),
    LayerRow("simple encoder", lambda: RecurrentEncoder(14, cell="simple"), _sequence, ((B, S, 14),)),
    LayerRow("gru encoder", lambda: RecurrentEncoder(7, 2, "gru", bidirectional=False, return_state=True), _sequence,
             ((B, S, 7), (B, 7))),
    LayerRow("lstm encoder", lambda: RecurrentEncoder(14, 2, return_state=True), _sequence,
             ((B, S, 14), (B, 14), (B, 14))),
    LayerRow("character encoder", lambda: CharacterEncoder(11, 13, 14), _characters, ((B, Q, 14),)),
    LayerRow("affix encoder", lambda: AffixEncoder(11, 2, 3, 97, "..aBcD12éÉ-"), _characters,
             ((B, Q, 21),)),
    LayerRow("bag of n-grams", lambda: BagOfNGrams(11, 7, 97, pieces="abcd"), _token_ids, ((B, 7),)),
    LayerRow("simple decoder", lambda: RecurrentDecoder(19, 23, cell="simple"), _decoder(states=1), ((B, T, 23),)),
    LayerRow("gru decoder", lambda: RecurrentDecoder(19, 23, 2, "gru", DotProductAttention(29)),
             _decoder(states=1, memory=True), ((B, T, 23), (B, T, S))),
    LayerRow("lstm decoder", lambda: RecurrentDecoder(19, 23, 2, "lstm", AdditiveAttention(29)),
             _decoder(states=2, memory=True), ((B, T, 23), (B, T, S))),
    LayerRow("attention-first decoder", lambda: RecurrentDecoder(
        19, 23, 2, attention=AdditiveAttention(29), attend_first=True), _decoder(states=1, memory=True),
             ((B, T, 23), (B, T, S))),
    LayerRow("hard attention", lambda: AdditiveAttention(19, hard=True), _hard_attention, ((B, Q, M), (B, Q, S))),
    LayerRow("gumbel noise", GumbelNoise, _noise_inputs, ((B, Q, S),)),
    LayerRow("attention loss", AttentionLoss, lambda rng: {
        "inputs": np.ones((B, T, D), "float32"), "scores": np.ones((B, T, S), "float32")}, ((B, T, D),)),
    LayerRow("image encoder", lambda: ImageEncoder("small_cnn", 32), _pixels, ((B, 64, 96),)),
    LayerRow("shift regions", lambda: ShiftRegions(Q, S), lambda rng: {
        "regions": rng.normal(size=(B, Q * S, M)).astype("float32")}, ((B, Q * S, M),)),
    LayerRow("2d self-attention", lambda: SelfAttention2D(7), _feature_map, ((B, Q, S, W), (B, Q * S, Q * S))),
    LayerRow("self-attention", lambda: MultiHeadAttention(H, 3), _multi_head(memory=False), ((B, S, W), (B, H, S, S))),
    LayerRow("cross-attention", lambda: MultiHeadAttention(H, 6, use_bias=False), _multi_head(memory=True),
             ((B, Q, W), (B, H, Q, S))),
    LayerRow("transformer block", lambda: TransformerBlock(H, 11), _stack("inputs", memory=False),
             ((B, S, W), (B, H, S, S))),
    LayerRow("block with cross-attention", lambda: TransformerBlock(
        H, 11, "gelu", norm_first=True, attention=MultiHeadAttention(H, 3, use_bias=False)),
             _stack("inputs", memory=True), ((B, T, W), (B, H, T, S))),
    LayerRow("post-norm stack", lambda: Transformer(
        [TransformerBlock(H, 11), TransformerBlock(H, 11)], InputEmbedding(SinusoidalPositions())),
             _stack(memory=False), ((B, S, W), (B, H, S, S), (B, H, S, S))),
    LayerRow("pre-norm causal stack", lambda: Transformer(
        [TransformerBlock(H, 11, norm_first=True)], InputEmbedding(PositionEmbedding(S)), causal=True,
        norm_epsilon=1e-5), _stack(memory=False), ((B, S, W), (B, H, S, S))),
    LayerRow("decoder stack", lambda: Transformer(
        [TransformerBlock(H, 11), TransformerBlock(H, 11)], InputEmbedding(), causal=True, cross_attention=True),
             _stack(memory=True), ((B, T, W), (B, H, T, S), (B, H, T, S))),
    LayerRow("input embedding", lambda: InputEmbedding(PositionEmbedding(S, 2), 3.0, 2, 1e-12), _vectors(
        "tokens", segment_ids=np.array([[0, 0, 0, 1, 1]] * B)), ((B, S, W),)),
    LayerRow("relative attention", lambda: RelativeAttention(H, 6), _relative_attention, ((B, Q, W), (B, H, Q, S))),
    LayerRow("relative stack", lambda: RelativeTransformer([_relative_block()], InputEmbedding()), _stack(memory=False),
             ((B, S, W), (B, H, S, S))),
    LayerRow("two streams", lambda: RelativeTransformer([_relative_block(), _relative_block()], InputEmbedding()),
             _two_streams, ((B, Q, W), (B, H, Q, 4 + S), (B, H, Q, 4 + S))),
    LayerRow("mask embedding", lambda: MaskEmbedding(W), _vectors("inputs"), ((B, S, W),)),
    LayerRow("masked lm head", MaskedLMHead, _vectors("inputs"), ((B, S, W),)),
    LayerRow("output bias", OutputBias, _vectors("inputs"), ((B, S, W),)),
]
# fmt: on


@dataclasses.dataclass(frozen=True, eq=False)
class ModelRow:
    """A model, its prediction method, and input texts or images."""

    name: str
    make: Callable[[Any], Any]
    predict_method: str
    texts: tuple = ("we eat bread", "the girl drinks cold milk", "")
    is_unique: bool = True  # False if other rows run the same code: then slow
    export: str = "files"  # "graph" if other rows write exports of the task, "" if they have the same functions


def _translator(preset: str, **overrides: Any) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> Any:
        tokenizers = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
        return ka.Translator.from_preset(
            preset, **tokenizers, **(overrides if "width" in overrides else _RECURRENT | overrides)
        )

    return make


_RECURRENT = {"units": 22, "embedding_dim": 17}  # 11 in each direction
_SMALL = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 13}
_SINGLE = {**_SMALL, "num_layers": 1}  # other rows test two layers of the same blocks


def _labelled(kind: type, preset: str, sizes: dict = _RECURRENT) -> Callable[[Any], Any]:
    labels = ("first", "second", "third", "fourth", "fifth")
    return lambda tokenizer: kind.from_preset(preset, tokenizer=tokenizer, labels=labels, **sizes)


def _character_encoder(tokenizer: Any) -> Any:
    characters = ka.data.train_tokenizer([a for a, _ in PAIRS], "characters")
    return ka.TextTagger.from_preset(
        "rnn_tagger", tokenizer=tokenizer, character_tokenizer=characters, labels=("first", "second"), **_RECURRENT
    )


IMAGES = tuple(np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype("uint8") for i in range(3))


def _captioner(preset: str, **overrides: Any) -> Callable[[Any], Any]:
    encoder_options = {"image_encoder": "small_cnn", "image_size": 32, "max_length": 31}
    return lambda tokenizer: ka.Captioner.from_preset(preset, tokenizer=tokenizer, **encoder_options, **overrides)


# fmt: off
MODELS = [
    ModelRow("seq2seq", _translator("rnn_seq2seq"), "translate", export="graph"),
    ModelRow("seq2seq, simple cells", _translator("rnn_seq2seq", cell="simple"), "translate", is_unique=False),
    ModelRow("attention", _translator("rnn_attention"), "translate", export=""),
    ModelRow("attention, two gru layers", _translator("rnn_attention", cell="gru", num_layers=2), "translate",
             is_unique=False),
    ModelRow("dot attention", _translator("rnn_attention", attention="dot", attend_embeddings=False), "translate",
             is_unique=False),
    ModelRow("scaled dot attention", _translator("rnn_attention", attention="scaled_dot"), "translate",
             is_unique=False),
    ModelRow("language model", lambda tokenizer: ka.CausalLM.from_preset(
        "char_rnn", tokenizer=tokenizer, units=19, embedding_dim=17, max_length=31), "complete", export=""),
    ModelRow("transformer", _translator("transformer_tiny", **_SMALL), "translate"),
    ModelRow("transformer, pre-norm, two vocabularies", _translator("transformer_base", **_SINGLE, norm_first=True,
             shared_vocabulary=False, output_bias=True), "translate", export=""),
    ModelRow("gpt", lambda tokenizer: ka.CausalLM.from_preset(
        "gpt2_small", tokenizer=tokenizer, **_SINGLE, max_length=31), "complete"),
    ModelRow("bert", lambda tokenizer: ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **_SINGLE), "fill",
             ("we <mask> bread", "the <mask> drinks <mask> milk", "")),
    ModelRow("roberta", lambda tokenizer: ka.MaskedLM.from_preset("roberta_base", tokenizer=tokenizer, **_SINGLE),
             "fill", ("we <mask> bread", "the <mask> drinks <mask> milk", ""), is_unique=False),
    ModelRow("xlnet", lambda tokenizer: ka.PermutationLM.from_preset(
        "xlnet_base", tokenizer=tokenizer, **_SMALL, max_length=31), "complete"),
    ModelRow("xlnet classifier", _labelled(ka.TextClassifier, "xlnet_base", _SINGLE), "classify",
             export=""),
    ModelRow("xlnet tagger", _labelled(ka.TextTagger, "xlnet_base", _SINGLE), "tag", is_unique=False),
    ModelRow("bert classifier", _labelled(ka.TextClassifier, "bert_base", _SINGLE), "classify", export="graph"),
    ModelRow("roberta tagger", _labelled(ka.TextTagger, "roberta_base", _SINGLE), "tag", is_unique=False),
    ModelRow("classifier", _labelled(ka.TextClassifier, "rnn_classifier"), "classify"),
    ModelRow("show and tell", _captioner("show_and_tell", **_RECURRENT), "caption", IMAGES, export="graph"),
    ModelRow("show and tell, image as initial state",
             _captioner("show_and_tell", **_RECURRENT, image_injection="init"), "caption", IMAGES, is_unique=False),
    ModelRow("show, attend and tell", _captioner("show_attend_and_tell", **_RECURRENT), "caption", IMAGES,
             export=""),
    ModelRow("show, attend and tell, coordinates and smoothing",
             _captioner("show_attend_and_tell", **_RECURRENT, coordinate_features=True, attention_smoothing=1.5),
             "caption", IMAGES, export=""),
    ModelRow("show, attend and tell, grounded",
             _captioner("show_attend_and_tell", **_RECURRENT, grounded_attention=True), "caption", IMAGES,
             is_unique=False),
    ModelRow("show, attend and tell, hard", _captioner("show_attend_and_tell", **_RECURRENT, attention="hard"),
             "caption", IMAGES, export=""),
    ModelRow("transformer captioner", _captioner("transformer_captioner", **_SINGLE, output_bias=True), "caption",
             IMAGES, export="graph"),
    ModelRow("transformer captioner with encoder, pre-norm", _captioner(
        "transformer_captioner", **_SINGLE, encoder_layers=1, norm_first=True), "caption", IMAGES, is_unique=False),
    ModelRow("tagger", _labelled(ka.TextTagger, "rnn_tagger"), "tag", is_unique=False),
    ModelRow("tagger with characters", _character_encoder, "tag"),
]
# fmt: on


def batch_for(model: Any) -> dict[str, np.ndarray]:
    """One batch of `PAIRS` and `IMAGES`, with padding: an array for each input of the network."""
    sources, targets = zip(*PAIRS[:3], strict=True)  # short: TensorFlow runs each step from Python
    if "character_ids" in model.input:
        return model.word_arrays(model.input_reader.ids([text.split() for text in sources]), multiple=1)
    ids, mask = _padded(sources, model)
    size = ids.shape[1]
    num_segments = 1 if "target_mapping" in model.input else max(model.config.num_segments, 1)
    arrays = {
        **{"token_ids": ids, "padding_mask": mask, "segment_ids": ids % num_segments},
        **{"source_ids": ids, "source_mask": mask, "target_ids": _padded(targets, model)[0]},
        "images": np.stack(IMAGES).astype("float32"),
        # From left to right: each token is predicted from the tokens before it.
        "permutation_mask": np.tril(np.ones((len(ids), size, size), bool), -1),
        "target_mapping": np.eye(size, k=1, dtype="float32")[None].repeat(len(ids), 0),
    }
    return {name: arrays[name] for name in model.input}


def _padded(texts: Sequence[str], model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask (B, S) of texts, with at least one column of padding."""
    tokenizer = next(iter(model.tokenizers.values()))
    ids = ka.data.tokenizers.encode_texts(tokenizer, list(texts))
    padded = ka.data.batches.pad_ids(ids, ka.data.special_tokens_of(tokenizer).pad)
    return tuple(np.pad(array, ((0, 0), (0, 1))) for array in padded)


def compiled(function: Callable) -> Callable:
    """Compile a function on JAX, which otherwise compiles each operation for each shape, and much more slowly."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)
