"""Losses, in float32 under every dtype policy."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_attention")
class MaskedCrossEntropy(keras.losses.Loss):
    """Cross-entropy with label smoothing, averaged over tokens with weights.

    With logits z, label y, V classes and smoothing e, the cost of a token is

        -log softmax(z)[y] * (1 - e)  -  e / V * sum_v log softmax(z)[v]

    and the loss is sum w cost / sum |w| over all tokens. The batches of `keras_attention.data` pass w to `fit` as
    the sample weight, which is 0 at padding. `SelfCriticalBatches` uses negative weights: they lower the probability of
    a token.

    Args:
        label_smoothing: e, in [0, 1).

    Call arguments:
        y_true: (B, T) or (B,) int labels.
        y_pred: (B, T, V) or (B, V) logits, in any float dtype.
        sample_weight: w, with the shape of `y_true`; 0 at tokens to ignore. The default is 1.

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
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {label_smoothing}; expected a number in [0, 1).")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        costs = self.call(y_true, y_pred)
        weights = ops.ones_like(costs) if sample_weight is None else ops.cast(sample_weight, "float32")
        return ops.sum(costs * weights) / ops.maximum(ops.sum(ops.abs(weights)), keras.config.epsilon())

    def call(self, y_true, y_pred):
        """Compute the output; the class describes arguments and shapes."""
        return token_costs(ops.cast(y_pred, "float32"), ops.cast(y_true, "int32"), self.label_smoothing)

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
    smooth, vocabulary = label_smoothing, logits.shape[-1]

    @ops.custom_gradient
    def costs(logits):
        total = ops.logsumexp(logits, axis=-1)
        label_logits = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1), -1)
        expected = (1 - smooth) * label_logits + (smooth * ops.mean(logits, axis=-1) if smooth else 0.0)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            probabilities = ops.exp(logits - ops.expand_dims(total, -1))
            targets = (1 - smooth) * ops.one_hot(labels, vocabulary, dtype=logits.dtype) + smooth / vocabulary
            return (probabilities - targets) * ops.expand_dims(upstream, -1)

        return total - expected, gradient

    return costs(logits)
