"""Read rows of tables: TSV, CSV and JSON lines, with or without a header.

Each row has as many cells as the first; an error names the file and the line.
"""

from __future__ import annotations

import itertools
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras_attention.data.lines import DataError, DataWarning, PathLike, counted, file_suffix, read_lines
from keras_attention.data.reading.columns import (
    Layout,
    as_option,
    expected_columns,
    find_column,
    find_columns,
    missing_column,
    plain_name,
    rename_columns,
)
from keras_attention.data.reading.headers import looks_like_header
from keras_attention.data.reading.separated_values import read_cells

JSON_LINES = (".jsonl", ".ndjson")
_QQP = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
_LOG = logging.getLogger(__name__)


def read_rows(
    path: PathLike,
    layouts: Sequence[Layout],
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
) -> list[tuple[int, dict[str, Any]]]:
    """Read the rows of a TSV, CSV or JSONL file.

    Args:
        path: the file. The end of its name gives the format:
            `.jsonl`, `.ndjson`: one JSON object per line.
            `.tsv`: cells without quotes, separated by tabs.
            `.csv`: cells may be in quotes, and may then contain line breaks. The separator is a comma, semicolon, bar
            or tab: the one in Excel's first line, such as `sep=;`; the one that finds the columns in the header; or the
            only one that splits all lines into the same number of cells.
            Another name: as `.tsv` if the first line has a tab, else as `.csv`.
        layouts: the possible roles of columns, and their names.
        columns: role -> name of its column, or its number, from 1, in a table without a header.
        labels: the labels that are expected; a first row with one of them is an example. None for any.

    Returns:
        Rows: the line number, and role -> value, a string or, in JSON lines, any value that is not null.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a column or key is missing, a row has another number of cells, the separator is not clear, or the
            file has another format.

    Example:
        >>> import pathlib
        >>> from keras_attention.data.reading.columns import LABELLED
        >>> _ = pathlib.Path("reviews.csv").write_text('text,label\\n"fine, short",good\\n')
        >>> read_rows("reviews.csv", LABELLED)
        [(2, {'text': 'fine, short', 'label': 'good'})]
    """
    layouts = rename_columns(layouts, columns or {}, path)
    suffix = file_suffix(path)
    if suffix == ".json":
        raise DataError(
            f"{path} is JSON; expected one object a line, in a .jsonl file. Convert it with: jq -c '.[]' {path}; or "
            "let its name end in .jsonl, if it has one object a line."
        )
    return list(_rows_of_jsonl(path, layouts) if suffix in JSON_LINES else _rows_of_table(path, layouts, labels or ()))


# JSON lines


def _rows_of_jsonl(path: PathLike, layouts: Sequence[Layout]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in read_json_lines(path):
        where = f"{path}, line {number}"
        chosen = find_columns(row, layouts) if isinstance(row, dict) else None
        if chosen is None:
            raise DataError(
                f"{where}: {missing_column([*row], layouts[-1]) if isinstance(row, dict) else ''}expected an object "
                f"with {expected_columns(layouts)}; received {json.dumps(row)[:80]}"
            )
        values = {role: row[name] for role, name in chosen.items()}
        if missing := [chosen[role] for role, value in values.items() if value is None]:
            raise DataError(f"{where}: {missing[0]} is null; expected a value.")
        yield number, values


def read_json_lines(path: PathLike) -> Iterator[tuple[int, Any]]:
    """Yield the line number and the value of each line of a JSONL file that is not empty."""
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield number, parse_json(line, path, number)


def parse_json(text: str, path: PathLike, line: int = 1) -> Any:
    """Return the value of a JSON text that begins at a line of a file.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {line + error.lineno - 1}: not JSON ({error.msg}); expected one object per line in a .jsonl "
            "file, or one JSON value in a .json file."
        ) from None


# Tables with separators


def _rows_of_table(
    path: PathLike, layouts: Sequence[Layout], labels: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    rows = list(read_cells(path, layouts))
    if not rows:
        return
    number, first = rows[0]
    chosen = find_columns(first, layouts)
    if chosen is not None:
        named = ", ".join(f"{role} = {name.strip()!r}" for role, name in chosen.items())
        _LOG.info("%s: line %d is a header; columns: %s.", path, number, named)
        names = [*map(plain_name, first)]
        if doubled := [name for name in chosen.values() if names.count(plain_name(name)) > 1]:
            same = " and ".join(repr(name) for name in first if plain_name(name) == plain_name(doubled[0]))
            raise DataError(
                f"{path}, line {number}: several columns are called {same}; expected one. Rename the others."
            )
        indices = {role: first.index(name) for role, name in chosen.items()}
        rows = rows[1:]
    else:
        indices = _numbered_columns(rows, layouts, labels, f"{path}, line {number}")
        numbered = ", ".join(f"{role} = column {index + 1}" for role, index in indices.items())
        _LOG.info("%s: no header, line %d is an example; %s. `columns` names the columns.", path, number, numbered)
    for number, cells in _check_widths(rows, first, path):
        yield number, {role: cells[index] for role, index in indices.items()}


def _numbered_columns(
    rows: Sequence[tuple[int, list[str]]], layouts: Sequence[Layout], labels: Sequence[str], where: str
) -> dict[str, int]:
    """Return role -> index of its column in a table without a header.

    Raises:
        DataError: the first line is a header with unknown names, or has another number of columns.
    """
    layout, first = layouts[-1], rows[0][1]
    numbers = {role: names[0] for role, names in layout.items() if names[0].isdecimal()}
    if len(numbers) == len(layout) and all(0 < int(number) <= len(first) for number in numbers.values()):
        return {role: int(number) - 1 for role, number in numbers.items()}
    if {*layout} == {"text", "label"} and _is_cola(rows):
        return {"text": 3, "label": 1}
    user_names_column = any(len(names) == 1 for names in layout.values())
    if len(first) != len(layout) or user_names_column or any(find_column(names, first) for names in layout.values()):
        shown = f"{', '.join(first)[:80]}; {missing_column(first, layout)}"
        raise DataError(
            f"{where}: {counted(len(first), 'column')}, {shown}expected a header with {expected_columns(layouts)}; "
            f"or {counted(len(layout), 'column')} without a header."
        )
    if looks_like_header([dict(zip(layout, row, strict=False)) for _, row in rows], labels):
        names = [name.strip() for name in first]
        as_names = f"set `columns` to {as_option(layout, names)}"
        if "" in names or "," in "".join(names) or len({*map(plain_name, names)}) < len(names):
            as_names = f"rename its columns to {', '.join(layout)}"
        problem = (
            f"{where}: {', '.join(first)[:80]!r} may be a header, because it differs from the other rows. If it is, "
            f"{as_names}; if it is an example, set `columns` to {as_option(layout, itertools.count(1))}."
        )
        if "label" in layout:  # the model would learn a class that does not exist
            raise DataError(problem)
        warnings.warn(f"{problem} It is read as an example.", DataWarning)
    return {role: index for index, role in enumerate(layout)}


def _is_cola(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether a table is that of CoLA, with four columns: source, label 0 or 1, the mark * or nothing, text."""
    return all(len(row) == 4 and row[1] in ("0", "1") and row[2] in ("", "*") for _, row in rows)


def _check_widths(
    rows: Iterable[tuple[int, list[str]]], first: Sequence[str], path: PathLike
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that have as many cells as the first; in QQP, rows that a line break has split are skipped."""
    skipped = []
    for number, cells in rows:
        if len(cells) == len(first):
            yield number, cells
        elif tuple(first) == _QQP:
            skipped.append(number)
        else:
            raise DataError(
                f"{path}, line {number}: {counted(len(cells), 'column')}; expected {len(first)}, as in the first line. "
                f'Put a cell that contains the separator in quotes in a .csv file: "a dog, a cat". '
                f"Received {str(cells)[:80]}"
            )
    if skipped:
        rows = counted(len(skipped), "damaged row")
        warnings.warn(f"{path}: skipped {rows} of QQP, the first on line {skipped[0]}.")
