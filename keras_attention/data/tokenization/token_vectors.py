"""A vector for each token of a vocabulary, from the tokens that are next to it in unlabelled text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CONTEXTS = 1000  # the most frequent tokens are one context each; all other tokens together are one context
# Extra dimensions and iterations of the randomized singular value decomposition
_EXTRA, _ITERATIONS = 10, 2


def token_vectors(sequences: Sequence[Sequence[int]], vocabulary_size: int, dim: int) -> np.ndarray:
    """Compute vectors of tokens, so that tokens with the same neighbours have similar vectors.

    A context c of a token x is its left or its right neighbour: one of the 1,000 most frequent tokens, another token,
    or the edge of the text. The vectors are the rows of U S^(1/2), from the largest singular values of the matrix

        PPMI(x, c) = max(log(p(x, c) / (p(x) p(c))), 0),    U S V^T ~ PPMI

    Args:
        sequences: sequences of token ids, one per text.
        vocabulary_size: V, the number of rows; ids are below it.
        dim: D, the number of columns.

    Returns:
        (V, D) float64, zero for a token that does not occur.

    Example:
        >>> vectors = token_vectors([[1, 2, 3], [1, 4, 3]], vocabulary_size=6, dim=2)  # 2 and 4 have equal neighbours
        >>> vectors.shape, bool(np.allclose(vectors[2], vectors[4])), float(np.abs(vectors[5]).sum())
        ((6, 2), True, 0.0)

    Reference: Schütze, 1995, https://aclanthology.org/E95-1020 (left and right neighbours); Levy and Goldberg, 2014,
    https://papers.nips.cc/paper/5477 (PPMI, U S^(1/2)); Halko et al., 2011, https://arxiv.org/abs/0909.4061 (the
    randomized decomposition).
    """
    tokens, contexts, values = _ppmi(sequences, vocabulary_size)
    columns = 2 * (_CONTEXTS + 2)
    rank = min(dim + _EXTRA, vocabulary_size, columns)
    basis = np.random.default_rng(0).normal(size=(columns, rank))
    for _ in range(_ITERATIONS):
        rows = np.linalg.qr(_product(tokens, contexts, values, basis, vocabulary_size))[0]
        basis = np.linalg.qr(_product(contexts, tokens, values, rows, columns))[0]
    left, singular, _ = np.linalg.svd(_product(tokens, contexts, values, basis, vocabulary_size), full_matrices=False)
    vectors = (left * np.sqrt(singular))[:, :dim]
    vectors[np.bincount(tokens, minlength=vocabulary_size) == 0] = 0.0
    return np.pad(vectors, [(0, 0), (0, dim - vectors.shape[1])])


def _ppmi(sequences: Sequence[Sequence[int]], vocabulary_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the token, the context and the value of each positive entry of PPMI."""
    edge = vocabulary_size
    ids = np.concatenate([[edge], *(part for sequence in sequences for part in (np.asarray(sequence, int), [edge]))])
    counts = np.bincount(ids, minlength=vocabulary_size + 1)[:vocabulary_size]
    column = np.full(vocabulary_size + 1, _CONTEXTS)  # of a neighbour
    frequent = np.argsort(-counts, kind="stable")[:_CONTEXTS]
    column[frequent], column[edge] = np.arange(len(frequent)), _CONTEXTS + 1
    at = np.flatnonzero(ids != edge)
    neighbours = np.concatenate([column[ids[at - 1]], column[ids[at + 1]] + _CONTEXTS + 2])
    keys, counts = np.unique(np.tile(ids[at], 2) * 2 * (_CONTEXTS + 2) + neighbours, return_counts=True)
    tokens, contexts = np.divmod(keys, 2 * (_CONTEXTS + 2))
    expected = np.bincount(tokens, counts)[tokens] * np.bincount(contexts, counts)[contexts] / max(counts.sum(), 1)
    values = np.log(counts / expected)
    positive = values > 0
    return tokens[positive], contexts[positive], values[positive]


def _product(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the product (size, n) of a sparse matrix and a dense one."""
    products = [np.bincount(rows, values * column[columns], size) for column in np.ascontiguousarray(matrix.T)]
    return np.stack(products, axis=1)
