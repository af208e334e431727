"""Special tokens: saved with a model, never generated, and removed from texts; unknown words that are copied."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.data.tokenization.special_tokens import (
    AddedToken,
    SpecialTokens,
    set_special_tokens,
    special_tokens_of,
)
from keras_attention.data.tokenization.tokenizers import decode_ids, encode_texts
from keras_attention.prediction.detokenizer import Detokenizer
from keras_attention.prediction.run_search import suppress_special

TEXTS = ["we eat red bread", "they drink water <mask>", "we <s> drink"] * 3


def graph_tokenizer(tokenizer):
    pytest.importorskip("tensorflow_text")
    from keras_attention.serving.graph_text import GraphTokenizer

    return GraphTokenizer(tokenizer)


def test_declared_tokens_are_saved_with_the_model(tmp_path):
    tokenizer = ka.data.train_tokenizer(["we eat <sep> bread"] * 2, "words")
    special = SpecialTokens(
        0, 1, 2, 3, mask=4, special_ids=(5,), added_tokens=(AddedToken("bread", lstrip=True),), vocabulary_size=6
    )
    model = ka.CausalLM.from_preset(
        "char_rnn", tokenizer=set_special_tokens(tokenizer, special), units=3, embedding_dim=2
    )
    model.save(tmp_path / "m.keras")
    assert special_tokens_of(keras.saving.load_model(tmp_path / "m.keras").tokenizer) == special


def test_a_word_of_the_texts_is_not_a_special_token():
    tokenizer = ka.data.train_tokenizer(["a [SEP] b <sep> [SEP] <sep>"] * 2, "words", 40)
    special = special_tokens_of(tokenizer)
    assert (special.pad, special.unknown, special.start, special.end, special.special_ids) == (
        0,
        1,
        2,
        3,
        (0, 1, 2, 3, 4),
    )


def test_other_tokenizers_are_recognized_by_their_attributes_before_their_names():
    class Tokenizer:
        cls_token_id, sep_token_id = 1, 2

        def get_vocabulary(self):
            return ["</s>", "[A]", "[B]", "[PAD]"]

    special = special_tokens_of(Tokenizer())
    assert (special.pad, special.unknown, special.start, special.end) == (3, 2, 1, 2)


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_a_search_suppresses_all_special_tokens_but_the_end(kind):
    tokenizer = ka.data.train_tokenizer(TEXTS, kind, 60)
    strategy = suppress_special(ka.Greedy(suppress_tokens=(7,)), tokenizer)
    assert sorted(np.array(strategy.suppress_tokens)) == [0, 1, 2, 4, 7]
    strategy = suppress_special(ka.Greedy(replace_unknown=True), tokenizer)
    assert sorted(np.array(strategy.suppress_tokens)) == [0, 2, 4]
    ids = encode_texts(tokenizer, ["we eat bread"])[0]
    assert decode_ids(tokenizer, [2, *ids[:1], 0, 1, *ids[1:], 4, 3]) == "we eat bread"


@pytest.fixture(scope="module")
def biased():
    """A translator whose output bias prefers special tokens, and the unknown token most of all."""
    tokenizer = ka.data.train_tokenizer(["we eat bread"] * 2, "words")
    model = ka.Translator.from_preset(
        "transformer_tiny", source_tokenizer=tokenizer, target_tokenizer=tokenizer, width=6, num_heads=3, num_layers=1,
        intermediate_dim=5, output_bias=True,
    )  # fmt: skip
    bias = np.zeros(tokenizer.vocabulary_size(), "float32")
    bias[[0, 1, 2, 4]] = 50.0, 60.0, 50.0, 50.0
    model.output_bias.set_weights([bias])
    return model


def test_no_special_token_is_generated(biased):
    (output,) = biased.translate(["we eat"], ka.Greedy(max_new_tokens=5, min_new_tokens=4))
    assert len(output.target_pieces) == 5
    assert not {"<pad>", "<unk>", "<s>", "<mask>"} & {*output.target_pieces}


def test_a_translator_replaces_unknown_words(biased):
    (output,) = biased.translate(["Zuzanna"], ka.Greedy(max_new_tokens=3, replace_unknown=True))
    assert output.target_pieces == ("<unk>",) * 3
    assert output.text == "Zuzanna"
    options = {f"{side}_tokenizer": biased.source_tokenizer for side in ("source", "target")}
    plain = ka.Translator.from_preset("rnn_seq2seq", units=4, **options)
    with pytest.raises(ValueError, match="this model has no attention"):
        plain.translate(["we"], ka.Greedy(replace_unknown=True))


COPIES = [  # kind, source, attended tokens, target pieces and None for the unknown token, text
    ("words", "we saw Zuzanna twice", [0, 2, 3], ["▁we", None, None], "we Zuzanna twice"),
    ("words", "Zuzanna eats", [0, 0, 1], [None, None, "▁bread"], "Zuzanna bread"),
    ("wordpiece", "bread, saw\nwe", [0], [None], "bread saw"),
]


@pytest.mark.parametrize(("kind", "source", "attended", "pieces", "text"), COPIES)
def test_an_attended_word_replaces_an_unknown_one(kind, source, attended, pieces, text):
    tokenizer = ka.data.train_tokenizer(["we eat bread", "we eat bread"], kind, 60)
    ids = np.array([[1 if piece is None else tokenizer.token_to_id(piece) for piece in pieces] + [0]])
    if kind == "wordpiece":  # the first token of the second word, and the pieces of a word
        attended = [0, len(encode_texts(tokenizer, ["bread,"])[0])]
        first, *others = encode_texts(tokenizer, ["bread"])[0]
        ids = np.array([[first, *others, 1, 0]])
        attended = [0] * (1 + len(others)) + attended[1:]
    positions, mask = np.array([[*attended, 0]]), ids > 0
    for detokenizer in (Detokenizer(tokenizer), graph_tokenizer(tokenizer)):
        words = detokenizer.words_at([source], positions)
        (result,) = np.asarray(detokenizer.copy_words(ids, mask, words)).tolist()
        assert (result.decode() if isinstance(result, bytes) else result) == text
