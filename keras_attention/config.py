"""What defines a network: frozen dataclasses, one per task and kind of network; only numbers and names."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

CELLS = ("simple", "gru", "lstm")
POSITIONS = ("sinusoidal", "learned", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
TEMPLATES = ("end", "start_end", "end_start")
ATTENTIONS = ("additive", "dot", "scaled_dot")
HARD = "hard"
IMAGE_ENTRIES = ("init", "pre")


def _require_range(config: object, least: dict[str, int], shares: tuple[str, ...]) -> None:
    """Check that integers are not too small, and that shares are in [0, 1)."""
    for name, smallest in least.items():
        value = getattr(config, name)
        _require(isinstance(value, int) and value >= smallest, name, value, f"an integer, at least {smallest}")
    for name in shares:
        value = getattr(config, name)
        _require(isinstance(value, (int, float)) and 0 <= value < 1, name, value, "a number in [0, 1)")


def _require_kinds(config: object) -> None:
    """Check that fields of numbers and of booleans hold such: a text such as "False" would be true."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type == "bool":
            _require(isinstance(value, bool), field.name, value, "a boolean; --set takes true or false")
        elif field.type == "float":
            _require(isinstance(value, (int, float)), field.name, value, "a number")


def _require(condition: bool, name: str, received: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"`{name}` is {received!r}; expected {expected}.")


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """The sizes that every recurrent network here has.

    Args:
        embedding_dim: width of the token embeddings.
        units: width of a recurrent layer (for a bidirectional one, of both directions together).
        num_layers: stacked recurrent layers.
        cell: `"simple"` (h' = tanh(W_x x + W_h h + b)), `"gru"` or `"lstm"`.
        attention: `"additive"`, `"dot"`, `"scaled_dot"`, or None for a network without attention.
        dropout: probability of dropping an input or output feature, in [0, 1).
        max_length: longest sequence, in tokens, that batches and decoding use.

    Raises:
        ValueError: a value outside its range.
    """

    embedding_dim: int = 256
    units: int = 256
    num_layers: int = 1
    cell: str = "lstm"
    attention: str | None = None
    dropout: float = 0.0
    max_length: int = 128

    attentions: ClassVar[tuple[str, ...]] = ATTENTIONS

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require_range(self, {"embedding_dim": 1, "units": 1, "num_layers": 1, "max_length": 2}, ("dropout",))
        _require(self.cell in CELLS, "cell", self.cell, f"one of {CELLS}")
        expected = f"None or one of {self.attentions}"
        _require(self.attention in (None, *self.attentions), "attention", self.attention, expected)


@dataclasses.dataclass(frozen=True)
class TranslatorConfig(RecurrentConfig):
    """A recurrent encoder and decoder; see `RecurrentConfig` for the shared sizes.

    Args:
        source_vocabulary_size: pieces in the source vocabulary; 0 until a tokenizer is known.
        target_vocabulary_size: the same for the target.
    """

    source_vocabulary_size: int = 0
    target_vocabulary_size: int = 0


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(RecurrentConfig):
    """A recurrent language model: `vocabulary_size` pieces in, a distribution over them out."""

    vocabulary_size: int = 0


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(RecurrentConfig):
    """A bidirectional encoder and one label per text; `labels` are the classes' names."""

    vocabulary_size: int = 0
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TaggerConfig(RecurrentConfig):
    """A bidirectional encoder and one label per word; see `RecurrentConfig` for the shared sizes.

    Args:
        vocabulary_size: pieces in the vocabulary; 0 until a tokenizer is known.
        labels: the tags' names.
        character_vocabulary_size: characters that spell the words; 0 where words are not spelled.
        max_word_length: longest word, in characters, that is spelled; what is beyond is not read.
    """

    vocabulary_size: int = 0
    labels: tuple[str, ...] = ()
    character_vocabulary_size: int = 0
    max_word_length: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range(self, {"max_word_length": 1, "character_vocabulary_size": 0}, ())


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """The sizes that every Transformer here has.

    Args:
        width: M, of embeddings and blocks.
        num_layers: blocks; in a translator as many in the encoder as in the decoder.
        num_heads: H; each head is M / H wide.
        intermediate_dim: width of the feed-forward networks.
        activation: of the feed-forward networks: `"relu"`, `"gelu"`, `"gelu_tanh"` (its approximation),
            `"silu"`.
        norm_first: pre-norm, with one more normalisation after the last block.
        positions: `"sinusoidal"` (the embeddings are then multiplied by sqrt(M)), `"learned"`, or `"relative"`.
        max_length: longest sequence, in tokens.
        attention_bias: the projections of the attention add a vector.
        dropout: probability of dropping a feature, in [0, 1).
        attention_dropout: probability of dropping an attention weight.
        epsilon: of the layer normalisations.
        initializer_range: standard deviation of the first weights; None for Glorot's.

    Raises:
        ValueError: a value outside its range.
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

    def __post_init__(self) -> None:
        _require_kinds(self)
        least = dict.fromkeys(("width", "num_layers", "num_heads", "intermediate_dim"), 1)
        _require_range(self, {**least, "max_length": 2}, ("dropout", "attention_dropout"))
        _require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of {self.width}, the width")
        _require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {ACTIVATIONS}")
        _require(self.positions in POSITIONS, "positions", self.positions, f"one of {POSITIONS}")


@dataclasses.dataclass(frozen=True)
class TransformerTranslatorConfig(TransformerSizes):
    """A Transformer encoder and decoder; see `TransformerSizes` for the shared sizes.

    Args:
        source_vocabulary_size: pieces in the source vocabulary; 0 until a tokenizer is known.
        target_vocabulary_size: the same for the target.
        shared_vocabulary: both sides and the output share one embedding; both tokenizers then have the same
            pieces.
        output_bias: add a learned number to each logit.
    """

    source_vocabulary_size: int = 0
    target_vocabulary_size: int = 0
    shared_vocabulary: bool = True
    output_bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.positions != "relative", "positions", self.positions, "'sinusoidal' or 'learned' in a translator")


@dataclasses.dataclass(frozen=True)
class TransformerConfig(TransformerSizes):
    """One stack of blocks: an encoder, or a language model; see `TransformerSizes` for the shared sizes.

    Args:
        vocabulary_size: pieces in the vocabulary; 0 until a tokenizer is known.
        num_segments: kinds of segments that have a vector of their own.
        position_offset: rows of the position table before the first position (2 in RoBERTa).
        embedding_norm: normalise the embeddings before the first block.
        template: what stands around a text: `"end"` (text, end), `"start_end"` (start, text, end: BERT) or
            `"end_start"` (text, end, start: XLNet, whose start is its `<cls>`).
        next_sentence: a masked language model also learns whether one segment follows the other.
        labels: names of the classes or tags, for a classifier or tagger.
    """

    vocabulary_size: int = 0
    num_segments: int = 0
    position_offset: int = 0
    embedding_norm: bool = False
    template: str = "end"
    next_sentence: bool = False
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.template in TEMPLATES, "template", self.template, f"one of {TEMPLATES}")


@dataclasses.dataclass(frozen=True)
class VisionSizes:
    """How a captioner sees; see `layers.ImageEncoder`.

    Args:
        encoder: the convolutional network: `"small_cnn"`, or one of `keras.applications`, such as `"mobilenet_v2"`.
        image_size: height and width that every picture is brought to, in pixels.
        grid_layer: the layer whose output is the grid of regions; None for the last one.
        fine_tune_from: the first layer of the network that learns, or `"all"`; None for none.
    """

    encoder: str = "mobilenet_v2"
    image_size: int = 224
    grid_layer: str | None = None
    fine_tune_from: str | None = None


@dataclasses.dataclass(frozen=True)
class CaptionerConfig(VisionSizes, RecurrentConfig):
    """A network that sees and a recurrent decoder; see `VisionSizes` and `RecurrentConfig` for the shared sizes.

    Args:
        vocabulary_size: pieces in the vocabulary; 0 until a tokenizer is known.
        attention: also `"hard"`: each word looks at one region, drawn in training.
        image_injection: how the image enters a decoder without attention: `"init"`, it makes the first state of the
            decoder; or `"pre"`, the decoder reads it before the first word, as in the paper.
        tie_weights: use the word embedding as the output matrix; the paper has a separate one.
        coordinate_features: append the row and the column of each region, -1 to 1, to its features for the attention.
        grounded_attention: the image enters through the attention alone; in training, half of the contexts are dropped
            from the decoder's state and the values are shifted by a region, or taken from anywhere, so that attention
            must locate each word.
        attention_smoothing: standard deviation, in regions, of the Gaussian that smooths the weights of an additive
            attention; 0 for none, as in the paper.
        doubly_stochastic: weight of the sum over regions of (1 - the attention that a region got from all words)^2;
            1 in the paper, 0.02 in the preset.
        reinforce: weight of the REINFORCE term of hard attention.
        entropy: weight of the entropy of hard attention, which keeps it from settling too early.
    """

    vocabulary_size: int = 0
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
        _require(
            self.image_injection in IMAGE_ENTRIES, "image_injection", self.image_injection, f"one of {IMAGE_ENTRIES}"
        )
        for name in ("coordinate_features", "grounded_attention"):
            fits = self.attention is not None or not getattr(self, name)
            _require(fits, name, getattr(self, name), "False without attention, which alone sees regions")
        for name in ("attention_smoothing", "doubly_stochastic", "reinforce", "entropy"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        soft = self.attention not in (None, HARD)
        _require(
            soft or not self.attention_smoothing,
            "attention_smoothing",
            self.attention_smoothing,
            "0 without attention, or with a hard one",
        )


@dataclasses.dataclass(frozen=True)
class TransformerCaptionerConfig(VisionSizes, TransformerSizes):
    """A network that sees, a Transformer over its regions if asked, and one that writes.

    See `VisionSizes` and `TransformerSizes`.

    Args:
        vocabulary_size: pieces in the vocabulary; 0 until a tokenizer is known.
        encoder_layers: blocks over the regions; 0: the decoder looks at what the network saw, and where.
        output_bias: add a learned number to each logit.
    """

    vocabulary_size: int = 0
    encoder_layers: int = 0
    output_bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range(self, {"image_size": 16, "encoder_layers": 0}, ())
        _require(self.positions != "relative", "positions", self.positions, "'sinusoidal' or 'learned' in a captioner")
