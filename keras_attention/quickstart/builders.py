"""Register the built-in data sets as `tfds:phrases` and `tfds:scenes`."""

import importlib
from typing import Any

from keras_attention.data.tfds import BUILDERS


def _builder(module: str) -> Any:
    """Return the builder in a module of this directory; the module imports TensorFlow Datasets."""
    return importlib.import_module(f"{__package__}.{module}").builder()


BUILDERS |= {"phrases": lambda: _builder("phrases_tfds"), "scenes": lambda: _builder("scenes_tfds")}
