"""What stands after the last block and before the logits."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("keras_attention")
class OutputBias(keras.layers.Layer):
    """Add a learned number to each logit: output[v] = inputs[v] + b[v].

    Call arguments:
        inputs: (..., V).

    Output:
        (..., V).

    Example:
        >>> tuple(OutputBias()(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 5)
    """

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.bias = self.add_weight(shape=(inputs_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs):
        """Compute the output; the class describes arguments and shapes."""
        return inputs + self.bias


@keras.saving.register_keras_serializable("keras_attention")
class MaskedLMHead(keras.layers.Layer):
    """What BERT does before it compares with the embeddings: norm(f(W x + b)).

    Args:
        activation: f.
        epsilon: of the normalisation.
        kernel_initializer: of W.

    Call arguments:
        inputs: (..., M).

    Output:
        (..., M).

    Example:
        >>> tuple(MaskedLMHead()(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 5)

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.2.
    """

    def __init__(
        self, activation="gelu", epsilon: float = 1e-12, kernel_initializer="glorot_uniform", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.activation, self.epsilon = keras.activations.get(activation), epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.dense = keras.layers.Dense(
            inputs_shape[-1],
            self.activation,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build(inputs_shape)
        self.norm.build(inputs_shape)

    def call(self, inputs):
        """Compute the output; the class describes arguments and shapes."""
        return self.norm(self.dense(inputs))

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
