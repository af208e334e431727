"""The constructors of the layers refuse an impossible integer: a row has a layer, and a valid value of each integer."""

import re

import numpy as np
import pytest

from keras_attention import layers


def ones(*shape):
    return np.ones(shape, bool)


HASH_BUCKETS = {"hash_buckets": 13}
POSITIVE = [
    (layers.AdditiveAttention, {"units": 7}),
    (layers.AffixEncoder, {"vocabulary_size": 11, "affix_dim": 3, "max_affix_length": 2, **HASH_BUCKETS}),
    (layers.BagOfNGrams, {"vocabulary_size": 11, "units": 7, **HASH_BUCKETS}),
    (layers.CharacterEncoder, {"vocabulary_size": 11, "embedding_dim": 3, "units": 14}),
    (layers.DotProductAttention, {"units": 7}),
    (layers.MaskEmbedding, {"width": 7}),
    (layers.MultiHeadAttention, {"num_heads": 3, "key_dim": 5}),
    (layers.PositionEmbedding, {"max_length": 5}),
    (layers.RecurrentDecoder, {"units": 7, "output_dim": 3, "num_layers": 2}),
    (layers.RecurrentEncoder, {"units": 14, "num_layers": 2}),
    (layers.RelativeAttention, {"num_heads": 3, "key_dim": 5}),
    (layers.SelfAttention2D, {"units": 7}),
    (layers.ShiftRegions, {"rows": 3, "columns": 5}),
    (layers.TransformerBlock, {"num_heads": 3, "intermediate_dim": 11}),
]
NOT_NEGATIVE = [
    (layers.InputEmbedding, {"num_segments": 2}),
    (layers.PositionEmbedding, {"max_length": 5, "offset": 2}),
]


def assert_refused(layer: type, valid: dict, name: str, value: object, expected: str) -> None:
    """The constructor names the argument, its value and what it expected; the other arguments are valid."""
    with pytest.raises(ValueError, match=re.escape(f"`{name}` is {value!r}; expected {expected}")):
        layer(**{**valid, name: value})


@pytest.mark.parametrize(("layer", "valid"), POSITIVE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_size_must_be_a_positive_integer(layer, valid):
    layer(**valid)
    for name in valid.keys() - HASH_BUCKETS:
        for value in (0, -3, 2.5, "7"):
            assert_refused(layer, valid, name, value, "a positive integer")


WITH_HASH_BUCKETS = [(layer, valid) for layer, valid in POSITIVE if "hash_buckets" in valid]


@pytest.mark.parametrize(("layer", "valid"), WITH_HASH_BUCKETS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_number_of_hash_buckets_is_limited(layer, valid):
    for value in (0, -3, 2.5, "7", 65537):
        assert_refused(layer, valid, "hash_buckets", value, "an integer from 1 to 65536.")


@pytest.mark.parametrize(("layer", "valid"), NOT_NEGATIVE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_count_may_be_0_but_not_negative(layer, valid):
    name = list(valid)[-1]
    layer(**{**valid, name: 0})
    for value in (-3, 2.5, "7"):
        assert_refused(layer, valid, name, value, "an integer, 0 or more.")


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (
            layers.MultiHeadAttention(2, 3),
            {"value_mask": ones(2, 4)},
            "`value_mask.shape` is (2, 4); expected (batch, 5)",
        ),
        (layers.AdditiveAttention(3), {"key_mask": ones(2, 4)}, "`key_mask.shape` is (2, 4); expected (batch, 5)"),
        (
            layers.DotProductAttention(),
            {"attention_mask": ones(2, 5, 3)},
            "`attention_mask.shape` is (2, 5, 3); expected (batch, 3, 5)",
        ),
    ],
)
def test_a_mask_must_have_the_lengths_of_queries_and_values(layer, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(np.zeros((2, 3, 7), "float32"), np.zeros((2, 5, 7), "float32"), **options)


def test_regions_must_be_those_of_the_grid():
    with pytest.raises(ValueError, match=re.escape("`regions.shape[1]` is 7; expected 6, rows times columns.")):
        layers.ShiftRegions(2, 3)(np.zeros((1, 7, 5), "float32"))


def test_the_small_cnn_reads_multiples_of_4_pixels():
    with pytest.raises(ValueError, match="`image_size` is 30; expected a positive multiple of 4 for small_cnn"):
        layers.ImageEncoder("small_cnn", 30)
