"""An exported model, used from Python like the model that it came from."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_attention.data.images import ImageError, encoded_image
from keras_attention.data.tokenizers import WHITE_SPACE
from keras_attention.generation.strategies import NEVER
from keras_attention.models import Caption, Classification, Completion, FilledMask, Tagging, Translation
from keras_attention.models.captioner import check_images
from keras_attention.models.task import batch_begins, check_texts

_VERBS = {"target_pieces": "translate", "caption": "caption", "label": "classify", "tags": "tag", "candidates": "fill"}


class ServedModel:
    """A SavedModel of this library, answering with the same objects as the model it came from.

    Args:
        path: a directory that `export` wrote.

    Raises:
        ValueError: the directory holds no SavedModel of this library, or not all of one.

    Example:
        >>> ka.load_served("serving/translator/1").translate(["we are eating bread"])  # doctest: +SKIP
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (registers the tokenizers' ops)

        path = pathlib.Path(path)
        if not (path / "saved_model.pb").is_file():
            raise ValueError(
                f"{path} holds no SavedModel (no saved_model.pb); expected a version directory that "
                "`keras-attention export` wrote, such as serving/translator/1."
            )
        try:
            self.loaded = tf.saved_model.load(str(path))
        except (tf.errors.OpError, IndexError) as error:
            raise ValueError(f"{path} cannot be read ({error}); copy or export it again, whole.") from None
        self.signature = self.loaded.signatures.get("serving_default")
        if self.signature is None:
            raise ValueError(f"{path} has no signature serving_default; was it written by `keras-attention export`?")
        self.inputs = set(self.signature.structured_input_signature[1])
        self.outputs = set(self.signature.structured_outputs)
        self.tensor = tf.constant

    def answer(
        self, rows: Sequence[str | bytes], batch_size: int, seed: int = 0, given: str = "text"
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the signature's outputs for batches of texts, or of encoded pictures, in order."""
        for begin in batch_begins(len(rows), batch_size):
            batch = rows[begin : begin + batch_size]
            inputs: dict[str, Any] = {given: self.tensor(batch)}
            if "seed" in self.inputs:
                inputs["seed"] = self.tensor((np.arange(begin, begin + len(batch)) + seed).astype("int32"))
            yield {name: value.numpy() for name, value in self.signature(**inputs).items()}

    @property
    def verb(self) -> str | None:
        """What it can do, such as `"translate"`; None for a SavedModel of something else."""
        completes = self.outputs <= {"text", "score", "alternatives", "alternative_scores"}
        return next((_VERBS[name] for name in _VERBS if name in self.outputs), "complete" if completes else None)

    def _check_verb(self, verb: str) -> None:
        if verb != self.verb:
            can = f"can {self.verb}, and answers" if self.verb else "answers"
            raise TypeError(f"This SavedModel cannot {verb}; it {can} {', '.join(sorted(self.outputs))}.")

    def translate(self, texts: Iterable[str], batch_size: int = 32, seed: int = 0) -> list[Translation]:
        """Translate texts with the strategy that was exported; see `Translator.translate`."""
        self._check_verb("translate")
        texts = check_texts(texts)
        rows = (row for batch in self.answer(texts, batch_size, seed) for row in _rows(batch))
        return [_translation(text, row) for text, row in zip(texts, rows, strict=True)]

    def caption(self, pictures: Sequence[Any], batch_size: int = 32, seed: int = 0) -> list[Caption]:
        """Write captions with the strategy that was exported; see `Captioner.caption`."""
        self._check_verb("caption")
        pictures, answers = check_images(pictures), []
        for begin in batch_begins(len(pictures), batch_size):
            encoded = [_encoded(picture) for picture in pictures[begin : begin + batch_size]]
            (batch,) = self.answer(encoded, batch_size, seed + begin, "image_bytes")
            answers += [_caption(row) for row in _rows(batch)]
        return answers

    def complete(self, prompts: Iterable[str], batch_size: int = 32, seed: int = 0) -> list[Completion]:
        """Continue texts with the strategy that was exported; see `CausalLM.complete`."""
        self._check_verb("complete")
        prompts = check_texts(prompts)
        rows = (row for batch in self.answer(prompts, batch_size, seed) for row in _rows(batch))
        return [
            Completion(prompt, row["text"].decode(), float(row["score"]), (), _others(row, Completion, prompt))
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def classify(self, texts: Iterable[str], batch_size: int = 32) -> list[Classification]:
        """Label texts; see `TextClassifier.classify`."""
        self._check_verb("classify")
        texts = check_texts(texts)
        rows = (row for batch in self.answer(texts, batch_size) for row in _rows(batch))
        return [_classification(text, row) for text, row in zip(texts, rows, strict=True)]

    def fill(self, texts: Iterable[str], batch_size: int = 32) -> list[FilledMask]:
        """Fill the gaps of texts; see `MaskedLM.fill`."""
        self._check_verb("fill")
        texts = check_texts(texts)
        rows = (row for batch in self.answer(texts, batch_size) for row in _rows(batch))
        return [_filling(text, row) for text, row in zip(texts, rows, strict=True)]

    def tag(self, texts: Iterable[str], batch_size: int = 32) -> list[Tagging]:
        """Tag the words of texts; see `TextTagger.tag`."""
        self._check_verb("tag")
        texts = check_texts(texts)
        rows = (row for batch in self.answer(texts, batch_size) for row in _rows(batch))
        return [_tagging(text, row) for text, row in zip(texts, rows, strict=True)]


def load_served(path: str | pathlib.Path) -> ServedModel:
    """Load an exported model; see `ServedModel`."""
    return ServedModel(path)


def _encoded(picture: Any) -> bytes:
    """The bytes of a picture; none where it is no picture, which the model then says."""
    try:
        return encoded_image(picture)
    except ImageError:
        return b""


def _rows(batch: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    count = len(next(iter(batch.values())))
    return ({name: value[i] for name, value in batch.items()} for i in range(count))


def _words(values: np.ndarray) -> tuple[str, ...]:
    """What stands before the padding at the end; a piece that the tokenizer does not know is empty too."""
    count = max(np.flatnonzero(values != b""), default=-1) + 1
    return tuple(value.decode() for value in values[:count])


def _translation(text: str, row: dict[str, Any]) -> Translation:
    source, target = _words(row["source_pieces"]), _words(row["target_pieces"])
    attention = row["alignment"][: len(target), : len(source)] if "alignment" in row else None
    attention = attention if target else None
    others = _others(row, Translation, text) if text.strip(WHITE_SPACE) else ()
    return Translation(text, row["text"].decode(), float(row["score"]), source, target, attention, others)


def _caption(row: dict[str, Any]) -> Caption:
    if not row["valid"]:
        return Caption("", 0.0, valid=False)
    pieces, others = _words(row["pieces"]), ()
    attention = row["attention"][: len(pieces)] if "attention" in row and pieces else None
    if "alternatives" in row:
        pairs = list(zip(row["alternatives"], row["alternative_scores"], strict=True))[1:]
        others = tuple(Caption(text.decode(), float(score)) for text, score in pairs if score > NEVER / 2)
    return Caption(row["caption"].decode(), float(row["score"]), pieces, attention, True, others)


def _others(row: dict[str, Any], kind: type, given: str) -> tuple:
    """The hypotheses after the best: texts and scores alone."""
    if "alternatives" not in row:
        return ()
    pairs = list(zip(row["alternatives"], row["alternative_scores"], strict=True))[1:]
    return tuple(kind(given, text.decode(), float(score)) for text, score in pairs if score > NEVER / 2)


def _classification(text: str, row: dict[str, Any]) -> Classification:
    pieces = _words(row["pieces"])
    attention = row["attention"][: len(pieces)] if "attention" in row and pieces else None
    return Classification(text, row["label"].decode(), float(row["score"]), pieces, attention)


def _filling(text: str, row: dict[str, Any]) -> FilledMask:
    gaps = [
        tuple((piece.decode(), float(chance)) for piece, chance in zip(pieces, chances, strict=True))
        for pieces, chances in zip(row["candidates"], row["candidate_scores"], strict=True)
        if any(pieces)
    ]
    return FilledMask(text, row["text"].decode(), tuple(gaps))


def _tagging(text: str, row: dict[str, Any]) -> Tagging:
    words, tags = _words(row["words"]), _words(row["tags"])
    return Tagging(text, words, tags, tuple(float(score) for score in row["scores"][: len(words)]))
