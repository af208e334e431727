"""Tagged words are read from CoNLL and CoNLL-U files, and each invalid file has one clear error."""

import pytest

from keras_attention.data import DataError, read_tagged

CONLLU = """# sent_id = 1
1\tWe\twe\tPRON\t_\t_\t_\t_\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t_\t_\t_\t_
3\tn't\tnot\tPART\t_\t_\t_\t_\t_\t_
3.1\tghost\t_\tX\t_\t_\t_\t_\t_\t_

1\tGo\tgo\tVERB\t_\t_\t_\t_\t_\t_
"""


def test_conllu_is_read(write):
    expected = [[("We", "PRON"), ("do", "AUX"), ("n't", "PART")], [("Go", "VERB")]]
    assert read_tagged(write("x.conllu", CONLLU)) == expected
    assert read_tagged(write("y.conllu", CONLLU + "\n# text = a\tb\n" + CONLLU)) == 2 * expected
    assert read_tagged(write("hash.tsv", "#\tSYM\n1\tNUM\n")) == [[("#", "SYM"), ("1", "NUM")]]
    assert read_tagged(write("x.tsv", "We\tPRON\ngo\tVERB\n\nGo\tVERB\n")) == [
        [("We", "PRON"), ("go", "VERB")],
        [("Go", "VERB")],
    ]


def test_a_hash_can_be_a_word(write):
    assert read_tagged(write("x.tsv", "# a comment\nwe\tPRON\n#win\tNOUN\n")) == [[("we", "PRON"), ("#win", "NOUN")]]


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
        ("nr wort tag\n1 we PRON\n2 eat VERB\n", {}, [[("we", "PRON"), ("eat", "VERB")]]),  # a header
        ("0 we PRON\n1 eat VERB\n\n0 go VERB\n", {}, [[("we", "PRON"), ("eat", "VERB")], [("go", "VERB")]]),
        ("1 we PRON\n2 eat VERB\n\n3 go VERB\n", {}, [[("we", "PRON"), ("eat", "VERB")], [("go", "VERB")]]),
        ("1 di ADP\n2-3 del _\n2 de ADP\n3 el DET\n", {}, [[("di", "ADP"), ("de", "ADP"), ("el", "DET")]]),
        ("chapter NN O\n1 CD O\n", {}, [[("chapter", "O"), ("1", "O")]]),
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
        (CONLL, {"labels": ("O", "B-ORG", "S-MISC")}, "line 5: the label is 'I-PER'; expected one of O, B-ORG"),
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
