"""translate, caption, complete, classify, tag, fill, score: one output line for each input line or image."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.lines import check_source, json_line, one_line, read_chunks, text_line, write_lines
from keras_attention.cli.load_model import is_export, load, load_for, method_of, returns_several, search_for
from keras_attention.cli.options import BATCH_SIZE, BEAM, GENERATION, SAMPLING, Command, Option, search_options
from keras_attention.storage import local_path
from keras_attention.task_specs import TASK_SPECS
from keras_attention.visualize import plot_alignment, plot_caption

_MODEL, _SOURCE = click.Argument(["model"]), click.Argument(["source"], required=False)


def _beam_and_generation_options(task: str) -> list[Option]:
    """Return the options of a search of this task."""
    generation = search_options(*GENERATION, group="Generation", default_length=TASK_SPECS[task].default_limit_text)
    return [*search_options(*BEAM, group="Beam search"), *generation]


_SAMPLING = search_options(*SAMPLING, group="Sampling")
_JSON = Option("--json", "as_json", is_flag=True, help="write each output as a JSON object.")
_SCORES = Option(
    "--scores",
    is_flag=True,
    help="write SCORE<tab>TEXT instead of TEXT; SCORE is the log-probability of the text. Beam search "
    "divides it by the length penalty.",
)
_OUTPUT = [_JSON, Option("--attention", is_flag=True, help="write JSON objects that include the attention scores.")]
_ARGUMENTS = (
    "MODEL is a .keras file or the directory of an export. SOURCE is a text file with one text per line; by default, "
    "or if it is -, standard input is read."
)


class _LineCommand(Command):
    """A command with the arguments MODEL and SOURCE; its help describes them after the first line."""

    def __init__(self, *args: Any, help: str, **kwargs: Any) -> None:
        summary, _, details = inspect.cleandoc(help).partition("\n\n")
        super().__init__(*args, help=f"{summary}\n\n{_ARGUMENTS} {details}", **kwargs)

    def invoke(self, context: click.Context) -> Any:
        """Check SOURCE, import Keras, and run the command."""
        check_source(context, context.params["source"], tabs=context.params.get("pairs", self.name == "score"))
        return super().invoke(context)


def _plot_option(name: str, example: str) -> Option:
    text = f"plot the attention of each output to a file in DIRECTORY, named after the {name}: {example}.attention.png."
    return Option("--plot", metavar="DIRECTORY", help=text)


@click.command(
    cls=_LineCommand,
    params=[
        _MODEL,
        _SOURCE,
        *_beam_and_generation_options("translator"),
        *search_options("replace_unknown", group="Generation"),
        BATCH_SIZE,
        _SCORES,
        *_OUTPUT,
        _plot_option("line number", "1"),
    ],
)
def translate(
    model: str,
    source: str | None,
    batch_size: int,
    scores: bool,
    as_json: bool,
    attention: bool,
    plot: str | None,
    **search: Any,
) -> None:
    """Translate each line of SOURCE with MODEL.

    The default is greedy search; --num-beams sets beam search. An export has a fixed search, set by the options of
    `keras-attention export`. With --num-return-sequences N, an output line has up to N translations, best first,
    separated by tabs.
    """
    loaded = load_for("translate", model)
    options = {"batch_size": batch_size, **search_for(loaded, search)}
    several = returns_several(loaded, options)
    plots = _Plots(plot, plot_alignment) if plot is not None else None

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.translate(lines, **options)
        for number, result in enumerate(results if plots else (), done + 1):
            if result.source_pieces:
                plots.write(str(number), result)
        if as_json or attention:
            return [json_line(result, attention, several) for result in results]
        return [text_line(result, "text", scores) for result in results]

    write_lines(source, outputs)


@click.command(
    cls=Command,
    params=[
        _MODEL,
        click.Argument(["images"], nargs=-1),
        *_beam_and_generation_options("captioner"),
        BATCH_SIZE,
        _SCORES,
        *_OUTPUT,
        _plot_option("image", "dog.jpg"),
    ],
)
def caption(
    model: str,
    images: tuple[str, ...],
    batch_size: int,
    scores: bool,
    as_json: bool,
    attention: bool,
    plot: str | None,
    **search: Any,
) -> None:
    """Caption each of IMAGES with MODEL.

    MODEL is a .keras file or the directory of an export. IMAGES are image files; by default, or if IMAGES is -, their
    names are read from standard input, one per line. The default is greedy search; --num-beams sets beam search. An
    export has a fixed search, set by the options of `keras-attention export`. For an image that cannot be read, the
    output line is empty, a message is written to standard error, and the exit code is 1.
    """
    loaded = load_for("caption", model)
    options = {"batch_size": batch_size, **search_for(loaded, search)}
    several = returns_several(loaded, options)
    plots, counts = _Plots(plot, plot_caption) if plot is not None else None, _ImageCounts()
    images = () if images == ("-",) else images
    chunks = (images[begin : begin + 512] for begin in range(0, len(images), 512))
    for paths in chunks if images else read_chunks(None):
        opened = [path if _can_be_opened(path) else b"" for path in paths]
        for path, result in zip(paths, loaded.caption(opened, **options), strict=True):
            counts.add(path, result.valid)
            if as_json or attention:
                click.echo(json_line(result, attention, several, image=path))
            else:
                click.echo(text_line(result, "text", scores and result.valid))
            if plots is not None and result.valid:
                plots.write(pathlib.Path(path).name, result, path)
    counts.check()


class _ImageCounts:
    """Counts images and unreadable images, and writes a message for each unreadable one."""

    def __init__(self) -> None:
        self.images = self.unreadable = 0

    def add(self, path: str, is_valid: bool) -> None:
        """Count an image and, if it cannot be read, write the reason; an empty line is no image."""
        self.images += bool(path)
        if path and not is_valid:
            self.unreadable += 1
            click.echo(f"{path} {_describe_problem(path)}", err=True)

    def check(self) -> None:
        """Raise a `click.ClickException` if an image cannot be read, so that the exit code is 1."""
        if self.unreadable:
            images = f"image{'s' * (self.images != 1)}"
            raise click.ClickException(f"{self.unreadable} of {self.images} {images} cannot be read; see above.")


def _can_be_opened(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except (OSError, ValueError):
        return False


def _describe_problem(path: str) -> str:
    """Return why an image has no caption."""
    if os.path.isdir(path):
        return f"is a directory; expected images, such as {path.rstrip('/')}/*.jpg."
    if not os.path.exists(path):
        return "does not exist; expected an image file. Check the path."
    return (ka.data.image_problem(path) or "cannot be read by the export.").removeprefix(f"{path} ")


class _Plots:
    """Write plots of attention to one directory; outputs with the same name get different file names.

    Args:
        directory: the directory, which is created.
        plot: `plot_alignment` or `plot_caption`; its last argument is the file.
    """

    def __init__(self, directory: str, plot: Callable) -> None:
        self.directory, self.plot, self.names = local_path(directory), plot, set()
        self.directory.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, result: Any, *inputs: Any) -> None:
        """Plot the attention of one output, if the model has attention; `inputs` are the other arguments of `plot`."""
        if result.attention is None:
            click.echo(f"{name}: the model has no attention to plot.", err=True)
            return
        unique, count = name, 1
        while unique in self.names:
            count += 1
            unique = f"{name}.{count}"
        self.names.add(unique)
        self.plot(result, *inputs, self.directory / f"{unique}.attention.png")


_SEEDS = 2**32
_SEED = Option(
    "--seed",
    type=click.IntRange(0, _SEEDS - 1),
    default=0,
    show_default=True,
    group="Sampling",
    help="seed of the random numbers.",
)


_COMPLETE = [*_SAMPLING, _SEED, *_beam_and_generation_options("lm")]


@click.command(cls=_LineCommand, params=[_MODEL, _SOURCE, *_COMPLETE, BATCH_SIZE, _SCORES, _JSON])
def complete(
    model: str, source: str | None, seed: int, batch_size: int, scores: bool, as_json: bool, **search: Any
) -> None:
    """Continue each line of SOURCE with MODEL.

    The default is sampling; --num-beams sets beam search. An export has a fixed search, set by the options of
    `keras-attention export`. A line break in an output is written as \\n. With --num-return-sequences N, an output line
    has up to N texts, best first, separated by tabs.
    """
    loaded = load_for("complete", model)
    options = search_for(loaded, search)
    several = returns_several(loaded, options)

    def outputs(lines: list[str], done: int) -> list[str]:
        if is_export(loaded):
            completions = loaded.complete(lines, batch_size=batch_size, seed=(seed + done) % _SEEDS)
        else:
            strategy = dataclasses.replace(options["strategy"], seed=(seed + done) % _SEEDS)
            completions = loaded.complete(lines, strategy, batch_size)
        return [json_line(c, several=several) if as_json else text_line(c, "text", scores) for c in completions]

    write_lines(source, outputs)


_PROBABILITIES = Option("--scores", is_flag=True, help="write PROBABILITY<tab>LABEL instead of the label.")
_PAIRS = Option("--pairs", is_flag=True, help="read a pair of texts per line, separated by a tab.")


@click.command(cls=_LineCommand, params=[_MODEL, _SOURCE, _PAIRS, BATCH_SIZE, _PROBABILITIES, *_OUTPUT])
def classify(
    model: str, source: str | None, pairs: bool, batch_size: int, scores: bool, as_json: bool, attention: bool
) -> None:
    """Classify each line of SOURCE with MODEL.

    An output line is the most probable label. With --json, it includes the probabilities of all labels.
    """
    loaded = load_for("classify", model)
    labels, rows = loaded.labels, functools.partial(_split_columns, names=("text", "text pair"), source=source)

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.classify(rows(lines, done) if pairs else lines, batch_size=batch_size)
        if not (as_json or attention):
            return [text_line(result, "label", scores) for result in results]
        return [json_line(r, attention, probabilities=dict(zip(labels, r.probabilities, strict=True))) for r in results]

    write_lines(source, outputs)


def _location(source: str | None, number: int) -> str:
    """Return the beginning of a message about a line of SOURCE."""
    return f"{'standard input' if source in (None, '-') else source}, line {number}"


def _split_columns(lines: list[str], done: int, names: tuple[str, ...], source: str | None) -> list[tuple[str, ...]]:
    """Split each line at tabs into columns with these names; the columns of an empty line are empty."""
    if len(names) == 1:
        return [(line,) for line in lines]
    rows = [tuple(line.split("\t")) if line.strip() else ("",) * len(names) for line in lines]
    for number, row in enumerate(rows, done + 1):
        if len(row) != len(names):
            raise ValueError(
                f"{_location(source, number)}: {len(row)} column{'s' * (len(row) != 1)}; expected "
                f"{' and '.join(names)}. Write a tab between them."
            )
    return rows


@click.command(cls=_LineCommand, params=[_MODEL, _SOURCE, BATCH_SIZE, _JSON])
def tag(model: str, source: str | None, batch_size: int, as_json: bool) -> None:
    """Tag the words of each line of SOURCE with MODEL.

    Words are separated by white space, so put a space before a punctuation mark that has its own tag. An output line
    is the tags of the words, separated by spaces.
    """
    loaded = load_for("tag", model)

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.tag(lines, batch_size=batch_size)
        return [json_line(result) if as_json else " ".join(result.tags) for result in results]

    write_lines(source, outputs)


_CANDIDATES = Option(
    "--candidates",
    type=click.IntRange(1, 5),
    metavar="N",
    help="write the N most probable tokens for each mask instead of the text.",
)


@click.command(cls=_LineCommand, params=[_MODEL, _SOURCE, _CANDIDATES, BATCH_SIZE, _JSON])
def fill(model: str, source: str | None, candidates: int | None, batch_size: int, as_json: bool) -> None:
    """Predict the masked tokens in each line of SOURCE with MODEL.

    Write the mask token as [MASK] for a model with a WordPiece tokenizer, and as <mask> for other models. An output
    line is the input line in which the most probable token replaces each mask token. With --candidates N, an output
    line has, for each mask token, the N most probable tokens as TOKEN:PROBABILITY, separated by spaces; tabs separate
    the mask tokens.
    """
    loaded = load_for("fill", model)

    def outputs(lines: list[str], done: int) -> list[str]:
        results = loaded.fill(lines, batch_size=batch_size)
        for number, (line, result) in enumerate(zip(lines, results, strict=True), done + 1):
            if line.strip() and not result.candidates:
                click.echo(
                    f"{_location(source, number)}: no mask; expected <mask>, or [MASK] if the tokenizer is WordPiece.",
                    err=True,
                )
        if as_json:
            return [json_line(result) for result in results]
        return [one_line(r.text) if candidates is None else _candidates(r, candidates) for r in results]

    write_lines(source, outputs)


def _candidates(result: Any, count: int) -> str:
    """Return the most probable tokens of each mask as `token:probability`; masks are separated by tabs."""
    masks = [" ".join(f"{one_line(token)}:{p:.4f}" for token, p in mask[:count]) for mask in result.candidates]
    return "\t".join(masks)


@click.command(cls=_LineCommand, params=[_MODEL, _SOURCE, BATCH_SIZE, _JSON])
def score(model: str, source: str | None, batch_size: int, as_json: bool) -> None:
    """Print log-probabilities of texts, translations or captions.

    The formats of the lines depend on the task of MODEL; log is the natural logarithm:

    \b
    task        line of SOURCE        output line
    lm          TEXT                  log p(TEXT)
    translator  TEXT<tab>TRANSLATION  log p(TRANSLATION | TEXT)
    captioner   IMAGE<tab>CAPTION     log p(CAPTION | IMAGE)

    Other tasks have no such probability. IMAGE is the name of an image file. If it cannot be read, the output line is
    empty, a message is written to standard error, and the exit code is 1.
    """
    loaded = load(model)
    scorer = loaded.score if is_export(loaded) else functools.partial(ka.score, loaded)
    names = {"translate": ("source", "target"), "caption": ("image", "target")}.get(method_of(loaded), ("text",))
    counts = _ImageCounts()

    def outputs(lines: list[str], done: int) -> list[str]:
        rows = _split_columns(lines, done, names, source)
        first = [row[0] for row in rows]
        is_image = names[0] == "image"
        if is_image:
            first = [path if _can_be_opened(path) else b"" for path in first]
        values = scorer(first, *([row[i] for row in rows] for i in range(1, len(names))), batch_size=batch_size)
        for row, value in zip(rows, values, strict=True):
            if is_image:
                counts.add(row[0], not math.isnan(value))
        if not as_json:
            return ["" if is_image and math.isnan(value) else f"{value:.4f}" for value in values]
        objects = (dict(zip(names, row, strict=True)) for row in rows)
        return [json_line(None, **each, score=value) for each, value in zip(objects, values, strict=True)]

    write_lines(source, outputs)
    counts.check()
