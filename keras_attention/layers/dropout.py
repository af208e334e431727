"""Dropout."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_attention")
class Dropout(keras.layers.Dropout):
    """The layer `keras.layers.Dropout`, faster on TensorFlow: it draws 16 random bits for a feature, not 32.

    Each feature is 0 with probability p, and divided by 1 - p otherwise. p is the rate, rounded to a multiple of
    1 / 65536.

    Args:
        rate: the probability.
        **kwargs: arguments of `keras.layers.Dropout`.

    Call arguments:
        inputs: any shape.
        training: whether dropout is active.

    Output:
        the shape of the inputs.

    Example:
        >>> tuple(Dropout(0.5)(keras.ops.ones((2, 3)), training=True).shape)
        (2, 3)

    Reference: Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html.
    """

    def function(self, training) -> Callable | None:
        """Return the function that applies dropout; None if dropout is not active, because nothing is dropped."""
        return functools.partial(self, training=True) if self.rate > 0 and training else None

    def call(self, inputs, training=False):
        """Compute the outputs; see the class docstring."""
        dropped = round(self.rate * 2**16)  # of 2^16 values
        is_plain = self.noise_shape is None and dropped not in (0, 2**16)
        if not training or keras.backend.backend() != "tensorflow" or not is_plain:
            return super().call(inputs, training)
        import tensorflow as tf

        count, seed = tf.size(inputs), tf.cast(self.seed_generator.next(), "int32")
        bits = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, "uint32")
        values = ops.reshape(ops.reshape(tf.bitcast(bits, "uint16"), (-1,))[:count], ops.shape(inputs))
        return ops.where(values >= tf.constant(dropped, "uint16"), inputs / (1 - dropped / 2**16), 0)
