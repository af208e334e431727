"""Texts to batches with gaps: what a masked language model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import LengthBatches, pad_rows
from keras_attention.data.tokenizers import apply_template, encode_texts, ids_to_pieces, mask_id, special_ids


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
    """Turn texts into batches for `MaskedLM.fit`, with other gaps in each epoch.

    Of the pieces that are text, a share is chosen; of these 80 % become the mask piece, 10 % a piece drawn at
    random, and 10 % stay. The model has to say what stood there.

    A model without `config.next_sentence` reads texts packed one after the other, each ended by the end token, to
    rows of `config.max_length`, or each in rows of its own. One with it reads pairs [start] A [end] B [end] of lines;
    B follows A in its text in half of the pairs, and comes from anywhere in the others.

    Args:
        texts: strings; for the next sentence, documents with one sentence per line.
        model: has `tokenizer`, `config.max_length` and `config.next_sentence`.
        max_tokens: the most tokens in a batch, padding included.
        shuffle: see `LengthBatches`. Without it the gaps are the same each time.
        seed: where chance begins.
        rate: the share of pieces that are chosen.
        whole_words: choose words, not pieces.
        pack: put several texts into a row, as suits long ones; else each has its own, so that short ones that have
            nothing to do with each other do not meet. Pairs are never packed.

    Returns:
        batches of ({`token_ids` (B, S), `padding_mask` (B, S), and `segment_ids` (B, S) where the model has them},
        labels (B, S), weights (B, S), 1 where a piece was chosen); with the next sentence labels and weights are
        dicts of `logits` and `next_sentence` (B,), 0 where B follows A, as BERT has it, and 1 where it does not.

    Raises:
        ValueError: no texts, or a rate outside (0, 1).

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.1; Liu et al., 2019,
    https://arxiv.org/abs/1907.11692, section 4 (new gaps each epoch, packing).
    """
    if not 0 < rate < 1:
        raise ValueError(f"`rate` is {rate}; expected a number between 0 and 1.")
    special = special_ids(model.tokenizer)
    if model.config.next_sentence:
        rows, is_random_next = _sentence_pairs(texts, model, np.random.default_rng(seed))
    else:
        rows, is_random_next = [(ids, len(ids)) for ids in pack_texts(texts, model, pack)], None
    gaps = _Gaps(model.tokenizer, rate, whole_words)

    def collate(indices: np.ndarray, extra: int) -> tuple:
        chance = np.random.default_rng([seed, batches.epoch if shuffle else 0, int(indices[0])])
        labels, mask = pad_rows([rows[i][0] for i in indices], special.pad, extra)
        token_ids, chosen = gaps.cut(labels, mask, chance)
        inputs = {"token_ids": token_ids, "padding_mask": mask}
        if model.config.num_segments:
            firsts = np.array([rows[i][1] for i in indices])[:, None]
            later = (np.arange(labels.shape[1]) >= firsts) & mask
            inputs["segment_ids"] = later.astype("int32") * (model.config.num_segments > 1)
        if is_random_next is None:
            return inputs, labels, chosen.astype("float32")
        both = {"logits": labels, "next_sentence": is_random_next[indices]}
        return inputs, both, {"logits": chosen.astype("float32"), "next_sentence": np.ones(len(indices), "float32")}

    batches = LengthBatches([len(ids) for ids, _ in rows], collate, max_tokens, shuffle, seed)
    return batches


def pack_texts(texts: Sequence[str], model: Any, together: bool = True) -> list[list[int]]:
    """Put texts one after the other, each ended by the end token, and cut the stream into rows.

    Args:
        texts: strings.
        model: has `tokenizer`, `config.max_length` and `template`.
        together: texts may share a row; if not, each is a stream of its own.

    Returns:
        rows of at most `config.max_length` ids, with what the template puts before a text and after its end token.
    """
    special, (before, after) = special_ids(model.tokenizer), apply_template(model.tokenizer, model.template)
    encoded = encode_texts(model.tokenizer, [text for text in texts if text.strip()], after=(special.end,))
    streams, last = encoded, after[1:]  # each text has its end token already
    if together:
        streams = [[i for ids in encoded for i in ids]]
    room = model.config.max_length - len(before) - len(last)
    return [[*before, *ids[i : i + room], *last] for ids in streams for i in range(0, len(ids), room)]


def _sentence_pairs(texts: Sequence[str], model: Any, chance: np.random.Generator) -> tuple[list, np.ndarray]:
    """Return rows (ids, length of the first segment), and (N,) int, 1 where the second does not follow the first."""
    special, room = special_ids(model.tokenizer), model.config.max_length - 3
    documents = [[line for line in text.split("\n") if line.strip()] for text in texts]
    lines = encode_texts(model.tokenizer, [line for document in documents for line in document])
    ends = np.cumsum([len(document) for document in documents])
    rows, is_random_next = [], []
    for i in range(len(lines) - 1):
        if i + 1 in ends:
            continue  # the last of its document
        is_random_next.append(int(chance.random() < 0.5))
        other = int(chance.integers(len(lines) - 1))
        second = lines[other + (other > i) if is_random_next[-1] else i + 1]  # any line but the one that follows
        first = lines[i][: max(room // 2, room - len(second))]
        second = second[: room - len(first)]
        rows.append(([special.start, *first, special.end, *second, special.end], len(first) + 2))
    if not rows:
        raise ValueError(
            "No text has two lines, so no sentence follows another. Give documents with a sentence per line, or a "
            "model without the next sentence (`next_sentence=False`; --set next_sentence=false)."
        )
    return rows, np.array(is_random_next, "int32")


class _Gaps:
    """Chooses pieces and hides them.

    Args:
        tokenizer: a KerasHub tokenizer.
        rate: the share of pieces.
        whole_words: choose words.
    """

    def __init__(self, tokenizer: Any, rate: float, whole_words: bool) -> None:
        special = special_ids(tokenizer)
        pieces = ids_to_pieces(tokenizer, range(tokenizer.vocabulary_size()))
        self.mask, self.rate, self.whole_words = mask_id(tokenizer), rate, whole_words
        self.is_text = np.ones(len(pieces), bool)
        self.is_text[[special.pad, special.start, special.end, self.mask]] = False
        self.begins_word = np.array([not piece.startswith("##") for piece in pieces])
        for sign in ("\u2581", "\u0120"):  # SentencePiece and byte-pair encoding mark the beginning instead
            if any(piece.startswith(sign) for piece in pieces):
                self.begins_word = np.array([piece.startswith(sign) for piece in pieces])
        self.begins_word |= ~self.is_text

    def cut(self, labels: np.ndarray, mask: np.ndarray, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return token_ids (B, S) with gaps, and (B, S) bool where a piece was chosen."""
        text = mask & self.is_text[labels]
        if self.whole_words:
            words = np.cumsum(self.begins_word[labels], axis=1)
            chosen = np.take_along_axis(chance.random((len(labels), words.max() + 1)), words, axis=1) < self.rate
        else:
            chosen = chance.random(labels.shape) < self.rate
        chosen &= text
        fate = chance.random(labels.shape)
        others = np.flatnonzero(self.is_text)[chance.integers(self.is_text.sum(), size=labels.shape)]
        hidden = np.where(fate < 0.8, self.mask, np.where(fate < 0.9, others, labels))
        return np.where(chosen, hidden, labels).astype("int32"), chosen
