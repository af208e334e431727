"""`TrainingPlan`, the hyperparameters of training; the options of `keras-attention train` are made from it."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any, Literal, get_args

from keras_attention.argument_checks import (
    require,
    require_fraction,
    require_less_than_one,
    require_one_of,
    require_seed,
)
from keras_attention.data_size import DataSize
from keras_attention.defaults import training_defaults

Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]
SCHEDULES = get_args(Schedule)
Mode = Literal["min", "max"]
BleuTokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"]
# Metrics of Keras, of texts, of captions and of speech recognition.
_LOWER_IS_BETTER = {
    "loss", "perplexity", "cross_entropy", "crossentropy", "binary_crossentropy", "categorical_crossentropy",
    "sparse_categorical_crossentropy", "kl_divergence", "poisson", "hinge", "squared_hinge", "categorical_hinge",
    "logcosh", "mean_squared_error", "mse", "root_mean_squared_error", "mean_absolute_error", "mae",
    "mean_absolute_percentage_error", "mape", "mean_squared_logarithmic_error", "msle", "wer", "cer", "ter",
}  # fmt: skip
_HIGHER_IS_BETTER = {
    "accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
    "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy", "precision", "recall", "auc", "f1", "f1_score",
    "fbeta_score", "r2_score", "reward", "bleu", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf", "meteor", "rouge_l",
    "cider",
}  # fmt: skip
_PERFECT = {"accuracy": 1.0, "f1": 1.0, "bleu": 100.0, "chrf": 100.0}
_POSITIVE = (
    "epochs",
    "passes_per_epoch",
    "max_tokens",
    "learning_rate",
    "warmup_steps",
    "clip_norm",
    "patience",
    "average_checkpoints",
    "gradient_accumulation",
)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Hyperparameters of training.

    `TrainingPlan.for_data(model, examples)` computes the values from the size of the data.

    Args:
        epochs: maximum number of epochs; each epoch ends with validation and a checkpoint.
        passes_per_epoch: number of passes over the training data per epoch; validation runs once per epoch, so more
            passes mean fewer validations.
        max_tokens: maximum number of tokens in a batch, including padding.
        learning_rate: peak learning rate of Adam.
        schedule: learning-rate schedule after the warm-up.
        warmup_steps: number of updates in which the learning rate rises to its peak.
        label_smoothing: label smoothing, in [0, 1); 0 = off.
        clip_norm: maximum global norm of the gradients.
        weight_decay: weight decay, as in AdamW; 0 = off.
        r_drop: for a classifier or tagger, weight of R-Drop: an update computes each example twice, with different
            dropout, and adds the divergence of both predictions to the loss; 0 = off.
        layer_decay: layer-wise learning-rate decay: the learning rate of each block is this factor, such as 0.9,
            times that of the block after it; 1 = off.
        gradient_accumulation: number of batches per update; the loss is the mean over all their tokens.
        monitor: metric that selects the best model, such as val_loss or, for a tagger of entities, val_f1; by default
            that of the task.
        mode: whether lower (min) or higher (max) values of the metric are better; by default chosen by the name of the
            metric.
        bleu_tokenizer: tokenizer of sacreBLEU; by default chosen by the characters of the references (zh for
            Chinese).
        patience: number of epochs without improvement after which training stops. An improvement is a better metric,
            or an equal metric with a lower loss.
        average_checkpoints: average the weights of this number of last epochs; 1 = off. The average becomes the best
            model if its metric is better than that of the best epoch.
        seed: seed of the random order of the examples.

    Raises:
        TypeError: a value is not a number, or not an integer where an integer is expected.
        ValueError: a value is outside its range.

    Example:
        >>> TrainingPlan(epochs=7, monitor="val_bleu").patience
        10
    """

    epochs: int = 20
    passes_per_epoch: int = 1
    max_tokens: int = 4096
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    r_drop: float = 0.0
    layer_decay: float = 1.0
    gradient_accumulation: int = 1
    monitor: str | None = None
    mode: Mode | None = None
    bleu_tokenizer: BleuTokenizer | None = None
    patience: int = 10
    average_checkpoints: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            kind = {int: numbers.Integral, float: numbers.Real}.get(type(field.default), object)
            if not isinstance(value := getattr(self, field.name), kind):
                expected = "an integer" if kind is numbers.Integral else "a number"
                raise TypeError(f"`{field.name}` is {value!r}; expected {expected}, such as {field.default}.")
        for name in _POSITIVE:
            value = getattr(self, name)
            is_integer = isinstance(value, numbers.Integral)
            require(
                0 < value < math.inf, name, value, "a positive integer" if is_integer else "a finite number above 0"
            )
        require_less_than_one("label_smoothing", self.label_smoothing)
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a finite number, 0 or more")
        require(0 <= self.r_drop < math.inf, "r_drop", self.r_drop, "a finite number, 0 or more")
        require_fraction("layer_decay", self.layer_decay)
        require_one_of("schedule", self.schedule, SCHEDULES)
        for name, choices in (("mode", get_args(Mode)), ("bleu_tokenizer", get_args(BleuTokenizer))):
            if getattr(self, name) is not None:
                require_one_of(name, getattr(self, name), choices)
        require_seed(self.seed)
        if self.monitor == "reward" and self.average_checkpoints > 1:
            raise ValueError(
                "`average_checkpoints` cannot be used with the monitor 'reward', which is computed on captions that "
                "are sampled in training, and not for an average. Monitor a metric of validation data."
            )

    @classmethod
    def for_data(
        cls, model: Any, examples: Sequence, data_size: DataSize | None = None, **overrides: Any
    ) -> TrainingPlan:
        """Compute a plan from the size of the data, with the rules of `keras_attention.defaults`.

        Args:
            model: a task.
            examples: raw training examples of the task.
            data_size: their size; None to measure it.
            **overrides: fields that are set, such as `epochs=7`; the values of the other fields are computed from them.

        Returns:
            a `TrainingPlan`.

        Example:
            >>> pairs = [("so fine", "good"), ("so dull", "bad")] * 50
            >>> model = ka.TextClassifier.from_examples(pairs, tokenizer_kind="words")
            >>> plan = TrainingPlan.for_data(model, pairs, max_tokens=100)
            >>> plan.max_tokens, plan.warmup_steps < plan.epochs * plan.passes_per_epoch * 4
            (100, True)
        """
        return cls(**training_defaults(model, examples, data_size, **overrides))


def mode_of(monitor: str, mode: Mode | None = None, outputs: Sequence[str] = ()) -> Mode:
    """Return whether a lower ("min") or a higher ("max") value of a metric is better.

    Args:
        monitor: name of the metric, such as `val_bleu`.
        mode: the mode, if it is set; it is returned unchanged.
        outputs: names of the model's outputs, which Keras writes in front of the name of a metric.

    Raises:
        ValueError: the metric is not known and `mode` is None.

    Example:
        >>> mode_of("val_loss"), mode_of("val_bleu"), mode_of("val_error", "min")
        ('min', 'max', 'min')
    """
    name = monitor.removeprefix("val_")
    for output in outputs:
        name = name.removeprefix(f"{output}_")
    if mode is None and name not in _LOWER_IS_BETTER | _HIGHER_IS_BETTER:
        raise ValueError(
            f"The metric {monitor} is unknown, and `mode` is None; expected min if lower values are better, or max if "
            "higher values are better."
        )
    return mode or ("min" if name in _LOWER_IS_BETTER else "max")


def is_perfect(monitor: str, value: float) -> bool:
    """Return whether a value of a metric is the best possible one, such as an accuracy of 1.

    Example:
        >>> is_perfect("val_f1", 1.0), is_perfect("val_bleu", 1.0)
        (True, False)
    """
    return value >= _PERFECT.get(monitor.removeprefix("val_"), math.inf) * (1 - 1e-6)  # Keras rounds to float32
