"""A TensorFlow Datasets builder of the built-in scenes: `tfds:scenes`."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow_datasets as tfds

from keras_attention.quickstart.phrases import SPLITS
from keras_attention.quickstart.scenes import COLOURS, RESOLUTION, SHAPES, SIZES, Scene, SceneObject, captioned_scenes


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Images of two objects in a relation, drawn by `keras_attention.quickstart.scenes`."""

    name = "scenes"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drawn images of two coloured objects in a relation, each with five captions.",
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(RESOLUTION, RESOLUTION, 3), encoding_format="png"),
                    "name": features.Text(),
                    "captions": features.Sequence({"text": features.Text()}),
                    "objects": features.Sequence(
                        {
                            "bbox": features.BBoxFeature(),
                            "size": features.ClassLabel(names=list(SIZES)),
                            "colour": features.ClassLabel(names=list(COLOURS)),
                            "shape": features.ClassLabel(names=list(SHAPES)),
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for scene in captioned_scenes(split):
            yield scene.name, _example(scene)


def _example(scene: Scene) -> dict:
    return {
        "image": scene.image,
        "name": scene.name,
        "captions": [{"text": caption} for caption in scene.captions],
        "objects": [_object(obj) for obj in scene.objects],
    }


def _object(obj: SceneObject) -> dict:
    box = tfds.features.BBox(*(edge / RESOLUTION for edge in obj.box))
    return {"bbox": box, "size": obj.size, "colour": obj.colour, "shape": obj.shape}
