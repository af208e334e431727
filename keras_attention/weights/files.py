"""Directories of foreign weights: arrays read one at a time, and written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class SafetensorsArrays(Mapping):
    """name -> array over one or several safetensors files; an array is read when it is asked for."""

    def __init__(self, paths: list[pathlib.Path]) -> None:
        import ml_dtypes  # noqa: F401  (numpy then knows bfloat16)
        from safetensors import SafetensorError, safe_open

        try:
            self._handles = [safe_open(path, framework="np") for path in paths]
        except SafetensorError as error:
            raise ValueError(f"{paths[0].parent} holds a safetensors file that cannot be read ({error}).") from error
        self._file_of = {name: handle for handle in self._handles for name in handle.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file_of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


class CheckpointArrays(Mapping):
    """name -> array over a TensorFlow checkpoint; an array is read when it is asked for."""

    def __init__(self, path: pathlib.Path) -> None:
        import tensorflow as tf

        self._path, self._error = path, (tf.errors.OpError, IndexError)
        try:
            self._reader = tf.train.load_checkpoint(str(path))
        except self._error as error:
            raise self._unreadable(error) from None
        self._names = sorted(self._reader.get_variable_to_shape_map())

    def _unreadable(self, error: Exception) -> ValueError:
        return ValueError(f"The checkpoint {self._path} cannot be read ({error}); fetch all of its files again.")

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._reader.get_tensor(name)
        except self._error as error:
            raise self._unreadable(error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def existing_directory(directory: str | pathlib.Path) -> pathlib.Path:
    """Return the path of a directory that is there.

    Raises:
        ValueError: it is not, or is no directory.
    """
    path = pathlib.Path(directory)
    if not path.is_dir():
        what = "a file" if path.exists() else "not there"
        raise ValueError(
            f"{str(path)!r} is {what}; expected a directory with config.json and weights. Download it first."
        )
    return path


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ValueError: the file is absent, no JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no {path.name} in {str(path.parent)!r}; expected one.") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} holds a {type(found).__name__}; expected a JSON object.")
    return found


def optional_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, an empty one where there is no file; see `read_json`."""
    return read_json(path) if path.exists() else {}


def open_arrays(path: pathlib.Path) -> SafetensorsArrays:
    """Return the arrays of a directory, from one file or from the shards that an index names.

    Raises:
        ValueError: there are none, a shard is absent, or they are a pickle.
    """
    if (path / _WHOLE).exists():
        return SafetensorsArrays([path / _WHOLE])
    if (path / _INDEX).exists():
        names = sorted(set(read_json(path / _INDEX).get("weight_map", {}).values()))
        if not names:
            raise ValueError(f"{str(path / _INDEX)!r} has no `weight_map`; expected names of arrays and their files.")
        absent = [name for name in names if not (path / name).exists()]
        if absent:
            raise ValueError(f"{_INDEX} names {', '.join(absent)}, which {str(path)!r} lacks. Download all shards.")
        return SafetensorsArrays([path / name for name in names])
    pickles = sorted(file.name for file in path.glob("pytorch_model*.bin"))
    if pickles:
        raise ValueError(
            f"{str(path)!r} has {', '.join(pickles)}, a pickle, which could run any code; expected {_WHOLE}. With "
            "transformers: AutoModel.from_pretrained(dir).save_pretrained(new_dir, safe_serialization=True), with the "
            "model's own class in place of AutoModel."
        )
    raise ValueError(f"{str(path)!r} has neither {_WHOLE} nor {_INDEX}; expected one of them.")


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a directory, as transformers expects them."""
    from safetensors.numpy import save_file

    save_file(dict(arrays), path / _WHOLE, metadata={"format": "pt"})


@contextlib.contextmanager
def new_directory(directory: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a directory beside `directory` to write to, and rename it into place when all went well.

    Raises:
        ValueError: `directory` exists; nothing is overwritten.
    """
    path = pathlib.Path(directory)
    if path.exists():
        raise ValueError(f"{str(path)!r} exists; expected a new directory. Nothing was overwritten.")
    beside = path.parent / f"{path.name}.unfinished"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
