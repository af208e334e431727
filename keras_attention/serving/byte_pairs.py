"""Merge the bytes of words in a TensorFlow graph, with the ids of GPT-2's tokenizer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_attention.data.tokenization.tokenizer_rules import byte_characters

_SHIFT = 2**32  # two numbers of at most 32 bits are one of 64
_NO_MERGE = tf.int64.max


class BytePairs(tf.Module):
    """Splits words into tokens, as GPT-2's tokenizer does: the pair with the best rank is merged, until none is left.

    The tables have numbers only. A server copies the constants of a graph many times when it loads it, and strings take
    much more memory than numbers.

    Args:
        tokenizer: a `keras_hub.tokenizers.BytePairTokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        ids = dict(tokenizer.vocabulary)
        self._count = max(ids.values()) + 1

        def id_of(piece: str) -> int:  # a vocabulary may lack bytes
            return ids.setdefault(piece, self._count + len(ids))

        characters = byte_characters()
        self._byte_ids = [id_of(characters[byte]) for byte in range(256)]
        merges = [merge.split(" ") for merge in tokenizer.merges if not merge.startswith("#version")]
        ranks: dict[int, int] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault(id_of(left) * _SHIFT + id_of(right), rank * _SHIFT + id_of(left + right))
        keys, values = (tf.constant(list(numbers), tf.int64) for numbers in (ranks.keys(), ranks.values()))
        # The ids of a pair -> its rank and the id of the merged token.
        self._ranks = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), _NO_MERGE)

    def tokenize(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Encode (n,) words as ids (n, ragged), without the bytes that the vocabulary lacks."""
        different, indices = tf.unique(words)
        data = tf.io.decode_raw(tf.strings.reduce_join(different), tf.uint8)
        ids = tf.gather(tf.constant(self._byte_ids, tf.int64), tf.cast(data, tf.int32))
        rows = tf.repeat(tf.range(tf.size(different, tf.int64)), tf.strings.length(different))
        ids, rows = self._known(ids, rows)
        shapes = [tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([])]
        ids, rows, _ = tf.while_loop(lambda *state: state[-1], self._merge, [ids, rows, tf.size(ids) > 1], shapes)
        ids, rows = self._known(ids, rows)
        count = tf.size(different, tf.int64)
        tokens = tf.RaggedTensor.from_value_rowids(tf.cast(ids, tf.int32), rows, count, validate=False)
        return tf.gather(tokens, indices)

    def _known(self, ids: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the ids that are in the vocabulary, and their rows."""
        known = ids < self._count
        return tf.boolean_mask(ids, known), tf.boolean_mask(rows, known)

    def _merge(self, ids: tf.Tensor, rows: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Merge a pair of each word: the first one of those with the best rank.

        Args:
            ids: the tokens of all words, (N,) int64, N > 1.
            rows: the word of each token, (N,) int64.

        Returns:
            the remaining tokens, their words, and whether a pair was merged.
        """
        words = rows[:-1]
        ranks = tf.where(words == rows[1:], self._ranks.lookup(ids[:-1] * _SHIFT + ids[1:]), _NO_MERGE)
        is_best = (ranks < _NO_MERGE) & (ranks == tf.gather(tf.math.segment_min(ranks, words), words))
        positions = tf.where(is_best, tf.range(tf.size(words)), tf.size(rows))
        is_merged = is_best & (positions == tf.gather(tf.math.segment_min(positions, words), words))
        merged = tf.where(is_merged, ranks % _SHIFT, ids[:-1])
        remains = tf.concat([[True], ~is_merged], axis=0)
        ids = tf.boolean_mask(tf.concat([merged, ids[-1:]], axis=0), remains)
        return ids, tf.boolean_mask(rows, remains), tf.reduce_any(is_merged) & (tf.size(ids) > 1)
