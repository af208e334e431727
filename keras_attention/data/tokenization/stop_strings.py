"""Find stop strings in a text that grows by one token at a time, with one look-up in a table for each token."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.data.tokenization.tokenizer_rules import pieces_to_bytes


@functools.lru_cache(maxsize=16)
def stop_table(tokenizer: Any, stop: tuple[str, ...], size: int) -> np.ndarray:
    """Return the states of a search for stop strings: `table[state, token]` is the state after the token.

    A state is the longest suffix of the text that is a prefix of a stop string: 0 for none. The last state is that of a
    text that contains a stop string; no token leaves it.

    Args:
        tokenizer: a KerasHub tokenizer.
        stop: strings, not empty.
        size: V, the number of tokens of the model; it may be larger than the tokenizer's vocabulary.

    Returns:
        (states, V) int32, with a state for each prefix of a stop string.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["abc"], "characters")
        >>> a, b = (tokenizer.token_to_id(piece) for piece in "ab")
        >>> table = stop_table(tokenizer, ("ab",), tokenizer.vocabulary_size())
        >>> [int(state) for state in (table[0, a], table[table[0, a], b], table[table[0, a], a])]
        [1, 2, 1]

    Reference: Aho and Corasick, 1975, https://doi.org/10.1145/360825.360855.
    """
    by_byte = _table_of_bytes([text.encode() for text in stop])
    pieces, special = pieces_to_bytes(tokenizer), special_tokens_of(tokenizer)
    pieces = [b"" if i in special.special_ids else piece for i, piece in enumerate(pieces)]
    table = np.tile(np.arange(len(by_byte), dtype="int32")[:, None], (1, size))
    for position in range(max(map(len, pieces), default=0)):
        tokens = np.array([i for i, piece in enumerate(pieces) if len(piece) > position])
        codes = np.array([pieces[i][position] for i in tokens])
        table[:, tokens] = by_byte[table[:, tokens], codes]
    return table


def _table_of_bytes(stop: Sequence[bytes]) -> np.ndarray:
    """Return the next state for each state and byte, (states, 256)."""
    states = sorted({text[:end] for text in stop for end in range(len(text))}, key=lambda text: (len(text), text))
    numbers = {state: number for number, state in enumerate(states)}
    contains_stop = len(states)
    table = np.full((contains_stop + 1, 256), contains_stop, "int32")
    for state, number in numbers.items():
        for byte in range(256):
            text = state + bytes([byte])
            if not text.endswith(tuple(stop)):
                table[number, byte] = next(numbers[text[i:]] for i in range(len(text) + 1) if text[i:] in numbers)
    return table
