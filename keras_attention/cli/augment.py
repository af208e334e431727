"""augment: pairs of texts and their translations by a translator of the other direction (back-translation)."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.load_model import is_export, load_for, search_for
from keras_attention.cli.options import BATCH_SIZE, BEAM, GENERATION, Command, Option, search_options
from keras_attention.cli.terminal import VERBOSITY, write_message
from keras_attention.storage import local_path, write_text
from keras_attention.task_specs import TASK_SPECS

_CHUNK = 512  # texts that are translated between two updates of the progress bar
_NAMES = [name for name in GENERATION if name not in ("stop", "num_return_sequences")]  # one whole translation each
_PARAMS = [
    click.Argument(["model"]),
    click.Argument(["texts"], nargs=-1, required=True),
    Option("--out", metavar="FILE", required=True, help="TSV file to write, with a pair per line: translation, text."),
    *search_options(*BEAM, group="Beam search"),
    *search_options(*_NAMES, group="Generation", default_length=TASK_SPECS["translator"].default_limit_text),
    BATCH_SIZE,
]


@click.command(cls=Command, params=_PARAMS)
def augment(model: str, texts: tuple[str, ...], out: str, batch_size: int, **search: Any) -> None:
    """Translate texts back, for a translator with few pairs.

    MODEL translates in the reverse direction, from the target language of the pairs into their source language. It is a
    .keras file or the directory of an export. TEXTS are files in the target language with one text per line. FILE has
    a line for each text: its translation by MODEL, a tab, and the text. `train translator --train FILE` reads it.

    A text is left out if its translation is empty or was cut at the maximum length, or if the text itself is too long
    for MODEL. The search is greedy; with --num-beams it is beam search.
    """
    path = local_path(out)
    if path.suffix != ".tsv":
        raise click.UsageError(f"--out is {out}; expected the name of a file to write that ends in .tsv.")
    if path.exists():
        raise click.UsageError(f"{out} exists and is not overwritten; choose another name.")
    lines = [_in_a_cell(text) for name in texts for text in ka.data.read_texts(name)]
    loaded = load_for("translate", model)
    pairs, left_out = _translate_back(loaded, lines, batch_size=batch_size, **search_for(loaded, search))
    shown = ", ".join(f"{count:,} {problem}" for problem, count in left_out.items())
    if not pairs:
        raise ValueError(
            f"None of the {len(lines):,} texts has a translation that can be used: {shown}. Nothing was written; "
            "check that MODEL reads the language of the texts, and that it is trained."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{translation}\t{text}\n" for translation, text in pairs))
    write_message(f"Wrote {len(pairs):,} of {len(lines):,} pairs to {out}.{f' Left out: {shown}.' if left_out else ''}")


def _translate_back(
    model: Any, texts: Sequence[str], **options: Any
) -> tuple[list[tuple[str, str]], collections.Counter[str]]:
    """Return (translation, text) of the texts that can be used, and the number of others by their problem."""
    from keras_attention.training.progress import ProgressBar  # imports Keras

    limit = model.metadata["max_length"] if is_export(model) else model.config.max_length
    pairs, left_out, bar = [], collections.Counter(), ProgressBar(len(texts), "texts")
    for begin in range(0, len(texts), _CHUNK):
        for result in model.translate(texts[begin : begin + _CHUNK], **options):
            if problem := _problem(result, limit):
                left_out[problem] += 1
            else:
                pairs.append((_in_a_cell(result.text), result.source))
        if not VERBOSITY.quiet:
            bar.update(min(begin + _CHUNK, len(texts)))
    bar.close()
    return pairs, left_out


def _problem(result: ka.Translation, limit: int) -> str:
    """Return why a translation cannot be used, or ""; `limit` is the number of tokens that the model reads."""
    from keras_attention.data.tokenization.special_tokens import NOT_TEXT  # imports Keras

    if len(result.source_pieces) >= limit:
        return f"with {limit:,} or more tokens, special ones included"
    if not result.text.strip():
        return "with an empty translation"
    return "" if result.target_pieces[-1] in NOT_TEXT else "whose translation was cut at the maximum length"


def _in_a_cell(text: str) -> str:
    """Return a text without the characters that end a cell of a TSV file."""
    return re.sub(r"[\t\r\n]+", " ", text).strip(" ")
