"""Foreign weights: one engine (`convert`), and one table of names per family."""

from keras_attention.weights.huggingface import from_huggingface, to_huggingface
from keras_attention.weights.original import from_tensorflow

__all__ = ["from_huggingface", "from_tensorflow", "to_huggingface"]
