"""Files of pairs and of texts, also compressed, are read; each kind of invalid file has one clear error."""

import gzip
import importlib
import io
import json

import pytest

from keras_attention.data import DataError, read_labelled, read_lines, read_pairs, read_tagged, read_texts


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_tab_separated_pairs_are_read(write, name):
    path = write(name, "a b\tc d\r\n\n\tempty side\ne\tf\n")
    with pytest.warns(UserWarning, match="skipped 1 row with an empty source or target, the first on line 3"):
        assert read_pairs(path) == [("a b", "c d"), ("e", "f")]


def test_json_lines_are_read(write):
    rows = [{"source": "a\u2028b", "target": "c", "id": 3}, {"source": "d", "target": "e"}]
    path = write("pairs.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert read_pairs(path) == [("a\u2028b", "c"), ("d", "e")]


def test_two_parallel_files_are_read(write):
    assert read_pairs(write("a.en", "one\ntwo\n"), write("a.es", "uno\ndos")) == [("one", "uno"), ("two", "dos")]


def test_labelled_texts_and_plain_texts_are_read(write):
    assert read_labelled(write("x.tsv", "fine film\t1\n")) == [("fine film", "1")]
    assert read_texts(write("x.txt", "one\n\ntwo\n")) == ["one", "two"]
    assert read_texts(write("x.jsonl", '{"text": "one"}\n')) == ["one"]


def test_empty_lines_are_read_and_a_byte_order_mark_is_removed(write):
    assert read_lines(write("x.txt", "\ufeffone\n\ntwo\n".encode())) == ["one", "", "two"]


@pytest.mark.parametrize(
    ("name", "text", "read", "message"),
    [
        ("empty.tsv", "", read_pairs, "empty.tsv contains no examples"),
        ("blank.tsv", "\n \n", read_pairs, "blank.tsv contains no examples"),
        ("one.tsv", "a\tb\nonly one\n", read_pairs, "line 2: 1 column; expected 2, as in the first line"),
        (
            "x.txt.zst",
            b"(\xb5/\xfd\x04X)",
            read_texts,
            "line 1: .*x.txt.zst is a binary file; expected text, or text as .gz",
        ),
        ("latin.tsv", "caf\u00e9\tcoffee".encode("latin1"), read_pairs, "line 1: byte 4 is not UTF-8.*iconv"),
        ("broken.jsonl", '{"source": "a"', read_pairs, "line 1: not JSON"),
        (
            "keys.jsonl",
            '{"src": "a"}',
            read_pairs,
            'line 1: expected an object with the column source .*received {"src"',
        ),
        (
            "words.conllu.gz",
            "1\tWe\twe\tPRON\n",
            read_texts,
            "words.conllu.gz has a tagged word per line; .*read_tagged",
        ),
        ("words.txt", "a sentence of words\nand another\n", read_tagged, "line 2: 2 columns; expected 4"),
        ("long.txt", "a sentence of more than six words\n", read_tagged, "7 columns; expected a word and its tag"),
        ("none.txt", "", read_texts, "contains no examples"),
        ("wide.txt", "we eat".encode("utf-16"), read_texts, "iconv -f utf-16 -t utf-8"),
        ("bare.tsv", "good\t1\nbad\t\n", read_labelled, "'bad' has no label"),
        ("no.tsv", "We\tPRON\ngo\t\n", read_tagged, "line 2: the word 'go' has no tag"),
        ("tags.tsv", "We\tPRON\n\tVERB\n", read_tagged, "line 2: there is no word before the tag"),
    ],
)
def test_invalid_files_are_an_error(write, name, text, read, message):
    with pytest.raises(DataError, match=message):
        read(write(name, text))


@pytest.mark.parametrize("content", [gzip.compress(b"a\tb\n" * 99)[:-9], b"a\tb\n"], ids=["half", "not at all"])
def test_a_damaged_gzip_file_is_an_error(tmp_path, content):
    (tmp_path / "x.tsv.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tsv\.gz is not a complete .gz file"):
        read_pairs(tmp_path / "x.tsv.gz")


def test_aligned_files_of_unequal_length_are_an_error(write):
    with pytest.raises(DataError, match=r"a.en has 2 lines and .*a.es has 1"):
        read_pairs(write("a.en", "one\ntwo\n"), write("a.es", "uno\n"))


def test_two_files_of_pairs_are_not_read_as_sources_and_targets(write):
    with pytest.raises(DataError, match="join them into one file"):
        read_pairs(write("a.tsv", "one\tuno\n"), write("b.tsv", "two\tdos\n"))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_pairs(tmp_path / "nothing.tsv")


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("null.jsonl", '{"source": null, "target": "b"}', read_pairs),
    ],
)
def test_skipped_lines_have_a_warning(write, name, text, read):
    with pytest.raises(DataError, match="line 1"):
        read(write(name, text))


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_compressed_files_and_standard_input_are_read(tmp_path, monkeypatch, module):
    compress = importlib.import_module(module).compress
    path = tmp_path / f"x.tsv.{ {'gzip': 'gz', 'bz2': 'bz2', 'lzma': 'xz'}[module] }"
    path.write_bytes(compress(b"a\tb\n"))
    assert read_pairs(path) == [("a", "b")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\tb\n")))
    assert read_pairs("-") == [("a", "b")]


def test_only_line_feeds_end_a_line(write):
    sources = write("a.txt", "\ufeffone\u2028uno\r\ntwo\x85dos\r\nthree\x0ctres\r\n")
    expected = [("one\u2028uno", "1"), ("two\x85dos", "2"), ("three\x0ctres", "3")]
    assert read_pairs(sources, write("b.txt", "1\n2\n3\n")) == expected
