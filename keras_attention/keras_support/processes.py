"""Refuse a forked process, in which TensorFlow and JAX wait forever."""

from __future__ import annotations

import os

_processes: list[int] = []  # the process that made the first model


def check_process() -> None:
    """Raise an error in a process that was forked after a model was made, where TensorFlow and JAX wait forever.

    Raises:
        RuntimeError: the message says what to do.
    """
    if not _processes:
        _processes.append(os.getpid())
    elif _processes[0] != os.getpid():
        raise RuntimeError(
            "This process was forked after a model was made, and its threads did not come with it. Make or load "
            "models only after the fork: without gunicorn's --preload, or with multiprocessing's start method 'spawn'."
        )
