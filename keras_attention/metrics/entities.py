"""Precision, recall and F1 of the entities of tagged sentences."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence

_TAG = re.compile(r"O|[BIESLU](-.+)?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class EntityMetrics:
    """Metrics of predicted entities. An entity is correct if its type, its first word and its last word are correct.

    Attributes:
        precision: correct / predicted entities, 0 to 1; 0 if there are none.
        recall: correct / expected entities, 0 to 1; 0 if there are none.
        f1: 2 correct / (predicted + expected entities), 0 to 1; 0 if there are none.
        total: the number of expected entities.

    Example:
        >>> EntityMetrics.from_counts(correct=3, predicted=4, expected=6)
        EntityMetrics(precision=0.75, recall=0.5, f1=0.6, total=6)
    """

    precision: float
    recall: float
    f1: float
    total: int

    @classmethod
    def from_counts(cls, correct: int, predicted: int, expected: int) -> EntityMetrics:
        """Return the metrics for numbers of entities."""
        f1 = 2 * correct / max(predicted + expected, 1)
        return cls(correct / max(predicted, 1), correct / max(expected, 1), f1, expected)


def have_entities(labels: Iterable[str]) -> bool:
    """Return whether tags describe entities: each is `O`, or has one of the prefixes of IOB1, IOB2, BIOES and BILOU.

    Example:
        >>> have_entities(["O", "B-PER", "I-PER"]), have_entities(["NOUN", "VERB"])
        (True, False)
    """
    labels = list(labels)
    return any(label.startswith(("B", "I")) for label in labels) and all(map(_TAG.fullmatch, labels))


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the entities of a sentence: (type, index of the first word, index of the last word).

    As in the script of CoNLL-2000 and 2003, one rule reads IOB1, IOB2, BIOES and BILOU without a conversion. A word
    continues the entity of the previous word if both have the same type, its prefix is `I`, `E` or `L`, and the prefix
    of the previous word is `B` or `I`. Any other word whose tag is not `O` begins an entity.

    Example:
        >>> entities(["I-PER", "I-PER", "B-PER", "O", "I-LOC"])
        [('PER', 0, 1), ('PER', 2, 2), ('LOC', 4, 4)]

    Reference: Tjong Kim Sang and De Meulder, 2003, https://aclanthology.org/W03-0419.
    """
    spans: list[tuple[str, int, int]] = []
    before, type_before = "O", ""
    for i, tag in enumerate(tags):
        prefix, _, type_ = tag.partition("-")
        if prefix in ("I", "E", "L") and before in ("B", "I") and type_ == type_before:
            spans[-1] = (type_, spans[-1][1], i)
        elif prefix != "O":
            spans.append((type_, i, i))
        before, type_before = prefix, type_
    return spans


def evaluate_entities(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[EntityMetrics, dict[str, EntityMetrics]]:
    """Compute precision, recall and F1 of the entities that tags describe.

    Args:
        expected: the tags of each sentence.
        predicted: the predicted tags of each sentence.

    Returns:
        the metrics of all entities (the micro average), and type -> metrics, sorted by type.

    Example:
        >>> micro, by_type = evaluate_entities([["B-PER", "I-PER", "B-LOC"]], [["B-PER", "O", "B-LOC"]])
        >>> micro.f1, by_type["LOC"].f1
        (0.5, 1.0)
    """
    counts = {name: collections.Counter() for name in ("correct", "predicted", "expected")}
    for expected_tags, predicted_tags in zip(expected, predicted, strict=True):
        sets = {"expected": set(entities(expected_tags)), "predicted": set(entities(predicted_tags))}
        sets["correct"] = sets["expected"] & sets["predicted"]
        for name, spans in sets.items():
            counts[name].update(type_ for type_, _, _ in spans)
    types = sorted(counts["expected"] | counts["predicted"])
    by_type = {type_: EntityMetrics.from_counts(*(count[type_] for count in counts.values())) for type_ in types}
    return EntityMetrics.from_counts(*(count.total() for count in counts.values())), by_type
