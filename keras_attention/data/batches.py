"""Examples to batches: bucketed by length under a token budget, padded, shifted.

Every function returns a `keras.utils.PyDataset`, which `fit` takes on either backend, with or
without TensorFlow. The order is a function of the seed and the epoch alone, so that a run that
was interrupted sees the same data again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class LengthBatches(keras.utils.PyDataset):
    """Batches of examples of similar length.

    Examples are sorted by length, with ties in random order, and cut where a batch would exceed
    the token budget. The batches then come in random order, the longest first: what does not fit
    into memory fails at once.

    Args:
        lengths: (N,) or (N, 2), each example's length in tokens, the longer side deciding.
        collate: indices and a number of columns to pad beyond the longest -> one batch, a tuple
            (inputs, labels, weights).
        max_tokens: the most tokens in a batch, padding included; a longer example is a batch alone.
        shuffle: change order and composition each epoch; else the same short-to-long order.
        seed: where the order begins.

    Raises:
        ValueError: no examples, or a budget below 1.
    """

    def __init__(
        self,
        lengths: Sequence,
        collate: Callable[[np.ndarray, int], tuple],
        max_tokens: int = 4096,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not len(lengths):
            raise ValueError("There are no examples to make batches of.")
        self.lengths = round_up(np.asarray(lengths).reshape(len(lengths), -1), width_step())
        if max_tokens < 1:
            raise ValueError(f"`max_tokens` is {max_tokens}; expected a positive integer.")
        self.collate, self.max_tokens, self.shuffle, self.seed = collate, max_tokens, shuffle, seed
        self.epoch = 0
        self._arrange()

    def _arrange(self) -> None:
        chance = np.random.default_rng([self.seed, self.epoch if self.shuffle else 0])
        ties = chance.permutation(len(self.lengths)) if self.shuffle else np.arange(len(self.lengths))
        coarse = round_up(self.lengths, 4)  # the first column breaks ties of the last one roughly
        order = np.lexsort((ties, coarse[:, 0], self.lengths[:, -1]))
        cost = np.maximum(self.lengths[:, -1], coarse[:, 0])[order]
        batches, begin = [], 0
        for i in range(1, len(order) + 1):
            if i == len(order) or (i + 1 - begin) * cost[begin : i + 1].max() > self.max_tokens:
                batches.append(order[begin:i])
                begin = i
        if self.shuffle:
            middle = batches[:-1]
            batches = batches[-1:] + [middle[i] for i in chance.permutation(len(middle))]
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple:
        # Keras takes the shapes of the first two batches for those of all; columns of padding in the second say that
        # lengths vary.
        return self.collate(self.batches[index], self._columns_to_differ() if index == 1 else 0)

    def _columns_to_differ(self) -> int:
        """Return the fewest columns that make the second batch differ from the first on each side."""
        first, second = (self.lengths[self.batches[i]].max(0) for i in (0, 1))
        return next(extra for extra in itertools.count() if (second + extra != first).all())

    def on_epoch_end(self) -> None:
        """Do what the class says, after each epoch."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Arrange the batches as in the given epoch, counted from 0."""
        self.epoch = epoch
        if self.shuffle:
            self._arrange()


def width_step() -> int:
    """Return what widths are rounded up to: JAX compiles each shape anew, so there are few of them there."""
    return 8 if keras.backend.backend() == "jax" else 1


def round_up(values: np.ndarray, step: int) -> np.ndarray:
    """Round integers up to multiples of `step`."""
    return -(-values // step) * step


def pad_rows(rows: Sequence[Sequence[int]], pad: int, extra: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows of ids as the backend likes their widths; see `pad_ids`."""
    return pad_ids(rows, pad, multiple=width_step(), extra=extra)


def text_arrays(config: Any, token_ids, mask) -> dict[str, Any]:
    """Return the inputs of a network over one text: ids, padding, and segments where it has them.

    The text is all one segment; only XLNet's last token, its `<cls>`, is a segment of its own.

    Args:
        config: may have `num_segments` and `template`.
        token_ids: (B, S) int, an array or a tensor.
        mask: (B, S) bool, of the same kind.
    """
    inputs = {"token_ids": token_ids, "padding_mask": mask}
    kinds = getattr(config, "num_segments", 0)
    if not kinds:
        return inputs
    segments = token_ids * 0
    if config.template == "end_start" and kinds > 2:
        last = ops.logical_and(mask, ops.logical_not(ops.pad(mask[:, 1:], ((0, 0), (0, 1)))))
        last = ops.cast(last, "int32")
        segments = segments + 2 * (np.asarray(last) if isinstance(token_ids, np.ndarray) else last)
    return {**inputs, "segment_ids": segments}


def shift_right(ids: np.ndarray, start: int) -> np.ndarray:
    """Move (B, T) ids one step later and put `start` first.

    Example:
        >>> shift_right(np.array([[5, 7, 3]]), 2).tolist()
        [[2, 5, 7]]
    """
    return np.concatenate([np.full_like(ids[:, :1], start), ids[:, :-1]], axis=1)


def pad_ids(
    rows: Sequence[Sequence[int]], pad: int, multiple: int = 1, extra: int = 0, min_length: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows of ids on the right to one length.

    Args:
        rows: B lists of ids.
        pad: the id of padding.
        multiple: the common length is rounded up to a multiple of this, so that fewer shapes occur.
        extra: columns of padding beyond that.
        min_length: the least length, before it is rounded up.

    Returns:
        ids (B, T) int32 and mask (B, T) bool, True = a real token.

    Example:
        >>> pad_ids([[5, 7], [11]], pad=0)[0].tolist()
        [[5, 7], [11, 0]]
    """
    longest = max((min_length, *map(len, rows)))
    length = -(-longest // multiple) * multiple + extra
    ids = np.full((len(rows), length), pad, "int32")
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
