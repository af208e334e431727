"""Check and convert the options of a strategy."""

from __future__ import annotations

import copy
import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

MAX_INTEGER = 2**31 - 1  # A compiled search computes with int32.


def convert_options(strategy: Any) -> None:
    """Convert the options of a strategy to the types of their defaults, which JSON can store.

    Args:
        strategy: a dataclass with options that are integers, numbers, booleans, and the tuples `suppress_tokens` and
            `stop`; `max_new_tokens` may be None. Options of another type, which a subclass may have, stay as they are.

    Raises:
        TypeError: an option has another type; a compiled search would round 1.5 to 1.
        ValueError: a token id is negative, or an integer is too large.

    Example:
        >>> strategy = ka.Greedy(max_new_tokens=np.int64(5), stop=iter(["."]))
        >>> strategy.max_new_tokens, strategy.stop
        (5, ('.',))
    """
    for field in dataclasses.fields(strategy):
        value = _converted(field, getattr(strategy, field.name))
        object.__setattr__(strategy, field.name, value)


def _converted(field: dataclasses.Field, value: Any) -> Any:
    name, default = field.name, field.default
    if name in ("suppress_tokens", "stop"):
        return _items(name, value)
    if isinstance(default, bool):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"`{name}` is {value!r}; expected True or False.")
        return bool(value)
    is_integer = type(default) is int or name == "max_new_tokens"
    if value is default or not (is_integer or isinstance(default, float)):
        return value
    kind, expected = (numbers.Integral, "an integer") if is_integer else (numbers.Real, "a number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"`{name}` is {value!r}; expected {expected}.")
    if is_integer and name != "seed" and value > MAX_INTEGER:
        raise ValueError(f"`{name}` is {value}; expected at most {MAX_INTEGER}.")
    return int(value) if is_integer else float(value)


def _items(name: str, values: Any) -> tuple:
    kind, expected = (str, "strings") if name == "stop" else (numbers.Integral, "token ids, which are integers")
    if isinstance(values, str):
        raise TypeError(f"`{name}` is the string {values!r}; expected a list of {expected}, such as [{values!r}].")
    items = tuple(values) if isinstance(values, Iterable) else None
    if items is None or not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
        raise TypeError(f"`{name}` is {values!r}; expected a list of {expected}.")
    if kind is not str and not all(0 <= item <= MAX_INTEGER for item in items):
        raise ValueError(f"`{name}` is {items!r}; expected token ids, 0 to {MAX_INTEGER}.")
    return tuple(map(str if kind is str else int, items))


def is_number(value: Any, number: float) -> bool:
    """Return whether an option is this number, and not a tensor."""
    return isinstance(value, (int, float)) and value == number


def replace_options(strategy: Any, options: dict[str, Any]) -> Any:
    """Return a copy of a strategy with new values of options; they may be tensors, and are not checked.

    Example:
        >>> replace_options(ka.Sampling(), {"temperature": keras.ops.ones(())}).top_p
        1.0
    """
    strategy = copy.copy(strategy)
    for name, value in options.items():
        object.__setattr__(strategy, name, value)
    return strategy
