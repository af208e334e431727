"""Export models for TensorFlow Serving, check the exports, and run them from Python."""

from keras_attention.serving.check import CheckReport, check_export
from keras_attention.serving.exported_model import ExportedModel
from keras_attention.serving.gpu_costs import StepCost, step_costs

__all__ = ["CheckReport", "ExportedModel", "StepCost", "check_export", "step_costs"]
