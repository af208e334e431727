"""Register the built-in data sets as `tfds:phrases` and `tfds:scenes`."""

import importlib
from typing import Any

from keras_attention.data.reading.tfds import BUILDERS


def _builder(module: str, name: str) -> Any:
    """Return the builder of a class in a module of this directory; the module imports TensorFlow Datasets."""
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)()


BUILDERS |= {
    "phrases": lambda: _builder("phrases_tfds", "Phrases"),
    "scenes": lambda: _builder("scenes_tfds", "Scenes"),
}
