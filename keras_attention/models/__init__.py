"""Ready-made functional models, one per task, built from `layers` by a `config`."""

from keras_attention.models.autoregressive import Completion
from keras_attention.models.captioner import Caption, Captioner
from keras_attention.models.causal_lm import CausalLM
from keras_attention.models.introspection import AttentionMaps, attention_maps, embed, score
from keras_attention.models.masked_lm import FilledMask, MaskedLM
from keras_attention.models.permutation_lm import PermutationLM
from keras_attention.models.task import Task
from keras_attention.models.text_classifier import Classification, TextClassifier
from keras_attention.models.text_tagger import Tagging, TextTagger
from keras_attention.models.translator import Translation, Translator

__all__ = [
    "AttentionMaps",
    "Caption",
    "Captioner",
    "CausalLM",
    "Classification",
    "Completion",
    "FilledMask",
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
