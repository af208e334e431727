"""Command-line options with a group in the help and a list of tasks; some are made from the fields of a dataclass."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.argument_checks import did_you_mean, one_of
from keras_attention.cli.terminal import OPTION_FLAGS, VERBOSITY, import_keras
from keras_attention.defaults import TRAINING_FIELDS
from keras_attention.task_specs import TASK_SPECS

_TASK = "keras_attention.task"  # key of `click.Context.meta`
BEAM = ("num_beams", "length_penalty")
SAMPLING = ("temperature", "top_k", "top_p")
GENERATION = (
    "max_new_tokens",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "suppress_tokens",
    "stop",
    "num_return_sequences",
)


def task_class(name: str) -> Any:
    """Return the class of a task, such as `ka.Translator` for `"translator"`."""
    return getattr(ka, TASK_SPECS[name].class_name)


class Option(click.Option):
    """A command-line option with a group in the help, for all tasks or for some of them.

    Args:
        *declarations: the names of the option.
        group: heading of the group in the help.
        tasks: names of the tasks that have the option, such as `"captioner"`; empty for all tasks.
        default_of: a function from the tasks that the help is about to the default, as a text.
        help: a description that begins with a lower-case letter.
        **kwargs: other arguments of `click.Option`.
    """

    def __init__(
        self,
        *declarations: str,
        group: str = "Options",
        tasks: Sequence[str] = (),
        default_of: Callable[[Sequence[str]], str] | None = None,
        help: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(declarations, help=help[0].upper() + help[1:], **kwargs)
        self.group, self.tasks, self.default_of = group, tuple(tasks) or tuple(TASK_SPECS), default_of

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        """Return the flags and the help, which names the tasks of the option unless the help is that of one task."""
        shown, task = copy.copy(self), context.meta.get(_TASK)
        if task is None:
            shown.help = _help_of_tasks(self.help, self.tasks)
        if self.default_of is not None:
            shown.help += f"  [default: {self.default_of(self.tasks if task is None else [task])}]"
        return click.Option.get_help_record(shown, context)


BATCH_SIZE = Option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="batch size.")


def _set_verbosity(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        setattr(VERBOSITY, option.name, True)


def _verbosity_options() -> list[Option]:
    common = {"is_flag": True, "expose_value": False, "callback": _set_verbosity}
    return [
        Option("--quiet", help="hide progress and messages.", **common),
        Option("--verbose", help="show TensorFlow's log and tracebacks.", **common),
    ]


class Command(click.Command):
    """A command whose help lists the options by group, in the order of `params`; the group "Options" is last.

    If the command line contains a task, the help lists only the options of this task. Every command has --quiet and
    --verbose. Keras is imported when the command runs, but not for its help.
    """

    def __init__(self, *args: Any, params: Sequence[click.Parameter] = (), **kwargs: Any) -> None:
        super().__init__(*args, params=[*params, *_verbosity_options()], **kwargs)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; first store its task in the context, for the help."""
        task = self.make_parser(context).parse_args([*args])[0].get("task")
        context.meta[_TASK] = task if task in TASK_SPECS else None
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        """Import Keras, and run the command."""
        OPTION_FLAGS.update({option.name: option.opts[0] for option in self.params if isinstance(option, click.Option)})
        import_keras()
        return super().invoke(context)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options to the help."""
        groups: dict[str, list[tuple[str, str]]] = {}
        task = context.meta.get(_TASK)
        for option in self.get_params(context):
            if isinstance(option, click.Option) and _has_option(task, option):
                groups.setdefault(getattr(option, "group", "Options"), []).append(option.get_help_record(context))
        for name, records in sorted(groups.items(), key=lambda group: group[0] == "Options"):
            with formatter.section(name):
                formatter.write_dl(records)


def from_fields(
    kind: type, names: Iterable[str], *, search: bool = False, default_length: str = "", **kwargs: Any
) -> list[Option]:
    """Make one option for each named field of a dataclass; its help is the field's description in the docstring.

    Args:
        kind: a dataclass whose docstring describes its fields under `Args:`.
        names: the fields.
        search: the fields are those of a search strategy. The value of an unset option is then None instead of the
            field's default, which only the help shows.
        default_length: the default of `max_new_tokens` in the help, which differs between commands.
        **kwargs: `group` and `tasks` of `Option`.
    """
    hints, descriptions = typing.get_type_hints(kind), field_descriptions(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    options = []
    for name in names:
        default, text = defaults[name], descriptions[name]
        follows_data = not search and name in TRAINING_FIELDS
        if follows_data:
            default, text = None, text.rstrip(".") + ".  [default: depends on the data]"
        shows_default = search and default not in (None, ()) and hints[name] is not bool
        default_text = f"  [default: {default}]" if shows_default else ""
        if name == "num_beams":
            text, default_text = "use beam search with this number of beams.", ""
        if name == "max_new_tokens":
            text, default_text = "maximum number of new tokens.", f"  [default: {default_length}]"
        is_repeatable = typing.get_origin(hints[name]) is tuple
        if is_repeatable:
            text = text.rstrip(".") + "; repeatable."
        options.append(
            Option(
                flag(name),
                **({"is_flag": True} if hints[name] is bool else {"type": _click_type(hints[name])}),
                multiple=is_repeatable,
                default=None if search else default,
                show_default=not search and default is not None,
                help=text + default_text,
                **kwargs,
            )
        )
    return options


def field_descriptions(kind: type) -> dict[str, str]:
    """Return field -> its description under `Args:` in the docstrings of a dataclass and its bases."""
    descriptions: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = re.search(r"^Args:\n((?:    .*\n?)+)", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE)
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section[1] if section else "", re.MULTILINE):
            text = " ".join(text.replace("`", "").split())
            descriptions[name] = re.sub(r", \w(?=[;.])", "", text)  # the symbol of a formula
    return descriptions


class TaskChoice(click.Choice):
    """The name of a task; the error for another name, such as that of its class, suggests the right one."""

    def __init__(self) -> None:
        super().__init__(list(TASK_SPECS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or end the command."""
        if value not in TASK_SPECS:
            of_class = {spec.class_name.lower(): name for name, spec in TASK_SPECS.items()}
            name = of_class.get(re.sub("[ _-]", "", value.lower()), value.lower())
            self.fail(f"{value!r} is not {one_of(TASK_SPECS)}.{did_you_mean(name, TASK_SPECS)}", param, ctx)
        return super().convert(value, param, ctx)


def _click_type(hint: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice(typing.get_args(hint))
    if type(None) in typing.get_args(hint):  # int | None
        return _click_type(next(kind for kind in typing.get_args(hint) if kind is not type(None)))
    if typing.get_origin(hint) is tuple:  # tuple[int, ...]: an option that can be repeated
        return typing.get_args(hint)[0]
    return hint


def search_options(*names: str, **kwargs: Any) -> list[Option]:
    """Make the options of a search strategy from the fields of `BeamSearch` and `Sampling`."""
    return [
        option
        for name in names
        for option in from_fields(ka.Sampling if name in SAMPLING else ka.BeamSearch, [name], search=True, **kwargs)
    ]


def flag(name: str) -> str:
    """Return the name of a field's option, such as `--num-beams`."""
    return f"--{name.replace('_', '-')}"


def config_overrides(items: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return the config fields of `--set NAME=VALUE`."""
    overrides: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise click.UsageError(f"--set {item}: expected NAME=VALUE, such as units=512.")
        try:
            overrides[name] = json.loads(value)
        except json.JSONDecodeError:
            overrides[name] = value
    return overrides


def drop_unset(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are on the command line: neither None nor ()."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def command_line_options(context: click.Context) -> dict[str, click.Parameter]:
    """Return the options that are on the command line: flag -> option."""
    return {
        parameter.opts[0]: parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }


def refuse_other_tasks(context: click.Context, task: str) -> None:
    """Raise an error if the command line has an option that this task does not have.

    Raises:
        click.UsageError: the message names the first such option and the tasks that have it.
    """
    for name, option in command_line_options(context).items():
        if not _has_option(task, option):
            tasks = _join_with_or(option.tasks)
            raise click.UsageError(f"{name} belongs to a {tasks}; a {task} has no such option. Leave it out.")


def _has_option(task: str | None, option: click.Option) -> bool:
    """Return whether a task has an option; if `task` is None, whether any task has it."""
    return task is None or task in getattr(option, "tasks", TASK_SPECS)


def _help_of_tasks(text: str, tasks: Sequence[str]) -> str:
    """Return a help text that names its tasks, or the only task that does not have the option."""
    others = [name for name in TASK_SPECS if name not in tasks]
    if len(others) > 1:
        return f"{_join_with_or(tasks).capitalize()}: {text[0].lower()}{text[1:]}"
    return f"{text.rstrip('.')} (not for {others[0]})." if others else text


def _join_with_or(names: Sequence[str]) -> str:
    """Return the names as `a, b or c`."""
    return " or ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])
