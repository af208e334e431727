"""Recognize the header of a table by its contents, if the names of its columns are unknown."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence

_MIN_ROWS = 10  # with fewer other rows, a label that occurs once is not unusual
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff"  # Thai to Burmese, Khmer, Kana, Han
_MAX_NAME_LENGTH = 40  # maximum number of characters in the name of a column


def looks_like_header(rows: Sequence[Mapping[str, str]], labels: Sequence[str] = ()) -> bool:
    """Return whether the first row of a table looks like a header with unknown names, such as `Satz, Kategorie`.

    The cells of a header are short. In a table of labels, the label of a header occurs in no other row, and is neither
    an expected label nor `-`, which means no agreement; the other labels are numbers or occur several times. In a table
    of pairs, each cell of a header is one word, and every other row has a cell of several words. A text in a script
    without spaces does not count as one word.

    Args:
        rows: role of a column -> cell, for each row.
        labels: the labels that are expected, if they are known.

    Example:
        >>> rows = [{"source": f"we see {n}", "target": f"vemos {n}"} for n in range(10)]
        >>> looks_like_header([{"source": "englisch", "target": "spanisch"}, *rows]), looks_like_header(rows)
        (True, False)
    """
    if len(rows) <= _MIN_ROWS or max(map(len, rows[0].values())) > _MAX_NAME_LENGTH:
        return False
    if "label" not in rows[0]:
        return len(rows[0]) > 1 and _is_name(rows[0]) and not any(map(_is_name, rows[1:]))
    first, *others = [row.get("label", "").strip() for row in rows]
    counts = collections.Counter(others)
    numbers = not _is_number(first) and all(map(_is_number, counts))
    known = first in counts or first in labels or first in ("", "-")
    return not known and (numbers or min(counts.values()) > 1)


def _is_name(row: Mapping[str, str]) -> bool:
    cells = [cell.strip() for cell in row.values()]
    return all(re.fullmatch(r"[^\W\d][\w-]*", cell) and not re.search(f"[{_UNSPACED}]", cell) for cell in cells)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)?", text) is not None
