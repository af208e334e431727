"""`CaptionData`: the examples of a `Captioner`, images with captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_attention.data.batching.caption_batches import image_regions
from keras_attention.data.image_files.image_formats import FORMATS
from keras_attention.data.reading.captions import CaptionedImage, captions_of, read_captions
from keras_attention.metrics.baselines import Baseline, TfIdf
from keras_attention.metrics.captions import check_scorers, evaluate_captions
from keras_attention.metrics.text import evaluate_texts
from keras_attention.models.task_data.task_data import TaskData, only_path
from keras_attention.outputs import Caption

CaptionedImages = Sequence[CaptionedImage]


class CaptionData(TaskData):
    """Read, check, batch and evaluate images with captions; see `TaskData`."""

    example_description = "CaptionedImage"
    reader_call = "ka.data.read_captions(path, images)"
    text_metrics = ("bleu", "cider")

    def is_example(self, value: Any) -> bool:
        """Return whether a value is a `CaptionedImage`."""
        return isinstance(value, CaptionedImage)

    def read(
        self, paths: Sequence[str], images: str | None = None, columns: dict[str, str] | None = None
    ) -> list[CaptionedImage]:
        """Read captions, whose images are in the directory `images`; see `read_captions`."""
        return read_captions(only_path(paths), images, columns)

    def texts(self, examples: CaptionedImages) -> list[str]:
        """Return all captions."""
        return captions_of(examples)

    def parts(self, examples: CaptionedImages) -> dict[str, list]:
        """Return the images and the captions."""
        return {**super().parts(examples), "caption": captions_of(examples)}

    def batches(
        self, model: Any, examples: CaptionedImages, max_tokens: int, shuffle: bool, seed: int, **images: Any
    ) -> Any:
        """Make batches of captioned images; see `caption_batches`. Without `shuffle`, images are never augmented."""
        images = images if shuffle else {"region_cache": images.get("region_cache")}
        return super().batches(model, examples, max_tokens, shuffle, seed, **images)

    def validation_metric(
        self,
        model: Any,
        examples: CaptionedImages,
        metric: str,
        region_cache: Any = None,
        bleu_tokenizer: str | None = None,
        **_: Any,
    ) -> float:
        """Return BLEU-4 or CIDEr (times 100) of greedy captions; unreadable images are ignored.

        Args:
            model: a `Captioner`.
            examples: from `read_captions`.
            metric: `"bleu"` or `"cider"`.
            region_cache: directory of region features, or None.
            bleu_tokenizer: see `evaluate_texts`.

        Raises:
            ValueError: no image can be read.
        """
        if region_cache is None:
            captions = model.caption([example.image for example in examples], batch_size=64)
        else:
            regions = image_regions(examples, model, region_cache)
            captions = model.caption_regions(regions, batch_size=64)
            captions = [dataclasses.replace(c, valid=bool(v)) for c, v in zip(captions, regions.valid, strict=True)]
        return _text_metric(*_readable(captions, examples), metric, bleu_tokenizer)

    def baseline(
        self,
        model: Any,
        examples: CaptionedImages,
        validation: CaptionedImages,
        metric: str,
        bleu_tokenizer: str | None = None,
        **_: Any,
    ) -> Baseline | None:
        """Return the metric of one caption for all images; see `keras_attention.training.baseline`."""
        if metric not in self.text_metrics:
            return None
        captions = captions_of(examples)
        texts = [captions[TfIdf(captions).most_central()]] * len(validation)
        references = [example.captions for example in validation]
        return Baseline(_text_metric(texts, references, metric, bleu_tokenizer), "one caption for all images")

    def metrics(self, model: Any, examples: CaptionedImages, **search: Any) -> dict[str, Any]:
        """Return `bleu_1` to `bleu_4`, `meteor` (if Java is installed), `rouge_l` and `cider`, each times 100."""
        check_scorers()  # fail before the slow captioning
        captions = model.caption([example.image for example in examples], **search)
        texts, references = _readable(captions, examples)
        metrics = evaluate_captions(texts, references)
        return {
            **{f"bleu_{n}": bleu for n, bleu in enumerate(metrics.bleu, 1)},
            **({} if metrics.meteor is None else {"meteor": 100 * metrics.meteor}),
            "rouge_l": 100 * metrics.rouge_l,
            "cider": 100 * metrics.cider,
            "images": len(texts),
            "unreadable": [e.name for c, e in zip(captions, examples, strict=True) if not c.valid],
            "signature": metrics.signature,
        }


def _text_metric(texts: list[str], references: Sequence, metric: str, bleu_tokenizer: str | None) -> float:
    if metric == "cider":
        return 100 * evaluate_captions(texts, references, meteor=False).cider
    return evaluate_texts(texts, references, ignore_case=True, bleu_tokenizer=bleu_tokenizer).bleu


def _readable(captions: Sequence[Caption], examples: CaptionedImages) -> tuple[list[str], list]:
    """Return the captions of the images that can be read, and their references."""
    pairs = [(c.text, e.captions) for c, e in zip(captions, examples, strict=True) if c.valid]
    if not pairs:
        raise ValueError(f"No image of {len(examples)} can be read; expected {FORMATS}.")
    return [text for text, _ in pairs], [references for _, references in pairs]
