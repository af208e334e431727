"""The constructors of the layers refuse an impossible integer: a row has a layer, and a valid value of each integer."""

import re

import pytest

from keras_attention import layers

POSITIVE = [
    (layers.AdditiveAttention, {"units": 7}),
    (layers.AffixEncoder, {"vocabulary_size": 11, "affix_dim": 3, "max_affix_length": 2, "buckets": 13}),
    (layers.BagOfNGrams, {"vocabulary_size": 11, "units": 7, "buckets": 13}),
    (layers.CharacterEncoder, {"vocabulary_size": 11, "embedding_dim": 3, "units": 14}),
    (layers.DotProductAttention, {"units": 7}),
    (layers.PositionEmbedding, {"max_length": 5}),
    (layers.RecurrentDecoder, {"units": 7, "output_dim": 3, "num_layers": 2}),
    (layers.RecurrentEncoder, {"units": 14, "num_layers": 2}),
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
    for name in valid:
        expected = "an integer from 1 to 65536." if name == "buckets" else "a positive integer"
        for value in (0, -3, 2.5, "7"):
            assert_refused(layer, valid, name, value, expected)


@pytest.mark.parametrize(("layer", "valid"), NOT_NEGATIVE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_count_may_be_0_but_not_negative(layer, valid):
    name = list(valid)[-1]
    layer(**{**valid, name: 0})
    for value in (-3, 2.5, "7"):
        assert_refused(layer, valid, name, value, "an integer, 0 or more.")
