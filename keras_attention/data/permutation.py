"""Texts to batches in random order: what a permutation language model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import LengthBatches, pad_rows, text_arrays
from keras_attention.data.masking import pack_texts
from keras_attention.data.tokenizers import special_ids

LONGEST_SPAN = 5


def permutation_batches(
    texts: Sequence[str],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
    targets_every: int = 6,
) -> LengthBatches:
    """Turn texts into batches for `PermutationLM.fit`, with other targets and orders in each epoch.

    Texts are packed one after the other, each ended by the end token, to rows of `config.max_length`, and each row is
    ended by what the model's template puts after an end token (XLNet's `<cls>`). Of the pieces that are text one of
    `targets_every` is a target, in spans; the others stand first in the order and can be seen by all. Targets are
    predicted in random order, each from what stands before it in that order.

    Args:
        texts: strings.
        model: has `tokenizer`, `config.max_length`, `config.num_segments` and `template`.
        max_tokens: the most tokens in a batch, padding included.
        shuffle: see `LengthBatches`. Without it targets and orders are the same each time.
        seed: where chance begins.
        targets_every: K, one of how many pieces is a target.

    Returns:
        batches of ({`token_ids` (B, S), `padding_mask` (B, S), `permutation_mask` (B, S, S) bool, `target_mapping`
        (B, P, S) float32, and `segment_ids` (B, S) where the model has them}, labels (B, P), weights (B, P)), with
        P = S / targets_every, rounded up; a row with fewer targets ends with some of weight 0.

    Raises:
        ValueError: no texts, or a targets_every below 2.

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, sections 2.2 (partial prediction), 2.3 and A.4
    (spans).
    """
    if targets_every < 2:
        raise ValueError(f"`targets_every` is {targets_every}; expected an integer, at least 2.")
    special, rows = special_ids(model.tokenizer), pack_texts(texts, model)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        chance = np.random.default_rng([seed, batches.epoch if shuffle else 0, int(indices[0])])
        ids, mask = pad_rows([rows[i] for i in indices], special.pad, extra)
        is_text = mask & ~np.isin(ids, (special.start, special.end, special.pad))
        chosen = np.stack([_choose(row, chance, targets_every) for row in is_text])
        seen = np.stack([permutation_mask(*pair, chance) for pair in zip(chosen, is_text, strict=True)])
        mapping, places, weights = map_targets(chosen, -(-ids.shape[1] // targets_every) + extra)
        inputs = {**text_arrays(model.config, ids, mask), "permutation_mask": seen, "target_mapping": mapping}
        return inputs, np.take_along_axis(ids, places, axis=1), weights

    batches = LengthBatches([len(row) for row in rows], collate, max_tokens, shuffle, seed)
    return batches


def span_targets(length: int, chance: np.random.Generator, targets_every: int = 6) -> np.ndarray:
    """Choose one of `targets_every` tokens as a target, in spans of 1 to 5 tokens.

    A span of n tokens is placed at random in a stretch of n `targets_every` tokens.

    Args:
        length: L, how many tokens there are.
        chance: a generator.
        targets_every: K.

    Returns:
        (L,) bool, with L / K of them True, rounded up.

    Example:
        >>> int(span_targets(30, np.random.default_rng(0)).sum())
        5
    """
    goal, chosen, begin = -(-length // targets_every), np.zeros(length, bool), 0
    while (left := goal - int(chosen.sum())) > 0:
        span = min(int(chance.integers(1, LONGEST_SPAN + 1)), left)
        stretch = min(targets_every * span, length - begin)
        first = begin + int(chance.integers(stretch - span + 1))
        chosen[first : first + span] = True
        begin += stretch
    return chosen


def permutation_mask(chosen: np.ndarray, is_text: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Draw an order and say who may look at whom in it.

    Text that is no target stands first, all at once, and sees itself. Targets, and what is no text, come after it one
    by one, and see what came before them.

    Args:
        chosen: (S,) bool, the targets.
        is_text: (S,) bool, tokens that are neither padding nor special.
        chance: a generator.

    Returns:
        (S, S) bool, True where the row's token may look at the column's.

    Example:
        >>> permutation_mask(np.array([True, False]), np.array([True, True]), np.random.default_rng(0)).tolist()
        [[False, True], [False, True]]
    """
    first = is_text & ~chosen
    rank = np.where(first, -1, chance.permutation(len(chosen)))
    return first[None, :] | (rank[:, None] > rank[None, :])


def map_targets(chosen: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say where the targets stand.

    Args:
        chosen: (B, S) bool.
        count: P, at least as many as a row has.

    Returns:
        `target_mapping` (B, P, S) float32, one-hot, all zero beyond a row's last target; places (B, P) int, 0
        there; and weights (B, P) float32, 0 there.

    Example:
        >>> map_targets(np.array([[False, True, True]]), 2)[1].tolist()
        [[1, 2]]
    """
    mapping = np.zeros((len(chosen), count, chosen.shape[1]), "float32")
    for row, places in zip(mapping, map(np.flatnonzero, chosen), strict=True):
        row[np.arange(len(places)), places] = 1.0
    return mapping, mapping.argmax(-1), mapping.max(-1)


def _choose(is_text: np.ndarray, chance: np.random.Generator, targets_every: int) -> np.ndarray:
    """Return (S,) bool, the targets among what is text."""
    chosen = np.zeros(len(is_text), bool)
    chosen[is_text] = span_targets(int(is_text.sum()), chance, targets_every)
    return chosen
