"""Vectors of tokens from their neighbours in unlabelled text, compared with loops and a complete decomposition."""

import collections
import math

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.data.tokenization.token_vectors import token_vectors
from keras_attention.models.network.initial_embeddings import initialize_embeddings

EDGE = "edge"


def _ppmi_by_loops(sequences, size):
    counts = collections.Counter()
    for row in sequences:
        padded = [EDGE, *row, EDGE]
        for left, token, right in zip(padded, padded[1:], padded[2:], strict=False):
            counts.update([(token, ("left", left)), (token, ("right", right))])
    tokens, contexts, total = collections.Counter(), collections.Counter(), sum(counts.values())
    for (token, context), count in counts.items():
        tokens[token] += count
        contexts[context] += count
    columns = {context: i for i, context in enumerate(contexts)}
    matrix = np.zeros((size, len(columns)))
    for (token, context), count in counts.items():
        matrix[token, columns[context]] = max(math.log(count * total / (tokens[token] * contexts[context])), 0)
    return matrix


def test_vectors_are_the_largest_singular_vectors_of_ppmi():
    generator = np.random.default_rng(3)
    sequences = [generator.integers(2, 13, generator.integers(0, 8)).tolist() for _ in range(41)]
    left, singular, _ = np.linalg.svd(_ppmi_by_loops(sequences, 17))
    for dim in (3, 29):  # fewer and more than there are tokens
        expected = (left[:, :dim] * singular[:dim]) @ left[:, :dim].T  # equal for all signs of the vectors
        vectors = token_vectors(sequences, 17, dim)
        assert vectors.shape == (17, dim)
        np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-3)
    assert not vectors[[0, 1, 13, 16]].any()  # no text has these tokens


def test_no_texts_have_no_vectors():
    assert not token_vectors([[], []], 5, 3).any()


EXAMPLES = [[("we", "PRON"), ("eat", "VERB"), ("bread", "NOUN")], [("they", "PRON"), ("eat", "VERB")]]
TEXTS = ["we eat soup", "they eat soup", "they eat bread", "We drink soup", "they drink bread"]


def test_a_word_without_a_tag_starts_near_the_words_with_its_neighbours():
    tagger = ka.TextTagger.from_examples(EXAMPLES, unlabelled_texts=TEXTS, units=6, embedding_dim=11)
    ids = {word: tagger.tokenizer.token_to_id(f"▁{word}") for word in ("eat", "drink", "bread", "soup", "we")}
    assert len({*ids.values()}) == 5  # all are in the vocabulary
    embeddings = np.array(tagger.embedding.embeddings.numpy())
    lengths = np.linalg.norm(embeddings, axis=1)
    np.testing.assert_allclose(lengths[[*ids.values()]], 0.9 * math.sqrt(11), rtol=1e-5)
    assert lengths[tagger.tokenizer.token_to_id("<mask>")] < 0.5  # random: 0.02 sqrt(11)
    cosines = embeddings[ids["drink"]] @ embeddings.T / lengths
    assert max(("eat", "bread", "soup", "we"), key=lambda word: cosines[ids[word]]) == "eat"
    assert [tag.words for tag in tagger.tag(["We drink soup"])] == [("We", "drink", "soup")]


@pytest.mark.parametrize(
    ("task", "examples", "preset"),
    [
        (ka.Translator, [("a", "b")], None),
        (ka.TextClassifier, [("a", "b")], None),
        (ka.TextTagger, EXAMPLES, "bert_base"),
    ],
)
def test_other_networks_are_trained_on_text_by_their_own_task(task, examples, preset):
    with pytest.raises(
        ValueError, match=r"`unlabelled_texts` needs a recurrent TextTagger.* Train a MaskedLM or CausalLM"
    ):
        task.from_examples(examples, preset, unlabelled_texts=["a"])


@pytest.mark.parametrize("texts", ["we eat soup", (text for text in TEXTS), [3]])
def test_unlabelled_texts_are_a_list_of_strings(texts):
    with pytest.raises(TypeError, match=r"`unlabelled_texts` is .*; expected a list of strings"):
        ka.TextTagger.from_examples(EXAMPLES, unlabelled_texts=texts)


def test_initial_embeddings_keep_tokens_that_the_texts_do_not_have():
    tagger = ka.TextTagger.from_examples(EXAMPLES, units=6, embedding_dim=7)
    before = np.array(tagger.embedding.embeddings.numpy())
    initialize_embeddings(tagger, ["we eat"])
    changed = (before != np.array(tagger.embedding.embeddings.numpy())).any(axis=1)
    ids = [tagger.tokenizer.token_to_id(f"▁{word}") for word in ("we", "eat")]
    assert sorted(np.flatnonzero(changed)) == sorted(ids)
