"""`Task`, the base class of the tasks, and the code of its methods."""

from keras_attention.models.task.task import Task

__all__ = ["Task"]
