"""`WordReader`: encode the words of sentences for a tagger, and split long sentences into windows."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from keras_attention.data.lines import counted
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.tokenizer_rules import add_spaces, split_words
from keras_attention.data.tokenization.tokenizers import encode_texts


@dataclasses.dataclass(frozen=True)
class EncodedWords:
    """The words of a sentence as token ids.

    Attributes:
        ids: the tokens of all words, with special tokens.
        starts: the index in `ids` of the first token of each word.
        characters: the ids of the characters of each word; empty without a character tokenizer.
    """

    ids: list[int]
    starts: list[int]
    characters: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a sentence with at most `max_length` tokens.

    Attributes:
        sentence: the index of the sentence.
        encoded: the words that begin in the window.
        first: the index in the sentence of the first of these words.
        tagged: the indices in the sentence of the words whose tags are predicted in this window.
    """

    sentence: int
    encoded: EncodedWords
    first: int
    tagged: range

    def starts(self) -> list[int]:
        """Return the index in `encoded.ids` of the first token of each tagged word."""
        return [self.encoded.starts[word - self.first] for word in self.tagged]


@dataclasses.dataclass(frozen=True)
class WordReader:
    """Encode sentences, each a list of words, as token ids.

    Each word is tokenized separately, because its tag is predicted at its first token. A word without tokens becomes
    the unknown token. `ids` truncates sentences with more tokens than `text_reader.max_length`; `windows` splits them
    into windows that overlap. The characters of a word are truncated to `character_reader.max_length`.

    Args:
        text_reader: the `TextReader` of a sentence; it has the tokenizer, the special tokens and `max_length`.
        character_reader: the `TextReader` of the characters of a word; None for a model without character input.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> reader = WordReader(TextReader.from_template(tokenizer, "start_end"))
        >>> reader.ids([["we", "eat"]])[0].starts
        [1, 3]
    """

    text_reader: TextReader
    character_reader: TextReader | None = None

    @staticmethod
    def split(text: str) -> list[str]:
        """Return the words of a text, split at ASCII white space."""
        return split_words(text)

    @property
    def window_length(self) -> int | None:
        """The number of tokens in a window, without special tokens; None without a maximum."""
        return None if self.text_reader.limit is None else max(self.text_reader.limit, 1)

    @property
    def overlap(self) -> int:
        """The number of tokens that two consecutive windows share; each window tags one half of them."""
        return (self.window_length or 0) // 4

    def ids(self, sentences: Sequence[Sequence[str]]) -> list[EncodedWords]:
        """Return one `EncodedWords` per sentence; one warning gives the number of truncated sentences.

        Args:
            sentences: sequences of words.
        """
        encoded, long = [], 0
        for tokens, characters in self._tokens(sentences):
            starts = list(itertools.accumulate(map(len, tokens), initial=0))
            encoded.append(self._cut(list(itertools.chain(*tokens)), starts[:-1], characters, 0))
            long += self.text_reader.limit is not None and starts[-1] > self.text_reader.limit
        if long:
            warnings.warn(
                f"Truncated {long} of {counted(len(encoded), 'sentence')} on the right to "
                f"{counted(self.text_reader.max_length, 'token')}, including special tokens. To tag all words, "
                "split the sentences, or make the model with a larger `max_length`.",
                stacklevel=2,
            )
        return encoded

    def windows(self, sentences: Sequence[Sequence[str]]) -> list[Window]:
        """Return the windows of all sentences; each word is tagged by one of them.

        Each window has `window_length` tokens, and shares `overlap` tokens with the next window of the sentence.
        """
        windows = []
        for number, (tokens, characters) in enumerate(self._tokens(sentences)):
            starts = list(itertools.accumulate(map(len, tokens), initial=0))
            ids, length = list(itertools.chain(*tokens)), self.window_length or max(starts[-1], 1)
            stride, middle, total, starts = length - self.overlap, self.overlap // 2, starts[-1], starts[:-1]
            count = 1 + -(-max(total - length, 0) // stride)
            for begin in range(0, count * stride, stride):
                first = bisect.bisect_left(starts, begin)
                from_word = bisect.bisect_left(starts, begin + middle) if begin else 0
                last = begin == (count - 1) * stride
                to_word = len(starts) if last else bisect.bisect_left(starts, begin + stride + middle)
                if from_word < to_word or not starts:
                    encoded = self._cut(ids, starts, characters, begin)
                    windows.append(Window(number, encoded, first, range(from_word, to_word)))
        return windows

    def _tokens(self, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Yield the tokens and the characters of each word, for each sentence."""
        tokenizer, unknown = self.text_reader.tokenizer, self.text_reader.special.unknown
        tokens = iter(encode_texts(tokenizer, [w for words in sentences for w in add_spaces(tokenizer, words)]))
        characters = iter(self._character_ids([word for words in sentences for word in words]))
        for words in sentences:
            tokens_of_words = [ids or [unknown] for ids in itertools.islice(tokens, len(words))]
            yield tokens_of_words, list(itertools.islice(characters, len(words)))

    def _cut(self, ids: list[int], starts: list[int], characters: list[list[int]], begin: int) -> EncodedWords:
        """Return the tokens of a sentence from `begin` on, as many as fit, and the words that begin there."""
        end = len(ids) if self.text_reader.limit is None else begin + self.text_reader.limit
        words = slice(bisect.bisect_left(starts, begin), bisect.bisect_left(starts, end))
        shift = len(self.text_reader.before) - begin
        return EncodedWords(
            self.text_reader.add_template(ids[begin:end]), [start + shift for start in starts[words]], characters[words]
        )

    def _character_ids(self, words: list[str]) -> list[list[int]]:
        if self.character_reader is None:
            return []
        reader, unknown = self.character_reader, self.character_reader.special.unknown
        return [reader.add_template(ids) or [unknown] for ids in encode_texts(reader.tokenizer, words)]

    def arrays(self, sentences: Sequence[EncodedWords], multiple: int = 8, extra: int = 0) -> dict[str, np.ndarray]:
        """Return sentences as padded arrays.

        Args:
            sentences: B sentences, from `ids`.
            multiple: lengths are rounded up to a multiple of this, so that fewer shapes occur.
            extra: columns of padding that are added after rounding.

        Returns:
            `token_ids` (B, S) int32, `padding_mask` (B, S) bool and, with a reader of characters, `character_ids`
            (B, S, characters) int32 and `character_mask` (B, S, characters) bool, True for the characters of a word,
            at its first token.
        """
        ids, mask = self.text_reader.pad([sentence.ids for sentence in sentences], multiple, extra, min_length=1)
        arrays = {"token_ids": ids, "padding_mask": mask}
        if self.character_reader is None:
            return arrays
        words = [characters for sentence in sentences for characters in sentence.characters]
        sentence_ids = [i for i, sentence in enumerate(sentences) for _ in sentence.starts]
        starts = [start for sentence in sentences for start in sentence.starts]
        character_arrays = self.character_reader.pad(words, multiple, extra, min_length=1)
        for name, values in zip(("character_ids", "character_mask"), character_arrays, strict=True):
            arrays[name] = np.zeros((*ids.shape, values.shape[1]), values.dtype)
            arrays[name][sentence_ids, starts] = values
        return arrays
