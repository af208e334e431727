"""Read data sets of TensorFlow Datasets, `tfds:NAME[:SPLIT]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_attention.argument_checks import one_of
from keras_attention.data.lines import DataError
from keras_attention.data.reading.columns import CAPTION_COLUMNS, Layout, expected_columns, find_columns, rename_columns

CAPTION_FEATURES = ("captions", "caption", "text")
NAME_FEATURES = ("name", "image/filename", "image_filename", "filename", "file_name", "image/id", "image_id", "id")
# name -> a function that returns the builder; for data sets that TensorFlow Datasets does not know
BUILDERS: dict[str, Callable[[], Any]] = {}


def read_columns(
    name: str, layouts: Sequence[Layout], columns: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Read columns of text.

    Args:
        name: `tfds:NAME[:SPLIT]`.
        layouts: the possible roles of features, and their names; see `columns.py`. If the data set has none of
            these, its supervised keys are read instead.
        columns: role -> name of its feature.

    Returns:
        Rows, role -> string. A class label is returned as its name.

    Raises:
        DataError: there is no such data set or split, or it has too few features.

    Example:
        >>> read_columns("tfds:phrases:test[:1]", TRANSLATION)  # doctest: +SKIP
        [{'source': 'we are eating bread', 'target': 'estamos comiendo pan'}]
    """
    import tensorflow_datasets as tfds

    builder, split = _open(name)
    features = builder.info.features
    layouts = rename_columns(layouts, columns or {}, name)
    chosen = find_columns(features, layouts) or _supervised(builder.info, layouts)
    rows = tfds.as_numpy(builder.as_dataset(split=split))
    return [{role: _to_text(row[key], features[key]) for role, key in chosen.items()} for row in rows]


def read_image_rows(name: str) -> list[tuple[str, bytes, tuple[str, ...]]]:
    """Read images with their captions.

    Args:
        name: `tfds:NAME[:SPLIT]`; the data set has a feature `image`, and `captions`, `caption` or `text`.

    Returns:
        Rows (name of the image, the encoded image, captions). An image without a name is called `SPLIT-NUMBER`.

    Raises:
        DataError: there is no such data set or split, or it lacks a feature.

    Example:
        >>> name, image, captions = read_image_rows("tfds:scenes:test[:1]")[0]  # doctest: +SKIP
    """
    import tensorflow_datasets as tfds

    builder, split = _open(name)
    features = builder.info.features
    caption = next((key for key in CAPTION_FEATURES if key in features), None)
    if "image" not in features or caption is None:
        raise DataError(
            f"{name} has the features {', '.join(features)}; expected image and {one_of(CAPTION_FEATURES)}. Choose "
            "another data set, or convert this one to a JSON Lines file."
        )
    key = next((key for key in NAME_FEATURES if key in features), None)
    rows = tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    return [
        (_to_text(row[key]) if key else f"{split}-{number}", row["image"], _captions(row[caption]))
        for number, row in enumerate(rows)
    ]


def _open(name: str) -> tuple[Any, str]:
    """Return the prepared builder, and the split; it is `"train"` if `name` has none."""
    import tensorflow_datasets as tfds

    _, dataset, *rest = name.split(":", 2)
    split = rest[0] if rest else "train"
    try:
        builder = BUILDERS[dataset]() if dataset in BUILDERS else tfds.builder(dataset)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"TensorFlow Datasets has no data set {dataset!r}; expected one of tfds.list_builders() in Python, as "
            "tfds:NAME or tfds:NAME:SPLIT."
        ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:  # a failed download raises Exception; a missing manual download, AssertionError
        raise DataError(
            f"TensorFlow Datasets cannot prepare {dataset}: {error} Expected a data set on this computer, or one that "
            "can be downloaded: check the network, or the files that the data set asks you to download yourself."
        ) from error
    if split.split("[")[0] not in builder.info.splits:
        raise DataError(
            f"{dataset} has no split {split!r}; expected {one_of(builder.info.splits)}. Write tfds:{dataset}:SPLIT."
        )
    return builder, split


def _supervised(info: Any, layouts: Sequence[Layout]) -> dict[str, str]:
    """Return role -> name of its feature, from the supervised keys of a data set."""
    keys, layout = info.supervised_keys, layouts[-1]
    if keys is None or len(keys) < len(layout):
        raise DataError(
            f"{info.name} has the features {', '.join(info.features)}; expected supervised keys, or "
            f"{expected_columns(layouts)}."
        )
    return dict(zip(layout, map(str, keys), strict=False))


def _captions(value: Any) -> tuple[str, ...]:
    """Return the captions of a row; `value` is one text, several texts, or a dict of fields with several texts."""
    if isinstance(value, dict):
        key = next((key for key in CAPTION_COLUMNS if key in value), None)
        if key is None:
            raise DataError(
                f"The captions have the fields {', '.join(value)}; expected {one_of(CAPTION_COLUMNS)}. Choose another "
                "data set, or convert this one to a JSON Lines file."
            )
        value = value[key]
    return (_to_text(value),) if isinstance(value, bytes) else tuple(_to_text(text) for text in value)


def _to_text(value: Any, feature: Any = None) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return feature.int2str(int(value)) if hasattr(feature, "int2str") else str(value)
