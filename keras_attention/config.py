"""The configurations of networks: frozen dataclasses of numbers and names.

    RecurrentCaptionerConfig     = RecurrentConfig and ImageEncoderConfig
    TransformerCaptionerConfig   = TransformerConfig and ImageEncoderConfig

Several tasks use the same class. If only some tasks use a field, the metadata of the field lists them; see
`fields_for`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras_attention.argument_checks import require, require_cell, require_less_than_one, require_one_of

__all__ = [
    "ImageEncoderConfig",
    "RecurrentCaptionerConfig",
    "RecurrentConfig",
    "TransformerCaptionerConfig",
    "TransformerConfig",
]

POSITIONS = ("sinusoidal", "learned", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
TASK_TEMPLATES = ("end", "start_end", "end_start")
MEAN = "mean"
POOLINGS = ("start", MEAN)
ATTENTIONS = ("additive", "dot", "scaled_dot")
HARD = "hard"
IMAGE_INJECTIONS = ("init", "pre")

_LABELLED = ("TextClassifier", "TextTagger")
_ONE_TEXT = ("CausalLM", "MaskedLM", "PermutationLM", *_LABELLED)


def _only(default: Any, *tasks: str) -> Any:
    """Return a dataclass field that only these tasks use."""
    return dataclasses.field(default=default, metadata={"tasks": tasks})


def fields_for(config: object, task: str) -> set[str]:
    """Return the names of the fields that a task uses.

    Args:
        config: a config or its class.
        task: the name of a task, such as `"Translator"`.

    Returns:
        a set of names.

    Example:
        >>> "labels" in fields_for(RecurrentConfig, "TextTagger"), "labels" in fields_for(RecurrentConfig, "Translator")
        (True, False)
    """
    return {field.name for field in dataclasses.fields(config) if task in field.metadata.get("tasks", (task,))}


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """The config of a recurrent network for texts: a language model, classifier, tagger or translator.

    Args:
        embedding_dim: the width of the token embeddings.
        units: the width of a recurrent layer (both directions together if it is bidirectional).
        num_layers: the number of recurrent layers, in the encoder and in the decoder.
        cell: `"simple"`, `"gru"` or `"lstm"`; see `layers.RecurrentEncoder`.
        attention: `"additive"`, `"dot"`, `"scaled_dot"`, or None for a network without attention.
        dropout: probability of dropping an input or output feature, in [0, 1).
        max_length: the maximum length of a sequence in training and decoding, in tokens.
        vocabulary_size: the number of tokens in the vocabulary; 0 before the model has a tokenizer. A translator uses
            the next two fields instead.
        source_vocabulary_size: the number of tokens in the source vocabulary of a translator.
        target_vocabulary_size: the number of tokens in the target vocabulary of a translator.
        labels: the classes of a classifier, or the tags of a tagger.
        character_vocabulary_size: the number of characters in the character vocabulary of a tagger; 0 for a tagger
            that reads only tokens.
        max_word_length: the number of characters that a tagger reads of each word; it ignores the others.
        attend_embeddings: concatenate the source embeddings to the encoder's outputs that a translator attends to, so
            that the decoder can translate single words. Without attention it has no effect.
        hash_buckets: the number of hash buckets for n-grams, each with its own weights: pairs of tokens and short
            strings in a classifier, see `layers.BagOfNGrams`; prefixes and suffixes in a tagger with a character
            vocabulary, see `layers.AffixEncoder`. 0 for a network without n-grams.

    Raises:
        ValueError: a value has the wrong type or is out of range.

    Example:
        >>> RecurrentConfig(units=384, attention="additive").cell
        'lstm'
    """

    embedding_dim: int = 256
    units: int = 256
    num_layers: int = 1
    cell: str = "lstm"
    attention: str | None = None
    dropout: float = 0.0
    max_length: int = 128
    vocabulary_size: int = _only(0, *_ONE_TEXT, "Captioner")
    source_vocabulary_size: int = _only(0, "Translator")
    target_vocabulary_size: int = _only(0, "Translator")
    labels: tuple[str, ...] = _only((), *_LABELLED)
    character_vocabulary_size: int = _only(0, "TextTagger")
    max_word_length: int = _only(64, "TextTagger")
    attend_embeddings: bool = _only(False, "Translator")
    hash_buckets: int = _only(0, *_LABELLED)

    attentions: ClassVar[tuple[str, ...]] = ATTENTIONS

    # The values of a `TransformerConfig`'s fields for a recurrent network, so that code reads either config.
    num_heads: ClassVar[None] = None
    num_segments: ClassVar[int] = 0
    positions: ClassVar[None] = None
    template: ClassVar[str] = "end"
    initializer_range: ClassVar[None] = None
    shared_vocabulary: ClassVar[bool] = False
    problem_type: ClassVar[str] = SINGLE_LABEL
    output_bias: ClassVar[bool] = False
    tie_weights: ClassVar[bool] = True
    grounded_attention: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """The width of an encoder's outputs."""
        return self.units

    def __post_init__(self) -> None:
        _require_kinds(self)
        minimums = dict.fromkeys(("embedding_dim", "units", "num_layers", "max_word_length"), 1)
        minimums |= {"max_length": 2, "hash_buckets": 0, **_vocabulary_sizes(self)}
        _require_range(self, minimums, ("dropout",))
        require_cell(self.cell)
        if self.attention is not None:
            require_one_of("attention", self.attention, self.attentions, ", or None")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The config of a Transformer for texts: a language model of any kind, a classifier, tagger or translator.

    Args:
        width: M, the width of embeddings and blocks.
        num_layers: the number of blocks; in a translator, of the encoder and of the decoder.
        num_heads: H; the width of a head is M / H.
        intermediate_dim: the width of the feed-forward networks.
        activation: the activation of the feed-forward networks: `"relu"`, `"gelu"`, `"gelu_tanh"` (an approximation of
            `"gelu"`) or `"silu"`.
        norm_first: use pre-norm blocks, and a normalization after the last block.
        attention_bias: use biases in the projections of the attention.
        dropout: probability of dropping a feature, in [0, 1).
        attention_dropout: probability of dropping an attention score, in [0, 1).
        epsilon: epsilon of the layer normalizations.
        initializer_range: standard deviation of the initial weights; None for Glorot's initializer.
        positions: `"sinusoidal"` (the embeddings are then multiplied by sqrt(M)), `"learned"` or `"relative"`.
        max_length: the maximum length of a sequence, in tokens.
        position_offset: the number of unused rows at the start of the position table (2 in RoBERTa).
        num_segments: the number of segment vectors.
        embedding_norm: normalize the embeddings before the first block.
        template: the special-token template of a text: `"end"` (text, end), `"start_end"` (start, text, end, as in
            BERT) or `"end_start"` (text, end, start, as in XLNet, whose start token is `<cls>`).
        vocabulary_size: the number of tokens in the vocabulary; 0 before the model has a tokenizer. A translator uses
            the next two fields instead.
        source_vocabulary_size: the number of tokens in the source vocabulary of a translator.
        target_vocabulary_size: the number of tokens in the target vocabulary of a translator.
        shared_vocabulary: use one embedding matrix for source, target and output of a translator; both tokenizers must
            then have the same vocabulary.
        tie_weights: use the target embedding of a translator as its output matrix.
        output_bias: add a learned bias to the logits of a translator or captioner.
        decoder_layers: the number of blocks of a translator's decoder; 0 for `num_layers`.
        next_sentence: train a masked language model also on next-sentence prediction.
        labels: the classes of a classifier, or the tags of a tagger.
        pooling: the vector of a text in a classifier: `"start"` (the output at the start token, and a dense layer) or
            `"mean"` (the mean of the outputs over all tokens, as in sentence encoders).
        problem_type: what a classifier computes: `"single_label_classification"` (softmax),
            `"multi_label_classification"` (a sigmoid for each label) or `"regression"` (the outputs as they are).

    Raises:
        ValueError: a value has the wrong type or is out of range.

    Example:
        >>> TransformerConfig(width=768, num_layers=12, num_heads=12, intermediate_dim=3072).norm_first
        False
    """

    # sizes
    width: int = 512
    num_layers: int = 6
    num_heads: int = 8
    intermediate_dim: int = 2048
    # blocks
    activation: str = "relu"
    norm_first: bool = False
    attention_bias: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    epsilon: float = 1e-6
    initializer_range: float | None = None
    # inputs
    positions: str = "sinusoidal"
    max_length: int = 512
    position_offset: int = _only(0, *_ONE_TEXT)
    num_segments: int = _only(0, *_ONE_TEXT)
    embedding_norm: bool = _only(False, *_ONE_TEXT)
    template: str = _only("end", *_ONE_TEXT)
    # vocabulary and decoder
    vocabulary_size: int = _only(0, *_ONE_TEXT, "Captioner")
    source_vocabulary_size: int = _only(0, "Translator")
    target_vocabulary_size: int = _only(0, "Translator")
    shared_vocabulary: bool = _only(True, "Translator")
    tie_weights: bool = _only(True, "Translator")
    output_bias: bool = _only(False, "Translator", "Captioner")
    decoder_layers: int = _only(0, "Translator")
    # heads
    next_sentence: bool = _only(False, *_ONE_TEXT)
    labels: tuple[str, ...] = _only((), *_LABELLED)
    pooling: str = _only("start", "TextClassifier")
    problem_type: str = _only(SINGLE_LABEL, "TextClassifier")

    # The values of a `RecurrentConfig`'s fields for a Transformer, so that code reads either config.
    attention: ClassVar[None] = None
    character_vocabulary_size: ClassVar[int] = 0
    hash_buckets: ClassVar[int] = 0

    @property
    def embedding_dim(self) -> int:
        """The width of the token embeddings."""
        return self.width

    def __post_init__(self) -> None:
        _require_kinds(self)
        minimums = dict.fromkeys(("width", "num_layers", "num_heads", "intermediate_dim"), 1)
        minimums |= {
            "max_length": 2,
            "num_segments": 0,
            "position_offset": 0,
            "decoder_layers": 0,
            **_vocabulary_sizes(self),
        }
        _require_range(self, minimums, ("dropout", "attention_dropout"))
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of {self.width}, the width")
        require_one_of("activation", self.activation, ACTIVATIONS)
        require_one_of("positions", self.positions, POSITIONS)
        require_one_of("template", self.template, TASK_TEMPLATES)
        require_one_of("pooling", self.pooling, POOLINGS)
        require_one_of("problem_type", self.problem_type, (SINGLE_LABEL, MULTI_LABEL, REGRESSION))


@dataclasses.dataclass(frozen=True)
class ImageEncoderConfig:
    """The config of the image encoder of a captioner; see `layers.ImageEncoder`.

    Args:
        image_encoder: `"small_cnn"` or the name of a `keras.applications` network, such as `"mobilenet_v2"`.
        image_size: height and width to which every image is resized, in pixels.
        grid_layer: name of the layer whose output is the grid of regions; None for the last layer before the
            classifier.
        fine_tune_from: name of the first trained layer, or `"all"`; None for a frozen network.

    Example:
        >>> ImageEncoderConfig("resnet50", image_size=160).fine_tune_from is None
        True
    """

    image_encoder: str = "mobilenet_v2"
    image_size: int = 224
    grid_layer: str | None = None
    fine_tune_from: str | None = None


@dataclasses.dataclass(frozen=True)
class RecurrentCaptionerConfig(ImageEncoderConfig, RecurrentConfig):
    """The config of an image encoder and a recurrent decoder.

    `ImageEncoderConfig` and `RecurrentConfig` describe the other fields.

    Args:
        attention: as in `RecurrentConfig`, or `"hard"`: each word attends to one region, which is sampled in training.
        image_injection: how a decoder without attention receives the image: `"init"`, as its initial state; or
            `"pre"`, as its input before the first word, as in the paper.
        tie_weights: use the token embedding as the output matrix; the paper has a separate output matrix.
        coordinate_features: append the row and the column of each region, from -1 to 1, to its features for the
            attention.
        grounded_attention: use the image only in the attention. In training, drop half of the contexts from the input
            of the cells, and shift the values of the regions, so that attention must locate each word.
        attention_smoothing: standard deviation, in regions, of the Gaussian that smooths the scores of a soft
            attention; 0 for no smoothing, as in the paper.
        doubly_stochastic: weight of the doubly stochastic loss, the sum over regions of (1 - the attention of all words
            to the region)^2; 1 in the paper, 0.02 in the preset.
        reinforce: weight of the REINFORCE term of hard attention.
        entropy: weight of the entropy of hard attention, which prevents one-hot scores too early in training.

    Raises:
        ValueError: a value has the wrong type or is out of range, or an option for attention is set without attention.

    Example:
        >>> RecurrentCaptionerConfig(units=384, attention="hard").image_encoder
        'mobilenet_v2'

    Reference: Vinyals et al., 2015, https://arxiv.org/abs/1411.4555; Xu et al., 2015,
    https://arxiv.org/abs/1502.03044.
    """

    image_injection: str = "pre"
    tie_weights: bool = False
    coordinate_features: bool = False
    grounded_attention: bool = False
    attention_smoothing: float = 0.0
    doubly_stochastic: float = 1.0
    reinforce: float = 1.0
    entropy: float = 0.002

    attentions: ClassVar[tuple[str, ...]] = (*ATTENTIONS, HARD)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range(self, {"image_size": 16}, ())
        require_one_of("image_injection", self.image_injection, IMAGE_INJECTIONS)
        for name in ("coordinate_features", "grounded_attention"):
            value = getattr(self, name)
            require(self.attention is not None or not value, name, value, "False without attention")
        for name in ("attention_smoothing", "doubly_stochastic", "reinforce", "entropy"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        is_soft, smoothing = self.attention not in (None, HARD), self.attention_smoothing
        expected = "0 without attention or with hard attention"
        require(is_soft or not smoothing, "attention_smoothing", smoothing, expected)


@dataclasses.dataclass(frozen=True)
class TransformerCaptionerConfig(ImageEncoderConfig, TransformerConfig):
    """The config of an image encoder and a Transformer decoder.

    `ImageEncoderConfig` and `TransformerConfig` describe the other fields.

    Args:
        encoder_layers: the number of blocks over the regions; with 0, the decoder attends to the projected regions,
            with positions.

    Raises:
        ValueError: a value has the wrong type or is out of range, or `positions` is `"relative"`.

    Example:
        >>> TransformerCaptionerConfig(width=256, num_layers=3).encoder_layers
        0
    """

    encoder_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range(self, {"image_size": 16, "encoder_layers": 0}, ())
        require(self.positions != "relative", "positions", self.positions, "'sinusoidal' or 'learned' in a captioner")


def _vocabulary_sizes(config: object) -> dict[str, int]:
    """Return the minimum, 0, of each vocabulary size."""
    return {field.name: 0 for field in dataclasses.fields(config) if field.name.endswith("vocabulary_size")}


def _require_kinds(config: object) -> None:
    """Check that number and boolean fields have these types; a string such as "False" would count as True."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type == "bool":
            require(isinstance(value, bool), field.name, value, "a boolean, true or false")
        elif field.type == "float":
            require(isinstance(value, (int, float)), field.name, value, "a number")


def _require_range(config: object, minimums: dict[str, int], probabilities: tuple[str, ...]) -> None:
    """Check the minimums of integers, and that probabilities are in [0, 1)."""
    for name, minimum in minimums.items():
        value = getattr(config, name)
        require(isinstance(value, int) and value >= minimum, name, value, f"an integer, at least {minimum}")
    for name in probabilities:
        require_less_than_one(name, getattr(config, name))
