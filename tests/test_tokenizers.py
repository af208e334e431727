"""Tokenizers: trained, and applied in Python and in a graph."""

import pytest

from keras_attention.data import decode_ids, special_tokens_of, train_tokenizer
from keras_attention.data.tokenization import tokenizers
from keras_attention.data.tokenization.tokenizers import encode_texts, ids_to_pieces

TEXTS = ["We eat bread.", "They drink cold water!", "the boy eats the red apple", "Straße , ÜBER, naïve"] * 3
KINDS = ("sentencepiece", "bpe", "wordpiece", "words", "characters")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    if request.param == "wordpiece":
        pytest.importorskip("tensorflow")
    return request.param


def test_decoding_the_ids_of_a_text_returns_the_text(kind):
    tokenizer = train_tokenizer(TEXTS, kind, 97)
    for text in ("the boy eats", "the red apple"):
        assert decode_ids(tokenizer, encode_texts(tokenizer, [text])[0]) == text


def test_special_tokens_are_decoded_as_nothing(kind):
    tokenizer = train_tokenizer(TEXTS, kind, 97)
    special = special_tokens_of(tokenizer)
    assert len({special.pad, special.unknown, special.start, special.end}) == 4
    ids = encode_texts(tokenizer, ["the red apple"])[0]
    assert decode_ids(tokenizer, [special.start, *ids, special.end, special.pad]) == "the red apple"
    assert decode_ids(tokenizer, [special.start, special.end]) == ""


def test_a_lowercase_tokenizer_lowercases_texts(kind):
    tokenizer = train_tokenizer(TEXTS, kind, 97, lowercase=True)
    one, two = encode_texts(tokenizer, ["STRASSE We EAT Über", "strasse we eat über"])
    assert one == two


@pytest.mark.parametrize("kind_with_accents", [name for name in KINDS if name != "wordpiece"])
def test_a_lowercase_tokenizer_keeps_the_german_s(kind_with_accents):
    tokenizer = train_tokenizer(TEXTS, kind_with_accents, 97, lowercase=True)
    assert decode_ids(tokenizer, encode_texts(tokenizer, ["Straße"])[0]) == "straße"


def test_graph_and_python_give_the_same_ids(kind):
    tf = pytest.importorskip("tensorflow")
    tokenizer = train_tokenizer(TEXTS, kind, 97, lowercase=True)
    texts = [*TEXTS[:4], "", "  two  spaces ", "zzz unseen ж"]
    from keras_attention.serving.graph_text import GraphTokenizer

    in_graph = tf.function(GraphTokenizer(tokenizer).tokenize, autograph=False)(tf.constant(texts)).to_list()
    assert in_graph == encode_texts(tokenizer, texts)


def test_a_long_line_is_used_in_training(kind, monkeypatch):
    monkeypatch.setattr(tokenizers, "_MAX_LINE_LENGTH", 64)  # normally a quarter of a million characters
    tokenizer = train_tokenizer(["we eat", "they drink " * 50], kind, 60)
    assert special_tokens_of(tokenizer).unknown not in encode_texts(tokenizer, ["they drink"])[0]


def test_a_vocabulary_of_words_has_the_words_that_occur_twice():
    tokenizer = train_tokenizer(["The cat sat .", "the dog don't", "a cat don't sit ."], "words", lowercase=True)
    ids_of_words = [encode_texts(tokenizer, [word])[0] for word in ("cat", "THE", "don't", ".", "dog", "do")]
    assert all(len(ids) == 1 for ids in ids_of_words)
    unknown = special_tokens_of(tokenizer).unknown
    assert [ids == [unknown] for ids in ids_of_words] == [False] * 4 + [True] * 2


def test_a_character_tokenizer_preserves_spaces_and_line_breaks():
    tokenizer = train_tokenizer(["to be,\n  or not\tto be"], "characters")
    text = "be  to\n\n or\t,"
    assert decode_ids(tokenizer, encode_texts(tokenizer, [text])[0]) == text


def test_joined_pieces_are_the_text():
    tokenizer = train_tokenizer(TEXTS, "sentencepiece", 97)
    pieces = ids_to_pieces(tokenizer, encode_texts(tokenizer, ["We eat bread"])[0])
    assert "".join(pieces).replace("\u2581", " ").strip() == "We eat bread"


def test_training_is_deterministic():
    one, two = (train_tokenizer(TEXTS, "sentencepiece", 97) for _ in range(2))
    assert one.get_vocabulary() == two.get_vocabulary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a text"], "sentencpiece"), "`kind` is 'sentencpiece'; expected one of sentencepiece"),
        ((["", "  "], "bpe"), "every line is empty"),
        ((["abcdefghijklmnop"], "sentencepiece", 8), "`vocabulary_size` is 8; expected at least"),
    ],
)
def test_invalid_arguments_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(*arguments)


def test_a_text_over_a_mebibyte_is_used_in_training():
    """SentencePiece skips sentences over a mebibyte, so the text is split into lines."""
    book = "\n".join(f"we eat bread number {i}" for i in range(60_000))
    assert len(book) > 1 << 20
    assert train_tokenizer([book], "bpe", 97).vocabulary_size() == 97


SCRIPTS = {
    "spaces": "no\u00a0break, narrow\u202fone",
    "lines": "one\ntwo\n\nthree",
    "powers": "10³ m² ½",
    "full width": "ＡＢＣ！？",
    "decomposed": "cafe\u0301 e\u0323\u0302",
    "Thai": "น้ำ ภาษาไทย",
    "Persian": "می\u200cخواهم کتاب\u200cها",
    "Hindi": "क्\u200dष क्\u200cष नमस्ते",
    "emoji": "👨\u200d👩\u200d👧 👍🏽",
    "Hebrew": "שָׁלוֹם",
    "Korean": "한국어",
    "Japanese": "日本語 テスト",
    "Greek": "ΟΔΟΣ ὁδός",
    "German": "straße STRAẞE",
    "two spaces": "two  spaces",
}
# What a kind of tokenizer loses. Words and word pieces have one kind of space; word pieces lose control characters.
LOST = {
    "sentencepiece": {"two spaces"},
    "bpe": {"two spaces"},
    "characters": set(),
    "words": {"spaces", "lines", "two spaces"},
    "wordpiece": {"spaces", "lines", "full width", "Persian", "Hindi", "emoji", "Japanese", "two spaces"},
}


def test_a_round_trip_keeps_a_text(kind):
    tokenizer = train_tokenizer([*SCRIPTS.values()] * 2, kind, 400)
    lost = {name for name, text in SCRIPTS.items() if decode_ids(tokenizer, encode_texts(tokenizer, [text])[0]) != text}
    assert lost == LOST[kind]


def test_nfkc_is_a_choice():
    tokenizer = train_tokenizer(["10³ m²", "10 m\n2 3"] * 2, "bpe", 30, normalization="nfkc")
    assert decode_ids(tokenizer, encode_texts(tokenizer, ["10³\nm²"])[0]) == "103\nm2"
    with pytest.raises(ValueError, match="`normalization` is 'nfkc', but the kind 'characters' keeps the text"):
        train_tokenizer(["a"], "characters", normalization="nfkc")
    with pytest.raises(ValueError, match="expected one of identity, nfkc"):
        train_tokenizer(["a"], normalization="nfd")


def test_a_space_that_the_texts_lack_is_a_space():
    tokenizer = train_tokenizer(["we eat bread"] * 2, "sentencepiece", 30)
    texts = ["we\u00a0eat\u3000bread", "we\teat\tbread"]
    assert encode_texts(tokenizer, texts) == encode_texts(tokenizer, ["we eat bread"] * 2)
