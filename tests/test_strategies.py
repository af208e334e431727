"""Options of strategies: their types, their ranges, and strategies of a user."""

import dataclasses
import json
import math

import numpy as np
import pytest

import keras_attention as ka
from keras_attention import BeamSearch, Greedy, Sampling

INTEGER, NUMBER, TOKENS = "expected an integer", "expected a number", "expected a list of token ids"
# fmt: off
WRONG_TYPES = [  # strategy, option, value, what the error says after "`option` is value; "
    (Greedy, "min_new_tokens", 1.5, INTEGER),
    (Greedy, "max_new_tokens", "4", INTEGER),
    (Sampling, "top_k", True, INTEGER),
    (BeamSearch, "num_beams", 2.0, INTEGER),
    (Sampling, "temperature", "0.7", NUMBER),
    (Sampling, "replace_unknown", "no", "expected True or False"),
    (Greedy, "suppress_tokens", ("e",), TOKENS),
    (Greedy, "suppress_tokens", 7, TOKENS),
    (Greedy, "suppress_tokens", [True], TOKENS),
    (Greedy, "stop", (b"a",), "expected a list of strings"),
]
WRONG_VALUES = [  # strategy, options, error
    (BeamSearch, {"num_beams": 0}, "expected 1 <= num_return_sequences <= num_beams"),
    (BeamSearch, {"num_beams": 2, "num_return_sequences": 3}, "expected 1 <= num_return_sequences <= num_beams"),
    (BeamSearch, {"length_penalty": -1.0}, "`length_penalty` is -1.0 .* expected finite numbers, 0 or more"),
    (BeamSearch, {"length_penalty": math.nan}, "`length_penalty` is nan"),
    (Sampling, {"temperature": 0.0}, "`temperature` is 0.0; expected a finite number over 0"),
    (Sampling, {"temperature": math.nan}, "`temperature` is nan"),
    (Sampling, {"temperature": math.inf}, "`temperature` is inf"),
    (Sampling, {"top_p": 0.0}, "`top_p` is 0.0; expected a number in"),
    (Sampling, {"seed": 2**32}, "`seed` is 4294967296; expected 0 to 4294967295"),
    (Greedy, {"min_new_tokens": -1}, "`min_new_tokens` is -1; expected 0 or more"),
    (Greedy, {"min_new_tokens": 2**40}, "`min_new_tokens` is 1099511627776; expected at most 2147483647"),
    (Greedy, {"min_new_tokens": 5, "max_new_tokens": 5}, r"`max_new_tokens` is 5; expected more than 5 \(`min_new_to"),
    (Greedy, {"suppress_tokens": (-1,)}, r"`suppress_tokens` is \(-1,\); expected token ids, 0 to 2147483647"),
    (Greedy, {"suppress_tokens": [2**40]}, r"`suppress_tokens` is \(1099511627776,\); expected token ids, 0 to 2147"),
]
# fmt: on


@pytest.mark.parametrize(("strategy", "option", "value", "expected"), WRONG_TYPES)
def test_an_option_of_another_type_is_an_error(strategy, option, value, expected):
    with pytest.raises(TypeError) as error:
        strategy(**{option: value})
    assert f"`{option}` is {value!r}; {expected}" in str(error.value)


def test_a_string_is_not_a_list_of_strings():
    with pytest.raises(TypeError, match=r"`stop` is the string '.'; expected a list of strings, such as \['.'\]"):
        Greedy(stop=".")


@pytest.mark.parametrize(("strategy", "options", "message"), WRONG_VALUES)
def test_an_option_outside_its_range_is_an_error(strategy, options, message):
    with pytest.raises(ValueError, match=message):
        strategy(**options)


def test_options_become_python_values_that_json_can_hold():
    options = {"temperature": np.float32(0.5), "top_k": np.int64(3), "replace_unknown": np.True_}
    sampling = ka.Sampling(suppress_tokens=map(int, "57"), stop=iter(["."]), max_new_tokens=None, **options)
    values = json.loads(json.dumps(dataclasses.asdict(sampling)))
    expected = {"suppress_tokens": [5, 7], "stop": ["."], "max_new_tokens": None}
    expected |= {"temperature": 0.5, "top_k": 3, "replace_unknown": True}
    assert {name: values[name] for name in expected} == expected


def test_a_subclass_of_a_strategy_has_options_of_any_type():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(ka.Greedy):
        mode: str = "a"
        weight: float | None = None

    assert (Mine(mode="b").mode, Mine(weight=0.5).weight) == ("b", 0.5)
