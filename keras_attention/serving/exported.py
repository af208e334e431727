"""Run an exported model from Python."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_attention.data.images import ImageError, encoded_image
from keras_attention.models.inference import check_images, check_texts, run_batches
from keras_attention.outputs import Caption, Classification, Completion, FilledMask, Tagging, Translation
from keras_attention.serving.export import FACTS


class ExportedModel:
    """A SavedModel of this library, with the verb of the original model, which returns the same objects.

    Args:
        path: a version directory that `Task.export` wrote.

    Attributes:
        facts: description of the export: `task`, `verb`, `version` of the library, `strategy`, `labels` and more.

    Raises:
        ValueError: the directory holds no SavedModel of this library, or a damaged one.

    Example:
        >>> ka.load("serving/translator/1").translate(["we are eating bread"])  # doctest: +SKIP
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (registers the operations of the tokenizers)

        path = pathlib.Path(path)
        if not (path / "saved_model.pb").is_file():
            raise ValueError(
                f"{path} holds no SavedModel (no saved_model.pb); expected a version directory that "
                "`keras-attention export` wrote, such as serving/translator/1."
            )
        self.facts = _read_facts(path)
        try:
            self.loaded = tf.saved_model.load(str(path))
        except (tf.errors.OpError, IndexError) as error:
            raise ValueError(f"{path} is damaged ({error}). Copy it again, or export the model again.") from None
        self.signature = self.loaded.signatures["serving_default"]
        self.tensor = tf.constant

    @property
    def task(self) -> str:
        """Class name of the original model, such as `"Translator"`."""
        return self.facts["task"]

    @property
    def verb(self) -> str:
        """Name of the method that maps inputs to outputs, such as `"translate"`."""
        return self.facts["verb"]

    def compute_row(self, strings: Sequence[str | bytes], seeds: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs of `serving_default` for a batch of texts or encoded images.

        Args:
            strings: B texts or images.
            seeds: (B,) int32, one seed per string; used only if the strategy is `Sampling`.
        """
        names = self.signature.structured_input_signature[1]
        inputs = {name: self.tensor(seeds if name == "seed" else list(strings)) for name in names}
        return {name: value.numpy() for name, value in self.signature(**inputs).items()}

    def _rows(self, verb: str, strings: Sequence[str | bytes], batch_size: int, seed: int = 0) -> list[dict[str, Any]]:
        if verb != self.verb:
            raise TypeError(f"This SavedModel is a {self.task}, which cannot {verb}; it can {self.verb}.")

        def compute(indices: np.ndarray) -> dict[str, np.ndarray]:
            return self.compute_row([strings[i] for i in indices], (indices + seed).astype("int32"))

        lengths = list(map(len, strings)) if isinstance(strings, list) else [0] * len(strings)
        return run_batches(lengths, batch_size, compute)

    def translate(self, texts: Iterable[str], batch_size: int = 32, seed: int = 0) -> list[Translation]:
        """Translate texts with the exported strategy; see `Translator.translate`."""
        texts = check_texts(texts)
        rows = self._rows("translate", texts, batch_size, seed)
        return [Translation.from_row(row, text) for row, text in zip(rows, texts, strict=True)]

    def caption(self, images: Sequence[Any], batch_size: int = 32, seed: int = 0) -> list[Caption]:
        """Write captions with the exported strategy; see `Captioner.caption`."""
        encoded = _EncodedImages(check_images(images))
        return [Caption.from_row(row) for row in self._rows("caption", encoded, batch_size, seed)]

    def complete(self, prompts: Iterable[str], batch_size: int = 32, seed: int = 0) -> list[Completion]:
        """Continue texts with the exported strategy; see `CausalLM.complete`."""
        prompts = check_texts(prompts)
        rows = self._rows("complete", prompts, batch_size, seed)
        return [Completion.from_row(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]

    def classify(self, texts: Iterable[str], batch_size: int = 32) -> list[Classification]:
        """Label texts; see `TextClassifier.classify`."""
        texts = check_texts(texts)
        rows = self._rows("classify", texts, batch_size)
        return [Classification.from_row(row, text) for row, text in zip(rows, texts, strict=True)]

    def fill(self, texts: Iterable[str], batch_size: int = 32) -> list[FilledMask]:
        """Fill the masks of texts, with 5 candidates each; see `MaskedLM.fill`."""
        texts = check_texts(texts)
        rows = self._rows("fill", texts, batch_size)
        return [FilledMask.from_row(row, text) for row, text in zip(rows, texts, strict=True)]

    def tag(self, texts: Iterable[str], batch_size: int = 32) -> list[Tagging]:
        """Tag the words of texts; see `TextTagger.tag`."""
        texts = check_texts(texts)
        rows = self._rows("tag", texts, batch_size)
        return [Tagging.from_row(row, text) for row, text in zip(rows, texts, strict=True)]


class _EncodedImages:
    """A sequence of images that encodes an image on access, because all images may need much memory."""

    def __init__(self, images: list) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> bytes:
        """Return the bytes of an image, or no bytes if it is damaged; the model then returns `valid` False."""
        try:
            return encoded_image(self.images[index])
        except ImageError:
            return b""


def _read_facts(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((path / "assets.extra" / FACTS).read_text("utf-8"))
    except (OSError, ValueError):
        raise ValueError(
            f"{path} is not a SavedModel of this library: assets.extra/{FACTS} is missing or damaged. Export the model "
            "again with `keras-attention export`."
        ) from None
