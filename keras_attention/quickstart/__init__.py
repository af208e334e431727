"""The built-in phrases and scenes, also as `tfds:phrases` and `tfds:scenes`; and `keras-attention quickstart`."""

import importlib
from typing import Any

from keras_attention.data.tfds import BUILDERS
from keras_attention.quickstart.phrases import EXAMPLE_PHRASE, phrase_pairs
from keras_attention.quickstart.scenes import Scene, SceneObject, captioned_scenes, described_object, right_captions

__all__ = [
    "EXAMPLE_PHRASE",
    "Scene",
    "SceneObject",
    "captioned_scenes",
    "described_object",
    "phrase_pairs",
    "right_captions",
]


def _builder(module: str) -> Any:
    """Return the builder in a module of this package; the module imports TensorFlow Datasets."""
    return importlib.import_module(f"{__name__}.{module}").builder()


BUILDERS |= {"phrases": lambda: _builder("phrases_tfds"), "scenes": lambda: _builder("scenes_tfds")}
