"""Training: losses, learning-rate schedules, fine-tuning, and `train`, which saves the best model and can resume."""

from keras_attention.training.compiling import compile_model
from keras_attention.training.finetuning import LayerwiseAdam, enable_lora, freeze, rematerialize
from keras_attention.training.losses import MaskedCrossEntropy
from keras_attention.training.optimizers import WarmUp
from keras_attention.training.plan import TrainingPlan
from keras_attention.training.run import train
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
]
