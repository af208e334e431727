"""What defines a network: one frozen dataclass per task, nothing but numbers and names."""

from __future__ import annotations

import dataclasses

CELLS = ("simple", "gru", "lstm")
ATTENTIONS = ("additive", "dot", "scaled_dot")


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
        for name, least in (("embedding_dim", 1), ("units", 1), ("num_layers", 1), ("max_length", 2)):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= least, name, value, f"an integer, at least {least}")
        _require(
            isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1,
            "dropout",
            self.dropout,
            "a number in [0, 1)",
        )
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
