"""The content of a saved task: its config, tokenizers and quantization."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras

from keras_attention import config as configs
from keras_attention.data.tokenization.special_tokens import SpecialTokens, set_special_tokens
from keras_attention.keras_support import keras_patches
from keras_attention.storage import local_path


def get_config(model: Any) -> dict:
    """Return the constructor's arguments, for saving."""
    tokenizers = {
        name: keras.saving.serialize_keras_object(getattr(model, name)) for name in model.spec.tokenizer_names
    }
    fields = {"class": type(model.config).__name__, **dataclasses.asdict(model.config)}
    quantization = keras.saving.serialize_keras_object(model.quantization)
    declared = {name: getattr(tokenizer, "declared_tokens", None) for name, tokenizer in model.tokenizers.items()}
    special = {name: dataclasses.asdict(tokens) for name, tokens in declared.items() if tokens is not None}
    attributes = {"name": model.name, "quantization": quantization, "special_tokens": special}
    return {"config": fields, **attributes, **tokenizers}


def from_config(task_class: type, config: dict, custom_objects: dict | None):
    """Make a model from a dict that `get_config` returned."""
    import keras_hub  # noqa: F401  (registers the tokenizers' classes)

    config = dict(config)
    fields = dict(config.pop("config"))
    if "labels" in fields:
        fields["labels"] = tuple(fields["labels"])
    tokenizers = {
        name: keras.saving.deserialize_keras_object(config.pop(name, None), custom_objects)
        for name in task_class.spec.tokenizer_names
    }
    for name, special in config.pop("special_tokens", {}).items():
        set_special_tokens(tokenizers[name], SpecialTokens(**special))
    quantization = keras.saving.deserialize_keras_object(config.pop("quantization", None), custom_objects)
    network = getattr(configs, fields.pop("class"))(**fields)
    model = keras_patches.make_model(lambda: task_class(network, **tokenizers, **config))
    if quantization is not None:
        model.quantize(config=quantization)  # before Keras loads the weights, which are quantized
    return model


def save(model: Any, filepath: str | pathlib.Path, *args: Any, **options: Any) -> None:
    """Save the weights, the config and the tokenizers to a `.keras` file; see `keras.Model.save`.

    Args:
        filepath: the file; its name ends in `.keras`.
        *args: further positional arguments of `keras.Model.save`.
        **options: the other arguments of `keras.Model.save`, such as `overwrite`.

    Raises:
        ValueError: the name has another ending.
    """
    filepath = local_path(filepath)
    if filepath.suffix != ".keras":
        name = filepath.with_suffix(".keras")
        raise ValueError(
            f"{filepath} does not end in .keras; another format loses the tokenizers. Use save('{name}'), "
            "save_weights('m.weights.h5') for the weights alone, or export('directory') for a SavedModel."
        )
    keras.Model.save(model, filepath, *args, **options)


def quantize(model: Any, mode: str | None, config: Any, filters: None) -> None:
    """Quantize all projections and embeddings; see `keras.Model.quantize`.

    Args:
        mode: a mode of Keras, such as `"int8"`.
        config: a quantization config of Keras, for more options than the mode.
        filters: must be None, because a saved file does not store which layers are quantized.

    Raises:
        ValueError: `filters` is not None, or the model has LoRA matrices.
    """
    if filters is not None:
        raise ValueError(
            "`filters` cannot be saved in a file; expected None, which quantizes all projections and embeddings."
        )
    kinds = (keras.layers.Dense, keras.layers.Embedding)  # neither tokenizers nor normalization
    if model.has_lora:
        raise ValueError(
            "The model has LoRA matrices. Save and load it first, which merges them into the weights. Then "
            "quantize the loaded model."
        )
    keras.Model.quantize(model, mode, config, filters=lambda layer: isinstance(layer, kinds))
    model.quantization = config
