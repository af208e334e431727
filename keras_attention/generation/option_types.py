"""Check the types of the options of a strategy."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any


def check_types(strategy: Any) -> None:
    """Check that each option of a strategy has the type of its default; `max_new_tokens` may be None.

    Args:
        strategy: a dataclass with options that are integers, numbers, booleans, and the tuples `suppress_tokens` and
            `stop`.

    Raises:
        TypeError: an option has another type; a compiled search would round 1.5 to 1.
        ValueError: a token id is negative.

    Example:
        >>> check_types(ka.Greedy(max_new_tokens=5, stop=["."]))
    """
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if isinstance(field.default, tuple):
            _check_items(field.name, value)
        elif not isinstance(field.default, bool) and value is not field.default:
            kind, expected = (
                (numbers.Real, "a number") if isinstance(field.default, float) else (numbers.Integral, "an integer")
            )
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"`{field.name}` is {value!r}; expected {expected}.")


def _check_items(name: str, values: Any) -> None:
    kind, expected = (str, "strings") if name == "stop" else (numbers.Integral, "token ids, which are integers")
    if isinstance(values, str):
        raise TypeError(f"`{name}` is the string {values!r}; expected a list of {expected}, such as [{values!r}].")
    if not isinstance(values, Iterable) or not all(isinstance(value, kind) for value in values):
        raise TypeError(f"`{name}` is {values!r}; expected a list of {expected}.")
    if kind is not str and any(value < 0 for value in values):
        raise ValueError(f"`{name}` is {values!r}; expected token ids, 0 or more.")


def check_strategy(strategy: Any, default: type) -> Any:
    """Return a strategy; `default()` if it is None.

    Args:
        strategy: an object of a subclass of `Strategy`, or None.
        default: the class of the default strategy.

    Raises:
        TypeError: `strategy` is something else, such as a class or a name.

    Example:
        >>> check_strategy(None, ka.Greedy) == ka.Greedy()
        True
    """
    from keras_attention.generation.strategies import Strategy

    if strategy is not None and not isinstance(strategy, Strategy):
        shown = strategy.__name__ if isinstance(strategy, type) else repr(strategy)
        raise TypeError(f"`strategy` is {shown}; expected an object, such as ka.{default.__name__}().")
    return default() if strategy is None else strategy
