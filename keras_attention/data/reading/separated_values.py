"""The cells of TSV and CSV files: find the separator, and split the lines."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence

from keras_attention.data.lines import DataError, PathLike, counted, file_suffix, read_lines
from keras_attention.data.reading.columns import Layout, find_columns


def read_cells(path: PathLike, layouts: Sequence[Layout]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that are not empty."""
    lines = read_lines(path)
    if len(lines) > 1 and re.fullmatch(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?)?\s*", lines[1]):
        raise DataError(
            f"{path}, line 2: {lines[1].strip()[:80]!r} is a rule of a Markdown table; expected a row. Delete this "
            "line, and the | at the start and the end of the other lines."
        )
    if lines and (named := re.fullmatch('(?i)"?sep=([,;|\t])"?', lines[0])):  # Excel
        lines, separator = ["", *lines[1:]], named[1]
    else:
        separator = _separator(path, lines, layouts)
    rows = _split(lines, separator, path)
    if not _may_be_quoted(separator, path) and (doubled := _doubled_quotes(lines, separator)):
        warnings.warn(
            f"{path}, line {doubled[0]}: {lines[doubled[0] - 1][:80]!r} has a cell in quotes with doubled quotation "
            f"marks, which are kept; {counted(len(doubled), 'line has', 'lines have')} one. If the file is "
            "CSV, let its name end in .csv; its separator may be a tab."
        )
    for number, cells in rows:
        if any(cell.strip() for cell in cells):
            yield number, cells


def _split(lines: Sequence[str], separator: str, path: PathLike) -> list[tuple[int, list[str]]]:
    """Return the line number and the cells of each row.

    Cells may be quoted, see `_may_be_quoted`. But if the separator is a bar or a tab, a quotation mark can also be part
    of the text. Then quotes are not interpreted if a line is not valid CSV and no line has doubled quotation marks.
    """
    if _may_be_quoted(separator, path):
        try:
            return list(_quoted_rows(lines, separator, path))
        except DataError:
            if separator in ",;" or _doubled_quotes(lines, separator):
                raise
    return [(number, line.split(separator)) for number, line in enumerate(lines, 1)]


def _may_be_quoted(separator: str, path: PathLike) -> bool:
    return separator in ",;" or file_suffix(path) == ".csv"


def _doubled_quotes(lines: Sequence[str], separator: str) -> list[int]:
    """Return the numbers of the lines that have a cell in quotes with doubled quotation marks."""
    end, other = re.escape(separator), f"[^{re.escape(separator)}]*"
    pattern = re.compile(f'(^|{end})"{other}""{other}"({end}|$)')
    return [number for number, line in enumerate(lines, 1) if pattern.search(line)]


def _separator(path: PathLike, lines: Sequence[str], layouts: Sequence[Layout]) -> str:
    """Return the separator of a table.

    Raises:
        DataError: there is no header, and several separators split all lines alike.
    """
    number, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (1, ""))
    if _is_json_object(first):
        raise DataError(f"{path}, line {number}: this is an object of JSON. Give the file a name that ends in .jsonl.")
    suffix = file_suffix(path)
    if suffix == ".tsv" or (suffix != ".csv" and "\t" in first):
        return "\t"
    marks = [mark for mark in (",;|\t" if suffix == ".csv" else "|,;") if mark in first]
    headers = [mark for mark in marks if find_columns(first.replace('"', "").split(mark), layouts)]
    if len(marks) < 2 or headers:
        return [*headers, *marks, "," if suffix == ".csv" else "\t"][0]
    alike = [mark for mark in marks if _splits_alike(lines, mark, path)]
    if len(alike) > 1:
        shown = " or ".join(map(repr, alike))
        raise DataError(
            f"{path}, line {number}: the separator may be {shown}, because each splits all lines into the same number "
            f"of columns. Write a first line with the names of the columns, or, as Excel does, sep={alike[0]}"
        )
    return [*alike, *marks][0]


def _is_json_object(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _splits_alike(lines: Sequence[str], mark: str, path: PathLike) -> bool:
    """Return whether a separator splits all rows that are not empty into the same number of cells, two or more."""
    try:
        counts = {len(cells) for _, cells in _split(lines, mark, path) if any(cell.strip() for cell in cells)}
    except DataError:
        return False
    return len(counts) == 1 and min(counts) > 1


def _quoted_rows(lines: Iterable[str], separator: str, path: PathLike) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file; a quoted cell may have several lines."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader((line + "\n" for line in lines), delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        start = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {start}: {error}; write a quotation mark inside quotes twice.") from None
        if cells is None:
            return
        yield start, cells
