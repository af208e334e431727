"""Checks of arguments that several modules share; each raises a ValueError with name, value and expected values.

Config, training, generation and models use them, so that each message exists once.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Collection

from keras_attention.choices import CELLS


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError if the condition is False.

    Example:
        >>> require(3 > 5, "units", 3, "more than 5")
        Traceback (most recent call last):
        ValueError: `units` is 3; expected more than 5.
    """
    if not condition:
        raise ValueError(f"`{name}` is {value!r}; expected {expected}.")


def did_you_mean(name: str, names: Collection[str]) -> str:
    """Return the most similar name as the end of an error; "" if none is similar.

    Example:
        >>> did_you_mean("unit", ["dropout", "units"])
        ' Did you mean units?'
    """
    similar = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {similar[0]}?" if similar else ""


def require_positive_integer(name: str, value: int, otherwise: str = "") -> None:
    """Raise ValueError unless the value is a positive integer; `otherwise` says which other values are possible."""
    require(isinstance(value, numbers.Integral) and value > 0, name, value, f"a positive integer{otherwise}")


def require_positive_integers(**values: int) -> None:
    """Raise ValueError unless each value is a positive integer; the keywords are the names of the arguments.

    Example:
        >>> require_positive_integers(units=7, num_layers=0)
        Traceback (most recent call last):
        ValueError: `num_layers` is 0; expected a positive integer.
    """
    for name, value in values.items():
        require_positive_integer(name, value)


def require_nonnegative_integer(name: str, value: int) -> None:
    """Raise ValueError unless the value is an integer, 0 or more."""
    require(isinstance(value, numbers.Integral) and value >= 0, name, value, "an integer, 0 or more")


def require_less_than_one(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number in [0, 1)."""
    require(0 <= value < 1, name, value, "a number in [0, 1)")


def require_fraction(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number in (0, 1]."""
    require(0 < value <= 1, name, value, "a number in (0, 1]")


def require_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError unless the value is one of the allowed ones."""
    require(value in allowed, name, value, f"one of {', '.join(map(str, allowed))}")


def require_cell(cell: str) -> None:
    """Raise ValueError unless the value is the name of a recurrent cell."""
    require_one_of("cell", cell, CELLS)
