"""translate, caption, complete, classify, tag, fill: lines or pictures in, lines out."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from keras_attention.cli.loading import fixed, given, load_for, search_of, strategy_of

_GAPS = "a gap is <mask>, or [MASK] where the model's tokenizer is WordPiece."
_CHUNK = 512  # lines that are read before some are written


def _lines(source: str | None) -> Iterator[str]:
    import keras_attention as ka

    if source is not None:
        yield from ka.data.read_lines(source)
    else:
        yield from ka.data.decode_lines(sys.stdin.buffer, "standard input")


def _run(source: str | None, answer: Callable[[list[str], int], Sequence[str]]) -> None:
    """Write one line for each line that is read, with a count on standard error."""
    lines, done = _lines(source), 0
    while chunk := list(itertools.islice(lines, _CHUNK)):
        for text in answer(chunk, done):
            click.echo(text)
        done += len(chunk)
        if sys.stderr.isatty():
            click.echo(f"\r{done} lines", err=True, nl=False)
    if sys.stderr.isatty():
        click.echo(err=True)


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option("--num-beams", type=click.IntRange(1), help="Beam width; greedy without it.")
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="The most pieces of a translation.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--scores", is_flag=True, help="Put each score before its text, separated by a tab.")
def translate(
    model: str,
    source: str | None,
    num_beams: int | None,
    length_penalty: float | None,
    max_new_tokens: int | None,
    batch_size: int,
    scores: bool,
) -> None:
    """Translate each line of SOURCE, or of standard input, with MODEL."""
    loaded = load_for("translate", model)
    options = {"batch_size": batch_size, **search_of(loaded, num_beams, length_penalty, max_new_tokens)}

    def answer(lines: list[str], done: int) -> list[str]:
        answers = loaded.translate(lines, **options)
        return [_line_of(a.score if scores else None, a.text) for a in answers]

    _run(source, answer)


@click.command()
@click.argument("model")
@click.argument("pictures", nargs=-1)
@click.option("--num-beams", type=click.IntRange(1), help="Beam width; greedy without it.")
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="The most pieces of a caption.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--scores", is_flag=True, help="Put each score before its caption, separated by a tab.")
@click.option("--plot", help="Folder to draw each caption's attention into, as NAME.attention.png and NAME.words.png.")
def caption(
    model: str,
    pictures: tuple[str, ...],
    num_beams: int | None,
    length_penalty: float | None,
    max_new_tokens: int | None,
    batch_size: int,
    scores: bool,
    plot: str | None,
) -> None:
    """Write a caption for each of PICTURES, or for each path on standard input, with MODEL.

    What cannot be read gets an empty line, and is named on standard error; where one of PICTURES is not even there, the
    exit code is 1.
    """
    loaded = load_for("caption", model)
    options = {"batch_size": batch_size, **search_of(loaded, num_beams, length_penalty, max_new_tokens)}
    if plot is not None:
        pathlib.Path(plot).mkdir(parents=True, exist_ok=True)
    paths, missing, drawn = iter(pictures) if pictures else _lines(None), 0, set()
    while chunk := list(itertools.islice(paths, _CHUNK)):
        there = [_can_be_opened(path) for path in chunk]
        missing += there.count(False)
        opened = [path if fine else b"" for path, fine in zip(chunk, there, strict=True)]
        for path, answer in zip(chunk, loaded.caption(opened, **options), strict=True):
            if path and not answer.valid:
                click.echo(f"{path} {_why_not(path)}", err=True)
            text = _one_line(answer.text)
            click.echo(f"{answer.score:.4f}\t{text}" if scores and answer.valid else text)
            if plot is not None and answer.valid:
                _draw(answer, path, pathlib.Path(plot), drawn)
    if missing and pictures:
        raise click.ClickException(f"{missing} of the pictures are not there, or cannot be opened.")


def _can_be_opened(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except (OSError, ValueError):
        return False


def _why_not(path: str) -> str:
    """What is wrong with a picture that has no caption."""
    if os.path.isdir(path):
        return f"is a folder; expected pictures, such as {path.rstrip('/')}/*.jpg."
    if not os.path.exists(path):
        return "is not there."
    return "cannot be read; expected a whole JPEG, PNG, GIF or BMP."


def _draw(caption: Any, path: str, folder: pathlib.Path, drawn: set[str]) -> None:
    """Draw what there is to draw, under a name of its own: a model without attention looks nowhere."""
    import keras_attention as ka

    if caption.attention is None:
        click.echo(f"{path}: there is no attention to draw.", err=True)
        return
    name, count = pathlib.Path(path).name, 1
    while name in drawn:  # of another folder
        count += 1
        name = f"{pathlib.Path(path).name}.{count}"
    drawn.add(name)
    ka.plot_caption(caption, path, folder / f"{name}.attention.png")
    ka.plot_salient_words(caption, path, folder / f"{name}.words.png")


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option("--temperature", type=float, help="Below 1 sharpens, above 1 flattens; 1 by default.")
@click.option("--top-k", type=click.IntRange(0), help="Draw from the k likeliest pieces.")
@click.option("--top-p", type=float, help="Draw from the fewest pieces that reach this probability.")
@click.option("--num-beams", type=click.IntRange(1), help="Search with this num_beams width; do not sample.")
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="The most pieces after the prompt.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
def complete(
    model: str,
    source: str | None,
    num_beams: int | None,
    length_penalty: float | None,
    max_new_tokens: int | None,
    seed: int,
    batch_size: int,
    **chance: Any,
) -> None:
    """Continue each line of SOURCE, or of standard input, with MODEL; line breaks become \\n."""
    import keras_attention as ka

    loaded = load_for("complete", model)
    fixed(
        loaded, {"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens, **chance}
    )
    served = isinstance(loaded, ka.ServedModel)
    search = {"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens, **chance}
    strategy = strategy_of(given(search), ka.Sampling)

    def answer(lines: list[str], done: int) -> list[str]:
        if served:
            answers = loaded.complete(lines, batch_size=batch_size, seed=seed + done)
        else:
            answers = loaded.complete(lines, dataclasses.replace(strategy, seed=seed + done), batch_size)
        return [_one_line(a.text) for a in answers]

    _run(source, answer)


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--scores", is_flag=True, help="Put each probability before its label, separated by a tab.")
def classify(model: str, source: str | None, batch_size: int, scores: bool) -> None:
    """Label each line of SOURCE, or of standard input, with MODEL."""
    loaded = load_for("classify", model)

    def answer(lines: list[str], done: int) -> list[str]:
        answers = loaded.classify(lines, batch_size=batch_size)
        return [_line_of(a.score if scores else None, a.label) for a in answers]

    _run(source, answer)


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
def tag(model: str, source: str | None, batch_size: int) -> None:
    """Tag the words of each line of SOURCE, or of standard input, with MODEL."""
    loaded = load_for("tag", model)
    _run(source, lambda lines, done: [" ".join(a.tags) for a in loaded.tag(lines, batch_size=batch_size)])


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option(
    "--candidates", type=click.IntRange(1, 5), help="Write the likeliest pieces of each gap, with their probabilities."
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
def fill(model: str, source: str | None, candidates: int | None, batch_size: int) -> None:
    """Fill the gaps of each line of SOURCE, or of standard input, with MODEL.

    A gap is <mask>, or [MASK] where the model's tokenizer is WordPiece.
    """
    loaded = load_for("fill", model)

    def answer(lines: list[str], done: int) -> list[str]:
        answers = loaded.fill(lines, batch_size=batch_size)
        for number, (line, found) in enumerate(zip(lines, answers, strict=True), done + 1):
            if line.strip() and not found.candidates:
                click.echo(f"Line {number} has no gap; {_GAPS}", err=True)
        if candidates is None:
            return [_one_line(a.text) for a in answers]
        return [
            "\t".join(
                " ".join(f"{_one_line(piece)}:{chance:.4f}" for piece, chance in gap[:candidates])
                for gap in a.candidates
            )
            for a in answers
        ]

    _run(source, answer)


def _line_of(score: float | None, text: str) -> str:
    """One answer, after its score if there is one; that of an empty line, "" and 0, stays an empty line."""
    return f"{score:.4f}\t{_one_line(text)}" if score is not None and (text or score) else _one_line(text)


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "\\n")
