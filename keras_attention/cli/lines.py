"""The lines that a command reads and writes: one output line for each input line, as text or as JSON."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import click
import numpy as np

import keras_attention as ka
from keras_attention.cli.terminal import VERBOSITY

_CHUNK = 512  # maximum number of lines that are processed together
# Pattern of the suffix of a file that is not one text per line -> Python code that prints its texts.
_READERS = {
    r"\.conllu?": "[print(*[word for word, _ in words]) for words in ka.data.read_tagged({!r})]",
    r"\.(csv|tsv|json|jsonl|ndjson)": "[print(*t.split()) for t in ka.data.read_texts({!r}, {{'text': 'COLUMN'}})]",
}


def read_chunks(source: str | None) -> Iterator[list[str]]:
    """Yield the lines of a file or, if `source` is None, those of standard input as soon as they arrive, in lists."""
    chunks = _arriving_lines(sys.stdin.buffer) if source is None else iter([ka.data.read_lines(source)])
    for lines in chunks:
        yield from (lines[begin : begin + _CHUNK] for begin in range(0, len(lines), _CHUNK))


def _arriving_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """Yield lists of complete lines as they arrive; a read waits only if there is nothing to read."""
    from keras_attention.data.lines import decode_lines  # imports Keras

    undecoded: collections.deque[bytes] = collections.deque()
    decoded = decode_lines(iter(undecoded.popleft, None), "standard input")
    incomplete = b""
    while block := stream.read1(1 << 16):
        *lines, incomplete = (incomplete + block).split(b"\n")
        undecoded.extend(lines)
        yield list(itertools.islice(decoded, len(lines)))
    if incomplete:
        undecoded.append(incomplete)
        yield list(itertools.islice(decoded, 1))


def check_source(context: click.Context, source: str | None, tabs: bool) -> None:
    """Check the text file before Keras is imported and the model is loaded, which takes seconds.

    Args:
        context: of the command.
        source: a text file; None or "-" for standard input.
        tabs: whether tabs separate the texts of a line, so that a TSV file is expected.

    Raises:
        FileNotFoundError: the file does not exist; the message says how to pass a text instead.
        ValueError: the file is a table; the message has the command that writes its texts to a text file.
    """
    if source in (None, "-"):
        return
    if not os.path.exists(source) and " " in source:
        command = f"{context.command_path} {shlex.quote(context.params['model'])}"
        raise FileNotFoundError(
            f"There is no file {source}. Write a text to standard input: echo {shlex.quote(source)} | {command}"
        )
    if not os.path.exists(source):
        raise FileNotFoundError(f"There is no file {source}. Check the path; a relative one begins at {os.getcwd()}.")
    for suffix, code in _READERS.items():
        if re.search(rf"{suffix}(\.gz|\.bz2|\.xz)?$", source, re.I) and not (tabs and ".tsv" in source.lower()):
            code = shlex.quote(f"import keras_attention as ka; {code.format(source)}")
            raise ValueError(
                f"{source} is a table or has a word per line; expected a text file with one text per line. Write the "
                f"texts to one, where COLUMN is the name or the number of their column: python -c {code} > texts.txt"
            )


def write_lines(source: str | None, outputs: Callable[[list[str], int], Sequence[str]]) -> None:
    """Write one output line for each input line; draw a progress bar if only standard error is a terminal.

    Args:
        source: a text file; None or "-" for standard input.
        outputs: function (lines, number of lines before them) -> output lines.
    """
    from keras_attention.training.progress import ProgressBar  # imports Keras

    source = None if source == "-" else source
    done, shown = 0, not VERBOSITY.quiet and not sys.stdout.isatty()
    bar = ProgressBar(None if source is None or not shown else len(ka.data.read_lines(source)), "lines")
    for lines in read_chunks(source):
        for text in outputs(lines, done):
            click.echo(text)
        done += len(lines)
        if shown:
            bar.update(done)
    if shown:
        bar.close()


def text_line(output: Any, name: str, scores: bool) -> str:
    """Return the line of an output and its alternatives: each text (the field `name`), separated by tabs.

    Args:
        output: an output of a prediction method.
        name: the name of the field with the text.
        scores: put the score and a tab before each text.
    """
    outputs = [output, *getattr(output, "alternatives", ())]
    with_scores = scores and (getattr(output, name) or output.score)
    lines = [(f"{each.score:.4f}\t" if with_scores else "") + one_line(getattr(each, name)) for each in outputs]
    return "\t".join(lines)


def one_line(text: str) -> str:
    """Return the text with each line break written as a backslash and n."""
    return text.replace("\r", "").replace("\n", "\\n")


def json_line(output: Any, attention: bool = False, several: bool = False, **fields: Any) -> str:
    """Return an output as a JSON object in one line.

    Args:
        output: an output of a prediction method; None for `fields` alone.
        attention: write the attention scores too.
        several: write `alternatives` even if there are none, as for an empty line.
        **fields: more fields, or new values of the output's fields.
    """
    row = {} if output is None else _fields(output, attention)
    if several:
        row.setdefault("alternatives", [])
    return json.dumps(_to_json({**row, **fields}), ensure_ascii=False)


def _fields(output: Any, attention: bool) -> dict[str, Any]:
    """Return the fields of an output that have a value."""
    row = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if not attention:
        row.pop("attention", None)
    row["alternatives"] = [
        {name: getattr(other, name) for name in ("text", "score", "pieces", "target_pieces") if hasattr(other, name)}
        for other in getattr(output, "alternatives", ())
    ]
    return {
        name: value for name, value in row.items() if value is not None and not (name == "alternatives" and not value)
    }


def _to_json(value: Any) -> Any:
    """Return a value of JSON; a number that is not finite becomes null."""
    if isinstance(value, np.ndarray):
        return np.round(value.astype("float64"), 6).tolist()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    return [_to_json(item) for item in value] if isinstance(value, (list, tuple)) else value
