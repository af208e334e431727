"""Adam, and learning-rate schedules: a warm-up, then a decay."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_attention.argument_checks import require, require_one_of
from keras_attention.training.plan import SCHEDULES


@keras.saving.register_keras_serializable("keras_attention")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that increases linearly to a peak over W steps, then decays until the last step.

    Steps count from 0. In the warm-up, the learning rate at step s is peak (s + 1) / W, so it is never zero. After the
    warm-up it is the peak times a factor. With p = (s - W) / (total_steps - W), clipped to [0, 1], the factor is

        "constant"        1
        "linear"          1 - p
        "cosine"          (1 + cos(pi p)) / 2
        "inverse_sqrt"    sqrt(W / s), independent of total_steps

    Args:
        peak: the highest learning rate.
        warmup_steps: W, at least 1.
        total_steps: the step at which the decay ends.
        schedule: name of the decay, as above.

    Raises:
        ValueError: the schedule is unknown, or W is below 1.

    Example:
        >>> float(WarmUp(1.0, warmup_steps=10, total_steps=100)(4))
        0.5

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762 (inverse square root);
    Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983 (cosine).
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, schedule: str = "cosine") -> None:
        require_one_of("schedule", schedule, SCHEDULES)
        require(warmup_steps >= 1, "warmup_steps", warmup_steps, "at least 1")
        self.peak, self.warmup_steps, self.total_steps, self.schedule = peak, warmup_steps, total_steps, schedule

    def __call__(self, step):
        step = ops.cast(step, "float32")
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
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


@keras.saving.register_keras_serializable("keras_attention")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with one operation per variable on TensorFlow, and a learning rate for each variable.

    Keras updates a variable with twelve operations. The results are the same, except for embeddings: their gradient is
    made dense, so that the rows of the same token are added before they are squared.

    Args:
        learning_rate: a number or a schedule.
        rate_factors: path of a variable -> factor of its learning rate, from `layer_factors`; the factor of other
            variables is 1. Or one factor per trained variable, in order, as in `get_config`: a loaded model may have
            other paths. The weight decay of a variable is multiplied by its learning rate.
        no_decay: variables whose path contains one of these strings have no weight decay.
        **kwargs: the other arguments of `keras.optimizers.Adam`.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
        >>> model.compile(Adam(1e-3, clipnorm=1.0), "mse")

    Reference: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        rate_factors: Mapping[str, float] | Sequence[float] | None = None,
        no_decay: Sequence[str] = (),
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.rate_factors = {} if rate_factors is None else rate_factors
        self.no_decay = list(no_decay)
        if self.no_decay:
            self.exclude_from_weight_decay(var_names=self.no_decay)

    def build(self, variables) -> None:
        """Create the moments; store for each variable the factor of its learning rate and whether it decays."""
        super().build(variables)
        self.factors = self._factors_of(variables)
        self.decays = [self.weight_decay is not None and self._use_weight_decay(variable) for variable in variables]

    def _factors_of(self, variables) -> list[float]:
        if isinstance(self.rate_factors, Mapping):
            factors = [self.rate_factors.get(variable.path) for variable in variables]
            is_used = not self.rate_factors or any(factor is not None for factor in factors)
            problem = "no trained variable of the model has one of the paths of `rate_factors`"
        else:
            factors, is_used = self.rate_factors, len(self.rate_factors) == len(variables)
            problem = (
                f"the optimizer has {len(self.rate_factors)} `rate_factors`, and the model {len(variables)} trained "
                "variables; expected the same number"
            )
        if not is_used:
            warnings.warn(f"The factors are not used: {problem}. Compile the model again.", stacklevel=4)
            return [1.0] * len(variables)
        return [1.0 if factor is None else float(factor) for factor in factors]

    def _apply_weight_decay(self, variables) -> None:
        """Do nothing: `update_step` applies the weight decay, because variables have different learning rates."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its moments."""
        index = self._get_variable_index(variable)
        learning_rate = learning_rate * self.factors[index]
        if self.decays[index]:
            shrink = ops.cast(learning_rate * self.weight_decay, variable.dtype)
            self.assign_sub(variable, ops.multiply(variable, shrink))
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        dtype = variable.dtype
        step, powers = ops.cast(self.iterations + 1, dtype), (ops.cast(x, dtype) for x in (self.beta_1, self.beta_2))
        beta1_power, beta2_power = (ops.power(power, step) for power in powers)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=ops.cast(learning_rate, dtype),
            beta1=ops.cast(self.beta_1, dtype),
            beta2=ops.cast(self.beta_2, dtype),
            epsilon=ops.cast(self.epsilon, dtype),
            grad=ops.cast(gradient, dtype),
        )

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        factors = self.factors if self.rate_factors and self.built else self.rate_factors
        return {**super().get_config(), "rate_factors": factors, "no_decay": self.no_decay}
