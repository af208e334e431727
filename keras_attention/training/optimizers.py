"""Learning-rate schedules: a warm-up, then one of the usual decays."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_attention.training.plan import SCHEDULES


@keras.saving.register_keras_serializable("keras_attention")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to a peak over W steps, then decays until step N.

    Steps count from 0; the rate at step s of the warm-up is (s + 1) / W of the peak, so that the first update is not
    zero. With p = (step - W) / (N - W), clipped to [0, 1], the factor after the warm-up is 1
    (`"constant"`), 1 - p (`"linear"`), (1 + cos(pi p)) / 2 (`"cosine"`) or sqrt(W / step)
    (`"inverse_sqrt"`, which does not depend on N).

    Args:
        peak: the highest learning rate.
        warmup_steps: W, at least 1.
        total_steps: N, the step at which the decay ends.
        schedule: the decay.

    Raises:
        ValueError: an unknown schedule, or W below 1.

    Example:
        >>> float(WarmUp(1.0, warmup_steps=10, total_steps=100)(4))
        0.5

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (inverse square root);
    Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983 (cosine).
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, schedule: str = "cosine") -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"`schedule` is {schedule!r}; expected one of {', '.join(SCHEDULES)}.")
        if warmup_steps < 1:
            raise ValueError(f"`warmup_steps` is {warmup_steps}; expected at least 1.")
        self.peak, self.warmup_steps, self.total_steps, self.schedule = peak, warmup_steps, total_steps, schedule

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rest = max(self.total_steps - self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / rest, 0.0, 1.0)
        if self.schedule == "linear":
            factor = 1.0 - progress
        elif self.schedule == "cosine":
            factor = 0.5 * (1.0 + ops.cos(math.pi * progress))
        elif self.schedule == "inverse_sqrt":
            factor = ops.sqrt(self.warmup_steps / ops.maximum(step, float(self.warmup_steps)))
        else:
            factor = ops.ones_like(progress)
        return self.peak * ops.minimum((step + 1.0) / self.warmup_steps, 1.0) * factor

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "schedule": self.schedule,
        }
