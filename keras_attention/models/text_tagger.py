"""`TextTagger`: words in, one tag per word out."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.batches import text_arrays
from keras_attention.data.tokenizers import apply_template, encode_texts, in_sentence, pad_ids, special_ids, split_words
from keras_attention.layers import CharacterEncoder
from keras_attention.models.build import make_embedding, make_encoder, read_text
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


@dataclasses.dataclass(frozen=True)
class EncodedWords:
    """The words of a sentence, as a `TextTagger` reads them.

    Attributes:
        ids: of their pieces in a row, with what stands around a text.
        starts: where each word begins among them.
        characters: the ids that spell each word; nothing where words are not spelled.
    """

    ids: list[int]
    starts: list[int]
    characters: list[list[int]]


@keras.saving.register_keras_serializable("keras_attention")
class TextTagger(Task):
    """Many to many: an encoder, recurrent in both directions or a Transformer, and a tag at each word.

    p(tag_i | x) = softmax(W h_i), with h_i the encoder's output at the first piece of word i. A recurrent encoder reads
    embedded pieces and, with a tokenizer of characters, beside the first piece of each word what a
    `CharacterEncoder` makes of it; the pieces are then best whole words (`train_tokenizer(texts, "words")`).

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`, with `labels`, the tags.
        tokenizer: KerasHub tokenizer.
        character_tokenizer: another, of characters, that spells the words of a recurrent tagger; or None.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True = a real token, and, where the
            family has them, `segment_ids` (B, S) int; where words are spelled, `character_ids` (B, S, P) int and
            `character_mask` (B, S, P) bool, whose real ones stand at the first piece of each word.

    Output:
        logits (B, S, tags); those at the first piece of each word are the answer.

    Raises:
        TypeError: the tokenizer is missing, or a Transformer is given characters.
        ValueError: fewer than two labels, or one of them twice.

    Example:
        >>> tokenizer = ka.train_tokenizer(["we eat bread"], "characters")
        >>> model = ka.TextTagger.from_preset(
        ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"))
        >>> len(model.tag(["we eat bread"])[0].tags)
        3

    Reference: Huang et al., 2015, https://arxiv.org/abs/1508.01991; Lample et al., 2016,
    https://arxiv.org/abs/1603.01360; Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 5.3.
    """

    tokenizer_names = ("tokenizer", "character_tokenizer")

    def __init__(
        self,
        config: RecurrentConfig | TransformerConfig,
        tokenizer: Any = None,
        character_tokenizer: Any = None,
        **kwargs,
    ) -> None:
        config = with_vocabulary(without_attention(config, "tagger"), "vocabulary_size", tokenizer)
        if character_tokenizer is not None:
            if not isinstance(config, RecurrentConfig):
                raise TypeError("A Transformer reads no characters beside its pieces; leave out `character_tokenizer`.")
            config = with_vocabulary(config, "character_vocabulary_size", character_tokenizer, "character_tokenizer")
        check_labels(config.labels)
        self.character_encoder = None
        if getattr(config, "character_vocabulary_size", 0):
            width, units = -(-config.embedding_dim // 4), 2 * -(-config.units // 4)  # there are few characters
            self.character_encoder = CharacterEncoder(
                config.character_vocabulary_size, width, units, config.cell, name="character_encoder"
            )
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.head = keras.layers.Dense(len(config.labels), name="logits")
        inputs = text_inputs(config)
        tokenizers = {"tokenizer": tokenizer, "character_tokenizer": character_tokenizer}
        super().__init__(config, tokenizers, inputs, self._logits(inputs), **kwargs)
        self.forward = Forward(self, lambda inputs: {"logits": self._logits(inputs)})

    def _logits(self, inputs: dict):
        return self.head(read_text(self, inputs)[0])

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers that the network needs; that of characters only where it spells words."""
        found = super().tokenizers
        return found if self.character_encoder is not None else {"tokenizer": found["tokenizer"]}

    def backbone(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose parameters a paper counts."""
        return tuple(x for x in (self.embedding, self.character_encoder, self.encoder) if x is not None)

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[EncodedWords]:
        """Turn words into ids.

        Args:
            sentences: words of each sentence.

        Returns:
            one `EncodedWords` per sentence, of at most `config.max_length` pieces. A sentence that is too long loses
            its last words, with one warning.
        """
        unknown, (before, after) = special_ids(self.tokenizer).unknown, self.word_template
        longest = self.config.max_length - len(before) - len(after)
        flat_words = [word for sentence in sentences for word in sentence]
        given = [word for sentence in sentences for word in in_sentence(self.tokenizer, sentence)]
        words, spelled = iter(encode_texts(self.tokenizer, given)), iter(self._spell(flat_words))
        rows, cut = [], 0
        for sentence in sentences:
            pieces = [ids or [unknown] for ids in itertools.islice(words, len(sentence))]
            characters = list(itertools.islice(spelled, len(sentence)))
            starts = [0, *itertools.accumulate(len(ids) for ids in pieces)][:-1]
            flat = [i for ids in pieces for i in ids]
            cut += len(flat) > longest
            framed = [*before, *flat[:longest], *after]
            starts = [start + len(before) for start in starts if start < longest]
            rows.append(EncodedWords(framed, starts, characters[: len(starts)]))
        if cut:
            warnings.warn(f"{cut} sentences are longer than {longest} pieces and were cut there.", stacklevel=2)
        return rows

    def _spell(self, words: list[str]) -> list[list[int]]:
        if self.character_encoder is None:
            return []
        unknown = special_ids(self.character_tokenizer).unknown
        return [
            ids[: self.config.max_word_length] or [unknown] for ids in encode_texts(self.character_tokenizer, words)
        ]

    def word_arrays(self, rows: Sequence[EncodedWords], multiple: int = 8, extra: int = 0) -> dict[str, np.ndarray]:
        """Return the inputs of the network, padded.

        Args:
            rows: B sentences, from `encode_words`.
            multiple: lengths are rounded up to a multiple of this, so that fewer shapes occur.
            extra: columns of padding beyond that.

        Returns:
            dict of the call arguments, `token_ids` (B, S) and the others.
        """
        pad = special_ids(self.tokenizer).pad
        ids, mask = pad_ids([row.ids or [pad] for row in rows], pad, multiple, extra)
        mask[[not row.ids for row in rows]] = False
        inputs = text_arrays(self.config, ids, mask)
        if self.character_encoder is not None:
            words = [word for row in rows for word in row.characters]
            pad = special_ids(self.character_tokenizer).pad
            spelled, real = pad_ids(words or [[pad]], pad, multiple, extra)
            row_ids = [i for i, row in enumerate(rows) for _ in row.starts]
            starts = [start for row in rows for start in row.starts]
            for name, values in (("character_ids", spelled), ("character_mask", real)):
                inputs[name] = np.zeros((*ids.shape, values.shape[1]), values.dtype)
                inputs[name][row_ids, starts] = values[: len(words)]
        return inputs

    @property
    def word_template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after the words: none for a recurrent network."""
        if isinstance(self.config, RecurrentConfig):
            return (), ()
        return apply_template(self.tokenizer, self.template)

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
        words = [split_words(text) for text in texts]
        rows = self.encode_words(words)
        answers: list[Any] = [None] * len(texts)
        for batch in length_sorted_batches([len(row.ids) for row in rows], batch_size):
            logits = self.forward(self.word_arrays([rows[i] for i in batch]))["logits"]
            for row, index in enumerate(batch):
                answers[index] = self._answer(texts[index], words[index], logits[row, rows[index].starts])
        return answers

    def _answer(self, text: str, words: list[str], logits: np.ndarray) -> Tagging:
        logits = logits.astype("float64")
        best = logits.argmax(-1)
        scores = 1.0 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)
        tags = tuple(self.config.labels[i] for i in best)
        return Tagging(text, tuple(words[: len(tags)]), tags, tuple(float(s) for s in scores))
