"""The columns of tables: their roles, such as `text` or `label`, and the names by which they are found.

Common names in a header, or as keys of JSON objects, are recognized; `columns` sets other names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_attention.argument_checks import did_you_mean
from keras_attention.data.lines import DataError, PathLike

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


def rename_columns(layouts: Sequence[Layout], columns: Mapping[str, str], path: PathLike) -> list[Layout]:
    """Return the layouts that have all roles of `columns`, with the names of columns that the user sets.

    Raises:
        DataError: there is no such role, or two roles have the same column.
        TypeError: `columns` is no dict, such as the string of the option `--columns`.
    """
    if not isinstance(columns, Mapping):
        expected = "expected a dict, such as {'text': 'review', 'label': 'stars'}"
        raise TypeError(f"`columns` is {columns!r:.80}; {expected}.")
    roles = dict.fromkeys(role for layout in layouts for role in layout)
    if unknown := [role for role in columns if role not in roles]:
        raise DataError(f"{path}: `columns` names {unknown[0]}, which does not exist; expected {', '.join(roles)}.")
    columns = {role: str(name) for role, name in columns.items()}
    distinct = {int(name) if name.isdecimal() else plain_name(name) for name in columns.values()}
    if len(distinct) < len(columns):
        raise DataError(f"{path}: `columns` has one column for {' and '.join(columns)}; expected different ones.")
    single = "text" in columns and "text_pair" not in columns
    return [
        {**layout, **{role: (name,) for role, name in columns.items()}}
        for layout in layouts
        if {*columns} <= {*layout} and not (single and "text_pair" in layout)
    ]


def find_columns(names: Iterable[str], layouts: Sequence[Layout]) -> dict[str, str] | None:
    """Return role -> name of its column, for the first layout whose roles are all found; None if there is none."""
    names = list(names)
    if layouts == [*TRANSLATION] and len({*map(plain_name, names)} & {*_LANGUAGES}) == len(names) == 2:
        return dict(zip(layouts[0], names, strict=True))
    for layout in layouts:
        columns = {role: find_column(candidates, names) for role, candidates in layout.items()}
        if all(columns.values()):
            return columns
    return None


def expected_columns(layouts: Sequence[Layout]) -> str:
    """Return the part of an error message that names the expected columns of a table."""
    layout = layouts[-1]
    expected = " and ".join(f"the column {role} ({', '.join(names)})" for role, names in layout.items())
    by_name, by_number = (as_option(layout, values) for values in (itertools.repeat("NAME"), itertools.count(1)))
    return f"{expected}, or set `columns` to {by_name} or, without a header, to {by_number}"


def as_option(layout: Layout, values: Iterable[Any]) -> str:
    """Return roles and values as the user writes them for `--columns`, such as `text=1,label=2`."""
    return ",".join(f"{role}={value}" for role, value in zip(layout, values, strict=False))


def missing_column(names: Sequence[str], layout: Layout) -> str:
    """Return the part of an error message about a column that the user named and that is missing; "" if all exist."""
    numbers = [str(number) for number in range(1, len(names) + 1)]
    named = [candidates[0] for candidates in layout.values() if len(candidates) == 1]
    missing = [name for name in named if name not in numbers and not find_column([name], names)]
    if not missing:
        return ""
    suggestion = did_you_mean(missing[0], names)
    return f"there is no column {missing[0]!r}" + (f".{suggestion} " if suggestion else "; ")


def find_column(candidates: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first candidate that is in `names`, ignoring case, spaces, - and _; None if there is none."""
    table = {plain_name(name): name for name in reversed(names)}
    return next((table[plain_name(name)] for name in candidates if plain_name(name) in table), None)


def plain_name(name: str) -> str:
    """Return the name of a column in lower case, with _ for spaces and -."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())
