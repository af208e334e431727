"""What a search needs to know of a tokenizer: special tokens that it suppresses, and stop strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_attention.data.special_tokens import special_tokens_of
from keras_attention.data.stop_strings import stop_table
from keras_attention.generation import Strategy


def suppress_special(strategy: Strategy, tokenizer: Any) -> Strategy:
    """Return a strategy that also suppresses special tokens; see `SpecialTokens.suppress_tokens`.

    With `replace_unknown`, the unknown token is allowed, because `Translator.to_outputs` replaces it.
    """
    special = special_tokens_of(tokenizer)
    ids = [i for i in special.suppress_tokens if not (strategy.replace_unknown and i == special.unknown)]
    return strategy.suppressing(ids) if ids else strategy


def stop_inputs(tokenizer: Any, vocabulary_size: int, strategy: Strategy) -> dict[str, np.ndarray]:
    """Return the `stop_table` of `decode`; an empty dict if the strategy has no stop strings."""
    return {"stop_table": stop_table(tokenizer, strategy.stop, vocabulary_size)} if strategy.stop else {}
