"""Batches of captioned images, with decoded images or with the cached regions of a frozen image encoder."""

from __future__ import annotations

import functools
import itertools
import pathlib
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import require_positive_integer
from keras_attention.data.batches import LengthBatches, round_up
from keras_attention.data.image_files.images import ImageError, augment_images, decode_image, image_problem
from keras_attention.data.image_files.region_cache import RegionCache, cached_regions
from keras_attention.data.lines import DataError, counted, shortened
from keras_attention.data.reading.captions import CaptionedImage
from keras_attention.data.tokenization.text_reader import TextReader

MAX_UNREADABLE = 0.1  # maximum fraction of unreadable images; with more, the directory is probably wrong
DECODED_BYTES = 2**30  # maximum size of the decoded images in memory
_LENGTH_STEP = 8  # captions are padded to multiples of this


def caption_batches(
    examples: Sequence[CaptionedImage],
    captioner: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
    region_cache: str | pathlib.Path | None = None,
    augment: bool = False,
    flip: bool = False,
    captions_per_image: int | None = None,
) -> LengthBatches:
    """Make batches for `Captioner.fit`; each caption is an example.

    A batch has n captions per image, and encodes each image once. If an image has fewer captions, the missing rows are
    padding. With a smaller n, a batch has more images, which is better for an untrained image encoder. Captions are
    padded to a multiple of 8, so that a batch contains several lengths, because captions of equal length often have the
    same sentence structure.

    Args:
        examples: from `read_captions`.
        captioner: a `Captioner`; its `target_reader`, `image_encoder`, `encode_images` and `config` are used.
        max_tokens: maximum number of caption tokens in a batch, including padding.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.
        region_cache: a directory, or None. The regions of each image (with `flip`, also of the flipped image) are
            computed once and stored, and batches have `regions` instead of `images`. Only for a frozen image encoder.
        augment: augment the images differently in each epoch; not with a region cache.
        flip: flip each image horizontally with probability 1/2. Do not use it if captions mention left or right.
        captions_per_image: n; None for the most frequent number of captions per image, or 1 with a region cache.

    Returns:
        For B images, batches of ({`images` (B, size, size, 3) or `regions` (B, R, C), `target_ids` (B n, T)}, labels
        (B n, T), weights (B n, T) float32, 0 at padding). Unreadable images are skipped; one warning names them.

    Raises:
        ValueError: there are no examples, `captions_per_image` is below 1, or `region_cache` is not None although the
            image encoder is trainable or `augment` is True.
        DataError: more than a tenth of the images cannot be read.

    Example:
        >>> scenes = ka.quickstart.captioned_scenes("train", 3)
        >>> encode = ka.data.image_files.images.encoded_image
        >>> examples = [CaptionedImage(s.name, encode(s.image), s.captions) for s in scenes]
        >>> tokenizer = ka.data.train_tokenizer(ka.data.captions_of(examples), "characters")
        >>> sizes = {"image_encoder": "small_cnn", "image_size": 32, "units": 8, "max_length": 64}
        >>> captioner = ka.Captioner.from_preset("show_attend_and_tell", tokenizer=tokenizer, **sizes)
        >>> inputs, labels, weights = caption_batches(examples, captioner)[0]
        >>> inputs["images"].shape[1:], len(labels) // len(inputs["images"])  # captions per image
        ((32, 32, 3), 5)
    """
    if captions_per_image is not None:
        require_positive_integer("captions_per_image", captions_per_image, ", or None")
    images = image_source(examples, captioner, region_cache, augment, flip)
    readable = np.flatnonzero(warn_unreadable(examples, images.valid))
    reader = captioner.target_reader
    ids = _encode_captions([examples[i] for i in readable], reader)
    default_n = statistics.mode(map(len, ids)) if region_cache is None and ids else 1
    max_caption = max(map(len, itertools.chain(*ids)), default=1)
    n = max(1, min(captions_per_image or default_n, max_tokens // max_caption))
    groups = [
        (image, texts[i : i + n]) for image, texts in zip(readable, ids, strict=True) for i in range(0, len(texts), n)
    ]

    def collate(indices: np.ndarray, extra: int) -> tuple:
        image_indices, captions = zip(*(groups[i] for i in indices), strict=True)
        labels, mask = reader.pad(_pad_groups(captions, n), _LENGTH_STEP, extra)
        rng = np.random.default_rng([seed, batches.epoch, *indices])
        inputs = {**images.inputs(list(image_indices), rng), "target_ids": reader.shift_right(labels)}
        return inputs, labels, mask.astype("float32")

    lengths = round_up(np.array([max(map(len, captions)) for _, captions in groups]), _LENGTH_STEP)
    batches = LengthBatches(lengths, collate, max_tokens // n, shuffle, seed)
    batches.set_example_indices([image for image, _ in groups], len(examples))
    return batches


def _encode_captions(examples: Sequence[CaptionedImage], reader: TextReader) -> list[list[list[int]]]:
    """Return the ids of the captions of each image."""
    ids = iter(reader.ids([caption for example in examples for caption in example.captions]))
    return [list(itertools.islice(ids, len(example.captions))) for example in examples]


def _pad_groups(groups: Sequence[Sequence[list[int]]], n: int) -> list[Sequence[int]]:
    """Return n sequences of ids for each group; empty ones complete a smaller group."""
    return [ids for group in groups for ids in (*group, *[()] * (n - len(group)))]


def warn_unreadable(examples: Sequence[CaptionedImage], valid: np.ndarray) -> np.ndarray:
    """Warn about unreadable images, and return `valid` (B,) bool.

    Args:
        examples: B images, from `read_captions`.
        valid: (B,) bool, whether each image can be read.

    Raises:
        DataError: more than a tenth of the images cannot be read.
    """
    bad = [example.name for example, is_valid in zip(examples, valid, strict=True) if not is_valid]
    if not bad:
        return valid
    problem = f"{len(bad)} of {counted(len(examples), 'image')} cannot be read: {shortened(bad)}"
    reason = image_problem(examples[int(np.argmin(valid))].image) or ""
    if len(bad) > MAX_UNREADABLE * len(examples):
        raise DataError(
            f"{problem}; expected at most a tenth. Convert the files, or remove their captions. The first: {reason}"
        )
    warnings.warn(f"{problem}. {'It is' if len(bad) == 1 else 'They are'} left out. The first: {reason}", stacklevel=3)
    return valid


def image_regions(
    examples: Sequence[CaptionedImage], captioner: Any, region_cache: str | pathlib.Path, flipped: bool = False
) -> RegionCache:
    """Return the region cache of the images; encode the images that it lacks.

    Args:
        examples: B images, from `read_captions`.
        captioner: a `Captioner` whose image encoder is frozen.
        region_cache: a directory; see `caption_batches`.
        flipped: encode the horizontally flipped images.

    Returns:
        `RegionCache` of B images.

    Raises:
        ImageError: no image can be read.
        OSError: the directory cannot be written.
    """
    encode = captioner.encode_images
    return cached_regions(
        [example.image for example in examples],
        (lambda images: encode(images[:, :, ::-1])) if flipped else encode,
        captioner.image_encoder.digest() + " flipped" * flipped,
        region_cache,
        captioner.config.image_size,
    )


def image_source(
    examples: Sequence[CaptionedImage],
    captioner: Any,
    region_cache: str | pathlib.Path | None = None,
    augment: bool = False,
    flip: bool = False,
) -> _CachedRegions | _DecodedImages:
    """Return an object that makes the image inputs of a captioner; see `caption_batches` for the arguments.

    Returns:
        An object with `valid` (B,) bool, whether each image can be read, and `inputs(indices, rng)`: n indices ->
        {`images` (n, size, size, 3)} or {`regions` (n, R, C)}, float32.

    Raises:
        ValueError: there is a region cache although the image encoder is trainable or `augment` is True.
    """
    if region_cache is None:
        return _DecodedImages(examples, captioner, augment, flip)
    if captioner.image_encoder.is_trainable:
        raise ValueError(
            f"`region_cache` is {str(region_cache)!r}, but the image encoder is trainable (`fine_tune_from`, or "
            "small_cnn), so its features change. Leave out the region cache, or freeze the image encoder."
        )
    if augment:
        raise ValueError(
            "`augment` changes the images in each epoch, but a region cache has the features of unchanged images. Use "
            "only one of them."
        )
    return _CachedRegions(examples, captioner, region_cache, flip)


class _CachedRegions:
    """Region features of a frozen image encoder, read from disk."""

    def __init__(
        self, examples: Sequence[CaptionedImage], captioner: Any, region_cache: str | pathlib.Path, flip: bool
    ) -> None:
        self.regions = image_regions(examples, captioner, region_cache)
        self.flipped = image_regions(examples, captioner, region_cache, flipped=True) if flip else None
        self.valid = self.regions.valid

    def inputs(self, indices: list[int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        regions = self.regions.take(indices)
        if self.flipped is not None:
            regions = _flip_half(regions, self.flipped.take(indices), rng)
        return {"regions": regions}


class _DecodedImages:
    """Decoded images. At most `DECODED_BYTES` of them are in memory; the others are decoded again in each epoch."""

    def __init__(self, examples: Sequence[CaptionedImage], captioner: Any, augment: bool, flip: bool) -> None:
        self.encoded, self.size = [example.image for example in examples], captioner.config.image_size
        self.augment, self.flip = augment, flip
        decode = functools.lru_cache(DECODED_BYTES // (12 * self.size**2))(decode_image)
        self.decode = lambda i: decode(self.encoded[i], self.size)
        self.valid = np.array([self._is_readable(i) for i in range(len(self.encoded))])

    def _is_readable(self, index: int) -> bool:
        try:
            self.decode(index)
        except (ImageError, OSError):
            return False
        return True

    def inputs(self, indices: list[int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        images = np.stack([self.decode(i) for i in indices])
        if self.augment:
            images = augment_images(images, rng)
        if self.flip:
            images = _flip_half(images, images[:, :, ::-1], rng)
        return {"images": images}


def _flip_half(arrays: np.ndarray, flipped: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace each row of `arrays` by the row of `flipped` with probability 1/2."""
    is_flipped = rng.random(len(arrays)) < 0.5
    return np.where(is_flipped.reshape(-1, *[1] * (arrays.ndim - 1)), flipped, arrays)
