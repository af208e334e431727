"""Texts to batches with masked tokens, for a masked language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import require_proper_fraction
from keras_attention.data.batches import LengthBatches, length_multiple, text_model_inputs
from keras_attention.data.tokenization.special_tokens import mask_id, special_tokens_of
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.tokenizers import encode_texts, ids_to_pieces


def masked_batches(
    texts: Sequence[str],
    model: Any,
    max_tokens: int = 4096,
    shuffle: bool = True,
    seed: int = 0,
    rate: float = 0.15,
    whole_words: bool = False,
    pack: bool = True,
) -> LengthBatches:
    """Make batches of texts for `MaskedLM.fit`, with different masked tokens in each epoch.

    A random fraction of the text tokens is selected: 80 % of them become the mask token, 10 % become a random token,
    and 10 % do not change. The model predicts the selected tokens.

    If `config.next_sentence` is False, a sequence is a part of a stream of texts, with an end token after each text. If
    it is True, a sequence is a pair of lines, [start] A [end] B [end]. In half of the pairs B is the line after A; in
    the other half B is a random other line.

    Args:
        texts: strings; for next-sentence prediction, documents with one sentence per line. Empty texts are skipped.
        model: has `text_reader` and `config`.
        max_tokens: maximum number of tokens in a batch, including padding.
        shuffle: see `LengthBatches`. If False, the same tokens are masked in each epoch.
        seed: the seed of the order and of the masked tokens.
        rate: the fraction of tokens that are selected.
        whole_words: select whole words instead of single tokens.
        pack: join all texts into one stream, so that a sequence may contain several texts. If False, a sequence has one
            text, so that short texts about different topics are not mixed. Sentence pairs are never packed.

    Returns:
        batches of ({`token_ids` (B, S), `padding_mask` (B, S), and `segment_ids` (B, S) if the model has segments},
        labels (B, S), weights (B, S), 1 for a selected token). For next-sentence prediction, labels and weights are
        dicts with the keys `logits` (B, S) and `next_sentence` (B,). As in BERT, the label of `next_sentence` is 0 if
        the second text follows the first in the data, and 1 if not.

    Raises:
        ValueError: there are no texts, no text has the two lines that next-sentence prediction needs, or `rate` is
            outside (0, 1).

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> model = ka.MaskedLM.from_preset(
        ...     "roberta_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1, max_length=7)
        >>> inputs, labels, weights = ka.data.masked_batches(["we eat bread"], model)[0]
        >>> inputs["token_ids"].shape == labels.shape == weights.shape
        True

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.1; Liu et al., 2019,
    https://arxiv.org/abs/1907.11692, section 4 (dynamic masking, packing).
    """
    require_proper_fraction("rate", rate)
    reader, config = model.text_reader, model.config
    if config.next_sentence:
        sequences, is_random_next = _sentence_pairs(texts, reader, np.random.default_rng(seed))
    else:
        sequences, is_random_next = [(ids, len(ids)) for ids in pack_texts(texts, reader, pack)], None
    masker = _Masker.from_tokenizer(reader.tokenizer, rate, whole_words)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        rng = np.random.default_rng([seed, batches.epoch if shuffle else 0, int(indices[0])])
        ids, pair_starts = zip(*(sequences[i] for i in indices), strict=True)
        labels, mask = reader.pad(ids, length_multiple(), extra)
        token_ids, selected = masker.mask(labels, mask, rng)
        inputs = text_model_inputs(config, token_ids, mask, reader.pair_mask(pair_starts, mask))
        weights = selected.astype("float32")
        if is_random_next is None:
            return inputs, labels, weights
        label_dict = {"logits": labels, "next_sentence": is_random_next[indices]}
        return inputs, label_dict, {"logits": weights, "next_sentence": np.ones(len(indices), "float32")}

    batches = LengthBatches([len(ids) for ids, _ in sequences], collate, max_tokens, shuffle, seed)
    batches.set_example_indices(None, len(texts))
    return batches


def pack_texts(texts: Sequence[str], reader: TextReader, pack: bool = True) -> list[list[int]]:
    """Join texts into a stream, with an end token after each text, and split the stream into sequences.

    Args:
        texts: strings; empty texts are skipped.
        reader: the reader of a sequence; its template begins with the end token after a text.
        pack: join all texts into one stream. If False, each text is a separate stream.

    Returns:
        Sequences of at most `reader.max_length` ids. Each has the special tokens that the template puts before a text
        and after its end token.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> reader = ka.data.TextReader.from_template(tokenizer, "end", max_length=7)
        >>> [len(ids) for ids in pack_texts(["we eat", "we drink"], reader)]
        [7, 7, 2]
    """
    stream_reader = dataclasses.replace(reader, before=(), after=reader.after[:1], max_length=None)
    encoded = stream_reader.ids([text for text in texts if not stream_reader.is_empty(text)])
    streams = [[i for ids in encoded for i in ids]] if pack else encoded
    part_reader = dataclasses.replace(reader, after=reader.after[1:])  # the stream already has the end tokens
    size = part_reader.limit
    return [part_reader.add_template(ids[i : i + size]) for ids in streams for i in range(0, len(ids), size)]


def _sentence_pairs(texts: Sequence[str], reader: TextReader, rng: np.random.Generator) -> tuple[list, np.ndarray]:
    """Return pairs (ids, length of the first segment), and (B,) int, 1 if the second line does not follow the first."""
    documents = [[line for line in text.split("\n") if not reader.is_empty(line)] for text in texts]
    lines = encode_texts(reader.tokenizer, [line for document in documents for line in document])
    ends = np.cumsum([len(document) for document in documents])
    sequences, is_random_next = [], []
    for i in range(len(lines) - 1):
        if i + 1 in ends:
            continue  # the last line of its document
        is_random_next.append(int(rng.random() < 0.5))
        other = int(rng.integers(len(lines) - 1))
        second = lines[other + (other > i) if is_random_next[-1] else i + 1]  # random: any line but i + 1
        sequences.append(reader.join_pair(lines[i], second))
    if not sequences:
        raise ValueError(
            "No text has two lines; next-sentence prediction needs pairs of lines. Pass documents with one sentence "
            "per line, or make the model with `next_sentence=False` (`--set next_sentence=false`)."
        )
    return sequences, np.array(is_random_next, "int32")


@dataclasses.dataclass(frozen=True)
class _Masker:
    """Selects tokens and masks them.

    Args:
        mask_id: the id of the mask token.
        is_text: (V,) bool, tokens that may be selected.
        begins_word: (V,) bool, tokens at which a word begins; only used with `whole_words`.
        rate: the fraction of tokens, or of words, that are selected.
        whole_words: select whole words instead of single tokens.
    """

    mask_id: int
    is_text: np.ndarray
    begins_word: np.ndarray
    rate: float
    whole_words: bool

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, rate: float, whole_words: bool) -> _Masker:
        """Return the masker for a KerasHub tokenizer."""
        special, mask = special_tokens_of(tokenizer), mask_id(tokenizer)
        pieces = ids_to_pieces(tokenizer, range(tokenizer.vocabulary_size()))
        is_text = np.ones(len(pieces), bool)
        is_text[[*special.special_ids, mask]] = False
        begins_word = np.array([not piece.startswith("##") for piece in pieces])
        for marker in ("\u2581", "\u0120"):  # SentencePiece and byte-pair encoding mark the first token of a word
            if any(piece.startswith(marker) for piece in pieces):
                begins_word = np.array([piece.startswith(marker) for piece in pieces])
        return cls(mask, is_text, begins_word | ~is_text, rate, whole_words)

    def mask(self, labels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return token_ids (B, S) with masked tokens, and (B, S) bool, True for a selected token."""
        if self.whole_words:
            words = np.cumsum(self.begins_word[labels], axis=1)
            selected = np.take_along_axis(rng.random((len(labels), words.max() + 1)), words, axis=1) < self.rate
        else:
            selected = rng.random(labels.shape) < self.rate
        selected &= mask & self.is_text[labels]
        draw = rng.random(labels.shape)
        random_ids = np.flatnonzero(self.is_text)[rng.integers(self.is_text.sum(), size=labels.shape)]
        new_ids = np.where(draw < 0.8, self.mask_id, np.where(draw < 0.9, random_ids, labels))
        return np.where(selected, new_ids, labels).astype("int32"), selected
