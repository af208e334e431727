"""export, check, presets and import."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import click

from keras_attention.cli.loading import VERBS, given, load_model, strategy_of


@click.command()
@click.argument("model")
@click.argument("directory")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--num-beams",
    type=click.IntRange(1),
    help="Beam width of the served search; without it, a language model samples, and others are greedy.",
)
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="The most pieces that are written.")
@click.option("--temperature", type=float, help="Of a language model that samples; 1 by default.")
@click.option("--top-k", type=click.IntRange(0), help="Of a language model: draw from the k likeliest pieces.")
@click.option(
    "--top-p", type=float, help="Of a language model: draw from the fewest pieces that reach this probability."
)
@click.option(
    "--int8",
    is_flag=True,
    help="Store the weights of projections and embeddings as 8-bit integers: a smaller, slower model.",
)
@click.option("--attention", is_flag=True, help="Also serve the attention maps of every block and head.")
@click.option(
    "--huggingface", is_flag=True, help="Write what transformers loads to DIRECTORY, in place of a SavedModel."
)
def export(
    model: str,
    directory: str,
    version: int,
    num_beams: int | None,
    length_penalty: float | None,
    max_new_tokens: int | None,
    int8: bool,
    attention: bool,
    huggingface: bool,
    **chance: Any,
) -> None:
    """Write MODEL, a .keras file, to DIRECTORY/VERSION/ for TensorFlow Serving, or to DIRECTORY for Hugging Face."""
    import keras_attention as ka

    loaded = load_model(model)
    if isinstance(loaded, ka.ServedModel):
        raise click.UsageError(f"{model} is exported already; expected a .keras file.")
    search = given(
        {"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens, **chance}
    )
    if huggingface:
        if search or int8 or attention:
            raise click.UsageError("--huggingface writes weights and sizes alone; leave the other options out.")
        ka.to_huggingface(loaded, directory)
        click.echo(f"Written to {directory}, for transformers.", err=True)
        return
    strategy = _strategy(loaded, model, search)
    if int8:
        loaded.quantize("int8")
    path = ka.export(loaded, directory, version, strategy, attention=attention)
    click.echo(f"Exported to {path}. Check it with: keras-attention check {path}", err=True)


def _strategy(loaded: Any, model: str, search: dict[str, Any]) -> Any:
    """Return what the options describe; None for the task's own."""
    import keras_attention as ka

    if not search:
        return None
    if not hasattr(loaded, "searches"):
        raise click.UsageError(f"{model} is a {type(loaded).__name__}, which does not search; leave the options out.")
    return strategy_of(search, ka.Sampling if hasattr(loaded, "complete") else ka.Greedy)


@click.command()
@click.argument("path")
def check(path: str) -> None:
    """Would a stock TensorFlow Serving run the SavedModel at PATH?"""
    import keras_attention as ka

    report = ka.check_export(path)
    for name, signature in report.signatures.items():
        click.echo(f"{name}: {signature}")
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    if not report.ok:
        click.echo(f"Error: {len(report.problems)} problem(s); a stock server would not serve this.", err=True)
        sys.exit(1)
    click.echo("ok: loaded and run by the C++ loader, XLA off")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write a list of objects.")
def presets(as_json: bool) -> None:
    """List every preset with its sizes, its parameters, and what the lecture's table says of them."""
    import keras_attention as ka

    rows = [_preset_row(name, row) for name, row in ka.presets().items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"{'preset':23}{'task':16}{'layers':>7}{'width':>7}{'heads':>7}{'parameters':>16}{'lecture':>9}")
    for row in rows:
        counted = f"{row['parameters']:,}" if row["parameters"] else "by vocabulary"
        click.echo(
            f"{row['name']:23}{row['task']:16}{row['layers']:7}{row['width']:7}{row['heads'] or '-':>7}{counted:>16}"
            f"{row['lecture_parameters'] or '-':>9}"
        )


def _preset_row(name: str, row: Any) -> dict[str, Any]:
    import keras_attention as ka

    sizes = row.config
    return {
        "name": name,
        "task": row.task,
        "layers": sizes.num_layers,
        "num_beams": getattr(sizes, "width", None) or sizes.units,
        "heads": getattr(sizes, "num_heads", None),
        "parameters": ka.count_parameters(name) if row.vocabulary_size else None,
        "lecture_parameters": row.lecture_parameters,
    }


@click.command("import")
@click.argument("directory")
@click.argument("model")
@click.option(
    "--task",
    type=click.Choice(list(VERBS)),
    help="Such as TextClassifier: put a new head on the encoder that is found.",
)
@click.option("--labels", help="Names of the classes or tags of a new head, separated by commas.")
def import_(directory: str, model: str, task: str | None, labels: str | None) -> None:
    """Turn DIRECTORY, of Hugging Face or an original TensorFlow checkpoint, into MODEL, a .keras file."""
    import keras_attention as ka

    place, target = pathlib.Path(directory), pathlib.Path(model)
    if target.suffix != ".keras":
        raise click.UsageError(f"{model} does not end in .keras.")
    if target.exists():
        raise click.UsageError(f"{model} exists and is not overwritten; choose another name.")
    parts = {"labels": tuple(label.strip() for label in labels.split(","))} if labels else {}
    original = any(place.glob("*.index"))
    loaded = (ka.from_tensorflow if original else ka.from_huggingface)(place, task=task, **parts)
    if labels and not isinstance(loaded, (ka.TextClassifier, ka.TextTagger)):
        raise click.UsageError(
            f"--labels belongs to a new head; {directory} is a {type(loaded).__name__}. Add --task TextClassifier or "
            "TextTagger."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    ka.training.write_whole(target, lambda name: loaded.save(name))
    click.echo(f"{type(loaded).__name__} with {loaded.count_params():,} parameters in {model}.", err=True)
    if None in loaded.tokenizers.values():
        click.echo(
            f"Warning: {directory} has no tokenizer's files that are known here: no verb can use {model}.", err=True
        )
