"""Losses, in float32 under every dtype policy."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_attention.argument_checks import require_less_than_one
from keras_attention.metrics.tokens import flat_weights


@keras.saving.register_keras_serializable("keras_attention")
class MaskedCrossEntropy(keras.losses.Loss):
    """Cross-entropy with label smoothing, averaged over tokens with weights.

    With logits z, label y, V classes and smoothing e, the cost of a token is

        -log softmax(z)[y] * (1 - e)  -  e / V * sum_v log softmax(z)[v]

    and the loss is sum w cost / sum |w| over all tokens. w is the sample weight that the batches of
    `keras_attention.data` contain; it is 0 at padding. In another Keras model, w is also 0 where the implicit mask is
    False. `SelfCriticalBatches` uses negative weights, which lower the probability of a token.

    In a task of this library, the loss of an epoch is the mean over all its tokens, and the gradient of an update is
    that of the mean over the tokens of all its batches and replicas. In another Keras model, both are averages of the
    means of single batches, whatever their numbers of tokens.

    Args:
        label_smoothing: e, in [0, 1).
        name: the name of the loss in logs.

    Call arguments:
        y_true: (B, T) or (B,) int labels; a negative one, such as -1 or -100, has the weight 0.
        y_pred: (B, T, V) or (B, V) logits, in any float dtype.
        sample_weight: w, with the shape of `y_true`, or (B,), one weight per example; 0 at tokens to ignore. The
            default is 1.

    Output:
        a float32 scalar, in nats per token.

    Raises:
        ValueError: `label_smoothing` outside [0, 1).

    Example:
        >>> loss = MaskedCrossEntropy()
        >>> float(loss([[1]], [[[0.0, 0.0]]], sample_weight=[[1.0]]))
        0.6931471824645996

    Reference: Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "masked_cross_entropy") -> None:
        super().__init__(name=name, reduction=None, dtype="float32")
        require_less_than_one("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        cost, weight = self.sums(y_true, y_pred, sample_weight)
        return cost / ops.maximum(weight, keras.config.epsilon()) / num_replicas()

    def sums(self, y_true, y_pred, sample_weight=None):
        """Return sum w cost and sum |w| over all tokens; both can be added up over batches."""
        weights = flat_weights(y_true, y_pred, sample_weight)
        costs = ops.reshape(self.call(y_true, y_pred), (-1,))
        return ops.sum(ops.where(weights == 0, 0.0, costs * weights)), ops.sum(ops.abs(weights))

    def call(self, y_true, y_pred):
        """Return the cost of each token, (B, T) or (B,); see the class docstring."""
        logits = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        labels = ops.reshape(ops.cast(y_true, "int32"), ops.shape(logits)[:-1])
        return token_costs(logits, labels, self.label_smoothing)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def token_costs(logits, labels, label_smoothing: float = 0.0):
    """Compute the smoothed cross-entropy of each token; `MaskedCrossEntropy` has the formula.

    The gradient, softmax(z) - (1 - e) onehot(y) - e / V, is explicit, because the logits are the largest tensor of a
    training step and automatic differentiation would read them several times more.

    Args:
        logits: (..., V) float32.
        labels: (...) int32.
        label_smoothing: e.

    Returns:
        (...) float32 costs, in nats.
    """
    shape, vocabulary, smooth = ops.shape(labels), logits.shape[-1], label_smoothing
    labels = ops.reshape(labels, (-1,))
    labels = ops.maximum(labels, 0)  # a negative label has no weight

    @ops.custom_gradient
    def costs(logits):
        largest = ops.max(logits, axis=-1, keepdims=True, initial=-math.inf)
        powers = ops.exp(logits - largest)
        sums = ops.sum(powers, axis=-1, keepdims=True)
        label_logits = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)
        label_log_probs = label_logits - largest - ops.log(sums)
        uniform = smooth * (ops.mean(logits, axis=-1, keepdims=True) - label_logits) if smooth else 0.0

        def gradient(*arguments, upstream=None):
            upstream = ops.expand_dims(arguments[0] if upstream is None else upstream, -1)
            gradients = powers * (upstream / sums) - (smooth / vocabulary * upstream if smooth else 0.0)
            at_labels = (ops.exp(label_log_probs) - (1 - smooth) - smooth / vocabulary) * upstream
            indices = ops.stack([ops.arange(ops.shape(labels)[0], dtype="int32"), labels], axis=-1)
            return ops.scatter_update(gradients, indices, ops.squeeze(at_labels, -1))

        return -ops.squeeze(label_log_probs + uniform, -1), gradient

    return ops.reshape(costs(ops.reshape(logits, (-1, vocabulary))), shape)


def num_replicas() -> int:
    """Return the number of replicas of TensorFlow's distribution strategy; Keras sums their losses and gradients."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
