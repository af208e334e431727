"""Files are read into examples, and each kind of invalid file has one clear error."""

import gzip
import importlib
import io
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
    path = write(name, "a b\tc d\r\n\n\tempty side\ne\tf\n")
    with pytest.warns(UserWarning, match="skipped 1 row with an empty source or target, the first on line 3"):
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
        ("null.jsonl", '{"source": null, "target": "b"}', read_pairs),
    ],
)
def test_skipped_lines_have_a_warning(write, name, text, read):
    with pytest.raises(DataError, match="line 1"):
        read(write(name, text))


TABLES = {  # a table -> its rows of texts and labels
    "header.tsv": ("sentence\tlabel\na fine film\t1\n", [("a fine film", "1")]),
    "spaces.tsv": ("fine\tpos\npoor\tneg \n", [("fine", "pos"), ("poor", "neg")]),
    "other order.csv": ("Stars, Review\n5,good\n", [("good", "5")]),
    "quotes.csv": ('text,label\n"good, and\n""short""",pos\n', [('good, and\n"short"', "pos")]),
    "semicolons.csv": ("text;label\ngood;pos\n", [("good", "pos")]),
    "quotes.tsv": ('"stop" said\tpos\n', [('"stop" said', "pos")]),
    "more.csv": ("id,text,user,label\n7,good,me,pos\n", [("good", "pos")]),
    "keys.jsonl": ('{"label": true, "id": 3, "sentence": "good"}\n', [("good", "True")]),
    "SST-2.tsv": ("sentence\tlabel\nhide new secretions \t0\n", [("hide new secretions ", "0")]),
    "CoLA.tsv": ("gj04\t1\t\tWe eat.\ngj04\t0\t*\tThey eats.\n", [("We eat.", "1"), ("They eats.", "0")]),
    "MRPC.tsv": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\tHe \"ate\" .\tHe did eat .\n",
        [(('He "ate" .', "He did eat ."), "1")],
    ),
    "MNLI.tsv": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t3\t3n\tfiction\t( a )\t( b )\t(A)\t(B)\tWe eat.\tWe do not.\tneutral\tcontradiction\n",
        [(("We eat.", "We do not."), "contradiction")],
    ),
    "QNLI.tsv": ("index\tquestion\tsentence\tlabel\n0\tWho?\tWe.\tentailment\n", [(("Who?", "We."), "entailment")]),
    "RTE.tsv": ("index\tsentence1\tsentence2\tlabel\n0\tWe.\tUs.\tnot\n", [(("We.", "Us."), "not")]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_labelled_texts_are_read(write, name, recwarn):
    text, examples = TABLES[name]
    assert read_labelled(write(name, text)) == examples
    assert not len(recwarn)


def test_a_header_is_said(write, caplog):
    with caplog.at_level("INFO", "keras_attention"):
        read_labelled(write("x.tsv", "\nsentence\tlabel\ngood\t1\n"))
    assert caplog.messages[0].endswith("x.tsv: line 2 is a header; columns: text = 'sentence', label = 'label'.")


def test_a_table_without_a_header_is_said(write, caplog):
    with caplog.at_level("INFO", "keras_attention"):
        assert len(read_pairs(write("x.csv", "English text,Spanish text\nwe eat,comemos\n"))) == 2
    expected = (
        "x.csv: no header, line 1 is an example; source = column 1, target = column 2. `columns` names the columns."
    )
    assert caplog.messages[0].endswith(expected)


SENTENCES = [f"a film of {n} hours" for n in range(12)]
LABELS, STARS, NUMBERS = ["gut", "schlecht"] * 6, [*"135524311234"], [*map(str, range(12))]
HEADERS = {  # a first row, the cells of the other rows -> whether the first row may be a header
    "a label in German": (read_labelled, "Satz;Kategorie", SENTENCES, LABELS, True),
    "stars": (read_labelled, "texto;valoración", SENTENCES, STARS, True),
    "one label for each star": (read_labelled, "texte;note", SENTENCES, NUMBERS, True),
    "languages": (read_pairs, "Englisch;Deutsch", SENTENCES, SENTENCES, True),
    "a known label": (read_labelled, "Satz;gut", SENTENCES, LABELS, False),
    "a rare label": (read_labelled, "Satz;neutral", SENTENCES, [*LABELS[:11], "egal"], False),
    "a rare number": (read_labelled, "Satz;6,5", SENTENCES, NUMBERS, False),
    "a long text": (read_labelled, f"{'a fine film ' * 4};neutral", SENTENCES, LABELS, False),
    "few rows": (read_labelled, "Satz;Kategorie", SENTENCES[:9], LABELS[:9], False),
    "a short sentence": (read_pairs, "Hello!;Hallo!", SENTENCES, SENTENCES, False),
    "words": (read_pairs, "bread;Brot", [*SENTENCES, "tea"], [*SENTENCES, "Tee"], False),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_with_unknown_names_is_not_an_example(write, name):
    read, first, *cells, is_header = HEADERS[name]
    path = write("x.csv", "\n".join([first, *map(";".join, zip(*cells, strict=True))]))
    if not is_header:
        assert str(read(path)[0][0]) == first.split(";")[0]
        return
    roles = {read_labelled: ("text", "label"), read_pairs: ("source", "target")}
    columns = dict(zip(roles[read], first.split(";"), strict=True))
    shown = ",".join(map("=".join, columns.items()))
    with pytest.raises(DataError, match=f"line 1: .* may be a header.* `columns` to {shown}; if .* to .*=1,.*=2"):
        read(path)
    by_number = read(path, columns=dict(zip(columns, "12", strict=True)))
    assert len(by_number) == len(read(path, columns=columns)) + 1


QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tWhy?\tHow?\t0\n"


def test_quotation_marks_of_csv_in_a_tsv_file_are_a_warning(write):
    with pytest.warns(UserWarning, match="line 2: .*doubled quotation marks, which are kept; 1 line has one"):
        assert read_labelled(write("x.tsv", 'text\tlabel\n"a ""b"""\tgood\n"c" d\tbad\n'))[0] == ('"a ""b"""', "good")


def test_skipped_rows_are_counted(write):
    with pytest.warns(UserWarning, match="skipped 2 damaged rows of QQP, the first on line 3"):
        assert read_labelled(write("qqp.tsv", f"{QQP}1\t3\t4\tIs\nit?\tHow?\t1\n")) == [(("Why?", "How?"), "0")]
    with pytest.warns(UserWarning, match="skipped 1 row with the label -, which means no agreement.*line 2"):
        assert read_labelled(write("snli.csv", "premise,hypothesis,gold_label\na,b,-\nc,d,e\n")) == [(("c", "d"), "e")]
    with pytest.warns(UserWarning, match="skipped 1 row with no text, the first on line 1"):
        assert read_labelled(write("x.csv", " ,good\na,bad\n")) == [("a", "bad")]


@pytest.mark.parametrize(
    ("read", "name", "text", "columns", "examples"),
    [
        (read_labelled, "x.csv", "review,stars\na,5\n", {"text": "review", "label": "stars"}, [("a", "5")]),
        (read_labelled, "x.csv", "title,text,rank\na,b,5\n", {"label": "rank"}, [("b", "5")]),
        (read_labelled, "x.csv", "label,text\n1,a\n", {"text": "2", "label": "1"}, [("text", "label"), ("a", "1")]),
        (read_labelled, "x.jsonl", '{"a": "b", "c": 3}', {"text": "a", "label": "c"}, [("b", "3")]),
        (read_labelled, "x.csv", "a,b,c\n1,2,3\n", {"text": "a", "text_pair": "c", "label": "b"}, [(("1", "3"), "2")]),
        (read_labelled, "x.csv", "sentence1,sentence2,label\na,b,c\n", {"text": "sentence1"}, [("a", "c")]),
        (read_pairs, "spa.txt", "Go.\tVe.\tCC-BY\n", {"source": "2", "target": "1"}, [("Ve.", "Go.")]),
        (read_pairs, "x.csv", "target,source\nb,a\n", None, [("a", "b")]),
        (read_pairs, "x.csv", "en,es\na,b\n", None, [("a", "b")]),
        (read_pairs, "x.tsv", "no\tno\na\tb\n", None, [("no", "no"), ("a", "b")]),
        (read_texts, "x.csv", "id,text\n1,a\n2,b\n", None, ["a", "b"]),
        (read_texts, "x.csv", "id,review\n1,a\n", {"text": "review"}, ["a"]),
        (read_texts, "x.tsv", "a, b\nc\n", None, ["a, b", "c"]),
        (read_pairs, "x.csv", "sep=;\nsource;target\na, b;c\n", None, [("a, b", "c")]),  # Excel
        (read_labelled, "x.csv", "a, b;good\nc;bad\n", None, [("a, b", "good"), ("c", "bad")]),
        (read_labelled, "x.csv", '"a; b",good\nc,bad\n', None, [("a; b", "good"), ("c", "bad")]),
        (read_labelled, "x.csv", 'text\tlabel\n"a ""b"""\tgood\n', None, [('a "b"', "good")]),
        (read_labelled, "x.csv", 'text|label\n"Stop" says|good\n', None, [('"Stop" says', "good")]),
        (
            read_labelled,
            "x.csv",
            '"Great" film\tgood\nso, so\tbad\n',
            None,
            [('"Great" film', "good"), ("so, so", "bad")],
        ),
        (read_pairs, "x.tsv", "{name} eats\tcome {name}\n", None, [("{name} eats", "come {name}")]),
        (read_pairs, "x.csv", "sep=,\na; b,c\n", None, [("a; b", "c")]),
        (read_texts, "x.txt", "PAR1 is a receptor.\n", None, ["PAR1 is a receptor."]),
        (read_texts, "x.txt", "%PDF files\n", None, ["%PDF files"]),
        (read_pairs, "x.ndjson", '{"source": "a", "target": "b"}\n', None, [("a", "b")]),
        (read_pairs, "x.tsv", "\ufeffa\tb\n\ufeffc\td\n", None, [("a", "b"), ("c", "d")]),  # two files that were joined
    ],
)
def test_columns_are_found_by_name_or_number(write, read, name, text, columns, examples):
    assert read(write(name, text), columns=columns) == examples


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("x.tsv", "a\tb\tc\n", {}, "line 1: 3 columns, a, b, c; expected a header with the column text"),
        ("x.tsv", "a\tb\nc\td\te\n", {}, "line 2: 3 columns; expected 2, as in the first line"),
        ("x.csv", "\ntext,Text,label\na,b,c\n", {}, "line 2: several columns are called 'text'. Rename the others"),
        ("x.csv", "a,b,b\n1,2,3\n", {"columns": {"text": "a", "label": "b"}}, "several columns are called 'b'"),
        ("x.tsv", "a\tb\nc\n", {}, "line 2: 1 column; expected 2"),
        ("x.csv", 'a,b\n\n"c\nd",e\nf,g,h\n', {}, "line 5: 3 columns; expected 2"),
        ("x.csv", "label,words\n1,a\n", {}, "line 1: 2 columns, label, words; expected a header with the column text"),
        ("x.csv", "a,b\n", {"columns": {"text": "c"}}, "expected a header with the column text \\(c\\)"),
        (
            "x.csv",
            "a,b\n",
            {"columns": {"text": "1", "label": "3"}},
            "2 columns, a, b; there is no column '3'; expected",
        ),
        ("x.csv", "a,b\n", {"columns": {"texts": "a"}}, "`columns` names texts, which does not exist; expected text"),
        ("x.csv", "a,b\n", {"columns": {"text": "1", "label": "1"}}, "`columns` has one column for text and label"),
        ("x.jsonl", '{"text": "a\\ud83d", "label": 1}', {}, "line 1: 'a.*ud83d' has half of a surrogate pair"),
        ("x.json", "[]", {}, "x.json is JSON; expected one object a line.*jq"),
        ("x.jsonl", '{"text": ["a"], "label": 1}', {}, "line 1: expected a string or a number; received"),
        ("x.jsonl", '{"text": "a", "label": null}', {}, "line 1: label is null"),
        ("x.jsonl", '{"text": "a", "label": NaN}', {}, "line 1: expected a string or a number; received nan"),
        (
            "x.txt",
            "| text | label |\n|---|:--|\n| a | b |",
            {},
            "line 2: '.*' is a rule of a Markdown table; .*Delete this",
        ),
        ("x.csv", "a | b\n--- | ---\nc | d", {}, "line 2: '.*' is a rule of a Markdown table; .*Delete this"),
        ("x.txt", '{"text": "a", "label": 1}', {}, "line 1: this is an object of JSON. .*ends in .jsonl"),
        (
            "x.csv",
            "a, b;good\nc, d;bad\n",
            {},
            "line 1: the separator may be ',' or ';', because .*names of the columns, or, as Excel does, sep=,",
        ),
        ("x.xlsx", "PK\3\4\n", {}, "x.xlsx is a ZIP archive, as .xlsx .* Extract it, or save it as CSV"),
        (
            "x.csv",
            'text|label\n"a ""b"""|good\n"c" d|bad\n',
            {},
            "line 3: .*write a quotation mark inside quotes twice",
        ),
        ("x.csv", "PAR1\x15\n", {}, "x.csv is a Parquet file"),
        ("x.csv", "a,pos\n\nb,ngt\n", {"labels": ("neg", "pos")}, "line 3: the label 'ngt' is not one of neg, pos"),
    ],
)
def test_other_tables_are_an_error(write, name, text, options, message):
    with pytest.raises(DataError, match=message):
        read_labelled(write(name, text), **options)


CONLL = "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ I-NP S-MISC\n\nPeter NNP B-NP I-PER\n"
GERMEVAL = "# n-tv\t[2009]\n1\tRom\tB-LOC\tO\n2\tist\tO\tO\n\n1\tDa\tO\tO\n"
ENTITIES = [[("EU", "B-ORG"), ("rejects", "O"), ("German", "S-MISC")], [("Peter", "I-PER")]]


@pytest.mark.parametrize(
    ("text", "options", "sentences"),
    [
        (CONLL, {}, ENTITIES),
        (CONLL.replace(" ", "\t"), {}, ENTITIES),
        (f"-DOCSTART- -X- -X- O\n\n{CONLL}", {}, ENTITIES),
        (CONLL, {"tag_column": 2}, [[("EU", "NNP"), ("rejects", "VBZ"), ("German", "JJ")], [("Peter", "NNP")]]),
        ("we\tO \neat\tO\n", {}, [[("we", "O"), ("eat", "O")]]),
        ("# # B-NP O\nwe PRP B-NP O\n", {}, [[("#", "O"), ("we", "O")]]),
        ("Token\tTag\nwe\tO\neat\tO\n", {}, [[("we", "O"), ("eat", "O")]]),  # a header
        ("Words POS\nhurt NEG\n\nnice POS\n", {}, [[("Words", "POS"), ("hurt", "NEG")], [("nice", "POS")]]),
        ("token\tO\nwe\tO\n", {}, [[("token", "O"), ("we", "O")]]),
        ("we O\n \t \neat O\n", {}, [[("we", "O")], [("eat", "O")]]),
        ("10 000\tNUM\n", {}, [[("10\u00a0000", "NUM")]]),
        (GERMEVAL, {"tag_column": 3}, [[("Rom", "B-LOC"), ("ist", "O")], [("Da", "O")]]),
        ("1 CD O\n2 CD O\n\n4 CD O\n", {}, [[("1", "O"), ("2", "O")], [("4", "O")]]),
        (CONLLU, {"tag_column": 3}, [[("We", "we"), ("do", "do"), ("n't", "not")], [("Go", "go")]]),
    ],
)  # fmt: skip
def test_tagged_words_are_read(write, text, options, sentences):
    assert read_tagged(write("x.txt", text), **options) == sentences


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (f"{CONLL}a b c\n", {}, "line 6: 3 columns; expected 4, as in the first line"),
        (CONLL, {"tag_column": 5}, "line 1: there is no column 5 for the tag; expected 1 to 4"),
        (CONLL, {"labels": ("O", "B-ORG", "S-MISC")}, "line 5: the label 'I-PER' is not one of O, B-ORG"),
    ],
)
def test_other_tagged_files_are_an_error(write, text, options, message):
    with pytest.raises(DataError, match=message):
        read_tagged(write("x.txt", text), **options)


@pytest.mark.parametrize(("text", "sentences"), [(CONLL, ENTITIES), ("EU,\tB-ORG\n", [[("EU,", "B-ORG")]])])
def test_tagged_words_are_read_from_a_file_named_csv(write, text, sentences):
    assert read_tagged(write("x.csv", text)) == sentences


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json"])
def test_tagged_words_are_not_read_from_tables(write, name):
    with pytest.raises(DataError, match=f"{name}: expected a line for each word, .*CoNLL"):
        read_tagged(write(name, '{"tokens": ["a"], "tags": ["O"]}\n'))


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
