"""`ExportedModel`: run an export from Python."""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_attention.data.image_files.images import ImageError, encoded_image
from keras_attention.data.lines import counted
from keras_attention.prediction.encoded_inputs import check_images, check_texts
from keras_attention.prediction.introspection import score_of
from keras_attention.prediction.run_batches import objects_from_rows, run_batches
from keras_attention.serving.check import no_saved_model
from keras_attention.serving.export import METADATA_FILE
from keras_attention.storage import local_path
from keras_attention.task_specs import TASK_SPECS, TaskSpec


def _method(spec: TaskSpec) -> Callable[..., list]:
    """Return the prediction method of `ExportedModel` for a task."""

    def method(self: ExportedModel, inputs: Iterable[Any], batch_size: int = 32, seed: int = 0) -> list:
        if spec.predict_method != self.predict_method:
            raise TypeError(
                f"This SavedModel is a {self.task}, which cannot {spec.predict_method}. Call `{self.predict_method}`, "
                "or load an export of another task."
            )
        return self._predict(spec.output_class, inputs, batch_size, seed)

    method.__name__ = spec.predict_method
    method.__doc__ = f"""See `{spec.class_name}.{spec.predict_method}`. The search strategy is that of the export.

    Args:
        inputs: texts or images.
        batch_size: number of texts or images in a batch; it does not change the result.
        seed: the seed of the first input; input i uses `seed + i`. Only the strategy `Sampling` uses it.
    """
    return method


class ExportedModel:
    """A loaded export, with the prediction method of the exported task, such as `translate`.

    The method returns objects of the same class as that of the task.

    Args:
        path: a version directory that `Task.export` wrote.

    Attributes:
        metadata: description of the export: `task`, `predict_method`, `version` of the library, `strategy`, ...

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: the directory contains no SavedModel of this library, or a damaged one.
        RuntimeError: the precision is int8, and this TensorFlow cannot multiply in int8.

    Example:
        >>> model = ka.TextClassifier.from_examples([("we eat", "yes"), ("they drink", "no")], units=12)
        >>> served = ka.load(model.export("serving/classifier"))
        >>> served.predict_method, served.labels
        ('classify', ('no', 'yes'))
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (registers the operations of the tokenizers)

        from keras_attention.serving.precision import check_int8

        path = local_path(path)
        if not (path / "saved_model.pb").is_file():
            raise no_saved_model(path)
        self.metadata = _read_metadata(path)
        if self.metadata.get("precision") == "int8":
            check_int8(f"{path} was exported in int8. Load it on an x86 machine, or export the model in float32.")
        try:
            self.loaded = tf.saved_model.load(str(path))
        except (tf.errors.OpError, IndexError) as error:
            raise ValueError(f"{path} is damaged ({error}). Copy it again, or export the model again.") from None
        self.signature = self.loaded.signatures["serving_default"]
        self.tensor = tf.constant

    @property
    def task(self) -> str:
        """Class name of the original model, such as `"Translator"`."""
        return self.metadata["task"]

    @property
    def predict_method(self) -> str:
        """Name of the prediction method, such as `"translate"`."""
        return self.metadata["predict_method"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier or tagger; empty for other tasks."""
        return tuple(self.metadata.get("labels", ()))

    def compute_outputs(self, strings: Sequence[str | bytes], seeds: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs of `serving_default` for a batch of texts or encoded images.

        Args:
            strings: B texts, pairs of texts or images.
            seeds: (B,) int32, one seed per string; used only if the strategy is `Sampling`.
        """
        if len(strings) and isinstance(strings[0], tuple):
            first, second = (self.tensor(list(texts)) for texts in zip(*strings, strict=True))
            outputs = self.loaded.signatures["pair"](text=first, text_pair=second)
            return {name: value.numpy() for name, value in outputs.items()}
        names = self.signature.structured_input_signature[1]
        inputs = {name: self.tensor(seeds if name == "seed" else list(strings)) for name in names}
        return {name: value.numpy() for name, value in self.signature(**inputs).items()}

    def score(self, texts: Iterable[Any], targets: Iterable[str] | None = None, batch_size: int = 32) -> list[float]:
        """Return the log-probability of each text, or of the target for each text or image; see `ka.score`.

        Raises:
            TypeError: the export has no signature `score`.
        """
        rows = self.score_rows(texts, targets, batch_size)
        self._warn_about_truncated(rows)
        return [score_of(row) for row in rows]

    def _warn_about_truncated(self, rows: Sequence[dict[str, Any]], stacklevel: int = 3) -> None:
        """Warn about the texts of rows that lost tokens."""
        if count := sum(bool(row.get("truncated", False)) for row in rows):
            warnings.warn(
                f"Truncated {count} of {counted(len(rows), 'text')}: the export reads at most "
                f"{counted(self.metadata['max_length'], 'token')} at a time, including special and new tokens. To read "
                "them whole, split them, or export a model with a larger `max_length`.",
                stacklevel=stacklevel,
            )

    def score_rows(
        self, texts: Iterable[Any], targets: Iterable[str] | None = None, batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """Return a dict of the outputs of the signature `score` for each text or target; see `score`."""
        if "score" not in self.loaded.signatures:
            raise TypeError(
                f"This SavedModel is a {self.task} without the signature `score`; expected a CausalLM, Translator or "
                "Captioner. Load one of these."
            )
        signature = self.loaded.signatures["score"]
        names = signature.structured_input_signature[1]
        strings = _EncodedImages(check_images(texts)) if "image_bytes" in names else check_texts(texts)
        columns = {next(name for name in ("image_bytes", "text") if name in names): strings}
        if targets is not None:
            columns["caption" if "image_bytes" in names else "target"] = check_texts(targets)
        if columns.keys() != names.keys():
            raise ValueError(f"The inputs are {', '.join(columns)}; expected {', '.join(names)}.")

        def compute(indices: np.ndarray) -> dict[str, np.ndarray]:
            inputs = {name: self.tensor([column[i] for i in indices]) for name, column in columns.items()}
            return {name: output.numpy() for name, output in signature(**inputs).items()}

        return run_batches([0] * len(strings), batch_size, compute)

    def _predict(self, output_class: type, inputs: Iterable[Any], batch_size: int, seed: int) -> list:
        """Return an object of `output_class` for each text or image."""
        reads_images = "image_bytes" in self.signature.structured_input_signature[1]
        texts = None if reads_images else check_texts(inputs, pairs=self.predict_method == "classify")
        if texts and len({type(text) for text in texts}) > 1:
            raise TypeError(
                "Some inputs are texts and others are pairs of texts; expected only one of the two. Call the method "
                "once for the texts, and once for the pairs."
            )
        strings = _EncodedImages(check_images(inputs)) if reads_images else texts

        def compute(indices: np.ndarray) -> dict[str, np.ndarray]:
            return self.compute_outputs([strings[i] for i in indices], (indices + seed).astype("int32"))

        lengths = [0] * len(strings) if reads_images else [len("".join(text)) for text in strings]
        rows = run_batches(lengths, batch_size, compute)
        self._warn_about_truncated(rows, stacklevel=4)
        return objects_from_rows(output_class, rows, texts)

    translate, caption, complete = (_method(TASK_SPECS[name]) for name in ("translator", "captioner", "lm"))
    fill, classify, tag = (_method(TASK_SPECS[name]) for name in ("mlm", "classifier", "tagger"))


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


def _read_metadata(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((path / "assets.extra" / METADATA_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        raise ValueError(
            f"{path} is not a SavedModel of this library: assets.extra/{METADATA_FILE} is missing or damaged. "
            "Export the model again with `keras-attention export`."
        ) from None
