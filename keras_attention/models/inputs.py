"""The inputs of a prediction method: texts, which are tokenized, or images; taken in batches.

`serving/graph_inputs.py` has the same classes for a TensorFlow graph. `Task.to_inputs` uses their common members:
`strings`, `arrays`, `are_empty`, `positions`, `shift_right` and `decode_images`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import pad_ids
from keras_attention.data.images import read_images
from keras_attention.data.text_reader import EncodedWords, TextReader, WordReader


@dataclasses.dataclass(frozen=True)
class TextInputs:
    """Texts and their token ids.

    Args:
        reader: the `TextReader` of the texts.
        strings: B texts.
        rows: the ids of each text.
        multiple: padded lengths are rounded up to a multiple of this, so that fewer shapes occur.
    """

    reader: TextReader
    strings: Sequence[str]
    rows: Sequence[list[int]]
    multiple: int = 8

    @property
    def lengths(self) -> list[int]:
        """The number of ids of each text."""
        return [len(row) for row in self.rows]

    def take(self, indices: Sequence[int]) -> TextInputs:
        """Return the texts with these indices."""
        strings, rows = [self.strings[i] for i in indices], [self.rows[i] for i in indices]
        return dataclasses.replace(self, strings=strings, rows=rows)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (B, S) int32 and mask (B, S) bool, True = a real token."""
        return self.reader.pad(self.rows, self.multiple, min_length=1)

    def are_empty(self) -> np.ndarray:
        """Return (B,) bool, True for texts without words."""
        return np.array([self.reader.is_empty(text) for text in self.strings], bool)

    def positions(self, token_id: int) -> np.ndarray:
        """Return (B, G) int32, the positions of a token in each text, padded with -1."""
        positions = [[i for i, token in enumerate(ids) if token == token_id] for ids in self.rows]
        return pad_ids(positions, -1, self.multiple, min_length=1)[0]

    def shift_right(self, ids: np.ndarray) -> np.ndarray:
        """Return the decoder's input (B, T) for the labels `ids` (B, T); see `TextReader.shift_right`."""
        return self.reader.shift_right(ids)


@dataclasses.dataclass(frozen=True)
class WordInputs:
    """Sentences, each a list of words, and their token ids.

    Args:
        reader: the `WordReader` of the words.
        sentences: the words of B texts.
        rows: B encoded sentences.
    """

    reader: WordReader
    sentences: Sequence[list[str]]
    rows: Sequence[EncodedWords]

    @property
    def lengths(self) -> list[int]:
        """The number of ids of each sentence."""
        return [len(row.ids) for row in self.rows]

    def take(self, indices: Sequence[int]) -> WordInputs:
        """Return the sentences with these indices."""
        return WordInputs(self.reader, [self.sentences[i] for i in indices], [self.rows[i] for i in indices])

    @property
    def strings(self) -> np.ndarray:
        """The words (B, W) after truncation, padded with ""."""
        truncated = [words[: len(row.starts)] for words, row in zip(self.sentences, self.rows, strict=True)]
        width = self._starts().shape[1]
        return np.array([[*words, *[""] * (width - len(words))] for words in truncated], object).reshape(
            len(truncated), width
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of `WordReader.arrays`, and `word_starts` (B, W) int32, padded with -1."""
        return {**self.reader.arrays(self.rows), "word_starts": self._starts()}

    def _starts(self) -> np.ndarray:
        return pad_ids([row.starts for row in self.rows], -1, multiple=8, min_length=1)[0]


@dataclasses.dataclass(frozen=True)
class ImageInputs:
    """Images: paths, encoded images or arrays.

    Args:
        strings: B images.
    """

    strings: Sequence[Any]

    @property
    def lengths(self) -> list[int]:
        """0 for each image, because all images need equal memory."""
        return [0] * len(self.strings)

    def take(self, indices: Sequence[int]) -> ImageInputs:
        """Return the images with these indices."""
        return ImageInputs([self.strings[i] for i in indices])

    def decode_images(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images (B, size, size, 3) float32 and valid (B,) bool, False for images that cannot be read."""
        return read_images(self.strings, size)


def encode_inputs(
    reader: TextReader | WordReader | None, strings: Sequence[Any], multiple: int = 8
) -> TextInputs | WordInputs | ImageInputs:
    """Tokenize texts with a reader, with one warning for all texts that are too long; None reads images."""
    if reader is None:
        return ImageInputs(strings)
    if isinstance(reader, WordReader):
        sentences = [reader.split(text) for text in strings]
        return WordInputs(reader, sentences, reader.ids(sentences))
    return TextInputs(reader, strings, reader.ids(strings), multiple)
