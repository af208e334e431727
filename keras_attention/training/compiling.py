"""The optimizer, losses and metrics of training: the defaults of `Task.compile`, and those of a `TrainingPlan`."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_attention.metrics.tokens import MaskedAccuracy
from keras_attention.training.finetuning import layer_factors
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.optimizers import Adam, WarmUp
from keras_attention.training.plan import TrainingPlan


def compile_model(model: keras.Model, plan: TrainingPlan, steps_per_epoch: int) -> None:
    """Compile a model with a plan: Adam, gradient clipping, masked cross-entropy with label smoothing.

    Args:
        model: a model of this library.
        plan: the hyperparameters.
        steps_per_epoch: batches in an epoch; the schedule ends after `plan.epochs` epochs.

    Example:
        >>> model = ka.CausalLM.from_examples(["we eat bread"], tokenizer_kind="characters", units=12)
        >>> compile_model(model, ka.training.TrainingPlan(), steps_per_epoch=11)
        >>> isinstance(model.optimizer, keras.optimizers.Adam)
        True
    """
    optimizer = make_optimizer(model, plan, steps_per_epoch)
    model.compile(optimizer, losses(model, plan.label_smoothing), weighted_metrics=metrics(model), r_drop=plan.r_drop)


def adam(learning_rate: Any = 1e-3, clip_norm: float = 1.0, **options: Any) -> Adam:
    """Return Adam with the beta_2 and epsilon of the Transformer, which all training in this library uses.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 5.3.
    """
    return Adam(learning_rate, beta_2=0.98, epsilon=1e-9, global_clipnorm=clip_norm, **options)


def check_takes_logits(loss: Any, task: str) -> None:
    """Check that a loss takes logits; the losses of Keras expect probabilities by default.

    Raises:
        ValueError: the loss expects probabilities; the message says what to pass.
    """
    is_name = isinstance(loss, str) and loss != "auto"
    resolved = keras.losses.get(loss) if is_name or inspect.isclass(loss) else loss
    from_logits = inspect.signature(resolved).parameters.get("from_logits") if inspect.isfunction(resolved) else None
    if getattr(resolved, "from_logits", True) is False or (from_logits is not None and from_logits.default is False):
        raise ValueError(
            f"The loss {loss if is_name else getattr(resolved, 'name', resolved.__class__.__name__)!r} expects "
            f"probabilities, but a {task} returns logits. Leave out `loss`, or pass "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )


def losses(model: keras.Model, label_smoothing: float = 0.0) -> Any:
    """Return a `MaskedCrossEntropy` for each output of a model."""
    return keras.tree.map_structure(lambda _: MaskedCrossEntropy(label_smoothing), model.output)


def metrics(model: keras.Model) -> Any:
    """Return the list of one `MaskedAccuracy` for each output of a model."""
    return keras.tree.map_structure(lambda _: [MaskedAccuracy()], model.output)


def computed_names(model: keras.Model, validated: bool) -> list[str]:
    """Return the names of the values that Keras computes in an epoch, such as `val_loss`."""
    prefixes = [f"{name}_" for name in model.output] if isinstance(model.output, dict) else [""]
    names = sorted({"loss", *(prefix + name for prefix in prefixes for name in ("loss", "accuracy"))})
    return names + [f"val_{name}" for name in names] * validated


def make_optimizer(model: keras.Model, plan: TrainingPlan, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return Adam with the schedule of a plan, and with its weight decay and layer-wise rates, if any."""
    # Keras evaluates the schedule at each batch, even if an update accumulates the gradients of several batches.
    warmup, batches = plan.warmup_steps * plan.gradient_accumulation, plan.epochs * steps_per_epoch
    rate = WarmUp(plan.learning_rate, warmup, batches, plan.schedule)
    accumulation = plan.gradient_accumulation if plan.gradient_accumulation > 1 else None
    return adam(
        rate,
        plan.clip_norm,
        gradient_accumulation_steps=accumulation,
        rate_factors=None if plan.layer_decay == 1.0 else layer_factors(model, plan.layer_decay),
        weight_decay=plan.weight_decay or None,
        no_decay=("bias", "gamma", "beta"),
    )
