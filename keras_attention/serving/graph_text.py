"""Encode strings as ids, and decode ids to strings, in a TensorFlow graph, like `data/tokenization/` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.data.tokenization.special_tokens import special_tokens_of, vocabulary
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.tokenizer_rules import (
    WHITE_SPACE,
    WORD_MARK,
    is_byte_pair,
    is_word_piece,
    marks_spaces,
    pieces_to_bytes,
)
from keras_attention.data.tokenization.word_reader import WordReader
from keras_attention.generation.proposals import NO_HYPOTHESIS
from keras_attention.serving.graph_tokenizers import GraphPieces, join_parts


class StringTable:
    """Strings by their index, as a variable of an export.

    A server copies the constants of a graph many times when it loads it: 50,000 strings would take 5 MB in each copy.

    Args:
        strings: the string of each index.
    """

    def __init__(self, strings: Sequence[str | bytes]) -> None:
        self.size = len(strings)
        self.variable = tf.Variable([*strings, ""], trainable=False)

    def gather(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the string of each index, "" for larger indices."""
        return tf.gather(self.variable, tf.minimum(indices, self.size))


class GraphTokenizer:
    """A KerasHub tokenizer as operations of a TensorFlow graph, with the methods of `Detokenizer`.

    Args:
        tokenizer: a KerasHub tokenizer.
        stop: strings before which a generated text ends; see `Strategy`.

    Attributes:
        tracked: the objects that a SavedModel must contain.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        codes = ("".join(f"\\x{{{ord(character):x}}}" for character in text) for text in stop)
        self.stop = f"(?s)(?:{'|'.join(codes)}).*" if stop else None
        self.tokenizer, self.special = tokenizer, special_tokens_of(tokenizer)
        pieces = GraphPieces(tokenizer)
        self._pieces, self.tokenize = pieces.tracked, pieces.tokenize
        self._vocabulary = StringTable(vocabulary(tokenizer))
        self._bytes_of_ids = StringTable(self._visible_bytes() if is_byte_pair(tokenizer) else [])
        self.tracked = [self._pieces, self._vocabulary.variable, self._bytes_of_ids.variable]

    def read(self, text: tf.Tensor, reader: TextReader) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Encode (B,) strings as ids (B, S) and a mask (B, S), like `reader.arrays`, and whether each lost tokens."""
        rows = self.tokenize(text)
        return *self.pad(add_template(rows, reader)), is_over(rows.row_lengths(), reader.limit)

    def read_pairs(self, first: tf.Tensor, second: tf.Tensor, reader: TextReader) -> tuple[tf.Tensor, ...]:
        """Encode pairs of (B,) strings as ids, a mask and a mask of the second texts, (B, S); see `join_pair`.

        The last value is whether a pair lost tokens, (B,) bool.
        """
        parts = self.tokenize(first), self.tokenize(second)
        rows, starts = join_pairs(*parts, reader)
        ids, mask = self.pad(rows)
        pair_mask = mask & (tf.range(tf.shape(ids, tf.int64)[1]) >= starts[:, None])
        return ids, mask, pair_mask, is_over(parts[0].row_lengths() + parts[1].row_lengths(), reader.pair_limit)

    def pad(self, rows: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pad ids (B, ragged), and return ids (B, S) and a mask (B, S)."""
        ids = rows.to_tensor(self.special.pad)
        return ids, tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1])

    def shift_right(self, ids: tf.Tensor) -> tf.Tensor:
        """Put the start token before ids (B, T) and remove the last ones, like `TextReader.shift_right`."""
        return tf.concat([tf.ones_like(ids[:, :1]) * self.special.start, ids[:, :-1]], axis=1)

    def pieces(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return the piece of each id (...), "" where the mask (...) is False."""
        return tf.where(mask, self._vocabulary.gather(ids), "")

    def decode(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Decode the first `lengths` (...) of ids (..., T) to strings (...)."""
        return self._before_stop(_valid(self._bytes(ids, lengths)))

    def _before_stop(self, text: tf.Tensor) -> tf.Tensor:
        return text if self.stop is None else tf.strings.regex_replace(text, self.stop, "", replace_global=False)

    def _bytes(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Decode ids to bytes, which may be invalid UTF-8, because byte-level pieces can end inside a character."""
        if is_byte_pair(self.tokenizer):
            is_read = tf.sequence_mask(lengths, tf.shape(ids)[-1])
            return tf.strings.reduce_join(tf.where(is_read, self._bytes_of_ids.gather(ids), ""), axis=-1)
        flat = tf.reshape(ids, (-1, tf.shape(ids)[-1]))
        rows = tf.RaggedTensor.from_tensor(flat, tf.reshape(lengths, (-1,)))
        ids, hidden = rows.flat_values, tf.constant(self.special.special_ids)
        is_text = tf.reduce_all(ids[:, None] != hidden, axis=1) & (ids < self._vocabulary.size)
        text_ids = tf.ragged.boolean_mask(rows, rows.with_flat_values(is_text))
        return tf.reshape(self._pieces.detokenize(text_ids), tf.shape(lengths))

    def _visible_bytes(self) -> list[bytes]:
        """Return the bytes of each id, "" for special ones.

        A text of byte pairs is the concatenation of its pieces. To decode them one after the other, as KerasHub does,
        takes ten times as many operations. The pieces of other tokenizers depend on each other.
        """
        return [b"" if i in self.special.special_ids else b for i, b in enumerate(pieces_to_bytes(self.tokenizer))]

    def continuations(
        self, prompts: tf.Tensor, read: dict[str, tf.Tensor], ids: tf.Tensor, lengths: tf.Tensor
    ) -> tf.Tensor:
        """Return the prompts with their continuations, (B, N); see `Detokenizer.continuations`."""
        prompt_ids, mask = read["token_ids"], read["padding_mask"]
        first = tf.zeros_like(ids[:, :, :1]) + prompt_ids[:, :1, None]
        whole = self._bytes(tf.concat([first, ids], 2), lengths + 1)
        before = self._bytes(prompt_ids[:, None], tf.reduce_sum(tf.cast(mask, tf.int32), 1)[:, None])
        begin = tf.strings.length(before) + tf.zeros_like(lengths)
        begin = tf.minimum(begin, tf.strings.length(whole))  # the search may forbid tokens of the prompt
        new = _valid(tf.strings.substr(whole, begin, tf.strings.length(whole) - begin))
        prompts = tf.repeat(prompts[:, None], lengths.shape[1], axis=1)
        lost_space = _ends_in_space(prompts) & ~_ends_in_space(before)  # a tokenizer may drop it
        new = tf.where(lost_space, tf.strings.regex_replace(new, "^ ", ""), new)
        return tf.strings.join([prompts, self._before_stop(new)])

    @staticmethod
    def without_duplicates(texts: tf.Tensor, scores: tf.Tensor, lengths: tf.Tensor, pieces: tf.Tensor) -> tuple:
        """Replace hypotheses with the text of a better one; see `Detokenizer.without_duplicates`."""
        is_before = np.tri(scores.shape[1], k=-1, dtype=bool)
        is_duplicate = tf.reduce_any(tf.equal(texts[:, :, None], texts[:, None, :]) & is_before, -1) & (lengths > 0)
        order = tf.argsort(tf.cast(is_duplicate, tf.int32), axis=1, stable=True)
        texts, scores = tf.where(is_duplicate, "", texts), tf.where(is_duplicate, NO_HYPOTHESIS, scores)
        pieces = tf.where(is_duplicate[:, :, None], "", pieces)
        return tuple(tf.gather(array, order, batch_dims=1) for array in (texts, scores, pieces))

    def words_at(self, texts: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Return the word of a text at each position (B, T) of its tokens; see `Detokenizer.words_at`."""
        words = tf.strings.split(texts)
        counts = _tokens_of_words(words, self).row_lengths(axis=2)
        repeated = tf.RaggedTensor.from_row_lengths(
            tf.repeat(words.flat_values, counts.flat_values), tf.reduce_sum(counts, axis=1), validate=False
        )
        last = tf.cast(tf.maximum(repeated.row_lengths() - 1, 0), positions.dtype)
        padded = tf.pad(repeated.to_tensor(""), [(0, 0), (0, 1)], constant_values="")
        return tf.gather(padded, tf.minimum(positions, last[:, None]), batch_dims=1)

    def copy_words(self, ids: tf.Tensor, mask: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Return (B,) the texts of ids (B, T) with words for unknown tokens; see `Detokenizer.copy_words`."""
        unknown, pieces = (ids == self.special.unknown) & mask, self.pieces(ids, mask)
        is_text = tf.reduce_all(ids[..., None] != tf.constant(self.special.special_ids), axis=-1)
        pieces = tf.where(is_text, pieces, "")
        if is_word_piece(self.tokenizer):
            pieces = tf.strings.regex_replace(pieces, "^(.)", rf"{WORD_MARK}\1")
            pieces = tf.strings.regex_replace(pieces, f"^{WORD_MARK}##", "")
        equal = unknown[:, 1:] & unknown[:, :-1] & (words[:, 1:] == words[:, :-1])
        repeated = tf.concat([tf.zeros_like(unknown[:, :1]), equal], axis=1)
        copies = tf.where(repeated, "", tf.strings.join([tf.constant(WORD_MARK), words]))
        joined = tf.strings.reduce_join(tf.where(unknown, copies, pieces), axis=1)
        return tf.strings.strip(tf.strings.regex_replace(joined, f"{WORD_MARK}+", " "))

    @staticmethod
    def any(mask: tf.Tensor) -> tf.Tensor:
        """Return (B,) bool, whether any element of a row (B, T) is True."""
        return tf.reduce_any(mask, axis=1)

    @staticmethod
    def names(labels: Sequence[str], ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return the label of each id, "" where the mask is False."""
        return tf.where(mask, tf.gather(tf.constant(labels), ids), "")

    @staticmethod
    def where(mask: tf.Tensor, strings: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Return `strings` where the mask is True, else `others`."""
        return tf.where(mask, strings, others)


def is_empty(text: tf.Tensor) -> tf.Tensor:
    """Return (B,) bool, True for texts without words, like `TextReader.is_empty`."""
    return tf.equal(tf.strings.length(tf.strings.strip(text)), 0)


def is_over(lengths: tf.Tensor, limit: int | None) -> tf.Tensor:
    """Return whether each length (B,) is over a limit; None for no limit."""
    return tf.zeros_like(lengths, tf.bool) if limit is None else lengths > limit


def add_template(rows: tf.RaggedTensor, reader: TextReader) -> tf.RaggedTensor:
    """Truncate ids (B, ragged) and add special tokens, like `TextReader.add_template`."""
    if reader.limit is not None:
        left = reader.truncation_side == "left" and reader.limit
        rows = rows[:, -reader.limit :] if left else rows[:, : reader.limit]
    before, after = _repeat(reader.before, rows), _repeat(reader.after, rows)
    if reader.before_empty is not None:
        empty = tf.cast(tf.equal(rows.row_lengths(), 0), tf.int32)
        before = tf.gather(tf.ragged.constant([reader.before, reader.before_empty], tf.int32), empty)
    parts = [part for part in (before, rows, after) if part.shape[1] != 0]
    return tf.concat(parts, axis=1) if len(parts) > 1 else rows


def join_pairs(
    first: tf.RaggedTensor, second: tf.RaggedTensor, reader: TextReader
) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Join ids (B, ragged) of pairs, and return the index (B,) of each second text, like `TextReader.join_pair`."""
    lengths = first.row_lengths(), second.row_lengths()
    if (limit := reader.pair_limit) is not None:
        short, long = tf.minimum(*lengths), tf.maximum(*lengths)
        long = tf.where(short + long > limit, tf.maximum(short, limit - short), long)
        both = short + long > limit
        short, long = tf.where(both, _int64(limit // 2), short), tf.where(both, _int64(-(-limit // 2)), long)
        is_longer = lengths[0] > lengths[1]
        first = _first_of_rows(first, tf.where(is_longer, long, short))
        second = _first_of_rows(second, tf.where(is_longer, short, long))
    begin = tf.concat([_repeat(reader.before, first), first, _repeat(reader.between, first)], axis=1)
    return tf.concat([begin, second, _repeat(reader.after, second)], axis=1), begin.row_lengths()


def _first_of_rows(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Return the first `lengths` (B,) values of each row."""
    indices = tf.ragged.range(rows.row_starts(), rows.row_starts() + lengths)
    return indices.with_flat_values(tf.gather(rows.flat_values, indices.flat_values))


def _repeat(ids: Sequence[int], rows: tf.RaggedTensor) -> tf.Tensor:
    """Repeat ids for each row, (B, len(ids))."""
    return tf.tile(tf.constant([list(ids)], tf.int32, (1, len(ids))), (rows.nrows(tf.int32), 1))


def read_words(
    text: tf.Tensor,
    reader: WordReader,
    tokenizer: GraphTokenizer,
    character_tokenizer: GraphTokenizer | None,
    windows: bool = False,
) -> tuple[tf.RaggedTensor, dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """Split (B,) strings into words and encode them, like `WordReader.ids` or, with `windows`, `WordReader.windows`.

    Args:
        text: (B,) strings.
        reader: `WordReader` of the model.
        tokenizer: tokenizer of the text.
        character_tokenizer: tokenizer of the characters of words; None if the model does not read characters.
        windows: split a long sentence into windows, instead of removing its last words.

    Returns:
        the words (n, ragged) that each of the n windows tags; a dict of `token_ids` and `padding_mask` (n, S),
        `word_starts` (n, I), padded with -1, and, if the reader reads characters, `character_ids` and
        `character_mask` (n, S, characters); the number of windows of each text (B,); and whether a text lost tokens,
        (B,) bool, False with `windows`. Without `windows`, n = B.
    """
    words = tf.strings.split(text)
    per_word = _tokens_of_words(words, tokenizer)
    tokens, starts = join_parts(per_word), _starts(per_word)
    totals, overlap = tokens.row_lengths(), reader.overlap
    length = tf.reduce_max(totals) + 1 if reader.text_reader.limit is None else _int64(reader.window_length)
    stride = length - overlap
    counts = tf.maximum(totals - length + stride - 1, 0) // stride + 1 if windows else tf.ones_like(totals)
    sentences, number = tf.repeat(tf.range(tf.size(counts)), counts), tf.ragged.range(counts).flat_values
    begin, last = number * stride, tf.equal(number + 1, tf.gather(counts, sentences))
    words, starts, middle = tf.gather(words, sentences), tf.gather(starts, sentences), overlap // 2
    first, end = tf.where(tf.equal(number, 0), _int64(0), middle), tf.where(last, length, stride + middle)
    fits, tagged = _are_between(starts, begin, begin + length), _are_between(starts, begin + first, begin + end)
    ends = tf.minimum(begin + length, tf.gather(totals, sentences))
    offsets = tf.gather(tokens.row_starts(), sentences)
    rows = tf.gather(tokens.flat_values, tf.ragged.range(offsets + begin, offsets + ends))
    ids, mask = _at_least_one_column(*tokenizer.pad(add_template(rows, reader.text_reader)))
    shifts = tf.gather(len(reader.text_reader.before) - begin, starts.value_rowids())
    starts = starts.with_flat_values(starts.flat_values + shifts)
    word_starts = tf.cast(tf.ragged.boolean_mask(starts, tagged).to_tensor(-1), tf.int32)
    arrays = {"token_ids": ids, "padding_mask": mask, "word_starts": word_starts}
    if reader.character_reader is not None:
        inside = (tf.ragged.boolean_mask(values, fits) for values in (words, starts))
        arrays |= _read_characters(*inside, tf.shape(ids, tf.int64), reader.character_reader, character_tokenizer)
    return (
        tf.ragged.boolean_mask(words, tagged),
        arrays,
        counts,
        is_over(totals, None if windows else reader.text_reader.limit),
    )


def _are_between(starts: tf.RaggedTensor, begin: tf.Tensor, end: tf.Tensor) -> tf.RaggedTensor:
    """Return (n, ragged) bool, whether a value of row n is at least `begin[n]` and less than `end[n]`.

    Comparing the values takes fewer operations than comparing the ragged tensors.
    """
    rows, values = starts.value_rowids(), starts.flat_values
    return starts.with_flat_values((values >= tf.gather(begin, rows)) & (values < tf.gather(end, rows)))


def join_windows(values: tf.Tensor, words: tf.RaggedTensor, counts: tf.Tensor) -> tf.Tensor:
    """Join values (n, I) of the windows of each text, to (B, I).

    Args:
        values: (n, I), one value per word, padded.
        words: (n, ragged), the words of each window.
        counts: (B,), the number of windows of each text.
    """
    rows = tf.RaggedTensor.from_tensor(values, words.row_lengths())
    return join_parts(tf.RaggedTensor.from_row_lengths(rows, counts, validate=False)).to_tensor()


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def _at_least_one_column(ids: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Add a column of padding to a batch without tokens."""
    padding = tf.cast(tf.equal(tf.shape(ids)[1], 0), tf.int32)
    return tf.pad(ids, [(0, 0), (0, padding)]), tf.pad(mask, [(0, 0), (0, padding)])


def _tokens_of_words(words: tf.RaggedTensor, tokenizer: GraphTokenizer) -> tf.RaggedTensor:
    """Tokenize each word (B, ragged) alone, to ids (B, words, tokens); an empty result becomes the unknown token."""
    strings = words.flat_values
    if marks_spaces(tokenizer.tokenizer):  # like `add_spaces`
        indices = tf.range(tf.size(strings, words.row_splits.dtype))
        first = tf.equal(indices, tf.gather(words.row_splits, words.value_rowids()))
        strings = tf.where(first, strings, tf.strings.join([" ", strings]))
    return words.with_flat_values(_never_empty(tokenizer.tokenize(strings), tokenizer.special.unknown))


def _starts(per_word: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return the number of tokens before each word in its sentence, (B, words)."""
    sentence_starts = tf.cumsum(join_parts(per_word).row_lengths(), exclusive=True)
    starts = per_word.values.row_starts() - tf.gather(sentence_starts, per_word.value_rowids())
    return tf.RaggedTensor.from_row_splits(starts, per_word.row_splits, validate=False)


def _read_characters(
    words: tf.RaggedTensor, starts: tf.RaggedTensor, shape: tf.Tensor, reader: TextReader, tokenizer: GraphTokenizer
) -> dict[str, tf.Tensor]:
    """Return arrays (B, S, characters) with the characters of each word at its first token; `shape` is (B, S)."""
    rows = add_template(tokenizer.tokenize(words.flat_values), reader)
    ids, mask = _at_least_one_column(*tokenizer.pad(_never_empty(rows, tokenizer.special.unknown)))
    positions = tf.stack([starts.value_rowids(), starts.flat_values], axis=1)
    shape = tf.concat([shape, tf.shape(ids, tf.int64)[1:]], 0)
    return {
        "character_ids": tf.scatter_nd(positions, ids, shape),
        "character_mask": tf.cast(tf.scatter_nd(positions, tf.cast(mask, tf.int32), shape), tf.bool),
    }


def _never_empty(rows: tf.RaggedTensor, filler: int) -> tf.RaggedTensor:
    """Put the id `filler` into each empty row."""
    empty = tf.cast(tf.equal(rows.row_lengths(), 0), tf.int64)
    fillers = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(empty)], filler), empty, validate=False)
    return tf.concat([rows, fillers], axis=1)


def _ends_in_space(text: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_full_match(text, f"(?s).*[{WHITE_SPACE}]")


def _valid(text: tf.Tensor) -> tf.Tensor:
    """Replace bytes that are invalid UTF-8."""
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
