"""Attention models in Keras that train on your text and pictures and leave as a SavedModel.

Data's way: text, images -> data -> layers -> models -> training -> generation -> serving.

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

from keras_attention import config, data, generation, layers, metrics, models, quickstart, training
from keras_attention.data import (
    DataError,
    caption_batches,
    classification_batches,
    language_batches,
    masked_batches,
    permutation_batches,
    tagging_batches,
    train_tokenizer,
    translation_batches,
)
from keras_attention.generation import BeamSearch, Greedy, Sampling
from keras_attention.models import (
    AttentionMaps,
    Caption,
    Captioner,
    CausalLM,
    Classification,
    Completion,
    FilledMask,
    MaskedLM,
    PermutationLM,
    Tagging,
    TextClassifier,
    TextTagger,
    Translation,
    Translator,
    attention_maps,
    embed,
    score,
)
from keras_attention.models.counting import count_parameters
from keras_attention.presets import find_preset, presets
from keras_attention.training import MaskedCrossEntropy, TrainingPlan, train

__version__ = "0.1.0"

# Needed only at the end of the way, and slow to import: TensorFlow, Matplotlib.
_LATE = {
    "CheckReport": "serving",
    "ServedModel": "serving",
    "check_export": "serving",
    "export": "serving",
    "from_huggingface": "weights",
    "from_tensorflow": "weights",
    "load_served": "serving",
    "plot_alignment": "visualize",
    "plot_bleu_by_length": "visualize",
    "plot_caption": "visualize",
    "plot_history": "visualize",
    "plot_salient_words": "visualize",
    "to_huggingface": "weights",
}

__all__ = [
    "AttentionMaps",
    "attention_maps",
    "embed",
    "score",
    "BeamSearch",
    "Caption",
    "Captioner",
    "CausalLM",
    "CheckReport",
    "Classification",
    "Completion",
    "DataError",
    "FilledMask",
    "Greedy",
    "MaskedCrossEntropy",
    "MaskedLM",
    "PermutationLM",
    "Sampling",
    "ServedModel",
    "Tagging",
    "TextClassifier",
    "TextTagger",
    "TrainingPlan",
    "Translation",
    "Translator",
    "caption_batches",
    "check_export",
    "classification_batches",
    "config",
    "count_parameters",
    "data",
    "export",
    "from_huggingface",
    "from_tensorflow",
    "generation",
    "language_batches",
    "layers",
    "load_served",
    "masked_batches",
    "models",
    "permutation_batches",
    "plot_alignment",
    "plot_bleu_by_length",
    "plot_caption",
    "plot_history",
    "plot_salient_words",
    "find_preset",
    "metrics",
    "quickstart",
    "presets",
    "tagging_batches",
    "to_huggingface",
    "train",
    "train_tokenizer",
    "training",
    "translation_batches",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
