"""Read and write Hugging Face files; arrays are read one at a time."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_attention.storage import local_path

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LFS = b"version https://git-lfs"


class SafetensorsArrays(Mapping):
    """A mapping from name to array over safetensors files. An array is read when it is accessed.

    Args:
        paths: one or several files of one model.

    Raises:
        ValueError: a file cannot be read.
    """

    def __init__(self, paths: list[pathlib.Path]) -> None:
        import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)

        self._handles = [_open(path) for path in paths]
        self._file_of = {name: handle for handle in self._handles for name in handle.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file_of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _open(path: pathlib.Path) -> Any:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(f"{path} is a pointer of Git LFS, not the weights. Get the file with: git lfs pull")
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). Download it again.") from error


def existing_directory(directory: str | pathlib.Path) -> pathlib.Path:
    """Return the path of a directory.

    Raises:
        ValueError: there is no such directory.
    """
    path = local_path(directory)
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise ValueError(
            f"{str(path)!r} {problem}; expected a directory with config.json and weights. Download it first."
        )
    return path


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ValueError: the file does not exist, is not JSON, or contains another value.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"There is no {path.name} in {str(path.parent)!r}; expected a Hugging Face directory with this "
            "file. Download it again."
        ) from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. Download the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{str(path)!r} contains a {type(content).__name__}; expected a JSON object. Download the file again."
        )
    return content


def optional_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty dict if the file does not exist; see `read_json`."""
    return read_json(path) if path.exists() else {}


def open_arrays(path: pathlib.Path) -> SafetensorsArrays:
    """Return the arrays of a directory, from one file or from the shards that its index names.

    Raises:
        ValueError: there are no safetensors files, a shard is missing, or the weights are a pickle.
    """
    if (path / _WHOLE).exists():
        return SafetensorsArrays([path / _WHOLE])
    if (path / _INDEX).exists():
        names = sorted(set(read_json(path / _INDEX).get("weight_map", {}).values()))
        if not names:
            raise ValueError(f"{str(path / _INDEX)!r} has no `weight_map`; expected names of arrays and their files.")
        missing = [name for name in names if not (path / name).exists()]
        if missing:
            raise ValueError(f"{_INDEX} names {', '.join(missing)}, which {str(path)!r} lacks. Download all shards.")
        return SafetensorsArrays([path / name for name in names])
    pickles = sorted(file.name for file in path.glob("pytorch_model*.bin"))
    if pickles:
        raise ValueError(
            f"{str(path)!r} has {', '.join(pickles)}, a pickle, which can execute any code; expected {_WHOLE}. Convert "
            "it with transformers: AutoModel.from_pretrained(dir).save_pretrained(new_dir, safe_serialization=True), "
            "with the class of the model instead of AutoModel."
        )
    others = sorted(file.name for file in path.iterdir() if file.suffix in (".h5", ".msgpack", ".onnx", ".gguf"))
    raise ValueError(
        f"{str(path)!r} has neither {_WHOLE} nor {_INDEX}; expected one of them"
        + (f". Convert {', '.join(others)} with transformers." if others else ".")
    )


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to `model.safetensors` in a directory, as transformers expects them."""
    from safetensors.numpy import save_file

    save_file(dict(arrays), path / _WHOLE, metadata={"format": "pt"})
