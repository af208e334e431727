"""Compile a model for a `TrainingPlan`: optimizer, schedule, loss and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_attention.metrics.tokens import MaskedAccuracy
from keras_attention.training.finetuning import EMBEDDING_PATHS, LayerwiseAdam
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.optimizers import WarmUp
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
    model.compile(
        _optimizer(model, plan, steps_per_epoch),
        _per_output(model, lambda: MaskedCrossEntropy(plan.label_smoothing)),
        weighted_metrics=_per_output(model, lambda: [MaskedAccuracy()]),
    )


def computed_names(model: keras.Model, validated: bool) -> list[str]:
    """Return the names of the values that Keras computes in an epoch, such as `val_loss`."""
    prefixes = [f"{name}_" for name in _output_names(model)] or [""]
    names = sorted({"loss", *(prefix + name for prefix in prefixes for name in ("loss", "accuracy"))})
    return names + [f"val_{name}" for name in names] * validated


def _optimizer(model: keras.Model, plan: TrainingPlan, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    # Keras evaluates the schedule at the number of batches, even if several batches make one update.
    warmup, batches = plan.warmup_steps * plan.gradient_accumulation, plan.epochs * steps_per_epoch
    options = {
        "learning_rate": WarmUp(plan.learning_rate, warmup, batches, plan.schedule),
        "beta_2": 0.98,
        "epsilon": 1e-9,
        "global_clipnorm": plan.clip_norm,
        "gradient_accumulation_steps": plan.gradient_accumulation if plan.gradient_accumulation > 1 else None,
    }
    if plan.layer_decay == 1.0 and not plan.weight_decay:
        return keras.optimizers.Adam(**options)
    # The variable paths of an image encoder do not start with the name of the captioner.
    image_encoder = (
        [variable.path for variable in model.image_encoder.weights] if hasattr(model, "image_encoder") else []
    )
    optimizer = LayerwiseAdam(
        layer_decay=plan.layer_decay,
        num_layers=model.config.num_layers,
        inputs=(*EMBEDDING_PATHS, *image_encoder),
        weight_decay=plan.weight_decay,
        **options,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _output_names(model: keras.Model) -> list[str]:
    """Return the names of a model's outputs; an empty list if the model has one output."""
    outputs = getattr(model, "output", None)
    return list(outputs) if isinstance(outputs, dict) else []


def _per_output(model: keras.Model, make: Callable[[], Any]) -> Any:
    """Return `make()` for a model with one output, or output name -> `make()` for several."""
    names = _output_names(model)
    return {name: make() for name in names} if names else make()
