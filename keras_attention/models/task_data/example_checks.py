"""Find training data from which no model can learn, and probable mistakes in them."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from keras_attention.data.batching.splitting import input_of, is_pair
from keras_attention.data.lines import DataError, DataWarning, counted
from keras_attention.data.reading.captions import CaptionedImage
from keras_attention.data.tokenization.text_reader import as_tuple

_FEW_EXAMPLES, _FEW_CHARACTERS = 10, 1000
_MANY_LABELS = 50  # if there are more labels and nearly all occur once, the column is probably wrong


def check_training(data: Any, examples: Sequence, validation: Sequence, known_labels: Sequence[str]) -> None:
    """Check training examples; see `TaskData.check_training`."""
    problems = [
        _label_problem(data, examples, known_labels),
        _similar_labels(data, examples),
        _missing_labels(data, examples, validation),
        _one_label(data, examples, validation),
        _few(examples),
        _empty(data, examples),
        _equal(data, examples),
        _copied(data, examples),
        _contradictory(data, examples),
        _validation_overlap(examples, validation),
    ]
    for problem in filter(None, problems):
        warnings.warn(problem, DataWarning, stacklevel=5)  # the caller of `ka.train`


def _shown(text: Any) -> str:
    return (text if isinstance(text, (str, bytes)) else " ".join(text))[:60]


def _label_problem(data: Any, examples: Sequence, known: Sequence[str]) -> str:
    counts = data.label_counts(examples).most_common()
    once = [label[:40] for label, count in counts if count == 1]
    if len(counts) == 1:
        all_have = f"All {len(examples)} training examples have" if len(examples) > 1 else "The training example has"
        message = f"{all_have} the label {counts[0][0]}"
        if not known:
            raise DataError(
                f"{message}; expected at least two labels. Add examples of other labels, or {data.column_hint}."
            )
        return f"{message}, so the model learns to return it for any text."
    if len(counts) > _MANY_LABELS and len(once) >= 0.9 * len(counts) and not known:
        raise DataError(
            f"There are {len(counts)} labels for {len(examples)} examples, such as {', '.join(once[:3])}; expected "
            f"labels that occur several times. If they are in another column, {data.column_hint}."
        )
    if once:
        return (
            f"These labels occur once: {', '.join(once[:10])}. One may be a mistake, or the name of a column in a "
            f"header; {data.column_hint}."
        )
    return ""


def _similar_labels(data: Any, examples: Sequence) -> str:
    groups: dict[Any, list[str]] = {}
    for label in data.labels(examples):
        groups.setdefault(_plain(label), []).append(label)
    similar = [group for group in groups.values() if len(group) > 1]
    if not similar:
        return ""
    shown = ", ".join(" and ".join(map(ascii, group)) for group in similar[:3])
    return f"These labels are almost equal, but they are different labels: {shown}. Write equal labels in the same way."


def _plain(label: str) -> str:
    """Return a label without differences of case, normal form, spaces and invisible characters; 1.0 becomes 1."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", label) if unicodedata.category(c) != "Cf")
    plain = " ".join(visible.casefold().split())
    return re.sub(r"(\d)\.0+$", r"\1", plain)


def _missing_labels(data: Any, examples: Sequence, validation: Sequence) -> str:
    known = data.label_counts(examples)
    missing = {label: count for label, count in data.label_counts(validation).items() if label not in known}
    if not missing:
        return ""
    shown = ", ".join(f"{label} ({count})" for label, count in missing.items())
    return (
        f"No training example has these labels of the validation examples: {shown}. The model cannot predict them, so "
        "they lower the metric."
    )


def _one_label(data: Any, examples: Sequence, validation: Sequence) -> str:
    labels = data.labels(validation)
    if len(labels) != 1 or labels[0] not in data.labels(examples):
        return ""
    return (
        f"All validation examples have the label {labels[0][:40]}, so the validation metric does not tell how good the "
        "model is for other labels. Use validation examples of several labels."
    )


def _few(examples: Sequence) -> str:
    """Return the warning that few inputs differ, or that the lines of texts that differ have few characters."""
    is_text = all(isinstance(example, str) for example in examples)
    distinct, size = set(), 0
    for unit in _units(examples):
        size += (len(unit) if is_text else 1) * (unit not in distinct)
        distinct.add(unit)
        if size >= (_FEW_CHARACTERS if is_text else _FEW_EXAMPLES):
            return ""
    if is_text:
        total = sum(map(len, examples))
        repeated = f", {size:,} in lines that differ" if total >= _FEW_CHARACTERS else ""
        text = f"The training texts have {counted(total, 'character')} in all{repeated}"
        return f"{text}, which is too little to learn from; tens of thousands are needed."
    text = f"There are {len(examples):,} training examples" if len(examples) > 1 else "There is one training example"
    repeated = f", of which {size} {'differs' if size == 1 else 'differ'}" if size < len(examples) else ""
    return f"{text}{repeated}, too few to learn from; a few hundred are needed."


def _pairs(examples: Sequence) -> Iterator[tuple[Any, str]]:
    """Yield (input, output) of each example, and (word, tag) of sentences; nothing for texts and images."""
    for example in examples:
        if not isinstance(example, (str, CaptionedImage)):
            yield from [(input_of(example), example[1])] if is_pair(example) else example


def _empty(data: Any, examples: Sequence) -> str:
    total = inputs = outputs = 0
    for input_text, output_text in _pairs(examples):
        total += 1
        inputs += not "".join(as_tuple(input_text)).strip()
        outputs += not output_text.strip()
    if total and outputs == total:
        raise DataError(
            f"The target, label or tag of all {total} examples is empty; expected text. If the file has this text, "
            f"{data.column_hint}."
        )
    names = {"input": inputs, "target, label or tag": outputs}
    shown = " and ".join(f"the {name} of {count}" for name, count in names.items() if count)
    if not shown:
        return ""
    return f"Without text: {shown} of {counted(total, 'example')}. Leave such examples out, or correct them."


def _equal(data: Any, examples: Sequence) -> str:
    for name, values in data.parts(examples).items():
        if len(values) < 2 or len(set(values)) > 1:
            continue
        if isinstance(examples[0], str) and len(set(_units(examples[:1]))) > 1:
            return f"All {len(values)} training texts are equal, so the model learns this one text. Add other texts."
        raise DataError(
            f"All {len(values)} training examples have the {name} {_shown(values[0])!r}; expected different ones. "
            f"Add other examples, or {data.column_hint}."
        )
    return ""


def _copied(data: Any, examples: Sequence) -> str:
    copies, total = [], 0
    for input_text, output_text in _pairs(examples):
        total += 1
        copies += [input_text] if input_text == output_text else []
    if 2 * len(copies) < max(total, 1):
        return ""
    return (
        f"The target, label or tag equals the input in {len(copies)} of {counted(total, 'example')}, such as "
        f"{copies[0][:40]!r}, so the model learns to copy. If this is not intended, {data.column_hint}."
    )


def _contradictory(data: Any, examples: Sequence) -> str:
    if not data.label_counts(examples):
        return ""
    labels_of: dict[Any, set] = {}
    for example in examples:
        labels = example[1] if is_pair(example) else " ".join(tag for _, tag in example)
        labels_of.setdefault(input_of(example), set()).add(labels)
    texts = [text for text, labels in labels_of.items() if len(labels) > 1]
    if not texts:
        return ""
    shown, inputs = _shown(texts[0]), counted(len(texts), "input has", "inputs have")
    labels = " and ".join(sorted(labels_of[texts[0]])[:2])
    return f"{inputs} different labels, such as {shown!r} with {labels}. Correct them."


def _validation_overlap(examples: Sequence, validation: Sequence) -> str:
    """Return the warning that most validation examples, or lines of texts, are also training examples."""
    inputs = list(_units(validation))
    known = set(inputs)
    trained = {unit for unit in _units(examples) if unit in known}
    count = sum(unit in trained for unit in inputs)
    if 2 * count <= len(inputs):
        return ""
    noun = "line" if isinstance(validation[0], str) else "example"
    return (
        f"The training {noun}s contain {count} of {counted(len(inputs), f'validation {noun}')}, so the validation "
        "metric does not tell how good the model is for other inputs. Use other validation examples."
    )


def _units(examples: Sequence) -> Iterator[Any]:
    for example in examples:
        yield from filter(str.strip, example.splitlines()) if isinstance(example, str) else [input_of(example)]
