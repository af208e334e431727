"""Options of strategies: their types, their ranges, and strategies of a user."""

import dataclasses
import json
import math

import numpy as np
import pytest

import keras_attention as ka


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.BeamSearch(num_beams=0), "expected 1 <= num_return_sequences <= num_beams"),
        (lambda: ka.BeamSearch(num_beams=2, num_return_sequences=3), "expected 1 <= num_return_sequences <= num_beams"),
        (lambda: ka.BeamSearch(length_penalty=-1.0), "0 or more"),
        (lambda: ka.BeamSearch(length_penalty=math.nan), "`length_penalty` is nan"),
        (lambda: ka.Sampling(temperature=0.0), "`temperature` is 0.0"),
        (lambda: ka.Sampling(temperature=math.nan), "`temperature` is nan"),
        (lambda: ka.Sampling(top_p=0.0), "expected a number in"),
        (lambda: ka.Greedy(min_new_tokens=-1), "`min_new_tokens` is -1"),
        (lambda: ka.Sampling(seed=2**32), "`seed` is 4294967296; expected 0 to 4294967295"),
        (lambda: ka.Greedy(min_new_tokens=5, max_new_tokens=5), "more than 5 \\(`min_new_tokens`"),
    ],
)
def test_invalid_strategies_are_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ka.Greedy(min_new_tokens=1.5), TypeError, "`min_new_tokens` is 1.5; expected an integer"),
        (lambda: ka.Greedy(max_new_tokens="4"), TypeError, "`max_new_tokens` is '4'; expected an integer"),
        (lambda: ka.Sampling(top_k=True), TypeError, "`top_k` is True; expected an integer"),
        (lambda: ka.Sampling(temperature="0.7"), TypeError, "`temperature` is '0.7'; expected a number"),
        (lambda: ka.BeamSearch(num_beams=2.0), TypeError, "`num_beams` is 2.0; expected an integer"),
        (
            lambda: ka.Greedy(suppress_tokens=("e",)),
            TypeError,
            r"`suppress_tokens` is \('e',\); expected a list of token",
        ),
        (lambda: ka.Greedy(suppress_tokens=7), TypeError, "`suppress_tokens` is 7; expected a list of token ids"),
        (lambda: ka.Greedy(suppress_tokens=(-1,)), ValueError, "expected token ids, 0 to 2147483647"),
        (lambda: ka.Greedy(stop=(b"a",)), TypeError, "expected a list of strings"),
        (
            lambda: ka.Greedy(stop="."),
            TypeError,
            r"`stop` is the string '.'; expected a list of strings, such as \['.'\]",
        ),
    ],
)
def test_options_of_another_type_are_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
    ka.BeamSearch(
        num_beams=np.int64(2), length_penalty=np.float32(1), suppress_tokens=[np.int32(3)], max_new_tokens=None
    )


def test_options_become_python_values_that_json_can_hold():
    sampling = ka.Sampling(
        suppress_tokens=map(int, "57"), stop=iter(["."]), temperature=np.float32(0.5), top_k=np.int64(3),
        replace_unknown=np.True_,
    )  # fmt: skip
    values = json.loads(json.dumps(dataclasses.asdict(sampling)))
    assert (values["suppress_tokens"], values["stop"], values["temperature"], values["top_k"]) == (
        [5, 7],
        ["."],
        0.5,
        3,
    )
    assert values["replace_unknown"] is True


def test_a_subclass_of_a_strategy_has_options_of_any_type():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(ka.Greedy):
        mode: str = "a"
        weight: float | None = None

    assert (Mine(mode="b").mode, Mine(weight=0.5).weight) == ("b", 0.5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"replace_unknown": "no"}, TypeError),
        ({"suppress_tokens": [True]}, TypeError),
        ({"suppress_tokens": [2**40]}, ValueError),
        ({"min_new_tokens": 2**40}, ValueError),
        ({"temperature": math.inf}, ValueError),
    ],
)
def test_impossible_values_of_options_are_refused(options, error):
    with pytest.raises(error, match=f"`{next(iter(options))}` is"):
        ka.Sampling(**options)
