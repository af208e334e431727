"""Sampling follows the distribution of a table of probabilities, and its random numbers follow the seed."""

import math

import keras
import numpy as np
from table_model import TableModel, log_probs_after, search, table, texts

import keras_attention as ka
from keras_attention.generation.proposals import NEVER
from keras_attention.generation.random_numbers import uniform_numbers

MODEL = TableModel(table(7, 3))
FIRST = np.exp(log_probs_after(MODEL, ()))  # the probabilities of the first token
ORDER = np.argsort(-FIRST)


def first_tokens(strategy, count: int) -> list[int]:
    """Sample the first token with the seeds 0 to count - 1."""
    return search(MODEL, strategy, limits=(1,) * count)["tokens"][:, 0, 0].tolist()


def test_sampling_follows_the_distribution():
    """The standard deviation of a frequency is at most sqrt(0.25 / n)."""
    count = 4001
    frequencies = np.bincount(first_tokens(ka.Sampling(), count), minlength=7) / count
    assert np.abs(frequencies - FIRST).max() < 4 * math.sqrt(0.25 / count)


def test_top_k_samples_the_k_most_probable_tokens():
    assert set(first_tokens(ka.Sampling(top_k=2), 499)) == set(ORDER[:2].tolist())


def test_top_p_samples_the_fewest_tokens_whose_probabilities_sum_to_p():
    count = next(n for n in range(1, 8) if FIRST[ORDER[:n]].sum() >= 0.5)
    assert set(first_tokens(ka.Sampling(top_p=0.5), 499)) == set(ORDER[:count].tolist())


def test_a_low_temperature_samples_the_most_probable_token():
    assert set(first_tokens(ka.Sampling(temperature=0.01), 499)) == {ORDER[0]}


def test_a_temperature_divides_the_logits():
    """p^(1 / 2), normalized."""
    count, expected = 4001, np.sqrt(FIRST) / np.sqrt(FIRST).sum()
    frequencies = np.bincount(first_tokens(ka.Sampling(temperature=2.0), count), minlength=7) / count
    assert np.abs(frequencies - expected).max() < 4 * math.sqrt(0.25 / count)


def test_a_seed_returns_the_same_text_in_any_batch():
    seeds = [3, 5, 7, 11, 13]
    together = search(MODEL, ka.Sampling(), limits=(9,) * 5, seeds=seeds)
    alone = [texts(search(MODEL, ka.Sampling(), limits=(9,), seeds=[seed])) for seed in seeds]
    assert alone == [texts(together, row) for row in range(5)]
    assert len({text for (text,) in alone}) > 2


def test_the_seed_of_a_text_is_the_seed_plus_its_index_modulo_2_to_the_32():
    """In 32 bits with a sign, 2^32 - 1 is -1; the hash reads the same bits."""
    assert ka.Sampling(seed=2**31 - 2).seeds([0, 1, 2, 3]).tolist() == [2**31 - 2, 2**31 - 1, -(2**31), -(2**31) + 1]
    assert ka.Sampling(seed=2**32 - 2).seeds([0, 1, 2, 3]).tolist() == [-2, -1, 0, 1]


def test_uniform_numbers_equal_the_documented_hash():
    """The hash in Python's integers: every backend must return these numbers."""

    def mix(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    got = keras.ops.convert_to_numpy(uniform_numbers(np.array([0, 1, 12345, -1], "int32"), np.int32(7), 3))
    for row, seed in enumerate((0, 1, 12345, 2**32 - 1)):
        for beam in range(3):
            x = mix((seed * 0x9E3779B9 + 7 * 0x85EBCA6B) & 0xFFFFFFFF)
            x = mix((x + (beam + 1) * 0xC2B2AE35) & 0xFFFFFFFF)
            assert got[row, beam] == (x >> 8) / 2**24


def test_uniform_numbers_are_uniform():
    got = keras.ops.convert_to_numpy(uniform_numbers(np.arange(5000, dtype="int32"), np.int32(3), 2))
    counts = np.histogram(got, bins=10, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(got[:, 0], got[:, 1])[0, 1]) < 0.05


def test_a_high_temperature_samples_no_forbidden_token():
    """Tokens 2 to 5 are forbidden; at this temperature, the others are equally probable."""
    totals = np.array([[[-0.1, -2.0, *[NEVER] * 4]]] * 5, "float32")
    uniform = np.array([[0.0], [0.3], [0.6], [0.9], [0.999]], "float32")
    sampled = keras.ops.convert_to_numpy(ka.Sampling(temperature=1e9)._sample(totals, uniform))
    assert sampled[:, 0].tolist() == [0, 0, 1, 1, 1]
