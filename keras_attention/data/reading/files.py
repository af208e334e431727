"""Read files of texts, pairs, labels and tags into lists of examples. An error names the file and the line.

A path is a file (`pairs.tsv`, `reviews.csv`, `pairs.jsonl`, `corpus.conllu`, each also as `.gz`, `.bz2` or `.xz`), `-`
for standard input, or `tfds:NAME[:SPLIT]`, a data set of TensorFlow Datasets.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_attention.argument_checks import one_of
from keras_attention.data.lines import DataError, PathLike, counted, file_suffix, read_lines
from keras_attention.data.reading.columns import LABELLED, TEXTS, TRANSLATION, Layout
from keras_attention.data.reading.tables import JSON_LINES, read_rows
from keras_attention.data.tokenization.text_reader import Text, as_tuple
from keras_attention.data.tokenization.tokenizer_rules import WHITE_SPACE

Columns = Mapping[str, str]
_WORD_NAMES = ("word", "words", "token", "tokens", "form")  # of the columns in the header of tagged words
_TAG_NAMES = ("tag", "tags", "label", "labels", "pos", "upos", "ner", "ner_tag", "ner_tags", "entity")
_LOG = logging.getLogger(__name__)


def read_pairs(
    path: PathLike, targets: PathLike | None = None, columns: Columns | None = None
) -> list[tuple[str, str]]:
    """Read (source, target) pairs.

    Args:
        path: a TSV or CSV file with two columns or a header, a JSONL file (`{"source": ..., "target": ...}`) or
            `tfds:NAME[:SPLIT]`; with `targets`, a text file of sources.
        targets: a text file of targets; its line i is the translation of line i of `path`.
        columns: names of the columns or keys, such as `{"source": "english"}`, or their numbers; see `read_rows`.

    Returns:
        (source, target) strings. Pairs with an empty source or target are skipped, with one warning.

    Raises:
        FileNotFoundError: a file is missing.
        DataError: there are no pairs, a column or key is missing, the two files have different numbers of lines, or a
            file is not UTF-8.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("pairs.tsv").write_text("we eat bread\\tcomemos pan\\n")
        >>> read_pairs("pairs.tsv")
        [('we eat bread', 'comemos pan')]
    """
    rows = _columns_of(path, TRANSLATION, columns) if targets is None else _read_parallel(path, targets, columns)
    pairs = [(number, (row["source"], row["target"])) for number, row in rows]
    complete = _without_empty(pairs, path, lambda pair: all(map(str.strip, pair)), "an empty source or target")
    return _require_examples([pair for _, pair in complete], path)


def _read_parallel(path: PathLike, targets: PathLike, columns: Columns | None) -> Iterator[tuple[int, dict[str, str]]]:
    if columns or {file_suffix(path), file_suffix(targets)} & {".tsv", ".csv", *JSON_LINES}:
        raise DataError(
            f"{path} and {targets}: two files are read as parallel text files, sources and targets; expected text "
            "files. To use several files of pairs, join them into one file."
        )
    source_lines, target_lines = read_lines(path), read_lines(targets)
    if len(source_lines) != len(target_lines):
        raise DataError(
            f"{path} has {counted(len(source_lines), 'line')} and {targets} has {len(target_lines)}; expected the same "
            "number: each line of one file is the translation of the same line of the other."
        )
    for number, (source, target) in enumerate(zip(source_lines, target_lines, strict=True), 1):
        yield number, {"source": source, "target": target}


def read_labelled(
    path: PathLike, columns: Columns | None = None, labels: Sequence[str] | None = None
) -> list[tuple[Text, str]]:
    """Read texts, or pairs of texts, and their labels. The files of GLUE are read as they are published.

    Args:
        path: a TSV or CSV file with two columns or a header (`text` or `sentence`, and `label`, for example; a pair
            has `sentence1` and `sentence2`), a JSONL file with such keys, or `tfds:NAME[:SPLIT]`.
        columns: names of the columns or keys, such as `{"text": "review", "label": "stars"}`, or their numbers; a pair
            has `text_pair` too. See `read_rows`.
        labels: the labels that are expected; None for any.

    Returns:
        (text, label), or ((text, text pair), label) for pairs. White space around a label is removed. Rows without a
        text, or whose label is `-` (no agreement, in MNLI), are skipped, with one warning for each kind of row.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`; or a text has no label, or one that is not in `labels`.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("reviews.jsonl").write_text('{"text": "fine film", "label": 1}')
        >>> read_labelled("reviews.jsonl")
        [('fine film', '1')]
    """
    rows = []
    for number, row in _columns_of(path, LABELLED, columns, labels):
        text = (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]
        rows.append((number, (text, row["label"].strip())))
    rows = _without_empty(rows, path, lambda row: any(map(str.strip, as_tuple(row[0]))), "no text")
    rows = _without_empty(rows, path, lambda row: row[1] != "-", "the label -, which means no agreement")
    for number, (text, label) in rows:
        if not label:
            shown = " / ".join(as_tuple(text))[:80]
            raise DataError(
                f"{path}, line {number}: {shown!r} has no label; expected one for each text. Add it, or "
                "delete the line."
            )
        check_label(label, labels, f"{path}, line {number}")
    return _require_examples([example for _, example in rows], path)


def check_label(label: str, labels: Sequence[str] | None, where: str) -> None:
    """Raise a `DataError` if there are expected labels and this is another one."""
    if labels is not None and label not in labels:
        raise DataError(
            f"{where}: the label is {label[:40]!r}; expected {one_of(labels)[:200]}, the labels of the "
            "model. Correct it, or train a new model, without --init, on examples that have it."
        )


def read_texts(path: PathLike, columns: Columns | None = None) -> list[str]:
    """Read texts.

    Args:
        path: a text file (one text per line), a TSV or CSV file with one column or a header, a JSONL file (`text`) or
            `tfds:NAME[:SPLIT]`.
        columns: name of the column or key, such as `{"text": "review"}`, or its number; see `read_rows`.

    Returns:
        Strings. Empty texts are skipped.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("texts.txt").write_text("we eat\\n\\nwe drink\\n")
        >>> read_texts("texts.txt")
        ['we eat', 'we drink']
    """
    if file_suffix(path) in (".conll", ".conllu"):
        raise DataError(
            f"{path} has a tagged word per line; expected a file of texts. Write its words to one, a sentence per "
            "line: for words in ka.data.read_tagged(path): print(*[word for word, _ in words])"
        )
    if columns or has_records(path):
        texts = [row["text"] for _, row in _columns_of(path, TEXTS, columns)]
    else:
        texts = read_lines(path)
    return _require_examples([text for text in texts if text.strip()], path)


def has_records(path: PathLike) -> bool:
    """Return whether a path is a table, JSON lines or a data set, and not a file of plain text."""
    return str(path).startswith("tfds:") or file_suffix(path) in (".tsv", ".csv", ".json", *JSON_LINES)


def _columns_of(
    path: PathLike, layouts: Sequence[Layout], columns: Columns | None, labels: Sequence[str] | None = None
) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and role -> string of each row."""
    if str(path).startswith("tfds:"):
        from keras_attention.data.reading.tfds import read_columns

        return list(enumerate(read_columns(str(path), layouts, columns), 1))
    rows = read_rows(path, layouts, columns, labels)
    return [(n, {role: _string(value, f"{path}, line {n}") for role, value in row.items()}) for n, row in rows]


def _string(value: Any, where: str) -> str:
    if isinstance(value, list | dict) or value != value:  # NaN
        raise DataError(f"{where}: expected a string or a number; received {str(value)[:80]}")
    text = str(value)
    if re.search("[\ud800-\udfff]", text):
        raise DataError(f"{where}: {text[:80]!a} has half of a surrogate pair, which is not a character; correct it.")
    return text


def read_tagged(
    path: PathLike, tag_column: int | None = None, labels: Sequence[str] | None = None
) -> list[list[tuple[str, str]]]:
    """Read tagged sentences: CoNLL-U, or lines of a word and its tag, with other columns between them.

    Tags are read as they are: `B-PER`, `I-PER`, `E-PER` and `S-PER` are different tags. Lines with `-DOCSTART-`, the
    comments of CoNLL-U and a header, such as `word` and `tag`, are skipped.

    Args:
        path: a file with one word per line and an empty line after each sentence. Columns are separated by tabs or, if
            there are no tabs, by spaces. Files of CoNLL-2003 have four columns: word, part of speech, chunk, entity.
        tag_column: number of the column of the tags, from 1; by default 4 (UPOS) for CoNLL-U, otherwise the last one.
            The words are in column 2 if column 1 numbers the words, as in CoNLL-U, otherwise in column 1.
        labels: the tags that are expected; None for any.

    Returns:
        Sentences, each a list of (word, tag). Spaces in a word become no-break spaces, because a space separates words.

    Raises:
        FileNotFoundError: the file is missing.
        DataError: as for `read_pairs`; or the file is CSV or JSON, or a line has no word, no tag, or a tag that is not
            in `labels`.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("tags.tsv").write_text("we\\tPRON\\neat\\tVERB\\n\\ngo\\tVERB\\n")
        >>> read_tagged("tags.tsv")
        [[('we', 'PRON'), ('eat', 'VERB')], [('go', 'VERB')]]
    """
    if str(path).startswith("tfds:"):
        raise DataError(
            f"{path}: tagged words cannot be read from tfds:; expected a CoNLL-U file, or a file of words and tags."
        )
    lines, suffix = read_lines(path), file_suffix(path)
    if suffix in (".json", *JSON_LINES) or (suffix == ".csv" and not _is_conll(lines)):
        raise DataError(
            f"{path}: expected a line for each word, with the word, a tab or a space, and its tag; and an empty line "
            "after each sentence (CoNLL). Convert the file to this format."
        )
    rows = list(_tagged_rows(lines))
    if not any(cells for _, cells in rows):
        return _require_examples([], path)
    number, first = next((number, cells) for number, cells in rows if cells)
    numbered = _are_numbered(rows)
    word, tag = _tag_columns(first, tag_column, f"{path}, line {number}", numbered)
    if (numbered and not first[0][:1].isdecimal()) or _is_header([cells for _, cells in rows if cells], word, tag):
        _LOG.info("%s: line %d is a header; word = %r, tag = %r.", path, number, first[word], first[tag])
        rows = [row for row in rows if row[0] != number]
    sentences: list[list[tuple[str, str]]] = [[]]
    for number, cells in rows:
        where = f"{path}, line {number}"
        if not cells:
            sentences.append([])
        elif len(cells) != len(first):
            raise DataError(f"{where}: {counted(len(cells), 'column')}; expected {len(first)}, as in the first line.")
        elif not re.fullmatch(r"\d+[-.]\d+", cells[0]) or not word:  # CoNLL-U's ranges of words and empty nodes
            check_label(cells[tag].strip(), labels, where)
            sentences[-1].append(_tagged_word(cells[word], cells[tag].strip(), where))
    return _require_examples([sentence for sentence in sentences if sentence], path)


def _is_conll(lines: Sequence[str]) -> bool:
    """Return whether the first line that is not empty separates columns by tabs or spaces, and not by commas."""
    first = next(filter(str.strip, lines), "")
    return "\t" in first or (" " in first.strip() and not re.search("[,;]", first))


def _is_header(rows: Sequence[Sequence[str]], word: int, tag: int) -> bool:
    """Return whether the first row names the columns: no later row has its tag, because `POS` is also a tag."""
    name = rows[0][tag].strip()
    is_named = rows[0][word].lower() in _WORD_NAMES and name.lower() in _TAG_NAMES
    return is_named and not any(len(row) > tag and row[tag].strip() == name for row in rows[1:])


def _tagged_rows(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each line, no cells for an empty one; comments and `-DOCSTART-` are skipped."""
    tabs = any("\t" in line for line in lines if line.strip() and not line.startswith("#"))
    conllu = any(re.match(r"\d+(\t[^\t]*){7,}$", line) for line in lines)
    width = next((len(line.split("\t" if tabs else None)) for line in lines if line.strip() and line[0] != "#"), 2)
    for number, line in enumerate(lines, 1):
        cells = line.split("\t" if tabs else None)
        comment = line.startswith("#") and (conllu or len(cells) != width)  # "#" can be a word
        if not line.strip():
            yield number, []
        elif not comment and not line.startswith("-DOCSTART-"):
            yield number, cells


def _are_numbered(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether the first of three or more columns numbers the words, in each sentence or in the whole file.

    Numbers start at 0 or 1. Rows without a number are allowed if they are a header (no other row has its tag), a range
    of words or an empty node.
    """
    nonempty = [cells for _, cells in rows if cells]
    if any(len(cells) < 3 for cells in nonempty):
        return False
    has_header = not nonempty[0][0].isdecimal() and nonempty[0][-1] not in [cells[-1] for cells in nonempty[1:]]
    start, expected = "", {"0", "1"}
    for _, cells in rows:
        if not cells:
            expected |= {start or "1"}
        elif not (has_header and cells is nonempty[0]) and not re.fullmatch(r"\d+[-.]\d+", cells[0]):
            if cells[0] not in expected:
                return False
            start, expected = start or cells[0], {str(int(cells[0]) + 1)}
    return start != ""


def _tag_columns(first: Sequence[str], tag_column: int | None, where: str, numbered: bool) -> tuple[int, int]:
    """Return the indices of the word and of its tag in lines with these cells."""
    conllu = len(first) >= 8 and re.match(r"\d+([-.]\d+)?$", first[0]) is not None
    if not conllu and not 2 <= len(first) <= 6:
        raise DataError(
            f"{where}: {counted(len(first), 'column')}; expected a word and its tag, separated by a tab or spaces, "
            "with at most four columns between them, or CoNLL-U."
        )
    column = tag_column or (4 if conllu else len(first))
    if not 0 < column <= len(first):
        raise DataError(f"{where}: there is no column {column} for the tag; expected 1 to {len(first)}.")
    return int(conllu or numbered), column - 1


def _tagged_word(word: str, tag: str, where: str) -> tuple[str, str]:
    if not word.strip():
        raise DataError(f"{where}: there is no word before the tag; expected a word, a tab or a space, and its tag.")
    if not tag:
        raise DataError(
            f"{where}: the word {word!r} has no tag; expected a word, a tab or a space, and its tag. Add it, or set "
            "`tag_column` (--tag-column) if the last column has no tags."
        )
    return re.sub(f"[{WHITE_SPACE}]", "\u00a0", word.strip(WHITE_SPACE)), tag


def _without_empty(rows: list, path: PathLike, is_used: Callable[[Any], bool], problem: str) -> list:
    """Return the pairs (line number, example) that are used; one warning counts the others."""
    skipped = [number for number, example in rows if not is_used(example)]
    if skipped:
        rows_with = counted(len(skipped), "row")
        warnings.warn(f"{path}: skipped {rows_with} with {problem}, the first on line {skipped[0]}.")
    return [(number, example) for number, example in rows if is_used(example)]


def _require_examples(examples: list, path: PathLike) -> list:
    if not examples:
        raise DataError(f"{path} contains no examples; expected at least one line that is not empty.")
    return examples
