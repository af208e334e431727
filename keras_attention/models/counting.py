"""How many parameters a preset has, counted from the built model."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from typing import Any

import keras

from keras_attention import models
from keras_attention.presets import PRESETS, find_preset


@functools.cache
def count_parameters(name: str, vocabulary_size: int | None = None) -> int:
    """Count the parameters of a preset, as its paper does.

    The model is built, but no weight is allocated: 8.3 billion are counted in a second. An encoder is counted
    without the heads of its training, with the layer that pools a text where its paper has one.

    Args:
        name: a name of `keras_attention.presets()`.
        vocabulary_size: V; the paper's when absent. A recurrent preset has none of its own.

    Returns:
        the number of parameters.

    Raises:
        ValueError: an unknown preset, or a recurrent one without `vocabulary_size`.

    Example:
        >>> count_parameters("gpt2_small")
        124439808
    """
    row = PRESETS.get(name)
    config = find_preset(name, row.task if row else "")
    size = vocabulary_size or row.vocabulary_size
    if not size:
        raise ValueError(f"{name} has no vocabulary of its own; pass `vocabulary_size`.")
    fields = {field.name for field in dataclasses.fields(config)}
    sizes: dict[str, Any] = {field: size for field in fields if field.endswith("vocabulary_size")}
    task = row.task
    if row.task == "MaskedLM":  # BERT and RoBERTa are counted with what pools a text
        task = "TextClassifier"
    if "labels" in fields:
        sizes["labels"] = ("a", "b")

    def count() -> int:
        with keras.StatelessScope(initialize_variables=False):
            model = getattr(models, task)(dataclasses.replace(config, **sizes))
        return sum(layer.count_params() for layer in model.backbone())

    # Keras lists variables that have no value yet, per thread; the list of this thread is dropped with it.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(count).result()
