"""Batches of examples of similar length, with padding and a token budget."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require_positive_integer


class LengthBatches(keras.utils.PyDataset):
    """Batches of examples of similar length, as a `PyDataset` for `fit` on TensorFlow and JAX.

    Examples are sorted by length, with equal lengths in random order, and split into batches of at most `max_tokens`.
    The batch with the longest examples comes first: if it does not fit into memory, training fails immediately. The
    other batches are in random order. The order depends only on the seed and the epoch, so a resumed run continues with
    the same batches.

    Args:
        lengths: (B,) or (B, 2), the length of each example in tokens. If an example has two lengths, such as source and
            target, the longer one counts.
        collate: function (indices of the examples, number of extra columns of padding) -> (inputs, labels, weights).
        max_tokens: maximum number of tokens in a batch, including padding. A longer example has its own batch.
        shuffle: make other batches in each epoch, in random order. If False, the batches are the same in each epoch, in
            the order of length.
        seed: the seed of the random order.

    Raises:
        ValueError: there are no examples, or `max_tokens` is below 1.

    Example:
        >>> batches = LengthBatches([3, 5, 3], lambda indices, extra: indices, max_tokens=8, shuffle=False)
        >>> [batches[i].tolist() for i in range(len(batches))]
        [[0, 2], [1]]
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
            raise ValueError("There are no examples to make batches of; expected at least one that is not empty.")
        self.lengths = round_up(np.asarray(lengths).reshape(len(lengths), -1), length_multiple())
        require_positive_integer("max_tokens", max_tokens)
        self.collate, self.max_tokens, self.shuffle, self.seed = collate, max_tokens, shuffle, seed
        self.epoch = 0
        self.example_indices: np.ndarray | None = np.arange(len(self.lengths))  # the example of each row
        self.num_examples = len(self.lengths)
        self._arrange()

    def _arrange(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch if self.shuffle else 0])
        ties = rng.permutation(len(self.lengths)) if self.shuffle else np.arange(len(self.lengths))
        coarse = round_up(self.lengths, 4)  # sort by the last column, then roughly by the first
        order = np.lexsort((ties, coarse[:, 0], self.lengths[:, -1]))
        cost = np.maximum(self.lengths[:, -1], coarse[:, 0])[order]
        batches, begin = [], 0
        for i in range(1, len(order) + 1):
            if i == len(order) or (i + 1 - begin) * cost[begin : i + 1].max() > self.max_tokens:
                batches.append(order[begin:i])
                begin = i
        if self.shuffle:
            middle = batches[:-1]
            batches = batches[-1:] + [middle[i] for i in rng.permutation(len(middle))]
        self.batches = batches

    @property
    def callbacks(self) -> tuple[keras.callbacks.Callback, ...]:
        """The callbacks that `fit` needs for these batches; here none."""
        return ()

    @property
    def mean_reward(self) -> float | None:
        """The mean reward of the last epoch; None for batches without rewards."""
        return None

    def for_fit(self) -> Any:
        """Return the argument for `fit`; here the batches themselves."""
        return self

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple:
        # Keras infers from the first two batches which sizes vary, so these two must have different lengths.
        batch = self.collate(self.batches[index], self._extra_padding() if index == 1 else 0)
        devices = _num_devices()
        return pad_rows(batch, devices) if devices > 1 else batch

    def _extra_padding(self) -> int:
        """Return a number of extra columns with which each length of the second batch differs from the first."""
        first, second = (self.lengths[self.batches[i]].max(0) for i in (0, 1))
        return next(extra for extra in itertools.count() if (second + extra != first).all())

    def set_example_indices(self, examples: Sequence[int] | None, count: int) -> None:
        """Set the index of each row's example; None if a row has several examples. The default is the row's index."""
        self.example_indices, self.num_examples = None if examples is None else np.asarray(examples, int), count

    def digest(self) -> str:
        """Return a digest of the lengths and of the first batch, which differs for other examples."""
        self.start_epoch(0)
        arrays = [self.lengths, *keras.tree.flatten(self[0])]
        return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

    def on_epoch_end(self) -> None:
        """Arrange the batches of the next epoch."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Arrange the batches of an epoch, counted from 0."""
        self.epoch = epoch
        if self.shuffle:
            self._arrange()


class RepeatedBatches(keras.utils.PyDataset):
    """Batches whose epoch is several passes over the examples, so that Keras validates less often.

    Args:
        batches: a `LengthBatches`; each pass has a different order.
        passes_per_epoch: n; pass i of epoch e is epoch n e + i of `batches`.
        epoch: the first epoch, counted from 0.

    Example:
        >>> batches = LengthBatches([3, 5, 3], lambda indices, extra: indices, max_tokens=8, shuffle=False)
        >>> repeated = RepeatedBatches(batches, passes_per_epoch=2)
        >>> [repeated[i].tolist() for i in range(len(repeated))]
        [[0, 2], [1], [0, 2], [1]]
    """

    def __init__(self, batches: Any, passes_per_epoch: int, epoch: int = 0) -> None:
        super().__init__()
        self.batches, self.passes_per_epoch, self.epoch = batches, passes_per_epoch, epoch
        self._arranged_pass: int | None = None  # the pass whose batches are arranged

    def __len__(self) -> int:
        return self.passes_per_epoch * len(self.batches)

    def __getitem__(self, index: int) -> tuple:
        pass_in_epoch, index = divmod(index, len(self.batches))  # each pass has the same number of batches
        current_pass = self.epoch * self.passes_per_epoch + pass_in_epoch
        if self._arranged_pass != current_pass:
            self.batches.start_epoch(current_pass)
            self._arranged_pass = current_pass
        return self.batches[index]

    def on_epoch_end(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1


def digest(examples: Any) -> str | None:
    """Return a digest of raw examples, or of the lengths and the first batch of batches; None for other data.

    Example:
        >>> digest([("we eat", "comemos")]) == digest([("we eat", "comemos")]), len(digest(["we eat"]))
        (True, 64)
    """
    if isinstance(examples, keras.utils.PyDataset):
        return examples.digest() if hasattr(examples, "digest") else None
    hashed = hashlib.sha256()
    for example in examples:
        hashed.update(repr(example).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def pad_rows(batch: tuple, multiple: int) -> tuple:
    """Add rows of padding with weight 0, so that the number of rows is a multiple, such as of the number of devices.

    Example:
        >>> inputs, labels, weights = pad_rows(({"token_ids": np.ones((3, 5))}, np.ones(3), np.ones(3)), 2)
        >>> weights.tolist(), inputs["token_ids"].shape
        ([1.0, 1.0, 1.0, 0.0], (4, 5))
    """
    rows = min(map(len, keras.tree.flatten(batch)))  # for a captioner, the images: each has several captions
    missing = -rows % multiple

    def pad(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, missing * (len(array) // rows)), *[(0, 0)] * (array.ndim - 1)])

    return keras.tree.map_structure(pad, batch) if missing else batch


def _num_devices() -> int:
    """Return the number of devices over which `keras.distribution` splits a batch."""
    distribution = keras.distribution.distribution()
    if distribution is None or distribution.batch_dim_name is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def length_multiple() -> int:
    """Return the multiple that lengths are rounded up to: 8 on JAX, which compiles once for each shape; else 1."""
    return 8 if keras.backend.backend() == "jax" else 1


def round_up(values: np.ndarray, step: int) -> np.ndarray:
    """Round integers up to multiples of `step`.

    Example:
        >>> round_up(np.array([3, 7]), 5).tolist()
        [5, 10]
    """
    return -(-values // step) * step


def text_model_inputs(config: Any, token_ids, mask, pair_mask=None) -> dict[str, Any]:
    """Return the inputs of a network for texts or pairs: token ids, padding mask and, if it has segments, segment ids.

    The tokens of the second text of a pair are in segment 1, XLNet's last token, `<cls>`, is in segment 2, and all
    others are in segment 0.

    Args:
        config: the config of a model; its `num_segments` and `template` are used.
        token_ids: (B, S) int, an array or a tensor.
        mask: (B, S) bool, of the same kind, True = a real token.
        pair_mask: (B, S) bool, of the same kind, True for the tokens after the start of the second text; None for texts
            without a pair.

    Returns:
        dict of `token_ids` (B, S), `padding_mask` (B, S) and, if `num_segments` is not 0, `segment_ids` (B, S) int.

    Example:
        >>> config = ka.config.TransformerConfig(num_segments=2)
        >>> inputs = text_model_inputs(config, np.array([[5, 7, 3]]), np.array([[True, True, True]]))
        >>> inputs["segment_ids"].tolist()
        [[0, 0, 0]]
    """
    inputs = {"token_ids": token_ids, "padding_mask": mask}
    num_segments = config.num_segments
    if not num_segments:
        return inputs
    segments = token_ids * 0
    if pair_mask is not None and num_segments > 1:
        segments = segments + _as_integers(pair_mask)
    if config.template == "end_start" and num_segments > 2:
        last = ops.logical_and(mask, ops.logical_not(ops.pad(mask[:, 1:], ((0, 0), (0, 1)))))
        last = _as_integers(np.asarray(last) if isinstance(token_ids, np.ndarray) else last)
        segments = segments * (1 - last) + 2 * last
    return {**inputs, "segment_ids": segments}


def _as_integers(mask):
    """Return a mask as int32, an array for an array and a tensor for a tensor."""
    return mask.astype("int32") if isinstance(mask, np.ndarray) else ops.cast(mask, "int32")


def shift_right(ids: np.ndarray, start: int) -> np.ndarray:
    """Shift (B, T) ids one step to the right, with the id `start` first.

    Example:
        >>> shift_right(np.array([[5, 7, 3]]), 2).tolist()
        [[2, 5, 7]]
    """
    return np.concatenate([np.full_like(ids[:, :1], start), ids[:, :-1]], axis=1)


def pad_ids(
    sequences: Sequence[Sequence[int]], pad: int, multiple: int = 1, extra: int = 0, min_length: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pad sequences of ids on the right to one length.

    Args:
        sequences: B lists of ids.
        pad: the id of padding.
        multiple: the common length is rounded up to a multiple of this, so that fewer shapes occur.
        extra: columns of padding that are added after rounding.
        min_length: the shortest common length before rounding.

    Returns:
        ids (B, T) int32 and mask (B, T) bool, True = a real token.

    Example:
        >>> pad_ids([[5, 7], [11]], pad=0)[0].tolist()
        [[5, 7], [11, 0]]
    """
    longest = max((min_length, *map(len, sequences)))
    length = -(-longest // multiple) * multiple + extra
    ids = np.full((len(sequences), length), pad, "int32")
    mask = np.zeros((len(sequences), length), bool)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = sequence
        mask[i, : len(sequence)] = True
    return ids, mask
