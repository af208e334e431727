"""Ready-made functional models, one per task, built from `layers` by a `config`."""

from keras_attention.models.captioner import Caption, Captioner
from keras_attention.models.classifier import Classification, TextClassifier
from keras_attention.models.continuation import Completion
from keras_attention.models.insight import AttentionMaps, attention_maps, embed, score
from keras_attention.models.language_model import CausalLM
from keras_attention.models.masked_model import Filling, MaskedLM
from keras_attention.models.permutation_model import PermutationLM
from keras_attention.models.tagger import Tagging, TextTagger
from keras_attention.models.task import Task
from keras_attention.models.translator import Translation, Translator

__all__ = [
    "AttentionMaps",
    "Caption",
    "Captioner",
    "CausalLM",
    "Classification",
    "Completion",
    "Filling",
    "MaskedLM",
    "PermutationLM",
    "Tagging",
    "Task",
    "TextClassifier",
    "TextTagger",
    "Translation",
    "Translator",
    "attention_maps",
    "embed",
    "score",
]
