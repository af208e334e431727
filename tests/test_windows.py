"""Long sentences are tagged in windows: a tag for every word, the same in Python and in the graph of an export."""

import keras
import numpy as np
import pytest

import keras_attention as ka


@pytest.fixture(scope="module", params=["rnn_tagger", pytest.param("bert_base", marks=pytest.mark.slow)])
def tagger(request):
    characters, words = (ka.data.train_tokenizer(["we eat bread"] * 2, kind) for kind in ("characters", "words"))
    if request.param == "rnn_tagger":
        parts = {"tokenizer": words, "character_tokenizer": characters, "units": 6, "embedding_dim": 5}
    else:
        parts = {"tokenizer": characters, "width": 6, "num_heads": 2, "num_layers": 1, "intermediate_dim": 7}
    model = ka.TextTagger.from_preset(request.param, labels=("A", "B", "C"), max_length=11, **parts)
    for weight in model.trainable_weights:  # the other weights are the classes of characters, 0 or 1
        weight.assign(np.random.default_rng(7).normal(size=weight.shape))
    return model


TEXTS = ["we eat bread", "", " ".join(["we eat bread bread we"] * 7), "eat " * 41]


def test_every_word_has_a_tag(tagger):
    results = tagger.tag(TEXTS)
    assert [result.words for result in results] == [tuple(text.split()) for text in TEXTS]
    assert [len(result.tags) for result in results] == [3, 0, 35, 41]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph needs TensorFlow")
def test_the_graph_returns_the_same_tags(tagger):
    results = tagger.tag(TEXTS)
    tf = pytest.importorskip("tensorflow")
    from keras_attention.serving.signatures import graph_task

    outputs = {
        name: value.numpy()
        for name, value in tf.function(graph_task(tagger, None).predict, autograph=False)(tf.constant(TEXTS)).items()
    }
    for row, result in enumerate(results):
        for name in ("words", "tags"):
            assert [string.decode() for string in outputs[name][row] if string] == list(getattr(result, name))
        np.testing.assert_allclose(outputs["scores"][row][: len(result.tags)], result.scores, atol=1e-5)


def test_a_window_is_tagged_like_a_sentence_of_its_tokens(tagger):
    """The first words of a long sentence have the tags of a sentence with only the first window."""
    is_transformer = isinstance(tagger.config, ka.config.TransformerConfig)
    first = "eat " * (3 if is_transformer else 11)  # 11 tokens: start, 3 words of 3 characters, end; or 11 words
    alone, long = tagger.tag([first, "eat " * 41])
    np.testing.assert_allclose(alone.scores[:2], long.scores[:2], atol=1e-5)


def test_each_word_of_a_long_sentence_has_its_label_in_one_window(tagger):
    sentence = [(word, "ABC"[i % 3]) for i, word in enumerate(TEXTS[2].split())]
    batches = ka.data.tagging_batches([sentence], tagger, shuffle=False)
    weights = sum(batches[i][2].sum() for i in range(len(batches)))
    assert weights == 35
    split = ka.data.tagging_batches([[], sentence, [("we", "A")]], tagger, shuffle=False)
    assert sorted({*split.example_indices.tolist()}) == [1, 2]
    assert (split.example_indices == 1).sum() > 2
