"""Files and TensorFlow Datasets to lists of examples, with errors that name the line.

A place to read from is a path (`pairs.tsv`, `pairs.jsonl`, `corpus.conllu`, each also with `.gz`),
two line-aligned files, or `tfds:NAME[:SPLIT]`.
"""

from __future__ import annotations

import codecs
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

Place = str | pathlib.Path


class DataError(ValueError):
    """A file that cannot be used; the message says where, what was expected, and how to mend it."""


def read_lines(path: Place) -> list[str]:
    """Read a UTF-8 text file, plain or `.gz`, as lines without their ends. Empty lines are kept.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a line is not UTF-8, or a `.gz` is damaged.
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
        raise DataError(f"{path} is no whole gzip file ({error}); fetch or make it again.") from None


def decode_lines(lines: Iterator[bytes], name: str) -> Iterator[str]:
    """Decode lines of bytes as UTF-8 and take off their ends.

    Args:
        lines: with `\\n` or `\\r\\n` at the end.
        name: of the file, for the error.

    Raises:
        DataError: a line is not UTF-8.
    """
    binary = False
    for number, line in enumerate(lines, 1):
        try:
            binary = binary or b"\0" in line
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            wide = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            if binary and not wide:
                raise DataError(f"{name} is no text, but a binary file (line {number}).") from None
            raise DataError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8. Convert the file, for "
                f"example with: iconv -f {'utf-16' if wide else 'latin1'} -t utf-8"
            ) from None


def read_pairs(place: Place, targets: Place | None = None) -> list[tuple[str, str]]:
    """Read (source, target) pairs.

    Args:
        place: a TSV file (the first two columns), a JSONL file (`{"source": ..., "target": ...}`),
            `tfds:NAME[:SPLIT]`, or, with `targets`, a text file of sources.
        targets: a text file of targets, aligned with `place` line by line.

    Returns:
        pairs of strings. Pairs with an empty side are left out: there is nothing to learn.

    Raises:
        FileNotFoundError: a file is missing.
        DataError: no pairs, a missing column or key, files of unequal length, or no UTF-8.
    """
    if targets is not None:
        if _kind(str(place)) in (".tsv", ".jsonl") or _kind(str(targets)) in (".tsv", ".jsonl"):
            raise DataError(
                f"{place} and {targets}: two files are sources and their targets, line by line. Put several files of "
                "pairs into one."
            )
        sources, wanted = read_lines(place), read_lines(targets)
        if len(sources) != len(wanted):
            raise DataError(
                f"{place} has {len(sources)} lines and {targets} has {len(wanted)}; expected the same number, "
                "line by line translations of each other."
            )
        pairs = list(zip(sources, wanted, strict=True))
    else:
        pairs = _read_columns(place, ("source", "target"))
    return _not_empty([pair for pair in pairs if all(side.strip() for side in pair)], place)


def read_labelled(place: Place) -> list[tuple[str, str]]:
    """Read (text, label) pairs from TSV, JSONL (`text`, `label`) or `tfds:NAME[:SPLIT]`.

    Raises: as `read_pairs`; and DataError where a text has no label.
    """
    rows = [row for row in _read_columns(place, ("text", "label")) if row[0].strip()]
    bare = next((text for text, label in rows if not label.strip()), None)
    if bare is not None:
        raise DataError(f"{place}: {bare[:80]!r} has no label; expected one for each text.")
    return _not_empty(rows, place)


def read_texts(place: Place) -> list[str]:
    """Read texts: each line of a text file, JSONL (`text`) or `tfds:NAME[:SPLIT]`.

    Raises: as `read_pairs`.
    """
    name = str(place)
    if name.startswith("tfds:") or _kind(name) == ".jsonl":
        texts = [row[0] for row in _read_columns(place, ("text",))]
    else:
        texts = read_lines(place)
    return _not_empty([text for text in texts if text.strip()], place)


def read_tagged(place: Place, column: int = 4) -> list[list[tuple[str, str]]]:
    """Read sentences of (word, tag) from a CoNLL-U file, or from two tab-separated columns.

    Args:
        place: a file with one word per line and an empty line after each sentence.
        column: which column is the tag, counted from 1; CoNLL-U has UPOS in the 4th. A file with
            two columns has it in the second.

    Returns:
        sentences of (word, tag). A space inside a word, which would part it, becomes a no-break space.

    Raises: as `read_pairs`.
    """
    if str(place).startswith("tfds:"):
        raise DataError(
            f"{place}: tagged words are read from a file, CoNLL-U or two columns, not from a tfds: dataset."
        )
    lines, sentences = read_lines(place), [[]]
    conll = any(re.match(r"1\t.*\t.*\t", line) for line in lines)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            sentences.append([])
            continue
        cells = line.split("\t")
        comment = line.startswith("#") and (conll or len(cells) == 1)
        if comment or (len(cells) > 2 and re.fullmatch(r"\d+[-.]\d+", cells[0])):
            continue  # a comment, a range of words or an empty node
        word, tag = (0, 1) if len(cells) == 2 else (1, column - 1)
        if len(cells) <= tag:
            raise DataError(
                f"{place}, line {number}: {len(cells)} tab-separated columns; expected a word and its tag, "
                f"or CoNLL-U with the tag in column {column}."
            )
        if not cells[word].strip():
            raise DataError(f"{place}, line {number}: there is no word before the tag.")
        if not cells[tag].strip():
            raise DataError(f"{place}, line {number}: the word {cells[word]!r} has no tag.")
        sentences[-1].append((cells[word].replace(" ", "\u00a0"), cells[tag]))
    return _not_empty([sentence for sentence in sentences if sentence], place)


def _kind(name: str) -> str:
    return pathlib.Path(name.removesuffix(".gz")).suffix


def _not_empty(examples: list, place: Place) -> list:
    if not examples:
        raise DataError(f"{place} holds no examples; expected at least one line that is not empty.")
    return examples


def _read_columns(place: Place, columns: Sequence[str]) -> list[tuple[str, ...]]:
    name = str(place)
    if name.startswith("tfds:"):
        return _read_tfds(name, columns)
    if _kind(name) == ".jsonl":
        return [_from_json(line, columns, name, i) for i, line in enumerate(read_lines(place), 1) if line.strip()]
    return [_from_tsv(line, columns, name, i) for i, line in enumerate(read_lines(place), 1) if line.strip()]


def _from_tsv(line: str, columns: Sequence[str], name: str, number: int) -> tuple[str, ...]:
    cells = line.split("\t")
    if len(cells) < len(columns):
        raise DataError(
            f"{name}, line {number}: {len(cells)} tab-separated columns; expected {len(columns)}: {', '.join(columns)}."
        )
    return tuple(cells[: len(columns)])


def _from_json(line: str, columns: Sequence[str], name: str, number: int) -> tuple[str, ...]:
    wanted = "{" + ", ".join(f'"{key}": ...' for key in columns) + "}"
    try:
        row = json.loads(line)
        if any(row[key] is None for key in columns):
            raise KeyError
        return tuple(str(row[key]) for key in columns)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}, line {number}: no JSON ({error.msg}); expected {wanted}.") from None
    except (KeyError, TypeError):
        raise DataError(f"{name}, line {number}: expected an object {wanted}; received {line[:80]}") from None


def open_tfds(name: str) -> tuple[Any, str]:
    """Open `tfds:NAME[:SPLIT]`: our own phrases and scenes, or anything in the catalogue of TensorFlow Datasets.

    Returns:
        the builder, prepared, and the split, `"train"` when none is named.

    Raises:
        DataError: there is no such dataset, it cannot be prepared, or it has no such split.
    """
    import tensorflow_datasets as tfds

    from keras_attention.quickstart import phrases_tfds, scenes_tfds

    own = {module.NAME: module.builder for module in (phrases_tfds, scenes_tfds)}
    _, dataset, *split = name.split(":", 2)
    try:
        builder = own[dataset]() if dataset in own else tfds.builder(dataset)
    except tfds.core.DatasetNotFoundError:
        raise DataError(f"TensorFlow Datasets has no dataset {dataset!r}; see tfds.list_builders().") from None
    split = split[0] if split else "train"
    try:
        builder.download_and_prepare()
    except Exception as error:  # a failed download is a bare Exception there, data to be fetched by hand an assertion
        raise DataError(f"TensorFlow Datasets cannot prepare {dataset}: {error}") from error
    if split.split("[")[0] not in builder.info.splits:
        raise DataError(f"{dataset} has no split {split!r}; it has {', '.join(builder.info.splits)}.")
    return builder, split


def _read_tfds(name: str, columns: Sequence[str]) -> list[tuple[str, ...]]:
    import tensorflow_datasets as tfds

    builder, split = open_tfds(name)
    keys = _tfds_keys(builder.info, columns)
    rows = tfds.as_numpy(builder.as_dataset(split=split))
    return [tuple(_tfds_value(builder.info.features[key], row[key]) for key in keys) for row in rows]


def _tfds_keys(info, columns: Sequence[str]) -> Sequence[str]:
    """The features to read: those named as the columns are, else the supervised keys."""
    if all(column in info.features for column in columns):
        return columns
    keys = info.supervised_keys
    if keys is None or len(keys) < len(columns):
        raise DataError(
            f"{info.name} has the features {', '.join(info.features)}; expected {', '.join(columns)}, "
            "or supervised keys."
        )
    return [str(key) for key in keys[: len(columns)]]


def _tfds_value(feature, value) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return feature.int2str(int(value)) if hasattr(feature, "int2str") else str(value)
