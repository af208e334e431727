"""Fold batch normalizations into the convolutions before them, for an export.

    norm(W * x + b) = (s W) * x + (b - mean) s + beta
    s = gamma / sqrt(variance + epsilon)

This saves time, because a batch normalization reads and writes its whole input twice, and TensorFlow computes a
convolution, its bias and an activation such as ReLU as one operation.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


class FoldedConvolution:
    """A convolution that also computes the batch normalization after it.

    Args:
        layer: a `Conv2D` or `DepthwiseConv2D`.
        norm: a `BatchNormalization` of the last axis.
    """

    def __init__(self, layer: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        kernel, mean, variance = (_numbers(x) for x in (layer.kernel, norm.moving_mean, norm.moving_variance))
        gamma, beta, bias = (0.0 if x is None else _numbers(x) for x in (norm.gamma, norm.beta, layer.bias))
        scale = (1.0 if norm.gamma is None else gamma) / np.sqrt(variance + norm.epsilon)
        self.layer = layer
        self.kernel = _variable(kernel * (scale.reshape(kernel.shape[2:]) if _is_depthwise(layer) else scale))
        self.bias = _variable((bias - mean) * scale + beta)

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the normalized outputs of the convolution."""
        convolve = keras.ops.depthwise_conv if _is_depthwise(self.layer) else keras.ops.conv
        options = {name: getattr(self.layer, name) for name in ("padding", "data_format", "dilation_rate")}
        outputs = convolve(inputs, self.kernel, self.layer.strides, **options)
        return tf.nn.bias_add(outputs, self.bias)


def folded_convolutions(network: keras.Model) -> dict[keras.layers.Layer, Callable]:
    """Return the functions that replace the `call` of layers of a functional network.

    A convolution without activation whose output only a batch normalization reads becomes a `FoldedConvolution`, and
    this batch normalization returns its input.

    Args:
        network: a functional network in inference.

    Returns:
        layer -> function of its input.
    """
    replaced: dict[keras.layers.Layer, Callable] = {}
    for layer in network.layers:
        readers = [other for other in network.operations if _reads(other, layer)]
        if len(readers) == 1 and _can_fold(layer, readers[0]) and not _is_output(network, layer):
            replaced |= {layer: FoldedConvolution(layer, readers[0]), readers[0]: lambda inputs: inputs}
    return replaced


def _reads(reader: keras.Operation, layer: keras.layers.Layer) -> bool:
    return any(tensor is layer.output for tensor in keras.tree.flatten(reader.input))


def _is_output(network: keras.Model, layer: keras.layers.Layer) -> bool:
    return any(tensor is layer.output for tensor in network.outputs)


def _can_fold(layer: keras.layers.Layer, norm: keras.Operation) -> bool:
    if type(layer) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        return False
    if type(norm) is not keras.layers.BatchNormalization or norm.axis not in (-1, 3):
        return False
    is_linear, groups = layer.activation is keras.activations.linear, getattr(layer, "groups", 1)
    return is_linear and groups == 1 and layer.data_format == "channels_last" and layer.compute_dtype == "float32"


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _numbers(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")


def _variable(numbers: np.ndarray) -> tf.Variable:
    return tf.Variable(numbers.astype("float32"), trainable=False, name="folded")
