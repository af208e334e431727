"""keras-attention: train, evaluate, predict, export and check from the command line.

Outputs go to standard output, one line per input line; progress and messages go to standard error.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings

import click

_COMMANDS = {
    "quickstart": "quickstart.run",
    "train": "cli.train",
    "evaluate": "cli.evaluate",
    "translate": "cli.predict",
    "caption": "cli.predict",
    "complete": "cli.predict",
    "classify": "cli.predict",
    "tag": "cli.predict",
    "fill": "cli.predict",
    "score": "cli.predict",
    "import": "cli.export",
    "export": "cli.export",
    "check": "cli.export",
    "presets": "cli.export",
}


class _LateGroup(click.Group):
    """A group that imports a command only when the command runs or its help is shown."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command and return it; None if there is no such command."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"keras_attention.{_COMMANDS[name]}")
        return getattr(module, "import_" if name == "import" else name)


@click.group(cls=_LateGroup)
@click.version_option(package_name="keras-attention-models")
def commands() -> None:
    """Train attention models in Keras on your texts and images, use them, and export them for serving."""


class _MessageHandler(logging.Handler):
    """Print the messages of this library to standard error, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


_HANDLER = _MessageHandler(logging.INFO)


def main() -> None:
    """Run the command line. A warning or an error is printed as one line; an error ends with a non-zero exit code."""
    logger = logging.getLogger("keras_attention")
    logger.addHandler(_HANDLER)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            commands.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        expected = (ValueError, TypeError, OSError, RuntimeError, ImportError)
        if not (isinstance(error, expected) or type(error).__module__.startswith("tensorflow")):
            raise
        click.echo(f"Error: {' '.join(_message(error).split())}", err=True)
        sys.exit(1)


def _message(error: Exception) -> str:
    """Return the message for the user; for an `OSError` it contains the path and the fix."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written: {error.strerror}. Choose another path."
    return str(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"Warning: {' '.join(str(message).split())}", err=True)
