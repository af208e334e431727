"""quickstart: the whole way on the embedded phrases, in a few minutes."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from keras_attention.cli.jobs import jobs
from keras_attention.cli.train import run_job, train


@click.command()
@click.option(
    "--out", default="quickstart", show_default=True, help="Directory to write to; a run that was stopped goes on."
)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
def quickstart(out: str, epochs: int) -> None:
    """Train a small translator on the embedded phrases, use it, export it, and run the export."""
    import keras_attention as ka

    directory = pathlib.Path(out)
    click.echo("1. Train rnn_attention on embedded English-Spanish phrases", err=True)
    model = run_job(jobs()["translator"], "translator", _options(epochs), directory)
    click.echo("\n2. Translate phrases that were in no training pair", err=True)
    wanted = dict([ka.data.LECTURE_PHRASE, *ka.data.phrase_pairs("test")[:4]])
    seen = wanted.keys() & {source for source, _ in ka.data.phrase_pairs("train")}
    if seen:
        raise RuntimeError(f"The training split holds {sorted(seen)}, which it must not.")
    answers = model.translate(wanted, ka.BeamSearch(width=4))
    for answer, expected in zip(answers, wanted.values(), strict=True):
        remark = "as expected" if answer.text == expected else f"expected: {expected}"
        click.echo(f"   {answer.source} -> {answer.text}   ({remark})")
    ka.plot_alignment(answers[0], directory / "alignment.png")
    _serve(model, directory, answers)
    click.echo(
        f"\nThe alignment is drawn in {directory / 'alignment.png'}. Try next:\n"
        f"   echo 'they are reading the old letter' | keras-attention translate {directory / 'model.keras'} --beam 4\n"
        f"   keras-attention evaluate {directory / 'model.keras'} tfds:phrases:test\n"
        "   keras-attention train translator --train pairs.tsv --valid valid.tsv --out run/"
    )


def _options(epochs: int) -> dict[str, Any]:
    """What `keras-attention train translator` would be given."""
    context = train.make_context("train", ["translator", "--out", "unused"])
    return {
        **context.params,
        "train_files": ["tfds:phrases:train"],
        "valid_files": ["tfds:phrases:validation[:200]"],
        "preset": "rnn_attention",
        "sizes": ["units=128", "embedding_dim=96", "dropout=0.1"],
        "vocabulary_size": 400,
        "lowercase": True,
        "epochs": epochs,
        "learning_rate": 3e-3,
        "warmup_steps": 100,
        "label_smoothing": 0.05,
        "batch_tokens": 1024,
    }


def _serve(model: Any, directory: pathlib.Path, answers: list) -> None:
    """Export, run the export in a process of its own, and compare."""
    import keras_attention as ka

    click.echo("\n3. Export a SavedModel and run it as a stock TensorFlow Serving would", err=True)
    serving = directory / "serving" / "translator"
    version = 1 + max((int(path.name) for path in serving.glob("[0-9]*")), default=0)
    path = ka.export(model, serving, version, ka.BeamSearch(width=4))
    report = ka.check_export(path, [answer.source for answer in answers])
    if not report.ok:
        raise RuntimeError(f"A stock server would not run {path}: {'; '.join(report.problems)}")
    same = report.answer["text"] == [answer.text for answer in answers]
    verdict = "the same" if same else "DIFFERENTLY"
    click.echo(f"   {path}: the C++ loader, XLA off, answers {verdict}: {report.answer['text'][0]}")
