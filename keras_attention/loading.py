"""`load`: load a model from a `.keras` file, a Hugging Face directory or an export."""

from __future__ import annotations

import pathlib
import zipfile
from typing import Any

import keras

from keras_attention.keras_support import keras_patches
from keras_attention.storage import local_path


def load(path: str | pathlib.Path) -> Any:
    """Load a model from a `.keras` file, a Hugging Face directory or an export.

    Args:
        path: a `.keras` file, a Hugging Face directory with `config.json` and weights, or a version directory of
            `Task.export`, such as `serving/translator/1`.

    Returns:
        a task, such as a `Translator`; for an export, a `keras_attention.serving.ExportedModel` with the method of the
        task, such as `translate`.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the path is a URL, has none of these three formats, or the file is damaged.

    Example:
        >>> model = ka.TextClassifier.from_examples([("we eat", "yes"), ("they drink", "no")], units=12)
        >>> model.save("classifier.keras")
        >>> ka.load("classifier.keras").labels
        ('no', 'yes')
    """
    path = local_path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model {path}; expected a local .keras file, Hugging Face directory or exported directory. "
            "Models are not downloaded by their name."
        )
    if path.is_dir():
        return _load_directory(path)
    if not zipfile.is_zipfile(path) or "config.json" not in zipfile.ZipFile(path).namelist():
        raise ValueError(
            f"{path} is not a model; expected a .keras file, a Hugging Face directory or an exported directory such as "
            "serving/translator/1."
        )
    try:
        with keras_patches.reading_weights():
            model = keras.saving.load_model(path, compile=False)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or train or import the model again.") from None
    model.is_pretrained = True
    return model


def _load_directory(path: pathlib.Path) -> Any:
    if (path / "saved_model.pb").exists():
        from keras_attention.serving import ExportedModel

        return ExportedModel(path)
    if (path / "config.json").is_file():
        from keras_attention.weights import from_huggingface

        return from_huggingface(path)
    if (path / "model.keras").is_file():
        raise ValueError(f"{path} is the directory of a training run; expected its model, {path / 'model.keras'}.")
    versions = sorted((child for child in path.iterdir() if (child / "saved_model.pb").exists()), key=str)
    hint = f" Its versions are {', '.join(map(str, versions))}." if versions else ""
    raise ValueError(
        f"{path} contains no SavedModel (saved_model.pb) and no Hugging Face model (config.json); expected one of "
        f"them, such as serving/translator/1.{hint}"
    )
