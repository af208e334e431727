"""Split examples into training and validation examples; equal inputs are in the same part."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import require_proper_fraction
from keras_attention.data.reading.captions import CaptionedImage

_MIN_GROUPS, _MAX_GROUPS = 20, 1000
_MIN_CHARACTERS, _MAX_CHARACTERS = 2000, 1_000_000
_SEPARATORS = ("\n\n", "\n", " ")  # where a text is cut, if one of them is near


def split_examples(
    examples: Sequence,
    fraction: float = 0.1,
    seed: int = 0,
    label_counts: Callable[[Sequence], collections.Counter[str]] | None = None,
) -> tuple[list, list]:
    """Split examples at random into training and validation examples.

    Examples with equal inputs (source, text, words) are a group, and so are the captions of an image. All examples of a
    group are in the same part. At least 1 and at most 1,000 groups are validation examples; none if there are fewer
    than 20 groups. At least one of these groups has a label other than the most frequent one, because a metric on
    examples of one label is not informative.

    Fewer than 20 texts of a language model are cut instead: the last part, at most 1,000,000 characters, is the
    validation text. The cut is at a line break or a space, if one is near. Texts of fewer than 2,000 characters in all
    are not cut.

    Args:
        examples: raw examples of a task.
        fraction: the fraction of groups, or of characters, for validation, in (0, 1).
        seed: the seed of the choice.
        label_counts: for a classifier or tagger, `data.label_counts` of its class, so that each label remains in the
            training examples.

    Returns:
        (training examples, validation examples), each in the order of `examples`.

    Raises:
        ValueError: `fraction` is outside (0, 1).

    Example:
        >>> pairs = [(f"source {i}", f"target {i}") for i in range(30)]
        >>> train, valid = split_examples(pairs)
        >>> len(train), len(valid)
        (27, 3)
    """
    require_proper_fraction("fraction", fraction)
    groups: dict[Any, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(input_of(example), []).append(index)
    if len(groups) < _MIN_GROUPS:
        is_text = len(examples) and all(isinstance(example, str) for example in examples)
        return _cut(examples, fraction) if is_text else (list(examples), [])
    chosen = _choose(examples, list(groups.values()), fraction, seed, label_counts or _no_labels)
    return tuple([e for i, e in enumerate(examples) if (i in chosen) == held_out] for held_out in (False, True))


def _no_labels(examples: Sequence) -> collections.Counter[str]:
    return collections.Counter()


def _choose(
    examples: Sequence, groups: list[list[int]], fraction: float, seed: int, label_counts: Callable
) -> set[int]:
    """Return the indices of the validation examples."""
    size = min(max(round(fraction * len(groups)), 1), _MAX_GROUPS)
    max_size, remaining = max(fraction * len(examples), 1), label_counts(examples)

    def labels_of(group: list[int]) -> collections.Counter[str]:
        return label_counts([examples[i] for i in group])

    def fits(group: list[int]) -> bool:
        return len(group) <= max_size and all(remaining[label] > count for label, count in labels_of(group).items())

    order = [groups[number] for number in np.random.default_rng(seed).permutation(len(groups))]
    frequent = {label for label, _ in remaining.most_common(1)}
    others = (number for number, group in enumerate(order) if len(remaining) > 1 and {*labels_of(group)} - frequent)
    first = next((number for number in others if fits(order[number])), 0)
    chosen: list[list[int]] = []
    for group in [order[first], *order[:first], *order[first + 1 :]]:
        if fits(group):
            chosen.append(group)
            remaining.subtract(labels_of(group))
        if len(chosen) == size:
            break
    return set(itertools.chain(*chosen))


def _cut(texts: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """Cut the stream of all texts; return the texts of the first part and those of the last part, for validation."""
    total = sum(map(len, texts))
    if total < _MIN_CHARACTERS:
        return list(texts), []
    num_validation = min(int(fraction * total), _MAX_CHARACTERS)
    index, size = len(texts) - 1, len(texts[-1])  # the text that is cut, and the size from its beginning to the end
    while size < num_validation:
        index -= 1
        size += len(texts[index])
    text, end = texts[index], size - num_validation
    positions = [text.rfind(separator, max(end - num_validation // 2, 0), end + 1) for separator in _SEPARATORS]
    position = next((position for position in positions if position > 0), end)
    parts = (text[:position].rstrip("\n "), text[position:].lstrip("\n "))
    first, last = ([part] if part.strip() else [] for part in parts)
    first, last = [*texts[:index], *first], [*last, *texts[index + 1 :]]
    return (first, last) if first else (list(texts), [])


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
