"""Losses, schedules and the run that trains a model, keeps its best, and can be resumed."""

from keras_attention.training.caption_quality import CaptionReward, CaptionScores, score_captions
from keras_attention.training.checkpoints import write_whole
from keras_attention.training.finetuning import LayerwiseAdam, enable_lora, freeze, rematerialize
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.metrics import MaskedAccuracy, Perplexity
from keras_attention.training.quality import TextScores, score_texts, scores_by_length
from keras_attention.training.run import TrainingPlan, compile_model, train
from keras_attention.training.schedules import WarmUp
from keras_attention.training.self_critical import SelfCriticalBatches

__all__ = [
    "CaptionReward",
    "CaptionScores",
    "LayerwiseAdam",
    "MaskedAccuracy",
    "MaskedCrossEntropy",
    "Perplexity",
    "SelfCriticalBatches",
    "TextScores",
    "TrainingPlan",
    "WarmUp",
    "compile_model",
    "enable_lora",
    "freeze",
    "rematerialize",
    "score_captions",
    "score_texts",
    "scores_by_length",
    "train",
    "write_whole",
]
