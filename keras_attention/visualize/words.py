"""Merge the pieces of a text into words, and their attention scores into those of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_attention.outputs import Caption, Translation

_WORD_START = "\u2581"  # SentencePiece's mark for a space
_CONTINUATION = "##"  # WordPiece's mark for a piece that continues a word


def _is_special(piece: str) -> bool:
    from keras_attention.data.tokenization.special_tokens import NOT_TEXT  # imports Keras

    return piece in NOT_TEXT


def merge_words(pieces: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Merge sub-word pieces into words.

    Args:
        pieces: the pieces of one text, from a SentencePiece, WordPiece or character tokenizer.

    Returns:
        The words, and for each word the indices of its pieces. A special token is a separate, unchanged word.

    Example:
        >>> merge_words(["\\u2581com", "emos", "\\u2581pan", "</s>"])
        (['comemos', 'pan', '</s>'], [[0, 1], [2], [3]])
    """
    wordpiece = any(piece.startswith(_CONTINUATION) for piece in pieces)
    has_spaces = any(_WORD_START in piece for piece in pieces)
    words: list[str] = []
    groups: list[list[int]] = []
    for index, piece in enumerate(pieces):
        continues = (
            piece.startswith(_CONTINUATION) if wordpiece or not has_spaces else not piece.startswith(_WORD_START)
        )
        after_special = not words or _is_special(words[-1])
        text = piece.removeprefix(_CONTINUATION) if wordpiece else piece.replace(_WORD_START, "")
        if continues and not after_special and not _is_special(piece):
            words[-1] += text
            groups[-1].append(index)
        else:
            words.append(text)
            groups.append([index])
    return words, groups


def word_alignment(translation: Translation) -> tuple[list[str], list[str], np.ndarray]:
    """Merge the attention of a translation from pieces to words.

    The scores of a target word are the mean over its pieces. The score of a source word is the sum over its pieces.
    So each row still sums to 1.

    Args:
        translation: from a model with attention.

    Returns:
        Source words, target words, and scores (target words, source words).

    Raises:
        ValueError: the translation has no attention.

    Example:
        >>> scores = np.array([[0.5, 0.25, 0.25]], "float32")
        >>> pieces = ("\\u2581eat", "\\u2581bre", "ad"), ("\\u2581pan",)
        >>> word_alignment(ka.Translation("eat bread", "pan", -1.0, *pieces, scores))[2].tolist()
        [[0.5, 0.5]]
    """
    if translation.attention is None:
        raise ValueError(
            "This translation has no attention: its text is empty, or its model has none (such as rnn_seq2seq). "
            "Expected a translation from a model with attention, such as rnn_attention."
        )
    sources, source_groups = merge_words(translation.source_pieces)
    targets, target_groups = merge_words(translation.target_pieces)
    columns = np.stack([translation.attention[:, group].sum(1) for group in source_groups], axis=1)
    return sources, targets, np.stack([columns[group].mean(0) for group in target_groups])


def word_attention(caption: Caption) -> tuple[list[str], np.ndarray]:
    """Merge the attention of a caption from pieces to words.

    Args:
        caption: from a model with attention.

    Returns:
        The words without special tokens, and scores (words, rows, columns), the mean over the pieces of each word.

    Raises:
        ValueError: the caption has no attention.

    Example:
        >>> caption = Caption("pan", -1.0, ("\\u2581p", "an"), np.full((2, 3, 5), 0.25, "float32"))
        >>> words, scores = word_attention(caption)
        >>> words, scores.shape
        (['pan'], (1, 3, 5))
    """
    if caption.attention is None:
        raise ValueError(
            "This caption has no attention: its image could not be read, or its model has none (such as "
            "show_and_tell). Expected a caption from a model with attention, such as show_attend_and_tell."
        )
    words, groups = merge_words(caption.pieces)
    indices = [index for index, word in enumerate(words) if word and not _is_special(word)]
    maps = [caption.attention[groups[index]].mean(0) for index in indices]
    return [words[index] for index in indices], np.reshape(maps, (len(indices), *caption.attention.shape[1:]))
