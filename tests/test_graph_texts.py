"""The graph of an export reads and writes texts as Python does: white space, truncation, seeds, broken characters."""

import keras
import numpy as np
import pytest
from backends import arrays
from model_rows import MODELS, randomize

import keras_attention as ka

tf = pytest.importorskip("tensorflow")
from graph_export import InGraph  # noqa: E402

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")

TINY = {"width": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0}


def test_an_export_says_which_texts_it_truncates(recwarn):
    """Of 8 tokens, one is the end token; a pair has one more, and a prompt leaves room for new tokens."""
    tokenizer = ka.data.train_tokenizer(["abcdefghij"], "characters")
    classifier = ka.TextClassifier.from_preset(
        "bert_base", tokenizer=tokenizer, labels=("no", "yes"), template="end", max_length=8, **TINY
    )
    export, texts = InGraph(classifier), ["abcdefg", "abcdefgh", "", "a"]
    for name in ("serving_default", "embed"):
        outputs = export.loaded.signatures[name](text=np.array(texts))
        assert outputs["truncated"].numpy().tolist() == [False, True, False, False]
    pair = export.loaded.signatures["pair"](text=np.array(["abc", "abc", ""]), text_pair=np.array(["abc", "abcd", "a"]))
    assert pair["truncated"].numpy().tolist() == [False, True, False]
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Truncated 1 of 4 texts: the export reads at most 8 tokens"):
        export.classify(texts)
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, max_length=8, **TINY)
    prompts = np.array(["abcde", "abcdef"])  # the start token and two of three new tokens are read, too
    outputs = InGraph(lm, ka.Greedy(max_new_tokens=3)).loaded.signatures["serving_default"](text=prompts)
    assert outputs["truncated"].numpy().tolist() == [False, True]


def test_white_space_is_split_the_same_in_python_and_in_an_export(tokenizer):
    model = next(row for row in MODELS if row.predict_method == "tag").make(tokenizer)
    texts = ["we\u00a0eat bread", "\u3000", " we\teat\x0b bread ", "\t"]
    assert [a.words for a in model.tag(texts)] == [a.words for a in InGraph(model).tag(texts)]


@pytest.mark.slow
def test_an_exported_translator_samples_the_same_with_the_same_seed(translator):
    strategy = ka.Sampling(temperature=2.0, num_return_sequences=2, max_new_tokens=7)
    texts = ["we eat bread", "they drink water", "we eat bread"]
    in_python = translator.translate(
        texts, ka.Sampling(temperature=2.0, num_return_sequences=2, max_new_tokens=7, seed=5)
    )
    in_export = InGraph(translator, strategy).translate(texts, seed=5)
    assert [(a.text, a.alternatives[0].text) for a in in_python] == [
        (a.text, a.alternatives[0].text) for a in in_export
    ]
    assert len({a.text for a in in_python}) > 1


@pytest.mark.slow
def test_an_export_returns_one_output_per_input_in_extreme_cases():
    """Constraints that allow no token, ids that the tokenizer lacks, and a seed of 32 bits are not errors."""
    tokenizer = ka.data.train_tokenizer(["abcabc", "cba"], "characters")
    model = ka.CausalLM.from_preset(
        "char_rnn", tokenizer=tokenizer, vocabulary_size=37, units=8, embedding_dim=5, max_length=60
    )
    strategy = ka.BeamSearch(num_beams=2, max_new_tokens=59, min_new_tokens=50, no_repeat_ngram_size=1)
    texts = ["abc", "", "ca"]
    assert [c.text for c in InGraph(model, strategy).complete(texts)] == texts
    served = InGraph(model, ka.Sampling(max_new_tokens=13))
    for seed in (5, 2**31 + 5):
        in_python = model.complete(texts, ka.Sampling(max_new_tokens=13, seed=seed))
        assert [c.text for c in in_python] == [c.text for c in served.complete(texts, seed=seed)]


@pytest.mark.slow
def test_incomplete_characters_and_unknown_ids_are_decoded_as_in_python():
    """Outputs with incomplete UTF-8 characters, ids that the tokenizer lacks, and an empty best hypothesis."""
    import keras_hub

    names = [chr(i) for i in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    names += [chr(256 + i) for i in range(256 - len(names))]  # the 256 byte symbols of byte-pair encoding
    vocabulary = {name: i for i, name in enumerate(["<|endoftext|>", *names, "ab"])}
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(vocabulary, ["a b"], unsplittable_tokens=["<|endoftext|>"])
    keras.utils.set_random_seed(5)
    model = ka.Translator.from_preset(
        "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=5,
        target_vocabulary_size=len(vocabulary) + 67,
    )  # fmt: skip
    texts, strategy = ["we eat", " ", "bread"], ka.Sampling(max_new_tokens=11, num_return_sequences=2)
    served = InGraph(model, strategy)
    for one, two in zip(model.translate(texts, strategy), served.translate(texts), strict=True):
        assert (one.text, [a.text for a in one.alternatives]) == (two.text, [a.text for a in two.alternatives])
        count = max((i + 1 for i, piece in enumerate(one.target_pieces) if piece), default=0)
        assert one.target_pieces[:count] == two.target_pieces
        for scores in arrays(two.attention):  # an empty text has none
            np.testing.assert_allclose(one.attention[:count], scores, atol=1e-5)
    assert "\ufffd" in "".join(output.text for output in served.translate(texts))
    assert not served.compute_outputs([" "], np.zeros(1, "int32"))["alternative_scores"].any()


@pytest.mark.slow
def test_a_long_prompt_leaves_room_for_the_new_tokens(tokenizer):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 1, "max_length": 17}
    model = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes)
    randomize(model, 0.3)
    never_end = (ka.data.special_tokens_of(tokenizer).end,)
    strategy = ka.Greedy(max_new_tokens=11, suppress_tokens=never_end)
    tail = "b o y b o y"
    prompts = ["we eat bread " * 20 + tail, "they drink milk " * 2 + tail, "we", ""]
    served = InGraph(model, strategy)
    with pytest.warns(UserWarning, match="2 of 4 texts"):
        in_python = model.complete(prompts, strategy)
    assert [len(a.pieces) for a in in_python] == [11] * 4
    assert in_python[0].pieces == in_python[1].pieces  # both are read from their last 17 - 11 tokens
    assert [(a.text, a.pieces) for a in in_python] == [(a.text, a.pieces) for a in served.complete(prompts)]
    with pytest.warns(UserWarning, match="1 of 1 text "):
        assert len(model.complete(prompts[:1], ka.Greedy(min_new_tokens=13, suppress_tokens=never_end))[0].pieces) == 14
    for name, limit in (("max", 16), ("min", 15)):
        options = {f"{name}_new_tokens": limit + 1}
        message = (
            f"is {limit + 1}, but this model reads at most 17 tokens, including the prompt; expected at most {limit}"
        )
        with pytest.raises(ValueError, match=f"`{name}_new_tokens` {message}"):
            model.complete(["we"], ka.Greedy(**options))
