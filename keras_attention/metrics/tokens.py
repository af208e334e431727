"""Metrics over the tokens whose sample weight is not 0."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_attention")
class MaskedAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy per token; tokens with the sample weight 0, such as padding, do not count.

        accuracy = sum |w| [argmax logits = label] / sum |w|

    Args:
        name: the name in logs.
        **kwargs: arguments of `keras.metrics.SparseCategoricalAccuracy`.

    Example:
        >>> metric = MaskedAccuracy()
        >>> metric.update_state([[1, 0]], [[[0.0, 2.0], [0.0, 2.0]]], sample_weight=[[1.0, 0.0]])
        >>> float(metric.result())
        1.0
    """

    def __init__(self, name: str = "accuracy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Add a batch.

        Args:
            y_true: (..., ) int, labels.
            y_pred: (..., V), logits.
            sample_weight: (..., ), the weight w of each token; None for 1.
        """
        super().update_state(y_true, y_pred, None if sample_weight is None else ops.abs(sample_weight))


@keras.saving.register_keras_serializable("keras_attention")
class Perplexity(keras.metrics.Mean):
    """Perplexity: exp of the weighted mean of the negative log-likelihood per token.

        perplexity = exp(sum w (-log p(label)) / sum w)

    Args:
        name: the name in logs.
        **kwargs: arguments of `keras.metrics.Mean`.

    Example:
        >>> metric = Perplexity()
        >>> metric.update_state([[1]], [[[0.0, 0.0]]], sample_weight=[[1.0]])
        >>> round(float(metric.result()), 4)
        2.0
    """

    def __init__(self, name: str = "perplexity", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Add a batch.

        Args:
            y_true: (..., ) int, labels.
            y_pred: (..., V), logits.
            sample_weight: (..., ), the weight w of each token; None for 1.
        """
        labels, logits = ops.cast(y_true, "int32"), ops.cast(y_pred, "float32")
        cost = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        super().update_state(cost, sample_weight=sample_weight)

    def result(self):
        """Return the perplexity of all batches since the last reset."""
        return ops.exp(super().result())
