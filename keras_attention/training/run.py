"""One training run in one directory: the best model, a checkpoint to resume from, its curves."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_attention.metrics.tokens import MaskedAccuracy
from keras_attention.training.checkpoints import average_weights
from keras_attention.training.finetuning import INPUTS, LayerwiseAdam
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.optimizers import SCHEDULES, WarmUp
from keras_attention.training.run_state import RunState


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How to train; the defaults suit a small recurrent network.

    Args:
        epochs: the most passes over the data.
        learning_rate: the peak, for Adam.
        schedule: see `WarmUp`.
        warmup_steps: updates until the peak.
        label_smoothing: see `MaskedCrossEntropy`.
        clip_norm: the largest norm of all gradients together.
        monitor: the value that selects the best model, such as `"val_bleu"`; smaller is better if its
            name ends in loss or perplexity. By default `"val_loss"`, or `"loss"` without validation.
        patience: epochs without a better value until training stops.
        average: how many of the last epochs' weights to average at the end; 1 averages none. The
            average is kept if it is better.
        gradient_accumulation: batches whose gradients are averaged for one update.
        weight_decay: how much each weight shrinks per update, times the learning rate.
        layer_decay: the learning rate of each block over that of the next; see `LayerwiseAdam`.

    Raises:
        ValueError: a value outside its range.
    """

    epochs: int = 20
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    monitor: str | None = None
    patience: int = 10
    average_checkpoints: int = 1
    gradient_accumulation: int = 1
    weight_decay: float = 0.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "learning_rate",
            "warmup_steps",
            "clip_norm",
            "patience",
            "average_checkpoints",
            "gradient_accumulation",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected more than 0, and finite.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {self.label_smoothing}; expected a number in [0, 1).")
        if not (0 < self.layer_decay <= 1 and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                f"`layer_decay` is {self.layer_decay} and `weight_decay` {self.weight_decay}; expected a number in "
                "(0, 1] and one that is not negative."
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"`schedule` is {self.schedule!r}; expected one of {', '.join(SCHEDULES)}.")


def compile_model(model: keras.Model, plan: TrainingPlan, steps_per_epoch: int) -> None:
    """Compile a model as the plan says: Adam, clipped gradients, masked smoothed cross-entropy."""
    warmup, batches = plan.warmup_steps * plan.gradient_accumulation, plan.epochs * steps_per_epoch
    options = {
        # Keras reads the schedule at the number of batches, however many of them make an update.
        "learning_rate": WarmUp(plan.learning_rate, warmup, batches, plan.schedule),
        "beta_2": 0.98,
        "epsilon": 1e-9,
        "global_clipnorm": plan.clip_norm,
        "gradient_accumulation_steps": plan.gradient_accumulation if plan.gradient_accumulation > 1 else None,
    }
    if plan.layer_decay == 1.0 and not plan.weight_decay:
        optimizer = keras.optimizers.Adam(**options)
    else:
        layers = getattr(model.config, "num_layers", 1)
        optimizer = LayerwiseAdam(
            layer_decay=plan.layer_decay,
            num_layers=layers,
            inputs=(*INPUTS, *_seeing(model)),
            weight_decay=plan.weight_decay,
            **options,
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    outputs = list(model.output) if isinstance(getattr(model, "output", None), dict) else None
    model.compile(
        optimizer,
        _for_each(outputs, lambda: MaskedCrossEntropy(plan.label_smoothing)),
        weighted_metrics=_for_each(outputs, lambda: [MaskedAccuracy()]),
    )


def _seeing(model: keras.Model) -> list[str]:
    """The paths of the network that sees, which Keras names as if it stood alone."""
    return [variable.path for variable in model.vision.weights] if hasattr(model, "vision") else []


def _computed(model: keras.Model, validated: bool) -> list[str]:
    """The names of what an epoch of a compiled model says."""
    outputs = [f"{name}_" for name in model.output] if isinstance(getattr(model, "output", None), dict) else [""]
    names = sorted({"loss", *(output + name for output in outputs for name in ("loss", "accuracy"))})
    return names + [f"val_{name}" for name in names] * validated


def _for_each(outputs: Sequence[str] | None, make: Callable[[], Any]) -> Any:
    """One for the only output of a model, or one for each by its name."""
    return make() if outputs is None else {name: make() for name in outputs}


def train(
    model: keras.Model,
    batches: Any,
    directory: str | pathlib.Path,
    plan: TrainingPlan | None = None,
    *,
    validation: Any = None,
    measure: Callable[[keras.Model], dict[str, float]] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, list[float]]:
    """Train a model; resume if the directory holds an unfinished run.

    After each epoch the whole state (weights, optimizer, dropout's chance, history) is written to
    `checkpoint.npz`, in one atomic step, and the best model so far to `model.keras`. A run that was
    killed goes on from there and ends with the weights that it would have had anyway.

    Args:
        model: a model of this library; a run that is resumed needs the same one.
        batches: from `keras_attention.data`.
        directory: where the run lives; made if it is missing.
        plan: how to train.
        validation: batches to compute `val_` values on.
        measure: called after each epoch with the model; what it returns, such as
            `{"val_bleu": 31.4}`, joins the history and can be monitored.
        callbacks: more Keras callbacks.

    Returns:
        history: name -> one value per epoch. `model` has the best weights.

    Raises:
        ValueError: the monitored value is not among those computed or was never finite, or the directory holds the
            run of another model.
    """
    plan, directory = plan or TrainingPlan(), pathlib.Path(directory)
    monitor = plan.monitor or ("loss" if validation is None else "val_loss")
    if monitor.startswith("val_") and validation is None and measure is None:
        raise ValueError(f"`monitor` is {monitor!r}, but there is no validation data and nothing is measured.")
    directory.mkdir(parents=True, exist_ok=True)
    compile_model(model, plan, len(batches))
    model.optimizer.build(model.trainable_variables)
    if measure is None and monitor not in (computed := _computed(model, validation is not None)):
        raise ValueError(f"There is no {monitor!r} to select by; this run computes {', '.join(computed)}.")
    state = RunState(directory, monitor, plan.patience, plan.average_checkpoints, measure)
    begin = state.restore(model)
    if plan.epochs * len(batches) < plan.gradient_accumulation:
        warnings.warn(
            f"There are fewer than {plan.gradient_accumulation} batches in all: nothing is ever updated.", stacklevel=2
        )
    batches.start_epoch(begin)
    if state.finished or begin >= plan.epochs:
        warnings.warn(f"The run in {directory} is finished; its best model is taken as it is.", stacklevel=2)
    else:
        model.fit(
            batches.for_fit() if hasattr(batches, "for_fit") else batches,
            epochs=plan.epochs,
            initial_epoch=begin,
            validation_data=validation,
            shuffle=False,  # the batches shuffle themselves, reproducibly
            callbacks=[state, *callbacks, *([batches.callback] if hasattr(batches, "callback") else [])],
        )
    if state.best is None:
        raise ValueError(
            f"{monitor} was never a finite number: the training diverged, and {directory}/model.keras is as it was "
            "before. Begin anew with a lower learning rate, or a longer warm-up."
        )
    state.load_best(model)
    if plan.average_checkpoints > 1:
        _offer_average(model, state, batches, validation)
    return state.history


def _offer_average(model: keras.Model, state: RunState, batches: Any, validation: Any) -> None:
    """Leave the model with the average of the last epochs' weights, if that is better than the best of them."""

    seen = not state.monitor.startswith("val_")
    prefix, data = ("", batches) if seen else ("val_", validation)

    def measured() -> dict[str, float]:
        values = {} if state.measure is None else state.measure(model)
        if state.monitor in values:
            return values
        found = model.evaluate(data, verbose=0, return_dict=True)
        return {f"{prefix}{name}": value for name, value in found.items()}

    if seen:  # what `fit` says of its own data is a mean over an epoch, with dropout
        state.best = float(measured()[state.monitor])
    average_weights(model, state.recent_weights())
    if state.offer(model, measured(), "average_checkpoints"):
        state.note_best()
    state.load_best(model)
