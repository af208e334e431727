"""`Task.from_model` and `Task.from_encoder`: a model with weights of another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_attention.config import TransformerConfig
from keras_attention.presets import ENCODER_TASKS, ENCODER_USES


def from_model(cls: Any, other: Any, **sizes: Any):
    """Make a model with the weights of another one of its task, and other sizes.

    Weights that both models have are copied. New ones are initialised: the rows that more learned positions or a
    captioner's `coordinate_features` add to a matrix, an output matrix of its own (`tie_weights=False`), the
    baseline of hard attention.

    Args:
        other: a model of this task. The new model's weights are trainable, even where those of `other` are not.
        **sizes: any size that should differ, such as `dropout=0.0`.

    Raises:
        TypeError: `other` is a model of another task.
        ValueError: an unknown size; one with which weights would be lost or would not fit; or weights of another
            kind: with LoRA, or quantised.

    Example:
        >>> import keras_attention as ka
        >>> sizes = {"vocabulary_size": 7, "width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5}
        >>> model = ka.CausalLM.from_preset("gpt2_small", max_length=11, **sizes)
        >>> longer = ka.CausalLM.from_model(model, max_length=13)
        >>> bool((longer.embedding.get_weights()[0] == model.embedding.get_weights()[0]).all())
        True
    """
    if not hasattr(other, "task_name") or other.task_name() != cls.task_name():
        raise TypeError(f"`other` is a {type(other).__name__}; expected a {cls.task_name()}.")
    check_plain(other)
    config = cls.resized(other.config, sizes)
    model = cls(config, **{name: getattr(other, name) for name in cls.tokenizer_names})
    copy_weights(model, other, sizes)
    return model


def from_encoder(cls: Any, other: Any, **parts: Any):
    """Make a model of this task around the encoder of another one; the layers after the encoder are new.

    Args:
        other: a model with an encoder of one text, such as a `MaskedLM`.
        **parts: `labels`, and the sizes that may differ: `dropout`, `attention_dropout`.

    Raises:
        TypeError: `other` has no such encoder, or this task uses none.
        ValueError: a size that cannot change, or weights with LoRA or quantised.
    """
    if cls.task_name() not in (*ENCODER_TASKS, *ENCODER_USES):
        raise TypeError(f"A {cls.__name__} has no encoder of one text; see {', '.join(ENCODER_USES)}.")
    reads_one_text = "token_ids" in getattr(other, "input", {}) and hasattr(other, "encoder")
    if not reads_one_text or not isinstance(other.config, TransformerConfig):
        raise TypeError(
            f"This {type(other).__name__} has no Transformer encoder that a {cls.__name__} could be built around."
        )
    unknown = sorted(set(parts) - {"labels", "dropout", "attention_dropout"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot change: the encoder is that of a trained model.")
    check_plain(other)
    config = dataclasses.replace(other.config, next_sentence=False, **parts)
    model = cls(config, tokenizer=other.tokenizer)
    for name in ("embedding", "encoder", "pooler"):
        old, new = getattr(other, name, None), getattr(model, name, None)
        if old is not None and new is not None:
            new.set_weights(old.get_weights())
    return model


def check_plain(other: Any) -> None:
    """Raise ValueError where a model has weights of another kind: with LoRA, or quantised."""
    if other.quantization or other.has_lora:
        raise ValueError(
            "The model is quantised or has LoRA matrices. A file holds the sum of weights and LoRA matrices: save the "
            "model, load it, and use the loaded one; quantise the new model."
        )


def copy_weights(model: Any, other: Any, changed: Iterable[str]) -> None:
    """Copy the weights that two models share, by their addresses; new or enlarged ones are initialised.

    A matrix with more rows than before gets the old rows as its first ones.

    Args:
        model: the model that is changed.
        other: the model that is copied from.
        changed: the sizes in which the two differ, for the error.

    Raises:
        ValueError: a weight would be lost, or does not fit.
    """
    old, new = _addresses(other), _addresses(model)
    lost = sorted(old.keys() - new.keys())
    if lost:
        raise ValueError(f"{', '.join(changed)} cannot change: {', '.join(lost[:8])} would be lost.")
    for address, weight in new.items():
        if address not in old:
            continue
        array, new_array = np.array(old[address]), np.array(weight)
        if array.shape[1:] != new_array.shape[1:] or array.shape[:1] > new_array.shape[:1]:
            raise ValueError(
                f"{', '.join(changed)} cannot change: {weight.path} would have the shape {new_array.shape}, not "
                f"{array.shape}."
            )
        new_array[tuple(map(slice, array.shape[:1]))] = array
        weight.assign(new_array)


def _addresses(model: Any) -> dict[str, Any]:
    """Name the weights by their paths; those of an image encoder by their order, as Keras numbers some layers again."""
    image_encoder = model.vision.weights if hasattr(model, "vision") else []
    names = {id(weight): f"vision/{i}" for i, weight in enumerate(image_encoder)}
    return {names.get(id(weight), weight.path): weight for weight in model.weights}
