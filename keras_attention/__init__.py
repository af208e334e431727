"""Attention models in Keras that train on your text and leave as a SavedModel.

Data's way: text -> data -> layers -> models -> training -> generation -> serving.

    config      what defines a network            training    loss, schedule, the run, scores
    presets     its ready-made sizes              generation  greedy, beam, sampling: one loop
    data        strings and files -> batches      serving     SavedModel out, and its check
    layers      attention and recurrence          visualize   alignments and curves as pictures
    models      one functional model per task     cli         keras-attention ...

Shapes: B batch, K beams, N answers, Q query length, S source length, T target length, D score
width, M memory width, V vocabulary. A mask is boolean, True = a real token; padding is on the right.
"""

from __future__ import annotations

import importlib
from typing import Any

from keras_attention import config, data, generation, layers, models, training
from keras_attention.data import (
    DataError,
    classification_batches,
    language_batches,
    tagging_batches,
    train_tokenizer,
    translation_batches,
)
from keras_attention.generation import BeamSearch, Greedy, Sampling
from keras_attention.models import (
    CausalLM,
    Classification,
    Completion,
    Tagging,
    TextClassifier,
    TextTagger,
    Translation,
    Translator,
)
from keras_attention.presets import presets
from keras_attention.training import MaskedCrossEntropy, TrainingPlan, train

__version__ = "0.1.0"

# Needed only at the end of the way, and slow to import: TensorFlow, Matplotlib.
_LATE = {
    "CheckReport": "serving",
    "ServedModel": "serving",
    "check_export": "serving",
    "export": "serving",
    "load_served": "serving",
    "plot_alignment": "visualize",
    "plot_bleu_by_length": "visualize",
    "plot_history": "visualize",
}

__all__ = [
    "BeamSearch",
    "CausalLM",
    "CheckReport",
    "Classification",
    "Completion",
    "DataError",
    "Greedy",
    "MaskedCrossEntropy",
    "Sampling",
    "ServedModel",
    "Tagging",
    "TextClassifier",
    "TextTagger",
    "TrainingPlan",
    "Translation",
    "Translator",
    "check_export",
    "classification_batches",
    "config",
    "data",
    "export",
    "generation",
    "language_batches",
    "layers",
    "load_served",
    "models",
    "plot_alignment",
    "plot_bleu_by_length",
    "plot_history",
    "presets",
    "tagging_batches",
    "train",
    "train_tokenizer",
    "training",
    "translation_batches",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
