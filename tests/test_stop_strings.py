"""Stop strings: found token by token as in the decoded text, and removed from texts in Python and in a graph."""

import keras
import numpy as np
import pytest
from conftest import PAIRS

import keras_attention as ka
from keras_attention.data.tokenization.stop_strings import stop_table
from keras_attention.data.tokenization.tokenizer_rules import pieces_to_bytes
from keras_attention.data.tokenization.tokenizers import decode_ids
from keras_attention.prediction.detokenizer import Detokenizer

STOP = ("e", "we", " co", "an. c", "ñ")


def gpt2_tokenizer():
    """A byte-pair tokenizer with the 256 bytes, as GPT-2 writes them, and one pair."""
    import keras_hub

    names = [chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256))]
    names += [chr(256 + i) for i in range(256 - len(names))]
    vocabulary = {name: i for i, name in enumerate(["<|endoftext|>", *names, "\u0120c"])}
    return keras_hub.tokenizers.BytePairTokenizer(vocabulary, ["\u0120 c"], unsplittable_tokens=["<|endoftext|>"])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow trains WordPiece")
@pytest.mark.parametrize("kind", ["sentencepiece", "characters", "wordpiece", "gpt2"])
def test_a_stop_string_is_found_with_the_token_that_completes_it(kind):
    corpus = [text for pair in PAIRS for text in pair] + ["an. c"] * 3
    tokenizer = gpt2_tokenizer() if kind == "gpt2" else ka.data.train_tokenizer(corpus, kind, 61)
    size, found = tokenizer.vocabulary_size() + 5, 0  # a model may have more tokens
    plain = [i for i, piece in enumerate(pieces_to_bytes(tokenizer)) if piece.isascii() and piece.strip(b" ").isalpha()]
    rng, first = np.random.default_rng(3), plain[0]
    for stop in [STOP[:1], STOP[1:2], STOP[2:4], STOP]:
        table = stop_table(tokenizer, stop, size)
        for _ in range(7):
            ids, state = rng.choice([*plain, size - 1], 11).tolist(), 0
            for count in range(1, len(ids) + 1):
                state = table[state, ids[count - 1]]
                new = decode_ids(tokenizer, [first, *ids[:count]])[len(decode_ids(tokenizer, [first])) :]
                assert (state == len(table) - 1) == any(text in new for text in stop)
                found += state == len(table) - 1
    assert found > 10


def test_the_bytes_of_a_character_may_be_in_several_tokens():
    tokenizer = gpt2_tokenizer()
    table, (first, second) = stop_table(tokenizer, ("ñ",), 258), np.array(list("ñ".encode()))
    ids = [tokenizer.token_to_id(chr(byte)) for byte in (first, second)]
    assert table[table[0, ids[0]], ids[1]] == len(table) - 1


TEXTS = [source for source, _ in PAIRS[:5]]


def test_a_translation_ends_before_a_stop_string_that_is_not_in_its_prefix(translator):
    strategy = ka.Greedy(stop=("man", "ua"))
    cut = translator.translate(TEXTS, strategy)
    assert [t.text for t in cut] == ["comemos pan", "beben ag", "bebemos ag", "comen pan", "el niño come la "]
    assert 0 < len(cut[-1].target_pieces) < 13
    prefixes = ["agua come", "beben", "agua", "", "el niño come la manzana"]
    texts = [t.text for t in translator.translate(TEXTS, strategy, prefixes=prefixes)]
    assert all(text.startswith(prefix) for text, prefix in zip(texts, prefixes, strict=True))
    assert texts[1::2] == ["beben ag", "comen pan"]


@pytest.fixture
def hypotheses():
    """Texts, scores, lengths and pieces of four hypotheses for each of three inputs."""
    texts = np.array([["a", "b", "a", "c"], ["", "", "", ""], ["x", "x", "x", ""]], object)
    scores = np.array([[-1, -2, -3, -4], [0, 0, 0, 0], [-1, -2, -3, -4]], "float32")
    lengths = np.array([[5, 3, 7, 2], [0, 0, 0, 0], [1, 3, 2, 2]])
    pieces = np.array([[["p"], ["q"], ["r"], ["s"]], [[""]] * 4, [["t"], ["u"], ["v"], ["w"]]], object)
    return texts, scores, lengths, pieces


def test_texts_that_occur_twice_are_removed(hypotheses):
    kept = Detokenizer.without_duplicates(*hypotheses)
    assert kept[0].tolist() == [["a", "b", "c", ""], ["", "", "", ""], ["x", "", "", ""]]
    assert kept[1].tolist() == [[-1, -2, -4, -3e9], [0, 0, 0, 0], [-1, -4, -3e9, -3e9]]
    assert kept[2][:, :, 0].tolist() == [["p", "q", "s", ""], ["", "", "", ""], ["t", "w", "", ""]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of TensorFlow")
def test_the_graph_removes_the_same_texts(hypotheses):
    from keras_attention.serving.graph_text import GraphTokenizer

    texts, scores, lengths, pieces = hypotheses
    arrays = map(keras.ops.convert_to_tensor, (texts.astype(str), scores, lengths, pieces.astype(str)))
    kept, graph = Detokenizer.without_duplicates(*hypotheses), GraphTokenizer.without_duplicates(*arrays)
    for one, two, kind in zip(kept, graph, (str, "float32", str), strict=True):
        assert one.tolist() == two.numpy().astype(kind).tolist()


OPTIONS = {"repetition_penalty": 1.7, "min_new_tokens": 2, "stop": ("a", "we"), "suppress_tokens": (5,)}


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports")
def test_a_language_model_and_its_graph_return_the_same_texts_with_all_options(tokenizer):
    from keras_attention.serving.signatures import graph_task

    keras.utils.set_random_seed(3)
    sizes = {"width": 14, "num_heads": 7, "num_layers": 1, "max_length": 17}
    model = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes)
    prompts = ["we eat a", "", "the boy drinks cold milk and", "they"]
    strategy = ka.BeamSearch(num_beams=3, num_return_sequences=3, max_new_tokens=5, **OPTIONS)
    with pytest.warns(UserWarning, match="1 of 4 texts"):
        outputs = model.complete(prompts, strategy)
    for prompt, output in zip(prompts, outputs, strict=True):
        texts = [output.text, *(a.text for a in output.alternatives)]
        assert len(set(texts)) == len(texts) > 1
        assert not any("a" in text[len(prompt) :] or "we" in text[len(prompt) :] for text in texts)
    graph = graph_task(model, strategy).predict(keras.ops.convert_to_tensor(prompts))
    assert [t.decode() for t in graph["text"].numpy()] == [output.text for output in outputs]
    np.testing.assert_allclose(graph["score"], [output.score for output in outputs], atol=1e-4)
