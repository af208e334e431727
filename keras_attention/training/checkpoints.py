"""Save and load arrays, such as weights and optimizer states; each file is written atomically."""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib
from collections.abc import Iterable

import keras
import numpy as np

from keras_attention.storage import atomic_write


def save_arrays(path: pathlib.Path, arrays: Iterable[np.ndarray], metadata: dict | None = None) -> None:
    """Write arrays and metadata to one `.npz` file, atomically.

    Args:
        path: the file.
        arrays: the arrays, in order.
        metadata: values that JSON can represent.
    """
    named = {f"array_{i:05d}": _storable(np.asarray(array)) for i, array in enumerate(arrays)}
    named["metadata"] = np.frombuffer(json.dumps(metadata or {}).encode(), "uint8")

    def write(name: str) -> None:
        with open(name, "wb") as file:
            np.savez(file, **named)

    atomic_write(path, write)


def _storable(array: np.ndarray) -> np.ndarray:
    """Convert bfloat16, which `.npz` files do not support, to float32, without loss."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def load_arrays(path: pathlib.Path) -> tuple[list[np.ndarray], dict]:
    """Read the arrays and the metadata of a file that `save_arrays` wrote.

    Returns:
        (the arrays, in order, the metadata).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            metadata = json.loads(file["metadata"].tobytes())
            return [file[name] for name in sorted(file.files) if name != "metadata"], metadata
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}). Restore it from a backup, or start the run again.") from None


def assign(variables: Iterable[keras.Variable], arrays: Iterable[np.ndarray]) -> None:
    """Assign arrays to variables, in order.

    Raises:
        ValueError: the number of arrays or a shape differs.
    """
    variables, arrays = list(variables), list(arrays)
    if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
        raise ValueError(
            f"The checkpoint contains {len(arrays)} arrays that do not fit the model's {len(variables)} variables. "
            "Resume with the model that the run started with, or choose another directory."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def average_weights(model: keras.Model, files: list[pathlib.Path]) -> None:
    """Assign the mean of the weights in several files of `save_arrays` to a model.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 6.1.
    """
    totals = None
    for file in files:
        arrays = [array.astype("float64") for array in load_arrays(file)[0]]
        totals = arrays if totals is None else [a + b for a, b in zip(totals, arrays, strict=True)]
    if totals is not None:
        assign(model.weights, [total / len(files) for total in totals])
