"""Read rows of tables: TSV, CSV and JSON lines, with or without a header.

Each column has a role, such as `text` or `label`. Common names in a header, or as keys of JSON objects, are recognized;
`columns` sets other names. Each row has as many cells as the first; an error names the file and the line.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras_attention.data.headers import looks_like_header
from keras_attention.data.lines import DataError, PathLike, counted, file_suffix, read_lines

# A layout: role -> names of its column, in order of preference. The first layout whose roles are all found is used.
Layout = Mapping[str, Sequence[str]]

_LABEL = (
    "label",
    "gold_label",
    "class",
    "category",
    "sentiment",
    "intent",
    "stars",
    "rating",
    "quality",
    "is_duplicate",
)
_TEXT = ("text", "sentence", "review", "comment", "content", "document", "tweet", "utterance")
_PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("#1_string", "#2_string"),  # MRPC
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
_LANGUAGES = (
    "ar", "bg", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it",
    "ja", "ko", "lt", "lv", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "th", "tr", "uk", "vi", "zh", "arabic",
    "chinese", "czech", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hindi", "hungarian",
    "italian", "japanese", "korean", "persian", "polish", "portuguese", "romanian", "russian", "spanish", "swedish",
    "thai", "turkish", "ukrainian", "vietnamese",
)  # fmt: skip
TRANSLATION: tuple[Layout, ...] = (
    {"source": ("source", "src", "source_text"), "target": ("target", "tgt", "target_text")},
)
TEXTS: tuple[Layout, ...] = ({"text": _TEXT},)
LABELLED: tuple[Layout, ...] = (
    *({"text": (first,), "text_pair": (second,), "label": _LABEL} for first, second in _PAIRS),
    {"text": _TEXT, "label": _LABEL},
)
# In order of preference: if a table has both columns, `file_name` is used and not `image_id`.
IMAGE_COLUMNS = (
    "file_name", "filename", "file", "image", "image_name", "image_file", "image_path", "path", "picture", "image_id",
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "comment", "sentence", "description")
CAPTIONS: tuple[Layout, ...] = ({"image": IMAGE_COLUMNS, "caption": CAPTION_COLUMNS},)
JSON_LINES = (".jsonl", ".ndjson")
_QQP = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
_LOG = logging.getLogger(__name__)


def read_rows(
    path: PathLike, layouts: Sequence[Layout], columns: Mapping[str, str] | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Read the rows of a TSV, CSV or JSONL file.

    Args:
        path: the file. `.jsonl` has one object a line. `.csv` has quoted cells, which may contain line breaks; its
            separator is a comma, semicolon, bar or tab, that of Excel's line `sep=;`, of the header, or the one that
            splits all lines alike. `.tsv` has tabs and no quotes. In files of other names, the separator is a tab if
            the first line has one. `.ndjson` is like `.jsonl`.
        layouts: the possible roles of columns, and their names.
        columns: role -> name of its column, or its number, from 1, in a table without a header.

    Returns:
        Rows: the line number, and role -> value, a string or, in JSON lines, any value that is not null.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a column or key is missing, a row has another number of cells, the separator is not clear, or the
            file has another format.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("reviews.csv").write_text('text,label\\n"fine, short",good\\n')
        >>> read_rows("reviews.csv", LABELLED)
        [(2, {'text': 'fine, short', 'label': 'good'})]
    """
    layouts = rename_columns(layouts, columns or {}, path)
    suffix = file_suffix(path)
    if suffix == ".json":
        raise DataError(
            f"{path} is JSON; expected one object a line (.jsonl). Convert it with: jq -c '.[]' {path}; or, if it has "
            "one object a line, rename it."
        )
    return list(_rows_of_jsonl(path, layouts) if suffix in JSON_LINES else _rows_of_table(path, layouts))


def rename_columns(layouts: Sequence[Layout], columns: Mapping[str, str], path: PathLike) -> list[Layout]:
    """Return the layouts that have all roles of `columns`, with these names of columns.

    Raises:
        DataError: there is no such role.
    """
    roles = dict.fromkeys(role for layout in layouts for role in layout)
    if unknown := [role for role in columns if role not in roles]:
        raise DataError(f"{path}: `columns` names {unknown[0]}, which does not exist; expected {', '.join(roles)}.")
    single = "text" in columns and "text_pair" not in columns
    return [
        {**layout, **{role: (name,) for role, name in columns.items()}}
        for layout in layouts
        if {*columns} <= {*layout} and not (single and "text_pair" in layout)
    ]


def find_columns(names: Iterable[str], layouts: Sequence[Layout]) -> dict[str, str] | None:
    """Return role -> name of its column, for the first layout whose roles are all found; None if there is none."""
    names = list(names)
    if layouts == [*TRANSLATION] and len({*map(_plain, names)} & {*_LANGUAGES}) == len(names) == 2:
        return dict(zip(layouts[0], names, strict=True))
    for layout in layouts:
        columns = {role: _find(candidates, names) for role, candidates in layout.items()}
        if all(columns.values()):
            return columns
    return None


def expected_columns(layouts: Sequence[Layout]) -> str:
    """Return what an error says about the columns of a table."""
    layout = layouts[-1]
    wanted = " and ".join(f"the column {role} ({', '.join(names)})" for role, names in layout.items())
    by_name, by_number = (_as_columns(layout, values) for values in (itertools.repeat("NAME"), itertools.count(1)))
    return f"{wanted}, or set `columns` to {by_name} or, without a header, to {by_number}"


def _as_columns(layout: Layout, values: Iterable[Any]) -> str:
    """Return the roles of a layout and these values as a user writes them."""
    return ",".join(f"{role}={value}" for role, value in zip(layout, values, strict=False))


def _missing(names: Sequence[str], layout: Layout) -> str:
    """Return what an error says about a column that the user named and that does not exist; "" if there is none."""
    numbers = [str(number) for number in range(1, len(names) + 1)]
    named = [candidates[0] for candidates in layout.values() if len(candidates) == 1]
    missing = [name for name in named if name not in numbers and not _find([name], names)]
    if not missing:
        return ""
    similar = difflib.get_close_matches(missing[0], names, n=1)
    return f"there is no column {missing[0]!r}" + (f". Did you mean {similar[0]}? " if similar else "; ")


def _find(candidates: Iterable[str], names: Sequence[str]) -> str | None:
    table = {_plain(name): name for name in reversed(names)}
    return next((table[_plain(name)] for name in candidates if _plain(name) in table), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


# JSON lines


def _rows_of_jsonl(path: PathLike, layouts: Sequence[Layout]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in read_json_lines(path):
        where = f"{path}, line {number}"
        chosen = find_columns(row, layouts) if isinstance(row, dict) else None
        if chosen is None:
            raise DataError(
                f"{where}: {_missing([*row], layouts[-1]) if isinstance(row, dict) else ''}expected an object with "
                f"{expected_columns(layouts)}; received {json.dumps(row)[:80]}"
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


def _rows_of_table(path: PathLike, layouts: Sequence[Layout]) -> Iterator[tuple[int, dict[str, str]]]:
    rows = list(_read_table(path, layouts))
    if not rows:
        return
    number, first = rows[0]
    chosen = find_columns(first, layouts)
    if chosen is not None:
        named = ", ".join(f"{role} = {name.strip()!r}" for role, name in chosen.items())
        _LOG.info("%s: line %d is a header; columns: %s.", path, number, named)
        indices = {role: first.index(name) for role, name in chosen.items()}
        rows = rows[1:]
    else:
        indices = _numbered_columns(rows, layouts, f"{path}, line {number}")
        numbered = ", ".join(f"{role} = column {index + 1}" for role, index in indices.items())
        _LOG.info("%s: no header, line %d is an example; %s. `columns` names the columns.", path, number, numbered)
    for number, cells in _check_widths(rows, first, path):
        yield number, {role: cells[index] for role, index in indices.items()}


def _numbered_columns(rows: Sequence[tuple[int, list[str]]], layouts: Sequence[Layout], where: str) -> dict[str, int]:
    """Return role -> index of its column in a table without a header.

    Raises:
        DataError: the first line is or may be a header with unknown names, or has another number of columns.
    """
    layout, first = layouts[-1], rows[0][1]
    numbers = {role: names[0] for role, names in layout.items() if names[0].isdigit()}
    if len(numbers) == len(layout) and all(0 < int(number) <= len(first) for number in numbers.values()):
        return {role: int(number) - 1 for role, number in numbers.items()}
    if {*layout} == {"text", "label"} and _is_cola(rows):
        return {"text": 3, "label": 1}
    usual = all(len(names) > 1 for names in layout.values())  # no column is named by the user
    if len(first) != len(layout) or not usual or any(_find(names, first) for names in layout.values()):
        shown = f"{', '.join(first)[:80]}; {_missing(first, layout)}"
        raise DataError(
            f"{where}: {counted(len(first), 'column')}, {shown}expected a header with {expected_columns(layouts)}; "
            f"or {counted(len(layout), 'column')} without a header."
        )
    if looks_like_header([dict(zip(layout, row, strict=False)) for _, row in rows]):
        by_name, by_number = (_as_columns(layout, values) for values in (map(str.strip, first), itertools.count(1)))
        raise DataError(
            f"{where}: {', '.join(first)[:80]!r} may be a header, because it differs from the other rows. If it is, "
            f"set `columns` to {by_name}; if it is an example, to {by_number}."
        )
    return {role: index for index, role in enumerate(layout)}


def _is_cola(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether a table is that of CoLA: its source, the label 0 or 1, the author's mark * or nothing, a text."""
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


def _read_table(path: PathLike, layouts: Sequence[Layout]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that are not empty."""
    lines = read_lines(path)
    if len(lines) > 1 and re.fullmatch(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?)?\s*", lines[1]):
        raise DataError(
            f"{path}, line 2: {lines[1].strip()[:80]!r} is a rule of a Markdown table; expected a row. Delete this "
            "line, and the | at the start and the end of the other lines."
        )
    if lines and (named := re.fullmatch("sep=([,;|\t])", lines[0])):  # Excel
        lines, separator = ["", *lines[1:]], named[1]
    else:
        separator = _separator(path, lines, layouts)
    rows = _split(lines, separator, path)
    if not _may_be_quoted(separator, path) and (doubled := _doubled_quotes(lines, separator)):
        warnings.warn(
            f"{path}, line {doubled[0]}: {lines[doubled[0] - 1][:80]!r} has a cell in quotes with doubled quotation "
            f"marks, which are kept; {counted(len(doubled), 'line has', 'lines have')} one. If they are those of CSV, "
            "rename the file to .csv; its separator may be a tab."
        )
    for number, cells in rows:
        if any(cell.strip() for cell in cells):
            yield number, cells


def _split(lines: Sequence[str], separator: str, path: PathLike) -> list[tuple[int, list[str]]]:
    """Return the line number and the cells of each row.

    Cells may have quotes, as `_may_be_quoted` says. But if a bar or a tab separates cells, a quotation mark can also be
    a part of the text: the cells have no quotes if not all are valid CSV, and none has doubled quotation marks.
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
