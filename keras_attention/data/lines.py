"""Read lines of text files, plain or compressed, or from standard input. An error names the file and the line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import pathlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator

from keras_attention.storage import local_path

PathLike = str | pathlib.Path
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_OTHER_FORMATS = {  # first bytes -> what such a file is, and what to do
    b"PK\x03\x04": ("a ZIP archive, as .xlsx and .docx files are", "Extract it, or save it as CSV or text"),
    b"\xd0\xcf\x11\xe0": ("an Excel or Word file", "Save it as CSV or text"),
    b"PAR1\x15": ("a Parquet file", "Convert it to JSON lines"),
    b"\x1f\x8b": ("compressed", "Give it a name that ends in .gz"),
    b"%PDF-": ("a PDF", "Extract its text"),
}


class DataError(ValueError):
    """Data cannot be used. The message names the file and the line, what was expected, and how to fix it.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("pairs.tsv").write_text("we eat bread\\n")
        >>> try:
        ...     ka.data.read_pairs("pairs.tsv")
        ... except DataError as error:
        ...     print(error)
        pairs.tsv, line 1: 1 column, we eat bread; expected a header with the column source ...
    """


class DataWarning(UserWarning):
    """Data can be used, but there is probably a mistake in them. The message has an example, and how to fix it.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", DataWarning)  # turn the warning into an error
        ...     pairs = ka.quickstart.phrase_pairs("test")
    """


def read_lines(path: PathLike) -> list[str]:
    """Read the lines of a UTF-8 text file.

    Args:
        path: the file, plain or compressed (`.gz`, `.bz2`, `.xz`); `"-"` for standard input.

    Returns:
        All lines, also empty ones, without their line ends. Only `\\n` and `\\r\\n` end a line.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a line is not UTF-8, the file is binary, or a compressed file is damaged.

    Example:
        >>> _ = pathlib.Path("texts.txt").write_text("we eat\\n\\nwe drink\\n")
        >>> read_lines("texts.txt")
        ['we eat', '', 'we drink']
    """
    if str(path) == "-":
        return list(decode_lines(sys.stdin.buffer, "standard input"))
    path = existing_file(path)
    opened = _OPENERS.get(path.suffix, open)(path, "rb")
    try:
        with opened as file:
            return list(decode_lines(file, str(path)))
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if getattr(error, "errno", None):
            raise
        raise DataError(
            f"{path} is not a complete {path.suffix} file ({error}). Download it again, or compress it again."
        ) from None


def _check_format(line: bytes, name: str) -> None:
    """Raise DataError if the first line is that of another kind of file, such as an Excel file."""
    for begin, (kind, fix) in _OTHER_FORMATS.items():
        if line.startswith(begin):
            raise DataError(f"{name} is {kind}; expected text. {fix}.")


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    r"""Decode lines of bytes as UTF-8 and remove their line ends.

    Args:
        lines: each ends with `\n` or `\r\n`.
        name: the file's name, for error messages.

    Returns:
        An iterator over strings. Byte order marks at the beginning of lines are removed: files that were joined have
        several.

    Raises:
        DataError: a line is not UTF-8, the file is binary, or its only line end is `\r`.

    Example:
        >>> list(decode_lines(iter([b"we eat\r\n", b"bread\n"]), "texts.txt"))
        ['we eat', 'bread']
    """
    number, text = 0, ""
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}"
        if number == 1:
            _check_format(line, name)
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{where}: the text is UTF-16, not UTF-8. Convert it with: iconv -f utf-16 -t utf-8")
        if b"\0" in line:
            raise DataError(
                f"{where}: a byte is 0, so {name} is a binary file; expected text. If it is UTF-16, convert it with: "
                "iconv -f utf-16le -t utf-8"
            )
        try:
            text = line.decode().lstrip("\ufeff").rstrip("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            if re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", line):
                raise DataError(
                    f"{where}: {name} is a binary file; expected text, or text as .gz, .bz2 or .xz."
                ) from None
            raise DataError(
                f"{where}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8, or convert it. "
                f"{_conversion(line)}"
            ) from None
        yield text
    if number == 1 and "\r" in text:
        raise DataError(rf"{name} has the line ends of an old Mac. Convert it with: tr '\r' '\n'")


def _conversion(line: bytes) -> str:
    """Return how to convert the file of a line that is not UTF-8.

    Excel for Windows writes cp1252 in Western Europe. It has the letters of Latin-1, and also marks such as the euro.
    """
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return "Its encoding is not that of Western Europe (cp1252); find it out, and use: iconv -f ENCODING -t utf-8"
    return "If it is from Excel or Windows in Western Europe, use: iconv -f cp1252 -t utf-8"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return a number and a noun in the singular or plural.

    Args:
        count: the number.
        one: what follows 1, such as `"row"` or `"row has"`.
        several: what follows other numbers; by default `one` and s.

    Example:
        >>> counted(1, "row has", "rows have"), counted(2000, "row")
        ('1 row has', '2,000 rows')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def shortened(names: Iterable[str], max_names: int = 10) -> str:
    """Return the first different names, separated by commas, and ... if there are more than `max_names`.

    Example:
        >>> shortened(["a", "b", "a", "c"], max_names=2)
        'a, b, ...'
    """
    names = list(dict.fromkeys(names))
    return ", ".join(names[:max_names]) + ", ..." * (len(names) > max_names)


def existing_file(path: PathLike, kind: str = "a file") -> pathlib.Path:
    """Return the local path of a file.

    Args:
        path: the path.
        kind: what is expected, such as `"an image"`.

    Raises:
        FileNotFoundError: it does not exist, or is a directory.
    """
    path = local_path(path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a directory; expected {kind}.")
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {kind.split()[-1]} {path}. Check the path; a relative one begins at {pathlib.Path.cwd()}."
        )
    return path


def file_suffix(path: PathLike) -> str:
    """Return the suffix of a file in lower case, without that of a compression.

    Example:
        >>> file_suffix("pairs.TSV.gz")
        '.tsv'
    """
    path = pathlib.Path(path)
    return pathlib.Path(path.stem if path.suffix in _OPENERS else path.name).suffix.lower()
