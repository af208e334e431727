"""The callback of a training run: compute metrics, save the best model and a checkpoint, stop early."""

from __future__ import annotations

import hashlib
import math
import pathlib
from collections.abc import Callable

import keras

from keras_attention.storage import write_whole
from keras_attention.training.checkpoints import assign, load_arrays, save_arrays
from keras_attention.training.finetuning import restart_lora
from keras_attention.training.plan import smaller_is_better


class RunState(keras.callbacks.Callback):
    """The state of a training run, saved in a directory after each epoch.

    Args:
        directory: for `checkpoint.npz`, `model.keras` and the weights of the last epochs.
        monitor: the metric that selects the best model.
        patience: epochs without an improvement before training stops.
        average_checkpoints: number of last epochs whose weights are saved.
        measure: called with the model after each epoch; its values are added to the history.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        monitor: str,
        patience: int,
        average_checkpoints: int,
        measure: Callable[[keras.Model], dict[str, float]] | None,
    ) -> None:
        super().__init__()
        self.directory, self.monitor, self.patience = directory, monitor, patience
        self.average_checkpoints, self.measure = average_checkpoints, measure
        self.history: dict[str, list[float]] = {}
        self.best: float | None = None
        self.best_epoch: int | str = 0
        self.wait = 0

    @property
    def checkpoint(self) -> pathlib.Path:
        """The file of the last checkpoint."""
        return self.directory / "checkpoint.npz"

    @property
    def finished(self) -> bool:
        """Whether the last `patience` epochs brought no improvement."""
        return self.wait >= self.patience

    def restore(self, model: keras.Model) -> int:
        """Restore the last checkpoint, if there is one, and return the number of finished epochs."""
        if not self.checkpoint.exists():
            self._save_model(model)  # a run that stops in the first epoch needs the tokenizers and the config
            self._save_state(model, 0)  # and the state of the random generators
            return 0
        arrays, metadata = load_arrays(self.checkpoint)
        if metadata["model"] != _fingerprint(model):
            raise ValueError(
                f"{self.directory} has the run of a model with another config or vocabulary. Load its "
                "model.keras to resume it, or choose another directory."
            )
        assign(_state_variables(model), arrays)
        self.history, self.best = metadata["history"], metadata["best"]
        self.best_epoch, self.wait = metadata["best_epoch"], metadata["wait"]
        return metadata["epoch"]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compute the metrics, save the best model and a checkpoint, and stop early."""
        logs = logs if logs is not None else {}
        if self.measure is not None:
            logs.update(self.measure(self.model))
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.wait = 0 if self.save_if_best(self.model, logs, epoch + 1) else self.wait + 1
        if self.average_checkpoints > 1:
            self._save_weights(epoch)
        self._save_state(self.model, epoch + 1)
        if self.finished:
            self.model.stop_training = True

    def _save_state(self, model: keras.Model, epoch: int) -> None:
        metadata = {key: getattr(self, key) for key in ("history", "best", "best_epoch", "wait")}
        arrays = [keras.ops.convert_to_numpy(v) for v in _state_variables(model)]
        save_arrays(self.checkpoint, arrays, {"epoch": epoch, "model": _fingerprint(model), **metadata})

    def save_if_best(self, model: keras.Model, logs: dict[str, float], epoch: int | str) -> bool:
        """Save the model if it is the best so far; return whether it is.

        Raises:
            ValueError: the monitored metric is not in `logs`.
        """
        if self.monitor not in logs:
            raise ValueError(
                f"The monitor {self.monitor!r} is not computed in this run. Expected one of {', '.join(sorted(logs))}."
            )
        value = float(logs[self.monitor])
        is_better = self.best is None or (value < self.best if smaller_is_better(self.monitor) else value > self.best)
        if is_better := is_better and math.isfinite(value):
            self.best, self.best_epoch = value, epoch
            self._save_model(model)
        return is_better

    def record_best(self) -> None:
        """Write the best value to the checkpoint; its weights are still the weights of the last epoch."""
        arrays, metadata = load_arrays(self.checkpoint)
        save_arrays(self.checkpoint, arrays, {**metadata, "best": self.best, "best_epoch": self.best_epoch})

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
        write_whole(self.directory / "model.keras", lambda name: keras.saving.save_model(model, name))


def _fingerprint(model: keras.Model) -> str:
    """Return a digest of the config and vocabularies, which must not change in a run."""
    tokenizers = model.tokenizers.values()
    vocabularies = [tokenizer.get_vocabulary() for tokenizer in tokenizers if tokenizer is not None]
    return hashlib.sha256(repr((model.config, vocabularies)).encode()).hexdigest()


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the variables to restore: weights, random generators and optimizer, without the metrics."""
    metrics = {id(v) for v in model.metrics_variables}
    return [v for v in model.variables if id(v) not in metrics] + list(model.optimizer.variables)
