"""Layer normalization."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_attention")
class LayerNormalization(keras.layers.LayerNormalization):
    """Layer normalization over the last axis: output = gamma (x - mean(x)) / sqrt(variance(x) + epsilon) + beta.

    Same result as `keras.layers.LayerNormalization`, with half as many operations.

    Args:
        epsilon: added to the variance.
        **kwargs: the arguments of `keras.layers.Layer`, and the initializers, regularizers and constraints of
            `keras.layers.LayerNormalization`; it has both weights, and its axis is the last one.

    Call arguments:
        inputs: (..., M).

    Output:
        (..., M).

    Example:
        >>> tuple(LayerNormalization()(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 5)

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450.
    """

    def call(self, inputs):
        """Compute the outputs; see the class docstring."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        gamma, beta = (ops.cast(weight, x.dtype) for weight in (self.gamma, self.beta))
        return ops.cast(centered * ops.rsqrt(variance + self.epsilon) * gamma + beta, self.compute_dtype)


def final_norm(epsilon: float | None, dtype) -> LayerNormalization | None:
    """Return the normalization after the last block of a stack; None for a stack without one, if `epsilon` is None."""
    return None if epsilon is None else LayerNormalization(epsilon=epsilon, dtype=dtype, name="norm")


def apply_norm(norm: LayerNormalization | None, x):
    """Return norm(x), or x if there is no normalization."""
    return x if norm is None else norm(x)
