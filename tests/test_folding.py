"""Convolutions of an export that contain a batch normalization, against the layers of Keras."""

import concurrent.futures
import types

import keras
import numpy as np
import pytest
from keras.layers import Activation, Add, BatchNormalization, Conv2D, DepthwiseConv2D

tf = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("an export needs TensorFlow", allow_module_level=True)
from keras_attention.serving.precision import in_precision  # noqa: E402

RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(2, 11, 13, 3)).astype("float32")


def make_network() -> keras.Model:
    """Return a network with three convolutions that can be folded and three that cannot, with random weights."""
    images = keras.Input((11, 13, 3))
    x = Conv2D(5, 3, strides=2, padding="same")(images)
    x = Activation("relu6")(BatchNormalization()(x))
    x = BatchNormalization(scale=False)(DepthwiseConv2D(3, depth_multiplier=2, padding="valid")(x))
    x = BatchNormalization(center=False, epsilon=0.1)(Conv2D(7, 1, use_bias=False)(x))
    x = BatchNormalization()(Conv2D(7, 1, activation="relu")(x))  # the activation is before the normalization
    both = Conv2D(7, 1)(x)  # two layers read its output
    x = Conv2D(2, 1)(Add()([both, BatchNormalization()(both)]))
    network = keras.Model(images, BatchNormalization()(x) + keras.ops.square(x))  # so do a layer and an operation
    network.set_weights([RNG.uniform(0.5, 1.5, weights.shape) for weights in network.get_weights()])
    return network


def test_a_folded_network_computes_the_same():
    network = make_network()
    expected = network(IMAGES).numpy()
    model = types.SimpleNamespace(image_encoder=types.SimpleNamespace(network=network))
    with in_precision(model, "float32") as replacements:
        compute = tf.function(lambda images: network(images, training=False)).get_concrete_function(IMAGES)
        with concurrent.futures.ThreadPoolExecutor() as pool:  # another thread that predicts
            elsewhere = pool.submit(lambda: network(IMAGES).numpy()).result()
    np.testing.assert_allclose(compute(tf.constant(IMAGES)).numpy(), expected, rtol=1e-4)
    np.testing.assert_array_equal(elsewhere, expected)
    np.testing.assert_array_equal(network(IMAGES).numpy(), expected)  # as before
    assert [tuple(variable.shape) for variable in replacements()] == [
        *((3, 3, 3, 5), (5,)),
        *((3, 3, 5, 2), (10,)),
        *((1, 1, 10, 7), (7,)),
    ]
    kinds = [operation.type for operation in compute.graph.get_operations()]
    assert kinds.count("Rsqrt") == 3  # of the normalizations that remain
