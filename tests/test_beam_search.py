"""Beam search on a table of probabilities returns what a brute-force search over all texts returns."""

import itertools

import keras
import numpy as np
import pytest
from table_model import END, START, TableModel, assert_best, every_text, log_prob, search, table, texts

import keras_attention as ka

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
WIDE = 131  # more beams than unfinished texts, so that the search is exact: at most 4^3 of 5 tokens


def length_penalty(length: int, exponent: float) -> float:
    """((5 + |y|) / 6)^a, formula 14 of Wu et al., 2016."""
    return ((5 + length) / 6) ** exponent


# JAX compiles each search again, so one table is tested there.
@pytest.mark.parametrize("seed", [0, 1, 2] if ON_TENSORFLOW else [0])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_the_length_penalty_ranks_texts(seed, penalty):
    model = TableModel(table(5, seed))
    strategy = ka.BeamSearch(num_beams=WIDE, length_penalty=penalty, num_return_sequences=7)
    scores = {text: p / length_penalty(len(text), penalty) for text, p in every_text(model, limit=3).items()}
    assert_best(search(model, strategy, limits=(3,)), scores)


def test_the_coverage_penalty_ranks_texts():
    """The score contains 0.4 sum_i log min(sum_t attention[t, i], 1) over 3 source positions i."""
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=5).astype("float32")
    model = TableModel(table(5, 5), attention)

    def coverage(text):
        received = sum(attention[token] for token in (START, *text[:-1]))
        return np.log(np.clip(received, 1e-6, 1.0)).sum()

    strategy = ka.BeamSearch(num_beams=WIDE, length_penalty=0.6, coverage_penalty=0.4, num_return_sequences=7)
    scores = {
        text: p / length_penalty(len(text), 0.6) + 0.4 * coverage(text) for text, p in every_text(model, 4).items()
    }
    assert_best(search(model, strategy, limits=(4,)), scores)


def test_suppressed_tokens_repeated_bigrams_and_early_ends_are_excluded():
    model = TableModel(table(5, 9))

    def is_allowed(text):
        bigrams = list(itertools.pairwise((START, *text)))
        return 3 not in text and len(set(bigrams)) == len(bigrams) and END not in text[:2]

    constraints = {"suppress_tokens": (3,), "no_repeat_ngram_size": 2, "min_new_tokens": 2}
    strategy = ka.BeamSearch(num_beams=WIDE, length_penalty=0.0, num_return_sequences=7, **constraints)
    scores = {text: p for text, p in every_text(model, limit=5).items() if is_allowed(text)}
    assert_best(search(model, strategy, limits=(5,)), scores)


@pytest.mark.parametrize("prefix", [(), (2,)])
def test_a_text_ends_with_a_stop_string_that_is_not_in_its_prefix(prefix):
    stops = [(2, 3), (2, 4, 4)]
    # State 1 follows 2, state 2 follows 2 4, and state 3 is the end. A row has the next state for each token.
    stop_table = np.array([[0, 0, 1, 0, 0], [0, 0, 1, 3, 2], [0, 0, 1, 0, 3], [3, 3, 3, 3, 3]], "int32")
    model, limit = TableModel(table(5, 18)), 4
    strategy = ka.BeamSearch(num_beams=WIDE, length_penalty=0.0, num_return_sequences=7)
    found = search(model, strategy, (len(prefix) + limit,), prefix=[prefix], stop_table=stop_table)
    assert_best(found, every_text(model, limit, prefix, stops))
    assert any(text[-len(stop) :] == stop for text in texts(found) for stop in stops)


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_a_prefix_adds_neither_score_nor_length(penalty):
    model, prefix = TableModel(table(5, 4)), (3, 2)
    strategy = ka.BeamSearch(num_beams=WIDE, length_penalty=penalty, num_return_sequences=7)
    found = search(model, strategy, limits=(5, 5), prefix=[prefix, ()])
    continuations = every_text(model, 3, prefix)
    assert_best(found, {text: p / length_penalty(len(text) - 2, penalty) for text, p in continuations.items()})
    assert texts(found, row=1) == texts(search(model, strategy, limits=(5,)))


def test_nothing_is_added_to_the_score_of_a_finished_text():
    model = TableModel(table(5, 8))
    found = search(model, ka.BeamSearch(num_beams=5, length_penalty=0.0, num_return_sequences=5), limits=(11,))
    for text, score in zip(texts(found), found["final_scores"][0], strict=True):
        assert END not in text[:-1]
        np.testing.assert_allclose(score, log_prob(model, text), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="the body of an eager loop runs once per step")
def test_the_search_stops_when_no_unfinished_text_can_win():
    """The end token is nearly certain after one token, so that a limit of 61 tokens needs no 61 steps."""
    rows = np.full((5, 5), 1e-6)
    rows[START] = [1e-6, 1e-6, 0.5, 0.3, 0.2]
    rows[2:, END] = 1.0
    model = TableModel(rows / rows.sum(1, keepdims=True))
    assert texts(search(model, ka.BeamSearch(num_beams=3, length_penalty=1.0), limits=(61,))) == [(2, END)]
    assert 2 <= model.steps <= 4


def test_the_attention_of_a_text_is_that_of_its_own_tokens():
    """An unused step of a text has the attention 0."""
    attention = np.random.default_rng(3).dirichlet(np.ones(3), size=5).astype("float32")
    strategy = ka.BeamSearch(num_beams=5, num_return_sequences=5)
    found = search(TableModel(table(5, 1), attention), strategy, limits=(7,))
    for i, text in enumerate(texts(found)):
        expected = attention[[START, *text[:-1]]]
        np.testing.assert_allclose(found["attention"][0, i, : len(text)], expected, rtol=1e-5)
        assert not found["attention"][0, i, len(text) :].any()
