"""The callback of a training run: compute metrics, save the best model and a checkpoint, stop early."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import pathlib
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from keras_attention.argument_checks import require_one_of
from keras_attention.data.batches import digest
from keras_attention.storage import atomic_write
from keras_attention.training.checkpoints import assign, load_arrays, save_arrays
from keras_attention.training.finetuning import restart_lora
from keras_attention.training.plan import Mode, TrainingPlan, is_perfect

_SAVED = ("history", "best", "best_loss", "best_epoch", "wait")


def check_monitor(monitor: str, names: Collection[str]) -> None:
    """Raise ValueError unless the run computes the monitor; `names` are the metrics that it computes."""
    require_one_of("monitor", monitor, names, ", which this run computes; names with val_ need validation data")


class RunState(keras.callbacks.Callback):
    """The state of a training run, saved in a directory after each epoch.

    Args:
        directory: for `checkpoint.npz`, `model.keras` and the weights of the last epochs.
        plan: its `patience` and `average_checkpoints` are used.
        monitor: the metric that selects the best model; if its values are equal, the lower loss selects it.
        mode: whether a lower or a higher value is better.
        extra_metrics: function of the model that is called after each epoch; its metrics are added to the history.
        identity: name -> value of everything that the result of the run depends on, such as a digest of the data. A run
            with other values is not resumed.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        plan: TrainingPlan,
        monitor: str,
        mode: Mode,
        extra_metrics: Callable[[keras.Model], dict[str, float]] | None,
        identity: dict[str, str | None],
    ) -> None:
        super().__init__()
        self.directory, self.monitor, self.mode, self.identity = directory, monitor, mode, identity
        self.patience, self.average_checkpoints = plan.patience, plan.average_checkpoints
        self.extra_metrics = extra_metrics
        self.history: dict[str, list[float]] = {}
        self.best: float | None = None
        self.best_loss = math.inf
        self.best_epoch: int | str = 0
        self.wait = 0

    @property
    def checkpoint(self) -> pathlib.Path:
        """The file of the last checkpoint."""
        return self.directory / "checkpoint.npz"

    @property
    def finished(self) -> bool:
        """Whether there was no improvement in the last `patience` epochs."""
        return self.wait >= self.patience

    def restore(self, model: keras.Model) -> int:
        """Restore the last checkpoint, if there is one, and return the number of finished epochs."""
        if not self.checkpoint.exists():
            self._save_model(model)  # a run that stops in the first epoch needs the tokenizers and the config
            self._save_state(model, 0)  # and the state of the random generators
            return 0
        arrays, metadata = load_arrays(self.checkpoint)
        if metadata["model"] != _model_digest(model):
            raise ValueError(
                f"{self.directory} has the run of a model with another config or vocabulary. Load its "
                "model.keras to resume it, or choose another directory."
            )
        self._check_identity(metadata["identity"])
        assign(_state_variables(model), arrays)
        for name in _SAVED:
            setattr(self, name, metadata[name])
        return metadata["epoch"]

    def _check_identity(self, saved: dict[str, str | None]) -> None:
        changed = [
            f"the {name} changed" if name.endswith(" data") else f"{name} was {saved.get(name)} and is {value}"
            for name, value in {**dict.fromkeys(saved), **self.identity}.items()
            if saved.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"The run in {self.directory} cannot be resumed: {'; '.join(changed)}. Resume it with the data and "
                "options that it started with, or start a new run in another directory."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compute the metrics, save the best model and a checkpoint, and stop early."""
        logs = logs if logs is not None else {}
        if self.extra_metrics is not None:
            logs.update(self.extra_metrics(self.model))
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.wait = 0 if self.save_if_best(self.model, logs, epoch + 1) else self.wait + 1
        if self.average_checkpoints > 1:
            self._save_weights(epoch)
        self._save_state(self.model, epoch + 1)
        if self.finished:
            self.model.stop_training = True

    def _save_state(self, model: keras.Model, epoch: int) -> None:
        metadata = {name: getattr(self, name) for name in (*_SAVED, "identity")}
        arrays = [keras.ops.convert_to_numpy(v) for v in _state_variables(model)]
        save_arrays(self.checkpoint, arrays, {"epoch": epoch, "model": _model_digest(model), **metadata})

    def save_if_best(self, model: keras.Model, logs: dict[str, float], epoch: int | str) -> bool:
        """Save the model if it is the best so far; return whether it is.

        Raises:
            ValueError: the monitored metric is not in `logs`.
        """
        check_monitor(self.monitor, sorted(logs))
        value, loss = float(logs[self.monitor]), float(logs.get("val_loss", logs.get("loss", math.inf)))
        is_better = self.best is None or self._rank(value, loss) > self._rank(self.best, self.best_loss)
        is_better = is_better and math.isfinite(value)
        if is_better:
            self.best, self.best_loss, self.best_epoch = value, loss, epoch
            self._save_model(model)
        return is_better

    def value_of_best(self, name: str) -> float | None:
        """Return the value of a metric for the best model; None if it is not known."""
        if name == self.monitor:
            return self.best
        known = name in self.history and isinstance(self.best_epoch, int)  # not of an average of checkpoints
        return self.history[name][self.best_epoch - 1] if known else None

    def _rank(self, value: float, loss: float) -> tuple[float, float]:
        return (value if self.mode == "max" else -value), -loss

    def warn_if_constant(self) -> None:
        """Warn if the monitored metric had the same value after every epoch, so that it did not select the model."""
        values = self.history[self.monitor]
        if len(values) > 1 and len(set(values)) == 1:
            advice = "Monitor" if is_perfect(self.monitor, values[0]) else "Train for longer, or monitor"
            warnings.warn(
                f"{self.monitor} was {values[0]:g} after each of the {len(values)} epochs, so the loss selected the "
                f"best model. {advice} another metric, such as val_loss.",
                stacklevel=3,
            )

    def record_best(self) -> None:
        """Write the best value to the checkpoint, which keeps the weights of the last epoch."""
        arrays, metadata = load_arrays(self.checkpoint)
        save_arrays(self.checkpoint, arrays, {**metadata, **{name: getattr(self, name) for name in _SAVED}})

    def load_best(self, model: keras.Model) -> None:
        """Load the weights of the best model."""
        model.load_weights(self.directory / "model.keras")
        restart_lora(model)  # the file has W + A B, not A and B

    def recent_weights(self) -> list[pathlib.Path]:
        """Return the weight files of the last epochs, oldest first."""
        return sorted(self.directory.glob("weights-*.npz"))[-self.average_checkpoints :]

    def _save_weights(self, epoch: int) -> None:
        weights = [keras.ops.convert_to_numpy(v) for v in self.model.weights]
        save_arrays(self.directory / f"weights-{epoch + 1:05d}.npz", weights)
        for old in sorted(self.directory.glob("weights-*.npz"))[: -self.average_checkpoints]:
            old.unlink()

    def _save_model(self, model: keras.Model) -> None:
        atomic_write(self.directory / "model.keras", lambda name: keras.saving.save_model(model, name))


def was_pretrained(directory: pathlib.Path) -> bool | None:
    """Return `is_pretrained` of the model at the start of the run in a directory; None if there is no run."""
    path = directory / "checkpoint.npz"
    return load_arrays(path)[1]["identity"].get("is_pretrained") == "True" if path.exists() else None


def run_identity(plan: TrainingPlan, examples: Any, validation: Any, options: Mapping[str, Any]) -> dict:
    """Return everything that the result of a run depends on: digests of its data, the plan and options as strings."""
    may_change = ("epochs", "patience", "average_checkpoints", "monitor", "region_cache")
    values = {**dataclasses.asdict(plan), **options}
    return {
        "training data": digest(examples),
        "validation data": None if validation is None else digest(validation),
        **{name: str(value) for name, value in values.items() if name not in may_change},
    }


def _model_digest(model: keras.Model) -> str:
    """Return a digest of the config and vocabularies, which must not change in a run."""
    tokenizers = model.tokenizers.values()
    vocabularies = [tokenizer.get_vocabulary() for tokenizer in tokenizers if tokenizer is not None]
    return hashlib.sha256(repr((model.config, vocabularies)).encode()).hexdigest()


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the variables to restore: weights, random generators and optimizer, without the metrics."""
    metrics = {id(v) for v in model.metrics_variables}
    return [v for v in model.variables if id(v) not in metrics] + list(model.optimizer.variables)
