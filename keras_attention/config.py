"""What defines a network: frozen dataclasses of numbers and names.

    RecurrentConfig     --> RecurrentCaptionerConfig     = RecurrentConfig and ImageEncoderConfig
    TransformerConfig   --> TransformerCaptionerConfig   = TransformerConfig and ImageEncoderConfig

One class serves several tasks. A field that belongs to some of them names them in its metadata; see `fields_for`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

CELLS = ("simple", "gru", "lstm")
POSITIONS = ("sinusoidal", "learned", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
TEMPLATES = ("end", "start_end", "end_start")
ATTENTIONS = ("additive", "dot", "scaled_dot")
HARD = "hard"
IMAGE_INJECTIONS = ("init", "pre")

_LABELLED = ("TextClassifier", "TextTagger")
_ONE_TEXT = ("CausalLM", "MaskedLM", "PermutationLM", *_LABELLED)


def _only(default: Any, *tasks: str) -> Any:
    """Return a field that belongs to these tasks."""
    return dataclasses.field(default=default, metadata={"tasks": tasks})


def fields_for(config: object, task: str) -> set[str]:
    """Return the names of the fields that a task reads.

    Args:
        config: a config or its class.
        task: the name of a task, such as `"Translator"`.

    Example:
        >>> "labels" in fields_for(RecurrentConfig, "TextTagger"), "labels" in fields_for(RecurrentConfig, "Translator")
        (True, False)
    """
    return {field.name for field in dataclasses.fields(config) if task in field.metadata.get("tasks", (task,))}


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """A recurrent network over texts: a language model, classifier, tagger or translator.

    Args:
        embedding_dim: width of the token embeddings.
        units: width of a recurrent layer (of a bidirectional one, of both directions together).
        num_layers: the number of recurrent layers, in the encoder and in the decoder.
        cell: `"simple"` (h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)), `"gru"` or `"lstm"`.
        attention: `"additive"`, `"dot"`, `"scaled_dot"`, or None for a network without attention.
        dropout: probability of dropping an input or output feature, in [0, 1).
        max_length: longest sequence, in tokens, that batches and decoding use.
        vocabulary_size: tokens in the vocabulary; 0 until a tokenizer is known. A translator has the next two instead.
        source_vocabulary_size: the same for a translator's source.
        target_vocabulary_size: the same for a translator's target.
        labels: the names of a classifier's classes or of a tagger's tags.
        character_vocabulary_size: characters in a tagger's character vocabulary; 0 for a tagger that reads tokens only.
        max_word_length: longest word, in characters, that a tagger reads; the rest of a longer word is ignored.

    Raises:
        ValueError: a value outside its range.

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

    attentions: ClassVar[tuple[str, ...]] = ATTENTIONS

    # The values of a `TransformerConfig`'s fields for a recurrent network, so that code reads either config.
    num_heads: ClassVar[None] = None
    num_segments: ClassVar[int] = 0
    positions: ClassVar[None] = None
    template: ClassVar[str] = "end"
    initializer_range: ClassVar[None] = None
    shared_vocabulary: ClassVar[bool] = False
    output_bias: ClassVar[bool] = False
    tie_weights: ClassVar[bool] = True
    grounded_attention: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """The width of an encoder's outputs."""
        return self.units

    def __post_init__(self) -> None:
        _require_kinds(self)
        least = dict.fromkeys(("embedding_dim", "units", "num_layers", "max_word_length"), 1)
        _require_range(self, {**least, "max_length": 2, **_vocabulary_sizes(self)}, ("dropout",))
        _require_one_of(self, "cell", CELLS)
        expected = f"None or one of {self.attentions}"
        _require(self.attention in (None, *self.attentions), "attention", self.attention, expected)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A Transformer over texts: a language model of any kind, a classifier, tagger or translator.

    Args:
        width: M, of embeddings and blocks.
        num_layers: the number of blocks; a translator has as many in the encoder as in the decoder.
        num_heads: H; each head is M / H wide.
        intermediate_dim: width of the feed-forward networks.
        activation: of the feed-forward networks: `"relu"`, `"gelu"`, `"gelu_tanh"` (its approximation) or `"silu"`.
        norm_first: pre-norm, with one more normalisation after the last block.
        positions: `"sinusoidal"` (the embeddings are then multiplied by sqrt(M)), `"learned"` or `"relative"`.
        max_length: longest sequence, in tokens.
        attention_bias: the projections of the attention have a bias.
        dropout: probability of dropping a feature, in [0, 1).
        attention_dropout: probability of dropping an attention score.
        epsilon: of the layer normalisations.
        initializer_range: standard deviation of the initial weights; None for Glorot's initializer.
        vocabulary_size: tokens in the vocabulary; 0 until a tokenizer is known. A translator has the next two instead.
        source_vocabulary_size: the same for a translator's source.
        target_vocabulary_size: the same for a translator's target.
        shared_vocabulary: a translator's source, target and output share one embedding; both tokenizers then have the
            same vocabulary.
        output_bias: a translator or captioner adds a learned bias to each logit.
        num_segments: the number of segment vectors.
        position_offset: rows of the position table before the first position (2 in RoBERTa).
        embedding_norm: normalise the embeddings before the first block.
        template: the special-token template of a text: `"end"` (text, end), `"start_end"` (start, text, end: BERT) or
            `"end_start"` (text, end, start: XLNet, whose start token is its `<cls>`).
        next_sentence: a masked language model also learns whether one segment follows the other.
        labels: the names of a classifier's classes or of a tagger's tags.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> TransformerConfig(width=768, num_layers=12, num_heads=12, intermediate_dim=3072).norm_first
        False
    """

    width: int = 512
    num_layers: int = 6
    num_heads: int = 8
    intermediate_dim: int = 2048
    activation: str = "relu"
    norm_first: bool = False
    positions: str = "sinusoidal"
    max_length: int = 512
    attention_bias: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    epsilon: float = 1e-6
    initializer_range: float | None = None
    vocabulary_size: int = _only(0, *_ONE_TEXT, "Captioner")
    source_vocabulary_size: int = _only(0, "Translator")
    target_vocabulary_size: int = _only(0, "Translator")
    shared_vocabulary: bool = _only(True, "Translator")
    output_bias: bool = _only(False, "Translator", "Captioner")
    num_segments: int = _only(0, *_ONE_TEXT)
    position_offset: int = _only(0, *_ONE_TEXT)
    embedding_norm: bool = _only(False, *_ONE_TEXT)
    template: str = _only("end", *_ONE_TEXT)
    next_sentence: bool = _only(False, *_ONE_TEXT)
    labels: tuple[str, ...] = _only((), *_LABELLED)

    # The values of a `RecurrentConfig`'s fields for a Transformer, so that code reads either config.
    attention: ClassVar[None] = None
    character_vocabulary_size: ClassVar[int] = 0
    tie_weights: ClassVar[bool] = True
    grounded_attention: ClassVar[bool] = False

    @property
    def embedding_dim(self) -> int:
        """The width of the token embeddings."""
        return self.width

    def __post_init__(self) -> None:
        _require_kinds(self)
        least = dict.fromkeys(("width", "num_layers", "num_heads", "intermediate_dim"), 1)
        least |= {"max_length": 2, "num_segments": 0, "position_offset": 0, **_vocabulary_sizes(self)}
        _require_range(self, least, ("dropout", "attention_dropout"))
        _require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of {self.width}, the width")
        _require_one_of(self, "activation", ACTIVATIONS)
        _require_one_of(self, "positions", POSITIONS)
        _require_one_of(self, "template", TEMPLATES)


@dataclasses.dataclass(frozen=True)
class ImageEncoderConfig:
    """A captioner's image encoder; see `layers.ImageEncoder`.

    Args:
        encoder: `"small_cnn"` or the name of a `keras.applications` network, such as `"mobilenet_v2"`.
        image_size: height and width to which every image is resized, in pixels.
        grid_layer: name of the layer whose output is the grid of regions; None for the last one.
        fine_tune_from: name of the first layer that is trained, or `"all"`; None for none.
    """

    encoder: str = "mobilenet_v2"
    image_size: int = 224
    grid_layer: str | None = None
    fine_tune_from: str | None = None


@dataclasses.dataclass(frozen=True)
class RecurrentCaptionerConfig(ImageEncoderConfig, RecurrentConfig):
    """An image encoder and a recurrent decoder; see `ImageEncoderConfig` and `RecurrentConfig` for the other fields.

    Args:
        attention: also `"hard"`: each word attends to one region, which is drawn in training.
        image_injection: how the image enters a decoder without attention: `"init"`, it makes the decoder's initial
            state; or `"pre"`, the decoder reads it before the first word, as in the paper.
        tie_weights: use the token embedding as the output matrix; the paper has a separate one.
        coordinate_features: append the row and the column of each region, -1 to 1, to its features for the attention.
        grounded_attention: the image enters through the attention alone; in training, half of the contexts are dropped
            from the decoder's state and the values are shifted by a region, or taken from anywhere, so that attention
            must locate each word.
        attention_smoothing: standard deviation, in regions, of the Gaussian that smooths the scores of a soft
            attention; 0 for none, as in the paper.
        doubly_stochastic: weight of the sum over regions of (1 - the attention that a region got from all words)^2;
            1 in the paper, 0.02 in the preset.
        reinforce: weight of the REINFORCE term of hard attention.
        entropy: weight of the entropy of hard attention, which keeps the scores from becoming one-hot too early.
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
        _require_one_of(self, "image_injection", IMAGE_INJECTIONS)
        for name in ("coordinate_features", "grounded_attention"):
            value = getattr(self, name)
            _require(self.attention is not None or not value, name, value, "False without attention")
        for name in ("attention_smoothing", "doubly_stochastic", "reinforce", "entropy"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        is_soft, smoothing = self.attention not in (None, HARD), self.attention_smoothing
        expected = "0 without attention, or with a hard one"
        _require(is_soft or not smoothing, "attention_smoothing", smoothing, expected)


@dataclasses.dataclass(frozen=True)
class TransformerCaptionerConfig(ImageEncoderConfig, TransformerConfig):
    """An image encoder and a Transformer decoder; see `ImageEncoderConfig` and `TransformerConfig` for other fields.

    Args:
        encoder_layers: blocks over the regions; with 0 the decoder attends to their projections, with positions.
    """

    encoder_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range(self, {"image_size": 16, "encoder_layers": 0}, ())
        _require(self.positions != "relative", "positions", self.positions, "'sinusoidal' or 'learned' in a captioner")


def _vocabulary_sizes(config: object) -> dict[str, int]:
    """Return the least value, 0, of each vocabulary size."""
    return {field.name: 0 for field in dataclasses.fields(config) if field.name.endswith("vocabulary_size")}


def _require_kinds(config: object) -> None:
    """Check that fields of numbers and of booleans hold such: as a boolean, the text "False" is True."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type == "bool":
            _require(isinstance(value, bool), field.name, value, "a boolean; --set takes true or false")
        elif field.type == "float":
            _require(isinstance(value, (int, float)), field.name, value, "a number")


def _require_range(config: object, least: dict[str, int], probabilities: tuple[str, ...]) -> None:
    """Check that integers are not too small, and that probabilities are in [0, 1)."""
    for name, smallest in least.items():
        value = getattr(config, name)
        _require(isinstance(value, int) and value >= smallest, name, value, f"an integer, at least {smallest}")
    for name in probabilities:
        value = getattr(config, name)
        _require(isinstance(value, (int, float)) and 0 <= value < 1, name, value, "a number in [0, 1)")


def _require_one_of(config: object, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(config, name)
    _require(value in allowed, name, value, f"one of {allowed}")


def _require(condition: bool, name: str, received: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"`{name}` is {received!r}; expected {expected}.")
