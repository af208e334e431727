"""Train a task on raw examples or batches with `compile` and `fit` of Keras; `Task` has these methods."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_attention.data.weights import ClassWeight, WeightedBatches
from keras_attention.models import token_loss


def compile(
    self: Any, optimizer: Any = "auto", loss: Any = "auto", *, weighted_metrics: Any = "auto", **options: Any
) -> None:
    """Configure training; see `keras.Model.compile`. The defaults fit this task.

    Args:
        optimizer: by default Adam with a learning rate of 0.001 and clipped gradients.
        loss: by default `MaskedCrossEntropy` for each output.
        weighted_metrics: by default, if `loss` is the default too, `MaskedAccuracy` for each output.
        **options: the other arguments of `keras.Model.compile`.
    """
    from keras_attention.training import compiling

    if weighted_metrics == "auto":
        weighted_metrics = compiling.metrics(self) if loss == "auto" else None
    loss = compiling.losses(self) if loss == "auto" else loss
    optimizer = compiling.adam() if optimizer == "auto" else optimizer
    keras.Model.compile(self, optimizer, loss, weighted_metrics=weighted_metrics, **options)
    token_loss.count_tokens(self, loss, options.get("loss_weights"))


def compile_from_config(self: Any, config: dict) -> None:
    """Compile with the configuration of a saved model."""
    self.compile(**keras.saving.deserialize_keras_object(config))
    self.optimizer.build(self.trainable_variables)


def fit(
    self: Any,
    x: Any = None,
    y: Any = None,
    *args: Any,
    validation_data: Any = None,
    class_weight: ClassWeight | None = None,
    sample_weight: Any = None,
    **options: Any,
):
    """Train on raw examples or on batches; see `keras.Model.fit`.

    Args:
        x: raw examples, such as pairs of strings, as a list or a tuple; or batches, from `make_batches` or
            `keras_attention.data`.
        y: None for examples and batches; see `keras.Model.fit`.
        *args: further positional arguments of `keras.Model.fit`.
        validation_data: raw examples or batches.
        class_weight: for a classifier or tagger, name or id of a class -> its weight in the loss and metrics; or
            `"balanced"`, with which all classes count the same.
        sample_weight: one weight for each raw example, or each example of batches from `keras_attention.data`.
        **options: the other arguments of `keras.Model.fit`, such as `epochs`.

    Raises:
        ValueError: there are no examples, `batch_size` is set for raw examples, or weights do not fit.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> tokenizer = ka.data.train_tokenizer([text for pair in pairs for text in pair], "characters")
        >>> model = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> model.compile()
        >>> sorted(model.fit(pairs, validation_data=pairs, verbose=0).history)
        ['accuracy', 'loss', 'val_accuracy', 'val_loss']
    """
    if are_raw(x):
        if args or options.get("batch_size") is not None:
            raise ValueError(
                "`batch_size` does not apply to raw examples, because their batches are limited by tokens. Pass "
                "`model.make_batches(examples, max_tokens=...)` to set the limit."
            )
        x = self.make_batches(x)
    if are_raw(validation_data):
        validation_data = self.make_batches(validation_data, shuffle=False)
    weights = {"class_weight": class_weight, "sample_weight": sample_weight}
    if isinstance(x, keras.utils.PyDataset) and not (class_weight is None and sample_weight is None):
        x, weights = WeightedBatches(x, labels=self.labels, **weights), {}
    return keras.Model.fit(self, x, y, *args, validation_data=validation_data, **weights, **options)


def are_raw(data: Any) -> bool:
    """Return whether data for `fit` are raw examples: a list or tuple without arrays, tensors or dicts."""
    if not isinstance(data, (list, tuple)):
        return False
    arrays = (dict, np.ndarray)
    return not any(isinstance(part, arrays) or keras.ops.is_tensor(part) for part in data)
