"""What happens after an epoch: measure, keep the best model, write the checkpoint, stop early."""

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
    """The state of a training run, stored in a directory.

    Args:
        directory: holds `checkpoint.npz`, `model.keras` and the last epochs' weights.
        monitor: the metric that selects the best model.
        patience: epochs without a better value before training stops.
        average_checkpoints: how many of the last epochs' weights to store.
        measure: called with the model after each epoch; its values join the history.
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
        self.waited = 0

    @property
    def checkpoint(self) -> pathlib.Path:
        """The file to resume from."""
        return self.directory / "checkpoint.npz"

    @property
    def finished(self) -> bool:
        """Whether there were `patience` epochs without a better value."""
        return self.waited >= self.patience

    def restore(self, model: keras.Model) -> int:
        """Restore the last checkpoint, if there is one, and return the epoch to start with."""
        if not self.checkpoint.exists():
            self._save_model(model)  # so that tokenizers and sizes are on disk before the first epoch ends
            self._save_state(model, 0)  # with the random generators, which a second start would seed differently
            return 0
        arrays, note = load_arrays(self.checkpoint)
        if note["model"] != _fingerprint(model):
            raise ValueError(
                f"{self.directory} holds the run of a model with other sizes or another vocabulary. Load its "
                "model.keras to resume it, or choose another directory."
            )
        assign(_state_variables(model), arrays)
        self.history, self.best = note["history"], note["best"]
        self.best_epoch, self.waited = note["best_epoch"], note["waited"]
        return note["epoch"]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure, keep the best model, write the checkpoint, and stop when patience has run out."""
        logs = logs if logs is not None else {}
        if self.measure is not None:
            logs.update(self.measure(self.model))
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.waited = 0 if self.offer(self.model, logs, epoch + 1) else self.waited + 1
        if self.average_checkpoints > 1:
            self._keep_recent(epoch)
        self._save_state(self.model, epoch + 1)
        if self.finished:
            self.model.stop_training = True

    def _save_state(self, model: keras.Model, epoch: int) -> None:
        note = {key: getattr(self, key) for key in ("history", "best", "best_epoch", "waited")}
        arrays = [keras.ops.convert_to_numpy(v) for v in _state_variables(model)]
        save_arrays(self.checkpoint, arrays, {"epoch": epoch, "model": _fingerprint(model), **note})

    def offer(self, model: keras.Model, logs: dict[str, float], epoch: int | str) -> bool:
        """Save the model if it is the best so far, and return whether it is.

        Raises:
            ValueError: the monitored metric is not in `logs`.
        """
        if self.monitor not in logs:
            raise ValueError(
                f"The monitor {self.monitor!r} is not computed in this run. Expected one of {', '.join(sorted(logs))}."
            )
        value = float(logs[self.monitor])
        better = self.best is None or (value < self.best if smaller_is_better(self.monitor) else value > self.best)
        if better := better and math.isfinite(value):
            self.best, self.best_epoch = value, epoch
            self._save_model(model)
        return better

    def note_best(self) -> None:
        """Write the best value to the checkpoint, whose weights stay those of the last epoch."""
        arrays, note = load_arrays(self.checkpoint)
        save_arrays(self.checkpoint, arrays, {**note, "best": self.best, "best_epoch": self.best_epoch})

    def load_best(self, model: keras.Model) -> None:
        """Give the model the weights of the best one."""
        model.load_weights(self.directory / "model.keras")
        restart_lora(model)  # a file holds the sum W + A B

    def recent_weights(self) -> list[pathlib.Path]:
        """Return the weight files of the last epochs, oldest first."""
        return sorted(self.directory.glob("weights-*.npz"))[-self.average_checkpoints :]

    def _keep_recent(self, epoch: int) -> None:
        weights = [keras.ops.convert_to_numpy(v) for v in self.model.weights]
        save_arrays(self.directory / f"weights-{epoch + 1:05d}.npz", weights)
        for old in sorted(self.directory.glob("weights-*.npz"))[: -self.average_checkpoints]:
            old.unlink()

    def _save_model(self, model: keras.Model) -> None:
        write_whole(self.directory / "model.keras", lambda name: keras.saving.save_model(model, name))


def _fingerprint(model: keras.Model) -> str:
    """Return a digest of the sizes and vocabularies, which may not change within a run."""
    tokenizers = getattr(model, "tokenizers", {}).values()
    vocabularies = [tokenizer.get_vocabulary() for tokenizer in tokenizers if tokenizer is not None]
    return hashlib.sha256(repr((getattr(model, "config", None), vocabularies)).encode()).hexdigest()


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """Return everything that decides the rest of a run: weights, random generators, optimizer; not the metrics."""
    metrics = {id(v) for v in model.metrics_variables}
    return [v for v in model.variables if id(v) not in metrics] + list(model.optimizer.variables)
