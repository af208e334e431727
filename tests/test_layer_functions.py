"""Small functions and layers of `keras_attention.layers`, compared with loops over all positions."""

import keras
import numpy as np
import pytest
from backends import array, arrays, random

from keras_attention import layers
from keras_attention.layers.decoding.merged_dense import logits_of_step
from keras_attention.layers.decoding.step_attention import merge_step_heads, split_step_heads
from keras_attention.layers.relative import relative_encodings

B, Q, S, M = 2, 3, 5, 7


def test_hard_attention_returns_the_value_of_one_position():
    """The noise moves the choice from position 1 to position 3; a mask leaves only positions 0 and 4, or none."""
    scores = np.array([0.1, 0.4, 0.15, 0.3, 0.05], "float32")
    logits, values = np.log(scores)[None, None], random(1, S, M)
    noise = np.array([[[0.0, 0.0, 0.0, 0.5, 0.0]]], "float32")  # log 0.3 + 0.5 > log 0.4
    for options, best in (({}, 1), ({"noise": noise}, 3), ({"mask": np.array([[True, *[False] * 3, True]])}, 0)):
        np.testing.assert_array_equal(array(layers.hard_attend(logits, values, **options)[0])[0, 0], values[0, best])
    np.testing.assert_allclose(array(layers.hard_attend(logits, values)[1])[0, 0], scores, rtol=1e-6)
    context, nothing = layers.hard_attend(logits, values, mask=np.zeros((1, S), bool))
    assert not array(context).any()
    assert not array(nothing).any()


def test_a_scores_mask_is_true_where_every_mask_is_true():
    rng = np.random.default_rng(3)
    value_mask, key_mask, attention_mask = (rng.random(shape) < 0.7 for shape in ((B, S), (B, S), (B, Q, S)))
    mask = layers.scores_mask(
        random(B, Q, M), random(B, S, M), None, value_mask, key_mask, attention_mask, use_causal_mask=True
    )
    for b, q, s in np.ndindex(B, Q, S):
        is_past = s <= q + S - Q  # the queries are the last of the S positions
        assert array(mask)[b, q, s] == (value_mask[b, s] and key_mask[b, s] and attention_mask[b, q, s] and is_past)
    assert layers.scores_mask(random(B, Q, M), random(B, S, M)) is None


@pytest.mark.parametrize(("start", "position"), [(None, S - Q), (11, 11)])
def test_relative_encodings_have_a_row_for_each_distance(start, position):
    """The distances decrease from start + Q; without `start`, the queries are the last of the S positions."""
    encodings, width = array(relative_encodings(Q, S, 4, start)), 4
    assert encodings.shape == (Q + S, width)
    for row in range(Q + S):
        distance = position + Q - row
        angles = [distance / 10_000 ** (2 * i / width) for i in range(width // 2)]
        np.testing.assert_allclose(encodings[row], [*np.sin(angles), *np.cos(angles)], atol=1e-6)


@pytest.mark.parametrize(("width", "tie_weights"), [(M, True), (M, False), (257, True), (257, False)])
def test_the_logits_of_a_step_are_the_products_with_the_output_matrix(width, tie_weights):
    embedding = keras.layers.ReversibleEmbedding(11, width, tie_weights=tie_weights)
    embedding.build()
    matrix = array(embedding.embeddings).T if tie_weights else array(embedding.reverse_embeddings)
    x = random(B, 3, width)
    np.testing.assert_allclose(array(logits_of_step(embedding, x)), x @ matrix, rtol=1e-5, atol=1e-5)


def test_a_mask_embedding_is_the_same_vector_at_each_position():
    layer = layers.MaskEmbedding(7)
    outputs = array(layer(np.ones((B, Q, 13), "float32")))
    np.testing.assert_array_equal(outputs, np.broadcast_to(array(layer.vector)[0], (B, Q, 7)))
    assert outputs.any()


def test_an_output_bias_is_added_to_the_logits():
    layer, logits, bias = layers.OutputBias(), random(B, Q, 11), random(11)
    layer.build((B, Q, 11))
    layer.set_weights([bias])
    np.testing.assert_allclose(array(layer(logits)), logits + bias, rtol=1e-6)


def test_the_head_of_a_masked_lm_is_a_dense_layer_and_a_normalization():
    """norm(tanh(x W + b)) with a mean of 0 and a variance of 1 over the features."""
    layer, x = layers.MaskedLMHead(activation="tanh"), random(B, Q, M)
    layer.build(x.shape)
    kernel, bias = random(M, M), random(M)
    layer.dense.set_weights([kernel, bias])
    hidden = np.tanh(x @ kernel + bias)
    deviations = hidden - hidden.mean(-1, keepdims=True)
    expected = deviations / np.sqrt((deviations**2).mean(-1, keepdims=True))
    np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-4, atol=1e-4)


def test_heads_are_consecutive_features():
    x, layer = random(B, S, 3 * 7), layers.MultiHeadAttention(num_heads=3, key_dim=7, use_bias=False)
    layer.build(x.shape)
    for projection in (layer.query_projection, layer.output_projection):
        projection.set_weights([np.eye(21)])
    heads = array(layer.project_query(x))
    for head in range(3):
        np.testing.assert_allclose(heads[:, head], x[:, :, 7 * head : 7 * head + 7], rtol=1e-6)
    np.testing.assert_allclose(array(layer.project_contexts(heads)), x, rtol=1e-6)


def test_the_vectors_of_a_step_have_parts_and_heads():
    """The 5 beams of 2 inputs have vectors of 2 parts, each with 3 heads of 7 features."""
    x = random(2 * 5, 2 * 3 * 7)
    parts = arrays(split_step_heads(x, (2, 5), num_heads=3, key_dim=7))
    for part, b, head, k in np.ndindex(2, 2, 3, 5):
        first = 21 * part + 7 * head
        np.testing.assert_array_equal(parts[part][b, head, k], x[5 * b + k, first : first + 7])
    np.testing.assert_array_equal(array(merge_step_heads(parts[1])), x[:, 21:])
