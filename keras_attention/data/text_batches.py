"""Texts to batches: pairs of a translator, texts of a language model, labelled and tagged texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import LengthBatches, pad_rows, text_arrays, width_step
from keras_attention.data.text_reader import TextReader
from keras_attention.data.tokenizers import special_ids


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
    max_length = translator.config.max_length
    source_reader = TextReader.from_template(translator.source_tokenizer, "end", max_length)
    target_reader = TextReader.from_template(translator.target_tokenizer, "end", max_length)
    sources = source_reader.ids([source for source, _ in pairs])
    targets = target_reader.ids([target for _, target in pairs])

    def collate(indices: np.ndarray, extra: int) -> tuple:
        source_ids, source_mask = source_reader.pad([sources[i] for i in indices], width_step(), extra)
        labels, weights = target_reader.pad([targets[i] for i in indices], width_step(), extra)
        target_ids = target_reader.shift_right(labels)
        inputs = {"source_ids": source_ids, "source_mask": source_mask, "target_ids": target_ids}
        return inputs, labels, weights.astype("float32")

    lengths = [(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    return LengthBatches(lengths, collate, max_tokens, shuffle, seed)


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
    reader, width = TextReader.from_template(model.tokenizer, "start_end"), model.config.max_length
    stride = width if stride is None else stride
    if not 1 <= stride <= width:
        raise ValueError(f"`stride` is {stride}; expected 1 to {width}, which is `config.max_length`.")
    streams = reader.ids([text for text in texts if not reader.is_empty(text)])
    streams = [[i for stream in streams for i in stream]] if pack and streams else streams
    windows = [window for stream in streams for window in _windows(stream, width, stride)]

    def collate(indices: np.ndarray, extra: int) -> tuple:
        token_ids, mask = reader.pad([windows[i][0][:-1] for i in indices], width_step(), extra)
        labels, _ = reader.pad([windows[i][0][1:] for i in indices], width_step(), extra)
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
    reader = TextReader.from_template(model.tokenizer, model.template, model.config.max_length)
    ids = reader.ids([text for text, _ in examples])
    labels = np.array([_label_id(label, model.config.labels) for _, label in examples], "int32")

    def collate(indices: np.ndarray, extra: int) -> tuple:
        token_ids, mask = reader.pad([ids[i] for i in indices], width_step(), extra)
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
        model: has `tokenizer`, `config.labels`, `word_reader` and `word_arrays`.
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
    rows = model.word_reader.ids([[word for word, _ in sentence] for sentence in examples])
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
