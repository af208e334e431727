"""Read the examples of `train` and `evaluate` with the options of the command line, and list their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.lines import one_line
from keras_attention.cli.options import Option, drop_unset
from keras_attention.cli.terminal import write_message
from keras_attention.task_specs import TASK_SPECS

_WITH_COLUMNS = [name for name in TASK_SPECS if name != "tagger"]
_MAX_SHOWN = 30  # labels in the list


def _parse_columns(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, str] | None:
    """Return the columns of `--columns text=review,label=stars`."""
    if value is None:
        return None
    parts = [part.partition("=") for part in value.split(",")]
    if not all(role.strip() and name.strip() for role, _, name in parts):
        raise click.BadParameter(f"{value!r}: expected names or numbers of columns, such as text=review,label=2.")
    return {role.strip(): name.strip() for role, _, name in parts}


def reading_options(group: str) -> list[Option]:
    """Return the options that describe the format of files."""
    return [
        Option(
            "--columns",
            metavar="ROLE=COLUMN,...",
            callback=_parse_columns,
            group=group,
            tasks=_WITH_COLUMNS,
            help="columns to read, such as text=review,label=stars: the text is in the column review, the label in the "
            "column stars. Without a header, write column numbers: text=2,label=1.",
        ),
        Option(
            "--tag-column",
            type=click.IntRange(1),
            metavar="NUMBER",
            group=group,
            tasks=["tagger"],
            help="number of the column that contains the tags; the first column is 1.  [default: 4 for CoNLL-U, "
            "otherwise the last]",
        ),
    ]


def read_examples(task: type, paths: Sequence[str], labels: Sequence[str] | None = None, **options: Any) -> list:
    """Read the examples of a task.

    Args:
        task: the class of the task.
        paths: the files.
        labels: the expected labels; None for any labels, and for a task without labels.
        **options: `images`, `columns` and `tag_column`; None for an option that is not set.
    """
    return task.data.read(paths, **drop_unset({"labels": labels, **options}))


def hold_out(task: type, examples: list, seed: int) -> tuple[list, list | None]:
    """Hold out validation examples and print their number; return both parts, None for validation if there are few."""
    train, validation = ka.data.split_examples(examples, seed=seed, label_counts=task.data.label_counts)
    if not validation:
        write_message(
            "--valid is not set, and the data is too little to hold out a part, so the model trains on all of it."
        )
        return examples, None
    count, total = f"{len(validation)} of {len(examples):,}", "training examples"
    if isinstance(examples[0], str) and (
        len(examples) < 20 or len(train) + len(validation) > len(examples)
    ):  # it was cut
        count, total = f"the last {sum(map(len, validation)):,} of {sum(map(len, examples)):,}", "characters"
    write_message(f"--valid is not set: {count} {total} are held out for validation; --valid none trains on all.")
    return train, validation


def list_labels(task: type, examples: Sequence) -> None:
    """List the labels of examples with their counts; a task without labels has no list."""
    from keras_attention.data.lines import counted, shortened  # imports Keras

    counts = task.data.label_counts(examples).most_common()
    if counts:
        shown = shortened((f"{one_line(label)} ({count})" for label, count in counts), _MAX_SHOWN)
        write_message(f"{counted(len(counts), 'label')}: {shown}")
