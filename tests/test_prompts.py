"""Prompts, prefixes and lengths of the texts that models write."""

import math
import warnings

import keras
import pytest

import keras_attention as ka
from keras_attention.data.tokenization.special_tokens import special_tokens_of


def test_constraints_that_allow_no_token_return_an_empty_text(translator):
    strategy = ka.Greedy(suppress_tokens=tuple(range(translator.config.target_vocabulary_size)), max_new_tokens=3)
    (output,) = translator.translate(["we eat bread"], strategy)
    assert (output.text, output.score) == ("", -math.inf)


def test_a_prefix_longer_than_max_new_tokens_is_not_truncated(translator):
    strategy = ka.Greedy(max_new_tokens=2)
    one, two = translator.translate(["we eat bread"] * 2, strategy, prefixes=["beben leche fría", ""])
    assert one.text.startswith("beben leche fría")
    assert len(two.target_pieces) == 2


def test_a_prefix_may_repeat_itself(translator):
    prefix = "beben beben leche leche beben"
    for strategy in (ka.Greedy(no_repeat_ngram_size=1), ka.BeamSearch(num_beams=3, no_repeat_ngram_size=1)):
        (output,) = translator.translate(["we eat bread"], strategy, prefixes=[prefix])
        assert output.text.startswith(prefix)


def test_outputs_are_not_longer_than_the_learned_positions(tokenizer):
    sizes = {
        "width": 12,
        "num_heads": 2,
        "num_layers": 1,
        "intermediate_dim": 13,
        "positions": "learned",
        "max_length": 7,
    }
    both = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
    model = ka.Translator.from_preset("transformer_tiny", **both, **sizes)
    never_end = (special_tokens_of(tokenizer).end,)
    for strategy, prefix in (
        (ka.Greedy(min_new_tokens=20, suppress_tokens=never_end), ""),
        (ka.Greedy(), "we eat bread " * 5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (output,) = model.translate(["we eat"], strategy, prefixes=[prefix])
        assert len(output.target_pieces) == 7


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports")
@pytest.mark.parametrize(
    ("kind", "begins_word", "line_break"),
    [
        ("sentencepiece", lambda piece: piece[:1] == "\u2581" != piece, "\t"),  # it keeps "\n", and the space after it
        ("wordpiece", str.isalpha, "\n"),
    ],
)
def test_a_space_at_the_end_of_a_prompt_is_not_doubled(kind, begins_word, line_break):
    from graph_export import InGraph

    tokenizer = ka.data.train_tokenizer(["we eat bread", "they drink milk"] * 9, kind, 31)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=7, embedding_dim=5, max_length=31)
    within = tuple(i for i, piece in enumerate(tokenizer.get_vocabulary()) if not begins_word(piece))
    strategy = ka.Greedy(max_new_tokens=3, suppress_tokens=within)  # only pieces that begin a word
    prompts = ["we ", "we eat ", "we", "", f"we{line_break}", "we\v"]
    texts_of_model = [output.text for output in model.complete(prompts, strategy)]
    assert all(text.startswith(prompt) for text, prompt in zip(texts_of_model, prompts, strict=True))
    assert not any("  " in text or "\n " in text for text in texts_of_model)
    assert all(" " in text[len(prompt) :] for text, prompt in zip(texts_of_model, prompts, strict=True))
    assert [output.text for output in InGraph(model, strategy).complete(prompts)] == texts_of_model


def test_a_long_prompt_is_continued_from_its_end():
    tokenizer = ka.data.train_tokenizer(["abcdefghij"], "characters")
    keras.utils.set_random_seed(3)
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=17, embedding_dim=13, max_length=8)
    prompts = ["abcdefghij", "jjjdefghij", "abcdefjjjj", "defghij"]
    with pytest.warns(UserWarning, match="Truncated 3 of 4 texts on the left to 8 tokens"):
        outputs = model.complete(prompts, ka.Greedy(max_new_tokens=5, suppress_tokens=(1, 2, 3)))
    same, again, other, last = ((a.text[len(a.prompt) :], a.score) for a in outputs)
    assert same == again
    assert same[0] == last[0]
    assert other[1] != same[1]
