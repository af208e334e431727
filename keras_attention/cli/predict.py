"""translate, caption, complete, classify, tag, fill: one output line for each input line or image."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.loading import is_export, load_for, search_for
from keras_attention.cli.options import Command, Option, search_options
from keras_attention.data.files import decode_lines
from keras_attention.visualize import plot_caption

_CHUNK = 512  # lines that are read and processed together
_MODEL, _SOURCE = click.Argument(["model"]), click.Argument(["source"], required=False)
_BATCH_SIZE = Option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="batch size; it does not change the outputs.",
)
_BEAM_SEARCH = [
    *search_options("num_beams", "length_penalty", group="Beam search"),
    *search_options("max_new_tokens"),
]
_SAMPLING = search_options("temperature", "top_k", "top_p", group="Sampling")


def _scores(of: str) -> Option:
    return Option("--scores", is_flag=True, help=f"start each output line with its {of} and a tab.")


_UNKNOWN = search_options("replace_unknown")


@click.command(cls=Command, params=[_MODEL, _SOURCE, *_BEAM_SEARCH, *_UNKNOWN, _BATCH_SIZE, _scores("log-probability")])
def translate(model: str, source: str | None, batch_size: int, scores: bool, **search: Any) -> None:
    """Translate each line of SOURCE with MODEL.

    MODEL is a .keras file or the directory of an export. SOURCE is a text file; the
    default is standard input. The default search is greedy; --num-beams selects beam search.
    """
    loaded = load_for("translate", model)
    options = {"batch_size": batch_size, **search_for(loaded, search)}

    def outputs(lines: list[str], done: int) -> list[str]:
        return [_line(t.score if scores else None, t.text) for t in loaded.translate(lines, **options)]

    _write_lines(source, outputs)


_PLOT = Option("--plot", metavar="FOLDER", help="plot the attention of each caption to FOLDER/NAME.attention.png.")


@click.command(
    cls=Command,
    params=[
        _MODEL,
        click.Argument(["images"], nargs=-1),
        *_BEAM_SEARCH,
        _BATCH_SIZE,
        _scores("log-probability"),
        _PLOT,
    ],
)
def caption(
    model: str, images: tuple[str, ...], batch_size: int, scores: bool, plot: str | None, **search: Any
) -> None:
    """Write a caption for each of IMAGES with MODEL.

    MODEL is a .keras file or the directory of an export. IMAGES are files; the default is
    the paths on standard input, one per line. The default search is greedy;
    --num-beams selects beam search. An image that cannot be read gets an empty line and a message on standard error; if
    one of IMAGES does not exist, the exit code is 1.
    """
    loaded = load_for("caption", model)
    options = {"batch_size": batch_size, **search_for(loaded, search)}
    plots = _Plots(plot) if plot is not None else None
    paths, missing = iter(images) if images else _lines(None), 0
    while chunk := list(itertools.islice(paths, _CHUNK)):
        readable = [_can_be_opened(path) for path in chunk]
        missing += readable.count(False)
        opened = [path if ok else b"" for path, ok in zip(chunk, readable, strict=True)]
        for path, result in zip(chunk, loaded.caption(opened, **options), strict=True):
            if path and not result.valid:
                click.echo(f"{path} {_problem(path)}", err=True)
            click.echo(_line(result.score if scores and result.valid else None, result.text))
            if plots is not None and result.valid:
                plots.write(result, path)
    if missing and images:
        raise click.ClickException(f"{missing} of the images do not exist or cannot be opened.")


def _can_be_opened(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except (OSError, ValueError):
        return False


def _problem(path: str) -> str:
    """Return why an image has no caption."""
    if os.path.isdir(path):
        return f"is a folder; expected images, such as {path.rstrip('/')}/*.jpg."
    if not os.path.exists(path):
        return "does not exist."
    return "cannot be read; expected a complete JPEG, PNG, GIF or BMP."


class _Plots:
    """Write plots of captions to one folder; images with the same name get different plot names."""

    def __init__(self, folder: str) -> None:
        self.folder, self.names = pathlib.Path(folder), set()
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, result: Any, path: str) -> None:
        """Plot the attention of one caption, if the model has attention."""
        if result.attention is None:
            click.echo(f"{path}: the model has no attention to plot.", err=True)
            return
        name, count = pathlib.Path(path).name, 1
        while name in self.names:
            count += 1
            name = f"{pathlib.Path(path).name}.{count}"
        self.names.add(name)
        plot_caption(result, path, self.folder / f"{name}.attention.png")


_SEED = Option("--seed", type=int, default=0, show_default=True, group="Sampling", help="seed of the random numbers.")


@click.command(
    cls=Command,
    params=[_MODEL, _SOURCE, *_SAMPLING, _SEED, *_BEAM_SEARCH, _BATCH_SIZE],
)
def complete(model: str, source: str | None, seed: int, batch_size: int, **search: Any) -> None:
    """Continue each line of SOURCE with MODEL.

    MODEL is a .keras file or the directory of an export. SOURCE is a text file; the
    default is standard input. Sampling is the default; --num-beams selects beam search. A
    line break in an output is written as \\n.
    """
    loaded = load_for("complete", model)
    options = search_for(loaded, search)

    def outputs(lines: list[str], done: int) -> list[str]:
        if is_export(loaded):
            completions = loaded.complete(lines, batch_size=batch_size, seed=seed + done)
        else:
            strategy = dataclasses.replace(options["strategy"], seed=seed + done)
            completions = loaded.complete(lines, strategy, batch_size)
        return [_one_line(completion.text) for completion in completions]

    _write_lines(source, outputs)


@click.command(cls=Command, params=[_MODEL, _SOURCE, _BATCH_SIZE, _scores("probability")])
def classify(model: str, source: str | None, batch_size: int, scores: bool) -> None:
    """Write the label of each line of SOURCE, predicted by MODEL.

    MODEL is a .keras file or the directory of an export. SOURCE is a text file; the
    default is standard input.
    """
    loaded = load_for("classify", model)

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.classify(lines, batch_size=batch_size)
        return [_line(result.score if scores else None, result.label) for result in results]

    _write_lines(source, outputs)


@click.command(cls=Command, params=[_MODEL, _SOURCE, _BATCH_SIZE])
def tag(model: str, source: str | None, batch_size: int) -> None:
    """Write the tags of the words of each line of SOURCE.

    MODEL is a .keras file or the directory of an export. SOURCE is a text file; the
    default is standard input.
    """
    loaded = load_for("tag", model)
    _write_lines(source, lambda lines, done: [" ".join(r.tags) for r in loaded.tag(lines, batch_size=batch_size)])


_CANDIDATES = Option(
    "--candidates",
    type=click.IntRange(1, 5),
    help="write this many candidates for each mask, with probabilities, instead of the text.",
)


@click.command(cls=Command, params=[_MODEL, _SOURCE, _CANDIDATES, _BATCH_SIZE])
def fill(model: str, source: str | None, candidates: int | None, batch_size: int) -> None:
    """Fill the masks in each line of SOURCE with MODEL.

    MODEL is a .keras file or the directory of an export. SOURCE is a text file; the
    default is standard input. A mask is written [MASK] for a WordPiece tokenizer, and <mask>
    for the others.
    """
    loaded = load_for("fill", model)

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.fill(lines, batch_size=batch_size)
        for number, (line, result) in enumerate(zip(lines, results, strict=True), done + 1):
            if line.strip() and not result.candidates:
                click.echo(
                    f"Line {number} has no mask; expected <mask>, or [MASK] if the tokenizer is WordPiece.", err=True
                )
        return [_one_line(r.text) if candidates is None else _candidates(r, candidates) for r in results]

    _write_lines(source, outputs)


def _candidates(result: Any, count: int) -> str:
    """Return the most probable tokens of each mask as `token:probability`; masks are separated by tabs."""
    masks = [" ".join(f"{_one_line(token)}:{p:.4f}" for token, p in mask[:count]) for mask in result.candidates]
    return "\t".join(masks)


def _write_lines(source: str | None, outputs: Callable[[list[str], int], Sequence[str]]) -> None:
    """Write one output line for each input line, and the number of lines to standard error if it is a terminal."""
    lines, done = _lines(source), 0
    while chunk := list(itertools.islice(lines, _CHUNK)):
        for text in outputs(chunk, done):
            click.echo(text)
        done += len(chunk)
        if sys.stderr.isatty():
            click.echo(f"\r{done} lines", err=True, nl=False)
    if sys.stderr.isatty():
        click.echo(err=True)


def _lines(source: str | None) -> Iterator[str]:
    if source is not None:
        yield from ka.data.read_lines(source)
    else:
        yield from decode_lines(sys.stdin.buffer, "standard input")


def _line(score: float | None, text: str) -> str:
    """Return the output line, with the score and a tab before the text; for an empty input the line is empty."""
    return f"{score:.4f}\t{_one_line(text)}" if score is not None and (text or score) else _one_line(text)


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "\\n")
