"""`TrainingPlan`, the hyperparameters of training; the options of `keras-attention train` are made from it."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]
SCHEDULES = get_args(Schedule)
_POSITIVE = (
    "epochs",
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
    """Hyperparameters of training; the defaults suit a small recurrent network.

    Args:
        epochs: maximum number of epochs.
        max_tokens: maximum number of tokens in a batch, padding included.
        learning_rate: peak learning rate of Adam.
        schedule: decay of the learning rate after the warm-up.
        warmup_steps: updates until the learning rate reaches its peak.
        label_smoothing: label smoothing, in [0, 1).
        clip_norm: maximum global norm of the gradients.
        weight_decay: weight decay, as in AdamW.
        layer_decay: factor of the learning rate from each block to the block below it; 1 for equal learning rates.
        gradient_accumulation: number of batches per update; their gradients are averaged.
        monitor: metric that selects the best model. By default val_bleu (translator, captioner), val_accuracy
            (classifier, tagger) or val_loss (the others).
        patience: epochs without an improvement before training stops.
        average_checkpoints: average the weights of the last N epochs; the average is saved if it scores better.
        seed: seed of the random order of the examples.

    Raises:
        ValueError: a value is outside its range.

    Example:
        >>> TrainingPlan(epochs=7, monitor="val_bleu").patience
        10
    """

    epochs: int = 20
    max_tokens: int = 4096
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    gradient_accumulation: int = 1
    monitor: str | None = None
    patience: int = 10
    average_checkpoints: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a finite number above 0.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {self.label_smoothing}; expected a number in [0, 1).")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"`weight_decay` is {self.weight_decay}; expected a finite number, 0 or more.")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` is {self.layer_decay}; expected a number in (0, 1].")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"`schedule` is {self.schedule!r}; expected one of {', '.join(SCHEDULES)}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` is {self.seed}; expected 0 to {2**32 - 1}.")
        if self.monitor == "reward" and self.average_checkpoints > 1:
            raise ValueError(
                "`average_checkpoints` cannot be used with the monitor 'reward', which is computed on captions that "
                "are sampled in training, and not for an average. Monitor a metric of validation data."
            )


def smaller_is_better(metric: str) -> bool:
    """Return whether a smaller value of a metric is better: true for a loss and a perplexity."""
    return metric.endswith(("loss", "perplexity"))
