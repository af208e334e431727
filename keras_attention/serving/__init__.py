"""The one way out: a SavedModel that a stock TensorFlow Serving runs, and the check that it does."""

from keras_attention.serving.check import CheckReport, check_export
from keras_attention.serving.export import export
from keras_attention.serving.saved import ServedModel, load_served

__all__ = ["CheckReport", "ServedModel", "check_export", "export", "load_served"]
