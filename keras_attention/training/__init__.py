"""Training: losses, learning-rate schedules, fine-tuning, and `train`, which saves the best model and can resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_attention.lazy import lazy_names

if TYPE_CHECKING:
    from keras_attention.training.baselines import Baseline, baseline
    from keras_attention.training.compiling import compile_model
    from keras_attention.training.finetuning import enable_lora, freeze, rematerialize
    from keras_attention.training.losses import MaskedCrossEntropy
    from keras_attention.training.new_head import fit_new_head
    from keras_attention.training.optimizers import WarmUp
    from keras_attention.training.plan import TrainingPlan
    from keras_attention.training.self_critical import SelfCriticalBatches

__getattr__ = lazy_names(
    __name__,
    {
        "baselines": "Baseline baseline",
        "checkpoints": "",
        "compiling": "compile_model",
        "finetuning": "enable_lora freeze rematerialize",
        "losses": "MaskedCrossEntropy",
        "new_head": "fit_new_head",
        "optimizers": "WarmUp",
        "plan": "TrainingPlan",
        "progress": "",
        "run": "",
        "self_critical": "SelfCriticalBatches",
    },
)

__all__ = [
    "Baseline",
    "MaskedCrossEntropy",
    "SelfCriticalBatches",
    "TrainingPlan",
    "WarmUp",
    "baseline",
    "compile_model",
    "enable_lora",
    "fit_new_head",
    "freeze",
    "rematerialize",
]
