"""Captioned pictures from files and TensorFlow Datasets, with errors that name the line.

A file of captions (CSV, TSV, JSONL or COCO's JSON, each also with `.gz`) names pictures in a folder;
`tfds:NAME[:SPLIT]` brings its own. What is only odd (a caption without a picture, a picture without a
caption) is left out and told in one warning a kind; what cannot be meant is an error.
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

from keras_attention.data.files import DataError, Place, open_tfds, read_lines

# In order of preference: a file that has both names its pictures by `file_name`, not by `image_id`.
IMAGE_COLUMNS = (
    "file_name", "filename", "file", "image", "image_name", "image_file", "image_path", "path", "picture", "image_id",
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "comment", "sentence", "description")
NAME_FEATURES = ("name", "image/filename", "image_filename", "filename", "file_name", "image/id", "image_id", "id")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class CaptionedPicture:
    """A picture, as a path or as encoded bytes (JPEG, PNG), and what people say it shows."""

    name: str
    picture: str | bytes = dataclasses.field(repr=False)
    captions: tuple[str, ...]


def read_captions(place: Place, images: Place | None = None) -> list[CaptionedPicture]:
    """Read pictures with their captions; pictures are not opened.

    Args:
        place: CSV or TSV with a header that names an image and a caption column (or no header and two
            columns), JSONL (`{"image": ..., "caption": ...}`, or `"captions"` with a list), COCO's
            `.json`, or `tfds:NAME[:SPLIT]` with the features `image` and `captions`, `caption` or `text`.
        images: the folder of the pictures, for all but `tfds:`. Names in `place` are relative to it or to
            a sub-folder, with or without a suffix; Flickr's `name.jpg#0` is understood.

    Returns:
        a picture each, in the order of the file, with all its captions. White space in captions is
        made single blanks.

    Raises:
        FileNotFoundError: there is no file `place`.
        DataError: nothing to read, a missing column or key, no UTF-8, a folder without pictures, or more
            captions without a picture than with one.

    Example:
        >>> examples = read_captions("captions.csv", images="photos")  # doctest: +SKIP
        >>> examples[0].captions  # doctest: +SKIP
        ('a dog runs on the beach', 'a brown dog by the sea')
    """
    if str(place).startswith("tfds:"):
        return _complete(_read_tfds(str(place)), place)
    if images is None:
        raise DataError(f"{place} only names pictures; give the folder that they are in, as `images` (--images).")
    return _complete(_in_folder(list(_read_rows(place)), pathlib.Path(images).absolute(), place), place)


def captions_of(examples: Iterable[CaptionedPicture]) -> list[str]:
    """Return all captions in order, flat: what a tokenizer is trained on."""
    return [caption for example in examples for caption in example.captions]


def _complete(examples: list[CaptionedPicture], place: Place) -> list[CaptionedPicture]:
    """Leave out, and tell, captions without a word and pictures without any."""
    empty = [e.name for e in examples for caption in e.captions if not has_words(caption)]
    tidy = [
        dataclasses.replace(
            e, captions=tuple(" ".join(caption.split()) for caption in e.captions if has_words(caption))
        )
        for e in examples
    ]
    kept = [example for example in tidy if example.captions]
    if not kept:
        raise DataError(f"{place} holds no captions; expected at least one with a word.")
    _tell(place, "captions without a word were left out", empty)
    _tell(place, "pictures have no caption and were left out", [e.name for e in tidy if not e.captions])
    return kept


def has_words(caption: str) -> bool:
    """Whether there is a letter or a digit; a caption without has nothing to learn from or to compare with."""
    return re.search(r"[^\W_]", caption) is not None


def _tell(place: Place, what: str, names: Sequence[str]) -> None:
    if names:
        warnings.warn(f"{place}: {len(names)} {what}: {_some(names)}.")


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# Captions to pictures


def _in_folder(rows: list[tuple[str, str]], folder: pathlib.Path, place: Place) -> list[CaptionedPicture]:
    """Gather the captions of each picture of a folder; pictures without one come last."""
    index = _index(folder)
    found = {name: _find(name, index, folder) for name in dict.fromkeys(name for name, _ in rows)}
    lost = [name for name, _ in rows if not found[name]]
    if 2 * len(lost) > len(rows):
        raise DataError(
            f"{place}: {len(lost)} of {len(rows)} captions have no picture in {folder}: {_some(lost)}. Expected names "
            f"relative to that folder, which holds {_some(_names(_all(index), folder))}."
        )
    _tell(place, f"captions have no picture in {folder} and were left out", lost)
    doubtful = [f"{name} ({' or '.join(_names(paths, folder))})" for name, paths in found.items() if len(paths) > 1]
    _tell(place, "names fit several pictures, of which the first is taken; write the sub-folder too", doubtful)
    captions: dict[pathlib.Path, list[str]] = {}
    for name, caption in rows:
        for path in found[name][:1]:
            captions.setdefault(path, []).append(caption)
    return [
        CaptionedPicture(path.relative_to(folder).as_posix(), str(path), tuple(captions.get(path, ())))
        for path in dict.fromkeys([*captions, *_all(index)])
    ]


def _index(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """All pictures below a folder by their file name, and by their file name without suffix."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; expected the folder of the pictures, as `images` (--images).")
    index: dict[str, list[pathlib.Path]] = {}
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(parent))  # a link may lead back
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in seen]
        for path in (pathlib.Path(parent, file) for file in files if not file.startswith(".")):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                index.setdefault(path.name, []).append(path)
                index.setdefault(path.stem, []).append(path)
    if not index:
        raise DataError(f"{folder} holds no pictures; expected files that end in {', '.join(PICTURE_SUFFIXES)}.")
    return index


def _all(index: dict[str, list[pathlib.Path]]) -> list[pathlib.Path]:
    return sorted({path for paths in index.values() for path in paths})


def _names(paths: Iterable[pathlib.Path], folder: pathlib.Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _find(name: str, index: dict[str, list[pathlib.Path]], folder: pathlib.Path) -> list[pathlib.Path]:
    """The pictures whose path ends as the name does; only that one which is exactly it, if there is one."""
    for wanted in (name, re.sub(r"#\d+$", "", name)):
        parts = pathlib.PurePosixPath(wanted.strip().replace("\\", "/")).parts
        paths = sorted(path for path in index.get(parts[-1] if parts else "", ()) if _ends(path, parts))
        if paths:
            return [path for path in paths if _ends(path.relative_to(folder), parts, whole=True)] or paths
    return []


def _ends(path: pathlib.Path, parts: tuple[str, ...], whole: bool = False) -> bool:
    return any(p.parts[0 if whole else -len(parts) :] == parts for p in (path, path.with_suffix("")))


# Files to rows of (name of the picture, caption)


def _read_rows(place: Place) -> Iterator[tuple[str, str]]:
    suffix = pathlib.Path(str(place).removesuffix(".gz")).suffix
    return {".jsonl": _jsonl_rows, ".json": _coco_rows}.get(suffix, _table_rows)(place)


def _table_rows(place: Place) -> Iterator[tuple[str, str]]:
    columns, width = None, 0
    for number, cells in _records(place):
        if columns is None:
            columns, is_header = _columns(cells, f"{place}, line {number}")
            width = len(cells)
            if is_header:
                continue
        if len(cells) != width:
            raise DataError(
                f"{place}, line {number}: {len(cells)} columns; expected {width}, as in the first line. Put a caption "
                f'that holds the separator in quotes: "a dog, a cat". Received {str(cells)[:80]}'
            )
        yield cells[columns[0]], cells[columns[1]]


def _records(place: Place) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table, numbered; only a comma-separated one has quotes, which may span lines."""
    lines = read_lines(place)
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
            raise DataError(f"{place}, line {start}: {error}; a quote inside quotes is doubled.") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield start, cells


def _columns(cells: list[str], where: str) -> tuple[tuple[int, int], bool]:
    """Which columns hold the picture and the caption, and whether this first line is a header."""
    names = [re.sub(r"\W+", "_", cell.strip().lower()) for cell in cells]
    image, caption = _first(IMAGE_COLUMNS, names), _first(CAPTION_COLUMNS, names)
    if image and caption:
        return (names.index(image), names.index(caption)), True
    if image or caption or len(cells) != 2:
        raise DataError(
            f"{where}: {len(cells)} columns, {_some(cells)}; expected a header with an image column "
            f"({', '.join(IMAGE_COLUMNS)}) and a caption column ({', '.join(CAPTION_COLUMNS)}), or two columns."
        )
    return (0, 1), False


def _first(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _jsonl_rows(place: Place) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(place), 1):
        if line.strip():
            yield from _json_row(_loads(line, place, number), f"{place}, line {number}")


def _loads(text: str, place: Place, number: int = 1):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = number + error.lineno - 1
        raise DataError(
            f"{place}, line {at}: no JSON ({error.msg}); expected an object a line in .jsonl, one of COCO's in .json."
        ) from None


def _json_row(row: object, where: str) -> list[tuple[str, str]]:
    fields = row if isinstance(row, dict) else {}
    image, captions = (fields.get(_first(names, fields)) for names in (IMAGE_COLUMNS, CAPTION_COLUMNS))
    captions = [captions] if isinstance(captions, str) else captions
    texts = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    if not isinstance(image, str | int) or not texts:
        raise DataError(
            f'{where}: expected {{"image": ..., "caption": ...}} or {{"image": ..., "captions": [...]}}; '
            f"received {json.dumps(row)[:80]}"
        )
    return [(str(image), caption) for caption in captions]


def _coco_rows(place: Place) -> Iterator[tuple[str, str]]:
    data = _loads("\n".join(read_lines(place)), place)
    files = {str(number): file for number, file in _fields(data, "images", ("id", "file_name"), place)}
    for number, caption in _fields(data, "annotations", ("image_id", "caption"), place):
        yield files.get(str(number), str(number)), str(caption)


def _fields(data: object, table: str, keys: tuple[str, str], place: Place) -> Iterator[tuple]:
    """Two fields of each row of a table of a COCO file."""
    rows = data.get(table) if isinstance(data, dict) else None
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, dict) or any(row.get(key) is None for key in keys):
            raise DataError(
                f"{place}, {table}[{number}]: expected COCO captions: images with id and file_name, annotations "
                f"with image_id and caption; received {json.dumps(row)[:80]}"
            )
        yield tuple(row[key] for key in keys)


# TensorFlow Datasets


def _read_tfds(name: str) -> list[CaptionedPicture]:
    """Read from TensorFlow Datasets, pictures still encoded."""
    import tensorflow_datasets as tfds

    builder, split = open_tfds(name)
    features, caption = builder.info.features, _first(("captions", "caption", "text"), builder.info.features)
    if "image" not in features or not caption:
        raise DataError(f"{name} has the features {', '.join(features)}; expected image and captions.")
    rows = tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    key = _first(NAME_FEATURES, features)
    return [
        CaptionedPicture(_text(row[key]) if key else f"{split}-{number}", row["image"], _texts(row[caption]))
        for number, row in enumerate(rows)
    ]


def _texts(value) -> tuple[str, ...]:
    """The captions of a row: one text, several, or several with other things beside them."""
    if isinstance(value, dict):
        value = value[_first(CAPTION_COLUMNS, value)]
    return (_text(value),) if isinstance(value, bytes) else tuple(_text(text) for text in value)


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
