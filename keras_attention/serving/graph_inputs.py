"""The input texts or images of an export: the classes of `prediction/encoded_inputs.py` for a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.word_reader import WordReader
from keras_attention.serving.graph_images import decode_images
from keras_attention.serving.graph_text import GraphTokenizer, is_empty, join_windows, read_words


class GraphEncodedTexts:
    """Texts, or pairs of texts, and their token ids; see `EncodedTexts`.

    Args:
        strings: (B,) texts.
        reader: the `TextReader` of the texts.
        tokenizer: the reader's tokenizer.
        pairs: (B,) second texts; None for texts without a pair.

    Attributes:
        truncated: (B,) bool, True for texts and pairs that lost tokens.
    """

    def __init__(
        self, strings: tf.Tensor, reader: TextReader, tokenizer: GraphTokenizer, pairs: tf.Tensor | None = None
    ) -> None:
        self.strings, self.tokenizer, self.pairs = strings, tokenizer, pairs
        if pairs is None:
            self.ids, self.mask, self.truncated = tokenizer.read(strings, reader)
            self._pair_mask = tf.zeros_like(self.mask)
        else:
            self.ids, self.mask, self._pair_mask, self.truncated = tokenizer.read_pairs(strings, pairs, reader)

    def arrays(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids (B, S) and mask (B, S); see `EncodedTexts.arrays`."""
        return self.ids, self.mask

    def pair_mask(self) -> tf.Tensor:
        """Return (B, S) bool, True from the second text of a pair on."""
        return self._pair_mask

    def valid(self) -> tf.Tensor:
        """Return (B,) bool, False for texts and pairs without words."""
        empty = is_empty(self.strings)
        return ~(empty if self.pairs is None else empty & is_empty(self.pairs))

    def positions(self, token_id: int) -> tf.Tensor:
        """Return (B, G), the positions of a token in each text, padded with -1; G is at least 1."""
        positions = tf.zeros_like(self.ids) + tf.range(tf.shape(self.ids)[1])
        positions = tf.ragged.boolean_mask(positions, tf.equal(self.ids, token_id)).to_tensor(-1)
        padding = tf.cast(tf.equal(tf.shape(positions)[1], 0), tf.int32)
        return tf.pad(positions, [(0, 0), (0, padding)], constant_values=-1)

    def shift_right(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the decoder's input (B, T) for the labels `ids` (B, T); see `TextReader.shift_right`."""
        return self.tokenizer.shift_right(ids)


class GraphEncodedWords:
    """The words of texts and their token ids; see `EncodedWordWindows`.

    Args:
        texts: (B,) texts.
        reader: the `WordReader` of the words.
        tokenizer: the tokenizer of the text.
        character_tokenizer: the tokenizer of the characters of words; None if the model does not read characters.
        windows: split long sentences into windows; see `read_words`.

    Attributes:
        truncated: (B,) bool, True for texts that lost words; all False with `windows`.
    """

    def __init__(
        self,
        texts: tf.Tensor,
        reader: WordReader,
        tokenizer: GraphTokenizer,
        character_tokenizer: GraphTokenizer | None,
        windows: bool = False,
    ) -> None:
        self.words, self._arrays, self.counts, self.truncated = read_words(
            texts, reader, tokenizer, character_tokenizer, windows
        )
        self.strings = self.words.to_tensor("")

    def join(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return outputs (B, I) for the texts from outputs (n, I) for their n windows."""
        return {name: join_windows(value, self.words, self.counts) for name, value in outputs.items()}

    def arrays(self) -> dict[str, tf.Tensor]:
        """Return the arrays of a sentence; see `EncodedWordWindows.arrays`."""
        return dict(self._arrays)


class GraphEncodedImages:
    """Encoded images; see `RawImages`.

    Args:
        strings: (B,) bytes of images.
    """

    def __init__(self, strings: tf.Tensor) -> None:
        self.strings = strings

    def decode_images(self, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return images (B, size, size, 3) and valid (B,) bool; see `serving.graph_images.decode_images`."""
        return decode_images(self.strings, size)


def encode_in_graph(
    reader: TextReader | WordReader | None, strings: tf.Tensor, graph_tokenizer: Callable, windows: bool = False
) -> GraphEncodedTexts | GraphEncodedWords | GraphEncodedImages:
    """Tokenize (B,) texts as the `encode` of `EncodedTexts` and `EncodedWordWindows` does.

    Args:
        reader: the reader of the texts; None for images.
        strings: (B,) texts or encoded images.
        graph_tokenizer: returns the `GraphTokenizer` of a KerasHub tokenizer.
        windows: split long sentences of words into windows; see `read_words`.
    """
    if reader is None:
        return GraphEncodedImages(strings)
    if isinstance(reader, WordReader):
        characters = None if reader.character_reader is None else graph_tokenizer(reader.character_reader.tokenizer)
        return GraphEncodedWords(strings, reader, graph_tokenizer(reader.text_reader.tokenizer), characters, windows)
    return GraphEncodedTexts(strings, reader, graph_tokenizer(reader.tokenizer))
