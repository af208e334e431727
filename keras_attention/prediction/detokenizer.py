"""The strings of a prediction: `Detokenizer` makes them from ids, and `hypothesis_outputs` those of a search.

`serving/graph_text.py` has a class with the same methods for a TensorFlow graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.data.tokenization.tokenizer_rules import (
    WHITE_SPACE,
    WORD_MARK,
    add_spaces,
    is_word_piece,
    split_words,
)
from keras_attention.data.tokenization.tokenizers import decode_ids, encode_texts, ids_to_pieces
from keras_attention.generation.proposals import NO_HYPOTHESIS


class Detokenizer:
    """Decode arrays of ids to arrays of strings. `GraphTokenizer` has the same methods for a TensorFlow graph.

    Args:
        tokenizer: a KerasHub tokenizer.
        stop: strings before which a generated text ends; see `Strategy`.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.special = tokenizer, None if tokenizer is None else special_tokens_of(tokenizer)
        self.stop = re.compile("|".join(map(re.escape, stop))) if stop else None

    def _before_stop(self, text: str) -> str:
        return text if self.stop is None else self.stop.split(text, maxsplit=1)[0]

    def pieces(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the piece of each id (...), "" where the mask (...) is False."""
        strings = np.full(mask.shape, "", object)
        strings[mask] = ids_to_pieces(self.tokenizer, np.asarray(ids)[mask])
        return strings

    def decode(self, ids: np.ndarray, lengths: np.ndarray, prefix_lengths: np.ndarray | None = None) -> np.ndarray:
        """Decode ids (..., T) to strings (...); the number of tokens of each string is in `lengths` (...).

        A string ends before its first stop string; stop strings in its first `prefix_lengths` (B,) tokens are ignored.
        """
        strings = np.full(lengths.shape, "", object)
        for index in np.ndindex(*lengths.shape):
            tokens = ids[index][: lengths[index]].tolist()
            prefix_length = 0 if prefix_lengths is None else prefix_lengths[index[0]]
            prefix = decode_ids(self.tokenizer, tokens[:prefix_length])
            strings[index] = prefix + self._before_stop(decode_ids(self.tokenizer, tokens)[len(prefix) :])
        return strings

    def continuations(
        self, prompts: Sequence[str], read: dict[str, np.ndarray], ids: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Return the prompts with their continuations, (B, N).

        The characters of a piece may depend on the pieces before it. Therefore prompt and continuation are decoded
        together, and the decoded prompt is removed.

        Args:
            prompts: B strings.
            read: dict of `token_ids` (B, S) and `padding_mask` (B, S), the prompt tokens that the model reads.
            ids: (B, N, T), the prompts without their first token, and the continuations.
            lengths: (B, N), how many of these ids are real.
        """
        strings = np.full(lengths.shape, "", object)
        for row, prompt in enumerate(prompts):
            first, *others = read["token_ids"][row][read["padding_mask"][row]].tolist()
            before = decode_ids(self.tokenizer, [first, *others])
            lost_space = _ends_in_space(prompt) and not _ends_in_space(before)  # a tokenizer may drop it
            for n, length in enumerate(lengths[row]):
                whole = decode_ids(self.tokenizer, [first, *ids[row, n, :length].tolist()])
                new = whole[len(before) :]
                strings[row, n] = prompt + self._before_stop(new.removeprefix(" ") if lost_space else new)
        return strings

    def words_at(self, texts: Sequence[str], positions: np.ndarray) -> np.ndarray:
        """Return the word of a text at each position (B, T) of its tokens."""
        strings = np.full(positions.shape, "", object)
        for row, text in enumerate(texts):
            words = split_words(text)
            counts = map(len, encode_texts(self.tokenizer, add_spaces(self.tokenizer, words)))
            repeated = [word for word, count in zip(words, counts, strict=True) for _ in range(max(count, 1))]
            strings[row] = [repeated[min(i, len(repeated) - 1)] if repeated else "" for i in positions[row]]
        return strings

    def copy_words(self, ids: np.ndarray, mask: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return (B,) the texts of ids (B, T), in which words (B, T) replace unknown tokens.

        Consecutive unknown tokens with the same word are replaced by one word.

        Args:
            ids: (B, T) token ids.
            mask: (B, T) bool, False for padding.
            words: (B, T) strings.
        """
        pieces, unknown = self.pieces(ids, mask), (ids == self.special.unknown) & mask
        pieces[np.isin(ids, self.special.special_ids)] = ""
        repeated = np.zeros_like(unknown)
        repeated[:, 1:] = unknown[:, 1:] & unknown[:, :-1] & (words[:, 1:] == words[:, :-1])
        pieces = np.where(unknown, np.where(repeated, "", WORD_MARK + words), self._marked(pieces))
        return np.array([re.sub(f"{WORD_MARK}+", " ", "".join(row)).strip() for row in pieces], object)

    def _marked(self, pieces: np.ndarray) -> np.ndarray:
        """Return pieces whose words begin with a mark, as in SentencePiece."""
        if not is_word_piece(self.tokenizer):
            return pieces
        marked = [p.removeprefix("##") if p.startswith("##") or not p else WORD_MARK + p for p in pieces.flat]
        return np.array(marked, object).reshape(pieces.shape)

    @staticmethod
    def any(mask: np.ndarray) -> np.ndarray:
        """Return (B,) bool, whether any element of a row (B, T) is True."""
        return mask.any(axis=1)

    @staticmethod
    def without_duplicates(texts: np.ndarray, scores: np.ndarray, lengths: np.ndarray, pieces: np.ndarray) -> tuple:
        """Replace each hypothesis with the text of a better one by "" and the score `NO_HYPOTHESIS`, at the end.

        Args:
            texts: (B, N), best first.
            scores: (B, N).
            lengths: (B, N) int, 0 without an input.
            pieces: (B, N, T).

        Returns:
            texts, scores and pieces.
        """
        is_duplicate = np.tril(texts[:, :, None] == texts[:, None, :], -1).any(-1) & (lengths > 0)
        order = np.argsort(is_duplicate, axis=1, kind="stable")
        texts, pieces = np.where(is_duplicate, "", texts), np.where(is_duplicate[:, :, None], "", pieces)
        scores = np.where(is_duplicate, np.float32(NO_HYPOTHESIS), scores)
        texts, scores = (np.take_along_axis(array, order, 1) for array in (texts, scores))
        return texts, scores, np.take_along_axis(pieces, order[:, :, None], 1)

    @staticmethod
    def names(labels: Sequence[str], ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the label of each id, "" where the mask is False."""
        return np.where(mask, np.array(labels, object)[ids], "")

    @staticmethod
    def where(mask: np.ndarray, strings: Any, others: Any) -> np.ndarray:
        """Return `strings` where the mask is True, else `others`."""
        return np.where(mask, np.asarray(strings, object), np.asarray(others, object))


def _ends_in_space(text: str) -> bool:
    return text.endswith(tuple(WHITE_SPACE))


def hypothesis_outputs(
    detokenizer: Any, texts: Any, pieces: Any, computed: dict, names: tuple[str, str] = ("text", "pieces")
) -> dict[str, Any]:
    """Return the outputs of a search.

    Args:
        detokenizer: a `Detokenizer` or `GraphTokenizer`.
        texts: (B, N) strings, best first.
        pieces: (B, N, T) strings.
        computed: dict of `final_scores` and `lengths` (B, N).
        names: the names of the outputs for the best text and its pieces.

    Returns:
        dict of the best text, its pieces, and `score`. If N > 1, also the different texts as `alternatives` (B, N),
        with `alternative_scores` (B, N) and `alternative_pieces` (B, N, T), best first.
    """
    scores = computed["final_scores"]
    outputs = {names[0]: texts[:, 0], "score": scores[:, 0], names[1]: pieces[:, 0]}
    if scores.shape[1] == 1:
        return outputs
    texts, scores, pieces = detokenizer.without_duplicates(texts, scores, computed["lengths"], pieces)
    return outputs | {"alternatives": texts, "alternative_scores": scores, "alternative_pieces": pieces}
