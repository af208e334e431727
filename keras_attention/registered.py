"""Import all modules that register something: the classes of saved files, for Keras, and the built-in data sets."""

import keras_attention.models
import keras_attention.quickstart.builders
import keras_attention.training.run  # noqa: F401
