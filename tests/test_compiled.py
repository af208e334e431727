"""Compiled functions: when a function is traced, and which programs are kept."""

import itertools

import keras
import numpy as np
import pytest
from table_model import END, START, TableModel, every_text, log_probs_after, table, texts

import keras_attention as ka
from keras_attention.generation import CompiledFunction
from keras_attention.generation import compiled_function as compiled_module
from keras_attention.generation.search import SearchInputs, generate

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def compiled_function(function) -> CompiledFunction:
    """Compile a function for some model."""
    return CompiledFunction(keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)]), function)


class CompiledSearch:
    """A compiled search of texts of at most 3 tokens with a `TableModel`; `traces` counts its traces."""

    def __init__(self) -> None:
        self.model, self.traces = TableModel(table(5, 4)), 0
        self.function = compiled_function(self._run)

    def _run(self, _, inputs, strategy):
        self.traces += 1
        return generate(self.model, {"x": inputs["start_ids"]}, strategy, SearchInputs(**inputs), END)

    def __call__(self, strategy, seed: int = 7) -> list[tuple[int, ...]]:
        prefix = np.zeros((1, 3), "int32")
        inputs = {"start_ids": np.array([START]), "limits": np.array([3]), "seeds": np.array([seed])}
        inputs |= {"prefix_ids": prefix, "prefix_mask": prefix > 0}
        return texts(self.function(inputs, strategy=strategy))


@pytest.fixture(scope="module")
def compiled_search():
    return CompiledSearch()


def test_beam_searches_with_other_numbers_share_one_program(compiled_search):
    """A search has other numbers than those for which it was traced, and returns the text of a brute-force search."""
    before, every = compiled_search.traces, every_text(compiled_search.model, limit=3)
    for penalty, minimum, token, seed in itertools.product([0.3, 3.5], [0, 2], [2, 4], [0, 13]):
        options = {"min_new_tokens": minimum, "suppress_tokens": (token,), "seed": seed, "max_new_tokens": 11 + seed}
        strategy = ka.BeamSearch(num_beams=25, length_penalty=penalty, coverage_penalty=penalty, **options)
        allowed = [text for text in every if token not in text and END not in text[:minimum]]
        score = {text: every[text] / ((5 + len(text)) / 6) ** penalty for text in allowed}
        assert compiled_search(strategy) == [max(score, key=score.get)]
    assert compiled_search.traces == before + 1


def test_samplings_with_other_temperatures_share_one_program(compiled_search):
    (greedy,), before = compiled_search(ka.Greedy()), compiled_search.traces
    assert [compiled_search(ka.Sampling(temperature=0.01, top_p=p)) for p in (0.2, 0.9)] == [[greedy], [greedy]]
    assert len({compiled_search(ka.Sampling(temperature=1.0 + i))[0] for i in range(9)}) > 2
    assert compiled_search.traces == before + 1


def test_samplings_with_another_top_k_share_one_program(compiled_search):
    before = compiled_search.traces
    most_probable = np.argsort(-log_probs_after(compiled_search.model, ())).tolist()
    for k in (1, 2, 3):
        strategy = ka.Sampling(temperature=9.0, top_k=k)
        assert {compiled_search(strategy, seed)[0][0] for seed in range(31)} == set(most_probable[:k])
    assert compiled_search.traces == before + 1


def test_the_program_that_was_used_last_is_kept(monkeypatch):
    monkeypatch.setattr(compiled_module, "_MAX_PROGRAMS", 2)
    traces = []

    def run(_, inputs, n):
        traces.append(n)
        return {"y": inputs["x"] + n}

    function = compiled_function(run)
    for n in (3, 5, 3, 7, 3, 5):
        assert function({"x": np.array([11])}, n=n)["y"].tolist() == [11 + n]
    assert traces == [3, 5, 7, 5]
    assert len(function.programs) == 2


def test_tensorflow_traces_a_function_once_for_all_batch_sizes_and_lengths():
    traces = []

    def count(model, inputs):
        traces.append(inputs)
        return {"sum": keras.ops.sum(inputs["ids"], axis=-1)}

    function = compiled_function(count)
    for shape in [(2, 3), (2, 3), (5, 7), (1, 11)]:
        assert function({"ids": np.full(shape, 13)})["sum"].tolist() == [13 * shape[1]] * shape[0]
    assert len(traces) == (1 if ON_TENSORFLOW else 3)  # JAX: once for each shape


def test_a_function_of_a_model_that_runs_eagerly_is_not_compiled():
    values = []

    def triple(model, inputs):
        values.append(keras.ops.convert_to_numpy(inputs["x"]).tolist())  # fails for the tensor of a compiled function
        return {"y": inputs["x"] * 3}

    model = keras.Sequential([keras.Input((17,)), keras.layers.Dense(19)])
    model.compile(run_eagerly=True)
    function = CompiledFunction(model, triple)
    for number in (5, 7):
        assert function({"x": np.array([number])})["y"].tolist() == [3 * number]
    assert values == [[5], [7]]
