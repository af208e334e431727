"""Read the examples of `train` and `evaluate` with the options of the command line, and list their labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.lines import one_line
from keras_attention.cli.options import TASKS, Option, drop_unset
from keras_attention.cli.terminal import say

_WITH_COLUMNS = [name for name in TASKS if name != "tagger"]
_MAX_SHOWN = 30  # labels in the list
_MANY = 50  # with more labels than this, of which nearly all occur once, the column is wrong


def _parse_columns(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, str] | None:
    """Return the columns of `--columns text=review,label=stars`."""
    if value is None:
        return None
    parts = [part.partition("=") for part in value.split(",")]
    if not all(role.strip() and name.strip() for role, _, name in parts):
        raise click.BadParameter(f"{value!r}: expected names or numbers of columns, such as text=review,label=2.")
    return {role.strip(): name.strip() for role, _, name in parts}


def reading_options(group: str) -> list[Option]:
    """Return the options that say how files are read."""
    return [
        Option(
            "--columns",
            metavar="NAMES",
            callback=_parse_columns,
            group=group,
            tasks=_WITH_COLUMNS,
            help="column names, such as text=review,label=stars; without a header, column numbers.",
        ),
        Option(
            "--tag-column",
            type=click.IntRange(1),
            metavar="NUMBER",
            group=group,
            tasks=["tagger"],
            help="column number of the tag.  [default: 4 for CoNLL-U, otherwise the last]",
        ),
    ]


def read_examples(task: type, paths: Sequence[str], labels: Sequence[str] | None = None, **options: Any) -> list:
    """Read the examples of a task.

    Args:
        task: the class of the task.
        paths: the files.
        labels: the labels that are expected; None for any, and for a task without labels.
        **options: `images`, `columns` and `tag_column`; None for an option that is not set.
    """
    return task.read_examples(paths, **drop_unset({"labels": labels, **options}))


def report_labels(task: type, examples: Sequence, path: str, known: bool) -> None:
    """List the labels with their counts, and warn about labels that occur once.

    Args:
        task: the class of the task.
        examples: from `read_examples`.
        path: the file of the examples.
        known: whether a model already has labels.

    Raises:
        DataError: no labels are known, and all examples have one label or nearly all labels occur once.
    """
    counts = task.label_counts(examples).most_common()
    if not counts:
        return
    if len(counts) == 1 and not known:
        raise ka.data.DataError(f"{path}: all examples have the label {counts[0][0]}; expected at least two labels.")
    once = [one_line(label)[:40] for label, count in counts if count == 1]
    if len(counts) > _MANY and len(once) >= 0.9 * len(counts) and not known:
        option = "--tag-column NUMBER" if task.command_name == "tagger" else "--columns text=NAME,label=NAME"
        raise ka.data.DataError(
            f"{path}: {len(counts)} labels for {len(examples)} examples, such as {', '.join(once[:3])}; expected "
            f"labels that occur several times. If they are in another column, add {option}."
        )
    shown = ", ".join(f"{one_line(label)} ({count})" for label, count in counts[:_MAX_SHOWN])
    say(f"{len(counts)} labels: {shown}{', ...' * (len(counts) > _MAX_SHOWN)}")
    if once:
        warnings.warn(
            f"{path}: these labels occur once: {', '.join(once[:10])}. One may be a mistake, "
            "or the name of a column in a header; --columns names the columns."
        )
