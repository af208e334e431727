"""How a decoding step applies `Dense` layers: to rows, with weights that are read once, before the loop.

    weights = read_weights(query, key, value)          before the loop
    rows    = project(rows, weights, query, key, value)    at each step

Layers with the same input become one product. LoRA matrices are merged and weights are cast before the loop. A
quantized layer has no weights to read here; a step calls the layer.
"""

from __future__ import annotations

import keras
from keras import ops


def read_weights(*layers: keras.layers.Dense) -> dict:
    """Return the weights of `Dense` layers with the same input, side by side.

    Returns:
        dict of `kernel` (M, N) and, if the layers have biases, `bias` (N,), N the sum of their widths; an empty dict
        if a layer is quantized.

    Example:
        >>> layers = keras.layers.Dense(3), keras.layers.Dense(5)
        >>> [layer.build((None, 7)) for layer in layers]
        [None, None]
        >>> tuple(read_weights(*layers)["kernel"].shape)
        (7, 8)
    """
    if any(layer.quantization_mode is not None for layer in layers):
        return {}
    weights = {"kernel": [layer.kernel for layer in layers]}
    if layers[0].use_bias:
        weights["bias"] = [layer.bias for layer in layers]
    return {name: _join([ops.cast(x, layers[0].compute_dtype) for x in parts]) for name, parts in weights.items()}


def project(rows, weights: dict, *layers: keras.layers.Dense):
    """Return the outputs of the layers side by side: f(rows W + b), where f is the activation of the first layer.

    Args:
        rows: (R, M).
        weights: from `read_weights`.
        *layers: the layers of `read_weights`.

    Returns:
        (R, N).
    """
    if not weights:
        return _join([layer(rows) for layer in layers])
    outputs = ops.matmul(rows, weights["kernel"])
    outputs = outputs + weights["bias"] if "bias" in weights else outputs
    return layers[0].activation(outputs)


def _join(parts: list):
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
