"""Additive and dot-product attention, against values computed by hand and against the layers of Keras."""

import keras
import numpy as np
import pytest
from backends import array, random

import keras_attention as ka
from keras_attention.layers import additive_logits, dot_logits, masked_softmax, soft_attend


@pytest.mark.parametrize("for_decoding", [False, True])
def test_masked_softmax_by_hand(for_decoding):
    logits = np.log(np.array([[1.0, 3.0, 4.0]], "float32"))
    scores = array(masked_softmax(logits, for_decoding=for_decoding))
    np.testing.assert_allclose(scores, [[1 / 8, 3 / 8, 4 / 8]], rtol=1e-6)
    mask = np.array([[True, True, False]])
    np.testing.assert_allclose(array(masked_softmax(logits, mask, for_decoding)), [[1 / 4, 3 / 4, 0]], rtol=1e-6)
    assert (array(masked_softmax(logits, mask & False, for_decoding)) == 0).all()


def test_a_fully_masked_row_has_zero_scores_and_context():
    logits, values = random(2, 3, 5), random(2, 5, 7)
    mask = np.array([[True] * 5, [False] * 5])
    context, scores = soft_attend(logits, values, mask)
    assert array(scores[1]).max() == 0
    assert np.abs(array(context[1])).max() == 0
    np.testing.assert_allclose(array(scores[0]).sum(-1), 1.0, rtol=1e-6)


def test_a_mask_can_differ_by_query():
    mask = np.tril(np.ones((3, 3), bool))[None]
    _, scores = soft_attend(random(1, 3, 3), random(1, 3, 2), mask)
    assert (array(scores)[0][~mask[0]] == 0).all()
    np.testing.assert_allclose(array(scores)[0, 0], [1, 0, 0])


def test_softmax_runs_in_float32():
    scores = masked_softmax(keras.ops.cast(random(2, 3), "bfloat16"))
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"


def test_additive_logits_by_hand():
    query, keys, vector = random(2, 3, 7), random(2, 5, 7), random(7)
    expected = np.zeros((2, 3, 5))
    for b, q, s in np.ndindex(2, 3, 5):
        expected[b, q, s] = vector @ np.tanh(query[b, q] + keys[b, s])
    np.testing.assert_allclose(array(additive_logits(query, keys, vector)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scaled", "divisor"), [(True, 7**0.5), (False, 1.0)])
def test_dot_product_agrees_with_keras(scaled, divisor):
    query, memory, mask = random(2, 3, 7), random(2, 5, 7), np.array([[True] * 5, [True] * 2 + [False] * 3])
    context, scores = ka.layers.DotProductAttention(scaled=scaled)(
        query, memory, value_mask=mask, return_attention_scores=True
    )
    keras_layer = keras.layers.Attention()
    expected, expected_scores = keras_layer([query / divisor, memory], mask=[None, mask], return_attention_scores=True)
    np.testing.assert_allclose(array(context), array(expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(scores), array(expected_scores), rtol=1e-5, atol=1e-5)


def test_additive_agrees_with_keras_on_projected_inputs():
    query, memory = random(2, 3, 7), random(2, 5, 11)
    layer = ka.layers.AdditiveAttention(13)
    context, scores = layer(query, memory, return_attention_scores=True)
    keras_layer = keras.layers.AdditiveAttention()
    keras_layer.build([(2, 3, 13), (2, 5, 11), (2, 5, 13)])
    keras_layer.set_weights([array(layer.vector)])
    expected, expected_scores = keras_layer(
        [layer.query_projection(query), memory, layer.project_keys(memory)], return_attention_scores=True
    )
    np.testing.assert_allclose(array(context), array(expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(scores), array(expected_scores), rtol=1e-5, atol=1e-5)


def test_dot_logits_are_divided_by_the_root_of_the_width():
    query, keys = random(1, 2, 16), random(1, 3, 16)
    np.testing.assert_allclose(array(dot_logits(query, keys)) * 4, array(dot_logits(query, keys, False)), rtol=1e-5)


def test_keys_are_projected_once(monkeypatch, translator):
    """A translation projects the source once, for any number of generated tokens."""
    calls = []
    project = type(translator.decoder.attention).project_keys
    monkeypatch.setattr(
        type(translator.decoder.attention),
        "project_keys",
        lambda self, key: calls.append(1) or project(self, key),
    )
    special = ka.data.special_tokens_of(translator.source_tokenizer)
    ids, mask = ka.data.batches.pad_ids(
        ka.data.tokenization.tokenizers.encode_texts(translator.source_tokenizer, ["we eat bread"]), special.pad
    )
    state = translator.start({"source_ids": ids, "source_mask": mask})
    for _ in range(5):
        _, state, _ = translator.step(np.array([[special.start]]), state)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.layers.AdditiveAttention(0), "`units` is 0; expected a positive integer"),
        (lambda: ka.layers.DotProductAttention()(random(1, 2, 3), random(1, 2, 5)), "both need the same width"),
        (lambda: ka.layers.DotProductAttention(0), "or None for no projections"),
        (
            lambda: ka.layers.DotProductAttention()(random(1, 2, 3), random(1, 5, 3), noise=random(1, 2, 5)),
            "`noise` was passed, but `hard` is False; expected None",
        ),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("allowed", [0.0, 1.0])
def test_a_mask_of_floats_is_an_error(allowed):
    """0 allows a position in a mask that is added to the scores, and forbids it in one that is multiplied."""
    layer, query, value = ka.layers.DotProductAttention(5), random(2, 3, 5), random(2, 7, 5)
    with pytest.raises(TypeError, match=r"A mask has the type float32; expected bool, .*`mask > 0` if 1"):
        layer(query, value, value_mask=np.full((2, 7), allowed, "float32"))
    whole = [np.asarray(layer(query, value, value_mask=mask)) for mask in (None, np.ones((2, 7), "int32"))]
    np.testing.assert_array_equal(*whole)
