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

Shapes: B batch, K beams, N hypotheses (returned sequences per input), Q query length, S source or key length, T target
length, R image regions, H heads, D width of the queries and keys of one head, M model width, V vocabulary size. A mask
is boolean; True marks a real token. Padding is on the right.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
from typing import TYPE_CHECKING

from keras_attention.evaluate import evaluate
from keras_attention.lazy import lazy_names
from keras_attention.presets import presets
from keras_attention.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_attention import config, data, layers, metrics, models, quickstart, serving, training, weights
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
    from keras_attention.prediction.introspection import attention_maps, embed, score
    from keras_attention.serving import check_export
    from keras_attention.training.run import train
    from keras_attention.visualize import plot_alignment, plot_caption, plot_history

# Module -> its public names. They are imported at their first use, because Keras and Matplotlib take seconds to import.
# Modules are called `evaluate` and `presets` too; so these functions are imported above, which gives them the names.
__getattr__ = lazy_names(
    __name__,
    {
        "generation": "BeamSearch Greedy Sampling",
        "loading": "load",
        "models": "Captioner CausalLM MaskedLM PermutationLM TextClassifier TextTagger Translator",
        "prediction.introspection": "attention_maps embed score",
        "outputs": "AttentionMaps Caption Classification Completion FilledMask Tagging Translation",
        "serving": "check_export",
        "training.run": "train",
        "visualize": "plot_alignment plot_caption plot_history",
        **dict.fromkeys(("config", "data", "layers", "metrics", "quickstart", "training", "weights"), ""),
    },
)

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


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


_is_command = pathlib.PurePath(*sys.argv[:1]).stem == "keras-attention" or sys.orig_argv[1:3] == ["-m", __name__]
if not _is_command:  # the command imports Keras when it needs it
    importlib.import_module("keras_attention.registered")
