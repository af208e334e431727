"""keras-attention: train, evaluate, use, export and check from the command line.

Results go to standard output, one line per input line; progress and messages to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings

import click

_COMMANDS = {
    "quickstart": "quickstart",
    "train": "train",
    "evaluate": "evaluate",
    "translate": "use",
    "caption": "use",
    "complete": "use",
    "classify": "use",
    "tag": "use",
    "fill": "use",
    "import": "serve",
    "export": "serve",
    "check": "serve",
    "presets": "serve",
}


class _LateGroup(click.Group):
    """A group whose commands are imported when they are run: `--help` stays fast."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[name]}")
        return getattr(module, "import_" if name == "import" else name)


@click.group(cls=_LateGroup)
@click.version_option(package_name="keras-attention-models")
def commands() -> None:
    """Attention models in Keras: train them on your text and pictures, and serve them."""


def main() -> None:
    """Run the command line; a warning is one clear line, and so is a user's mistake, with a non-zero exit."""
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
    """What a user is told; the system's own errors say neither what was tried nor how to mend it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written: {error.strerror}. Choose another place."
    return str(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"Warning: {' '.join(str(message).split())}", err=True)
