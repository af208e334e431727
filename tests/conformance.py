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
from keras_attention import layers

B, Q, S, T, D, E, M = 2, 3, 5, 4, 11, 13, 17
W, H = 28, 7  # the width of a Transformer and its number of attention heads


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LayerRow:
    """A layer, its call arguments, and the shapes of its outputs."""

    name: str
    make: Callable[[], Any]
    arguments: Callable[[np.random.Generator], dict[str, np.ndarray]]
    output_shapes: tuple[tuple[int, ...], ...]


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


def _outputs_and_scores(rng: np.random.Generator) -> dict:
    return {"inputs": np.ones((B, T, D), "float32"), "scores": np.ones((B, T, S), "float32")}


def _regions(rng: np.random.Generator) -> dict:
    return {"regions": rng.normal(size=(B, Q * S, M)).astype("float32")}


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


def _block(**options: Any) -> layers.TransformerBlock:
    return layers.TransformerBlock(num_heads=H, intermediate_dim=11, **options)


def _relative_block() -> layers.TransformerBlock:
    return _block(attention=layers.RelativeAttention(num_heads=H, key_dim=6))


# fmt: off
LAYERS = [
    LayerRow(name="additive",
             make=lambda: layers.AdditiveAttention(units=19),
             arguments=_query_and_value(), output_shapes=((B, Q, M), (B, Q, S))),
    LayerRow(name="dot-product",
             make=lambda: layers.DotProductAttention(scaled=False),
             arguments=_query_and_value(width=D), output_shapes=((B, Q, D), (B, Q, S))),
    LayerRow(name="scaled dot-product",
             make=lambda: layers.DotProductAttention(units=19),
             arguments=_query_and_value(), output_shapes=((B, Q, M), (B, Q, S))),
    LayerRow(name="simple encoder",
             make=lambda: layers.RecurrentEncoder(units=14, cell="simple"),
             arguments=_sequence, output_shapes=((B, S, 14),)),
    LayerRow(name="gru encoder",
             make=lambda: layers.RecurrentEncoder(7, num_layers=2, cell="gru", bidirectional=False, return_state=True),
             arguments=_sequence, output_shapes=((B, S, 7), (B, 7))),
    LayerRow(name="lstm encoder",
             make=lambda: layers.RecurrentEncoder(units=14, num_layers=2, return_state=True),
             arguments=_sequence, output_shapes=((B, S, 14), (B, 14), (B, 14))),
    LayerRow(name="character encoder",
             make=lambda: layers.CharacterEncoder(vocabulary_size=11, embedding_dim=13, units=14),
             arguments=_characters, output_shapes=((B, Q, 14),)),
    LayerRow(name="affix encoder",
             make=lambda: layers.AffixEncoder(11, affix_dim=2, max_affix_length=3, buckets=97,
                                              characters="..aBcD12éÉ-"),
             arguments=_characters, output_shapes=((B, Q, 21),)),
    LayerRow(name="bag of n-grams",
             make=lambda: layers.BagOfNGrams(vocabulary_size=11, units=7, buckets=97, pieces="abcd"),
             arguments=_token_ids, output_shapes=((B, 7),)),
    LayerRow(name="simple decoder",
             make=lambda: layers.RecurrentDecoder(units=19, output_dim=23, cell="simple"),
             arguments=_decoder(states=1), output_shapes=((B, T, 23),)),
    LayerRow(name="gru decoder",
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, cell="gru",
                                                  attention=layers.DotProductAttention(units=29)),
             arguments=_decoder(states=1, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="lstm decoder",
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, cell="lstm",
                                                  attention=layers.AdditiveAttention(units=29)),
             arguments=_decoder(states=2, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="attention-first decoder",
             make=lambda: layers.RecurrentDecoder(19, 23, num_layers=2, attend_first=True,
                                                  attention=layers.AdditiveAttention(units=29)),
             arguments=_decoder(states=1, memory=True), output_shapes=((B, T, 23), (B, T, S))),
    LayerRow(name="hard attention",
             make=lambda: layers.AdditiveAttention(units=19, hard=True),
             arguments=_hard_attention, output_shapes=((B, Q, M), (B, Q, S))),
    LayerRow(name="gumbel noise",
             make=layers.GumbelNoise,
             arguments=_noise_inputs, output_shapes=((B, Q, S),)),
    LayerRow(name="attention loss",
             make=layers.AttentionLoss,
             arguments=_outputs_and_scores, output_shapes=((B, T, D),)),
    LayerRow(name="image encoder",
             make=lambda: layers.ImageEncoder("small_cnn", image_size=32),
             arguments=_pixels, output_shapes=((B, 64, 96),)),
    LayerRow(name="shift regions",
             make=lambda: layers.ShiftRegions(rows=Q, columns=S),
             arguments=_regions, output_shapes=((B, Q * S, M),)),
    LayerRow(name="2d self-attention",
             make=lambda: layers.SelfAttention2D(units=7),
             arguments=_feature_map, output_shapes=((B, Q, S, W), (B, Q * S, Q * S))),
    LayerRow(name="self-attention",
             make=lambda: layers.MultiHeadAttention(num_heads=H, key_dim=3),
             arguments=_multi_head(memory=False), output_shapes=((B, S, W), (B, H, S, S))),
    LayerRow(name="cross-attention",
             make=lambda: layers.MultiHeadAttention(num_heads=H, key_dim=6, use_bias=False),
             arguments=_multi_head(memory=True), output_shapes=((B, Q, W), (B, H, Q, S))),
    LayerRow(name="transformer block",
             make=_block,
             arguments=_stack("inputs", memory=False), output_shapes=((B, S, W), (B, H, S, S))),
    LayerRow(name="block with cross-attention",
             make=lambda: _block(activation="gelu", norm_first=True,
                                 attention=layers.MultiHeadAttention(num_heads=H, key_dim=3, use_bias=False)),
             arguments=_stack("inputs", memory=True), output_shapes=((B, T, W), (B, H, T, S))),
    LayerRow(name="post-norm stack",
             make=lambda: layers.Transformer([_block(), _block()], layers.InputEmbedding(layers.SinusoidalPositions())),
             arguments=_stack(memory=False), output_shapes=((B, S, W), (B, H, S, S), (B, H, S, S))),
    LayerRow(name="pre-norm causal stack",
             make=lambda: layers.Transformer([_block(norm_first=True)], causal=True, norm_epsilon=1e-5,
                                             inputs=layers.InputEmbedding(layers.PositionEmbedding(max_length=S))),
             arguments=_stack(memory=False), output_shapes=((B, S, W), (B, H, S, S))),
    LayerRow(name="decoder stack",
             make=lambda: layers.Transformer([_block(), _block()], layers.InputEmbedding(), causal=True,
                                             cross_attention=True),
             arguments=_stack(memory=True), output_shapes=((B, T, W), (B, H, T, S), (B, H, T, S))),
    LayerRow(name="input embedding",
             make=lambda: layers.InputEmbedding(layers.PositionEmbedding(max_length=S, offset=2), scale=3.0,
                                                num_segments=2, norm_epsilon=1e-12),
             arguments=_vectors("tokens", segment_ids=np.array([[0, 0, 0, 1, 1]] * B)), output_shapes=((B, S, W),)),
    LayerRow(name="relative attention",
             make=lambda: layers.RelativeAttention(num_heads=H, key_dim=6),
             arguments=_relative_attention, output_shapes=((B, Q, W), (B, H, Q, S))),
    LayerRow(name="relative stack",
             make=lambda: layers.RelativeTransformer([_relative_block()], layers.InputEmbedding()),
             arguments=_stack(memory=False), output_shapes=((B, S, W), (B, H, S, S))),
    LayerRow(name="two streams",
             make=lambda: layers.RelativeTransformer([_relative_block(), _relative_block()], layers.InputEmbedding()),
             arguments=_two_streams, output_shapes=((B, Q, W), (B, H, Q, 4 + S), (B, H, Q, 4 + S))),
    LayerRow(name="mask embedding",
             make=lambda: layers.MaskEmbedding(width=W),
             arguments=_vectors("inputs"), output_shapes=((B, S, W),)),
    LayerRow(name="masked lm head",
             make=layers.MaskedLMHead,
             arguments=_vectors("inputs"), output_shapes=((B, S, W),)),
    LayerRow(name="output bias",
             make=layers.OutputBias,
             arguments=_vectors("inputs"), output_shapes=((B, S, W),)),
]
# fmt: on


IMAGES = tuple(np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype("uint8") for i in range(3))
LABELS = ("first", "second", "third", "fourth", "fifth")
# Inputs of the tasks that do not take plain texts, and config fields that all rows of a task share.
_INPUTS = {ka.Captioner: IMAGES, ka.MaskedLM: ("we <mask> bread", "the <mask> drinks <mask> milk", "")}
_TASK_FIELDS = {
    ka.Captioner: {"image_encoder": "small_cnn", "image_size": 32, "max_length": 31},
    ka.TextClassifier: {"labels": LABELS},
    ka.TextTagger: {"labels": LABELS},
}


# How the export of a row is tested.
WRITTEN = "written"  # a SavedModel is written and loaded
TRACED = "traced"  # only its functions are traced, because other rows of the task are written
SHARED = "shared"  # not at all, because the functions are those of another row


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModelRow:
    """A task, its preset, and the config fields that make it small."""

    name: str
    task: type
    preset: str
    fields: dict[str, Any]
    reads_characters: bool = False  # the tagger has a character tokenizer
    is_unique: bool = True  # False if other rows run the same code: then slow
    export: str = WRITTEN

    @property
    def predict_method(self) -> str:
        return self.task.spec.predict_method

    @property
    def texts(self) -> tuple:
        return _INPUTS.get(self.task, ("we eat bread", "the girl drinks cold milk", ""))

    def make(self, tokenizer: Any) -> Any:
        tokenizers = dict.fromkeys(self.task.spec.tokenizer_names, tokenizer) | {"character_tokenizer": None}
        if self.reads_characters:
            tokenizers["character_tokenizer"] = ka.data.train_tokenizer([text for text, _ in PAIRS], "characters")
        tokenizers = {name: tokenizers[name] for name in self.task.spec.tokenizer_names}
        return self.task.from_preset(self.preset, **tokenizers, **_TASK_FIELDS.get(self.task, {}), **self.fields)


_RECURRENT = {"units": 22, "embedding_dim": 17}  # 11 in each direction
_SMALL = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 13}
_SINGLE = _SMALL | {"num_layers": 1}  # xlnet, the stacks of LAYERS, test_transformer.py and test_weights.py have two


# fmt: off
MODELS = [
    ModelRow(name="seq2seq", task=ka.Translator, preset="rnn_seq2seq", fields=_RECURRENT, export=TRACED),
    ModelRow(name="seq2seq, simple cells", task=ka.Translator, preset="rnn_seq2seq",
             fields=_RECURRENT | {"cell": "simple"}, is_unique=False),
    ModelRow(name="attention", task=ka.Translator, preset="rnn_attention", fields=_RECURRENT, export=SHARED),
    ModelRow(name="attention, two gru layers", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"cell": "gru", "num_layers": 2}, is_unique=False),
    ModelRow(name="dot attention", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"attention": "dot", "attend_embeddings": False}, is_unique=False),
    ModelRow(name="scaled dot attention", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"attention": "scaled_dot"}, is_unique=False),
    ModelRow(name="language model", task=ka.CausalLM, preset="char_rnn",
             fields={"units": 19, "embedding_dim": 17, "max_length": 31}, export=SHARED),
    ModelRow(name="transformer", task=ka.Translator, preset="transformer_tiny", fields=_SINGLE),
    ModelRow(name="transformer, pre-norm, two vocabularies", task=ka.Translator, preset="transformer_base",
             fields=_SINGLE | {"norm_first": True, "shared_vocabulary": False, "output_bias": True}, export=SHARED),
    ModelRow(name="gpt", task=ka.CausalLM, preset="gpt2_small", fields=_SINGLE | {"max_length": 31}),
    ModelRow(name="bert", task=ka.MaskedLM, preset="bert_base", fields=_SINGLE),
    ModelRow(name="roberta", task=ka.MaskedLM, preset="roberta_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="xlnet", task=ka.PermutationLM, preset="xlnet_base", fields=_SMALL | {"max_length": 31}),
    ModelRow(name="xlnet classifier", task=ka.TextClassifier, preset="xlnet_base", fields=_SINGLE, export=SHARED),
    ModelRow(name="xlnet tagger", task=ka.TextTagger, preset="xlnet_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="bert classifier", task=ka.TextClassifier, preset="bert_base", fields=_SINGLE, export=TRACED),
    ModelRow(name="roberta tagger", task=ka.TextTagger, preset="roberta_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="classifier", task=ka.TextClassifier, preset="rnn_classifier", fields=_RECURRENT),
    ModelRow(name="show and tell", task=ka.Captioner, preset="show_and_tell", fields=_RECURRENT, export=TRACED),
    ModelRow(name="show and tell, image as initial state", task=ka.Captioner, preset="show_and_tell",
             fields=_RECURRENT | {"image_injection": "init"}, is_unique=False),
    ModelRow(name="show, attend and tell", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT, export=SHARED),
    ModelRow(name="show, attend and tell, coordinates and smoothing", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"coordinate_features": True, "attention_smoothing": 1.5}, export=SHARED),
    ModelRow(name="show, attend and tell, grounded", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"grounded_attention": True}, is_unique=False),
    ModelRow(name="show, attend and tell, hard", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"attention": "hard"}, export=SHARED),
    ModelRow(name="transformer captioner", task=ka.Captioner, preset="transformer_captioner",
             fields=_SINGLE | {"output_bias": True}, export=TRACED),
    ModelRow(name="transformer captioner with encoder, pre-norm", task=ka.Captioner, preset="transformer_captioner",
             fields=_SINGLE | {"encoder_layers": 1, "norm_first": True}, is_unique=False),
    ModelRow(name="tagger", task=ka.TextTagger, preset="rnn_tagger", fields=_RECURRENT, is_unique=False),
    ModelRow(name="tagger with characters", task=ka.TextTagger, preset="rnn_tagger",
             fields=_RECURRENT, reads_characters=True),
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


def arrays(structure: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(structure) if x is not None]


def compiled(function: Callable) -> Callable:
    """Compile a function on JAX, which otherwise compiles each operation for each shape, and much more slowly."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)
