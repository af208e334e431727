"""Parts of task heads, which follow the last block: the bias of the logits, the head of a masked language model."""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer
from keras_attention.layers.normalization import LayerNormalization


@keras.saving.register_keras_serializable("keras_attention")
class OutputBias(BaseLayer):
    """Add a learned bias to each logit: output[v] = inputs[v] + b[v].

    Tied embeddings give logits without a bias; this layer adds one.

    Call arguments:
        inputs: (..., V).

    Output:
        (..., V).

    Example:
        >>> embedding = keras.layers.ReversibleEmbedding(11, 7)
        >>> outputs = embedding(keras.ops.array([[3, 1, 4]]))
        >>> tuple(OutputBias()(embedding(outputs, reverse=True)).shape)
        (1, 3, 11)
    """

    def build(self, inputs_shape) -> None:
        """Create the bias."""
        self.bias = self.add_weight(shape=(inputs_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs):
        """Compute the outputs; see the class docstring."""
        return inputs + self.bias

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return inputs_shape


@keras.saving.register_keras_serializable("keras_attention")
class MaskedLMHead(BaseLayer):
    """Transform the outputs of the last block before the output matrix, as in BERT: outputs = norm(f(W inputs + b)).

    Args:
        activation: the activation f.
        epsilon: epsilon of the layer normalization.
        kernel_initializer: initializer of W.

    Call arguments:
        inputs: (..., M).

    Output:
        (..., M).

    Raises:
        ValueError: `activation` or `kernel_initializer` is unknown.

    Example:
        >>> embedding = keras.layers.ReversibleEmbedding(11, 7)
        >>> outputs = MaskedLMHead()(embedding(keras.ops.array([[3, 1, 4]])))
        >>> tuple(embedding(outputs, reverse=True).shape)
        (1, 3, 11)

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.2.
    """

    def __init__(
        self, activation="gelu", epsilon: float = 1e-12, kernel_initializer="glorot_uniform", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.activation, self.epsilon = keras.activations.get(activation), epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.norm = LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, inputs_shape) -> None:
        """Create the weights."""
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
        """Compute the outputs; see the class docstring."""
        return self.norm(self.dense(inputs))

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return inputs_shape


def probabilities(logits):
    """Return softmax(logits) over the last axis, in float32 under every dtype policy.

    Args:
        logits: (..., classes).

    Returns:
        (..., classes) float32.

    Example:
        >>> [float(p) for p in probabilities(np.array([0.0, 0.0]))]
        [0.5, 0.5]
    """
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)
