"""The command `quickstart`: train, use, export and check a model on built-in phrases or scenes."""

from __future__ import annotations

import pathlib
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.options import Command, task_class
from keras_attention.cli.terminal import write_message
from keras_attention.cli.train import default_options, read_run

_PHRASES = {
    "train_files": ["tfds:phrases:train"],
    "valid_files": ["tfds:phrases:validation[:200]"],
    "preset": "rnn_attention",
    "overrides": ["units=128", "embedding_dim=96", "dropout=0.1"],
    "vocabulary_size": 400,
    "lowercase": True,
    "epochs": 5,
    "learning_rate": 3e-3,
    "warmup_steps": 100,
    "label_smoothing": 0.05,
    "max_tokens": 1024,
}
_SCENES = {
    "train_files": ["tfds:scenes:train"],
    "valid_files": ["tfds:scenes:validation[:200]"],
    "preset": "show_attend_and_tell",
    "image_encoder": "small_cnn",
    "overrides": ["image_size=64", "units=192", "embedding_dim=64", "dropout=0.1", "doubly_stochastic=0.0"],
    "tokenizer": "bpe",
    "vocabulary_size": 200,
    "captions_per_image": 1,
    "epochs": 5,
    "learning_rate": 2e-3,
    "label_smoothing": 0.0,
    "max_tokens": 1024,
}
# The model of `--init` already has these options.
_PARTS_OF_INIT = ("preset", "image_encoder", "tokenizer", "vocabulary_size")


@click.command(cls=Command)
@click.argument("task", type=click.Choice(["translator", "captioner"]), default="translator", metavar="[TASK]")
@click.option(
    "--out",
    metavar="DIRECTORY",
    help="Output directory; an unfinished run in it is resumed.  [default: quickstart/TASK]",
)
@click.option("--epochs", type=click.IntRange(1), help="Number of epochs.  [default: 5]")
def quickstart(task: str, out: str | None, epochs: int | None) -> None:
    """Train a small model on built-in data, and export it.

    TASK is translator (the default; English phrases to Spanish) or captioner (synthetic images).
    """
    directory = pathlib.Path(out or f"quickstart/{task}")
    (_translate if task == "translator" else _caption)(directory, epochs)


def _translate(directory: pathlib.Path, epochs: int | None) -> None:
    write_message("1. Train rnn_attention on built-in English-Spanish phrases")
    model = _train("translator", _PHRASES, epochs, directory)
    write_message("\n2. Translate phrases that are not in the training data")
    references = dict([ka.quickstart.EXAMPLE_PHRASE, *ka.quickstart.phrase_pairs("test")[:4]])
    known = references.keys() & {source for source, _ in ka.quickstart.phrase_pairs("train")}
    if known:
        raise RuntimeError(f"The training data contains the test phrases {sorted(known)}; expected none.")
    translations = model.translate(list(references), ka.BeamSearch(num_beams=4))
    for translation, reference in zip(translations, references.values(), strict=True):
        remark = "equals the reference" if translation.text == reference else f"the reference is: {reference}"
        click.echo(f"   {translation.source} -> {translation.text}   ({remark})")
    ka.plot_alignment(translations[0], directory / "alignment.png")
    _serve(
        model, directory / "serving" / "translator", [t.source for t in translations], [t.text for t in translations]
    )
    click.echo(
        f"\nThe alignment is drawn in {directory / 'alignment.png'}. Try next:\n"
        f"   echo 'they are reading the old letter' | keras-attention translate {directory}/model.keras --num-beams 4\n"
        f"   keras-attention evaluate {directory / 'model.keras'} tfds:phrases:test\n"
        "   keras-attention train translator --train pairs.tsv --valid valid.tsv --out run/"
    )


def _caption(directory: pathlib.Path, epochs: int | None) -> None:
    model = _train_captioner(directory, epochs)
    write_message("\n2. Caption scenes whose combinations of objects are not in the training data")
    scenes = ka.quickstart.captioned_scenes("test", 5)
    images = [_write_image(scene, directory / "scenes") for scene in scenes]
    captions = model.caption(images, ka.BeamSearch(num_beams=3))
    for image, caption, scene in zip(images, captions, scenes, strict=True):
        correct = caption.text in ka.quickstart.correct_captions(scene)
        click.echo(f"   {image} -> {caption.text}   ({'correct' if correct else f'expected: {scene.captions[0]}'})")
        ka.plot_caption(caption, image, image.with_suffix(".attention.png"))
    encoded = [image.read_bytes() for image in images]
    _serve(model, directory / "serving" / "captioner", encoded, [caption.text for caption in captions])
    click.echo(
        f"\nThe attention of each word is drawn in {directory / 'scenes'}. Try next:\n"
        f"   keras-attention caption {directory / 'model.keras'} {images[0]} --num-beams 3 --plot plots/\n"
        f"   keras-attention evaluate {directory / 'model.keras'} tfds:scenes:test\n"
        "   keras-attention train captioner --images photos/ --captions captions.csv --out run/"
    )


def _train_captioner(directory: pathlib.Path, epochs: int | None) -> Any:
    """Train the image encoder with grounded attention first, then the decoder on the frozen encoder."""
    first_run = directory / "image_encoder"
    first = {**_SCENES, "overrides": [*_SCENES["overrides"], "tie_weights=true", "grounded_attention=true"]}
    second = {name: value for name, value in _SCENES.items() if name not in _PARTS_OF_INIT}
    changes = ["tie_weights=false", "coordinate_features=true", "grounded_attention=false", "attention_smoothing=1.5"]
    second |= {"init": str(first_run / "model.keras"), "overrides": changes, "freeze": True, "epochs": 6}
    _refuse_another_run("captioner", second, directory)
    write_message("1. Train show_attend_and_tell on built-in scenes: first its image encoder")
    _train("captioner", first, epochs, first_run)
    write_message("\n   then its decoder, on the frozen image encoder")
    return _train("captioner", second, epochs, directory)


def _write_image(scene: Any, directory: pathlib.Path) -> pathlib.Path:
    from PIL import Image

    directory.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(directory / f"{scene.name}.png")
    return directory / f"{scene.name}.png"


def _train(task: str, options: dict[str, Any], epochs: int | None, directory: pathlib.Path) -> Any:
    """Start or resume a run, as `keras-attention train` does."""
    from keras_attention.cli.training_run import run_training  # imports Keras

    _refuse_another_run(task, options, directory)
    options = {**default_options(task), **options, "epochs": epochs or options["epochs"]}
    return run_training(task_class(task), options, directory)


def _refuse_another_run(task: str, options: dict[str, Any], directory: pathlib.Path) -> None:
    if (directory / "run.json").exists():
        stored_task, stored_options = read_run(directory)
        if stored_task != task or any(stored_options[name] != options[name] for name in ("train_files", "overrides")):
            raise click.UsageError(f"{directory} contains another run; choose another --out.")


def _serve(model: Any, serving: pathlib.Path, inputs: list, texts: list[str]) -> None:
    """Export the model, run the export in a separate process, and compare the texts."""
    write_message("\n3. Export a SavedModel and run it as TensorFlow Serving does")
    version = 1 + max((int(path.name) for path in serving.glob("[0-9]*")), default=0)
    strategy = ka.BeamSearch(num_beams=4 if model.spec.predict_method == "translate" else 3)
    path = model.export(serving, version, strategy=strategy)
    report = ka.check_export(path, inputs)
    if not report.ok:
        raise RuntimeError(f"TensorFlow Serving cannot run {path}: {'; '.join(report.problems)}. Export it again.")
    outputs = report.outputs["text" if "text" in report.outputs else "caption"]
    verdict = "the same texts" if outputs == texts else "DIFFERENT TEXTS"
    click.echo(f"   {path}: the C++ loader, XLA off, returns {verdict}: {outputs[0]}")
