"""The strategy of a search, the tokens that it never generates, and its stop strings."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_attention.data.special_tokens import special_tokens_of
from keras_attention.data.stop_strings import stop_table
from keras_attention.generation import Strategy
from keras_attention.generation.option_types import replace_options


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
    if strategy is not None and not isinstance(strategy, Strategy):
        shown = strategy.__name__ if isinstance(strategy, type) else repr(strategy)
        raise TypeError(f"`strategy` is {shown}; expected an object, such as ka.{default.__name__}().")
    return default() if strategy is None else strategy


def suppress_special(strategy: Strategy, tokenizer: Any) -> Strategy:
    """Return a strategy that also suppresses special tokens; see `SpecialTokens.suppress_tokens`.

    With `replace_unknown`, the unknown token is allowed, because `Translator.to_outputs` replaces it.
    """
    special = special_tokens_of(tokenizer)
    ids = [i for i in special.suppress_tokens if not (strategy.replace_unknown and i == special.unknown)]
    tokens = strategy.suppress_tokens  # a tensor in a compiled search, if there are some
    both = (*tokens, *ids) if isinstance(tokens, tuple) else ops.concatenate([tokens, np.array(ids, "int32")])
    return replace_options(strategy, {"suppress_tokens": both})


def stop_inputs(tokenizer: Any, vocabulary_size: int, strategy: Strategy) -> dict[str, np.ndarray]:
    """Return the `stop_table` of `decode`; an empty dict if the strategy has no stop strings."""
    return {"stop_table": stop_table(tokenizer, strategy.stop, vocabulary_size)} if strategy.stop else {}
