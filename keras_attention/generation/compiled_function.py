"""`CompiledFunction`: a function of a model and of arrays, compiled once for each structure of its inputs.

The numbers of a search strategy, such as its temperature, are inputs too.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_attention.generation.base_strategy import Strategy
from keras_attention.generation.option_types import replace_options
from keras_attention.keras_support.processes import check_process

_MAX_PROGRAMS = 16  # size of the LRU cache of a function
_lock = (
    threading.RLock()
)  # one thread compiles; on JAX, one thread computes, because Keras temporarily takes the weights out of the model


def _32_bits() -> Any:
    """Return a context in which JAX computes in 32 bits, even if `JAX_ENABLE_X64` is set.

    In 64 bits, the numbers of a loop would change their type.
    """
    import jax

    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # jax < 0.8
    return enable_x64(False)


class CompiledFunction:
    """A compiled function of a model and of arrays, on TensorFlow or JAX.

    The first call with a new structure of inputs compiles the function. A program on TensorFlow accepts any batch size
    and any length; JAX compiles each shape.

    Args:
        model: the model whose weights the function uses.
        function: (model, inputs, **options) -> dict of tensors, with inputs a (nested) dict of tensors.

    Call arguments:
        inputs: (nested) dict of arrays with the batch as axis 0.
        **options: hashable constants of the program. Of a `Strategy`, only what changes shapes is constant; the
            function gets it with tensors in the other fields; see `Strategy.arrays`.

    Output:
        dict of numpy arrays.

    Raises:
        RuntimeError: the process was forked after a model was made.

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
        check_process()
        if keras.backend.backend() == "jax":
            with _lock, _32_bits():
                program, inputs = self._compiled(inputs, options)
                outputs = program.predict_on_batch(inputs)
        else:
            with _lock:
                program, inputs = self._compiled(inputs, options)
            outputs = program.predict_on_batch(inputs)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def _compiled(self, inputs: dict, options: dict[str, Any]) -> tuple[_Program, dict]:
        """Return the program for the structure of the inputs, and the inputs as NumPy arrays."""
        weights = tuple(map(id, self.model.weights))
        if weights != self.weights:  # LoRA and quantization replace weights; traced programs use the old ones
            self.programs, self.weights = {}, weights
        strategies = {name: option for name, option in options.items() if isinstance(option, Strategy)}
        options |= {name: strategy.constants() for name, strategy in strategies.items()}
        arrays = {name: strategy.arrays() for name, strategy in strategies.items()}
        inputs = keras.tree.map_structure(np.asarray, {"inputs": inputs, "strategies": arrays})
        structure = keras.tree.map_structure(lambda array: str(_shape_and_type(array)), inputs)
        key = (repr(structure), self.model.run_eagerly, tuple(sorted(options.items())))
        program = self.programs.pop(key, None) or _Program(self.model, functools.partial(self._call, options), inputs)
        self.programs[key] = program  # move to end: least recently used is first
        if len(self.programs) > _MAX_PROGRAMS:
            del self.programs[next(iter(self.programs))]
        return program, inputs

    def _call(self, options: dict[str, Any], inputs: dict) -> dict:
        """Call the function with tensors."""
        strategies = {name: replace_options(options[name], arrays) for name, arrays in inputs["strategies"].items()}
        return self.function(self.model, inputs["inputs"], **{**options, **strategies})


class _Program(keras.Model):
    """A function wrapped in a model, because Keras compiles the predictions of a model on both backends.

    Args:
        model: the model whose weights the function uses.
        function: dict of tensors -> dict of tensors.
        inputs: example arrays; the function is compiled for their structure.
    """

    def __init__(self, model: keras.Model, function: Callable[[dict], dict], inputs: dict) -> None:
        super().__init__(name="program", autocast=False)  # the numbers of a strategy are float32
        self.model, self.function = model, function  # Keras tracks the weights of `model` as weights of the program
        self.built = True
        on_tensorflow, run_eagerly = keras.backend.backend() == "tensorflow", model.run_eagerly
        self.compile(run_eagerly=run_eagerly, jit_compile=not (on_tensorflow or run_eagerly))  # XLA compiles each shape
        if on_tensorflow and not self.run_eagerly:
            import tensorflow as tf

            self.make_predict_function()
            specs = keras.tree.map_structure(lambda array: tf.TensorSpec(*_shape_and_type(array)), inputs)
            self.predict_function.get_concrete_function([(specs,)])

    def call(self, inputs: dict) -> dict:
        """Compute the function."""
        return self.function(inputs)


def _shape_and_type(array: np.ndarray) -> tuple[list[int | None], np.dtype]:
    """Return the input shape and dtype to compile for: any batch size and, for integers and booleans, any length."""
    if np.issubdtype(array.dtype, np.floating):
        return [None, *array.shape[1:]][: array.ndim], array.dtype
    return [None] * array.ndim, array.dtype
