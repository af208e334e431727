"""What defines a network: frozen dataclasses, one per task and kind of network; only numbers and names."""

from __future__ import annotations

import dataclasses

CELLS = ("simple", "gru", "lstm")
POSITIONS = ("sinusoidal", "learned", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
FRAMES = ("end", "start_end", "end_start")
ATTENTIONS = ("additive", "dot", "scaled_dot")


def _require_range(config: object, least: dict[str, int], shares: tuple[str, ...]) -> None:
    """Check that integers are not too small, and that shares are in [0, 1)."""
    for name, smallest in least.items():
        value = getattr(config, name)
        _require(isinstance(value, int) and value >= smallest, name, value, f"an integer, at least {smallest}")
    for name in shares:
        value = getattr(config, name)
        _require(isinstance(value, (int, float)) and 0 <= value < 1, name, value, "a number in [0, 1)")


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

    def __post_init__(self) -> None:
        _require_range(self, {"embedding_dim": 1, "units": 1, "num_layers": 1, "max_length": 2}, ("dropout",))
        _require(self.cell in CELLS, "cell", self.cell, f"one of {CELLS}")
        expected = f"None or one of {ATTENTIONS}"
        _require(self.attention in (None, *ATTENTIONS), "attention", self.attention, expected)


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
    """A bidirectional encoder and one label per word; `labels` are the tags' names."""

    vocabulary_size: int = 0
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """The sizes that every Transformer here has.

    Args:
        width: M, of embeddings and blocks.
        num_layers: blocks; in a translator as many in the encoder as in the decoder.
        num_heads: H; each head is M / H wide.
        hidden_dim: width of the feed-forward networks.
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
    hidden_dim: int = 2048
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
        least = dict.fromkeys(("width", "num_layers", "num_heads", "hidden_dim"), 1)
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
        frame: what stands around a text: `"end"` (text, end), `"start_end"` (start, text, end: BERT) or
            `"end_start"` (text, end, start: XLNet, whose start is its `<cls>`).
        next_sentence: a masked language model also learns whether one segment follows the other.
        labels: names of the classes or tags, for a classifier or tagger.
    """

    vocabulary_size: int = 0
    num_segments: int = 0
    position_offset: int = 0
    embedding_norm: bool = False
    frame: str = "end"
    next_sentence: bool = False
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.frame in FRAMES, "frame", self.frame, f"one of {FRAMES}")
