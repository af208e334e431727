"""Features of words from their characters: hashed prefixes and suffixes, and shapes, such as capital letters.

AffixEncoder:  character ids (B, I, characters) --> one vector for each word (B, I, F)
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require_positive_integers
from keras_attention.layers.base import BaseLayer, WordEncoder
from keras_attention.layers.masks import zero_padding
from keras_attention.layers.ngrams import check_buckets, extend_hash, ids_and_mask


@keras.saving.register_keras_serializable("keras_attention")
class AffixEncoder(WordEncoder, BaseLayer):
    """Encode each word from its prefixes, suffixes and shape, which is useful to tag words outside the vocabulary.

        output = [e(first 1) ... e(first n); e(last 1) ... e(last n); shape]

    where e(first i) is the embedding of the first i characters of the word, and e(last i) that of its last i
    characters. The shape is 9 numbers, 0 or 1: whether the first character, any character and every character is upper
    case; the same for lower case, and for digits.

    Args:
        vocabulary_size: the number of characters.
        affix_dim: the width of the embedding of an affix.
        max_affix_length: n, the number of characters of the longest prefix and suffix.
        hash_buckets: the number of embeddings, 1 to 65,536; affixes with equal hashes share one.
        characters: the character of each id, for the shapes; an id has no shape if it has a longer string or none. With
            None, the shapes are zero until the weights of a trained layer are loaded.

    Call arguments:
        inputs: (B, I, characters) int, the characters of each word.
        mask: (B, I, characters) padding mask, True = a real character; padding is on the right. When None, the implicit
            mask of `inputs`; without it, all characters are real.

    Output:
        (B, I, F), zero for a word without characters; F = 2 n `affix_dim` + 9.

    Raises:
        ValueError: an argument is not a positive integer, or `hash_buckets` is outside its range.

    Example:
        >>> ids = keras.ops.array([[[1, 2, 2], [2, 3, 0]]])  # Abb b7
        >>> encoder = AffixEncoder(4, affix_dim=1, max_affix_length=2, hash_buckets=97, characters=["", "A", "b", "7"])
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
        hash_buckets: int = 2**13,
        characters: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_positive_integers(
            vocabulary_size=vocabulary_size, affix_dim=affix_dim, max_affix_length=max_affix_length
        )
        check_buckets(hash_buckets)
        self.vocabulary_size, self.affix_dim = vocabulary_size, affix_dim
        self.max_affix_length, self.hash_buckets = max_affix_length, hash_buckets
        self.units = 2 * max_affix_length * affix_dim + 9
        self.characters = None if characters is None else list(characters)
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.affixes = keras.layers.Embedding(
            hash_buckets, affix_dim, initializer, dtype=self.dtype_policy, name="affixes"
        )

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.affixes.build(inputs_shape)
        classes = _character_classes(self.characters or (), self.vocabulary_size)
        self.character_classes = self.add_constant("character_classes", classes)

    def call(self, inputs, mask=None):
        """Compute the vectors of the words; see the class docstring."""
        inputs, mask = ids_and_mask(inputs, mask)
        affixes = self.affixes(
            _hash_affixes(inputs, mask, self.max_affix_length, self.hash_buckets)
        )  # (B, I, 2 n, affix_dim)
        affixes = ops.reshape(affixes, (-1, ops.shape(inputs)[1], 2 * self.max_affix_length * self.affix_dim))
        shapes = ops.cast(_word_shapes(self.character_classes, inputs, mask), affixes.dtype)
        return zero_padding(ops.concatenate([affixes, shapes], axis=-1), ops.any(mask, axis=-1))


def _character_classes(characters: Sequence[str], vocabulary_size: int) -> np.ndarray:
    """Return (characters, 3) float32: whether each character is upper case, lower case, and a digit."""
    classes = np.zeros((vocabulary_size, 3), "float32")
    for i, char in enumerate(characters):
        classes[i] = len(char) == 1 and [char.isupper(), char.islower(), char.isdigit()]
    return classes


def _hash_affixes(inputs, mask, max_affix_length: int, hash_buckets: int):
    """Return (B, I, 2 n), the hashes of the first 1 ... n, then of the last 1 ... n characters of each word."""
    characters = ops.where(mask, inputs + 1, 0)  # (B, I, characters), 0 = no character
    characters = ops.pad(characters, [[0, 0], [0, 0], [0, max_affix_length]])
    lengths = ops.sum(ops.cast(mask, "int32"), axis=-1, keepdims=True)  # (B, I, 1)
    hashes = []
    for is_suffix in (0, 1):
        hashed = ops.full_like(lengths, is_suffix)  # (B, I, 1)
        for i in range(max_affix_length):
            at = lengths - 1 - i if is_suffix else ops.full_like(lengths, i)  # (B, I, 1), the index of the character
            character = ops.take_along_axis(characters, ops.maximum(at, 0), axis=-1)  # (B, I, 1)
            hashed = extend_hash(hashed, ops.where(at >= 0, character, 0), hash_buckets)
            hashes.append(hashed)
    return ops.concatenate(hashes, axis=-1)


def _word_shapes(character_classes, inputs, mask):
    """Return (B, I, 9): whether the first, any and every character of a word has each of the three classes."""
    classes, mask = ops.take(character_classes, inputs, axis=0), mask[..., None]  # (B, I, characters, 3 and 1)
    some = ops.max(ops.where(mask, classes, -np.inf), axis=2)  # (B, I, 3)
    every = ops.min(ops.where(mask, classes, np.inf), axis=2)  # (B, I, 3)
    return ops.concatenate([classes[:, :, 0], some, every], axis=-1)
