"""`TextTagger`: words in, one tag per word out."""

from __future__ import annotations

import dataclasses
import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.config import TaggerConfig
from keras_attention.data.tokenizers import WHITE_SPACE, encode_texts, pad_ids, special_ids
from keras_attention.layers import RecurrentEncoder
from keras_attention.models.task import (
    Forward,
    Task,
    check_labels,
    check_texts,
    embedding_initializer,
    length_sorted_batches,
    with_vocabulary,
    without_attention,
)


@dataclasses.dataclass(frozen=True)
class Tagging:
    """One answer: the words of a text and the tag of each.

    Attributes:
        text: what was read.
        words: its words, split at white space.
        tags: the likeliest tag of each word.
        scores: the probability of each tag.
    """

    text: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    scores: tuple[float, ...]


@keras.saving.register_keras_serializable("keras_attention")
class TextTagger(Task):
    """Recurrent many-to-many network: a bidirectional encoder and a tag at each word.

    p(tag_i | x) = softmax(W h_i), with h_i the encoder's output at the first piece of word i.

    Args:
        config: sizes and `labels`, the tags.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int and `padding_mask` (B, S) bool, True = a real token.

    Output:
        logits (B, S, tags); those at the first piece of each word are the answer.

    Raises:
        TypeError: the tokenizer is missing.
        ValueError: fewer than two labels, or one of them twice.

    Example:
        >>> tokenizer = ka.train_tokenizer(["we eat bread"], "characters")
        >>> model = ka.TextTagger.from_preset(
        ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"))
        >>> len(model.tag(["we eat bread"])[0].tags)
        3

    Reference: Huang et al., 2015, https://arxiv.org/abs/1508.01991.
    """

    config_class = TaggerConfig

    def __init__(self, config: TaggerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(without_attention(config, "tagger"), "vocabulary_size", tokenizer)
        check_labels(config.labels)
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
        }
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        embedded = keras.layers.Embedding(
            config.vocabulary_size, config.embedding_dim, embedding_initializer(config), name="embedding"
        )(inputs["token_ids"])
        encoder = RecurrentEncoder(config.units, config.num_layers, config.cell, dropout=config.dropout, name="encoder")
        memory, _ = encoder(dropout(embedded), mask=inputs["padding_mask"])
        logits = keras.layers.Dense(len(config.labels), name="logits")(dropout(memory))
        super().__init__(config, {"tokenizer": tokenizer}, inputs, logits, **kwargs)
        self.forward = Forward(keras.Model(inputs, {"logits": logits}))

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int]]]:
        """Turn words into pieces.

        Args:
            sentences: words of each sentence.

        Returns:
            for each sentence its ids, at most `config.max_length`, and where each word starts
            among them. A sentence that is too long loses its last words, with one warning.
        """
        unknown, longest = special_ids(self.tokenizer).unknown, self.config.max_length
        words = iter(encode_texts(self.tokenizer, [word for sentence in sentences for word in sentence]))
        rows, cut = [], 0
        for sentence in sentences:
            pieces = [ids or [unknown] for ids in itertools.islice(words, len(sentence))]
            starts = [0, *itertools.accumulate(len(ids) for ids in pieces)][:-1]
            flat = [i for ids in pieces for i in ids]
            cut += len(flat) > longest
            rows.append((flat[:longest], [start for start in starts if start < longest]))
        if cut:
            warnings.warn(f"{cut} sentences are longer than {longest} pieces and were cut there.", stacklevel=2)
        return rows

    def tag(self, texts: Iterable[str], batch_size: int = 32) -> list[Tagging]:
        """Tag the words of texts.

        Args:
            texts: strings, whose words stand between ASCII white space.
            batch_size: how many are read at once; it does not change an answer.

        Returns:
            one `Tagging` per text, in order; an empty text has no words.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
        """
        texts = check_texts(texts)
        words = [[word for word in re.split(f"[{WHITE_SPACE}]+", text) if word] for text in texts]
        rows = self.encode_words(words)
        answers: list[Any] = [None] * len(texts)
        for batch in length_sorted_batches([len(ids) for ids, _ in rows], batch_size):
            ids, mask = pad_ids([rows[i][0] or [0] for i in batch], special_ids(self.tokenizer).pad, multiple=8)
            logits = self.forward({"token_ids": ids, "padding_mask": mask})["logits"]
            for row, index in enumerate(batch):
                answers[index] = self._answer(texts[index], words[index], logits[row, rows[index][1]])
        return answers

    def _answer(self, text: str, words: list[str], logits: np.ndarray) -> Tagging:
        logits = logits.astype("float64")
        best = logits.argmax(-1)
        scores = 1.0 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)
        tags = tuple(self.config.labels[i] for i in best)
        return Tagging(text, tuple(words[: len(tags)]), tags, tuple(float(s) for s in scores))
