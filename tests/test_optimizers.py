"""Optimizers and learning rates: by hand, as in Keras, per layer, and with accumulated gradients."""

import math
import types

import keras
import numpy as np
import pytest
from backends import random
from small_classifier import EXAMPLES, SIZES, classifier

import keras_attention as ka
from keras_attention.training import WarmUp
from keras_attention.training.finetuning import layer_factors
from keras_attention.training.optimizers import Adam

__all__ = ["classifier"]  # a fixture
pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_resuming.py traces


def test_adam_equals_that_of_keras():
    weights = [[keras.Variable(random(*shape)) for shape in ((3, 5), (7,))] for _ in range(2)]
    options = {"learning_rate": WarmUp(0.1, 2, 9), "beta_2": 0.98, "epsilon": 1e-9, "global_clipnorm": 1.0}
    for kind, variables in zip((keras.optimizers.Adam, Adam), weights, strict=True):
        optimizer = kind(**options)
        for step in range(3):
            optimizer.apply([keras.ops.array(random(step + 1, *v.shape)[step]) for v in variables], variables)
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(two), atol=1e-6)


# After the warm-up of 10 of 100 updates, 55 is half of the way to the end. The cosine of half a circle is 0 there.
@pytest.mark.parametrize(
    ("schedule", "at_55"),
    [("constant", 1.0), ("linear", 0.5), ("cosine", (1 + 0) / 2), ("inverse_sqrt", math.sqrt(10 / 55))],
)
def test_a_schedule_rises_to_the_rate_and_then_decays(schedule, at_55):
    """In the warm-up, the update with the index i has (i + 1) / 10 of the rate."""
    rate = WarmUp(2.0, warmup_steps=10, total_steps=100, schedule=schedule)
    np.testing.assert_allclose([float(rate(i)) for i in (0, 4, 55)], [2 * 0.1, 2 * 0.5, 2 * at_55], rtol=1e-5)
    assert float(WarmUp.from_config(rate.get_config())(37)) == float(rate(37))


def test_layer_decay_multiplies_the_rate_from_block_to_block():
    expected = {"embedding/embeddings": 0.125, "encoder/inputs/norm/gamma": 0.125, "cnn/conv/kernel": 0.125,
                "encoder/block_0/hidden/kernel": 0.25, "encoder/block_2/hidden/kernel": 1.0,
                "pooler/kernel": 1.0}  # fmt: skip
    weights = [types.SimpleNamespace(path=path) for path in expected]
    model = types.SimpleNamespace(
        config=types.SimpleNamespace(num_layers=3),
        image_encoder=types.SimpleNamespace(weights=weights[2:3]),
        trainable_weights=weights,
    )
    assert layer_factors(model, 0.5) == expected
    assert Adam.from_config(Adam(1e-3, rate_factors=expected).get_config()).rate_factors == expected


def test_layer_decay_changes_the_first_block_less(classifier):
    """Adam's first step equals the learning rate, if the gradient is not nearly 0."""
    ka.training.compile_model(
        classifier, ka.training.TrainingPlan(learning_rate=0.01, warmup_steps=1, layer_decay=0.1), 9
    )
    before = [np.array(block.hidden.kernel) for block in classifier.encoder.blocks]
    batch = ka.data.classification_batches(EXAMPLES, classifier)[0]
    classifier.train_on_batch(*batch)
    steps = [
        np.abs(np.array(b.hidden.kernel) - a).max() for a, b in zip(before, classifier.encoder.blocks, strict=True)
    ]
    np.testing.assert_allclose(steps[0] / steps[1], 0.1, rtol=0.01)


def test_weight_decay_uses_the_rate_of_the_layer():
    optimizer = Adam(0.1, rate_factors={"block_0/kernel": 0.001}, no_decay=["bias"], weight_decay=0.5)
    optimizer = Adam.from_config(optimizer.get_config())  # as when a compiled model is loaded
    paths = ("block_0/kernel", "block_3/kernel", "block_3/bias")
    variables = [keras.Variable(np.ones(3), name=path.replace("/", "_")) for path in paths]
    for variable, path in zip(variables, paths, strict=True):
        variable._path = path
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(3)] * 3)
    values = [float(variable[0]) for variable in variables]
    np.testing.assert_allclose(values, [1 - 0.1 * 0.1**3 * 0.5, 1 - 0.1 * 0.5, 1.0], rtol=1e-6)


def test_a_loaded_model_has_the_rates_of_its_layers():
    """A variable of `keras.Sequential` has the path sequential/dense/kernel, and dense/kernel in a loaded model."""
    made, loaded = ([keras.Variable(np.ones(3), name=name) for name in names] for names in (("a", "b"), ("c", "d")))
    optimizer = Adam(0.1, rate_factors={"a": 0.5})
    optimizer.build(made)
    optimizer = Adam.from_config(optimizer.get_config())
    optimizer.build(loaded)
    optimizer.apply([keras.ops.ones(3)] * 2)
    np.testing.assert_allclose([float(variable[0]) for variable in loaded], [1 - 0.5 * 0.1, 1 - 0.1], rtol=1e-5)


def test_a_loaded_model_with_other_variables_warns_that_its_rates_are_lost():
    optimizer = Adam(0.1, rate_factors=np.array([0.5, 1.0]))
    with pytest.warns(UserWarning, match="has 2 `rate_factors`, and the model 1 trained variables"):
        optimizer.build([keras.Variable(np.ones(3))])


def test_rates_of_unknown_paths_are_a_warning():
    optimizer = Adam(0.1, rate_factors={"sequential/a": 0.5})  # saved before the first update
    with pytest.warns(UserWarning, match="no trained variable of the model has one of the paths of `rate_factors`"):
        optimizer.build([keras.Variable(np.ones(3), name="a")])


def test_accumulated_gradients_equal_those_of_the_whole_batch(tokenizer):
    def kernel_after(*parts: list) -> np.ndarray:
        """Train on the parts of a batch, with one update after the last."""
        keras.utils.set_random_seed(5)
        model = ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("drink", "food"), **SIZES)
        count = len(parts) if len(parts) > 1 else None
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=count), ka.training.MaskedCrossEntropy())
        for part in parts:
            model.train_on_batch(*ka.data.classification_batches(part, model)[0])
        return np.array(model.head.kernel)

    np.testing.assert_allclose(kernel_after(EXAMPLES[:2], EXAMPLES[2:]), kernel_after(EXAMPLES), atol=1e-6)


def test_the_schedule_counts_updates_not_batches(tokenizer):
    """With 4 batches per update, the warm-up of 2 updates ends before the eighth batch."""
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=3, embedding_dim=2, cell="simple")
    options = {"warmup_steps": 2, "gradient_accumulation": 4, "schedule": "linear"}
    ka.training.compile_model(model, ka.training.TrainingPlan(epochs=2, learning_rate=1e-3, **options), 8)
    batch = ka.data.language_batches(["we"], model)[0]
    rates = []
    for _ in range(2 * 8):
        rates.append(float(model.optimizer.learning_rate))
        model.train_on_batch(*batch)
    assert rates.index(max(rates)) == 2 * 4 - 1
    assert all(rate > 0 for rate in rates)
