"""Hugging Face weights: one converter (`convert.py`), and one table of names per family."""

from keras_attention.weights.huggingface import from_huggingface, to_huggingface

__all__ = ["from_huggingface", "to_huggingface"]
