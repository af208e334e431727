"""Options in groups, for some tasks only, or made from the fields and the docstring of a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import click

import keras_attention as ka

BEAM = ("num_beams", "length_penalty")
SAMPLING = ("temperature", "top_k", "top_p")


class Option(click.Option):
    """An option that stands in a group of the help and may belong to some tasks only.

    Args:
        *declarations: its names.
        group: heading of the help under which it stands.
        tasks: names of the tasks that have it, such as `"captioner"`; none means all of them.
        **settings: those of `click.Option`.
    """

    def __init__(self, *declarations: str, group: str = "Options", tasks: Sequence[str] = (), **settings: Any) -> None:
        text = settings["help"]
        settings["help"] = f"{_either(tasks).capitalize()}: {text}" if tasks else text[0].upper() + text[1:]
        super().__init__(declarations, **settings)
        self.group, self.tasks = group, tuple(tasks)


class Command(click.Command):
    """A command whose help shows its options in their groups, in the order of the list."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options to the help."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(context):
            if isinstance(option, click.Option):
                groups.setdefault(getattr(option, "group", "Options"), []).append(option.get_help_record(context))
        for name, records in sorted(groups.items(), key=lambda group: group[0] == "Options"):  # --help is last
            with formatter.section(name):
                formatter.write_dl(records)


def from_fields(kind: type, names: Iterable[str], *, search: bool = False, **settings: Any) -> list[Option]:
    """Make one option for each of some fields of a dataclass; the help is what the docstring says of the field.

    Args:
        kind: a dataclass whose docstring describes its fields under `Args:`.
        names: of the fields.
        search: the option's value is None unless it is given; the field's default is only shown.
        **settings: `group` and `tasks` of `Option`.
    """
    hints, descriptions = typing.get_type_hints(kind), field_descriptions(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    options = []
    for name in names:
        default, text = defaults[name], descriptions[name]
        shown = f"  [default: {default}]" if search and default is not None else ""
        shown = "  [default: no beam search]" if name == "num_beams" else shown
        options.append(
            Option(
                flag(name),
                type=_click_type(hints[name]),
                default=None if search else default,
                show_default=not search and default is not None,
                help=text + shown,
                **settings,
            )
        )
    return options


def field_descriptions(kind: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say under `Args:` of each field."""
    descriptions: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = re.search(r"^Args:\n((?:    .*\n?)+)", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE)
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section[1] if section else "", re.MULTILINE):
            text = " ".join(text.replace("`", "").split())
            descriptions[name] = re.sub(r", \w(?=[;.])", "", text)  # the symbol of a formula
    return descriptions


def _click_type(hint: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice(typing.get_args(hint))
    if isinstance(hint, types.UnionType):  # int | None
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def search_options(*names: str, **settings: Any) -> list[Option]:
    """Make the options of a search from the fields of `BeamSearch` and `Sampling`."""
    return [
        option
        for name in names
        for option in from_fields(ka.Sampling if name in SAMPLING else ka.BeamSearch, [name], search=True, **settings)
    ]


def flag(name: str) -> str:
    """Return the option of a field, such as `--num-beams`."""
    return f"--{name.replace('_', '-')}"


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def given_flags(context: click.Context) -> dict[str, click.Parameter]:
    """Return the options that stand on the command line, by their flags."""
    return {
        parameter.opts[0]: parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }


def refuse_other_tasks(context: click.Context, task: str) -> None:
    """Refuse options on the command line that belong to other tasks.

    Raises:
        click.UsageError: the first such option, the tasks that have it, and the task at hand.
    """
    for name, option in given_flags(context).items():
        tasks = getattr(option, "tasks", ())
        if tasks and task not in tasks:
            raise click.UsageError(f"{name} belongs to a {_either(tasks)}; a {task} has no such option.")


def _either(names: Sequence[str]) -> str:
    """Return the names as `a, b or c`."""
    return " or ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])
