"""Directories of Hugging Face's transformers: in as our models, and out again."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_attention import models
from keras_attention.weights.attributes import config_of, read_config, write_config
from keras_attention.weights.bert import BERT
from keras_attention.weights.convert import Family, canonical_arrays, collect_arrays, load_arrays
from keras_attention.weights.files import existing_directory, new_directory, open_arrays, read_json, write_arrays
from keras_attention.weights.gpt2 import GPT2
from keras_attention.weights.marian import MARIAN
from keras_attention.weights.megatron import is_megatron, megatron_family
from keras_attention.weights.roberta import ROBERTA
from keras_attention.weights.tokenizers import read_tokenizers, token_ids_for, write_tokenizers
from keras_attention.weights.xlnet import XLNET

FAMILIES = {family.name: family for family in (BERT, ROBERTA, GPT2, MARIAN, XLNET)}


def from_huggingface(directory: str | pathlib.Path, task: str | None = None, **parts: Any) -> models.Task:
    """Make a model of ours from a directory that transformers wrote: sizes, weights and tokenizers.

    Nothing is guessed: an attribute of `config.json` that could change the computation and is not known here, an
    array that is left over, and one that is missing are errors.

    Args:
        directory: holds `config.json`, `model.safetensors` (or shards with their index), and the tokenizer's files;
            without those the model works on ids.
        task: `"TextClassifier"`, `"MaskedLM"`, ...; by default that of the class that wrote it. Another task keeps the
            encoder and begins with a new head.
        **parts: `labels` of a classifier or tagger; `tokenizer` (of a translator `source_tokenizer` and
            `target_tokenizer`) instead of the directory's, None for none; and any size that should differ, such as
            `dropout=0.2`.

    Returns:
        a `MaskedLM`, `PermutationLM`, `TextClassifier`, `TextTagger`, `CausalLM` or `Translator`.

    Raises:
        ValueError: it is no such directory, the family or task is not known, or something of it has no place here.

    Example:
        >>> model = ka.CausalLM.from_preset("gpt2_small", vocabulary_size=7, width=4, num_heads=2, num_layers=1)
        >>> ka.to_huggingface(model, "tiny-gpt2")
        >>> ka.from_huggingface("tiny-gpt2").config == model.config
        True
    """
    path = existing_directory(directory)
    attributes, arrays = read_json(path / "config.json"), open_arrays(path)
    family = find_family(attributes, arrays)
    own = family.architectures.get(next(iter(attributes.get("architectures") or ()), ""), "")
    if "id2label" in attributes and task in (None, own):
        parts.setdefault(
            "labels", tuple(attributes["id2label"][key] for key in sorted(attributes["id2label"], key=int))
        )
    tokenizers = _own_tokenizers(path, family, parts)
    model = make_model(family, attributes, arrays, own, task, {**tokenizers, **parts})
    if tokenizers:
        _check_special_ids(family, attributes, model)
    return model


def find_family(attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> Family:
    """Return the tables for a checkpoint.

    Raises:
        ValueError: there are none.
    """
    if is_megatron(arrays):
        return megatron_family(attributes)
    name = attributes.get("model_type")
    if name not in FAMILIES:
        raise ValueError(f"The `model_type` in config.json is {name!r}; expected one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def make_model(
    family: Family,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Any],
    own: str,
    task: str | None,
    parts: dict[str, Any],
) -> models.Task:
    """Make the model that a family's tables describe, with the weights `arrays`.

    Args:
        family: the tables.
        attributes: their sizes.
        arrays: name -> array.
        own: the task whose head is in `arrays`, or "".
        task: the task to make; None for `own`.
        parts: tokenizers, labels, and sizes that should differ.
    """
    known = sorted(set(family.architectures.values()) - {""})
    task = task or own
    if task not in known:
        raise ValueError(
            f"`task` is {task!r}; expected one of {', '.join(known)}, since these weights do not say which."
        )
    kind, fields = getattr(models, task), read_config(family, attributes)
    names = canonical_arrays(family, arrays)
    fields |= {field: array in names and task == own for field, array in family.flags.items()}
    if task in ("TextClassifier", "TextTagger"):
        fields["labels"] = _labels(arrays, names, task == own, parts)
    parts = {name: value for name, value in parts.items() if name != "labels"}
    tokenizers = {name: parts.pop(name) for name in kind.tokenizer_names if name in parts}
    config = dataclasses.replace(config_of(family, fields), **_known_sizes(family, parts))
    model = kind(config, **tokenizers)
    load_arrays(model, family, arrays, fresh=task != own)
    return model


def to_huggingface(model: models.Task, directory: str | pathlib.Path) -> None:
    """Write a model as transformers reads it: `config.json`, `model.safetensors`, and simple tokenizers.

    `from_huggingface` makes the same model again, but for `max_length` where positions are relative: no file has a
    place for it. The weights are written in float32.

    Args:
        model: a Transformer of one of the families that have a table.
        directory: a new one; written beside and renamed into place.

    Raises:
        ValueError: the directory exists, or transformers has no such network.

    Example:
        >>> model = ka.MaskedLM.from_preset("bert_base", vocabulary_size=7, width=4, num_heads=2, num_layers=1)
        >>> ka.to_huggingface(model, "tiny-bert")
        >>> ka.from_huggingface("tiny-bert").config.vocabulary_size
        7
    """
    family = family_of(model)
    if model.quantization or model.has_lora:
        raise ValueError(
            "The projections are quantised or carry LoRA's pairs, which transformers has no place for. Write the model "
            "before quantising it; LoRA is merged by saving it and loading it again."
        )
    attributes = write_config(family, model.config, model.task_name())
    attributes |= {name: i for name, i in token_ids_for(family, model).items() if name not in attributes}
    with new_directory(directory) as path:
        (path / "config.json").write_text(json.dumps(attributes, indent=2) + "\n", encoding="utf-8")
        write_arrays(path, collect_arrays(model, family))
        write_tokenizers(model, path)


def family_of(model: models.Task) -> Family:
    """Return the tables that a model can be written with.

    Raises:
        ValueError: transformers has no such network.
    """
    config = getattr(model, "config", None)
    fitting = [
        family
        for family in FAMILIES.values()
        if type(config) is family.config and model.task_name() in family.architectures.values()
    ]
    if not fitting:
        raise ValueError(
            f"transformers has no network like this {type(model).__name__}; expected a Transformer of one of "
            f"{', '.join(FAMILIES)}."
        )
    # The nearest; `write_config` says what it lacks, if anything.
    return min(
        fitting,
        key=lambda family: sum(getattr(config, name) != value for name, value in family.fixed.items()),
    )


def _labels(arrays: Mapping[str, Any], names: Mapping[str, str], has_head: bool, parts: Mapping[str, Any]) -> tuple:
    """The names of the classes: those given, or LABEL_0, LABEL_1, ... for each row of the head."""
    if parts.get("labels"):
        return tuple(parts["labels"])
    head = next(
        (names[name] for name in ("classifier.out_proj.bias", "classifier.bias", "logits_proj.bias") if name in names),
        None,
    )
    if not has_head or head is None:
        raise ValueError("These weights have no labels; expected labels=(...) (--labels A,B), a name for each class.")
    return tuple(f"LABEL_{i}" for i in range(len(arrays[head])))


def _check_special_ids(family: Family, attributes: Mapping[str, Any], model: models.Task) -> None:
    """Their ids of padding, start and end have to be those that our tokenizer has by the names of its pieces."""
    found = token_ids_for(family, model)
    other = {name: attributes[name] for name in found if attributes.get(name) not in (None, found[name])}
    if other:
        expected = ", ".join(f"{name} = {found[name]}" for name in other)
        raise ValueError(
            f"config.json has {', '.join(f'{name} = {value}' for name, value in other.items())}, but by the names of "
            f"its pieces the tokenizer has {expected}. Pass another `tokenizer`, or tokenizer=None for none."
        )


def _known_sizes(family: Family, parts: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = {field.name for field in dataclasses.fields(family.config)}
    unknown = sorted(set(parts) - fields)
    if unknown:
        raise ValueError(
            f"There is no {', '.join(unknown)}; expected tokenizers, labels, or {', '.join(sorted(fields))}."
        )
    return parts


def _own_tokenizers(path: pathlib.Path, family: Family, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The directory's tokenizers, unless they are given."""
    if any("tokenizer" in name for name in parts):
        return {}
    return read_tokenizers(path, family.name)
