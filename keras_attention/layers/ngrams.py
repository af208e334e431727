"""Hashed n-grams: embeddings of the token pairs of a text, and of the prefixes and suffixes of words.

BagOfNGrams:   token ids (B, S) --> one vector for each text (B, M)
AffixEncoder:  character ids (B, S, c) --> one vector for each word (B, S, M)

They need fewer examples than a recurrent layer, because each n-gram has its own weights, unless two have equal hashes.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import implicit_mask

_FACTOR, _MAX_BUCKETS = 20261, 2**16  # their product fits into int32


def check_buckets(buckets: int) -> None:
    """Raise ValueError if `buckets` is not from 1 to 65,536."""
    if not 1 <= buckets <= _MAX_BUCKETS:
        raise ValueError(f"`buckets` is {buckets}; expected 1 to {_MAX_BUCKETS}.")


def _ids_and_mask(inputs, mask):
    """Return the ids as int32, and their mask: `mask`, the implicit mask, or True everywhere."""
    mask = implicit_mask(inputs) if mask is None else mask
    return ops.cast(inputs, "int32"), ops.ones_like(inputs, dtype="bool") if mask is None else mask


def extend_hash(hashed, ids, buckets: int):
    """Return the hash of n-grams that are one id longer: (20261 h + i) mod buckets.

    Args:
        hashed: int, h, the hashes of n-grams, below `buckets`.
        ids: int of the same shape, i, the ids that follow them.
        buckets: the number of different hashes.

    Example:
        >>> int(extend_hash(keras.ops.array(3), keras.ops.array(5), 1000))  # 60788 mod 1000
        788
    """
    return ops.mod(hashed * _FACTOR + ids, buckets)


@keras.saving.register_keras_serializable("keras_attention")
class BagOfNGrams(BaseLayer):
    """Sum a weight vector for each token and for each pair of neighbouring tokens of a text.

    y = r / sqrt(L) (sum_i U[x_i] + sum_i V[h(x_i, x_{i+1})]), where L is the number of tokens and h a hash. All weights
    are zero at first, so that an n-gram that was never seen has no influence. With Adam, r is the ratio of the
    learning rate of these weights to that of other layers.

    Args:
        vocabulary_size: the number of tokens.
        units: M, the width of the output, such as the number of classes.
        buckets: the number of weight vectors for pairs, 1 to 65,536; pairs with equal hashes share one.
        learning_rate_scale: r.

    Call arguments:
        inputs: (B, S) int, the tokens of each text.
        mask: (B, S) boolean, True = a real token; padding is on the right. When None, the implicit mask of `inputs`;
            without it, all tokens are real.

    Output:
        (B, M), zero for a text without tokens.

    Raises:
        ValueError: `buckets` is outside its range.

    Example:
        >>> ids = keras.ops.array([[3, 1, 4, 0]])
        >>> layer = BagOfNGrams(vocabulary_size=11, units=2, buckets=97)
        >>> tuple(layer(ids, mask=ids != 0).shape)
        (1, 2)

    Reference: Wang and Manning, 2012, https://aclanthology.org/P12-2018 (pairs of words); Joulin et al., 2017,
    https://arxiv.org/abs/1607.01759 (hashing).
    """

    def __init__(
        self, vocabulary_size: int, units: int, buckets: int = 2**15, learning_rate_scale: float = 10.0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        check_buckets(buckets)
        self.vocabulary_size, self.units = vocabulary_size, units
        self.buckets, self.learning_rate_scale = buckets, learning_rate_scale
        self.ngrams = keras.layers.Embedding(
            vocabulary_size + buckets, units, "zeros", dtype=self.dtype_policy, name="ngrams"
        )

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.ngrams.build(inputs_shape)

    def call(self, inputs, mask=None):
        """Compute the sums; the class describes the arguments."""
        inputs, mask = _ids_and_mask(inputs, mask)
        pairs = extend_hash(ops.mod(inputs[:, :-1], self.buckets), inputs[:, 1:], self.buckets)
        ids = ops.concatenate([inputs, pairs + self.vocabulary_size], axis=1)
        are_real = ops.concatenate([mask, mask[:, 1:]], axis=1)  # padding is on the right
        weights = self.ngrams(ops.where(are_real, ids, 0))
        total = ops.sum(weights * ops.cast(are_real, weights.dtype)[..., None], axis=1)
        length = ops.sum(ops.cast(mask, weights.dtype), axis=1, keepdims=True)
        return total * (self.learning_rate_scale / ops.sqrt(ops.maximum(length, 1.0)))

    def compute_mask(self, inputs, mask=None):
        """Return None: the output has no positions."""

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return (inputs_shape[0], self.units)


@keras.saving.register_keras_serializable("keras_attention")
class AffixEncoder(BaseLayer):
    """Encode each word from its prefixes, its suffixes and its shape, which tell the class of an unknown word.

    The vector of a word is the concatenation of the embeddings of its first 1 ... N characters, of those of its last
    1 ... N characters, and of its shape: whether the first character, any and every character is upper case, lower
    case, and a digit (9 numbers, 0 or 1).

    Args:
        vocabulary_size: the number of characters.
        affix_dim: the width of the embedding of an affix.
        max_affix_length: N, the number of characters of the longest prefix and suffix.
        buckets: the number of embeddings, 1 to 65,536; affixes with equal hashes share one.
        characters: the character of each id, which gives the shapes; longer strings and missing ones have none. With
            None, the shapes are zero until the weights of a trained layer are loaded.

    Call arguments:
        inputs: (B, S, c) int, the characters of each word.
        mask: (B, S, c) boolean, True = a real character; padding is on the right. When None, the implicit mask of
            `inputs`; without it, all characters are real.

    Output:
        (B, S, M), zero for a word without characters; M = 2 N `affix_dim` + 9.

    Raises:
        ValueError: `buckets` is outside its range.

    Example:
        >>> ids = keras.ops.array([[[1, 2, 2], [2, 3, 0]]])  # Abb b7
        >>> encoder = AffixEncoder(4, affix_dim=1, max_affix_length=2, buckets=97, characters=["", "A", "b", "7"])
        >>> np.asarray(encoder(ids, mask=ids != 0))[0, :, 4:].astype(int).tolist()
        [[1, 0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0, 0, 0]]

    Reference: Ratnaparkhi, 1996, https://aclanthology.org/W96-0213; Collobert et al., 2011,
    https://arxiv.org/abs/1103.0398, section 3.2.3.
    """

    def __init__(
        self,
        vocabulary_size: int,
        affix_dim: int = 8,
        max_affix_length: int = 4,
        buckets: int = 2**13,
        characters: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_buckets(buckets)
        self.vocabulary_size, self.affix_dim = vocabulary_size, affix_dim
        self.max_affix_length, self.buckets = max_affix_length, buckets
        self.characters = None if characters is None else list(characters)
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.affixes = keras.layers.Embedding(buckets, affix_dim, initializer, dtype=self.dtype_policy, name="affixes")

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.affixes.build(inputs_shape)
        classes = np.zeros((self.vocabulary_size, 3), "float32")
        for i, char in enumerate(self.characters or ()):
            classes[i] = len(char) == 1 and [char.isupper(), char.islower(), char.isdigit()]
        self.character_classes = self.add_weight(
            shape=classes.shape,
            initializer=lambda *_, **__: ops.array(classes),
            trainable=False,
            name="character_classes",
        )

    def call(self, inputs, mask=None):
        """Compute the vectors of the words; the class describes the arguments."""
        inputs, mask = _ids_and_mask(inputs, mask)
        affixes = self.affixes(self._hash_affixes(inputs, mask))
        affixes = ops.reshape(affixes, (-1, ops.shape(inputs)[1], 2 * self.max_affix_length * self.affix_dim))
        outputs = ops.concatenate([affixes, self._shapes(inputs, mask)], axis=-1)
        return ops.where(ops.any(mask, axis=-1, keepdims=True), outputs, ops.zeros_like(outputs))

    def _hash_affixes(self, inputs, mask):
        """Return (B, S, 2 N), the hashes of the prefixes and of the suffixes."""
        padding = [[0, 0], [0, 0], [0, self.max_affix_length]]
        characters = ops.pad(ops.where(mask, inputs + 1, 0), padding)  # 0 = no character
        lengths = ops.sum(ops.cast(mask, "int32"), axis=-1, keepdims=True)
        hashes = []
        for is_suffix in (0, 1):
            hashed = ops.full_like(lengths, is_suffix)
            for i in range(self.max_affix_length):
                at = lengths - 1 - i if is_suffix else ops.full_like(lengths, i)
                found = ops.take_along_axis(characters, ops.maximum(at, 0), axis=-1)
                hashed = extend_hash(hashed, ops.where(at >= 0, found, 0), self.buckets)
                hashes.append(hashed)
        return ops.concatenate(hashes, axis=-1)

    def _shapes(self, inputs, mask):
        """Return (B, S, 9): whether the first, any and every character has each of the three classes."""
        classes = ops.cast(ops.take(self.character_classes, inputs, axis=0), self.compute_dtype)
        real = ops.cast(mask, classes.dtype)[..., None]
        every = ops.min(ops.maximum(classes, 1 - real), axis=2)
        return ops.concatenate([classes[:, :, 0], ops.max(classes * real, axis=2), every], axis=-1)

    def compute_mask(self, inputs, mask=None):
        """Return the mask of the words, (B, S): True for a word with characters. None without a character mask."""
        return None if mask is None else ops.any(mask, axis=-1)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the vectors of the words."""
        return (*inputs_shape[:2], 2 * self.max_affix_length * self.affix_dim + 9)
