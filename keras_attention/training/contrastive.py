"""Contrastive fine-tuning: the encoder of a classifier learns from pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attention.data.batches import RepeatedBatches
from keras_attention.training.compiling import make_optimizer
from keras_attention.training.losses import num_replicas
from keras_attention.training.plan import TrainingPlan


class PairLoss(keras.losses.Loss):
    """Squared errors of the cosines of all pairs of vectors in a batch.

    With the cosine c_ij of the vectors of two examples i != j with the labels y_i and y_j, the loss is

        1/2 mean over pairs with y_i = y_j of (1 - c_ij)^2  +  1/2 mean over pairs with y_i != y_j of c_ij^2

    so that both kinds of pairs count the same. Examples with a weight of zero have no pairs.

    Call arguments:
        y_true: labels (B,) or (B, 1) int.
        y_pred: vectors (B, M).
        sample_weight: weights (B,); None for 1.

    Output:
        the loss, a float32 scalar.

    Example:
        >>> float(PairLoss()([0, 0, 1], [[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]]))  # 1/2 (3/5)^2
        0.18000000715255737

    Reference: Tunstall et al., 2022, https://arxiv.org/abs/2209.11055 (SetFit).
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        vectors = ops.cast(y_pred, "float32")
        squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        vectors = vectors * ops.where(squares > 1e-12, ops.rsqrt(ops.maximum(squares, 1e-12)), 0.0)  # of zero: zero
        labels, count = ops.reshape(y_true, (-1, 1)), ops.shape(vectors)[0]
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
        errors = ops.square(same - ops.matmul(vectors, ops.transpose(vectors)))
        real = ops.ones((count, 1)) if sample_weight is None else ops.reshape(sample_weight, (-1, 1))
        real = ops.cast(ops.greater(real, 0), "float32")
        pairs = ops.matmul(real, ops.transpose(real)) * (1.0 - ops.eye(count))
        kinds = pairs * same, pairs * (1.0 - same)
        means = [ops.divide_no_nan(ops.sum(errors * kind), ops.sum(kind)) for kind in kinds]
        return 0.5 * (means[0] + means[1]) / num_replicas()


def fit_encoder(model: keras.Model, examples: Sequence[Any], plan: TrainingPlan | None = None) -> list[float]:
    """Fine-tune the encoder of a classifier on pairs of texts: those with equal labels get similar vectors.

    The vector of a text is the input of the head, and the loss is that of `PairLoss`. A batch of 20 texts has 190
    pairs, so a few hundred examples are enough. Then fit the head with `fit_head`, and freeze the encoder with
    `freeze`, because cross-entropy would make the vectors worse again.

    Args:
        model: a `TextClassifier` whose encoder has trained weights.
        examples: raw examples of the task.
        plan: the hyperparameters; by default `TrainingPlan.for_data(model, examples)`.

    Returns:
        the loss of each epoch.

    Raises:
        ValueError: the model is not a classifier.

    Example:
        >>> examples = [("we eat bread", "food"), ("we eat rice", "food"), ("they drink water", "drink")]
        >>> sizes = {"width": 14, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5}
        >>> model = ka.TextClassifier.from_examples(examples, "bert_base", tokenizer_kind="characters", **sizes)
        >>> len(fit_encoder(model, examples, ka.training.TrainingPlan(epochs=2)))
        2

    Reference: Tunstall et al., 2022, https://arxiv.org/abs/2209.11055 (SetFit).
    """
    if model.spec.predict_method != "classify":
        raise ValueError(f"A {type(model).__name__} has no labels of whole texts; expected a TextClassifier.")
    plan = plan or TrainingPlan.for_data(model, examples)
    batches = model.make_batches(examples, plan.max_tokens, seed=plan.seed)
    data = RepeatedBatches(batches, plan.passes_per_epoch)
    encoder = keras.Model(model.input, model.get_layer("dropout").input)
    encoder.compile(make_optimizer(model, plan, len(data)), PairLoss())
    return encoder.fit(data, epochs=plan.epochs, shuffle=False, verbose=0).history["loss"]
