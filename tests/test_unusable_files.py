"""Each reader has one clear error for each kind of unusable file; unusual but usable files are read."""

import gzip
import lzma

import pytest

from keras_attention.data import DataError, read_captions, read_labelled, read_pairs, read_tagged, read_texts
from keras_attention.models import CausalLM

LOADERS = {  # name of a loader -> the loader, a suffix of its files, and a file of one row
    "pairs": (read_pairs, ".tsv", "we eat\tcomemos\n"),
    "labelled": (read_labelled, ".csv", "fine,good\n"),
    "labelled jsonl": (read_labelled, ".jsonl", '{"text": "fine", "label": "good"}\n'),
    "texts": (read_texts, ".txt", "we eat\n"),
    "documents": (lambda path: CausalLM.data.read([path]), ".txt", "we eat\n"),
    "tagged": (read_tagged, ".conll", "we\tPRON\n"),
    "captions": (lambda path: read_captions(path, path.parent), ".csv", "a.png,a dog\n"),
}


FILES = {  # kind of a file -> its bytes, from the file of one row; and the error
    "empty": (lambda row: b"", "contains no (examples|captions)"),
    "blank lines": (lambda row: b"\n \n\r\n\t\n", "contains no (examples|captions)"),
    "binary": (lambda row: bytes(range(256)), "line 1: a byte is 0, so .* is a binary file; expected text"),
    "UTF-16": (lambda row: row.encode("utf-16"), "line 1: the text is UTF-16.*iconv -f utf-16 -t utf-8"),
    "UTF-16 without a mark": (lambda row: row.encode("utf-16-le"), "line 1: a byte is 0.*iconv -f utf-16le"),
    "Latin-1": (lambda row: row.encode() + b"caf\xe9\n", "line 2: byte 4 is not UTF-8.*iconv -f cp1252 -t utf-8"),
    "Windows": (
        lambda row: row.encode() + b"\x80 \x84gut\x93\n",
        "line 2: byte 1 .*iconv -f cp1252 -t utf-8",
    ),  # € „gut“
    "Shift-JIS": (lambda row: row.encode() + b"\x81\x40\n", "line 2: .*not that of Western Europe.*iconv -f ENCODING"),
    "old Mac": (lambda row: (row.strip() + "\r" + row.strip()).encode(), r"line ends of an old Mac.*tr '\\r' '\\n'"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", LOADERS)
def test_an_unusable_file_is_an_error(name, kind, tmp_path):
    load, suffix, row = LOADERS[name]
    make, message = FILES[kind]
    (tmp_path / "a.png").write_bytes(b"")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(make(row))
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_folders_and_damaged_files_are_errors(name, tmp_path):
    load, suffix, row = LOADERS[name]
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(FileNotFoundError, match="is a directory; expected a file"):
        load(tmp_path / f"folder{suffix}")
    for ending, data in ((".gz", gzip.compress(row.encode() * 99)), (".xz", lzma.compress(row.encode() * 99))):
        (tmp_path / f"x{suffix}{ending}").write_bytes(data[:-9])  # as while it is downloaded
        with pytest.raises(DataError, match=f"is not a complete {ending} file.*Download it again"):
            load(tmp_path / f"x{suffix}{ending}")


@pytest.mark.parametrize("name", LOADERS)
def test_one_row_is_read_with_any_line_end(name, tmp_path):
    load, suffix, row = LOADERS[name]
    (tmp_path / "a.png").write_bytes(b"")
    examples = []
    for i, data in enumerate((row, row.strip(), row.replace("\n", "\r\n"), "\ufeff" + row)):
        (tmp_path / f"{i}{suffix}").write_bytes(data.encode())
        examples.append(load(tmp_path / f"{i}{suffix}"))
    assert len(examples[0]) == 1
    assert all(example == examples[0] for example in examples)


def test_long_rows_are_read(tmp_path):
    """A cell of 100,000 words is longer than the csv module allows by default."""
    text = "we " * 100_000
    for name, content in (("a.csv", f'text,label\n"{text}",good\n'), ("a.tsv", f"{text}\tgood\n")):
        (tmp_path / name).write_text(content)
        assert read_labelled(tmp_path / name) == [(text, "good")]
