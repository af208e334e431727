"""Attention models in Keras: train them on your texts and images, and export them as a SavedModel.

    import keras_attention as ka

The top level has the tasks, the classes of their outputs, the search strategies, and the functions that take a task.
The modules have the rest:

    ka.data        files, tokenizers and batches         ka.training   training runs, losses, fine-tuning
    ka.layers      attention, recurrence, Transformers   ka.metrics    BLEU, CIDEr, accuracy, perplexity
    ka.config      configs of the networks               ka.weights    Hugging Face checkpoints
    ka.serving     exports: write, check and run them    ka.models     the base class of the tasks, and their list
    ka.quickstart  built-in data sets

Data flows in this order: files -> data -> models (built from layers) -> training -> generation -> serving.

Shapes: B batch, K beams, N hypotheses, Q query length, S source or key length, T target length, R image regions,
H heads, D size of a head, M model width, V vocabulary size. A mask is boolean; True marks a real token. Padding is on
the right.
"""

from __future__ import annotations

import importlib
from typing import Any

from keras_attention import config, data, layers, metrics, models, quickstart, training
from keras_attention.evaluate import evaluate
from keras_attention.generation import BeamSearch, Greedy, Sampling
from keras_attention.loading import load
from keras_attention.models import (
    Captioner,
    CausalLM,
    MaskedLM,
    PermutationLM,
    TextClassifier,
    TextTagger,
    Translator,
    attention_maps,
    embed,
    score,
)
from keras_attention.outputs import (
    AttentionMaps,
    Caption,
    Classification,
    Completion,
    FilledMask,
    Tagging,
    Translation,
)
from keras_attention.presets import find_preset, presets
from keras_attention.training import train

__version__ = "0.1.0"

# name -> module. These modules import TensorFlow or Matplotlib, so they are imported at the first use.
_LATE = {
    "check_export": "serving",
    "plot_alignment": "visualize",
    "plot_caption": "visualize",
    "plot_history": "visualize",
}
_LATE_MODULES = ("serving", "visualize", "weights")

__all__ = [
    "AttentionMaps",
    "BeamSearch",
    "Caption",
    "Captioner",
    "CausalLM",
    "Classification",
    "Completion",
    "FilledMask",
    "Greedy",
    "MaskedLM",
    "PermutationLM",
    "Sampling",
    "Tagging",
    "TextClassifier",
    "TextTagger",
    "Translation",
    "Translator",
    "attention_maps",
    "check_export",
    "config",
    "data",
    "embed",
    "evaluate",
    "find_preset",
    "layers",
    "load",
    "metrics",
    "models",
    "plot_alignment",
    "plot_caption",
    "plot_history",
    "presets",
    "quickstart",
    "score",
    "serving",
    "train",
    "training",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    if name in _LATE_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
