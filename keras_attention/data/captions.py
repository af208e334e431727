"""Read images with captions, from a file and a folder of images or from TensorFlow Datasets.

A file of captions (CSV, TSV, JSONL or COCO's JSON, each also as `.gz`) names images in a folder. A data set
`tfds:NAME[:SPLIT]` includes its images. Captions without an image and images without a caption are skipped, with one
warning for each kind. An invalid line is an error that names the line.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_attention.data.files import DataError, PathLike, read_lines

# In order of preference: if a file has both columns, `file_name` is used and not `image_id`.
IMAGE_COLUMNS = (
    "file_name", "filename", "file", "image", "image_name", "image_file", "image_path", "path", "picture", "image_id",
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "comment", "sentence", "description")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
    """An image with its captions.

    Attributes:
        name: unique among the examples; used in messages.
        image: a path, or the bytes of an encoded image (JPEG, PNG, GIF or BMP).
        captions: reference captions, one or more.

    Example:
        >>> CaptionedImage("dog", "photos/dog.jpg", ("a dog runs", "a brown dog"))
        CaptionedImage(name='dog', captions=('a dog runs', 'a brown dog'))
    """

    name: str
    image: str | bytes = dataclasses.field(repr=False)
    captions: tuple[str, ...]


def read_captions(path: PathLike, images: PathLike | None = None) -> list[CaptionedImage]:
    """Read images with their captions. The images are not decoded.

    Args:
        path: CSV or TSV with a header that names an image and a caption column (or two columns without a header),
            JSONL (`{"image": ..., "caption": ...}`, or `"captions"` with a list), COCO's `.json`, or
            `tfds:NAME[:SPLIT]` with the features `image` and `captions`, `caption` or `text`.
        images: the folder of the images; not for `tfds:`. Names in `path` are relative to this folder or to a
            sub-folder, with or without a suffix; Flickr's `name.jpg#0` is the file `name.jpg`.

    Returns:
        One `CaptionedImage` per image with all its captions, in the order of the file. White space in captions becomes
        single spaces.

    Raises:
        FileNotFoundError: there is no file `path`.
        DataError: there are no captions, a column or key is missing, the file is not UTF-8, the folder has no images,
            or more than half of the captions have no image.

    Example:
        >>> examples = read_captions("captions.csv", images="photos")  # doctest: +SKIP
        >>> examples[0].captions  # doctest: +SKIP
        ('a dog runs on the beach', 'a brown dog by the sea')
    """
    if str(path).startswith("tfds:"):
        from keras_attention.data.tfds import read_image_rows

        return _clean([CaptionedImage(*row) for row in read_image_rows(str(path))], path)
    if images is None:
        raise DataError(f"{path} only names images; pass the folder that contains them as `images` (--images).")
    return _clean(_join_images(list(_read_rows(path)), pathlib.Path(images).absolute(), path), path)


def captions_of(examples: Iterable[CaptionedImage]) -> list[str]:
    """Return all captions in one list, for example to train a tokenizer.

    Args:
        examples: from `read_captions`.

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
    """Remove captions without a word and images without a caption, with one warning for each kind."""
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
    _warn(path, "captions without a word were skipped", wordless)
    _warn(path, "images have no caption and were skipped", [e.name for e in cleaned if not e.captions])
    return complete


def _warn(path: PathLike, problem: str, names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"{path}: {len(names)} {problem}: {_shorten(names)}.")


def _shorten(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# Images in a folder


def _join_images(rows: list[tuple[str, str]], folder: pathlib.Path, path: PathLike) -> list[CaptionedImage]:
    """Join rows (name of an image, caption) with the images of a folder; images without a caption come last."""
    index = _index_images(folder)
    matches = {name: _find_images(name, index, folder) for name in dict.fromkeys(name for name, _ in rows)}
    missing = [name for name, _ in rows if not matches[name]]
    if 2 * len(missing) > len(rows):
        raise DataError(
            f"{path}: {len(missing)} of {len(rows)} captions have no image in {folder}: {_shorten(missing)}. Expected "
            f"names relative to that folder, which contains {_shorten(_relative(_all_images(index), folder))}."
        )
    _warn(path, f"captions have no image in {folder} and were skipped", missing)
    ambiguous = [f"{n} ({' or '.join(_relative(files, folder))})" for n, files in matches.items() if len(files) > 1]
    _warn(path, "names match several images, and the first is used; write the sub-folder too", ambiguous)
    captions: dict[pathlib.Path, list[str]] = {}
    for name, caption in rows:
        for file in matches[name][:1]:
            captions.setdefault(file, []).append(caption)
    return [
        CaptionedImage(file.relative_to(folder).as_posix(), str(file), tuple(captions.get(file, ())))
        for file in dict.fromkeys([*captions, *_all_images(index)])
    ]


def _index_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return file name, with and without suffix -> all images in a folder and its sub-folders with this name."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; expected the folder of the images, as `images` (--images).")
    index: dict[str, list[pathlib.Path]] = {}
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        visited.add(os.path.realpath(parent))  # a link may lead to a parent folder
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in visited]
        for file in (pathlib.Path(parent, name) for name in files if not name.startswith(".")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                index.setdefault(file.name, []).append(file)
                index.setdefault(file.stem, []).append(file)
    if not index:
        raise DataError(f"{folder} contains no images; expected files that end in {', '.join(IMAGE_SUFFIXES)}.")
    return index


def _all_images(index: dict[str, list[pathlib.Path]]) -> list[pathlib.Path]:
    return sorted({file for files in index.values() for file in files})


def _relative(files: Iterable[pathlib.Path], folder: pathlib.Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def _find_images(name: str, index: dict[str, list[pathlib.Path]], folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the images whose path ends with the name; if a path is equal to the name, only this image."""
    for candidate in (name, re.sub(r"#\d+$", "", name)):
        parts = pathlib.PurePosixPath(candidate.strip().replace("\\", "/")).parts
        files = sorted(file for file in index.get(parts[-1] if parts else "", ()) if _ends_with(file, parts))
        if files:
            return [file for file in files if _ends_with(file.relative_to(folder), parts, whole=True)] or files
    return []


def _ends_with(file: pathlib.Path, parts: tuple[str, ...], whole: bool = False) -> bool:
    return any(f.parts[0 if whole else -len(parts) :] == parts for f in (file, file.with_suffix("")))


# Rows (name of the image, caption) of a file


def _read_rows(path: PathLike) -> Iterator[tuple[str, str]]:
    suffix = pathlib.Path(str(path).removesuffix(".gz")).suffix
    return {".jsonl": _jsonl_rows, ".json": _coco_rows}.get(suffix, _table_rows)(path)


def _table_rows(path: PathLike) -> Iterator[tuple[str, str]]:
    columns, width = None, 0
    for number, cells in _read_table(path):
        if columns is None:
            columns, is_header = _find_columns(cells, f"{path}, line {number}")
            width = len(cells)
            if is_header:
                continue
        if len(cells) != width:
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns; expected {width}, as in the first line. Put a caption "
                f'that contains the separator in quotes: "a dog, a cat". Received {str(cells)[:80]}'
            )
        yield cells[columns[0]], cells[columns[1]]


def _read_table(path: PathLike) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells). In a comma-separated table, a quoted cell may have several lines."""
    lines = read_lines(path)
    first = next((line for line in lines if line.strip()), "")
    separator = next((mark for mark in "\t|" if mark in first), ",")
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    rows = csv.reader(
        (line + "\n" for line in lines), delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True
    )
    while True:
        start = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {start}: {error}; write a quotation mark inside quotes twice.") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield start, cells


def _find_columns(cells: list[str], where: str) -> tuple[tuple[int, int], bool]:
    """Return the columns of the image and of the caption, and whether this first line is a header."""
    names = [re.sub(r"\W+", "_", cell.strip().lower()) for cell in cells]
    image, caption = _first_of(IMAGE_COLUMNS, names), _first_of(CAPTION_COLUMNS, names)
    if image and caption:
        return (names.index(image), names.index(caption)), True
    if image or caption or len(cells) != 2:
        raise DataError(
            f"{where}: {len(cells)} columns, {_shorten(cells)}; expected a header with an image column "
            f"({', '.join(IMAGE_COLUMNS)}) and a caption column ({', '.join(CAPTION_COLUMNS)}), or two columns."
        )
    return (0, 1), False


def _first_of(candidates: Iterable[str], names: Iterable[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


def _jsonl_rows(path: PathLike) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield from _rows_of_object(_parse_json(line, path, number), f"{path}, line {number}")


def _parse_json(text: str, path: PathLike, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {line + error.lineno - 1}: not JSON ({error.msg}); expected one object per line in a .jsonl "
            "file, or COCO's object in a .json file."
        ) from None


def _rows_of_object(row: object, where: str) -> list[tuple[str, str]]:
    fields = row if isinstance(row, dict) else {}
    image, captions = (fields.get(_first_of(names, fields)) for names in (IMAGE_COLUMNS, CAPTION_COLUMNS))
    captions = [captions] if isinstance(captions, str) else captions
    texts = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    if not isinstance(image, str | int) or not texts:
        raise DataError(
            f'{where}: expected {{"image": ..., "caption": ...}} or {{"image": ..., "captions": [...]}}; '
            f"received {json.dumps(row)[:80]}"
        )
    return [(str(image), caption) for caption in captions]


def _coco_rows(path: PathLike) -> Iterator[tuple[str, str]]:
    data = _parse_json("\n".join(read_lines(path)), path)
    files = {str(number): file for number, file in _coco_fields(data, "images", ("id", "file_name"), path)}
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
