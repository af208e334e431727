"""Checks of arguments that several modules share, and parts of error messages; each message exists once.

A function `require...` raises a ValueError with the name, the value and the expected values.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Collection, Iterable

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


def one_of(allowed: Iterable[object]) -> str:
    """Return the allowed values as the end of an error.

    Example:
        >>> one_of(["gru", "lstm"])
        'one of gru, lstm'
    """
    return f"one of {', '.join(map(str, allowed))}"


def did_you_mean(name: str, names: Collection[str], count: int = 1) -> str:
    """Return the most similar names, at most `count`, as the end of an error; "" if none is similar.

    Example:
        >>> did_you_mean("unit", ["dropout", "units"])
        ' Did you mean units?'
    """
    similar = difflib.get_close_matches(name, names, n=count)
    return f" Did you mean {' or '.join(similar)}?" if similar else ""


def require_positive_integer(name: str, value: int, otherwise: str = "") -> None:
    """Raise ValueError unless the value is a positive integer; `otherwise` says which other values are possible."""
    require(_is_integer(value) and value > 0, name, value, f"a positive integer{otherwise}")


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
    require(_is_integer(value) and value >= 0, name, value, "an integer, 0 or more")


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_even(name: str, value: int, otherwise: str = "") -> None:
    """Raise ValueError unless the value is even; `otherwise` says what else is possible.

    Example:
        >>> require_even("width", 7, " or learned positions")
        Traceback (most recent call last):
        ValueError: `width` is 7; expected an even number or learned positions.
    """
    require(value % 2 == 0, name, value, f"an even number{otherwise}")


def require_less_than_one(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number in [0, 1)."""
    require(0 <= value < 1, name, value, "a number in [0, 1)")


def require_fraction(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number in (0, 1]."""
    require(0 < value <= 1, name, value, "a number in (0, 1]")


def require_proper_fraction(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number in (0, 1)."""
    require(0 < value < 1, name, value, "a number in (0, 1)")


def require_seed(seed: int) -> None:
    """Raise ValueError unless the seed of a random generator has 32 bits."""
    require(0 <= seed < 2**32, "seed", seed, f"0 to {2**32 - 1}")


def require_one_of(name: str, value: object, allowed: Collection[str], otherwise: str = "") -> None:
    """Raise ValueError unless the value is one of the allowed ones; `otherwise` says which other values are possible.

    Example:
        >>> require_one_of("cell", "lstn", ["gru", "lstm"])
        Traceback (most recent call last):
        ValueError: `cell` is 'lstn'; expected one of gru, lstm. Did you mean lstm?
    """
    if value not in tuple(allowed):  # the value may have no hash
        similar = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"`{name}` is {value!r}; expected {one_of(allowed)}{otherwise}.{similar}")


def missing_method(instance: object, name: str) -> NotImplementedError:
    """Return the error of a method that every subclass must define.

    Example:
        >>> missing_method(object(), "step")
        NotImplementedError('object does not define `step`; expected a method. Define it in the class.')
    """
    return NotImplementedError(
        f"{type(instance).__name__} does not define `{name}`; expected a method. Define it in the class."
    )


def require_cell(cell: str) -> None:
    """Raise ValueError unless the value is the name of a recurrent cell."""
    require_one_of("cell", cell, CELLS)
