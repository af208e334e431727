"""The outputs of the tasks: plain dataclasses, made from rows.

A row is the output of an exported signature for one example: a mapping from output names to strings (str or bytes),
numbers, and arrays or lists of them, padded at the end. `from_row` reads rows that were computed in this process, in a
SavedModel, or on a server. This module imports neither Keras nor TensorFlow.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_LOWEST_SCORE = -5e8  # half of `generation.proposals.NEVER`, as a test checks; a lower score marks an empty entry


@dataclasses.dataclass(frozen=True)
class Translation:
    """The translation of one text.

    Attributes:
        source: the text that was translated.
        text: the translation.
        score: its log-probability, in nats, after length and coverage penalties; -inf if the constraints of the search
            allow no translation.
        source_pieces: the S pieces of the source.
        target_pieces: the T pieces of the translation.
        attention: (T, S) attention scores, float32; None for a model without attention.
        alternatives: the other hypotheses, best first, with text, score and pieces; empty if the search returns one.

    Example:
        >>> attention = np.array([[0.25, 0.75]])
        >>> translation = Translation("we eat", "comemos", -0.5, ("we", "eat"), ("comemos",), attention)
        >>> translation.source_pieces[translation.attention[0].argmax()]
        'eat'
    """

    source: str
    text: str
    score: float
    source_pieces: tuple[str, ...] = ()
    target_pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None
    alternatives: tuple[Translation, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any], source: str) -> Translation:
        """Make a translation of `source` from a row.

        Example:
            >>> row = {"text": b"pan", "score": -0.5, "source_pieces": ["bread", ""], "target_pieces": ["pan"]}
            >>> Translation.from_row(row, "bread").source_pieces
            ('bread',)
        """
        source_pieces, target_pieces = _strings(row["source_pieces"]), _strings(row["target_pieces"])
        return cls(
            source,
            _string(row["text"]),
            _score(row["score"]),
            source_pieces,
            target_pieces,
            _without_padding(row.get("attention"), len(target_pieces), len(source_pieces)),
            tuple(cls(source, text, score, (), pieces) for text, score, pieces in _alternatives(row))
            if source_pieces
            else (),
        )


@dataclasses.dataclass(frozen=True)
class Caption:
    """The caption of one image.

    Attributes:
        text: the caption; empty for an image that cannot be read.
        score: its log-probability, in nats, after length and coverage penalties; -inf if the constraints of the search
            allow no caption.
        pieces: the T pieces of the caption.
        attention: (T, rows, columns) attention scores, float32; None for a model without attention.
        valid: whether the image could be read.
        alternatives: the other hypotheses, best first, with text, score and pieces; empty if the search returns one.

    Example:
        >>> caption = Caption("a dog", -1.5, ("a", "dog"), attention=np.full((2, 7, 7), 1 / 49))
        >>> caption.pieces[1], caption.attention[1].shape
        ('dog', (7, 7))
    """

    text: str
    score: float
    pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None
    valid: bool = True
    alternatives: tuple[Caption, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Caption:
        """Make a caption from a row.

        Example:
            >>> Caption.from_row({"caption": b"", "score": 0.0, "pieces": [], "valid": False}).valid
            False
        """
        if not row["valid"]:
            return cls("", 0.0, valid=False)
        pieces = _strings(row["pieces"])
        others = tuple(cls(*other) for other in _alternatives(row))
        attention = _without_padding(row.get("attention"), len(pieces))
        return cls(_string(row["caption"]), _score(row["score"]), pieces, attention, True, others)


@dataclasses.dataclass(frozen=True)
class Completion:
    """A prompt and its continuation.

    Attributes:
        prompt: the text that was continued.
        text: the prompt and its continuation.
        score: the log-probability of the continuation, in nats, after the penalties of a beam search; -inf if the
            constraints of the search allow no continuation.
        pieces: the pieces of the continuation.
        alternatives: the other hypotheses, best first, with text, score and pieces; empty if the search returns one.

    Example:
        >>> completion = Completion("to be", "to be or not", -2.0, (" or", " not"))
        >>> completion.text.removeprefix(completion.prompt)
        ' or not'
    """

    prompt: str
    text: str
    score: float
    pieces: tuple[str, ...] = ()
    alternatives: tuple[Completion, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any], prompt: str) -> Completion:
        """Make a completion of `prompt` from a row.

        Example:
            >>> Completion.from_row({"text": "to be", "score": -2.0, "pieces": [" ", "be"]}, "to").pieces
            (' ', 'be')
        """
        others = tuple(cls(prompt, *other) for other in _alternatives(row))
        return cls(prompt, _string(row["text"]), _score(row["score"]), _strings(row["pieces"]), others)


@dataclasses.dataclass(frozen=True)
class Classification:
    """The label of one text.

    Attributes:
        text: the text, or the pair of texts, that was classified.
        label: its most probable label; empty for an empty text.
        score: the probability of the label; in a regression, the predicted value.
        pieces: the S pieces of the text.
        attention: (S,) attention scores of the pooling over pieces, float32; None for a model without attention.
        probabilities: the probability of each label, in the order of the labels of the model. If a text can have
            several labels, they do not sum to 1; in a regression, they are the predicted values.

    Example:
        >>> classification = Classification("so fine", "good", 0.75, probabilities=(0.25, 0.75))
        >>> classification.label, max(classification.probabilities)
        ('good', 0.75)
    """

    text: str | tuple[str, str]
    label: str
    score: float
    pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None
    probabilities: tuple[float, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str | tuple[str, str]) -> Classification:
        """Make the classification of `text` from a row.

        Example:
            >>> row = {"label": b"good", "score": 0.75, "pieces": ["fine"], "probabilities": [0.25, 0.75]}
            >>> Classification.from_row(row, "fine").probabilities
            (0.25, 0.75)
        """
        pieces = _strings(row["pieces"])
        attention = _without_padding(row.get("attention"), len(pieces))
        probabilities = tuple(map(float, row.get("probabilities", ())))
        return cls(text, _string(row["label"]), float(row["score"]), pieces, attention, probabilities)


@dataclasses.dataclass(frozen=True)
class Tagging:
    """The words of one text and their tags.

    Attributes:
        text: the text that was tagged.
        words: its words, split at white space.
        tags: the most probable tag of each word.
        scores: the probability of each tag.

    Example:
        >>> tagging = Tagging("we eat", ("we", "eat"), ("PRON", "VERB"), (0.75, 0.5))
        >>> list(zip(tagging.words, tagging.tags))
        [('we', 'PRON'), ('eat', 'VERB')]
    """

    text: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    scores: tuple[float, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str) -> Tagging:
        """Make the tagging of `text` from a row.

        Example:
            >>> row = {"words": ["we", "eat", ""], "tags": ["PRON", "VERB", ""], "scores": [0.75, 0.5, 0.0]}
            >>> Tagging.from_row(row, "we eat").tags
            ('PRON', 'VERB')
        """
        words = _strings(row["words"])
        tags, scores = row["tags"][: len(words)], row["scores"][: len(words)]
        return cls(text, words, tuple(map(_string, tags)), tuple(map(float, scores)))


def join_taggings(parts: Sequence[Tagging]) -> Tagging:
    """Join the taggings of the consecutive windows of one text.

    Example:
        >>> parts = Tagging("we eat", ("we",), ("PRON",), (0.5,)), Tagging("we eat", ("eat",), ("VERB",), (0.7,))
        >>> join_taggings(parts).tags
        ('PRON', 'VERB')
    """
    columns = zip(*((part.words, part.tags, part.scores) for part in parts), strict=True)
    return Tagging(parts[0].text, *(tuple(itertools.chain(*column)) for column in columns))


@dataclasses.dataclass(frozen=True)
class FilledMask:
    """A text with filled masks.

    Attributes:
        masked: the text with masks.
        text: the text with each mask replaced by its most probable piece.
        candidates: for each mask, the most probable pieces as (piece, probability), best first.

    Example:
        >>> filled = FilledMask("we <mask> bread", "we eat bread", ((("eat", 0.5), ("bake", 0.25)),))
        >>> filled.candidates[0][1]
        ('bake', 0.25)
    """

    masked: str
    text: str
    candidates: tuple[tuple[tuple[str, float], ...], ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any], masked: str) -> FilledMask:
        """Make the filled text of `masked` from a row.

        Example:
            >>> row = {"text": "we eat", "candidates": [["we", "i"]], "candidate_scores": [[0.5, 0.25]]}
            >>> FilledMask.from_row(row, "<mask> eat").candidates
            ((('we', 0.5), ('i', 0.25)),)
        """
        candidates = tuple(
            tuple((_string(piece), float(score)) for piece, score in zip(pieces, scores, strict=True))
            for pieces, scores in zip(row["candidates"], row["candidate_scores"], strict=True)
            if any(map(_string, pieces))
        )
        return cls(masked, _string(row["text"]), candidates)


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """The attention scores of all blocks and heads of a model for one text.

    Attributes:
        text: the text that was read.
        pieces: its S pieces.
        attention: (layers, H, S, S) attention scores, float32; row q has the scores of query q over all S keys.

    Example:
        >>> maps = AttentionMaps("we eat", ("we", "eat"), np.full((3, 5, 2, 2), 0.5))
        >>> maps.attention.mean(axis=1).shape  # the mean over the heads
        (3, 2, 2)
    """

    text: str
    pieces: tuple[str, ...]
    attention: np.ndarray

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str) -> AttentionMaps:
        """Make the attention maps of `text` from a row.

        Example:
            >>> row = {"pieces": ["we", "eat", ""], "attention": np.ones((1, 2, 3, 3))}
            >>> AttentionMaps.from_row(row, "we eat").attention.shape
            (1, 2, 2, 2)
        """
        pieces = _strings(row["pieces"])
        return cls(text, pieces, np.asarray(row["attention"], "float32")[..., : len(pieces), : len(pieces)])


def split_rows(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch. Axis 0 of every value is the batch.

    Args:
        batch: a mapping from names to arrays or lists of the same length B.

    Yields:
        B dicts with the names of the batch.

    Example:
        >>> [row["score"] for row in split_rows({"score": [0.25, 0.5]})]
        [0.25, 0.5]
    """
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _string(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _strings(values: Any) -> tuple[str, ...]:
    """Return the strings without padding, the empty strings at the end."""
    strings = [_string(value) for value in values]
    while strings and not strings[-1]:
        strings.pop()
    return tuple(strings)


def _score(value: Any) -> float:
    return float(value) if value > _LOWEST_SCORE else -math.inf


def _without_padding(values: Any, *sizes: int) -> np.ndarray | None:
    """Return attention scores without padding; None without attention, or if a size is 0."""
    if values is None or not all(sizes):
        return None
    return np.asarray(values, "float32")[tuple(slice(size) for size in sizes)]


def _alternatives(row: Mapping[str, Any]) -> Iterator[tuple[str, float, tuple[str, ...]]]:
    """Yield the text, the score and the pieces of all hypotheses but the best."""
    names = ("alternatives", "alternative_scores", "alternative_pieces")
    for text, score, pieces in list(zip(*(row.get(name, ()) for name in names), strict=True))[1:]:
        if score > _LOWEST_SCORE:
            yield _string(text), float(score), _strings(pieces)
