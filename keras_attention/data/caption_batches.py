"""Captioned pictures to batches: seen anew each time, or as region features that a frozen network answered once."""

from __future__ import annotations

import functools
import pathlib
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import LengthBatches, round_up, shift_right
from keras_attention.data.captions import CaptionedPicture
from keras_attention.data.files import DataError
from keras_attention.data.images import ImageError, augment_images, decode_image
from keras_attention.data.region_cache import RegionCache, cached_regions
from keras_attention.data.tokenizers import encode_texts, pad_ids, special_ids

TOO_MANY = 0.1  # of the pictures unreadable: then the folder is the wrong one
KEPT_BYTES = 2**30  # decoded pictures that stay in memory
_WIDTHS = 8  # captions are padded to multiples of this


def caption_batches(
    examples: Sequence[CaptionedPicture],
    captioner: Any,
    max_tokens: int = 1024,
    shuffle: bool = True,
    seed: int = 0,
    cache: str | pathlib.Path | None = None,
    augment: bool = False,
    flip: bool = False,
    captions_per_image: int | None = None,
) -> LengthBatches:
    """Turn captioned pictures into batches for `Captioner.fit`; each caption is an example.

    n captions of a picture stand together, so that it is seen once for all of them, if they fit into a batch. Where it
    has fewer left, rows of padding fill up. The fewer stand together, the more pictures has a batch: a network that
    begins to learn learns sooner. Captions of up to eight lengths are mixed, and padded: a batch of one length can
    be one of a single phrase.

    Args:
        examples: from `read_captions`.
        captioner: has `tokenizer`, `vision`, `see` and `config`.
        max_tokens: the most caption tokens in a batch, padding included.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.
        cache: a directory for region features: each picture is seen once, ever (its mirror image too, to `flip`), and
            the batches have `regions` in place of `images`. Only where the network that sees does not learn.
        augment: change pictures by chance, each time; not with a cache.
        flip: mirror every second picture, by chance, each time; not for captions that tell left from right.
        captions_per_image: n; None for as many as a picture most often has, or, with a cache, 1.

    Returns:
        batches of ({`images` (P, size, size, 3) or `regions` (B, R, C), `target_ids` (B, T)}, labels (B, T), weights
        (B, T) float32, 0 at padding), B = n P. Pictures that cannot be read are left out, with one warning.

    Raises:
        ValueError: no examples, `captions_per_image` under 1, a cache for a network that learns,
            or cached regions to augment.
        DataError: more than a tenth of the pictures cannot be read.
    """
    if captions_per_image is not None and captions_per_image < 1:
        raise ValueError(f"`captions_per_image` is {captions_per_image}; expected a positive integer, or None.")
    seen = encode_images(examples, captioner, cache, augment, flip)
    rows = np.flatnonzero(drop_unreadable(examples, seen.valid))
    special, longest = special_ids(captioner.tokenizer), captioner.config.max_length
    counts = [len(examples[row].captions) for row in rows]
    captions = [caption for row in rows for caption in examples[row].captions]
    targets = encode_texts(captioner.tokenizer, captions, longest, after=(special.end,))
    usual = statistics.mode(counts or [1]) if cache is None else 1
    captions_per_image = max(1, min(captions_per_image or usual, max_tokens // max(map(len, targets), default=1)))
    parts = [
        (row, targets[begin : min(begin + captions_per_image, end)])
        for row, count, end in zip(rows, counts, np.cumsum(counts, dtype=int), strict=True)
        for begin in range(end - count, end, captions_per_image)
    ]

    def collate(indices: np.ndarray, extra: int) -> tuple:
        seen_rows, written = zip(*(parts[i] for i in indices), strict=True)
        filled = [target for part in written for target in (*part, *[()] * (captions_per_image - len(part)))]
        labels, weights = pad_ids(filled, special.pad, _WIDTHS, extra)
        chance = np.random.default_rng([seed, batches.epoch, *indices])
        inputs = {**seen.inputs(list(seen_rows), chance), "target_ids": shift_right(labels, special.start)}
        return inputs, labels, weights.astype("float32")

    lengths = round_up(np.array([max(map(len, part)) for _, part in parts]), _WIDTHS)
    batches = LengthBatches(lengths, collate, max_tokens // captions_per_image, shuffle, seed)
    return batches


def encode_images(
    examples: Sequence[CaptionedPicture],
    captioner: Any,
    cache: str | pathlib.Path | None,
    augment: bool,
    flip: bool,
) -> _Regions | _Images:
    """Return what gives the pictures: `valid` (N,) bool and `inputs(rows, chance)`; see `caption_batches`."""
    if cache is None:
        return _Images(examples, captioner, augment, flip)
    if captioner.vision.learns:
        raise ValueError(
            f"`cache` is {str(cache)!r}, but the network that sees learns (fine_tune_from, or the small CNN): what it "
            "answers changes. Leave out the cache, or freeze the network."
        )
    if augment:
        raise ValueError(
            "`augment` changes pictures each time; what a cache holds cannot change. Leave out one of them."
        )
    return _Regions(examples, captioner, cache, flip)


def drop_unreadable(examples: Sequence[CaptionedPicture], valid: np.ndarray) -> np.ndarray:
    """Return `valid` (N,) bool, after a warning that names what is not.

    Raises:
        DataError: more than a tenth is not.
    """
    bad = [example.name for example, fine in zip(examples, valid, strict=True) if not fine]
    if not bad:
        return valid
    named = f"{len(bad)} of {len(examples)} pictures cannot be read: {', '.join(bad[:10])}{', ...' * (len(bad) > 10)}"
    if len(bad) > TOO_MANY * len(examples):
        raise DataError(f"{named}. Expected JPEG, PNG, GIF or BMP; mend them, or take them out.")
    warnings.warn(f"{named}. They are left out.", stacklevel=3)
    return valid


def image_regions(
    examples: Sequence[CaptionedPicture], captioner: Any, cache: str | pathlib.Path, mirrored: bool = False
) -> RegionCache:
    """Return the region features of every picture, or of its mirror image, from the cache or seen now and put there."""
    return cached_regions(
        [example.picture for example in examples],
        (lambda images: captioner.encode_images(images[:, :, ::-1])) if mirrored else captioner.encode_images,
        captioner.vision.fingerprint() + " mirrored" * mirrored,
        cache,
        captioner.config.image_size,
    )


class _Regions:
    """What a frozen network answered."""

    def __init__(
        self, examples: Sequence[CaptionedPicture], captioner: Any, cache: str | pathlib.Path, flip: bool
    ) -> None:
        self.cached = image_regions(examples, captioner, cache)
        self.mirrored = image_regions(examples, captioner, cache, mirrored=True) if flip else None
        self.valid = self.cached.valid

    def inputs(self, rows: list[int], chance: np.random.Generator) -> dict[str, np.ndarray]:
        regions = self.cached.rows(rows)
        if self.mirrored is not None:
            regions = _half_of(self.mirrored.rows(rows), regions, chance)
        return {"regions": regions}


class _Images:
    """The pictures themselves, decoded again where they do not fit into memory together."""

    def __init__(self, examples: Sequence[CaptionedPicture], captioner: Any, augment: bool, flip: bool) -> None:
        self.pictures, self.size = [example.picture for example in examples], captioner.config.image_size
        self.augment, self.flip = augment, flip
        decode = functools.lru_cache(KEPT_BYTES // (12 * self.size**2))(decode_image)
        self.decode = lambda row: decode(self.pictures[row], self.size)
        self.valid = np.array([self._is_readable(row) for row in range(len(self.pictures))])

    def _is_readable(self, row: int) -> bool:
        try:
            self.decode(row)
        except (ImageError, OSError):
            return False
        return True

    def inputs(self, rows: list[int], chance: np.random.Generator) -> dict[str, np.ndarray]:
        images = np.stack([self.decode(row) for row in rows])
        if self.augment:
            images = augment_images(images, chance)
        if self.flip:
            images = _half_of(images[:, :, ::-1], images, chance)
        return {"images": images}


def _half_of(one: np.ndarray, other: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Take every second row of `one`, by chance, and the rest of `other`."""
    drawn = chance.random(len(one)) < 0.5
    return np.where(drawn.reshape(-1, *[1] * (one.ndim - 1)), one, other)
