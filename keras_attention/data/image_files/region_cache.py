"""The region cache: the region features of images, which a frozen image encoder computes once, stored on disk.

There is one file per encoder: a header of 4,096 bytes, then one record per image. A record is the region features and
the digest of the image. Records are only appended: a killed process leaves at most one incomplete record, which the
next process removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attention.data.image_files.image_formats import FORMATS
from keras_attention.data.image_files.images import ImageError, read_images
from keras_attention.storage import local_path

_HEADER_BYTES = 4096
_MAX_FLOAT16 = float(np.finfo("float16").max)


class RegionCache:
    """Region features (B, R, C) of B images, read lazily from disk.

    Attributes:
        valid: (B,) bool, whether each image could be read.
        shape: (R, C) of the features of one image.

    Args:
        records: memory-mapped records; see `cached_regions`.
        record_of: (B,) int, the number of each image's record.
    """

    def __init__(self, records: np.ndarray, record_of: np.ndarray) -> None:
        self._records, self._record_of = records, record_of
        self.valid = np.asarray(records["valid"])[record_of]
        self.shape: tuple[int, int] = records["regions"].shape[1:]

    def __len__(self) -> int:
        return len(self._record_of)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.take(range(len(self))[part])

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the features (n, R, C) float32 of some images.

        Args:
            indices: (n,) int, between 0 and B - 1.
        """
        return np.asarray(self._records["regions"][self._record_of[np.asarray(indices, int)]], "float32")


def cached_regions(
    images: Sequence[str | pathlib.Path | bytes],
    encode: Callable[[np.ndarray], Any],
    encoder_digest: str,
    directory: str | pathlib.Path,
    size: int,
    batch_size: int = 32,
) -> RegionCache:
    """Return the region features of images; read them from disk, or encode the images and store the features.

    An image is encoded again if its file (path, size or modification time) or its bytes change. An unreadable image is
    recorded as unreadable and is not read again. After an interruption, a new call continues after the last stored
    image. Only one process at a time may write to a directory.

    Args:
        images: B paths or encoded images.
        encode: (n, size, size, 3) float32 in [0, 255] -> (n, R, C), an array or a tensor.
        encoder_digest: identifies the encoder and its weights; each digest has its own file.
        directory: the directory of the files; created if it does not exist.
        size: height and width to which images are resized.
        batch_size: images per call of `encode`.

    Returns:
        `RegionCache` of B images. Features are stored as float16, clipped to its range.

    Raises:
        OSError: the directory cannot be written.
        ImageError: no image can be read.
        ValueError: there are no images, or `encode` returns another shape or numbers that are not finite.

    Example:
        >>> image = ka.data.image_files.images.encoded_image(np.zeros((2, 3), "uint8"))
        >>> cache = cached_regions([image], lambda images: images[:, :2, 0], "an encoder", "cache", size=5)
        >>> cache.take([0]).shape
        (1, 2, 3)
    """
    if not len(images):
        raise ValueError("There are no images to encode; expected at least one.")
    digests = [_digest(image) for image in images]
    identity = {"fingerprint": encoder_digest, "size": size, "format": 1}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = local_path(directory) / f"{name}.regions"
    known = _record_numbers(path, identity)
    missing = {digest: image for digest, image in zip(digests, images, strict=True) if digest not in known}
    if missing:
        _encode_missing(missing, encode, path, identity, batch_size)
        known = _record_numbers(path, identity)
    cache = RegionCache(_open_records(path, identity), np.array([known[digest] for digest in digests]))
    if not cache.valid.any():
        raise ImageError(f"No image of {len(images)} can be read; expected {FORMATS}.")
    return cache


def _digest(image: str | pathlib.Path | bytes) -> bytes:
    """Return the digest of an image: of its bytes, or of the path, size and modification time of its file."""
    image = _readable(image)
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    path = pathlib.Path(image).resolve()
    status = path.stat()
    return hashlib.sha256(f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode()).digest()


def _readable(image: str | pathlib.Path | bytes) -> str | pathlib.Path | bytes:
    """Return the image, or b"" if its file does not exist or cannot be opened."""
    return image if isinstance(image, bytes) or (os.path.isfile(image) and os.access(image, os.R_OK)) else b""


def _record_type(shape: Sequence[int]) -> np.dtype:
    return np.dtype([("regions", "<f2", tuple(shape)), ("valid", "?"), ("digest", "u1", 32)])


def _open_records(path: pathlib.Path, identity: dict) -> np.ndarray:
    """Memory-map the complete records of a file; return an empty array if it does not exist or has another identity."""
    no_records = np.zeros(0, _record_type((0, 0)))
    if not path.is_file():
        return no_records
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    try:
        description = json.loads(header)
    except ValueError:
        return no_records  # the process was killed while it wrote the header
    shape = description.pop("shape")
    count = (path.stat().st_size - _HEADER_BYTES) // _record_type(shape).itemsize
    if description != identity or count < 1:
        return no_records
    return np.memmap(path, _record_type(shape), "r", _HEADER_BYTES, (count,))


def _record_numbers(path: pathlib.Path, identity: dict) -> dict[bytes, int]:
    """Return a dict: digest of an image -> number of its record."""
    return {digest.tobytes(): number for number, digest in enumerate(_open_records(path, identity)["digest"])}


def _encode_missing(
    missing: dict[bytes, Any], encode: Callable, path: pathlib.Path, identity: dict, batch_size: int
) -> None:
    """Append the records of images to a file."""
    digests, existing = list(missing), _open_records(path, identity)
    begin = reported = time.monotonic()
    with _open_to_append(path, existing) as file:
        for i in range(0, len(digests), batch_size):
            batch = digests[i : i + batch_size]
            pixels, valid = read_images([_readable(missing[digest]) for digest in batch], identity["size"])
            records = _to_records(np.asarray(encode(pixels)), valid, batch)
            if len(existing) and records.dtype != existing.dtype:
                raise ValueError(
                    f"`encode` returned regions {records['regions'].shape[1:]}, but {path} contains "
                    f"{existing['regions'].shape[1:]}; use another `encoder_digest` for another encoder."
                )
            if file.tell() == 0:
                header = json.dumps({**identity, "shape": records["regions"].shape[1:]}).encode()
                file.write(header.ljust(_HEADER_BYTES))
            file.write(records.tobytes())
            file.flush()
            reported = _report(i + len(batch), len(digests), begin, reported)


def _open_to_append(path: pathlib.Path, records: np.ndarray) -> Any:
    """Open a file to append after its last complete record, or at its beginning if it has none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise OSError(
            error.errno,
            f"Features cannot be stored in this directory ({error.strerror}); choose another directory",
            str(path.parent),
        ) from None
    file.truncate(_HEADER_BYTES + records.nbytes if len(records) else 0)
    file.seek(0, os.SEEK_END)
    return file


def _to_records(regions: np.ndarray, valid: np.ndarray, digests: list[bytes]) -> np.ndarray:
    if regions.ndim != 3 or len(regions) != len(digests):
        raise ValueError(f"`encode` returned the shape {regions.shape}; expected ({len(digests)}, R, C).")
    if not np.isfinite(regions[valid]).all():
        raise ValueError("`encode` returned numbers that are not finite; check the encoder's weights and its input.")
    records = np.zeros(len(digests), _record_type(regions.shape[1:]))
    records["regions"][valid] = np.clip(regions[valid], -_MAX_FLOAT16, _MAX_FLOAT16)
    records["valid"] = valid
    records["digest"] = np.frombuffer(b"".join(digests), "u1").reshape(-1, 32)
    return records


def _report(done: int, total: int, begin: float, reported: float) -> float:
    """Print the progress on standard error every ten seconds; return the time of the last report."""
    now = time.monotonic()
    if now - reported < 10 and (done < total or reported == begin):
        return reported
    remaining = (now - begin) / done * (total - done)
    print(f"images encoded: {done} of {total}, about {remaining:.0f} s left", file=sys.stderr, flush=True)
    return now
