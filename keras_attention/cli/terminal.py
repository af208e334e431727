"""Messages, warnings and errors of the command line: each is one line on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator

import click


@dataclasses.dataclass
class Verbosity:
    """What is written: `quiet` hides progress and messages, `verbose` shows TensorFlow's log and tracebacks."""

    quiet: bool = False
    verbose: bool = False


VERBOSITY = Verbosity()
# Options of the current command: name -> flag, such as "num_beams" -> "--num-beams".
OPTION_FLAGS: dict[str, str] = {}


def with_flags(message: str) -> str:
    """Return a message of the library in which flags replace the names of arguments, such as `num_beams`."""
    return re.sub(r"`(\w+)`", lambda name: OPTION_FLAGS.get(name[1], name[0]), message)


def write_message(message: str = "") -> None:
    """Write a message, unless --quiet is set."""
    if not VERBOSITY.quiet:
        click.echo(message, err=True)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Write a warning; a replacement of `warnings.showwarning`."""
    click.echo(f"Warning: {' '.join(with_flags(str(message)).split())}", err=True)


def show_error(error: Exception) -> None:
    """Write an error in one line; with --verbose, its traceback too."""
    if VERBOSITY.verbose:
        traceback.print_exception(error)
    click.echo(f"Error: {' '.join(with_flags(_message(error)).split())}", err=True)


def _message(error: Exception) -> str:
    """Return the message of an error for the user, which says how to fix it."""
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        return error.format_message() + (f" Help: {context.command_path} --help" if context else "")
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written: {error.strerror}. Choose another path."
    expected = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError))
    if (expected or type(error).__module__.startswith("tensorflow")) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}. This is a defect of keras-attention; --verbose shows where."


class Stopped(click.Abort):
    """The user pressed Ctrl-C; the message says what was saved and how to continue."""


def import_keras() -> None:
    """Import Keras and the models."""
    if not VERBOSITY.verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it has no effect while TensorFlow is imported
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)
    with native_log_hidden():
        import keras  # noqa: F401

        if "tensorflow" not in sys.modules:  # on JAX, KerasHub imports TensorFlow if it is installed
            with contextlib.suppress(ImportError):
                import tensorflow  # noqa: F401
    importlib.import_module("keras_attention.registered")


@contextlib.contextmanager
def native_log_hidden() -> Iterator[None]:
    """Hide what TensorFlow and SentencePiece write to standard error from C++, unless --verbose is set.

    Python's own messages are still written.
    """
    python = sys.stderr
    if VERBOSITY.verbose or python is None or python is not sys.__stderr__:
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    with open(os.dup(2), "w", buffering=1, encoding=python.encoding, errors=python.errors) as file:
        sys.stderr = file
        os.dup2(nothing, 2)
        try:
            yield
        finally:
            sys.stderr = python
            os.dup2(file.fileno(), 2)
            os.close(nothing)
