"""Losses, schedules and the run that trains a model, keeps its best, and can be resumed."""

from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.metrics import MaskedAccuracy, Perplexity
from keras_attention.training.quality import TextScores, score_texts, scores_by_length
from keras_attention.training.run import TrainingPlan, compile_model, train
from keras_attention.training.schedules import WarmUp

__all__ = [
    "MaskedAccuracy",
    "MaskedCrossEntropy",
    "Perplexity",
    "TextScores",
    "TrainingPlan",
    "WarmUp",
    "compile_model",
    "score_texts",
    "scores_by_length",
    "train",
]
