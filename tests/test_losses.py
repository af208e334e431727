"""The loss, its gradient and the metrics per token, compared with manual calculations."""

import keras
import numpy as np
import pytest
from backends import gradient, random

import keras_attention as ka
from keras_attention.metrics import MaskedAccuracy, Perplexity


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_loss_is_the_cross_entropy_with_the_smoothed_distribution(smoothing):
    logits, labels = random(2, 3, 5), np.array([[1, 4, 0], [2, 2, 3]])
    weights = np.array([[1, 1, 0], [1, 0, 0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    smoothed = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    expected = (-(smoothed * log_p).sum(-1) * weights).sum() / weights.sum()
    loss = ka.training.MaskedCrossEntropy(smoothing)(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_of_the_loss_is_the_distribution_minus_the_smoothed_one(smoothing):
    logits, labels, weights = random(2, 3, 5), np.array([[1, 4, -1], [2, 2, 3]]), np.array([[2.0, 1, 0], [-3, 1, 1]])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    smoothed = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    loss = ka.training.MaskedCrossEntropy(smoothing)
    actual = gradient(lambda x: loss(labels, x, sample_weight=weights.astype("float32")), logits)
    np.testing.assert_allclose(actual, (p - smoothed) * weights[:, :, None] / 8, atol=1e-6)


def test_a_negative_weight_makes_a_token_less_likely():
    logits, labels, weights = random(1, 3, 5), np.array([[1, 4, 0]]), np.array([[2.0, -1.0, 0.0]], "float32")
    cost = -(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[0, [0, 1, 2], labels[0]]
    loss = ka.training.MaskedCrossEntropy()(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(float(loss), (2 * cost[0] - cost[1]) / 3, rtol=1e-5)


def test_the_loss_agrees_with_keras():
    logits, labels = random(7, 5), np.array([1, 4, 0, 2, 2, 3, 1])
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    ours = ka.training.MaskedCrossEntropy(0.2)
    np.testing.assert_allclose(float(ours(labels, logits)), float(theirs(np.eye(5)[labels], logits)), rtol=1e-5)


def test_the_loss_of_half_precision_logits_is_float32():
    loss = ka.training.MaskedCrossEntropy()(np.array([[1]]), keras.ops.cast(random(1, 1, 5), "bfloat16"))
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_metrics_by_hand():
    logits = np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]], "float32"))
    accuracy, perplexity = MaskedAccuracy(), Perplexity()
    for metric in (accuracy, perplexity):
        metric.update_state([[1, 0]], logits, sample_weight=[[1.0, 0.0]])
    assert float(accuracy.result()) == 1.0
    np.testing.assert_allclose(float(perplexity.result()), 4 / 3, rtol=1e-5)
