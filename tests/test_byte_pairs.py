"""Byte pairs of words in a TensorFlow graph: the ids that a person finds by merging, and those of another library."""

import itertools
import random

import keras_hub
import pytest
import tensorflow as tf
import tokenizers
from tokenizers import models

from keras_attention.serving.byte_pairs import BytePairs

VOCABULARY = {"a": 3, "b": 5, "c": 2, "ab": 11, "bc": 7, "aa": 13, "aab": 17, "Ã": 19, "©": 23, "Ã©": 29}
MERGES = ["#version: 0.2", "b c", "a a", "a b", "Ã ©"]  # the vocabulary lacks the byte "d"


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("b", [5]),
        ("abc", [3, 7]),  # "b c" is before "a b"
        ("aaab", [13, 11]),
        ("aaaaa", [13, 13, 3]),
        ("é", [29]),  # two bytes
        ("abcab", [3, 7, 11]),
        ("caa", [2, 13]),
        ("bca", [7, 3]),
        ("adb", [11]),  # as if the word had no "d"
        ("d", []),
        ("", []),
    ],
)
def test_the_best_pair_is_merged_first(word, ids):
    pairs = BytePairs(keras_hub.tokenizers.BytePairTokenizer(VOCABULARY, MERGES))
    assert pairs.tokenize(tf.constant([word])).to_list() == [ids]
    assert pairs.tokenize(tf.constant(["b", word, "c", word])).to_list() == [[5], ids, [2], ids]


def test_random_words_have_the_ids_of_another_library():
    rng, letters = random.Random(7), "abcde"
    pairs_of_letters = list(itertools.product(letters, repeat=2))
    merges = [*pairs_of_letters, *((left + right, letter) for left, right in pairs_of_letters for letter in letters)]
    rng.shuffle(merges)
    pieces = [*letters, *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    words = ["".join(rng.choices(letters, k=rng.randint(1, 23))) for _ in range(211)]
    other = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    pairs = BytePairs(keras_hub.tokenizers.BytePairTokenizer(vocabulary, [" ".join(pair) for pair in merges]))
    assert pairs.tokenize(tf.constant(words)).to_list() == [other.encode(word).ids for word in words]
