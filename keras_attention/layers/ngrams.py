"""Hashed n-grams of a text: weights of its tokens, of its pairs of tokens and of its short strings.

They need fewer examples than a recurrent layer, because each n-gram has its own weights, unless two have equal hashes.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require, require_positive_integers
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import implicit_mask

_FACTOR, _MAX_BUCKETS = 20261, 2**16  # their product fits into int32
_PIECE_LENGTH, _STRING_LENGTH = 16, 5  # the number of characters, at most


def check_buckets(hash_buckets: int) -> None:
    """Raise ValueError unless `hash_buckets` is an integer from 1 to 65,536."""
    is_allowed = isinstance(hash_buckets, numbers.Integral) and 1 <= hash_buckets <= _MAX_BUCKETS
    require(is_allowed, "hash_buckets", hash_buckets, f"an integer from 1 to {_MAX_BUCKETS}")


def ids_and_mask(inputs, mask):
    """Return the ids as int32, and their mask: `mask`, the implicit mask, or True everywhere."""
    mask = implicit_mask(inputs) if mask is None else mask
    return ops.cast(inputs, "int32"), ops.ones_like(inputs, dtype="bool") if mask is None else mask


def extend_hash(hashed, ids, hash_buckets: int):
    """Return the hash of n-grams that are one id longer: (20261 h + i) mod hash_buckets.

    Args:
        hashed: int, h, the hashes of n-grams, below `hash_buckets`.
        ids: int of the same shape, i, the ids that follow them.
        hash_buckets: the number of different hashes.

    Example:
        >>> int(extend_hash(keras.ops.array(3), keras.ops.array(5), 1000))  # 60788 mod 1000
        788
    """
    return ops.mod(hashed * _FACTOR + ids, hash_buckets)


@keras.saving.register_keras_serializable("keras_attention")
class BagOfNGrams(BaseLayer):
    """Sum a weight vector for each token, each pair of neighbouring tokens, and each short string of a text.

    y = scale (s_1 / sqrt(tokens) + s_2 / (4 sqrt(characters))), where s_1 is the sum of the vectors of all tokens and
    of their pairs, and s_2 the sum of those of all strings of 2 to 5 neighbouring characters. Hashes find the vectors
    of pairs and strings. All weights are initially zero, so that an n-gram that never occurred in training has no
    influence. With Adam, `scale` is the ratio of the learning rate of these weights to that of other layers.

    Args:
        vocabulary_size: the number of tokens.
        units: F, the width of the output, such as the number of classes.
        hash_buckets: the number of weight vectors for pairs, and for strings, 1 to 65,536; n-grams with equal hashes
            share one.
        learning_rate_scale: `scale`.
        pieces: the string of each token, of which the first 16 characters are used; "" for a token without characters.
            With None, all tokens are without characters, until the weights of a trained layer are loaded.

    Call arguments:
        inputs: (B, S) int, the tokens of each text.
        mask: (B, S) padding mask, True = a real token; padding is on the right. When None, the implicit mask of
            `inputs`; without it, all tokens are real.

    Output:
        (B, F), zero for a text without tokens.

    Raises:
        ValueError: `vocabulary_size` or `units` is not a positive integer, or `hash_buckets` is outside its range.

    Example:
        >>> ids = keras.ops.array([[3, 1, 4, 0]])
        >>> layer = BagOfNGrams(vocabulary_size=11, units=2, hash_buckets=97)
        >>> tuple(layer(ids, mask=ids != 0).shape)
        (1, 2)

    Reference: Wang and Manning, 2012, https://aclanthology.org/P12-2018 (pairs of words); Joulin et al., 2017,
    https://arxiv.org/abs/1607.01759 (hashing); Bojanowski et al., 2017, https://arxiv.org/abs/1607.04606 (strings).
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        hash_buckets: int = 2**15,
        learning_rate_scale: float = 10.0,
        pieces: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_positive_integers(vocabulary_size=vocabulary_size, units=units)
        check_buckets(hash_buckets)
        self.vocabulary_size, self.units = vocabulary_size, units
        self.hash_buckets, self.learning_rate_scale = hash_buckets, learning_rate_scale
        self.pieces = None if pieces is None else list(pieces)
        self.ngrams = keras.layers.Embedding(
            vocabulary_size + 2 * hash_buckets, units, "zeros", dtype=self.dtype_policy, name="ngrams"
        )

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.ngrams.build(inputs_shape)
        characters = np.zeros((self.vocabulary_size, _PIECE_LENGTH), "int32")
        for row, piece in zip(characters, self.pieces or (), strict=False):
            row[: len(piece)] = [ord(char) for char in piece[:_PIECE_LENGTH]]
        self.characters = self.add_constant("characters", characters)

    def call(self, inputs, mask=None):
        """Compute the sums; see the class docstring."""
        inputs, mask = ids_and_mask(inputs, mask)
        pairs = extend_hash(ops.mod(inputs[:, :-1], self.hash_buckets), inputs[:, 1:], self.hash_buckets)  # (B, S - 1)
        ids = ops.concatenate([inputs, pairs + self.vocabulary_size], axis=1)  # (B, 2 S - 1)
        are_real = ops.concatenate([mask, mask[:, 1:]], axis=1)  # padding is on the right
        characters = self._characters_of(inputs, mask)  # (B, 16 S)
        token_sums = self._sum(ids, are_real) / _root_of_count(mask)  # (B, F)
        string_sums = self._sum(*self._strings(characters)) / (4 * _root_of_count(characters > 0))  # (B, F)
        return ops.cast(self.learning_rate_scale * (token_sums + string_sums), self.compute_dtype)

    def _sum(self, ids, are_real):
        """Return the sum (B, F) of the vectors of n-grams (B, n), in float32: half precision loses long sums."""
        vectors = ops.cast(self.ngrams(ops.where(are_real, ids, 0)), "float32")  # (B, n, F)
        return ops.sum(vectors * ops.cast(are_real, "float32")[..., None], axis=1)

    def _characters_of(self, inputs, mask):
        """Return (B, 16 S), the characters of all tokens one after another, as code points; then 0."""
        characters = ops.take(self.characters, inputs, axis=0) * ops.cast(mask, "int32")[..., None]  # (B, S, 16)
        characters = ops.reshape(characters, (ops.shape(inputs)[0], -1))
        length = ops.shape(characters)[1]
        order = ops.where(characters > 0, 0, length) + ops.arange(length)  # the real characters first
        return ops.take_along_axis(characters, ops.argsort(order, axis=1), axis=1)

    def _strings(self, characters):
        """Return the ids of all strings of 2 to 5 characters (B, n), and whether they are real."""
        length = ops.shape(characters)[1]
        padded = ops.pad(characters, [[0, 0], [0, _STRING_LENGTH - 1]])
        hashed, ids, are_real = ops.mod(characters, self.hash_buckets), [], []
        for i in range(1, _STRING_LENGTH):
            following = padded[:, i : i + length]  # the character i places after each one
            hashed = extend_hash(hashed, following, self.hash_buckets)  # of the strings of i + 1 characters
            ids.append(hashed + (self.vocabulary_size + self.hash_buckets))
            are_real.append(following > 0)
        return ops.concatenate(ids, axis=1), ops.concatenate(are_real, axis=1)

    def compute_mask(self, inputs, mask=None):
        """Return None: the output has no positions."""

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return (inputs_shape[0], self.units)


def _root_of_count(are_real):
    """Return (B, 1), the root of the number of real elements (B, n), at least 1."""
    count = ops.sum(ops.cast(are_real, "float32"), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(count, 1.0))
