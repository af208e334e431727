"""What a frozen encoder sees in each picture, computed once and kept on disk.

One file per encoder: a header of one page, then one record per picture, in the order in which they
were computed. A record ends with the digest of its picture, and the file only ever grows at its end,
so that a process which is killed leaves at most one record too short, which the next one cuts off.
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

from keras_attention.data.images import ImageError, read_images

_HEADER_BYTES = 4096
_LARGEST = float(np.finfo("float16").max)


class RegionCache:
    """Region features of pictures, read from disk as they are asked for.

    Attributes:
        valid: (N,) bool, whether each picture could be read.
        shape: (R, C) of one picture's features.

    Args:
        records: memory-mapped, see `cached_regions`.
        places: (N,) int, each picture's record.
    """

    def __init__(self, records: np.ndarray, places: np.ndarray) -> None:
        self._records, self._places = records, places
        self.valid = np.asarray(records["valid"])[places]
        self.shape: tuple[int, int] = records["regions"].shape[1:]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, some: slice) -> np.ndarray:
        return self.rows(range(len(self))[some])

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return (n, R, C) float32, the features of some pictures.

        Args:
            indices: (n,) int, which pictures, counted as they were given.
        """
        return np.asarray(self._records["regions"][self._places[np.asarray(indices, int)]], "float32")


def cached_regions(
    pictures: Sequence[str | pathlib.Path | bytes],
    encode: Callable[[np.ndarray], Any],
    fingerprint: str,
    directory: str | pathlib.Path,
    size: int,
    batch_size: int = 32,
) -> RegionCache:
    """Encode pictures, or take their features from disk where they are there already.

    A picture is encoded anew when its file changes (path, size or time of change) or its bytes do. An
    unreadable one is recorded as such and not tried again. It may be killed at any moment and called
    again: what was written is kept. One process at a time may write to a directory.

    Args:
        pictures: N paths or encoded pictures.
        encode: (B, size, size, 3) float32 in [0, 255] -> (B, R, C), an array or a tensor.
        fingerprint: names the encoder and its weights; another name is another file.
        directory: where to keep the file; made if it is not there.
        size: height and width to which pictures are resized.
        batch_size: pictures to encode at once.

    Returns:
        `RegionCache` of N pictures. Features are kept as float16, cut off at its largest number.

    Raises:
        OSError: the directory cannot be written.
        ImageError: no picture can be read.
        ValueError: no pictures; or `encode` answers another shape, or what is not a number.

    Example:
        >>> cache = cached_regions([b"..."], encode, "resnet50 imagenet", "features", 224)  # doctest: +SKIP
        >>> cache.rows([0]).shape  # doctest: +SKIP
        (1, 49, 2048)
    """
    if not len(pictures):
        raise ValueError("There are no pictures to encode; expected at least one.")
    digests = [_digest(picture) for picture in pictures]
    identity = {"fingerprint": fingerprint, "size": size, "format": 1}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = pathlib.Path(directory) / f"{name}.regions"
    known = _places(path, identity)
    missing = {digest: picture for digest, picture in zip(digests, pictures, strict=True) if digest not in known}
    if missing:
        _encode_missing(missing, encode, path, identity, batch_size)
        known = _places(path, identity)
    cache = RegionCache(_records(path, identity), np.array([known[digest] for digest in digests]))
    if not cache.valid.any():
        raise ImageError(f"None of {len(pictures)} pictures can be read; expected JPEG, PNG, GIF or BMP.")
    return cache


def _digest(picture: str | pathlib.Path | bytes) -> bytes:
    """Return 32 bytes that change with the picture."""
    picture = _openable(picture)
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    path = pathlib.Path(picture).resolve()
    status = path.stat()
    return hashlib.sha256(f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode()).digest()


def _openable(picture: str | pathlib.Path | bytes) -> str | pathlib.Path | bytes:
    """The picture; no bytes at all where there is no such file or it may not be read."""
    return picture if isinstance(picture, bytes) or (os.path.isfile(picture) and os.access(picture, os.R_OK)) else b""


def _record_type(shape: Sequence[int]) -> np.dtype:
    return np.dtype([("regions", "<f2", tuple(shape)), ("valid", "?"), ("digest", "u1", 32)])


def _records(path: pathlib.Path, identity: dict) -> np.ndarray:
    """Map the whole records of a file; none where there is no file, or another one's."""
    nothing = np.zeros(0, _record_type((0, 0)))
    if not path.is_file():
        return nothing
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    try:
        described = json.loads(header)
    except ValueError:
        return nothing  # killed while it wrote the header
    shape = described.pop("shape")
    count = (path.stat().st_size - _HEADER_BYTES) // _record_type(shape).itemsize
    if described != identity or count < 1:
        return nothing
    return np.memmap(path, _record_type(shape), "r", _HEADER_BYTES, (count,))


def _places(path: pathlib.Path, identity: dict) -> dict[bytes, int]:
    """Return which record each digest has."""
    return {digest.tobytes(): place for place, digest in enumerate(_records(path, identity)["digest"])}


def _encode_missing(
    missing: dict[bytes, Any], encode: Callable, path: pathlib.Path, identity: dict, batch_size: int
) -> None:
    """Append the records of pictures to a file."""
    digests, kept = list(missing), _records(path, identity)
    begun = told = time.monotonic()
    with _open_to_append(path, kept) as file:
        for i in range(0, len(digests), batch_size):
            batch = digests[i : i + batch_size]
            images, valid = read_images([_openable(missing[digest]) for digest in batch], identity["size"])
            records = _to_records(np.asarray(encode(images)), valid, batch)
            if len(kept) and records.dtype != kept.dtype:
                raise ValueError(
                    f"`encode` answered regions {records['regions'].shape[1:]}, but {path} holds "
                    f"{kept['regions'].shape[1:]}; give another encoder another `fingerprint`."
                )
            if file.tell() == 0:
                header = json.dumps({**identity, "shape": records["regions"].shape[1:]}).encode()
                file.write(header.ljust(_HEADER_BYTES))
            file.write(records.tobytes())
            file.flush()
            told = _tell(i + len(batch), len(digests), begun, told)


def _open_to_append(path: pathlib.Path, records: np.ndarray) -> Any:
    """Open a file behind its last whole record, or at its begin where it has none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise OSError(
            error.errno, f"Features cannot be kept there ({error.strerror}); choose another directory", str(path.parent)
        ) from None
    file.truncate(_HEADER_BYTES + records.nbytes if len(records) else 0)
    file.seek(0, os.SEEK_END)
    return file


def _to_records(regions: np.ndarray, valid: np.ndarray, digests: list[bytes]) -> np.ndarray:
    if regions.ndim != 3 or len(regions) != len(digests):
        raise ValueError(f"`encode` answered the shape {regions.shape}; expected ({len(digests)}, R, C).")
    if not np.isfinite(regions[valid]).all():
        raise ValueError("`encode` answered numbers that are not finite; check the encoder's weights and its input.")
    records = np.zeros(len(digests), _record_type(regions.shape[1:]))
    records["regions"][valid] = np.clip(regions[valid], -_LARGEST, _LARGEST)
    records["valid"] = valid
    records["digest"] = np.frombuffer(b"".join(digests), "u1").reshape(-1, 32)
    return records


def _tell(done: int, total: int, begun: float, told: float) -> float:
    """Say on standard error how far it is, every ten seconds; answers when it last did."""
    now = time.monotonic()
    if now - told < 10 and (done < total or told == begun):
        return told
    rest = (now - begun) / done * (total - done)
    print(f"pictures encoded: {done} of {total}, about {rest:.0f} s left", file=sys.stderr, flush=True)
    return now
