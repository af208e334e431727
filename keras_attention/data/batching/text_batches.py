"""Batches of texts for translators, language models, classifiers and taggers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import one_of
from keras_attention.data.batches import LengthBatches, length_multiple, pad_ids, text_model_inputs
from keras_attention.data.tokenization.text_reader import Text
from keras_attention.data.tokenization.word_reader import Window


def translation_batches(
    pairs: Sequence[tuple[str, str]], translator: Any, max_tokens: int = 4096, shuffle: bool = True, seed: int = 0
) -> LengthBatches:
    """Make batches of pairs of texts for `Translator.fit`.

    Args:
        pairs: (source, target) strings.
        translator: has `input_reader` and `target_reader`.
        max_tokens: maximum number of tokens of either side in a batch, including padding.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of ({`source_ids` (B, S), `source_mask` (B, S), `target_ids` (B, T)}, labels (B, T),
        weights (B, T) float32, 0 at padding). Labels are the tokens of the target and the end token.
        `target_ids` are the start token and the labels without the last one.

    Raises:
        ValueError: there are no pairs.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat", "comemos"], "characters")
        >>> translator = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> inputs, labels, weights = ka.data.translation_batches([("we eat", "comemos")], translator)[0]
        >>> inputs["source_ids"].shape, labels.shape  # one more column for the end token
        ((1, 7), (1, 8))
    """
    source_reader, target_reader = translator.input_reader, translator.target_reader
    sources = source_reader.ids([source for source, _ in pairs])
    targets = target_reader.ids([target for _, target in pairs])

    def collate(indices: np.ndarray, extra: int) -> tuple:
        source_ids, source_mask = source_reader.pad([sources[i] for i in indices], length_multiple(), extra)
        labels, weights = target_reader.pad([targets[i] for i in indices], length_multiple(), extra)
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
    """Make batches of texts for `CausalLM.fit`.

    Each text is a stream of tokens from the start token to the end token. It is split into windows of
    `config.max_length` tokens. A window begins with the last token of the previous window.

    Args:
        texts: strings; each is a line, a document or a whole book. Empty texts are skipped.
        model: has `target_reader` and `config.max_length`.
        max_tokens: maximum number of tokens in a batch.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.
        pack: join all texts into one stream, so that a window may contain several short texts.
        stride: the number of tokens between the beginnings of two windows; None for `config.max_length`, which gives no
            overlap. If windows overlap, a token that the previous window predicts has the weight 0, so each token
            counts once and has a longer context.

    Returns:
        batches of ({`token_ids` (B, T), `padding_mask` (B, T)}, labels (B, T), weights (B, T)). The label of a token
        is the next token.

    Raises:
        ValueError: there are no texts, or `stride` is outside 1 to `config.max_length`.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> inputs, labels, weights = ka.data.language_batches(["to be"], model)[0]
        >>> bool((inputs["token_ids"][0, 1:] == labels[0, :-1]).all())
        True
    """
    reader, length = dataclasses.replace(model.target_reader, max_length=None), model.config.max_length
    stride = length if stride is None else stride
    if not 1 <= stride <= length:
        raise ValueError(f"`stride` is {stride}; expected 1 to {length}, which is `config.max_length`.")
    sequences = reader.ids([text for text in texts if not reader.is_empty(text)])
    streams = [[reader.special.start, *ids] for ids in sequences]
    streams = [[i for stream in streams for i in stream]] if pack and streams else streams
    windows = [window for stream in streams for window in _windows(stream, length, stride)]

    def collate(indices: np.ndarray, extra: int) -> tuple:
        token_ids, mask = reader.pad([windows[i][0][:-1] for i in indices], length_multiple(), extra)
        labels, _ = reader.pad([windows[i][0][1:] for i in indices], length_multiple(), extra)
        predicted = np.array([windows[i][1] for i in indices])[:, None]
        weights = mask & (np.arange(mask.shape[1]) >= predicted)
        return {"token_ids": token_ids, "padding_mask": mask}, labels, weights.astype("float32")

    batches = LengthBatches([len(window) - 1 for window, _ in windows], collate, max_tokens, shuffle, seed)
    nonempty = [index for index, text in enumerate(texts) if not reader.is_empty(text)]
    counts = [sum(1 for _ in _windows(stream, length, stride)) for stream in streams]
    batches.set_example_indices(None if pack else np.repeat(nonempty, counts), len(texts))
    return batches


def _windows(stream: list[int], length: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """Yield (window of `length` + 1 tokens, number of its labels that the previous window predicts)."""
    end = 0
    for begin in range(0, len(stream) - 1, stride):
        yield stream[begin : begin + length + 1], max(end - begin, 0)
        end = begin + length
        if end >= len(stream) - 1:
            break


def classification_batches(
    examples: Sequence[tuple[Text, str]], model: Any, max_tokens: int = 4096, shuffle: bool = True, seed: int = 0
) -> LengthBatches:
    """Make batches of texts, or of pairs of texts, with their labels for `TextClassifier.fit`.

    If the model has weights of n-grams and `shuffle` is True, a token becomes the unknown token with the probability
    `config.dropout` / 2, at random in each epoch, so that the model does not rely on single n-grams.

    Args:
        examples: (text, label) or ((text, text pair), label) strings.
        model: has `input_reader` and `config`.
        max_tokens: maximum number of tokens in a batch, including padding.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of ({`token_ids` (B, S), `padding_mask` (B, S), and `segment_ids` (B, S) if the model has segments},
        labels (B,), weights (B,), all 1).

    Raises:
        ValueError: there are no examples, or the model does not have a label.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["good bread", "bad milk"], "characters")
        >>> model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("bad", "good"))
        >>> ka.data.classification_batches([("good bread", "good")], model)[0][1].tolist()
        [1]

    Reference: Iyyer et al., 2015, https://aclanthology.org/P15-1162, section 3 (word dropout).
    """
    reader = model.input_reader
    sequences = reader.ids_and_pair_starts([text for text, _ in examples])
    labels = np.array([_label_id(label, model.config.labels) for _, label in examples], "int32")
    token_dropout = model.config.dropout / 2 if shuffle and model.config.hash_buckets else 0.0

    def collate(indices: np.ndarray, extra: int) -> tuple:
        ids, starts = zip(*(sequences[i] for i in indices), strict=True)
        token_ids, mask = reader.pad(ids, length_multiple(), extra)
        if token_dropout:
            rng = np.random.default_rng([seed, batches.epoch, *indices])
            is_unknown = (rng.random(token_ids.shape) < token_dropout) & mask
            token_ids = np.where(is_unknown, reader.special.unknown, token_ids).astype("int32")
        inputs = text_model_inputs(model.config, token_ids, mask, reader.pair_mask(starts, mask))
        return inputs, labels[indices], np.ones(len(indices), "float32")

    batches = LengthBatches([len(ids) for ids, _ in sequences], collate, max_tokens, shuffle, seed)
    return batches


def tagging_batches(
    examples: Sequence[Sequence[tuple[str, str]]],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
) -> LengthBatches:
    """Make batches of tagged sentences for `TextTagger.fit`.

    A word has one or more tokens; its tag is the label of its first token. A sentence with more than
    `config.max_length` tokens is split into windows that overlap; each word has its label in one of them.

    If the model has a character tokenizer and `shuffle` is True, a token that occurs n times becomes the unknown token
    with probability 1 / (1 + 4 n), at random in each epoch, so that the model learns to tag rare words by their
    characters.

    Args:
        examples: sentences, each a sequence of (word, tag). Sentences without words are skipped.
        model: has `input_reader`, `config.labels` and `word_arrays`.
        max_tokens: maximum number of tokens in a batch, including padding. The length of a sentence is the larger of
            two numbers: its tokens, and the characters of its longest word.
        shuffle: see `LengthBatches`.
        seed: see `LengthBatches`.

    Returns:
        batches of (inputs, labels (B, S), weights (B, S), 1 at the first token of each word).

    Raises:
        ValueError: there are no examples, or the model does not have a tag.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> model = ka.TextTagger.from_preset("rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"))
        >>> ka.data.tagging_batches([[("eat", "VERB"), ("bread", "NOUN")]], model)[0][2].astype(int).tolist()
        [[1, 0, 0, 1, 0, 0, 0, 0]]

    Reference: Kiperwasser and Goldberg, 2016, https://arxiv.org/abs/1603.04351, section 4.3.
    """
    reader, special = model.input_reader, model.input_reader.text_reader.special
    nonempty, count = [index for index, sentence in enumerate(examples) if sentence], len(examples)
    examples = [sentence for sentence in examples if sentence]
    windows = reader.windows([[word for word, _ in sentence] for sentence in examples])
    sentences = [window.encoded for window in windows]
    labels = [_word_labels(window, examples[window.sentence], model.config.labels) for window in windows]
    all_ids = [i for sentence in sentences for i in sentence.ids]
    counts = np.bincount(all_ids or [special.pad], minlength=special.pad + 1)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        inputs = model.word_arrays([sentences[i] for i in indices], length_multiple(), extra)
        if shuffle and "character_ids" in inputs:
            rng, ids = np.random.default_rng([seed, batches.epoch, *indices]), inputs["token_ids"]
            is_unknown = (rng.random(ids.shape) < 1.0 / (1.0 + 4.0 * counts[ids])) & inputs["padding_mask"]
            inputs["token_ids"] = np.where(is_unknown, special.unknown, ids).astype("int32")
        padded, _ = pad_ids([labels[i] for i in indices], -1, length_multiple(), extra, min_length=1)
        return inputs, np.maximum(padded, 0), (padded >= 0).astype("float32")

    lengths = [(*([max(map(len, each.characters))] if each.characters else ()), len(each.ids)) for each in sentences]
    batches = LengthBatches(lengths, collate, max_tokens, shuffle, seed)
    batches.set_example_indices([nonempty[window.sentence] for window in windows], count)
    return batches


def _word_labels(window: Window, sentence: Sequence[tuple[str, str]], labels: tuple[str, ...]) -> list[int]:
    """Return (S,) ids: the label at the first token of each word that the window tags, -1 at the other tokens."""
    label_ids = [-1] * len(window.encoded.ids)
    for start, word in zip(window.starts(), window.tagged, strict=True):
        label_ids[start] = _label_id(sentence[word][1], labels)
    return label_ids


def _label_id(label: str, labels: tuple[str, ...]) -> int:
    if label not in labels:
        raise ValueError(
            f"The model has no label {label!r}; expected {one_of(labels)}. Correct the label, or make the model with "
            "this label in `labels`."
        )
    return labels.index(label)
