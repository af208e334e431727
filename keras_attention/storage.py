"""Atomic writes: a file or a directory is whole or absent."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator


def write_whole(path: str | pathlib.Path, write: Callable[[str], None]) -> None:
    """Write a file under a temporary name in the same directory, then rename it.

    A process that is killed while it writes leaves the old file as it was.

    Args:
        path: the file to write; an old file is replaced.
        write: called with the temporary name; writes the file.

    Raises:
        OSError: the disk is full or the directory cannot be written; the temporary file is removed.

    Example:
        >>> write_whole("note.txt", lambda name: open(name, "w").write("done"))  # doctest: +SKIP
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, which Keras reads
    try:
        write(str(partial))
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all; see `write_whole`."""
    write_whole(path, lambda name: pathlib.Path(name).write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def whole_directory(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Fill a new directory under a temporary name next to it; rename it when the block ends without an error.

    Args:
        path: the directory to make; its parent exists.

    Yields:
        the temporary directory's path. Whoever fills it makes the directory.

    Raises:
        OSError: the directory exists and is not empty, or cannot be written; the temporary directory is removed.

    Example:
        >>> with whole_directory("export/1") as partial:  # doctest: +SKIP
        ...     tf.saved_model.save(module, str(partial))
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".partial-{path.name}-{os.getpid()}")
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
