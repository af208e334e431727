"""Columns of tables are found by name or by number, and rows that cannot be read have an error or a warning."""

import pytest

from keras_attention.data import DataError, DataWarning, read_labelled, read_pairs, read_texts

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
# A first row, and the cells of the other rows.
HEADERS = {
    "a label in German": (read_labelled, "Satz;Kategorie", SENTENCES, LABELS),
    "stars": (read_labelled, "texto;valoración", SENTENCES, STARS),
    "one label for each star": (read_labelled, "texte;note", SENTENCES, NUMBERS),
}  # fmt: skip
EXAMPLES = {
    "Japanese and Chinese": (read_pairs, "私は学生です;我是学生", SENTENCES, SENTENCES),
    "a known label": (read_labelled, "Satz;gut", SENTENCES, LABELS),
    "a rare label": (read_labelled, "Satz;neutral", SENTENCES, [*LABELS[:11], "egal"]),
    "a rare number": (read_labelled, "Satz;6,5", SENTENCES, NUMBERS),
    "a long text": (read_labelled, f"{'a fine film ' * 4};neutral", SENTENCES, LABELS),
    "few rows": (read_labelled, "Satz;Kategorie", SENTENCES[:9], LABELS[:9]),
    "a short sentence": (read_pairs, "Hello!;Hallo!", SENTENCES, SENTENCES),
    "words": (read_pairs, "bread;Brot", [*SENTENCES, "tea"], [*SENTENCES, "Tee"]),
}  # fmt: skip


@pytest.mark.parametrize(("read", "first", "one", "two"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_first_row_like_the_others_is_an_example(write, read, first, one, two, recwarn):
    path = write("x.csv", "\n".join([first, *map(";".join, zip(one, two, strict=True))]))
    assert str(read(path)[0][0]) == first.split(";")[0]
    assert not len(recwarn)


@pytest.mark.parametrize(("read", "first", "one", "two"), HEADERS.values(), ids=HEADERS)
def test_a_header_with_unknown_names_is_not_an_example(write, read, first, one, two):
    path = write("x.csv", "\n".join([first, *map(";".join, zip(one, two, strict=True))]))
    columns = dict(zip(("text", "label"), first.split(";"), strict=True))
    shown = ",".join(map("=".join, columns.items()))
    with pytest.raises(DataError, match=f"line 1: .* may be a header.* `columns` to {shown}; if .* to .*=1,.*=2"):
        read(path)
    by_number = read(path, columns=dict(zip(columns, "12", strict=True)))
    assert len(by_number) == len(read(path, columns=columns)) + 1


def test_a_first_row_with_an_expected_label_is_an_example(write):
    rows = [("what a strange film", "ambiguous"), *zip(SENTENCES, LABELS, strict=True)]
    path = write("x.tsv", "\n".join(map("\t".join, rows)))
    assert read_labelled(path, labels=["ambiguous", "gut", "schlecht"]) == rows
    with pytest.raises(DataError, match="line 1: 'what a strange film, ambiguous' may be a header"):
        read_labelled(path, labels=["gut", "schlecht"])


def test_a_first_row_without_agreement_is_no_header(write):
    rows = [("what a strange film", "-"), *zip(SENTENCES, LABELS, strict=True)]
    with pytest.warns(UserWarning, match="skipped 1 row with the label -, .* line 1"):
        assert read_labelled(write("x.tsv", "\n".join(map("\t".join, rows)))) == rows[1:]


@pytest.mark.parametrize("first", [("Englisch", "Deutsch"), ("hello", "hola")])
def test_a_first_pair_that_may_be_a_header_is_read_with_a_warning(write, first):
    rows = [first, *zip(SENTENCES, SENTENCES, strict=True)]
    message = f"line 1: .* may be a header.* to source={first[0]},target={first[1]}; .* It is read as an example"
    with pytest.warns(DataWarning, match=message):
        assert read_pairs(write("x.tsv", "\n".join(map("\t".join, rows)))) == rows


def test_a_title_of_texts_is_an_example(write, recwarn):
    assert read_texts(write("x.tsv", "\n".join(["Introduction", *SENTENCES]))) == ["Introduction", *SENTENCES]
    assert not len(recwarn)


@pytest.mark.parametrize("first", ["Satz, kurz\tKategorie=x", "\tKategorie", "Satz\tsatz"])
def test_a_header_that_columns_cannot_name_is_to_be_renamed(write, first):
    rows = [*map("\t".join, zip(SENTENCES, LABELS, strict=True))]
    message = "If it is, rename its columns to text, label; if it is an example, set `columns` to text=1,label=2"
    with pytest.raises(DataError, match=message):
        read_labelled(write("x.tsv", "\n".join([first, *rows])))
    assert len(read_labelled(write("x.tsv", "\n".join(["text\tlabel", *rows])))) == 12


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
        (read_pairs, "x.csv", '"SEP=;"\nsource;target\na, b;c\n', None, [("a, b", "c")]),
        (read_labelled, "x.csv", "a,b\n", {"text": 1, "label": 2}, [("a", "b")]),
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
        (read_labelled, "x.csv", "text,label\na,5\nb,5.0\n", None, [("a", "5"), ("b", "5.0")]),  # two labels
        (
            read_labelled,
            "x.jsonl",
            '{"text": "a", "label": 5}\n{"text": "b", "label": 5.0}',
            None,
            [("a", "5"), ("b", "5.0")],
        ),
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
        (
            "x.csv",
            "\ntext,Text ,label\na,b,c\n",
            {},
            "line 2: several columns are called 'text' and 'Text '; expected one",
        ),
        ("x.csv", "a,b,b\n1,2,3\n", {"columns": {"text": "a", "label": "b"}}, "several columns are called 'b' and 'b'"),
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
        ("x.csv", "a,b\n", {"columns": {"text": "1", "label": "01"}}, "`columns` has one column for text and label"),
        ("x.csv", "A b\n", {"columns": {"text": "A b", "label": "a_b"}}, "`columns` has one column for text and label"),
        ("x.csv", "a,b\n", {"columns": {"text": "\u00b2", "label": "1"}}, "there is no column '\u00b2'"),
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
        (
            "x.csv",
            "a,pos\n\nb,ngt\n",
            {"labels": ("neg", "pos")},
            "line 3: the label is 'ngt'; expected one of neg, pos",
        ),
    ],
)
def test_other_tables_are_an_error(write, name, text, options, message):
    with pytest.raises(DataError, match=message):
        read_labelled(write(name, text), **options)


COLUMNS = {  # --columns -> the error
    "reviw": ({"text": "reviw", "label": "stars"}, "there is no column 'reviw'. Did you mean review?"),
    "7": ({"text": "1", "label": "7"}, "there is no column '7'; expected"),
}


@pytest.mark.parametrize(("columns", "message"), COLUMNS.values(), ids=COLUMNS)
def test_the_missing_column_is_named(columns, message, tmp_path):
    (tmp_path / "x.csv").write_text("id,review,stars\n1,fine,5\n")
    (tmp_path / "x.jsonl").write_text('{"id": 1, "review": "fine", "stars": "5"}\n')
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(DataError) as caught:
            read_labelled(tmp_path / name, columns)
        assert message in str(caught.value)


def test_columns_are_a_dict_in_python(write):
    """The string is that of the command line."""
    with pytest.raises(TypeError, match=r"`columns` is 'text=review,label=stars'; expected a dict, such as {'text': "):
        read_labelled(write("x.csv", "review,stars\nfine,5\n"), "text=review,label=stars")
