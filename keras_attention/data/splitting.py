"""What identifies an example, so that equal inputs are recognized."""

from __future__ import annotations

from typing import Any

from keras_attention.data.captions import CaptionedImage


def is_pair(example: Any) -> bool:
    """Return whether an example is (input, output), such as (source, target), and not a text or a sentence of pairs."""
    return not isinstance(example, (str, CaptionedImage)) and len(example) == 2 and isinstance(example[1], str)


def input_of(example: Any) -> Any:
    """Return the input of an example: its image, source, text, pair of texts, or words.

    Example:
        >>> input_of(("we eat", "comemos")), input_of([("we", "PRON"), ("eat", "VERB")]), input_of("we eat")
        ('we eat', ('we', 'eat'), 'we eat')
    """
    if isinstance(example, CaptionedImage):
        return example.image
    if isinstance(example, str):
        return example
    if is_pair(example):
        return example[0] if isinstance(example[0], str) else tuple(example[0])
    return tuple(word for word, _ in example)
