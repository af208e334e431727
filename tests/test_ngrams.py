"""Layers of n-grams, compared with loops over the n-grams of each text and word."""

import itertools

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.layers import AffixEncoder, BagOfNGrams

BUCKETS = 97


def hash_of(ids, start=0):
    for i in ids:
        start = (start * 20261 + i) % BUCKETS
    return start


@pytest.mark.parametrize("lengths", [(5, 3), (1, 0)])
def test_a_bag_sums_the_weights_of_tokens_and_of_pairs(lengths):
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 300, (2, 5))
    layer = BagOfNGrams(300, 7, BUCKETS, learning_rate_scale=3.0)
    layer.build(ids.shape)
    weights = rng.normal(size=(300 + BUCKETS, 7)).astype("float32")
    layer.ngrams.set_weights([np.concatenate([weights, np.zeros((BUCKETS, 7))])])
    outputs = keras.ops.convert_to_numpy(layer(ids, mask=np.arange(5) < np.array(lengths)[:, None]))
    for row, length, output in zip(ids, lengths, outputs, strict=True):
        tokens = row[:length].tolist()
        pairs = [300 + ((a % BUCKETS) * 20261 + b) % BUCKETS for a, b in itertools.pairwise(tokens)]
        expected = sum((weights[i] for i in [*tokens, *pairs]), np.zeros(7)) * 3 / max(length, 1) ** 0.5
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_a_bag_sums_the_weights_of_strings_of_two_to_five_characters():
    pieces = ["", "▁we", "▁", "éat", "s"]
    layer = BagOfNGrams(5, 3, BUCKETS, learning_rate_scale=3.0, pieces=pieces)
    ids = np.array([[1, 3, 0, 4, 2], [4, 0, 0, 0, 0]])
    layer.build(ids.shape)
    table = np.zeros((5 + 2 * BUCKETS, 3), "float32")
    table[5 + BUCKETS :] = np.random.default_rng(3).normal(size=(BUCKETS, 3))
    layer.ngrams.set_weights([table])
    outputs = keras.ops.convert_to_numpy(layer(ids, mask=np.arange(5) < np.array([[5], [1]])))
    text = "▁weéats▁"
    hashes = [[ord(char) for char in text[i : i + n]] for n in (2, 3, 4, 5) for i in range(len(text) - n + 1)]
    expected = sum(table[5 + BUCKETS + hash_of(string[1:], string[0] % BUCKETS)] for string in hashes)
    np.testing.assert_allclose(outputs, [expected * 3 / (4 * 8**0.5), np.zeros(3)], rtol=1e-4, atol=1e-6)


def test_the_vector_of_a_word_has_its_prefixes_suffixes_and_shape():
    characters = ["", "<unk>", *"abcABC12-é"]
    words = ["", "abc", "B", "Aa-b1", "12", "éA"]
    ids = np.zeros((1, 6, 5), int)
    for i, word in enumerate(words):
        ids[0, i, : len(word)] = [characters.index(char) for char in word]
    layer = AffixEncoder(12, 2, max_affix_length=3, hash_buckets=BUCKETS, characters=characters)
    outputs = keras.ops.convert_to_numpy(layer(ids, mask=np.arange(5) < np.array([[[len(word)] for word in words]])))[0]
    table = keras.ops.convert_to_numpy(layer.affixes.embeddings)
    assert not outputs[0].any()
    for word, output in zip(words[1:], outputs[1:], strict=True):
        numbers = [characters.index(char) + 1 for char in word]
        padded = [*numbers, 0, 0, 0]
        backwards = [*numbers[::-1], 0, 0, 0]
        hashes = [hash_of(padded[:n]) for n in (1, 2, 3)] + [hash_of(backwards[:n], 1) for n in (1, 2, 3)]
        tests = (str.isupper, str.islower, str.isdigit)
        shape = [
            function(map(test, chars))
            for function, chars in ((any, word[0]), (any, word), (all, word))
            for test in tests
        ]
        np.testing.assert_allclose(output, [*table[hashes].ravel(), *shape], rtol=1e-6)


def test_the_shape_of_a_word_does_not_depend_on_the_longest_word():
    """Random classes of characters, of both signs and above 1, show what padding changes."""
    layer, rng = AffixEncoder(12, 2, max_affix_length=3, hash_buckets=BUCKETS), np.random.default_rng(5)
    ids, lengths = rng.integers(1, 12, (1, 3, 2)), np.array([[[2], [1], [2]]])
    layer.build(ids.shape)
    layer.set_weights([rng.normal(0, 3, weight.shape) for weight in layer.weights])
    one, wider = (
        keras.ops.convert_to_numpy(layer(np.pad(ids, [(0, 0), (0, 0), (0, n)]), mask=np.arange(2 + n) < lengths))
        for n in (0, 5)
    )
    np.testing.assert_array_equal(one, wider)


def test_tokens_become_unknown_in_training_and_differently_in_each_epoch():
    texts = ["we eat bread and they eat bread and we drink"] * 101
    tokenizer = ka.data.train_tokenizer(texts, "words", min_count=1)
    model = ka.TextClassifier.from_preset(
        "rnn_classifier", tokenizer=tokenizer, labels=("a", "b"), units=6, embedding_dim=5, dropout=0.4
    )
    examples = [(text, "a") for text in texts]
    unknown = model.input_reader.special.unknown
    ids, masks = [], []
    batches = model.make_batches(examples, max_tokens=10_000)
    for epoch in (0, 1, 0):
        batches.start_epoch(epoch)
        ids.append(batches[0][0]["token_ids"])
        masks.append(batches[0][0]["padding_mask"])
    assert np.array_equal(ids[0], ids[2])
    assert not np.array_equal(ids[0], ids[1])
    assert abs((ids[0] == unknown)[masks[0]].mean() - 0.2) < 0.05
    assert not (ids[0] == unknown)[~masks[0]].any()
    assert unknown not in model.make_batches(examples, shuffle=False)[0][0]["token_ids"]
