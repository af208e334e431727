"""keras-attention: train, evaluate, predict, export and check from the command line.

Outputs go to standard output, one line per input line; progress and messages go to standard error.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import warnings

import click

from keras_attention.cli.terminal import OPTION_FLAGS, VERBOSITY, show_error, show_warning, with_flags, write_message
from keras_attention.version import __version__

_COMMANDS = {
    "quickstart": "keras_attention.cli.quickstart",
    "train": "keras_attention.cli.train",
    "evaluate": "keras_attention.cli.evaluate",
    "translate": "keras_attention.cli.predict",
    "caption": "keras_attention.cli.predict",
    "complete": "keras_attention.cli.predict",
    "classify": "keras_attention.cli.predict",
    "tag": "keras_attention.cli.predict",
    "fill": "keras_attention.cli.predict",
    "score": "keras_attention.cli.predict",
    "augment": "keras_attention.cli.augment",
    "import": "keras_attention.cli.export",
    "export": "keras_attention.cli.export",
    "check": "keras_attention.cli.export",
    "presets": "keras_attention.cli.export",
}


class _LazyGroup(click.Group):
    """A group that imports a command only when the command runs or its help is shown."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command and return it; None if there is no such command."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[name])
        return getattr(module, "import_" if name == "import" else name)


@click.group(cls=_LazyGroup)
@click.version_option(__version__, prog_name="keras-attention")
def commands() -> None:
    """Train attention models in Keras on your texts and images, use them, and export them for serving."""


class _MessageHandler(logging.Handler):
    """Print the messages of this library to standard error, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        write_message(with_flags(record.getMessage()))


_HANDLER = _MessageHandler(logging.INFO)


def main() -> None:
    """Run the command line. A warning or an error is printed as one line; an error ends with a non-zero exit code."""
    VERBOSITY.quiet = VERBOSITY.verbose = False
    OPTION_FLAGS.clear()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # UTF-8 in every locale, as the input; names of files may have other bytes
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    logger = logging.getLogger("keras_attention")
    logger.addHandler(_HANDLER)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            commands.main(prog_name="keras-attention", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt) as stop:
        click.echo(f"Stopped. {stop}".rstrip(), err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        show_error(error)
        sys.exit(error.exit_code if isinstance(error, click.ClickException) else 1)
