"""Functional Keras models, one per task; a config defines their layers and sizes."""

from keras_attention.models.captioner import Captioner
from keras_attention.models.causal_lm import CausalLM
from keras_attention.models.masked_lm import MaskedLM
from keras_attention.models.permutation_lm import PermutationLM
from keras_attention.models.task import Task
from keras_attention.models.text_classifier import TextClassifier
from keras_attention.models.text_tagger import TextTagger
from keras_attention.models.translator import Translator

TASKS = (Translator, Captioner, CausalLM, MaskedLM, PermutationLM, TextClassifier, TextTagger)

__all__ = ["TASKS", "Task"]  # the top level has the other names
