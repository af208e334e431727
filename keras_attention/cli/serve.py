"""export, check and presets."""

from __future__ import annotations

import sys

import click

from keras_attention.cli.models import load_model


@click.command()
@click.argument("model")
@click.argument("directory")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True)
@click.option("--beam", type=click.IntRange(1), help="Beam width of the served search; greedy without it.")
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--max-length", type=click.IntRange(1), help="The most pieces that are written.")
def export(
    model: str, directory: str, version: int, beam: int | None, length_penalty: float | None, max_length: int | None
) -> None:
    """Write MODEL, a .keras file, to DIRECTORY/VERSION/ for TensorFlow Serving."""
    import keras_attention as ka

    loaded = load_model(model)
    if isinstance(loaded, ka.ServedModel):
        raise click.UsageError(f"{model} is exported already; expected a .keras file.")
    if length_penalty is not None and beam is None:
        raise click.UsageError("--length-penalty belongs to a beam search; add --beam.")
    if (beam or max_length) and not hasattr(loaded, "searches"):
        raise click.UsageError(f"{model} is a {type(loaded).__name__}, which does not search; leave the options out.")
    strategy = None
    if beam is not None:
        penalty = 0.6 if length_penalty is None else length_penalty
        strategy = ka.BeamSearch(width=beam, length_penalty=penalty, max_length=max_length)
    elif max_length is not None:
        kind = ka.Sampling if isinstance(loaded, ka.CausalLM) else ka.Greedy
        strategy = kind(max_length=max_length)
    path = ka.export(loaded, directory, version, strategy)
    click.echo(f"Exported to {path}. Check it with: keras-attention check {path}", err=True)


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
def presets() -> None:
    """List every preset with its task and sizes."""
    import keras_attention as ka

    for name, row in ka.presets().items():
        size = row.config
        shape = f"{size.num_layers} x {size.units} {size.cell}, embeddings {size.embedding_dim}"
        click.echo(f"{name:16}{row.task:16}{shape:32}attention {size.attention or 'none':12}{row.figure}")
