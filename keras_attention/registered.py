"""Imports every module that registers Keras classes or data sets."""

import keras_attention.models
import keras_attention.quickstart.builders
import keras_attention.training.run  # noqa: F401
