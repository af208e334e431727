"""Weights and states as files that are whole or absent."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterable

import keras
import numpy as np


def write_whole(path: pathlib.Path, write: Callable[[str], None]) -> None:
    """Write a file beside its place and move it there, so that a kill leaves the old one whole.

    Args:
        path: where the file belongs.
        write: writes the file that it is given the name of.

    Raises:
        OSError: what the disk said; the partial file is gone.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(str(partial))
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_arrays(path: pathlib.Path, arrays: Iterable[np.ndarray], note: dict | None = None) -> None:
    """Write arrays, and a note that JSON can hold, to one `.npz` file, in one atomic step."""
    named = {f"array_{i:05d}": _storable(np.asarray(array)) for i, array in enumerate(arrays)}
    named["note"] = np.frombuffer(json.dumps(note or {}).encode(), "uint8")

    def write(name: str) -> None:
        with open(name, "wb") as file:
            np.savez(file, **named)

    write_whole(path, write)


def _storable(array: np.ndarray) -> np.ndarray:
    """NumPy's files know no bfloat16; float32 holds the same numbers."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def load_arrays(path: pathlib.Path) -> tuple[list[np.ndarray], dict]:
    """Read what `save_arrays` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            note = json.loads(file["note"].tobytes())
            return [file[name] for name in sorted(file.files) if name != "note"], note
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); take it from a copy, or begin the run anew.") from None


def assign(variables: Iterable[keras.Variable], arrays: Iterable[np.ndarray]) -> None:
    """Give variables the values of arrays, in order.

    Raises:
        ValueError: their number or a shape differs.
    """
    variables, arrays = list(variables), list(arrays)
    if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
        raise ValueError(
            f"The checkpoint holds {len(arrays)} arrays that do not fit the model's {len(variables)} variables. "
            "Resume with the model that the run began with, or choose another directory."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def average_weights(model: keras.Model, files: list[pathlib.Path]) -> None:
    """Give a model the mean of the weights in several files that `save_arrays` wrote.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 6.1.
    """
    totals = None
    for file in files:
        arrays = [array.astype("float64") for array in load_arrays(file)[0]]
        totals = arrays if totals is None else [a + b for a, b in zip(totals, arrays, strict=True)]
    if totals is not None:
        assign(model.weights, [total / len(files) for total in totals])
