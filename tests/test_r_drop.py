"""R-Drop: each example is computed twice in an update, and the divergence of both predictions is added to the loss."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models.task.token_loss import r_drop_loss

EXAMPLES = [("we eat bread", "food"), ("they drink water", "drink"), ("we eat", "food")]
SIZES = {"units": 14, "embedding_dim": 11}


def classifier(tokenizer, dropout: float, learning_rate: float, **options):
    """Return a compiled model; its weights and dropout are always the same."""
    keras.utils.set_random_seed(7)
    model = ka.TextClassifier.from_preset(
        "rnn_classifier", tokenizer=tokenizer, labels=("drink", "food"), dropout=dropout, **SIZES
    )
    model.head.kernel.assign(20 * model.head.kernel)  # so that dropout changes the predictions much
    model.compile(keras.optimizers.SGD(learning_rate), **options)
    return model


def probabilities(logits) -> np.ndarray:
    exponentials = np.exp(keras.ops.convert_to_numpy(logits).astype("float64"))
    return exponentials / exponentials.sum(-1, keepdims=True)


def kullback_leibler(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def test_the_divergence_is_the_mean_of_both_directions():
    logits, weights = (
        np.random.default_rng(5).normal(size=(6, 5, 7)),
        np.repeat(np.eye(3, 5, dtype="float32"), 2, axis=0),
    )
    p, q = probabilities(logits)[0::2], probabilities(logits)[1::2]
    expected = ((kullback_leibler(p, q) + kullback_leibler(q, p)) / 2)[np.arange(3), np.arange(3)].mean()
    np.testing.assert_allclose(float(r_drop_loss(logits, weights)), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", ["auto", keras.losses.SparseCategoricalCrossentropy(from_logits=True)])
def test_the_loss_of_an_update_by_hand(loss, tokenizer):
    """Dropout makes the two predictions of an example differ; a second model draws the same dropout."""
    model = classifier(tokenizer, dropout=0.5, learning_rate=0.0, r_drop=3.0, loss=loss)
    inputs, labels, weights = model.make_batches(EXAMPLES, shuffle=False)[0]
    loss = model.train_on_batch(inputs, labels, weights, return_dict=True)["loss"]
    twice = {name: np.repeat(array, 2, axis=0) for name, array in inputs.items()}
    predicted = probabilities(classifier(tokenizer, dropout=0.5, learning_rate=0.0)(twice, training=True))
    cross_entropy = -np.log(predicted[np.arange(6), np.repeat(labels, 2)]).mean()
    p, q = predicted[0::2], predicted[1::2]
    divergence = ((kullback_leibler(p, q) + kullback_leibler(q, p)) / 2).mean()
    assert divergence > 0.01
    np.testing.assert_allclose(loss, cross_entropy + 3.0 * divergence, rtol=1e-5)


def test_without_dropout_it_changes_nothing(tokenizer):
    plain, with_r_drop = (classifier(tokenizer, dropout=0.0, learning_rate=0.1, r_drop=r) for r in (0.0, 3.0))
    batch = plain.make_batches(EXAMPLES, shuffle=False)[0]
    np.testing.assert_allclose(with_r_drop.train_on_batch(*batch), plain.train_on_batch(*batch), rtol=1e-5)
    for one, two in zip(with_r_drop.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_it_is_saved_with_the_model(tokenizer, tmp_path):
    classifier(tokenizer, dropout=0.5, learning_rate=0.1, r_drop=3.0).save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").r_drop == 3.0


def test_only_models_that_predict_one_label_have_r_drop(tokenizer):
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SIZES)
    with pytest.raises(ValueError, match=r"`r_drop` is 3\.0; expected 0 for this CausalLM"):
        model.compile(r_drop=3.0)
    options = {"labels": ("a", "b"), "problem_type": "multi_label_classification"}
    sizes = {"width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5}
    classifier_of_many = ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, **options, **sizes)
    with pytest.raises(ValueError, match=r"expected 0 for this TextClassifier\. Only .* one label"):
        classifier_of_many.compile(r_drop=3.0)
    with pytest.raises(ValueError, match="`r_drop` is -1; expected a number, 0 or more"):
        classifier(tokenizer, dropout=0.5, learning_rate=0.1, r_drop=-1)
