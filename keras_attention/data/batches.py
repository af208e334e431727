"""Examples to batches: bucketed by length under a token budget, padded, shifted.

Every function returns a `keras.utils.PyDataset`, which `fit` takes on either backend, with or
without TensorFlow. The order is a function of the seed and the epoch alone, so that a run that
was interrupted sees the same data again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.data.tokenizers import apply_template, encode_texts, pad_ids, special_ids


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


def translation_batches(
    pairs: Sequence[tuple[str, str]],
    translator: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
) -> LengthBatches:
    """Turn pairs of texts into batches for `Translator.fit`.

    Args:
        pairs: (source, target) strings.
        translator: has `source_tokenizer`, `target_tokenizer` and `config.max_length`.
        max_tokens: the most tokens of either side in a batch, padding included.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of ({`source_ids` (B, S), `source_mask` (B, S), `target_ids` (B, T)}, labels (B, T),
        weights (B, T) float32, 0 at padding). `target_ids` begins with the start token; labels are
        the same text one step ahead, ended by the end token.

    Raises:
        ValueError: no pairs.
    """
    source_special = special_ids(translator.source_tokenizer)
    special = special_ids(translator.target_tokenizer)
    longest = translator.config.max_length
    sources = encode_texts(
        translator.source_tokenizer, [source for source, _ in pairs], longest, after=(source_special.end,)
    )
    targets = encode_texts(translator.target_tokenizer, [target for _, target in pairs], longest, after=(special.end,))

    def collate(indices: np.ndarray, extra: int) -> tuple:
        source_ids, source_mask = pad_rows([sources[i] for i in indices], source_special.pad, extra)
        labels, weights = pad_rows([targets[i] for i in indices], special.pad, extra)
        inputs = {
            "source_ids": source_ids,
            "source_mask": source_mask,
            "target_ids": shift_right(labels, special.start),
        }
        return inputs, labels, weights.astype("float32")

    lengths = [(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    return LengthBatches(lengths, collate, max_tokens, shuffle, seed)


def shift_right(ids: np.ndarray, start: int) -> np.ndarray:
    """Move (B, T) ids one step later and put `start` first.

    Example:
        >>> shift_right(np.array([[5, 7, 3]]), 2).tolist()
        [[2, 5, 7]]
    """
    return np.concatenate([np.full_like(ids[:, :1], start), ids[:, :-1]], axis=1)


def language_batches(
    texts: Sequence[str],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
    pack: bool = False,
    stride: int | None = None,
) -> LengthBatches:
    """Turn texts into batches for `CausalLM.fit`.

    Each text is one stream of tokens, ended by the end token and cut into windows of
    `config.max_length`; a window begins with the last token of the one before.

    Args:
        texts: strings; a line, a document or a whole book each.
        model: has `tokenizer` and `config.max_length`.
        max_tokens: the most tokens in a batch.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.
        pack: put all texts into one stream, one after the other, so that short ones share a window.
        stride: tokens from one window to the next; `config.max_length` when absent. Where windows overlap,
            only what the window before did not have counts: each token is then judged with a longer past.

    Returns:
        batches of ({`token_ids` (B, T), `padding_mask` (B, T)}, labels (B, T), weights (B, T)).

    Raises:
        ValueError: no texts, or a stride outside 1 to `config.max_length`.
    """
    special = special_ids(model.tokenizer)
    width = model.config.max_length
    stride = width if stride is None else stride
    if not 1 <= stride <= width:
        raise ValueError(f"`stride` is {stride}; expected 1 to {width}, the longest sequence.")
    streams = [
        [special.start, *ids, special.end] for ids in encode_texts(model.tokenizer, [text for text in texts if text])
    ]
    streams = [[i for stream in streams for i in stream]] if pack and streams else streams
    windows = [window for stream in streams for window in _windows(stream, width, stride)]

    def collate(indices: np.ndarray, extra: int) -> tuple:
        token_ids, mask = pad_rows([windows[i][0][:-1] for i in indices], special.pad, extra)
        labels, _ = pad_rows([windows[i][0][1:] for i in indices], special.pad, extra)
        old = np.array([windows[i][1] for i in indices])[:, None]
        counted = mask & (np.arange(mask.shape[1]) >= old)
        return {"token_ids": token_ids, "padding_mask": mask}, labels, counted.astype("float32")

    return LengthBatches([len(window) - 1 for window, _ in windows], collate, max_tokens, shuffle, seed)


def _windows(stream: list[int], width: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """Yield windows of up to `width` tokens and the one after, and how many the window before judged already."""
    end = 0
    for begin in range(0, len(stream) - 1, stride):
        yield stream[begin : begin + width + 1], max(end - begin, 0)
        end = begin + width
        if end >= len(stream) - 1:
            break


def classification_batches(
    examples: Sequence[tuple[str, str]],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
) -> LengthBatches:
    """Turn (text, label) pairs into batches for `TextClassifier.fit`.

    Args:
        examples: (text, label) strings.
        model: has `tokenizer`, `config.labels` and `config.max_length`.
        max_tokens: the most tokens in a batch, padding included.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of (`text_arrays`, labels (B,), weights (B,)).

    Raises:
        ValueError: no examples, or a label that the model does not have.
    """
    special = special_ids(model.tokenizer)
    before, after = apply_template(model.tokenizer, model.template)
    ids = encode_texts(model.tokenizer, [text for text, _ in examples], model.config.max_length, before, after)
    labels = np.array([_label_id(label, model.config.labels) for _, label in examples], "int32")

    def collate(indices: np.ndarray, extra: int) -> tuple:
        token_ids, mask = pad_rows([ids[i] for i in indices], special.pad, extra)
        return text_arrays(model.config, token_ids, mask), labels[indices], np.ones(len(indices), "float32")

    return LengthBatches([len(row) for row in ids], collate, max_tokens, shuffle, seed)


def tagging_batches(
    examples: Sequence[Sequence[tuple[str, str]]],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
) -> LengthBatches:
    """Turn tagged sentences into batches for `TextTagger.fit`.

    A word becomes one or more pieces; its tag is learned at its first piece. Where words are spelled too and batches
    are shuffled, a piece that occurs n times is taken for unknown with probability 1 / (1 + 4 n), by chance anew each
    time: so the spelling of rare words is learned, and what to make of unknown ones (Kiperwasser and Goldberg, 2016,
    https://arxiv.org/abs/1603.04351, section 4.3).

    Args:
        examples: sentences, each a sequence of (word, tag).
        model: has `tokenizer`, `config.labels`, `encode_words` and `word_arrays`.
        max_tokens: the most tokens in a batch, padding included. A sentence counts its pieces, or the characters of its
            longest word where those are more.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of (inputs, labels (B, S), weights (B, S), 1 at the first piece of each word).

    Raises:
        ValueError: no examples, or a tag that the model does not have.
    """
    special = special_ids(model.tokenizer)
    examples = [sentence for sentence in examples if sentence]
    rows = model.encode_words([[word for word, _ in sentence] for sentence in examples])
    labels, weights = [], []
    for row, sentence in zip(rows, examples, strict=True):
        label, weight = [0] * len(row.ids), [0] * len(row.ids)
        for start, (_, tag) in zip(row.starts, sentence, strict=False):  # a cut sentence has fewer starts
            label[start], weight[start] = _label_id(tag, model.config.labels), 1
        labels.append(label)
        weights.append(weight)

    counts = np.bincount([i for row in rows for i in row.ids] or [special.pad], minlength=special.pad + 1)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        inputs = model.word_arrays([rows[i] for i in indices], width_step(), extra)
        if shuffle and "character_ids" in inputs:
            chance, ids = np.random.default_rng([seed, batches.epoch, *indices]), inputs["token_ids"]
            hidden = chance.random(ids.shape) < 1.0 / (1.0 + 4.0 * counts[ids])
            inputs["token_ids"] = np.where(hidden & inputs["padding_mask"], special.unknown, ids).astype("int32")
        wanted, _ = pad_rows([labels[i] for i in indices], 0, extra)
        counted, _ = pad_rows([weights[i] for i in indices], 0, extra)
        return inputs, wanted, counted.astype("float32")

    lengths = [(*([max(map(len, row.characters))] if row.characters else ()), len(row.ids)) for row in rows]
    batches = LengthBatches(lengths, collate, max_tokens, shuffle, seed)
    return batches


def _label_id(label: str, labels: tuple[str, ...]) -> int:
    if label not in labels:
        raise ValueError(f"The model has no label {label!r}; it has {', '.join(labels)}.")
    return labels.index(label)
