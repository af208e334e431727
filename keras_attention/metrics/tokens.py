"""Metrics over the tokens whose weight is not 0."""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import missing_method
from keras_attention.layers.masks import implicit_mask


def flat_labels(y_true, y_pred):
    """Return the labels as (n,) int32, 0 for negative ones, and the logits as (n, V) float32, for n tokens."""
    logits = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    return ops.maximum(ops.reshape(ops.cast(y_true, "int32"), (-1,)), 0), ops.reshape(
        logits, (-1, ops.shape(logits)[-1])
    )


def flat_weights(y_true, y_pred, sample_weight=None):
    """Return the weight of each token, (n,) float32: its sample weight, or 0 where Keras' implicit mask is False.

    A negative label has no weight, as Keras' `ignore_class=-1` and the -100 of Hugging Face.

    Args:
        y_true: (B,) or (B, T) int, labels.
        y_pred: (B, V) or (B, T, V) logits; `Embedding(mask_zero=True)` and other layers attach a mask to them.
        sample_weight: (B,) or (B, T), the weights of rows or tokens; None for 1.

    Example:
        >>> weights = flat_weights([[4, 0, -1], [0] * 3], keras.ops.zeros((2, 3, 5)), [1.0, 0.5])
        >>> keras.ops.convert_to_numpy(weights).tolist()
        [1.0, 1.0, 0.0, 0.5, 0.5, 0.5]
    """
    labels = ops.reshape(ops.convert_to_tensor(y_true), ops.shape(ops.convert_to_tensor(y_pred))[:-1])
    return ops.reshape(label_weights(labels, sample_weight, implicit_mask(y_pred)), (-1,))


def label_weights(labels, *factors):
    """Return the product of factors for each label, or 0 for a negative label.

    Args:
        labels: (B,) or (B, T) int or bool.
        *factors: each (B,) or (B, T), or None for 1.

    Returns:
        float32, with the shape of the labels.

    Example:
        >>> keras.ops.convert_to_numpy(label_weights([[4, 0], [2, -1]], [1.0, 0.5])).tolist()
        [[1.0, 1.0], [0.5, 0.0]]
    """
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")  # bool cannot be compared with 0
    weights = ops.cast(labels >= 0, "float32")
    for factor in factors:
        if factor is not None:
            factor = ops.cast(ops.convert_to_tensor(factor), "float32")
            missing = len(labels.shape) - len(factor.shape)
            weights = weights * ops.reshape(factor, (*ops.shape(factor), *[1] * missing))
    return weights


class _TokenMean(keras.metrics.Mean):
    """The mean of a value over tokens, sum |w| value / sum |w| over all batches; Keras would divide by the length."""

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Add a batch.

        Args:
            y_true: (...) int, labels.
            y_pred: (..., V), logits. Keras' implicit mask is used, if there is one.
            sample_weight: (...), the weight w of each token, or (B,), of each row; None for 1.
        """
        weights = ops.abs(flat_weights(y_true, y_pred, sample_weight))
        values = self.token_values(*flat_labels(y_true, y_pred))
        super().update_state(ops.where(weights == 0, 0.0, values), weights)

    def token_values(self, labels, logits):
        """Return the value of each token, (n,), from labels (n,) and logits (n, V)."""
        raise missing_method(self, "token_values")


@keras.saving.register_keras_serializable("keras_attention")
class MaskedAccuracy(_TokenMean):
    """Accuracy per token; tokens with sample weight 0, such as padding, are not counted.

        accuracy = sum |w| [argmax logits = label] / sum |w|

    Args:
        name: the name in logs.
        **kwargs: arguments of `keras.metrics.Mean`.

    Example:
        >>> metric = MaskedAccuracy()
        >>> metric.update_state([[1, 0]], [[[0.0, 2.0], [0.0, 2.0]]], sample_weight=[[1.0, 0.0]])
        >>> float(metric.result())
        1.0
    """

    _direction = "up"  # for the callbacks of Keras

    def __init__(self, name: str = "accuracy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def token_values(self, labels, logits):
        """Return 1 for a correct token, otherwise 0."""
        best = ops.top_k(logits, 1)[1][:, 0]  # `ops.argmax` takes three times as long on TensorFlow
        return ops.cast(ops.equal(ops.cast(best, "int32"), labels), "float32")


@keras.saving.register_keras_serializable("keras_attention")
class Perplexity(_TokenMean):
    """Perplexity: exp of the cross-entropy per token.

        perplexity = exp(sum |w| (-log p(label)) / sum |w|)

    Args:
        name: the name in logs.
        **kwargs: arguments of `keras.metrics.Mean`.

    Example:
        >>> metric = Perplexity()
        >>> metric.update_state([[1]], [[[0.0, 0.0]]], sample_weight=[[1.0]])
        >>> round(float(metric.result()), 4), round(float(metric.cross_entropy()), 4)
        (2.0, 0.6931)
    """

    _direction = "down"

    def __init__(self, name: str = "perplexity", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def token_values(self, labels, logits):
        """Return -log p(label)."""
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def cross_entropy(self):
        """Return the cross-entropy per token, in nats, of all batches since the last reset."""
        return super().result()

    def result(self):
        """Return the perplexity of all batches since the last reset."""
        return ops.exp(self.cross_entropy())
