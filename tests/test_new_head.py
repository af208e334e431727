"""A new head is fitted by logistic regression, and a sentence encoder is trained on pairs of texts."""

import keras
import numpy as np
import pytest
from backends import gradient
from conftest import train_shortly
from small_classifier import EXAMPLES, classifier

import keras_attention as ka
from keras_attention.defaults import trains_on_pairs
from keras_attention.training.new_head import PairLoss, _logistic_regression, fit_encoder, fit_head

__all__ = ["classifier"]  # a fixture
pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_resuming.py traces

PLAN = ka.training.TrainingPlan(epochs=2, warmup_steps=1)


def test_the_head_is_fitted_by_logistic_regression(classifier):
    """Compare the difference of both rows of the head with Newton's method for two classes."""
    inputs, labels, _ = ka.data.classification_batches(EXAMPLES, classifier, shuffle=False)[0]
    vectors = np.asarray(keras.Model(classifier.input, classifier.head.input)(inputs))
    encoder = classifier.encoder.get_weights()
    fit_head(classifier, EXAMPLES)
    x = np.c_[vectors / np.linalg.norm(vectors, axis=1).mean(), np.ones(len(vectors))]
    penalty, expected = np.diag([0.25] * 14 + [0.0]), np.zeros(15)  # |W|^2 / 4 = |difference|^2 / 8
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ expected))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        expected -= np.linalg.solve(hessian, x.T @ (p - labels) + penalty @ expected)
    kernel, bias = classifier.head.get_weights()
    scale = np.linalg.norm(vectors, axis=1).mean()
    np.testing.assert_allclose((kernel[:, 1] - kernel[:, 0]) * scale, expected[:-1], atol=1e-3)
    np.testing.assert_allclose(bias[1] - bias[0], expected[-1], atol=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(encoder, classifier.encoder.get_weights(), strict=True))
    with pytest.raises(ValueError, match=r"A CausalLM has no labels"):
        fit_head(ka.CausalLM.from_preset("char_rnn", vocabulary_size=7, units=3), EXAMPLES)


def test_the_head_of_zero_vectors_has_the_frequencies_of_the_labels():
    """softmax(b) = (2/3, 1/3), so that the biases differ by log 2."""
    kernel, bias = _logistic_regression(np.zeros((3, 5), "float32"), np.array([0, 0, 1]), 2)
    assert not kernel.any()
    assert bias[0] - bias[1] == pytest.approx(np.log(2), rel=1e-4)


def test_only_a_classifier_with_examples_is_trained_on_pairs(classifier):
    assert not trains_on_pairs(ka.TextClassifier.from_encoder(classifier, labels=("a", "b"), pooling="mean"), [])
    assert not trains_on_pairs(classifier, [[], [("we", "a")]])


PAIR_LOSSES = (  # labels, vectors, weights, loss
    ([0, 0, 1], [[3, 4], [6, 8], [1, 0]], None, 0.5 * 0.0 + 0.5 * 0.36),
    ([[0], [0], [1]], [[3, 4], [5, 0], [0, 2]], None, 0.5 * 0.4**2 + 0.5 * (0.8**2 + 0.0) / 2),
    ([0, 0, 1], [[3, 4], [5, 0], [0, 2]], [1.0, 1.0, 0.0], 0.5 * 0.4**2),
    ([0, 1, 2], [[3, 4], [5, 0], [0, 2]], None, 0.5 * (0.6**2 + 0.8**2 + 0.0) / 3),
    ([7], [[3, 4]], None, 0.0),
)


@pytest.mark.parametrize(("labels", "vectors", "weights", "expected"), PAIR_LOSSES)
def test_pairs_with_equal_labels_should_have_the_cosine_1_and_others_0(labels, vectors, weights, expected):
    arrays = np.array(labels), np.array(vectors, "float32"), None if weights is None else np.array(weights)
    assert float(PairLoss()(*arrays)) == pytest.approx(expected)


def test_a_zero_vector_has_a_gradient_of_zero():
    vectors = np.array([[0.0, 0.0], [3.0, 4.0], [5.0, 0.0]], "float32")
    loss = PairLoss()
    for weights in (None, np.array([0.0, 1.0, 1.0], "float32")):
        gradients = gradient(lambda x, weights=weights: loss(np.array([0, 0, 1]), x, weights), vectors)
        assert np.isfinite(gradients).all()
        assert not gradients[0].any()


def test_the_encoder_is_fitted_to_pairs_and_the_head_is_not(classifier):
    head, encoder = classifier.head.get_weights(), classifier.encoder.get_weights()
    losses = fit_encoder(classifier, EXAMPLES, PLAN)
    assert losses[1] < losses[0]
    assert all(np.array_equal(a, b) for a, b in zip(head, classifier.head.get_weights(), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(encoder, classifier.encoder.get_weights(), strict=True))
    with pytest.raises(ValueError, match=r"A CausalLM has no labels of whole texts"):
        fit_encoder(ka.CausalLM.from_preset("char_rnn", vocabulary_size=7, units=3), EXAMPLES, PLAN)


@pytest.mark.parametrize("pooling", ["mean", "start"])
def test_a_new_head_is_fitted_and_a_sentence_encoder_learns_first_and_is_frozen(classifier, pooling, monkeypatch):
    train_shortly(monkeypatch, epochs=3)
    model = ka.TextClassifier.from_encoder(classifier, labels=("drink", "food"), pooling=pooling)
    before = model.encoder.get_weights()
    plan = ka.training.fit_new_head(model, EXAMPLES, learning_rate=0.02)
    assert [output.label for output in model.classify([text for text, _ in EXAMPLES])] == [b for _, b in EXAMPLES]
    learned = not all(np.array_equal(a, b) for a, b in zip(before, model.encoder.get_weights(), strict=True))
    learns = pooling == "mean"
    assert (learned, not model.encoder.trainable_weights, plan.epochs == 3) == (learns, learns, learns)
    assert plan.learning_rate == 0.02
