"""Read and write Hugging Face checkpoints: one converter (`convert.py`), and one table of names per family."""

from keras_attention.weights.huggingface import from_huggingface, stored_task, to_huggingface

__all__ = ["from_huggingface", "stored_task", "to_huggingface"]
