"""Local paths, and atomic writes: a file or a directory is complete or absent."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator


def local_path(path: str | pathlib.Path) -> pathlib.Path:
    """Return a path of the local file system, with `~` expanded; refuse a URL such as `gs://bucket/model`.

    `pathlib` would read `gs://bucket` as a local directory `gs:`, and `~/runs` as a directory named `~`.

    Raises:
        ValueError: the path has a scheme, such as `gs://`, `s3://`, `hdfs://` or `https://`.

    Example:
        >>> local_path("runs/model.keras").name
        'model.keras'
    """
    if scheme := re.match(r"[A-Za-z][\w+.-]+:/", str(path)):  # Path("gs://x") is gs:/x; C:/ is a drive of Windows
        raise ValueError(
            f"{path} is not a local path; expected a file or directory of this machine, because {scheme[0]}/ is not "
            "read or written. Copy the data to a local path first, or write to a local path and copy the result."
        )
    path = pathlib.Path(path)
    return path.expanduser() if path.parts[:1] == ("~",) else path  # a file may be called ~name


def atomic_write(path: str | pathlib.Path, write: Callable[[str], None]) -> None:
    """Write a file atomically: under a temporary name in the same directory, and then rename it.

    If the process is killed while it writes, the old file remains unchanged.

    Args:
        path: the file to write; an old file is replaced.
        write: a function that writes a file with the temporary name, its argument.

    Raises:
        OSError: the disk is full, or the directory is not writable; the temporary file is removed.

    Example:
        >>> atomic_write("note.txt", lambda name: open(name, "w").write("done"))  # doctest: +SKIP
    """
    path = local_path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # Keras needs the same suffix
    try:
        write(str(partial))
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Write a UTF-8 text file atomically; see `atomic_write`.

    Args:
        path: the file to write; an old file is replaced.
        text: the content.
    """
    atomic_write(path, lambda name: pathlib.Path(name).write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def atomic_directory(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Write a directory atomically: under a temporary name next to it, renamed if the `with` block has no error.

    Args:
        path: the directory to write.

    Yields:
        the path of the temporary directory, which is empty.

    Raises:
        OSError: `path` exists and is not empty, or cannot be written; the temporary directory is removed.

    Example:
        >>> with atomic_directory("export/1") as partial:  # doctest: +SKIP
        ...     tf.saved_model.save(module, str(partial))
    """
    path = local_path(path)
    partial = path.with_name(f".partial-{path.name}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
