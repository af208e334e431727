"""Progress on standard error: one line per epoch and, on a terminal, a bar with the remaining time."""

from __future__ import annotations

import shutil
import sys
import time

import keras

_WIDTH = 24  # width of the bar, in characters
_INTERVAL = 0.1  # seconds between two updates


class ProgressBar:
    """A line on a terminal with the progress and the remaining time; nothing is written if standard error is a file.

    Args:
        total: the number of steps; None if it is unknown.
        name: the text before the bar, such as `"epoch 1/20"`.

    Example:
        >>> bar = ProgressBar(20, "lines")
        >>> bar.text(5, seconds=3.0)
        'lines [======>                 ] 5/20, 0:09 left'
    """

    def __init__(self, total: int | None, name: str) -> None:
        self.total, self.name = total, name
        self._start, self._next = time.monotonic(), 0.0
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def text(self, done: int, seconds: float, note: str = "") -> str:
        """Return the line after `done` steps, which took `seconds`; `note` is added."""
        if not self.total:
            return f"{self.name} {done}{note}"
        filled = min(int(_WIDTH * done / self.total), _WIDTH)
        bar = ("=" * filled + ">" * (filled < _WIDTH)).ljust(_WIDTH)
        left = f", {duration(seconds / done * (self.total - done))} left" if done else ""
        return f"{self.name} [{bar}] {done}/{self.total}{note}{left}"

    def update(self, done: int, note: str = "") -> None:
        """Draw the line again, at most ten times per second."""
        now = time.monotonic()
        if self._terminal and now >= self._next:
            self._next = now + _INTERVAL
            self._write(self.text(done, now - self._start, note))

    def close(self) -> None:
        """Remove the line."""
        if self._terminal:
            self._write("")

    def _write(self, line: str) -> None:
        width = max(shutil.get_terminal_size().columns - 1, 1)
        sys.stderr.write(f"\r{line[:width].ljust(width)}\r")
        sys.stderr.flush()


class EpochLog(keras.callbacks.Callback):
    """Write one line after each epoch to standard error; on a terminal, draw a `ProgressBar` in between."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start to measure the time."""
        self._start, self._first = time.monotonic(), None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the bar of an epoch."""
        self._first = epoch if self._first is None else self._first
        self._epoch_start = time.monotonic()
        self._bar = ProgressBar(self.params["steps"], f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Draw the bar."""
        self._bar.update(batch + 1, f", loss {logs['loss']:.4g}" if logs and "loss" in logs else "")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the metrics of the epoch, its duration, and the remaining time."""
        self._bar.close()
        now, epochs = time.monotonic(), self.params["epochs"]
        left = (now - self._start) / (epoch + 1 - self._first) * (epochs - epoch - 1)
        values = [f"{name} {float(value):.4g}" for name, value in (logs or {}).items()]
        times = [duration(now - self._epoch_start), *([f"at most {duration(left)} left"] if left else [])]
        write_line(f"epoch {epoch + 1}/{epochs}: {', '.join([*values, *times])}")


def write_line(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return a duration as minutes:seconds or hours:minutes:seconds.

    Example:
        >>> duration(75.2), duration(3675)
        ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
