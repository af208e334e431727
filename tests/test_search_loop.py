"""What all strategies share on a table of probabilities: prompts, limits, end tokens and penalties of repetition."""

import keras
import numpy as np
import pytest
from table_model import END, START, TableModel, log_probs_after, logits_after, search, table, texts

import keras_attention as ka
from keras_attention.generation.top_tokens import top_tokens

NEVER_END = {"suppress_tokens": (END,)}
eager_loop = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts the steps of an eager loop")


def test_greedy_search_takes_the_most_probable_token():
    model, text = TableModel(table(7, 6)), ()
    while len(text) < 11 and END not in text:
        text += (int(log_probs_after(model, text).argmax()),)
    assert texts(search(model, ka.Greedy(), limits=(11,))) == [text]
    assert texts(search(model, ka.BeamSearch(num_beams=1), limits=(11,))) == [text]


def test_each_text_has_its_own_limit():
    found = search(TableModel(table(7, 6)), ka.Greedy(**NEVER_END), limits=(2, 7, 3))
    assert found["lengths"][:, 0].tolist() == [2, 7, 3]


def test_no_token_is_repeated_not_even_the_start_token():
    """Six tokens of 8 are possible: all but the start and the end token."""
    (text,) = texts(search(TableModel(table(8, 2)), ka.Greedy(no_repeat_ngram_size=1, **NEVER_END), limits=(6,)))
    assert sorted(text) == [2, 3, 4, 5, 6, 7]


def test_the_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones():
    model, penalty, prompt = TableModel(table(7, 10)), 1.9, (3, 5)
    model.log_probs += np.float32(1.5)  # some logits are positive
    text = prompt
    for _ in range(5):
        logits = logits_after(model, text)
        seen = sorted({START, *text})
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        logits[END] = -np.inf
        text += (int(logits.argmax()),)
    penalized = ka.Greedy(repetition_penalty=penalty, **NEVER_END)
    assert texts(search(model, penalized, limits=(7,), prefix=[prompt])) == [text]
    assert texts(search(model, ka.Greedy(**NEVER_END), limits=(7,), prefix=[prompt])) != [text]


@pytest.mark.parametrize(
    "strategy", [ka.Greedy(), ka.BeamSearch(num_beams=3), ka.Sampling(num_return_sequences=2)], ids=repr
)
def test_an_end_token_in_a_prefix_does_not_end_the_text(strategy):
    found = search(TableModel(table(5, 1)), strategy, limits=(7, 7), prefix=[(3, END, 2), ()])
    assert all(text[:3] == (3, END, 2) and len(text) > 3 for text in texts(found))
    assert all(text[-1] == END or len(text) == 7 for row in (0, 1) for text in texts(found, row))


def test_the_end_token_may_equal_the_start_token():
    rows = np.full((5, 5), 0.01)
    rows[[END, 2, 3], [2, 3, END]] = 1.0  # END -> 2 -> 3 -> END
    found = search(TableModel(rows), ka.Greedy(no_repeat_ngram_size=1), limits=(11,), start=END)
    assert texts(found) == [(2, 3, END)]


@eager_loop
def test_prompts_of_different_lengths_need_no_further_steps():
    """`start` reads prompts of 2 and 5 tokens; 3 steps continue both, each with its own random numbers."""
    model, prompts = TableModel(table(7, 3)), [(2, 3), (4, 5, 6, 2, 4)]
    strategy = ka.Sampling(min_new_tokens=3)
    found = search(model, strategy, limits=(5, 8), prefix=prompts, read=(2, 5))
    assert model.steps == 3
    for row, prompt in enumerate(prompts):
        (text,) = texts(found, row)
        assert text[:-3] == prompt
        limit = len(prompt) + 3
        assert texts(search(model, strategy, (limit,), [prompt], seeds=[row], read=(len(prompt),))) == [text]


class CountingModel(TableModel):
    """Records the number of texts in the batch of each step."""

    batch_sizes: tuple[int, ...] = ()

    def step(self, tokens, state):
        self.batch_sizes += (tokens.shape[0],)
        return super().step(tokens, state)


LIMITS = (3, 40, 16, 20, 32)
# 5 texts run for 16 steps, 4 places have the 3 longer ones, and the longest is alone after 32 steps.
BATCH_SIZES = (5,) * 16 + (4,) * 16 + (1,) * 8


@eager_loop
@pytest.mark.parametrize("strategy", [ka.Greedy(**NEVER_END), ka.BeamSearch(num_beams=3, **NEVER_END)], ids=repr)
def test_ended_texts_leave_the_batch(strategy):
    model = CountingModel(table(7, 6))
    found = search(model, strategy, LIMITS)
    assert model.batch_sizes == BATCH_SIZES
    for row, limit in enumerate(LIMITS):
        alone = search(model, strategy, (limit,))
        assert texts(found, row) == texts(alone)
        np.testing.assert_allclose(found["final_scores"][row], alone["final_scores"][0], rtol=1e-5)


@eager_loop
def test_the_attention_of_ended_texts_is_kept():
    model = CountingModel(table(7, 6), np.random.default_rng(4).random((7, 3)))
    strategy = ka.BeamSearch(num_beams=3, coverage_penalty=0.3, **NEVER_END)
    limits = (3,) * 30 + (20, 18, 19)  # more texts than steps
    found = search(model, strategy, limits)
    assert model.batch_sizes == (33,) * 16 + (4,) * 4
    for row, limit in list(enumerate(limits))[29:]:
        alone = search(model, strategy, (limit,))
        assert texts(found, row) == texts(alone)
        np.testing.assert_allclose(found["attention"][row, :, :limit], alone["attention"][0], rtol=1e-6)
        assert not found["attention"][row, :, limit:].any()


@pytest.mark.parametrize(("size", "count"), [(1000, 5), (1013, 5), (7, 3)])  # chunks, chunks with padding, no chunks
def test_the_top_tokens_are_those_of_a_sort_and_the_first_of_equal_ones(size, count):
    logits = np.random.default_rng(7).integers(0, 300, (3, size)).astype("float32") - 1e6
    logits[2] = -1e9
    values, tokens = map(keras.ops.convert_to_numpy, top_tokens(logits, count))
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert tokens.tolist() == order.tolist()
    assert values.tolist() == np.take_along_axis(logits, order, 1).tolist()
