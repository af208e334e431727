"""Baselines: the metrics of predictions without a network, computed from the training examples alone."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from keras_attention.metrics.text import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The value of a metric for a baseline.

    Attributes:
        value: the value, in the unit of the metric.
        description: what the baseline predicts, such as `"each word's most frequent tag"`.

    Example:
        >>> baseline = Baseline(0.81, "each word's most frequent tag")
        >>> f"{baseline.value:.0%}: {baseline.description}"
        "81%: each word's most frequent tag"
    """

    value: float
    description: str


def most_frequent(values: Iterable[str]) -> str:
    """Return the most frequent value; of equally frequent ones, the first.

    Example:
        >>> most_frequent(["no", "yes", "yes"])
        'yes'
    """
    return collections.Counter(values).most_common(1)[0][0]


def frequent_tags(examples: Sequence[Sequence[tuple[str, str]]], sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return each word's most frequent tag, with words in lower case; an unknown word gets the most frequent tag.

    Args:
        examples: training sentences of (word, tag).
        sentences: the words of the sentences to tag.

    Example:
        >>> frequent_tags([[("we", "PRON"), ("eat", "VERB"), ("we", "PRON")]], [["we", "drink"]])
        [['PRON', 'PRON']]
    """
    tags: dict[str, list[str]] = {}
    for word, tag in (pair for sentence in examples for pair in sentence):
        tags.setdefault(word.lower(), []).append(tag)
    unknown = most_frequent(tag for sentence in examples for _, tag in sentence)
    frequent = {word: most_frequent(tags_of_word) for word, tags_of_word in tags.items()}
    return [[frequent.get(word.lower(), unknown) for word in words] for words in sentences]


class TfIdf:
    """TF-IDF vectors of texts. A term is a word, in lower case, or a pair of consecutive words.

        w(t) = 1 + ln((1 + texts) / (1 + n(t))) for the terms t of a text, 0 for others

    The vectors are divided by their length. n(t) is the number of texts with the term t; the number of times that a
    term occurs in a text is ignored. Each character of a script without spaces is a word. Vectors are sparse: for each
    term, the texts that contain it and its weight in them.

    Args:
        texts: one or more texts.

    Example:
        >>> TfIdf(["we eat bread", "we drink water"]).most_similar(["they drink"])
        [1]

    Reference: Salton and Buckley, 1988, https://doi.org/10.1016/0306-4573(88)90021-0.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.index: dict[str, int] = {}
        entries = [
            (self.index.setdefault(term, len(self.index)), i) for i, text in enumerate(texts) for term in _terms(text)
        ]
        terms, text_indices = np.array(entries, "int64").reshape(-1, 2).T
        order = np.argsort(terms, kind="stable")
        self.terms, self.text_indices, self.size = terms[order], text_indices[order], len(texts)
        frequencies = np.bincount(terms, minlength=len(self.index))
        self.idf = 1.0 + np.log((1 + self.size) / (1 + frequencies))
        weights = self.idf[self.terms]
        norms = np.sqrt(np.bincount(self.text_indices, weights**2, minlength=self.size))
        self.weights = weights / norms[self.text_indices]
        self.begins = np.concatenate([[0], np.cumsum(frequencies)])  # first entry of each term

    def most_similar(self, texts: Sequence[str]) -> list[int]:
        """Return for each text the index of the text with the largest cosine similarity; of equal ones, the first."""
        return [self._most_similar(text) for text in texts]

    def _most_similar(self, text: str) -> int:
        similarities = np.zeros(self.size)
        for term in [self.index[term] for term in _terms(text) if term in self.index]:
            entries = slice(self.begins[term], self.begins[term + 1])
            similarities[self.text_indices[entries]] += self.idf[term] * self.weights[entries]
        return int(similarities.argmax())

    def most_central(self) -> int:
        """Return the index of the text with the largest mean cosine similarity to all texts."""
        mean = np.bincount(self.terms, self.weights, minlength=len(self.index)) / self.size
        return int(np.bincount(self.text_indices, self.weights * mean[self.terms], minlength=self.size).argmax())


def _terms(text: str) -> dict[str, None]:
    """Return the different words and pairs of words of a text, in order."""
    words = _WORD.findall(text.lower())
    return dict.fromkeys([*words, *map(" ".join, itertools.pairwise(words))])


def unigram_loss(training: Iterable, validation: Iterable, vocabulary_size: int, label_smoothing: float = 0.0) -> float:
    """Return the loss per token of a prediction from token frequencies, with add-one and label smoothing.

        p(v) = (count(v) + 1) / (n + V),  q(v) = (1 - e) p(v) + e / V
        loss = mean of -(1 - e) log q(y) - e / V sum_v log q(v)

    n is the number of training tokens, V the size of the vocabulary, and e the label smoothing, which the loss of
    training includes. q is the prediction with the lowest loss on tokens of the frequencies p.

    Args:
        training: batches of (inputs, labels (B, T), weights (B, T)); count(v) is a sum of weights.
        validation: batches, whose labels y are predicted.
        vocabulary_size: V.
        label_smoothing: e.

    Example:
        >>> batch = (None, np.array([[0, 0, 1]]), np.ones((1, 3)))
        >>> round(unigram_loss([batch], [batch], 2), 4)  # -(2 ln 0.6 + ln 0.4) / 3
        0.646
    """
    counts, expected = (_token_counts(batches, vocabulary_size) for batches in (training, validation))
    frequencies = (counts + 1.0) / (counts.sum() + vocabulary_size)
    costs = -np.log((1 - label_smoothing) * frequencies + label_smoothing / vocabulary_size)
    return float((1 - label_smoothing) * (expected @ costs) / expected.sum() + label_smoothing * costs.mean())


def _token_counts(batches: Iterable, vocabulary_size: int) -> np.ndarray:
    counts = np.zeros(vocabulary_size)
    for _, labels, weights in batches:
        counts += np.bincount(np.ravel(labels), np.ravel(weights), minlength=vocabulary_size)
    return counts
