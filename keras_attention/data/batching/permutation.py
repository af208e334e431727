"""Texts to batches with random factorization orders, for a permutation language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import require
from keras_attention.data.batches import LengthBatches, length_multiple, text_model_inputs
from keras_attention.data.batching.masking import pack_texts

MAX_SPAN = 5


def permutation_batches(
    texts: Sequence[str],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
    targets_every: int = 6,
) -> LengthBatches:
    """Make batches of texts for `PermutationLM.fit`, with different targets and orders in each epoch.

    A sequence is a part of the stream of all texts, with an end token after each text. It ends with the token that the
    template puts after the end token (XLNet's `<cls>`). One in `targets_every` text tokens is a target; targets form
    spans. The other tokens come first in the order, and all tokens may attend to them. Targets follow in a random
    order; each is predicted from the tokens before it in that order.

    Args:
        texts: strings; empty texts are skipped.
        model: has `text_reader` and `config`.
        max_tokens: maximum number of tokens in a batch, including padding.
        shuffle: see `LengthBatches`. If False, targets and orders are the same in each epoch.
        seed: the seed of targets and orders.
        targets_every: one in this number of text tokens is a target.

    Returns:
        batches of ({`token_ids` (B, S), `padding_mask` (B, S), `permutation_mask` (B, S, S) bool, `target_mapping`
        (B, P, S) float32, and `segment_ids` (B, S) if the model has segments}, labels (B, P), weights (B, P)), with
        P = S / targets_every, rounded up. Weights are 0 after the last target of a sequence.

    Raises:
        ValueError: there are no texts, or `targets_every` is below 2.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> model = ka.PermutationLM.from_preset(
        ...     "xlnet_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1, max_length=12)
        >>> inputs, labels, weights = ka.data.permutation_batches(["we eat", "we drink"], model)[0]
        >>> inputs["target_mapping"].shape[:2] == labels.shape
        True

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, sections 2.2 (partial prediction), 2.3 and A.4
    (spans).
    """
    require(targets_every >= 2, "targets_every", targets_every, "2 or more")
    reader, special = model.text_reader, model.text_reader.special
    sequences = pack_texts(texts, reader)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        rng = np.random.default_rng([seed, batches.epoch if shuffle else 0, int(indices[0])])
        ids, mask = reader.pad([sequences[i] for i in indices], length_multiple(), extra)
        is_text = mask & ~np.isin(ids, (special.start, special.end, special.pad))
        is_target = np.stack([_draw_targets(each, rng, targets_every) for each in is_text])
        order_masks = [permutation_mask(*pair, rng) for pair in zip(is_target, is_text, strict=True)]
        mapping, positions, weights = map_targets(is_target, -(-ids.shape[1] // targets_every) + extra)
        inputs = {
            **text_model_inputs(model.config, ids, mask),
            "permutation_mask": np.stack(order_masks),
            "target_mapping": mapping,
        }
        return inputs, np.take_along_axis(ids, positions, axis=1), weights

    batches = LengthBatches([len(ids) for ids in sequences], collate, max_tokens, shuffle, seed)
    batches.set_example_indices(None, len(texts))
    return batches


def span_targets(length: int, rng: np.random.Generator, targets_every: int = 6) -> np.ndarray:
    """Choose one in `targets_every` tokens as targets, in spans of 1 to 5 tokens.

    A span of n tokens has a random position in a window of n `targets_every` tokens.

    Args:
        length: S, the number of tokens.
        rng: a random generator.
        targets_every: one in this number of tokens is a target.

    Returns:
        (S,) bool, with S / `targets_every` of them True, rounded up.

    Example:
        >>> int(span_targets(30, np.random.default_rng(0)).sum())
        5
    """
    goal, is_target, begin = -(-length // targets_every), np.zeros(length, bool), 0
    while (left := goal - int(is_target.sum())) > 0:
        span = min(int(rng.integers(1, MAX_SPAN + 1)), left)
        window = min(targets_every * span, length - begin)
        first = begin + int(rng.integers(window - span + 1))
        is_target[first : first + span] = True
        begin += window
    return is_target


def permutation_mask(is_target: np.ndarray, is_text: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a factorization order and return which token may attend to which.

    Text tokens that are not targets come first in the order and attend to one another. Targets, special tokens and
    padding follow in a random order; each attends to the tokens before it.

    Args:
        is_target: (S,) bool.
        is_text: (S,) bool, tokens that are neither padding nor special.
        rng: a random generator.

    Returns:
        (S, S) bool, True if the token of the row may attend to the token of the column.

    Example:
        >>> permutation_mask(np.array([True, False]), np.array([True, True]), np.random.default_rng(0)).tolist()
        [[False, True], [False, True]]
    """
    first = is_text & ~is_target
    rank = np.where(first, -1, rng.permutation(len(is_target)))
    return first[None, :] | (rank[:, None] > rank[None, :])


def map_targets(is_target: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of targets, one-hot and as indices.

    Args:
        is_target: (B, S) bool.
        count: P, at least the number of targets in a sequence.

    Returns:
        `target_mapping` (B, P, S) float32, one-hot; positions (B, P) int; and weights (B, P) float32, 1 for a target.
        After the last target of a sequence all three are 0.

    Example:
        >>> map_targets(np.array([[False, True, True]]), 2)[1].tolist()
        [[1, 2]]
    """
    mapping = np.zeros((len(is_target), count, is_target.shape[1]), "float32")
    for row, positions in zip(mapping, map(np.flatnonzero, is_target), strict=True):
        row[np.arange(len(positions)), positions] = 1.0
    return mapping, mapping.argmax(-1), mapping.max(-1)


def _draw_targets(is_text: np.ndarray, rng: np.random.Generator, targets_every: int) -> np.ndarray:
    """Return (S,) bool, the targets among the tokens that are text."""
    is_target = np.zeros(len(is_text), bool)
    is_target[is_text] = span_targets(int(is_text.sum()), rng, targets_every)
    return is_target
