"""Convert transformers' `config.json` to our config and back; each attribute is mapped, checked or ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_attention.argument_checks import one_of
from keras_attention.weights.convert import Attribute, Family

_ACTIVATIONS = {
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_WRITTEN_ACTIVATIONS = {"relu": "relu", "silu": "swish", "gelu": "gelu", "gelu_tanh": "gelu_new"}

# Attributes of every family that do not change the network: only training, decoding or loading uses them.
_IGNORED_NAMES = """
    _attn_implementation _attn_implementation_autoset _name_or_path _num_labels architectures attn_implementation
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward cls_token_id decoder_start_token_id
    diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    id2label label2id language length_penalty mask_token_id max_length min_length model_type no_repeat_ngram_size
    num_beam_groups num_beams num_labels num_return_sequences output_attentions output_hidden_states output_past
    output_scores pad_token_id prefix problem_type remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tokenizer_class top_k
    top_p torch_dtype torchscript transformers_version typical_p use_bfloat16 use_cache
"""
# Attributes that other tools add -> what they are; they do not change the computation.
_OTHER_TOOLS = {
    "_commit_hash": "the revision on the hub",
    "finetuned_from": "the name of the model that was trained",
    "max_seq_length": "the length that a tool for training used",
    "model_max_length": "the length of the tokenizer's texts; the weights limit it too",
    "optimum_version": "the version of the tool that wrote the file",
    "return_all_scores": "what a pipeline shows",
    "sbert_ce_default_activation_function": "sentence-transformers applies it to the output of the network",
    "sentence_transformers": "its version, and what it applies to the output of the network",
    "transformers.js_config": "the files that a browser loads",
    "unsloth_fixed": "the tool that wrote the file",
    "unsloth_version": "the version of the tool that wrote the file",
}
# Attributes that other tools add and that change the computation -> why they are refused.
_REFUSED = {
    "adapters": "adapters are layers that the network of this library does not have",
    "auto_map": "it names Python code that computes another network",
    "peft_type": "the directory has adapters instead of a whole model; merge them first",
}
_IGNORED = frozenset(_IGNORED_NAMES.split()) | _OTHER_TOOLS.keys()
_SUPPORTED_VALUES: dict[str, tuple] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False,),
    "tie_word_embeddings": (True,),
}


def activation(hf_name: str) -> Attribute:
    """Return the row of the attribute `hf_name`, an activation function; its `read` refuses unsupported ones."""

    def read(value: Any, attributes: Mapping[str, Any]) -> str:
        if value not in _ACTIVATIONS:
            raise ValueError(
                f"config.json has `{hf_name}` {value!r}; expected {one_of(_ACTIVATIONS)}. Choose a checkpoint with "
                "one of these."
            )
        return _ACTIVATIONS[value]

    return Attribute(hf_name, "activation", read, lambda value, config: _WRITTEN_ACTIVATIONS[value])


def read_config(family: Family, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of our config for a `config.json`.

    Args:
        family: the tables of the checkpoint's family.
        attributes: the content of `config.json`.

    Returns:
        dict of field -> value.

    Raises:
        ValueError: an attribute is unknown or missing, or its value is not supported.
    """
    supported, mapped = {**_SUPPORTED_VALUES, **family.supported_values}, {row.hf_name for row in family.attributes}
    for name in _REFUSED.keys() & attributes.keys():
        raise ValueError(f"config.json has {name} = {attributes[name]!r}: {_REFUSED[name]}. Choose another checkpoint.")
    unknown = sorted(set(attributes) - mapped - set(supported) - _IGNORED - family.ignored_attributes)
    if unknown:
        raise ValueError(
            f"config.json has {', '.join(f'{name} = {attributes[name]!r}' for name in unknown)}, which this library "
            f"does not support for {family.name}. An unknown attribute could change the computation; remove it from "
            "config.json if it does not."
        )
    known = {**family.defaults, **attributes}
    for name in unsupported(family, attributes)[:1]:
        expected = " or ".join(repr(value) for value in supported[name])
        raise ValueError(
            f"`{name}` is {known[name]!r}, which is not supported for {family.name}; expected {expected}. "
            "Choose another checkpoint."
        )
    return {**family.family_defaults, **_mapped_fields(family, known)}


def unsupported(family: Family, attributes: Mapping[str, Any]) -> list[str]:
    """Return the names of attributes whose values a family does not support."""
    known = {**family.defaults, **attributes}
    supported = {**_SUPPORTED_VALUES, **family.supported_values}
    return [name for name, allowed in supported.items() if name in known and known[name] not in allowed]


def _mapped_fields(family: Family, known: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    missing = [row.hf_name for row in family.attributes if row.hf_name not in known]
    if missing:
        raise ValueError(
            f"config.json lacks {', '.join(missing)}; expected every size of the network. Add it to config.json."
        )
    for row in family.attributes:
        value = row.read(known[row.hf_name], known)
        if fields.setdefault(row.field, value) != value:
            same = [other.hf_name for other in family.attributes if other.field == row.field]
            values = " and ".join(f"{name} = {known[name]!r}" for name in same)
            raise ValueError(
                f"config.json has {values}; expected one `{row.field}` for both. Choose another checkpoint."
            )
    return fields


def write_config(family: Family, config: Any, task: str) -> dict[str, Any]:
    """Return the content of `config.json` for our config; the inverse of `read_config`.

    Args:
        family: the tables of the family to write.
        config: our config.
        task: the name of the task, such as `"CausalLM"`.

    Raises:
        ValueError: the family cannot express a field of the config.
    """
    for name, value in family.family_defaults.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"`{name}` is {getattr(config, name)!r}, but {family.name} models always have {value!r}, so "
                f"transformers cannot load this model. Make the model with {name}={value!r}, or save it with `save`."
            )
    written: dict[str, Any] = {}
    for row in family.attributes:
        value = row.write(getattr(config, row.field), config)
        if written.setdefault(row.hf_name, value) != value:
            same = [other.field for other in family.attributes if other.hf_name == row.hf_name]
            values = " and ".join(f"`{name}` = {getattr(config, name)!r}" for name in same)
            raise ValueError(f"{values}, but {family.name} has one `{row.hf_name}` for both; make them equal.")
    # None means Glorot's initialization. transformers needs a number; only initial weights depend on it.
    written |= {name: 0.02 for name in ("initializer_range", "init_std") if written.get(name, 0) is None}
    supported = {name: allowed[0] for name, allowed in family.supported_values.items()}
    labels = dict(enumerate(config.labels))
    if task == "TextClassifier":
        written["problem_type"] = config.problem_type
    if labels:
        written |= {"id2label": labels, "label2id": {label: i for i, label in labels.items()}}
    return {"model_type": family.name, "architectures": [_architecture(family, config, task)], **supported, **written}


def _architecture(family: Family, config: Any, task: str) -> str:
    names = [name for name, of in family.architectures.items() if of == task]
    if not names:
        tasks = one_of(sorted(set(family.architectures.values())))
        raise ValueError(
            f"There is no {task} of the family {family.name}; expected {tasks}. Save this model with `save`."
        )
    return names[-1] if any(getattr(config, field) for field in family.optional_arrays) else names[0]


def make_config(family: Family, fields: Mapping[str, Any], **overrides: Any) -> Any:
    """Return our config; fields that its class does not have are ignored.

    Args:
        family: the tables of the family.
        fields: from `read_config`.
        **overrides: config fields with new values.
    """
    known = {field.name for field in dataclasses.fields(family.config)}
    return family.config(**{name: value for name, value in {**fields, **overrides}.items() if name in known})
