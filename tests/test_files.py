"""Files are read into examples, and each kind of invalid file has one clear error."""

import gzip
import json

import pytest

import keras_attention as ka
from keras_attention.data import DataError, read_labelled, read_lines, read_pairs, read_tagged, read_texts

CONLLU = """# sent_id = 1
1\tWe\twe\tPRON\t_\t_\t_\t_\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t_\t_\t_\t_
3\tn't\tnot\tPART\t_\t_\t_\t_\t_\t_
3.1\tghost\t_\tX\t_\t_\t_\t_\t_\t_

1\tGo\tgo\tVERB\t_\t_\t_\t_\t_\t_
"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        data = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_tab_separated_pairs_are_read(write, name):
    path = write(name, "a b\tc d\tsource of the pair\r\n\n\tempty side\ne\tf\n")
    assert read_pairs(path) == [("a b", "c d"), ("e", "f")]


def test_json_lines_are_read(write):
    rows = [{"source": "a\u2028b", "target": "c", "id": 3}, {"source": "d", "target": "e"}]
    path = write("pairs.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert read_pairs(path) == [("a\u2028b", "c"), ("d", "e")]


def test_two_aligned_files_are_read(write):
    assert read_pairs(write("a.en", "one\ntwo\n"), write("a.es", "uno\ndos")) == [("one", "uno"), ("two", "dos")]


def test_labelled_texts_and_plain_texts_are_read(write):
    assert read_labelled(write("x.tsv", "fine film\t1\n")) == [("fine film", "1")]
    assert read_texts(write("x.txt", "one\n\ntwo\n")) == ["one", "two"]
    assert read_texts(write("x.jsonl", '{"text": "one"}\n')) == ["one"]


def test_empty_lines_are_read_and_a_byte_order_mark_is_removed(write):
    assert read_lines(write("x.txt", "\ufeffone\n\ntwo\n".encode())) == ["one", "", "two"]


def test_conllu_is_read(write):
    expected = [[("We", "PRON"), ("do", "AUX"), ("n't", "PART")], [("Go", "VERB")]]
    assert read_tagged(write("x.conllu", CONLLU)) == expected
    assert read_tagged(write("y.conllu", CONLLU + "\n# text = a\tb\n" + CONLLU)) == 2 * expected
    assert read_tagged(write("hash.tsv", "#\tSYM\n1\tNUM\n")) == [[("#", "SYM"), ("1", "NUM")]]
    assert read_tagged(write("x.tsv", "We\tPRON\ngo\tVERB\n\nGo\tVERB\n")) == [
        [("We", "PRON"), ("go", "VERB")],
        [("Go", "VERB")],
    ]


@pytest.mark.parametrize(
    ("name", "text", "read", "message"),
    [
        ("empty.tsv", "", read_pairs, "empty.tsv contains no examples"),
        ("blank.tsv", "\n \n", read_pairs, "blank.tsv contains no examples"),
        ("one.tsv", "a\tb\nonly one\n", read_pairs, "line 2: 1 tab-separated columns; expected 2: source, target"),
        ("latin.tsv", "caf\u00e9\tcoffee".encode("latin1"), read_pairs, "line 1: byte 4 is not UTF-8.*iconv"),
        ("broken.jsonl", '{"source": "a"', read_pairs, "line 1: not JSON"),
        ("keys.jsonl", '{"src": "a"}', read_pairs, 'expected an object {"source": ..., "target": ...}'),
        ("words.txt", "a sentence of words\n", read_tagged, "expected a word and its tag"),
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
    with pytest.raises(DataError, match=r"x\.tsv\.gz is not a complete gzip file"):
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


@pytest.fixture
def tfds_home(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from keras_attention.quickstart import phrases_tfds

    few = {split: ka.quickstart.phrase_pairs(split)[:71] for split in ("train", "validation", "test")}
    monkeypatch.setattr(phrases_tfds, "phrase_pairs", few.get)
    monkeypatch.setattr(phrases_tfds, "builder", lambda: phrases_tfds.Phrases(data_dir=tmp_path))
    return tfds


def test_the_built_in_phrases_are_read_as_a_data_set(tfds_home):
    assert sorted(read_pairs("tfds:phrases:test")) == sorted(ka.quickstart.phrase_pairs("test")[:71])
    assert len(read_pairs("tfds:phrases:validation[:17]")) == 17


@pytest.mark.parametrize(
    ("source", "message"),
    [("tfds:phrasez", "no dataset 'phrasez'"), ("tfds:phrases:dev", "no split 'dev'; it has")],
)
def test_invalid_tfds_names_are_an_error(tfds_home, source, message):
    with pytest.raises(DataError, match=message):
        read_pairs(source)


def test_phrases_are_distinct_and_splits_share_no_combination():
    splits = {name: ka.quickstart.phrase_pairs(name) for name in ("train", "validation", "test")}
    sources = {name: {source for source, _ in pairs} for name, pairs in splits.items()}
    assert len(splits["train"]) == len(set(splits["train"])) > 10_000
    assert not sources["train"] & (sources["validation"] | sources["test"])
    assert ka.quickstart.EXAMPLE_PHRASE == ("we are eating bread", "estamos comiendo pan")
    assert ka.quickstart.EXAMPLE_PHRASE in splits["test"]
    assert not [s for s in sources["train"] | sources["validation"] if s.startswith("we are eating") and "bread" in s]


def test_phrases_have_spanish_agreement_and_word_order():
    """Sentences checked by hand: person, number, gender, tense, negation, position of the adjective."""
    every = {p for name in ("train", "validation", "test") for p in ka.quickstart.phrase_pairs(name)}
    checked = {
        ("she is drinking fresh milk", "ella está bebiendo leche fresca"),
        ("the children will not open the white door", "los niños no abrirán la puerta blanca"),
        ("i wrote a letter", "escribí una carta"),
        ("he reads the old newspapers", "él lee los periódicos viejos"),
        ("they sell a big orange", "venden una naranja grande"),
        ("my brother washes an apple", "mi hermano lava una manzana"),
        ("you drink cold milk", "bebes leche fría"),
        ("we are eating bread", "estamos comiendo pan"),
        ("she reads a book", "ella lee un libro"),
        ("they are washing a car", "están lavando un coche"),
    }
    assert checked <= every


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="no split 'dev'; expected one of train"):
        ka.quickstart.phrase_pairs("dev")


def test_a_hash_can_be_a_word(write):
    assert read_tagged(write("x.tsv", "# a comment\nwe\tPRON\n#win\tNOUN\n")) == [[("we", "PRON"), ("#win", "NOUN")]]


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("three.tsv", "we\tPRON\tO\n", read_tagged),
        ("null.jsonl", '{"source": null, "target": "b"}', read_pairs),
    ],
)
def test_skipped_lines_have_a_warning(write, name, text, read):
    with pytest.raises(DataError, match="line 1"):
        read(write(name, text))
