"""The built-in phrases and scenes."""

from keras_attention.quickstart.phrases import EXAMPLE_PHRASE, phrase_pairs
from keras_attention.quickstart.scenes import Scene, SceneObject, captioned_scenes, correct_captions, described_object

__all__ = [
    "EXAMPLE_PHRASE",
    "Scene",
    "SceneObject",
    "captioned_scenes",
    "described_object",
    "phrase_pairs",
    "correct_captions",
]
