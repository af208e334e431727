"""`DataSize`: the numbers of examples, words and characters, from which defaults are computed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

_PART_LENGTH = 2**20  # characters of a text that are split into words at once
_REST_OF_WORD = re.compile(r"\S*")


@dataclasses.dataclass(frozen=True)
class DataSize:
    """The size of training data.

    Args:
        examples: number of examples, such as pairs of texts or images.
        words: number of words, separated by white space, in all texts (source and target texts of pairs).
        distinct_words: number of different words, in lower case.
        characters: number of characters.
        distinct_characters: number of different characters.
    """

    examples: int
    words: int
    distinct_words: int
    characters: int
    distinct_characters: int

    @classmethod
    def measure(cls, task: Any, examples: Sequence) -> DataSize:
        """Return the size of the examples of a task.

        Args:
            task: the class of a task, or a model.
            examples: raw examples of the task.

        Example:
            >>> DataSize.measure(ka.TextClassifier, [("so fine", "good"), ("so dull", "bad")])
            DataSize(examples=2, words=4, distinct_words=3, characters=14, distinct_characters=10)
        """
        distinct_words: set[str] = set()
        distinct_characters: set[str] = set()
        num_words = num_characters = 0
        for text in task.data.texts(examples):
            for part in _parts(text):
                words = part.lower().split()
                distinct_words.update(words)
                distinct_characters.update(part)
                num_words += len(words)
                num_characters += len(part)
        return cls(len(examples), num_words, len(distinct_words), num_characters, len(distinct_characters))


def _parts(text: str) -> Iterator[str]:
    """Yield parts of a text without splitting a word; the words of a whole book at once would need much memory."""
    begin = 0
    while begin < len(text):
        end = _REST_OF_WORD.match(text, begin + _PART_LENGTH).end()
        yield text[begin:end]
        begin = end
