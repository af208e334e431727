"""Read and write models as Hugging Face directories."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_attention import models
from keras_attention.argument_checks import did_you_mean, one_of
from keras_attention.config import MEAN, REGRESSION, SINGLE_LABEL
from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.storage import atomic_directory, local_path
from keras_attention.weights.attributes import make_config, read_config, unsupported, write_config
from keras_attention.weights.bert import BERT
from keras_attention.weights.convert import Family, canonical_names, collect_arrays, load_arrays
from keras_attention.weights.files import existing_directory, open_arrays, optional_json, read_json, write_arrays
from keras_attention.weights.gpt2 import GPT2
from keras_attention.weights.marian import MARIANS
from keras_attention.weights.roberta import ROBERTA
from keras_attention.weights.tokenizers import write_tokenizer
from keras_attention.weights.xlnet import XLNET

FAMILIES = (BERT, ROBERTA, GPT2, *MARIANS, XLNET)
_NAMES = tuple(dict.fromkeys(family.name for family in FAMILIES))


def from_huggingface(directory: str | pathlib.Path, task: str | None = None, **overrides: Any) -> models.Task:
    """Load a model from a Hugging Face directory: config, weights and tokenizers.

    Unknown attributes of `config.json`, missing arrays and unused arrays are errors.

    Args:
        directory: has `config.json`, `model.safetensors` (or shards with their index), and the tokenizer's files.
            Without tokenizer files the model takes token ids.
        task: the class name of the task, such as `"TextClassifier"`; None for the task in `config.json`. A model of
            another task has the weights of the encoder and a new head. A new classifier uses mean pooling if
            sentence-transformers does.
        **overrides: `labels` of a classifier or tagger; `tokenizer` (for a translator `source_tokenizer` and
            `target_tokenizer`) to use instead of the directory's, or None to load no tokenizer; and other config fields
            with new values, such as `dropout=0.2`.

    Returns:
        A `MaskedLM`, `PermutationLM`, `TextClassifier`, `TextTagger`, `CausalLM` or `Translator`.

    Raises:
        ValueError: the directory is not a Hugging Face directory; the family, the task or an override is unknown; or
            the config, weights or tokenizer are not supported.

    Example:
        >>> model = ka.CausalLM.from_preset("gpt2_small", vocabulary_size=7, width=4, num_heads=2, num_layers=1)
        >>> ka.weights.to_huggingface(model, "tiny-gpt2")
        >>> ka.weights.from_huggingface("tiny-gpt2").config == model.config
        True
    """
    path = existing_directory(directory)
    attributes, arrays = read_json(path / "config.json"), open_arrays(path)
    family = _find_family(attributes)
    stored = stored_task(path)
    task = _check_task(task or stored, family)
    has_tokenizer = any("tokenizer" in name for name in overrides)
    tokenizers = {} if has_tokenizer else family.read_tokenizers(path)
    fields = read_config(family, attributes)
    names = canonical_names(family, arrays)
    fields |= {field: array in names and task == stored for field, array in family.optional_arrays.items()}
    if task in ("TextClassifier", "TextTagger"):
        fields["labels"] = _labels(family, attributes, arrays, task, stored, overrides.pop("labels", ()))
    if task == "TextClassifier" == stored:
        fields["problem_type"] = attributes.get("problem_type") or _problem_type(fields["labels"])
    elif task == "TextClassifier" and _has_mean_pooling(path):
        fields["pooling"] = MEAN
    overrides.pop("labels", None)
    model = _make_model(family, task, fields, {**tokenizers, **overrides})
    load_arrays(model, family, arrays, new_head=task != stored)
    model.is_pretrained = True
    return model


def stored_task(directory: str | pathlib.Path) -> str:
    """Return the task of a Hugging Face directory.

    Args:
        directory: a directory with `config.json`.

    Returns:
        the name of a task class, such as `"TextClassifier"`; "" for a model without a head.

    Raises:
        ValueError: the directory has no `config.json`, or the family is unknown.

    Example:
        >>> import json, pathlib
        >>> pathlib.Path("gpt2").mkdir()
        >>> config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
        >>> _ = pathlib.Path("gpt2", "config.json").write_text(json.dumps(config))
        >>> stored_task("gpt2")
        'CausalLM'
    """
    attributes = read_json(existing_directory(directory) / "config.json")
    return _find_family(attributes).architectures.get(next(iter(attributes.get("architectures") or ()), ""), "")


def to_huggingface(model: models.Task, directory: str | pathlib.Path) -> None:
    """Write a model as a Hugging Face directory: `config.json`, `model.safetensors` and the tokenizer's files.

    `from_huggingface` loads the same model, except for the `max_length` of a model with relative positions, because
    `config.json` has no attribute for it. Weights are written in float32. SentencePiece tokenizers are not written.

    Args:
        model: a Transformer of one of the families BERT, RoBERTa, GPT-2, Marian and XLNet.
        directory: a new directory. It is created after all files are written.

    Raises:
        ValueError: the directory exists, transformers has no such network, or the model is quantized or has LoRA
            weights.

    Example:
        >>> model = ka.MaskedLM.from_preset("bert_base", vocabulary_size=7, width=4, num_heads=2, num_layers=1)
        >>> ka.weights.to_huggingface(model, "tiny-bert")
        >>> ka.weights.from_huggingface("tiny-bert").config.vocabulary_size
        7
    """
    family = _family_of(model)
    if model.quantization or model.has_lora:
        raise ValueError(
            "The model is quantized or has LoRA weights, which cannot be written for transformers. Write it before you "
            "quantize it; to merge LoRA, save the model and load it again."
        )
    attributes = {**_token_ids(family, model), **write_config(family, model.config, model.spec.class_name)}
    if local_path(directory).exists():
        raise ValueError(f"{str(directory)!r} exists; expected a new directory. Nothing was overwritten.")
    with atomic_directory(directory) as path:
        (path / "config.json").write_text(json.dumps(attributes, indent=2) + "\n", encoding="utf-8")
        write_arrays(path, collect_arrays(model, family))
        write_tokenizer(model.tokenizers.get("tokenizer"), path, family.roles)


def _find_family(attributes: Mapping[str, Any]) -> Family:
    name = attributes.get("model_type")
    if name not in _NAMES:
        raise ValueError(
            f"config.json has `model_type` {name!r}; expected {one_of(_NAMES)}. Choose a checkpoint of one of these."
        )
    variants = [family for family in FAMILIES if family.name == name]
    return min(variants, key=lambda family: len(unsupported(family, attributes)))


def _check_task(task: str, family: Family) -> str:
    known = sorted(set(family.architectures.values()) - {""})
    if task not in known:
        raise ValueError(
            f"`task` is {task!r}; expected {one_of(known)}. Pass `task=` if config.json does not define it."
        )
    return task


def _make_model(family: Family, task: str, fields: Mapping[str, Any], overrides: dict[str, Any]) -> models.Task:
    """Make a model with initial weights; `overrides` are tokenizers and config fields with new values."""
    kind, known = getattr(models, task), {field.name for field in dataclasses.fields(family.config)}
    tokenizers = {name: overrides.pop(name) for name in kind.spec.tokenizer_names if name in overrides}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(
            f"There is no {', '.join(unknown)}; expected tokenizers, labels, or {', '.join(sorted(known))}."
            f"{did_you_mean(unknown[0], known)}"
        )
    return kind(make_config(family, fields, **overrides), **tokenizers)


def _labels(
    family: Family,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Any],
    task: str,
    stored_task: str,
    labels: tuple[str, ...],
) -> tuple[str, ...]:
    """Return `labels`, else the labels in `config.json`, else LABEL_0, LABEL_1, ... for the rows of the head."""
    if labels:
        return tuple(labels)
    if task == stored_task and "id2label" in attributes:
        return tuple(attributes["id2label"][key] for key in sorted(attributes["id2label"], key=int))
    biases = [row.hf_name for row in family.rows if row.path == "head.bias" and row.task in (None, task)]
    names = canonical_names(family, arrays)
    if task != stored_task or biases[0] not in names:
        raise ValueError("These weights have no labels; expected `labels`, a name for each class.")
    return tuple(f"LABEL_{i}" for i in range(len(arrays[names[biases[0]]])))


def _has_mean_pooling(directory: pathlib.Path) -> bool:
    """Return whether sentence-transformers files request mean pooling."""
    return bool(optional_json(directory / "1_Pooling" / "config.json").get("pooling_mode_mean_tokens"))


def _problem_type(labels: tuple[str, ...]) -> str:
    """Return the default problem type of transformers: a regression for one label, otherwise a single label."""
    return REGRESSION if len(labels) == 1 else SINGLE_LABEL


def _family_of(model: models.Task) -> Family:
    """Return the tables that fit the model best; `write_config` raises an error for what does not fit."""
    families = FAMILIES if isinstance(model, models.Task) else ()
    fitting = [
        family
        for family in families
        if type(model.config) is family.config and model.spec.class_name in family.architectures.values()
    ]
    if not fitting:
        raise ValueError(
            f"transformers has no network like this {type(model).__name__}; expected a Transformer of the family "
            f"{' or '.join(_NAMES)}. Save this model with `save`."
        )
    return min(
        fitting,
        key=lambda family: sum(getattr(model.config, name) != value for name, value in family.family_defaults.items()),
    )


def _token_ids(family: Family, model: models.Task) -> dict[str, int]:
    """Return the `*_token_id` attributes of a model.

    Raises:
        ValueError: a field of the config contradicts the ids of the tokenizer.
    """
    *_, tokenizer = model.tokenizers.values()  # a translator's target tokenizer
    if tokenizer is None:
        names = ("vocabulary_size", "source_vocabulary_size", "target_vocabulary_size")
        size = min(value for value in (getattr(model.config, name) for name in names) if value)
        ids = dict(zip(("pad", "start", "end"), (i % size for i in family.default_token_ids), strict=True))
    else:
        ids = dataclasses.asdict(special_tokens_of(tokenizer))
    token_ids = {name: ids[kind] for name, kind in family.token_ids.items()}
    for row in family.attributes:  # RoBERTa's positions are counted from the padding id
        value = getattr(model.config, row.field)
        if tokenizer is not None and row.hf_name in token_ids and row.read(token_ids[row.hf_name], {}) != value:
            expected = row.read(token_ids[row.hf_name], {})
            raise ValueError(
                f"transformers computes `{row.field}` from {row.hf_name}, which is {token_ids[row.hf_name]} in this "
                f"tokenizer, but `{row.field}` is {value}; expected {expected}. Make the model with "
                f"{row.field}={expected}."
            )
    return token_ids
