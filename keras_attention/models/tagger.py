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

from keras_attention.config import RecurrentConfig, TaggerConfig, TransformerConfig
from keras_attention.data.batches import text_arrays
from keras_attention.data.tokenizers import WHITE_SPACE, encode_texts, frame_ids, pad_ids, special_ids
from keras_attention.models.networks import make_embedding, make_encoder, read_text
from keras_attention.models.task import (
    Forward,
    Task,
    check_labels,
    check_texts,
    length_sorted_batches,
    text_inputs,
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
    """Many to many: an encoder, recurrent in both directions or a Transformer, and a tag at each word.

    p(tag_i | x) = softmax(W h_i), with h_i the encoder's output at the first piece of word i.

    Args:
        config: a `TaggerConfig` (recurrent) or `TransformerConfig`, with `labels`, the tags.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True = a real token, and, where the
            family has them, `segment_ids` (B, S) int.

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

    Reference: Huang et al., 2015, https://arxiv.org/abs/1508.01991; Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805, section 5.3.
    """

    def __init__(self, config: TaggerConfig | TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(without_attention(config, "tagger"), "vocabulary_size", tokenizer)
        check_labels(config.labels)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.head = keras.layers.Dense(len(config.labels), name="logits")
        inputs = text_inputs(config)
        super().__init__(config, {"tokenizer": tokenizer}, inputs, self._logits(inputs), **kwargs)
        self.forward = Forward(self, lambda inputs: {"logits": self._logits(inputs)})

    def _logits(self, inputs: dict):
        return self.head(read_text(self, inputs)[0])

    def backbone(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose parameters a paper counts."""
        return self.embedding, self.encoder

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int]]]:
        """Turn words into pieces.

        Args:
            sentences: words of each sentence.

        Returns:
            for each sentence its ids, at most `config.max_length`, and where each word starts
            among them. A sentence that is too long loses its last words, with one warning.
        """
        unknown, (before, after) = special_ids(self.tokenizer).unknown, self.word_frame
        longest = self.config.max_length - len(before) - len(after)
        words = iter(encode_texts(self.tokenizer, [word for sentence in sentences for word in sentence]))
        rows, cut = [], 0
        for sentence in sentences:
            pieces = [ids or [unknown] for ids in itertools.islice(words, len(sentence))]
            starts = [0, *itertools.accumulate(len(ids) for ids in pieces)][:-1]
            flat = [i for ids in pieces for i in ids]
            cut += len(flat) > longest
            framed = [*before, *flat[:longest], *after]
            rows.append((framed, [start + len(before) for start in starts if start < longest]))
        if cut:
            warnings.warn(f"{cut} sentences are longer than {longest} pieces and were cut there.", stacklevel=2)
        return rows

    @property
    def word_frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after the words: none for a recurrent network."""
        if isinstance(self.config, RecurrentConfig):
            return (), ()
        return frame_ids(self.tokenizer, self.frame)

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
            logits = self.forward(text_arrays(self.config, ids, mask))["logits"]
            for row, index in enumerate(batch):
                answers[index] = self._answer(texts[index], words[index], logits[row, rows[index][1]])
        return answers

    def _answer(self, text: str, words: list[str], logits: np.ndarray) -> Tagging:
        logits = logits.astype("float64")
        best = logits.argmax(-1)
        scores = 1.0 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)
        tags = tuple(self.config.labels[i] for i in best)
        return Tagging(text, tuple(words[: len(tags)]), tags, tuple(float(s) for s in scores))
