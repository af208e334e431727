"""A function of a model and of arrays, compiled once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


class CompiledFunction:
    """A function of a model's weights and of arrays, compiled at its first use for each structure of its inputs.

    It runs on TensorFlow and on JAX. TensorFlow's program takes any batch and any length; JAX compiles each shape.

    Args:
        model: owns the weights that the function reads.
        function: (model, inputs, **options) -> dict of tensors, where inputs is a dict of tensors, nested or not.

    Call arguments:
        inputs: dict of arrays, nested or not, whose axis 0 is the batch.
        **options: hashable values that are part of the program, such as a strategy.

    Output:
        dict of numpy arrays.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
        >>> double = CompiledFunction(model, lambda model, inputs: {"y": 2 * model(inputs["x"])})
        >>> double({"x": np.ones((2, 3), "float32")})["y"].shape
        (2, 5)
    """

    def __init__(self, model: keras.Model, function: Callable[..., dict]) -> None:
        self.model, self.function = model, function
        self.programs: dict[tuple, _Program] = {}
        self.weights: tuple[int, ...] = ()

    def __call__(self, inputs: dict, **options: Any) -> dict[str, np.ndarray]:
        weights = tuple(map(id, self.model.weights))
        if weights != self.weights:  # LoRA and quantisation replace weights, which a traced program would not see
            self.programs, self.weights = {}, weights
        inputs = keras.tree.map_structure(np.asarray, inputs)
        structure = keras.tree.map_structure(lambda array: str(_shape_and_type(array)), inputs)
        key = (repr(structure), tuple(sorted(options.items())))
        if key not in self.programs:
            self.programs[key] = _Program(self.model, functools.partial(self.function, self.model, **options), inputs)
        found = self.programs[key].predict_on_batch(inputs)
        return {name: np.asarray(value) for name, value in found.items()}


class _Program(keras.Model):
    """A function as a model, since Keras compiles the prediction of a model on either backend.

    Args:
        model: owns the weights that the function reads.
        function: dict of tensors -> dict of tensors.
        inputs: arrays of the structure that it is compiled for.
    """

    def __init__(self, model: keras.Model, function: Callable[[dict], dict], inputs: dict) -> None:
        super().__init__(name="program")
        self.model, self.function = model, function  # the model's weights become the program's
        self.built = True
        self.compile(jit_compile=keras.backend.backend() != "tensorflow")  # XLA would compile each shape
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self.make_predict_function()
            specs = keras.tree.map_structure(lambda array: tf.TensorSpec(*_shape_and_type(array)), inputs)
            self.predict_function.get_concrete_function([(specs,)])

    def call(self, inputs: dict) -> dict:
        """Compute the function."""
        return self.function(inputs)


def _shape_and_type(array: np.ndarray) -> tuple[list[int | None], np.dtype]:
    """Return the shape for which arrays like this one are compiled: any batch and, if they hold ids, any length."""
    floats = np.issubdtype(array.dtype, np.floating)
    return [None, *array.shape[1:]] if floats else [None] * array.ndim, array.dtype
