"""The texts or images that are passed to a prediction method: check them, tokenize texts, and select batches.

`serving/graph_inputs.py` has the same classes for a TensorFlow graph. `Task.to_inputs` uses their common members:
`strings`, `arrays`, `valid`, `positions`, `shift_right` and `decode_images`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import pad_ids
from keras_attention.data.image_files.image_formats import to_rgb
from keras_attention.data.image_files.images import read_images
from keras_attention.data.tokenization.text_reader import Text, TextReader
from keras_attention.data.tokenization.word_reader import Window, WordReader


@dataclasses.dataclass(frozen=True)
class EncodedTexts:
    """Texts, or pairs of texts, and their token ids.

    Args:
        reader: the `TextReader` of the texts.
        strings: B texts or pairs.
        ids: the ids of each text or pair.
        pair_starts: the index of the second text of each pair; the number of ids for one text.
        multiple: padded lengths are rounded up to a multiple of this, so that fewer shapes occur.
    """

    reader: TextReader
    strings: Sequence[Text]
    ids: Sequence[list[int]]
    pair_starts: Sequence[int]
    multiple: int = 8

    @classmethod
    def encode(cls, reader: TextReader, strings: Sequence[Text], multiple: int = 8) -> EncodedTexts:
        """Tokenize texts or pairs. Longer ones are truncated; one warning counts them."""
        encoded = reader.ids_and_pair_starts(strings)
        return cls(reader, strings, [ids for ids, _ in encoded], [start for _, start in encoded], multiple)

    @property
    def lengths(self) -> list[int]:
        """The number of ids of each text."""
        return [len(ids) for ids in self.ids]

    def take(self, indices: Sequence[int]) -> EncodedTexts:
        """Return the texts with these indices."""
        fields = {name: [getattr(self, name)[i] for i in indices] for name in ("strings", "ids", "pair_starts")}
        return dataclasses.replace(self, **fields)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (B, S) int32 and mask (B, S) bool, True = a real token."""
        return self.reader.pad(self.ids, self.multiple, min_length=1)

    def pair_mask(self) -> np.ndarray:
        """Return (B, S) bool, True from the second text of a pair on."""
        return self.reader.pair_mask(self.pair_starts, self.arrays()[1])

    def valid(self) -> np.ndarray:
        """Return (B,) bool, False for texts without words."""
        return np.array([not self.reader.is_empty(text) for text in self.strings], bool)

    def positions(self, token_id: int) -> np.ndarray:
        """Return (B, G) int32, the positions of a token in each text, padded with -1."""
        positions = [[i for i, token in enumerate(ids) if token == token_id] for ids in self.ids]
        return pad_ids(positions, -1, self.multiple, min_length=1)[0]

    def shift_right(self, ids: np.ndarray) -> np.ndarray:
        """Return the decoder's input (B, T) for the labels `ids` (B, T); see `TextReader.shift_right`."""
        return self.reader.shift_right(ids)


@dataclasses.dataclass(frozen=True)
class EncodedWordWindows:
    """Sentences, each a list of words, and the token ids of their windows.

    Args:
        reader: the `WordReader` of the words.
        sentences: the words of the texts.
        windows: B windows of the sentences.
    """

    reader: WordReader
    sentences: Sequence[list[str]]
    windows: Sequence[Window]

    @classmethod
    def encode(cls, reader: WordReader, strings: Sequence[str]) -> EncodedWordWindows:
        """Tokenize words. Each text becomes one window. Longer texts are truncated; one warning counts them."""
        sentences = [reader.split(text) for text in strings]
        encoded = enumerate(reader.ids(sentences))
        return cls(reader, sentences, [Window(i, words, 0, range(len(words.starts))) for i, words in encoded])

    @classmethod
    def encode_windows(cls, reader: WordReader, strings: Sequence[str]) -> EncodedWordWindows:
        """Tokenize words. Each text becomes one or more windows, which contain all of its words."""
        sentences = [reader.split(text) for text in strings]
        return cls(reader, sentences, reader.windows(sentences))

    @property
    def lengths(self) -> list[int]:
        """The number of ids of each window."""
        return [len(window.encoded.ids) for window in self.windows]

    def take(self, indices: Sequence[int]) -> EncodedWordWindows:
        """Return the windows with these indices."""
        return dataclasses.replace(self, windows=[self.windows[i] for i in indices])

    @property
    def strings(self) -> np.ndarray:
        """The words (B, I) that each window tags, padded with ""."""
        rows = [[self.sentences[window.sentence][word] for word in window.tagged] for window in self.windows]
        count = self._starts().shape[1]
        return np.array([[*words, *[""] * (count - len(words))] for words in rows], object).reshape(len(rows), count)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of `WordReader.arrays`, and `word_starts` (B, I) int32, padded with -1."""
        rows = [window.encoded for window in self.windows]
        return {**self.reader.arrays(rows), "word_starts": self._starts()}

    def _starts(self) -> np.ndarray:
        return pad_ids([window.starts() for window in self.windows], -1, multiple=8, min_length=1)[0]


@dataclasses.dataclass(frozen=True)
class RawImages:
    """Images that are not decoded yet: paths, encoded images or arrays.

    Args:
        strings: B images.
    """

    strings: Sequence[Any]

    @property
    def lengths(self) -> list[int]:
        """0 for each image, because all images need equal memory."""
        return [0] * len(self.strings)

    def take(self, indices: Sequence[int]) -> RawImages:
        """Return the images with these indices."""
        return RawImages([self.strings[i] for i in indices])

    def decode_images(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images (B, size, size, 3) float32 and valid (B,) bool, False for images that cannot be read."""
        return read_images(self.strings, size)


def check_texts(texts: Iterable[Text], pairs: bool = False) -> list[Any]:
    """Return the texts as a list; with `pairs`, two strings are a pair of texts, and become a tuple.

    Raises:
        TypeError: `texts` is one string, a dict or a set, or contains other types than strings and, with `pairs`, pairs
            of strings.
        ValueError: UTF-8 cannot encode a text.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"Expected a list of strings; received one {type(texts).__name__}. Wrap it: [text].")
    if isinstance(texts, (Mapping, set, frozenset)):  # a loop over a dict has its keys; the order of a set changes
        raise TypeError(f"Expected a list of strings; received a {type(texts).__name__}. Make a list of its texts.")
    texts = [tuple(text) if pairs and isinstance(text, (tuple, list)) else text for text in texts]
    for index, text in enumerate(texts):
        parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
        if not all(isinstance(part, str) for part in parts) or (len(parts) == 2 and not pairs):
            or_pair = " or a pair of strings" if pairs else ""
            words = isinstance(text, (list, tuple)) and len(text) and all(isinstance(part, str) for part in text)
            join = " Join words with spaces: ' '.join(words)." if words and not pairs else ""
            raise TypeError(f"Text {index} is {type(text).__name__}; expected a string{or_pair}.{join}")
        try:
            "".join(parts).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Text {index} cannot be encoded as UTF-8: {error.reason}, at position {error.start}. Remove this "
                "character."
            ) from None
    return texts


def check_images(images: Sequence[Any]) -> list:
    """Return the images as a list; an image of Pillow becomes an array.

    Raises:
        TypeError: `images` is one image, or contains another type than paths, bytes, arrays of uint8 or Pillow images
            of 8 or 16 bits.
    """
    is_single = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in (3, 4)
    if is_single or isinstance(images, (str, bytes, pathlib.Path)) or hasattr(images, "getexif"):
        raise TypeError(f"Expected a list of images; received one {type(images).__name__}. Wrap it: [image].")
    images = [_from_pillow(image) if hasattr(image, "getexif") else image for image in images]
    for index, image in enumerate(images):
        if isinstance(image, np.ndarray) and image.dtype != np.uint8:
            raise TypeError(
                f"Image {index} is an array of type {image.dtype}; expected uint8, 0 to 255. Convert it with "
                "`image.astype('uint8')`, or `(255 * image).astype('uint8')` if its values are 0 to 1."
            )
        if not isinstance(image, (str, pathlib.Path, bytes, np.ndarray)):
            raise TypeError(f"Image {index} is a {type(image).__name__}; expected a path, bytes or an array of uint8.")
    return images


def _from_pillow(image: Any) -> np.ndarray:
    """Return the pixels (height, width, 3) uint8. Of 16 bits, the higher 8 are used, as for a PNG file."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return to_rgb((np.asarray(image) >> 8).astype("uint8"))
    if image.mode in ("I", "F"):
        raise TypeError(
            f"A Pillow image has the mode {image.mode}, whose range of values is not known; expected 8 or 16 bits. "
            "Convert it to an array of uint8."
        )
    return np.asarray(image.convert("RGB"))
