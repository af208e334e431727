"""The one engine of foreign weights: tables say which of their arrays is which of ours.

A row names one foreign array, where its numbers stand in our model, and the form that leads from one to the
other:

    Row("h.{i}.attn.c_attn.weight", ("decoder.blocks.{i}.attention.query_projection.kernel", ...), THIRDS)

The same rows lead in and out. An address is a path of attributes from the model; a row whose address a model does
not have (a head of another task) does not count for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np


class Transform(NamedTuple):
    """How one array of theirs becomes ours, and back; both are told H, the number of heads."""

    read: Callable[[np.ndarray, int], Sequence[np.ndarray]]
    write: Callable[[Sequence[np.ndarray], int], np.ndarray]

    def then(self, other: Transform) -> Transform:
        """Return this form, and on its one result the other."""
        return Transform(
            lambda array, heads: other.read(self.read(array, heads)[0], heads),
            lambda arrays, heads: self.write([other.write(arrays, heads)], heads),
        )


SAME = Transform(lambda array, heads: [array], lambda arrays, heads: arrays[0])
TRANSPOSED = Transform(lambda array, heads: [array.T], lambda arrays, heads: arrays[0].T)
FIRST = Transform(lambda array, heads: [array[0]], lambda arrays, heads: arrays[0][None])  # (1, ...): only that
THIRDS = Transform(
    lambda array, heads: np.split(array, 3, axis=-1), lambda arrays, heads: np.concatenate(arrays, axis=-1)
)


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        theirs: name of a foreign array; `{i}` counts the blocks.
        ours: one or several addresses, such as `"encoder.blocks.{i}.hidden.kernel"`.
        form: how the one becomes the other.
        task: the only task that the row is for; None for any.
    """

    theirs: str
    ours: str | tuple[str, ...]
    form: Transform = SAME
    task: str | None = None


def dense(theirs: str, ours: str, form: Transform = TRANSPOSED, task: str | None = None) -> tuple[Row, Row]:
    """Return the rows of a dense layer; PyTorch keeps W' where Keras keeps W."""
    return Row(f"{theirs}.weight", f"{ours}.kernel", form, task), Row(f"{theirs}.bias", f"{ours}.bias", SAME, task)


def norm(theirs: str, ours: str) -> tuple[Row, Row]:
    """Return the rows of a layer normalisation."""
    return Row(f"{theirs}.weight", f"{ours}.gamma"), Row(f"{theirs}.bias", f"{ours}.beta")


class Attribute(NamedTuple):
    """One size of theirs and the field of our config that says the same.

    Attributes:
        theirs: its name in their `config.json`.
        ours: the field.
        read: (its value, all their attributes) -> our value.
        write: (our value, our config) -> its value.
    """

    theirs: str
    ours: str
    read: Callable[[Any, Mapping[str, Any]], Any] = lambda value, attributes: value
    write: Callable[[Any, Any], Any] = lambda value, config: value


@dataclasses.dataclass(frozen=True)
class Family:
    """What distinguishes the checkpoints of one family: tables, no code.

    Args:
        name: the `model_type`.
        config: the class of our config.
        architectures: their class -> our task, "" for one that has no head. The first of a task is written.
        attributes: sizes that both know.
        required: their attribute -> the values under which the computation is ours.
        ignored_attributes: their attributes that do not change the computation.
        defaults: what an absent attribute means.
        fixed: fields of our config that are the same in the whole family.
        rows: the arrays.
        flags: a field of our config -> the array whose presence says that it is True.
        tied: a second copy of an array -> the array. It may be absent, and has to be equal.
        ignored: patterns of names of arrays that nothing here needs.
        heads: patterns of names of arrays that only another task needs.
        prefix: stands before the names of the body, unless it was saved alone.
        renamed: (pattern, replacement), from spellings of other writers to that of the rows.
    """

    name: str
    config: type
    architectures: Mapping[str, str]
    attributes: tuple[Attribute, ...]
    rows: tuple[Row, ...]
    required: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    ignored_attributes: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()


def canonical_arrays(family: Family, arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return the name in the family's rows -> the name in `arrays`, for every array."""
    names = {}
    for original in arrays:
        name = original
        for pattern, replacement in family.renamed:
            name = re.sub(pattern, replacement, name)
        names[name] = original
    if family.prefix and not any(name.startswith(family.prefix) for name in names):
        bodies = tuple(row.theirs for row in family.rows if row.theirs.startswith(family.prefix))
        starts = {body.removeprefix(family.prefix).split(".")[0] for body in bodies}
        names = {family.prefix + name if name.split(".")[0] in starts else name: old for name, old in names.items()}
    for copy, source in family.tied.items():  # some writers keep the copy and leave the source out
        if source not in names and copy in names:
            names[source] = names.pop(copy)
    return names


def load_arrays(model: keras.Model, family: Family, arrays: Mapping[str, np.ndarray], fresh: bool = False) -> None:
    """Set every weight of a model from foreign arrays.

    Args:
        model: a task of this library.
        family: the tables.
        arrays: name -> array; read one at a time.
        fresh: the head of the model keeps its new weights, its pooler where `arrays` has none, and the head of
            another task in `arrays` is left out.

    Raises:
        ValueError: an array is missing, left over, of the wrong shape, or not equal to the one it is tied to.
    """
    names, rows = canonical_arrays(family, arrays), list(_rows_of(model, family))
    if fresh:
        names = {name: old for name, old in names.items() if not _matches(name, family.heads)}
    missing = [(row, at) for row, at in rows if row.theirs not in names and not (fresh and _is_head(row))]
    used = {row.theirs for row, _ in rows} | set(family.tied)
    left = [old for name, old in names.items() if name not in used and not _matches(name, family.ignored)]
    _check_complete([row.theirs for row, _ in missing], left, model, family)
    _check_covered(model, rows)
    for copy, source in family.tied.items():
        if copy in names and not np.array_equal(arrays[names[copy]], arrays[names[source]]):
            raise ValueError(
                f"{names[copy]} differs from {names[source]}; a {family.name} here has one array for both."
            )
    for row, addresses in rows:
        if row.theirs in names:
            _assign(model, row, addresses, np.asarray(arrays[names[row.theirs]]))


def collect_arrays(model: keras.Model, family: Family) -> dict[str, np.ndarray]:
    """Return the weights of a model as the family's arrays, in float32: the inverse of `load_arrays`."""
    rows = list(_rows_of(model, family))
    _check_covered(model, rows)
    heads, arrays = _num_heads(model), {}
    for row, addresses in rows:
        ours = [keras.ops.convert_to_numpy(find(model, address)).astype("float32") for address in addresses]
        arrays[row.theirs] = np.ascontiguousarray(row.form.write(ours, heads))
    return arrays


def find(model: Any, address: str) -> Any:
    """Return what stands at an address such as `"encoder.blocks.0.hidden.kernel"`, or None."""
    for part in address.split("."):
        if model is None:
            return None
        model = model[int(part)] if part.isdigit() else getattr(model, part, None)
    return model


def _rows_of(model: keras.Model, family: Family) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """Yield the rows that count for a model, one for each block, with their addresses."""
    for row in family.rows:
        if row.task not in (None, model.task_name()):
            continue
        ours = (row.ours,) if isinstance(row.ours, str) else row.ours
        for i in range(model.config.num_layers if "{i}" in row.theirs else 1):
            addresses = tuple(address.replace("{i}", str(i)) for address in ours)
            if all(find(model, address) is not None for address in addresses):
                yield row._replace(theirs=row.theirs.replace("{i}", str(i)), ours=addresses), addresses


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _is_head(row: Row) -> bool:
    return all(address.startswith(("head.", "pooler.", "output_bias.", "next_sentence_head.")) for address in row.ours)


def _num_heads(model: keras.Model) -> int:
    return model.config.num_heads


def _assign(model: keras.Model, row: Row, addresses: Sequence[str], array: np.ndarray) -> None:
    variables = [find(model, address) for address in addresses]
    try:
        values = row.form.read(array, _num_heads(model))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{row.theirs} has the shape {array.shape}, which does not lead to {addresses}.") from error
    for address, variable, value in zip(addresses, variables, values, strict=True):
        if tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"{row.theirs} has the shape {array.shape}; for {address} the config says {tuple(variable.shape)}."
            )
        variable.assign(np.asarray(value, "float32"))


def _check_complete(missing: list[str], left: list[str], model: keras.Model, family: Family) -> None:
    task, faults = type(model).__name__, []
    if missing:
        faults.append(f"lack {_shorten(missing)}")
    if left:
        faults.append(f"also hold {_shorten(left)}, which nothing in it would use")
    if faults:
        raise ValueError(
            f"These weights are not those of a {task} of the family {family.name}: they {' and '.join(faults)}. "
            "Expected exactly the arrays of its table; `task=` names another task, which begins with a new head."
        )


def _check_covered(model: keras.Model, rows: Sequence[tuple[Row, tuple[str, ...]]]) -> None:
    known = {id(find(model, address)) for _, addresses in rows for address in addresses}
    others = [weight.path for weight in model.weights if id(weight) not in known]
    if others:
        raise ValueError(f"The table has no row for {_shorten(others)} of this {type(model).__name__}.")


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(sorted(names)[:8]) + more
