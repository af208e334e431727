"""Text readers: ids for every special-token template, truncation on both sides, empty texts, and words."""

import dataclasses

import numpy as np
import pytest
from fake_tokenizer import END, GPT2, MARIAN, PLAIN, START, XLNET, FakeTokenizer

import keras_attention as ka
from keras_attention.data import TextReader, WordReader
from keras_attention.data.tokenization.text_reader import TEMPLATES
from keras_attention.data.tokenization.word_reader import EncodedWords, Window


@pytest.mark.parametrize(
    ("reader", "text", "pieces"),
    [
        (TextReader(PLAIN), "we eat", "we eat"),
        (TextReader.from_template(PLAIN, "none"), "we eat", "we eat"),
        (TextReader.from_template(PLAIN, "start"), "we eat", "<s> we eat"),
        (TextReader.from_template(PLAIN), "we eat", "we eat </s>"),
        (TextReader.from_template(PLAIN, "start_end"), "we eat", "<s> we eat </s>"),
        (TextReader.from_template(XLNET, "end_start"), "we eat", "we eat <sep> <cls>"),
        (TextReader.from_template(MARIAN, "start_end"), "we eat", "<pad> we eat </s>"),
        (TextReader.from_template(GPT2, "start_end"), "we eat", "<|endoftext|> we eat <|endoftext|>"),
        (TextReader.for_decoder(PLAIN), "we eat", "<s> we eat"),
        (TextReader.for_decoder(GPT2), "we eat", "we eat"),
        (TextReader.for_prompts(PLAIN, 7), "we eat", "<s> we eat"),
        (TextReader.for_prompts(PLAIN, 7), "", "<s>"),
        (TextReader.for_prompts(GPT2, 7), "we eat", "we eat"),
        (TextReader.for_prompts(GPT2, 7), "", "<|endoftext|>"),
        (TextReader.for_prompts(XLNET, 7, "end_start"), "we eat", "we eat"),
        (TextReader.for_prompts(XLNET, 7, "end_start"), " ", "<cls>"),
        (TextReader.for_prompts(MARIAN, 7), "we eat", "<pad> we eat"),
        (TextReader.from_template(PLAIN, "end"), "", "</s>"),
        (TextReader.from_template(PLAIN, "start_end"), "\n", "<s> </s>"),
        (TextReader.from_template(PLAIN, "none"), " ", ""),
        (TextReader.from_template(PLAIN, "end"), "we drink", "we <unk> </s>"),
    ],
)
def test_pieces_by_hand(reader, text, pieces):
    assert reader.ids([text, text]) == [reader.tokenizer.ids(pieces)] * 2


LONG = "we eat red apple and bread"


@pytest.mark.parametrize(
    ("reader", "limit", "pieces"),
    [
        (TextReader.from_template(PLAIN, "none", 2), 2, "we eat"),
        (TextReader.from_template(PLAIN, "end", 3), 2, "we eat </s>"),
        (TextReader.from_template(PLAIN, "start_end", 5), 3, "<s> we eat red </s>"),
        (TextReader.from_template(PLAIN, "start_end", 2), 0, "<s> </s>"),
        (TextReader.from_template(PLAIN, "start_end", 1), 0, "<s> </s>"),
        (TextReader.from_template(XLNET, "end_start", 5), 3, "we eat red <sep> <cls>"),
        (TextReader.for_decoder(PLAIN, 3), 2, "<s> we eat"),
        (TextReader.for_decoder(GPT2, 3), 3, "we eat red"),
        (TextReader.for_prompts(PLAIN, 3), 2, "<s> and bread"),
        (TextReader.for_prompts(GPT2, 3), 2, "and bread"),
        (TextReader.for_prompts(PLAIN, 1), 0, "<s>"),
        (TextReader.for_prompts(GPT2, 1), 0, "<|endoftext|>"),
        (TextReader(PLAIN, (START,), (END,), 5, "left"), 3, "<s> apple and bread </s>"),
    ],
)
def test_truncation_by_hand(reader, limit, pieces):
    assert reader.limit == limit
    with pytest.warns(UserWarning, match=f"Truncated 1 of 2 texts on the .* to {reader.max_length} token") as caught:
        assert reader.ids([LONG, ""])[0] == reader.tokenizer.ids(pieces)
    assert len(caught) == 1


@pytest.mark.filterwarnings("error")
def test_a_text_of_max_length_is_not_truncated():
    assert TextReader.from_template(PLAIN, "end", 7).ids([LONG]) == [PLAIN.ids(f"{LONG} </s>")]
    assert TextReader.from_template(PLAIN, "end").limit is None
    assert TextReader.from_template(PLAIN, "end").ids([]) == []


@pytest.mark.parametrize(
    ("text", "empty"), [("", True), (" \t\n\v\f\r", True), ("a", False), (" a\n", False), ("\u00a0", False)]
)
def test_a_text_of_ascii_white_space_is_empty(text, empty):
    assert TextReader.is_empty(text) == empty
    assert (WordReader.split(text) == []) == empty


def test_padding_and_shifting_by_hand():
    reader = TextReader.from_template(XLNET, "end")
    ids, mask = reader.arrays(["we eat", "bread"], multiple=4, extra=1)
    np.testing.assert_array_equal(ids, [*map(XLNET.ids, ("we eat <sep> <pad> <pad>", "bread <sep>" + " <pad>" * 3))])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    shifted = [*map(XLNET.ids, ("<cls> we eat <sep> <pad>", "<cls> bread <sep> <pad> <pad>"))]
    np.testing.assert_array_equal(reader.shift_right(ids), shifted)
    assert (ids.dtype, mask.dtype) == ("int32", bool)
    for rows, options, shape in (
        ([], {}, (0, 0)),
        ([[]], {}, (1, 0)),
        ([[]], {"min_length": 1, "multiple": 3}, (1, 3)),
    ):
        assert [x.shape for x in reader.pad(rows, **options)] == [shape, shape]


def test_a_reader_with_a_trained_tokenizer():
    tokenizer = ka.data.train_tokenizer(["we eat"], "characters")
    w, e, space, a, t = (tokenizer.token_to_id(piece) for piece in ("w", "e", "\u2581", "a", "t"))
    reader = TextReader.from_template(tokenizer, "start_end", 8)
    assert reader.ids(["we eat", "eat"]) == [[START, w, e, space, e, a, t, END], [START, e, a, t, END]]
    assert TextReader.for_prompts(tokenizer, 4).add_template([w, e, space, e]) == [START, e, space, e]


def test_words_by_hand():
    reader = WordReader(TextReader.from_template(PLAIN, "start_end"))
    assert reader.ids([["we", "eat", "red-apple", "and-bread"], [], ["-", "bread"]]) == [
        EncodedWords(PLAIN.ids("<s> we eat red apple and bread </s>"), [1, 2, 3, 5], []),
        EncodedWords(PLAIN.ids("<s> </s>"), [], []),
        EncodedWords(PLAIN.ids("<s> <unk> bread </s>"), [1, 2], []),  # a word without tokens becomes the unknown token
    ]


def test_a_long_sentence_is_truncated_after_a_whole_word():
    reader = WordReader(TextReader.from_template(PLAIN, "end", 4), TextReader(GPT2))
    with pytest.warns(UserWarning, match="Truncated 1 of 2 sentences on the right to 4 tokens"):
        long, short = reader.ids([["red-apple", "and-bread", "we"], ["we", "eat"]])
    assert (long.ids, long.starts) == (PLAIN.ids("red apple and </s>"), [0, 2])
    assert long.characters == [GPT2.ids("red apple"), GPT2.ids("and bread")]
    assert (short.ids, short.starts) == (PLAIN.ids("we eat </s>"), [0, 1])
    assert short.characters == [GPT2.ids("we"), GPT2.ids("eat")]


def test_windows_of_a_long_sentence_by_hand():
    """Windows of 8 tokens begin after 6 more; the first of the two tokens that they share is the earlier window's."""
    reader = WordReader(TextReader.from_template(PLAIN, "start_end", 10), TextReader(GPT2))
    words = ["we", "red-apple", *["eat"] * 4, "red-apple", *["bread"] * 4, "and"]
    characters = [GPT2.ids(word.replace("-", " ")) for word in words]
    starts = [1, 2, 4, 5, 6, 7, 8]
    first = EncodedWords(PLAIN.ids("<s> we red apple eat eat eat eat red </s>"), starts, characters[:7])
    second = EncodedWords(PLAIN.ids("<s> eat red apple bread bread bread bread and </s>"), starts, characters[5:])
    one_word = EncodedWords(PLAIN.ids("<s> eat </s>"), [1], [GPT2.ids("eat")])
    assert reader.ids([["eat"]]) == [one_word]
    assert reader.windows([["eat"], words, []]) == [
        Window(0, one_word, first=0, tagged=range(0, 1)),
        Window(1, first, first=0, tagged=range(0, 6)),
        Window(1, second, first=5, tagged=range(6, 12)),
        Window(2, EncodedWords(PLAIN.ids("<s> </s>"), [], []), first=0, tagged=range(0, 0)),
    ]


@pytest.mark.parametrize("max_length", [3, 4, 7, 13])
def test_windows_tag_each_word_once(max_length):
    rng = np.random.default_rng(max_length)
    reader = WordReader(TextReader.from_template(PLAIN, "start_end", max_length))
    sentences = [["-".join(["we"] * n) for n in rng.integers(1, 6, length)] for length in (0, 1, 2, 3, 29, 53)]
    windows = reader.windows(sentences)
    assert max(len(window.encoded.ids) for window in windows) <= max_length
    for number, words in enumerate(sentences):
        tagged = [word for window in windows if window.sentence == number for word in window.tagged]
        assert tagged == list(range(len(words)))
    for window in windows:
        assert {window.encoded.ids[start] for start in window.starts()} <= {*PLAIN.ids("we")}


def test_characters_are_at_the_first_token_of_each_word():
    reader = WordReader(TextReader.from_template(PLAIN, "end"), TextReader(XLNET, max_length=2))
    rows = reader.ids([["red-apple", "and-bread-we"], ["eat"], ["-"]])
    arrays = reader.arrays(rows, multiple=1, extra=1)
    expected = ("red apple and bread we </s> <pad>", "eat </s>" + " <pad>" * 5, "<unk> </s>" + " <pad>" * 5)
    np.testing.assert_array_equal(arrays["token_ids"], [*map(PLAIN.ids, expected)])
    np.testing.assert_array_equal(arrays["padding_mask"].sum(1), [6, 2, 2])
    words = {(0, 0): "red apple", (0, 2): "and bread", (1, 0): "eat", (2, 0): "<unk>"}  # the last word lost "we"
    ids, mask = arrays["character_ids"], arrays["character_mask"]
    assert {x.shape for x in (ids, mask)} == {(3, 7, 3)}
    starts = zip(*np.nonzero(mask.any(-1)), strict=True)
    assert {(int(i), int(j)): ids[i, j][mask[i, j]].tolist() for i, j in starts} == {
        position: XLNET.ids(pieces) for position, pieces in words.items()
    }


def test_a_batch_without_words_has_one_step_of_padding():
    reader = WordReader(TextReader(PLAIN), TextReader(PLAIN))
    arrays = reader.arrays(reader.ids([[], []]), multiple=1)
    assert {name: x.shape for name, x in arrays.items()} == {
        "token_ids": (2, 1),
        "padding_mask": (2, 1),
        "character_ids": (2, 1, 1),
        "character_mask": (2, 1, 1),
    }
    assert not arrays["padding_mask"].any()


def test_words_are_encoded_with_the_space_before_them():
    class BytePairTokenizer(FakeTokenizer):
        add_prefix_space, unsplittable_tokens = False, ()

        def tokenize(self, texts):
            return [[9 if text.startswith(" ") else 8] for text in texts]

    assert WordReader(TextReader(BytePairTokenizer("</s>"))).ids([["we", "eat"], ["we"]])[0].ids == [8, 9]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextReader(None), "lacks a tokenizer"),
        (lambda: TextReader(FakeTokenizer("<pad>")), "no end token"),
        (lambda: TextReader.from_template(PLAIN, "middle"), "`template` is 'middle'; expected one of none, start"),
        (lambda: TextReader(PLAIN, truncation_side="top"), "`truncation_side` is 'top'; expected one of right, left"),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_readers_are_immutable_and_support_every_template_of_a_config():
    assert TextReader.from_template(PLAIN, "end", 5) == TextReader(PLAIN, (), (END,), 5, between=(END,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        TextReader(PLAIN).max_length = 3
    assert set(ka.config.TASK_TEMPLATES) <= set(TEMPLATES)
