"""Losses, schedules and the run that trains a model, keeps its best, and can be resumed."""

from keras_attention.training.checkpoints import write_whole
from keras_attention.training.finetuning import LayerwiseAdam, enable_lora, freeze, rematerialize
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.optimizers import WarmUp
from keras_attention.training.run import TrainingPlan, compile_model, train
from keras_attention.training.self_critical import SelfCriticalBatches

__all__ = [
    "LayerwiseAdam",
    "MaskedCrossEntropy",
    "SelfCriticalBatches",
    "TrainingPlan",
    "WarmUp",
    "compile_model",
    "enable_lora",
    "freeze",
    "rematerialize",
    "train",
    "write_whole",
]
