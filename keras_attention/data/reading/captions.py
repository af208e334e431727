"""Read images with captions, from a file and a directory of images or from TensorFlow Datasets.

A file of captions (CSV, TSV, JSONL, or the JSON of COCO or of Karpathy, each also compressed) names images in a
directory. A data set `tfds:NAME[:SPLIT]` includes its images. Captions without an image are skipped, with one warning;
images without a caption are not used. An invalid line is an error that names the line.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
import pathlib
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras_attention.data.lines import DataError, PathLike, counted, file_suffix, read_lines, shortened
from keras_attention.data.reading.columns import CAPTIONS, rename_columns
from keras_attention.data.reading.tables import JSON_LINES, parse_json, read_json_lines, read_rows
from keras_attention.storage import local_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".tif", ".tiff", ".jp2", ".jxl", ".svg", ".raw", ".dng")
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
    """An image with its captions.

    Attributes:
        name: unique among the examples; used in messages.
        image: a path, or the bytes of an encoded image (JPEG, PNG, GIF, BMP or WebP).
        captions: reference captions, one or more.

    Example:
        >>> CaptionedImage("dog", "photos/dog.jpg", ("a dog runs", "a brown dog"))
        CaptionedImage(name='dog', captions=('a dog runs', 'a brown dog'))
    """

    name: str
    image: str | bytes = dataclasses.field(repr=False)
    captions: tuple[str, ...]


def read_captions(
    path: PathLike, images: PathLike | None = None, columns: Mapping[str, str] | None = None
) -> list[CaptionedImage]:
    """Read images with their captions. The images are not decoded.

    Args:
        path: CSV or TSV with a header that names an image and a caption column (or two columns without a header),
            JSONL (`{"image": ..., "caption": ...}`, or `"captions"` with a list), COCO's `.json`, Karpathy's
            `dataset_flickr8k.json:train` (its splits are joined with `+`), or `tfds:NAME[:SPLIT]` with the features
            `image` and `captions`, `caption` or `text`.
        images: the directory of the images; not for `tfds:`. Names in `path` are relative to this directory or to a
            subdirectory. A name may lack its suffix, and may differ from the file in case and in Unicode normal form.
            Flickr's `name.jpg#0` is the file `name.jpg`.
        columns: names of the columns or keys, such as `{"image": "photo", "caption": "title"}`; see `read_rows`.

    Returns:
        One `CaptionedImage` per image with all its captions, in the order of the file. White space in captions becomes
        single spaces.

    Raises:
        FileNotFoundError: there is no file `path`.
        DataError: there are no captions, a column or key is missing, the file is not UTF-8, the directory has no
            images, or more than half of the captions have no image.

    Example:
        >>> examples = read_captions("captions.csv", images="photos")  # doctest: +SKIP
        >>> examples[0].captions  # doctest: +SKIP
        ('a dog runs on the beach', 'a brown dog by the sea')
    """
    if str(path).startswith("tfds:"):
        from keras_attention.data.reading.tfds import read_image_rows

        return _clean([CaptionedImage(*row) for row in read_image_rows(str(path))], path)
    if images is None:
        raise DataError(f"{path} only names images; pass the directory that contains them as `images`.")
    directory = local_path(images).absolute()
    return _clean(_join_images(list(_read_rows(path, columns)), directory, path), path)


def captions_of(examples: Iterable[CaptionedImage]) -> list[str]:
    """Return all captions in one list, for example to train a tokenizer.

    Args:
        examples: from `read_captions`.

    Returns:
        the captions, in the order of the images.

    Example:
        >>> captions_of([CaptionedImage("a", "a.jpg", ("one", "two")), CaptionedImage("b", "b.jpg", ("three",))])
        ['one', 'two', 'three']
    """
    return [caption for example in examples for caption in example.captions]


def has_words(caption: str) -> bool:
    """Return whether a caption has a letter or a digit. Captions without one are skipped in training and scoring.

    Example:
        >>> has_words("a dog"), has_words("...")
        (True, False)
    """
    return re.search(r"[^\W_]", caption) is not None


def _clean(examples: list[CaptionedImage], path: PathLike) -> list[CaptionedImage]:
    """Remove captions without a word, with one warning, and images without a caption."""
    wordless = [example.name for example in examples for caption in example.captions if not has_words(caption)]
    cleaned = [
        dataclasses.replace(
            example, captions=tuple(" ".join(caption.split()) for caption in example.captions if has_words(caption))
        )
        for example in examples
    ]
    complete = [example for example in cleaned if example.captions]
    if not complete:
        raise DataError(f"{path} contains no captions; expected at least one with a word.")
    _warn(path, f"skipped {counted(len(wordless), 'caption')} without a word", wordless)
    if others := len(cleaned) - len(complete):  # common: a directory has the images of several caption files
        _LOG.info("%s: %d other images are in the directory.", path, others)
    return complete


def _warn(path: PathLike, problem: str, names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"{path}: {problem}: {shortened(names)}.")


# Images in a directory


def _join_images(rows: list[tuple[str, str]], directory: pathlib.Path, path: PathLike) -> list[CaptionedImage]:
    """Join rows (name of an image, caption) with the images of a directory; images without a caption come last."""
    index = _index_images(directory)
    matches = {name: _find_images(name, index, directory) for name in dict.fromkeys(name for name, _ in rows)}
    missing = [name for name, _ in rows if not matches[name]]
    if 2 * len(missing) > len(rows):
        raise DataError(
            f"{path}: no image in {directory} for {len(missing)} of {counted(len(rows), 'caption')}: "
            f"{shortened(missing)}. Expected one for at least half of them, with names relative to that directory, "
            f"which contains {shortened(_relative(_all_images(index), directory))}."
        )
    _warn(path, f"skipped {counted(len(missing), 'caption')} without an image in {directory}", missing)
    ambiguous = [f"{n} ({' or '.join(_relative(files, directory))})" for n, files in matches.items() if len(files) > 1]
    names = counted(len(ambiguous), "name matches", "names match")
    _warn(path, f"{names} several images, and the first is used; write the subdirectory too", ambiguous)
    captions: dict[pathlib.Path, list[str]] = {}
    for name, caption in rows:
        for file in matches[name][:1]:
            captions.setdefault(file, []).append(caption)
    return [
        CaptionedImage(file.relative_to(directory).as_posix(), str(file), tuple(captions.get(file, ())))
        for file in dict.fromkeys([*captions, *_all_images(index)])
    ]


def _index_images(directory: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return key of a name, with and without suffix -> all images with this key, in a directory and below it."""
    if not directory.is_dir():
        raise DataError(f"There is no directory {directory}; pass the directory that contains the images as `images`.")
    index: dict[str, list[pathlib.Path]] = {}
    visited: set[str] = set()
    others: list[str] = []
    for parent, directories, files in os.walk(directory, followlinks=True):
        visited.add(os.path.realpath(parent))  # a link may lead to a parent directory
        directories[:] = [name for name in directories if os.path.realpath(os.path.join(parent, name)) not in visited]
        for file in (pathlib.Path(parent, name) for name in files if not name.startswith(".")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                index.setdefault(_key(file.name), []).append(file)
                index.setdefault(_key(file.stem), []).append(file)
            elif file.suffix.lower() in _OTHER_SUFFIXES:
                others.append(file.relative_to(directory).as_posix())
    problem = f"{counted(len(others), 'image')} in a format that is not supported; convert to JPEG"
    if not index:
        unsupported = f"; {problem}: {shortened(others)}" if others else ""
        raise DataError(
            f"{directory} contains no images; expected files that end in {', '.join(IMAGE_SUFFIXES)}{unsupported}."
        )
    _warn(directory, problem, others)
    return index


def _all_images(index: dict[str, list[pathlib.Path]]) -> list[pathlib.Path]:
    return sorted({file for files in index.values() for file in files})


def _relative(files: Iterable[pathlib.Path], directory: pathlib.Path) -> list[str]:
    return [file.relative_to(directory).as_posix() for file in files]


def _key(name: str) -> str:
    """Return the normalized name for comparison: file systems change case and Unicode normal form."""
    return unicodedata.normalize("NFC", name).casefold()


def _find_images(name: str, index: dict[str, list[pathlib.Path]], directory: pathlib.Path) -> list[pathlib.Path]:
    """Return the images whose path ends with the name, but only the best matches.

    A path that is equal to the name is better than one that ends with it; a path with the same case is better than one
    with another case.
    """
    for candidate in (name, re.sub(r"#\d+$", "", name)):
        parts = pathlib.PurePosixPath(candidate.strip().replace("\\", "/")).parts
        files = sorted(file for file in index.get(_key(parts[-1]) if parts else "", ()) if _ends_with(file, parts))
        for better in (
            [file for file in files if _ends_with(file, parts, str)],
            [file for file in files if _ends_with(file.relative_to(directory), parts, whole=True)],
        ):
            files = [file for file in files if file in better] or files
        if files:
            return files
    return []


def _ends_with(
    file: pathlib.Path, parts: tuple[str, ...], key: Callable[[str], str] = _key, whole: bool = False
) -> bool:
    expected = [key(part) for part in parts]
    paths = (f.parts[0 if whole else -len(parts) :] for f in (file, file.with_suffix("")))
    return any([key(part) for part in path] == expected for path in paths)


# Rows (name of the image, caption) of a file


def _read_rows(path: PathLike, columns: Mapping[str, str] | None) -> Iterator[tuple[str, str]]:
    path, split = _split_of(path)
    suffix = file_suffix(path)
    if suffix == ".json":
        data = parse_json("\n".join(read_lines(path)), path)
        rows = data.get("images") if isinstance(data, dict) else None
        karpathy = isinstance(rows, list) and rows and isinstance(rows[0], dict) and "sentences" in rows[0]
        yield from _karpathy_rows(rows, path, split) if karpathy else _coco_rows(data, path)
    elif suffix in JSON_LINES:
        (layout,) = rename_columns(CAPTIONS, columns or {}, path)
        for number, row in read_json_lines(path):
            yield from _rows_of_object(row, layout, f"{path}, line {number}")
    else:
        yield from ((row["image"], row["caption"]) for _, row in read_rows(path, CAPTIONS, columns))


def _split_of(path: PathLike) -> tuple[PathLike, str]:
    """Return the file and the split of `dataset.json:train`; the split is empty if there is none."""
    match = re.fullmatch(r"(.+\.json(?:\.\w+)?):([\w+]+)", str(path))
    return (match[1], match[2]) if match else (path, "")


def _rows_of_object(row: object, layout: Mapping[str, Sequence[str]], where: str) -> list[tuple[str, str]]:
    fields = row if isinstance(row, dict) else {}
    image, captions = (
        next((fields[name] for name in layout[role] if name in fields), None) for role in ("image", "caption")
    )
    captions = [captions] if isinstance(captions, str) else captions
    texts = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    if not isinstance(image, str | int) or not texts:
        raise DataError(
            f'{where}: expected {{"image": ..., "caption": ...}} or {{"image": ..., "captions": [...]}}; '
            f"received {json.dumps(row)[:80]}"
        )
    return [(str(image), caption) for caption in captions]


def _karpathy_rows(rows: list[Any], path: PathLike, split: str) -> Iterator[tuple[str, str]]:
    """Yield the captions of the splits, such as `train+restval`, of Karpathy's JSON; without a split, of all."""
    counts: collections.Counter[str] = collections.Counter()
    for number, row in enumerate(rows):
        try:
            captions = [sentence["raw"] for sentence in row["sentences"]]
            name, its_split = row["filename"], row["split"]
        except (KeyError, TypeError):
            raise DataError(
                f"{path}, images[{number}]: expected filename, split and sentences with raw, as in Karpathy's files; "
                f"received {json.dumps(row)[:80]}"
            ) from None
        counts[its_split] += 1
        if not split or its_split in split.split("+"):
            yield from ((name, caption) for caption in captions)
    available = ", ".join(f"{name} ({counted(count, 'image')})" for name, count in counts.items())
    if unknown := {*filter(None, split.split("+"))} - {*counts}:
        raise DataError(f"{path} has no split {min(unknown)}; it has {available}. Write {path}:SPLIT with one of them.")
    if not split and len(counts) > 1:
        warnings.warn(f"{path}: all its splits are read: {available}. To read one, write {path}:{next(iter(counts))}.")


def _coco_rows(data: object, path: PathLike) -> Iterator[tuple[str, str]]:
    files: dict[str, str] = {}
    for number, file in _coco_fields(data, "images", ("id", "file_name"), path):
        if files.setdefault(str(number), file) != file:
            raise DataError(
                f"{path}, images: the id {number} is that of {files[str(number)]} and of {file}; expected one file for "
                "each id. If several files were joined, change the ids of one."
            )
    for number, caption in _coco_fields(data, "annotations", ("image_id", "caption"), path):
        yield files.get(str(number), str(number)), str(caption)


def _coco_fields(data: object, table: str, keys: tuple[str, str], path: PathLike) -> Iterator[tuple]:
    """Yield two fields of each row of a table in COCO's format."""
    rows = data.get(table) if isinstance(data, dict) else None
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, dict) or any(row.get(key) is None for key in keys):
            raise DataError(
                f"{path}, {table}[{number}]: expected COCO captions: images with id and file_name, annotations "
                f"with image_id and caption; received {json.dumps(row)[:80]}"
            )
        yield tuple(row[key] for key in keys)
