"""The embedded phrases and scenes, and the command `keras-attention quickstart`."""

from keras_attention.quickstart.phrases import LECTURE_PHRASE, phrase_pairs
from keras_attention.quickstart.scenes import Scene, SceneObject, captioned_scenes, described_object, right_captions

__all__ = [
    "LECTURE_PHRASE",
    "Scene",
    "SceneObject",
    "captioned_scenes",
    "described_object",
    "phrase_pairs",
    "right_captions",
]
