"""`fit_new_head`: the first stage of fine-tuning, for a classifier or tagger with a new head on a trained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.data.batches import RepeatedBatches
from keras_attention.defaults import trains_on_pairs
from keras_attention.training.compiling import make_optimizer
from keras_attention.training.finetuning import freeze
from keras_attention.training.losses import num_replicas
from keras_attention.training.plan import TrainingPlan
from keras_attention.training.progress import write_line

_MAX_EXAMPLES, _MAX_VECTORS, _REGRESSION_STEPS = 2000, 10_000, 300  # of the logistic regression
_HEAD_EPOCHS = 3  # of the head alone, after the encoder was trained on pairs


def fit_new_head(
    model: keras.Model, examples: Sequence[Any], *, verbose: bool = False, **overrides: Any
) -> TrainingPlan:
    """Fit the new head of a classifier or tagger, and return the plan of the training that follows.

    The gradients of a head with random weights damage the pre-trained encoder. Therefore the head is fitted first, by
    logistic regression; see `fit_head`. In a classifier of at most 1,000 single texts, a sentence encoder
    is fine-tuned on pairs of texts before that (see `fit_encoder`), and frozen afterwards, because training with
    cross-entropy makes its vectors worse. An encoder that is frozen or has LoRA matrices is not trained on pairs.

    Args:
        model: from `from_encoder`, or from `ka.weights.from_huggingface` with another task. Call `freeze` or
            `enable_lora` before.
        examples: raw training examples of the task.
        verbose: write a line about each part to standard error.
        **overrides: fields of the plans that are set; see `TrainingPlan.for_data`.

    Returns:
        the plan for `ka.train`.

    Raises:
        ValueError: the model has no labels.

    Example:
        >>> examples = [("we eat bread", "food"), ("we eat rice", "food"), ("they drink water", "drink")]
        >>> sizes = {"width": 14, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5, "pooling": "mean"}
        >>> model = ka.TextClassifier.from_examples(examples, "bert_base", tokenizer_kind="characters", **sizes)
        >>> plan = fit_new_head(model, examples, learning_rate=0.01, passes_per_epoch=1)
        >>> plan.epochs, plan.learning_rate, model.encoder.trainable_weights
        (3, 0.01, [])

    Reference: Tunstall et al., 2022, https://arxiv.org/abs/2209.11055 (SetFit); Kumar et al., 2022,
    https://arxiv.org/abs/2202.10054 (linear probing, then fine-tuning).
    """
    with_pairs = trains_on_pairs(model, examples)
    if with_pairs:
        plan = TrainingPlan.for_data(model, examples, **overrides)
        if verbose:
            passes, rate = plan.epochs * plan.passes_per_epoch, f"{plan.learning_rate:g}"
            write_line(
                f"The encoder is fine-tuned on pairs of texts first ({passes} passes, learning rate {rate}), then "
                "frozen."
            )
        fit_encoder(model, examples, plan)
        overrides = {"epochs": _HEAD_EPOCHS, **overrides}
    if verbose:
        write_line("The new head is fitted to the outputs of the encoder, by logistic regression.")
    fit_head(model, examples)
    if with_pairs:
        freeze(model)
    return TrainingPlan.for_data(model, examples, **overrides)


def fit_encoder(model: keras.Model, examples: Sequence[Any], plan: TrainingPlan) -> list[float]:
    """Fine-tune the encoder of a classifier on pairs of texts, so that texts with equal labels get similar vectors.

    The vector of a text is the input of the head, and the loss is that of `PairLoss`. A batch of 20 texts has 190
    pairs, so a few hundred examples are enough: the loss has more terms than a loss of the labels.

    Args:
        model: a `TextClassifier` whose encoder has trained weights.
        examples: raw examples of the task.
        plan: the hyperparameters.

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
    batches = model.make_batches(examples, plan.max_tokens, seed=plan.seed)
    data = RepeatedBatches(batches, plan.passes_per_epoch)
    encoder = keras.Model(model.input, model.get_layer("dropout").input)
    encoder.compile(make_optimizer(model, plan, len(data)), PairLoss())
    return encoder.fit(data, epochs=plan.epochs, shuffle=False, verbose=0).history["loss"]


class PairLoss(keras.losses.Loss):
    """Squared errors of the cosines of all pairs of vectors in a batch.

    With the cosine c_ij of the vectors of two examples i != j with the labels y_i and y_j, the loss is

        1/2 mean over pairs with y_i = y_j of (1 - c_ij)^2  +  1/2 mean over pairs with y_i != y_j of c_ij^2

    so that both kinds of pairs have the same total weight. Examples with a weight of zero are in no pair.

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
        # Divide by the length; a zero vector remains zero.
        vectors = vectors * ops.where(squares > 1e-12, ops.rsqrt(ops.maximum(squares, 1e-12)), 0.0)
        labels, count = ops.reshape(y_true, (-1, 1)), ops.shape(vectors)[0]
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
        errors = ops.square(same - ops.matmul(vectors, ops.transpose(vectors)))
        real = ops.ones((count, 1)) if sample_weight is None else ops.reshape(sample_weight, (-1, 1))
        real = ops.cast(ops.greater(real, 0), "float32")
        pairs = ops.matmul(real, ops.transpose(real)) * (1.0 - ops.eye(count))
        kinds = pairs * same, pairs * (1.0 - same)
        means = [ops.divide_no_nan(ops.sum(errors * kind), ops.sum(kind)) for kind in kinds]
        return 0.5 * (means[0] + means[1]) / num_replicas()


def fit_head(model: keras.Model, examples: Sequence[Any]) -> None:
    """Fit the head of a classifier or tagger by logistic regression on the outputs of its encoder.

    The weights W, b of the head minimize the sum of -log softmax(W x + b)[label] plus |W|^2 / 4; the vectors x
    are the inputs of the head, divided by their mean L2 norm. At most 2,000 examples are used, chosen at random; of a
    tagger, at most 10,000 words.

    Args:
        model: a `TextClassifier` or `TextTagger`.
        examples: raw examples of the task.

    Raises:
        ValueError: the model has no labels.

    Example:
        >>> examples = [("we eat bread", "food"), ("they drink water", "drink")]
        >>> config = {"width": 14, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5, "pooling": "mean"}
        >>> model = ka.TextClassifier.from_examples(examples, "bert_base", tokenizer_kind="characters", **config)
        >>> fit_head(model, examples)
        >>> [output.label for output in model.classify(["we eat bread", "they drink water"])]
        ['food', 'drink']

    Reference: Kumar et al., 2022, https://arxiv.org/abs/2202.10054 (linear probing, then fine-tuning).
    """
    if not model.labels:
        raise ValueError(f"A {type(model).__name__} has no labels; expected a TextClassifier or a TextTagger.")
    rng = np.random.default_rng(0)
    batches = model.make_batches([examples[i] for i in rng.permutation(len(examples))[:_MAX_EXAMPLES]], shuffle=False)
    encoder = keras.Model(model.input, model.head.input)
    vectors, labels = [], []
    for inputs, label_ids, weights in map(batches.__getitem__, range(len(batches))):
        vectors.append(encoder.predict_on_batch(inputs)[weights > 0].astype("float32"))
        labels.append(label_ids[weights > 0])
    chosen = rng.permutation(sum(map(len, labels)))[:_MAX_VECTORS]
    x, y = np.concatenate(vectors)[chosen], np.concatenate(labels)[chosen]
    model.head.set_weights(_logistic_regression(x, y, len(model.labels)))


def _logistic_regression(vectors: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and the biases of a logistic regression, by Nesterov's accelerated gradient descent."""
    scale = np.linalg.norm(vectors, axis=1).mean() or 1.0  # 1 if all vectors are 0
    one_hot = np.eye(num_classes, dtype="float32")[labels]
    inputs = np.concatenate([vectors / scale, np.ones((len(vectors), 1), "float32")], axis=1)
    penalty = np.full((inputs.shape[1], 1), 0.5 / len(inputs), "float32")
    penalty[-1] = 0.0  # no penalty of the biases
    rate = 1 / (0.5 * np.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[-1] + penalty.max())
    weights = ahead = np.zeros((inputs.shape[1], num_classes), "float32")
    for step in range(_REGRESSION_STEPS):
        logits = inputs @ ahead
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        errors = powers / powers.sum(axis=1, keepdims=True) - one_hot
        updated = ahead - rate * (inputs.T @ errors / len(inputs) + penalty * ahead)
        weights, ahead = updated, updated + step / (step + 3) * (updated - weights)
    return weights[:-1] / scale, weights[-1]
