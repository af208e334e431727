"""Convert Hugging Face checkpoints with one table of names per family.

A row of a table names one checkpoint array, the weights of our model that it contains, and
the transform between both:

    Row("h.{i}.attn.c_attn.weight", ("decoder.blocks.{i}.attention.query_projection.kernel", ...), SPLIT_QKV)

The same rows are used in both directions. A path is a list of attributes that starts at the model. If a model does
not have the paths of a row, such as the head of another task, the row does not apply to it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_attention.weights.token_files import SpecialTokenRole

_HEADS = ("head.", "pooler.", "output_bias.", "next_sentence_head.")  # paths that only one task has


class Transform(NamedTuple):
    """Converts one checkpoint array to our arrays, and back; H is the number of attention heads.

    Attributes:
        read: (checkpoint array, H) -> our arrays.
        write: (our arrays, H) -> checkpoint array.
    """

    read: Callable[[np.ndarray, int], Sequence[np.ndarray]]
    write: Callable[[Sequence[np.ndarray], int], np.ndarray]

    def then(self, other: Transform) -> Transform:
        """Return the transform that applies this one and then `other`; this transform must return exactly one array."""
        return Transform(
            lambda array, heads: other.read(self.read(array, heads)[0], heads),
            lambda arrays, heads: self.write([other.write(arrays, heads)], heads),
        )


IDENTITY = Transform(lambda array, heads: [array], lambda arrays, heads: arrays[0])
TRANSPOSED = Transform(lambda array, heads: [array.T], lambda arrays, heads: arrays[0].T)
SQUEEZE_FIRST = Transform(lambda array, heads: [array[0]], lambda arrays, heads: arrays[0][None])  # (1, ...) <-> (...)
SPLIT_QKV = Transform(
    lambda array, heads: np.split(array, 3, axis=-1), lambda arrays, heads: np.concatenate(arrays, axis=-1)
)


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        hf_name: the name of the checkpoint array; `{i}` is the number of a block.
        path: one or several paths in our model, such as `"encoder.blocks.{i}.hidden.kernel"`.
        transform: converts between both.
        task: the only task to which the row applies; None for all tasks.
    """

    hf_name: str
    path: str | tuple[str, ...]
    transform: Transform = IDENTITY
    task: str | None = None


def dense(hf_name: str, path: str, transform: Transform = TRANSPOSED, task: str | None = None) -> tuple[Row, Row]:
    """Return the rows of a dense layer; PyTorch stores the transposed kernel of Keras."""
    kernel = Row(f"{hf_name}.weight", f"{path}.kernel", transform, task)
    return kernel, Row(f"{hf_name}.bias", f"{path}.bias", IDENTITY, task)


def norm(hf_name: str, path: str) -> tuple[Row, Row]:
    """Return two rows of a name table, for the scale and the shift of a layer normalization."""
    return Row(f"{hf_name}.weight", f"{path}.gamma"), Row(f"{hf_name}.bias", f"{path}.beta")


class Attribute(NamedTuple):
    """An attribute of transformers' `config.json` and the equivalent field of our config.

    Attributes:
        hf_name: the name of the attribute.
        field: the name of the field.
        read: (value of the attribute, all attributes) -> value of the field.
        write: (value of the field, our config) -> value of the attribute.
    """

    hf_name: str
    field: str
    read: Callable[[Any, Mapping[str, Any]], Any] = lambda value, attributes: value
    write: Callable[[Any, Any], Any] = lambda value, config: value


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of checkpoints: tables, and the reader of its tokenizers.

    Args:
        name: the `model_type` in `config.json`.
        config: the class of our config.
        architectures: transformers class -> our task; "" for a class without a head. Of several classes with the same
            task, the first is written, or the last if one of `optional_arrays` is set.
        attributes: attributes that correspond to fields of our config.
        rows: the arrays.
        read_tokenizers: directory -> dict of the model's tokenizer arguments, such as `{"tokenizer": ...}`; empty if
            the directory has no tokenizer.
        roles: the special tokens.
        token_ids: attribute -> the special token with this id: `"pad"`, `"start"` or `"end"`.
        default_token_ids: ids of pad, start and end in a model without tokenizer; negative ids count from the end of
            the vocabulary.
        supported_values: attribute -> its supported values.
        ignored_attributes: attributes that do not change the computation.
        defaults: values of attributes that `config.json` does not have.
        family_defaults: fields of our config that have one value in the whole family.
        optional_arrays: boolean field of our config -> the array that a checkpoint has if the field is True.
        tied_arrays: name of a copy of an array -> name of the array. A checkpoint may lack the copy; else both must be
            equal.
        ignored: patterns of names of arrays that are not loaded.
        heads: patterns of names of arrays that only one task has.
        prefix: the prefix of the base model's array names; a checkpoint of the base model alone lacks it.
        renamed: (pattern, replacement) pairs from old names of arrays to the names in the rows.
    """

    name: str
    config: type
    architectures: Mapping[str, str]
    attributes: tuple[Attribute, ...]
    rows: tuple[Row, ...]
    read_tokenizers: Callable[[pathlib.Path], dict[str, Any]]
    roles: tuple[SpecialTokenRole, ...]
    token_ids: Mapping[str, str]
    default_token_ids: tuple[int, int, int]
    supported_values: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    ignored_attributes: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    family_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optional_arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tied_arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()


def canonical_names(family: Family, arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return a dict: the name of each array in the family's rows -> its name in `arrays`."""
    names = {}
    for original in arrays:
        name = original
        for pattern, replacement in family.renamed:
            name = re.sub(pattern, replacement, name)
        names[name] = original
    if family.prefix and not any(name.startswith(family.prefix) for name in names):
        bodies = tuple(row.hf_name for row in family.rows if row.hf_name.startswith(family.prefix))
        starts = {body.removeprefix(family.prefix).split(".")[0] for body in bodies}
        names = {family.prefix + name if name.split(".")[0] in starts else name: old for name, old in names.items()}
    for copy, source in family.tied_arrays.items():  # some checkpoints have only the copy
        if source not in names and copy in names:
            names[source] = names.pop(copy)
    return names


def load_arrays(model: keras.Model, family: Family, arrays: Mapping[str, np.ndarray], new_head: bool = False) -> None:
    """Set every weight of a model from the arrays of a checkpoint.

    Args:
        model: a task of this library.
        family: the tables of the checkpoint's family.
        arrays: name -> array; read one at a time.
        new_head: do not load a head. The model keeps its initial head, and its initial pooler if `arrays` has none.

    Raises:
        ValueError: an array is missing, unused, of the wrong shape, or different from the array that it is tied to.
    """
    names, rows = canonical_names(family, arrays), list(_rows_of(model, family))
    if new_head:
        names = {name: original for name, original in names.items() if not _matches(name, family.heads)}
    _check_rows(model, family, rows)
    _check_arrays(model, family, names, rows, new_head)
    _check_copies(family, names, arrays)
    for row in rows:
        if row.hf_name in names:
            _assign(model, row, np.asarray(arrays[names[row.hf_name]]))


def collect_arrays(model: keras.Model, family: Family) -> dict[str, np.ndarray]:
    """Return the weights of a model as the arrays of a checkpoint, in float32; the inverse of `load_arrays`.

    Args:
        model: a task of this library.
        family: the tables of the family to write.

    Returns:
        dict of name -> array.
    """
    rows = list(_rows_of(model, family))
    _check_rows(model, family, rows)
    arrays = {}
    for row in rows:
        weights = [keras.ops.convert_to_numpy(get_weight(model, path)).astype("float32") for path in row.path]
        arrays[row.hf_name] = np.ascontiguousarray(row.transform.write(weights, model.config.num_heads))
    return arrays


def get_weight(model: Any, path: str) -> Any:
    """Return the weight at a path such as `"encoder.blocks.0.hidden.kernel"`, or None."""
    for part in path.split("."):
        if model is None:
            return None
        is_missing = part.isdigit() and int(part) >= len(model)
        model = None if is_missing else model[int(part)] if part.isdigit() else getattr(model, part, None)
    return model


def _rows_of(model: keras.Model, family: Family) -> Iterator[Row]:
    """Yield the rows that apply to a model, one for each block; `path` is a tuple of paths."""
    num_blocks = max(model.config.num_layers, getattr(model.config, "decoder_layers", 0))
    for row in family.rows:
        if row.task not in (None, model.spec.class_name):
            continue
        templates = (row.path,) if isinstance(row.path, str) else row.path
        for i in range(num_blocks if "{i}" in row.hf_name else 1):
            paths = tuple(path.replace("{i}", str(i)) for path in templates)
            if all(get_weight(model, path) is not None for path in paths):
                yield row._replace(hf_name=row.hf_name.replace("{i}", str(i)), path=paths)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _assign(model: keras.Model, row: Row, array: np.ndarray) -> None:
    try:
        values = row.transform.read(array, model.config.num_heads)
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{row.hf_name} has the shape {array.shape}, which cannot be converted to {', '.join(row.path)}; expected "
            "the shape of the family's table. Check that config.json belongs to these weights."
        ) from error
    for path, value in zip(row.path, values, strict=True):
        variable = get_weight(model, path)
        if tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"{row.hf_name} has the shape {array.shape}; by the config {path} has {tuple(variable.shape)}. Check "
                "that config.json belongs to these weights, and that no size was changed."
            )
        value = np.asarray(value, "float32")
        if value.size and np.isnan(value.min()):
            raise ValueError(f"{row.hf_name} has NaN values, so all outputs would be NaN. Choose another checkpoint.")
        variable.assign(value)


def _check_rows(model: keras.Model, family: Family, rows: Sequence[Row]) -> None:
    """Raise a ValueError if a weight of the model is in no row."""
    in_rows = {id(get_weight(model, path)) for row in rows for path in row.path}
    missing = [weight.path for weight in model.weights if id(weight) not in in_rows]
    if missing:
        raise ValueError(
            f"The table of the family {family.name} has no row for {_shorten(missing)} of this {type(model).__name__}; "
            "expected a row for each weight. Save this model with `save` instead."
        )


def _check_arrays(
    model: keras.Model, family: Family, names: Mapping[str, str], rows: Sequence[Row], new_head: bool
) -> None:
    """Raise a ValueError if an array is missing or unused."""
    needed = [row.hf_name for row in rows if not (new_head and all(a.startswith(_HEADS) for a in row.path))]
    missing = [name for name in needed if name not in names]
    used = {row.hf_name for row in rows} | set(family.tied_arrays)
    unused = [old for name, old in names.items() if name not in used and not _matches(name, family.ignored)]
    problems = [f"lack {_shorten(missing)}"] * bool(missing)
    problems += [f"also have {_shorten(unused)}, which the model does not use"] * bool(unused)
    if problems:
        raise ValueError(
            f"These weights do not fit a {type(model).__name__} of the family {family.name}: they "
            f"{' and '.join(problems)}. Expected exactly the arrays of the family's table. To load another task with a "
            "new head, pass `task=`."
        )


def _check_copies(family: Family, names: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    for copy, source in family.tied_arrays.items():
        if copy in names and not np.array_equal(arrays[names[copy]], arrays[names[source]]):
            raise ValueError(
                f"{names[copy]} differs from {names[source]}; expected equal arrays, because "
                f"this library has one weight for both in a {family.name} model. Remove {names[copy]} to use the other."
            )


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(sorted(names)[:8]) + more
