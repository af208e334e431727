"""Word alignment: which source token a target token translates, estimated from pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ITERATIONS = 8


def align_tokens(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate p(x | y), the probability that the target token y translates the source token x, with IBM Model 1.

    Each target token of a pair translates one source token of the pair, t(y | x) is the probability of the translation
    y of x, and all positions are equally probable. Each iteration of EM computes, over all pairs,

        count(x, y) = sum t(y | x) / sum_x' t(y | x'),    t(y | x) = count(x, y) / sum_y' count(x, y')

    from a uniform t. The result is p(x | y) = count(x, y) / sum_x' count(x', y).

    Args:
        sources: sequences of token ids, without special tokens.
        targets: sequences of token ids, the translations.

    Returns:
        x (n,), y (n,) and p(x | y) (n,) for all n combinations of tokens that occur in a pair.

    Example:
        >>> x, y, probabilities = align_tokens([[5, 7], [5]], [[6, 8], [6]])
        >>> [(int(i), int(j), round(float(p), 2)) for i, j, p in zip(x, y, probabilities)]
        [(5, 6, 0.95), (5, 8, 0.02), (7, 6, 0.05), (7, 8, 0.98)]

    Reference: Brown et al., 1993, https://aclanthology.org/J93-2003, section 4.1.
    """
    size = max((max(target, default=0) for target in targets), default=0) + 1
    pairs = [(np.asarray(s), np.asarray(t)) for s, t in zip(sources, targets, strict=True) if len(s) and len(t)]
    if not pairs:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    keys = np.concatenate([(t[:, None] + s * size).ravel() for s, t in pairs])
    widths = np.concatenate([np.full(len(t), len(s)) for s, t in pairs])  # number of keys of each target token
    rows = np.repeat(np.arange(len(widths)), widths)
    unique, inverse = np.unique(keys, return_inverse=True)
    x, y = np.divmod(unique, size)
    translation = np.ones(len(unique))
    for _ in range(_ITERATIONS):
        costs = translation[inverse]
        counts = np.bincount(inverse, costs / np.bincount(rows, costs)[rows])
        translation = counts / np.bincount(x, counts)[x]
    return x, y, counts / np.bincount(y, counts)[y]
