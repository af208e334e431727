"""The weights of one model for another of the same task, with other sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


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
