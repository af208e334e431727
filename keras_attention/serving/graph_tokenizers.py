"""Tokenize texts in a TensorFlow graph, with the same ids as `data/tokenization/tokenizers.py`.

RE2, the regular expressions of TensorFlow, has no lookahead, and its class `\\s` has only ASCII characters; therefore
the rules for splitting words are different from those of transformers, with the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.data.tokenization.special_tokens import SPACES, added_pattern, special_tokens_of
from keras_attention.data.tokenization.tokenizer_rules import MAX_WORD_LENGTH, is_byte_pair, is_word_piece
from keras_attention.serving.byte_pairs import BytePairs

_MARK = b"\xff"  # separates parts of a text; UTF-8 has no such byte
_NO_WORD = "\uffff"  # is not a character, so no vocabulary has it
_CJK = (
    r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}\x{2b920}-\x{2ceaf}"
    r"\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}]"
)
_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
_BYTE_PAIR_WORD = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^{SPACES}\p{{L}}\p{{N}}]+|[{SPACES}]+"


class GraphPieces:
    """A tokenizer as operations of a graph.

    A text is first split at the pieces that are never split; see `AddedToken`.

    Args:
        tokenizer: a KerasHub tokenizer.

    Attributes:
        tracked: the object that a SavedModel must contain. Except for byte pairs, it has a method `detokenize`, from
            ids (B, ragged) to strings (B,).
        tokenize: a function (B,) strings -> ids (B, ragged).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._special = special_tokens_of(tokenizer)
        self._pattern = added_pattern(self._special)
        self._fold = tf.strings.lower if self._special.lowercase else tf.identity
        self._ids = [tokenizer.token_to_id(token.content) for token in self._special.added_tokens]
        self.tracked = tokenizer
        if is_byte_pair(tokenizer):
            self.tracked, self._encode = _byte_pairs(tokenizer)
        elif is_word_piece(tokenizer):
            self._encode = _word_pieces(tokenizer)
        else:
            self.tracked = _sentence_pieces(tokenizer)
            self._encode = self.tracked.tokenize
        # A graph of its own, which all signatures of an export call.
        self.tokenize = tf.function(self._tokenize, [tf.TensorSpec((None,), tf.string)], autograph=False)

    def _tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Encode (B,) strings as ids (B, ragged)."""
        if not self._special.added_tokens:
            return self._known_ids(text)
        parts = _split(text, self._pattern)
        strings = parts.flat_values
        ids = self._added_ids(strings)
        is_added = ids >= 0
        rows = self._known_ids(tf.where(is_added, "", strings))
        lengths = tf.cast(is_added, tf.int64)
        added = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(ids, is_added), lengths, validate=False)
        return join_parts(parts.with_flat_values(tf.concat([rows, added], axis=1)))

    def _known_ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids of texts without pieces that are never split; see `SpecialTokens.vocabulary_size`."""
        ids, special = tf.cast(self._encode(text), tf.int32), self._special
        return tf.where(ids < special.vocabulary_size, ids, special.unknown) if special.vocabulary_size else ids

    def _added_ids(self, strings: tf.Tensor) -> tf.Tensor:
        """Return (n,), the id of each string that is one of the pieces that are never split, else -1."""
        stripped = tf.strings.regex_replace(strings, f"^[{SPACES}]+|[{SPACES}]+$", "")
        contents = tf.constant([token.content for token in self._special.added_tokens])
        equal = tf.equal(self._fold(stripped)[:, None], self._fold(contents))
        return tf.reduce_max(tf.where(equal, tf.constant(self._ids, tf.int32), -1), axis=1)


def _split(text: tf.Tensor, pattern: str) -> tf.RaggedTensor:
    """Split (B,) strings into the matches of a regular expression and the parts between them, some of which are "".

    `tensorflow_text.regex_split` adds 200 operations and 18 functions that check its result.
    """
    return tf.strings.split(tf.strings.regex_replace(text, pattern, _MARK + rb"\0" + _MARK), _MARK)


def join_parts(rows: tf.RaggedTensor) -> tf.RaggedTensor:
    """Join the parts of each row: (B, ragged, ragged, ...) -> (B, ragged, ...).

    `tf.RaggedTensor.merge_dims` does the same, and adds 66 operations and 6 functions that check its result.
    """
    splits = tf.gather(rows.values.row_splits, rows.row_splits)
    return tf.RaggedTensor.from_row_splits(rows.values.values, splits, validate=False)


def _sentence_pieces(tokenizer: Any) -> Any:
    """Return a tokenizer of TF-Text; other kinds of tokenizers are returned as they are.

    TF-Text names a SentencePiece resource after its node, and nodes of different functions can have equal names. Two
    tokenizers, of one or two SavedModels, would then share one vocabulary. To avoid this, the name has a digest of the
    vocabulary.
    """
    proto = getattr(tokenizer, "proto", None)
    if proto is None:
        return tokenizer
    import tensorflow_text

    name = f"sentencepiece_{hashlib.sha256(proto).hexdigest()[:16]}"
    return tensorflow_text.SentencepieceTokenizer(proto, out_type=tf.int32, name=name)


def _word_pieces(tokenizer: Any) -> Callable[[tf.Tensor], tf.RaggedTensor]:
    """Return a function (B,) strings -> ids (B, ragged) that splits texts as BERT does."""
    import tensorflow_text

    pieces = tensorflow_text.FastWordpieceTokenizer(
        vocab=list(tokenizer.get_vocabulary()),
        suffix_indicator=tokenizer.suffix_indicator,
        max_bytes_per_word=4 * MAX_WORD_LENGTH,
        token_out_type=tf.int32,
        unknown_token=tokenizer.oov_token,
        no_pretokenization=True,
    )

    def tokenize(text: tf.Tensor) -> tf.RaggedTensor:
        words = tf.strings.split(tf.strings.regex_replace(_normalize(tokenizer, text), _PUNCTUATION, r" \0 "))
        strings = words.flat_values
        is_long = tf.strings.length(strings, unit="UTF8_CHAR") > MAX_WORD_LENGTH
        words = words.with_flat_values(tf.where(is_long, _NO_WORD, strings))  # the unknown token
        return join_parts(words.with_flat_values(pieces.tokenize(words.flat_values)))

    return tokenize


def _normalize(tokenizer: Any, text: tf.Tensor) -> tf.Tensor:
    """Normalize texts as BERT does: one kind of space, no control characters; optionally no accents, lower case."""
    import tensorflow_text

    text = tf.strings.regex_replace(text, r"[\p{Cf}\p{Co}\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\x{fffd}]", "")
    text = tf.strings.regex_replace(text, r"[\t\n\r\p{Zs}\x{2028}\x{2029}]", " ")
    if tokenizer.split_on_cjk:
        text = tf.strings.regex_replace(text, _CJK, r" \0 ")
    if tokenizer.strip_accents:
        text = tf.strings.regex_replace(tensorflow_text.normalize_utf8(text, "NFD"), r"\p{Mn}", "")
    if tokenizer.lowercase:  # a final sigma has no special form
        text = tf.strings.lower(tf.strings.regex_replace(text, "Σ", "σ"), encoding="utf-8")
    return text


def _byte_pairs(tokenizer: Any) -> tuple[BytePairs, Callable[[tf.Tensor], tf.RaggedTensor]]:
    """Return the tables of byte pairs, and a function (B,) strings -> ids (B, ragged) that splits texts as GPT-2 does.

    KerasHub's own rule for words loses some characters, and splits at other spaces.
    """
    pairs, add_prefix_space = BytePairs(tokenizer), tokenizer.add_prefix_space

    def tokenize(text: tf.Tensor) -> tf.RaggedTensor:
        if add_prefix_space:
            text = tf.strings.regex_replace(text, r"^([^ ])", r" \1")
        # The last space before a word is a part of it, or a token of its own.
        text = tf.strings.regex_replace(text, f"([{SPACES}])([{SPACES}][^{SPACES}])", rb"\1" + _MARK + rb"\2")
        words = _split(text, _BYTE_PAIR_WORD)
        return join_parts(words.with_flat_values(pairs.tokenize(words.flat_values)))

    return pairs, tokenize
