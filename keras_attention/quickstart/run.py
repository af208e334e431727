"""quickstart: the whole way on embedded data, phrases or scenes."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from keras_attention.cli.jobs import jobs
from keras_attention.cli.train import read_run, run_job, train


@click.command()
@click.argument("task", type=click.Choice(["translator", "captioner"]), default="translator")
@click.option("--out", help="Directory to write to; a run that was stopped goes on.  [default: quickstart/TASK]")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the embedded data.")
def quickstart(task: str, out: str | None, epochs: int | None) -> None:
    """Train a small translator or captioner on embedded data, use it, export it, and run the export."""
    directory = pathlib.Path(out or f"quickstart/{task}")
    (_translate if task == "translator" else _caption)(directory, epochs)


def _translate(directory: pathlib.Path, epochs: int | None) -> None:
    import keras_attention as ka

    click.echo("1. Train rnn_attention on embedded English-Spanish phrases", err=True)
    model = _train("translator", _PHRASES, epochs, directory)
    click.echo("\n2. Translate phrases that were in no training pair", err=True)
    wanted = dict([ka.quickstart.LECTURE_PHRASE, *ka.quickstart.phrase_pairs("test")[:4]])
    seen = wanted.keys() & {source for source, _ in ka.quickstart.phrase_pairs("train")}
    if seen:
        raise RuntimeError(f"The training split holds {sorted(seen)}, which it must not.")
    answers = model.translate(wanted, ka.BeamSearch(num_beams=4))
    for answer, expected in zip(answers, wanted.values(), strict=True):
        remark = "as expected" if answer.text == expected else f"expected: {expected}"
        click.echo(f"   {answer.source} -> {answer.text}   ({remark})")
    ka.plot_alignment(answers[0], directory / "alignment.png")
    _serve(model, directory / "serving" / "translator", [a.source for a in answers], [a.text for a in answers])
    click.echo(
        f"\nThe alignment is drawn in {directory / 'alignment.png'}. Try next:\n"
        f"   echo 'they are reading the old letter' | keras-attention translate {directory}/model.keras --num-beams 4\n"
        f"   keras-attention evaluate {directory / 'model.keras'} tfds:phrases:test\n"
        "   keras-attention train translator --train pairs.tsv --valid valid.tsv --out run/"
    )


def _caption(directory: pathlib.Path, epochs: int | None) -> None:
    import keras_attention as ka

    seeing = directory / "seeing"
    to_see = {**_SCENES, "sizes": [*_SCENES["sizes"], "tie_weights=true", "grounded_attention=true"]}
    to_write = {name: value for name, value in _SCENES.items() if name not in _BEGINNING}
    changes = ["tie_weights=false", "coordinate_features=true", "grounded_attention=false", "attention_smoothing=1.5"]
    to_write |= {"init": str(seeing / "model.keras"), "sizes": changes, "freeze": True, "epochs": 6}
    _refuse_another("captioner", to_write, directory)
    click.echo("1. Train show_attend_and_tell on embedded scenes: to see, looking again for each word", err=True)
    _train("captioner", to_see, epochs, seeing)
    click.echo("\n   and on, to write, with a matrix of its own over the network that has learned to see", err=True)
    model = _train("captioner", to_write, epochs, directory)
    click.echo("\n2. Caption scenes whose combinations of objects were never trained on", err=True)
    scenes = ka.quickstart.captioned_scenes("test", 5)
    pictures = [_write_picture(scene, directory / "scenes") for scene in scenes]
    answers = model.caption(pictures, ka.BeamSearch(num_beams=3))
    for picture, answer, scene in zip(pictures, answers, scenes, strict=True):
        remark = "right" if answer.text in ka.quickstart.right_captions(scene) else f"expected: {scene.captions[0]}"
        click.echo(f"   {picture} -> {answer.text}   ({remark})")
        ka.plot_caption(answer, picture, picture.with_suffix(".attention.png"))
        ka.plot_salient_words(answer, picture, picture.with_suffix(".words.png"))
    encoded = [picture.read_bytes() for picture in pictures]
    _serve(model, directory / "serving" / "captioner", encoded, [a.text for a in answers])
    click.echo(
        f"\nWhere each word looked is drawn in {directory / 'scenes'}. Try next:\n"
        f"   keras-attention caption {directory / 'model.keras'} {pictures[0]} --num-beams 3 --plot pictures/\n"
        f"   keras-attention evaluate {directory / 'model.keras'} tfds:scenes:test\n"
        "   keras-attention train captioner --images photos/ --captions captions.csv --out run/"
    )


def _write_picture(scene: Any, folder: pathlib.Path) -> pathlib.Path:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(folder / f"{scene.name}.png")
    return folder / f"{scene.name}.png"


_PHRASES = {
    "train_files": ["tfds:phrases:train"],
    "valid_files": ["tfds:phrases:validation[:200]"],
    "preset": "rnn_attention",
    "sizes": ["units=128", "embedding_dim=96", "dropout=0.1"],
    "vocabulary_size": 400,
    "lowercase": True,
    "epochs": 5,
    "learning_rate": 3e-3,
    "warmup_steps": 100,
    "label_smoothing": 0.05,
    "max_tokens": 1024,
}
_BEGINNING = ("preset", "encoder", "tokenizer", "vocabulary_size")  # what a model that is there brings itself
_SCENES = {
    "train_files": ["tfds:scenes:train"],
    "valid_files": ["tfds:scenes:validation[:200]"],
    "preset": "show_attend_and_tell",
    "encoder": "small_cnn",
    "sizes": ["image_size=64", "units=192", "embedding_dim=64", "dropout=0.1", "doubly_stochastic=0.0"],
    "tokenizer": "bpe",
    "vocabulary_size": 200,
    "captions_per_image": 1,
    "epochs": 5,
    "learning_rate": 2e-3,
    "label_smoothing": 0.0,
    "max_tokens": 1024,
}


def _train(task: str, chosen: dict[str, Any], epochs: int | None, directory: pathlib.Path) -> Any:
    """Do what `keras-attention train` would, or go on with it."""
    _refuse_another(task, chosen, directory)
    context = train.make_context("train", [task, "--out", "unused"])
    return run_job(jobs()[task], task, {**context.params, **chosen, "epochs": epochs or chosen["epochs"]}, directory)


def _refuse_another(task: str, chosen: dict[str, Any], directory: pathlib.Path) -> None:
    if (directory / "run.json").exists():
        begun, options = read_run(directory)
        if begun != task or any(options[name] != chosen[name] for name in ("train_files", "sizes")):
            raise click.UsageError(f"{directory} holds another run; choose another --out.")


def _serve(model: Any, serving: pathlib.Path, inputs: list, texts: list[str]) -> None:
    """Export, run the export in a process of its own, and compare."""
    import keras_attention as ka

    click.echo("\n3. Export a SavedModel and run it as a stock TensorFlow Serving would", err=True)
    version = 1 + max((int(path.name) for path in serving.glob("[0-9]*")), default=0)
    path = ka.export(model, serving, version, ka.BeamSearch(num_beams=4 if hasattr(model, "translate") else 3))
    report = ka.check_export(path, inputs)
    if not report.ok:
        raise RuntimeError(f"A stock server would not run {path}: {'; '.join(report.problems)}")
    answered = report.answer["text" if "text" in report.answer else "caption"]
    verdict = "the same" if answered == texts else "DIFFERENTLY"
    click.echo(f"   {path}: the C++ loader, XLA off, answers {verdict}: {answered[0]}")
