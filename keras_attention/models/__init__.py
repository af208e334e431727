"""Ready-made functional models, one per task, built from `layers` by a `config`."""

from keras_attention.models.classifier import Classification, TextClassifier
from keras_attention.models.language_model import CausalLM, Completion
from keras_attention.models.tagger import Tagging, TextTagger
from keras_attention.models.task import Task
from keras_attention.models.translator import Translation, Translator

__all__ = [
    "CausalLM",
    "Classification",
    "Completion",
    "Tagging",
    "Task",
    "TextClassifier",
    "TextTagger",
    "Translation",
    "Translator",
]
