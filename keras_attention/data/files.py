"""Read files of texts, pairs, labels and tags into lists of examples. An error names the file and the line.

A path is a file (`pairs.tsv`, `pairs.jsonl`, `corpus.conllu`, each also as `.gz`) or `tfds:NAME[:SPLIT]`, a data
set of TensorFlow Datasets.
"""

from __future__ import annotations

import codecs
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence

PathLike = str | pathlib.Path


class DataError(ValueError):
    """Data cannot be used. The message names the file and the line, what was expected, and how to fix it."""


def read_lines(path: PathLike) -> list[str]:
    """Read the lines of a UTF-8 text file, plain or `.gz`.

    Args:
        path: the file.

    Returns:
        All lines, also empty ones, without their line ends.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a line is not UTF-8, or a `.gz` file is damaged.

    Example:
        >>> _ = pathlib.Path("texts.txt").write_text("we eat\\n\\nwe drink\\n")
        >>> read_lines("texts.txt")
        ['we eat', '', 'we drink']
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; expected a file.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    try:
        with opened as file:
            return list(decode_lines(file, str(path)))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is not a complete gzip file ({error}). Download it again, or compress it again."
        ) from None


def decode_lines(lines: Iterator[bytes], name: str) -> Iterator[str]:
    r"""Decode lines of bytes as UTF-8 and remove their line ends.

    Args:
        lines: each ends with `\n` or `\r\n`.
        name: the file's name, for error messages.

    Returns:
        An iterator over strings. A byte order mark at the beginning is removed.

    Raises:
        DataError: a line is not UTF-8.

    Example:
        >>> list(decode_lines(iter([b"we eat\r\n", b"bread\n"]), "texts.txt"))
        ['we eat', 'bread']
    """
    binary = False
    for number, line in enumerate(lines, 1):
        try:
            binary = binary or b"\0" in line
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            wide = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            if binary and not wide:
                raise DataError(f"{name} is a binary file (line {number}); expected text.") from None
            raise DataError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8. Convert the file, for "
                f"example with: iconv -f {'utf-16' if wide else 'latin1'} -t utf-8"
            ) from None


def read_pairs(path: PathLike, targets: PathLike | None = None) -> list[tuple[str, str]]:
    """Read (source, target) pairs.

    Args:
        path: a TSV file (the first two columns), a JSONL file (`{"source": ..., "target": ...}`) or
            `tfds:NAME[:SPLIT]`; with `targets`, a text file of sources.
        targets: a text file of targets; its line i is the translation of line i of `path`.

    Returns:
        (source, target) strings. Pairs with an empty source or target are skipped.

    Raises:
        FileNotFoundError: a file is missing.
        DataError: there are no pairs, a column or key is missing, the two files have different numbers of lines, or a
            file is not UTF-8.

    Example:
        >>> _ = pathlib.Path("pairs.tsv").write_text("we eat bread\\tcomemos pan\\n")
        >>> read_pairs("pairs.tsv")
        [('we eat bread', 'comemos pan')]
    """
    pairs = _read_columns(path, ("source", "target")) if targets is None else _read_aligned(path, targets)
    return _require_examples([pair for pair in pairs if all(side.strip() for side in pair)], path)


def _read_aligned(path: PathLike, targets: PathLike) -> list[tuple[str, str]]:
    if {_suffix(path), _suffix(targets)} & {".tsv", ".jsonl"}:
        raise DataError(
            f"{path} and {targets}: two files are read as sources and targets, line by line; expected text files. To "
            "use several files of pairs, join them into one file."
        )
    source_lines, target_lines = read_lines(path), read_lines(targets)
    if len(source_lines) != len(target_lines):
        raise DataError(
            f"{path} has {len(source_lines)} lines and {targets} has {len(target_lines)}; expected the same number: "
            "each line of one file is the translation of the same line of the other."
        )
    return list(zip(source_lines, target_lines, strict=True))


def read_labelled(path: PathLike) -> list[tuple[str, str]]:
    """Read (text, label) pairs.

    Args:
        path: a TSV file (the first two columns), a JSONL file (`text`, `label`) or `tfds:NAME[:SPLIT]`.

    Returns:
        (text, label) strings. Lines without a text are skipped.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`; or a text has no label.

    Example:
        >>> _ = pathlib.Path("reviews.jsonl").write_text('{"text": "fine film", "label": 1}')
        >>> read_labelled("reviews.jsonl")
        [('fine film', '1')]
    """
    rows = [row for row in _read_columns(path, ("text", "label")) if row[0].strip()]
    unlabelled = next((text for text, label in rows if not label.strip()), None)
    if unlabelled is not None:
        raise DataError(f"{path}: {unlabelled[:80]!r} has no label; expected one for each text.")
    return _require_examples(rows, path)


def read_texts(path: PathLike) -> list[str]:
    """Read texts.

    Args:
        path: a text file (one text per line), a JSONL file (`text`) or `tfds:NAME[:SPLIT]`.

    Returns:
        Strings. Empty texts are skipped.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`.

    Example:
        >>> _ = pathlib.Path("texts.txt").write_text("we eat\\n\\nwe drink\\n")
        >>> read_texts("texts.txt")
        ['we eat', 'we drink']
    """
    if str(path).startswith("tfds:") or _suffix(path) == ".jsonl":
        texts = [row[0] for row in _read_columns(path, ("text",))]
    else:
        texts = read_lines(path)
    return _require_examples([text for text in texts if text.strip()], path)


def read_tagged(path: PathLike, column: int = 4) -> list[list[tuple[str, str]]]:
    """Read tagged sentences from a CoNLL-U file, or from a file with two tab-separated columns.

    Args:
        path: a file with one word per line and an empty line after each sentence.
        column: number of the tag's column, counted from 1; UPOS is column 4 of CoNLL-U. In a file with two columns the
            tag is in the second column.

    Returns:
        Sentences, each a list of (word, tag). Spaces in a word become no-break spaces, because a space separates words.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`; or a line has no word or no tag.

    Example:
        >>> _ = pathlib.Path("tags.tsv").write_text("we\\tPRON\\neat\\tVERB\\n\\ngo\\tVERB\\n")
        >>> read_tagged("tags.tsv")
        [[('we', 'PRON'), ('eat', 'VERB')], [('go', 'VERB')]]
    """
    if str(path).startswith("tfds:"):
        raise DataError(f"{path}: tagged words cannot be read from tfds:; expected a file, CoNLL-U or two columns.")
    lines, sentences = read_lines(path), [[]]
    conll = any(re.match(r"1\t.*\t.*\t", line) for line in lines)
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        comment = line.startswith("#") and (conll or len(cells) == 1)
        if not line.strip():
            sentences.append([])
        elif not comment and not _is_range_or_empty_node(cells):
            sentences[-1].append(_tagged_word(cells, column, f"{path}, line {number}"))
    return _require_examples([sentence for sentence in sentences if sentence], path)


def _is_range_or_empty_node(cells: list[str]) -> bool:
    """Return whether a line of CoNLL-U repeats words (`2-3`) or adds one that is not in the text (`3.1`)."""
    return len(cells) > 2 and re.fullmatch(r"\d+[-.]\d+", cells[0]) is not None


def _tagged_word(cells: list[str], column: int, where: str) -> tuple[str, str]:
    word, tag = (0, 1) if len(cells) == 2 else (1, column - 1)
    if len(cells) <= tag:
        raise DataError(
            f"{where}: {len(cells)} tab-separated columns; expected a word and its tag, or CoNLL-U with the tag in "
            f"column {column}."
        )
    if not cells[word].strip():
        raise DataError(f"{where}: there is no word before the tag.")
    if not cells[tag].strip():
        raise DataError(f"{where}: the word {cells[word]!r} has no tag.")
    return cells[word].replace(" ", "\u00a0"), cells[tag]


def _suffix(path: PathLike) -> str:
    return pathlib.Path(str(path).removesuffix(".gz")).suffix


def _require_examples(examples: list, path: PathLike) -> list:
    if not examples:
        raise DataError(f"{path} contains no examples; expected at least one line that is not empty.")
    return examples


def _read_columns(path: PathLike, columns: Sequence[str]) -> list[tuple[str, ...]]:
    if str(path).startswith("tfds:"):
        from keras_attention.data.tfds import read_columns

        return read_columns(str(path), columns)
    read_row = _row_of_jsonl if _suffix(path) == ".jsonl" else _row_of_tsv
    return [
        read_row(line, columns, f"{path}, line {number}")
        for number, line in enumerate(read_lines(path), 1)
        if line.strip()
    ]


def _row_of_tsv(line: str, columns: Sequence[str], where: str) -> tuple[str, ...]:
    cells = line.split("\t")
    if len(cells) < len(columns):
        raise DataError(f"{where}: {len(cells)} tab-separated columns; expected {len(columns)}: {', '.join(columns)}.")
    return tuple(cells[: len(columns)])


def _row_of_jsonl(line: str, columns: Sequence[str], where: str) -> tuple[str, ...]:
    expected = "{" + ", ".join(f'"{key}": ...' for key in columns) + "}"
    try:
        row = json.loads(line)
        if any(row[key] is None for key in columns):
            raise KeyError
        return tuple(str(row[key]) for key in columns)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg}); expected {expected}.") from None
    except (KeyError, TypeError):
        raise DataError(f"{where}: expected an object {expected}; received {line[:80]}") from None
