"""Random arrays, and what differs between TensorFlow and JAX: conversion to NumPy, compiled functions, gradients."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Draw an array from the normal distribution; arrays of different shapes are independent."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def array(x: Any) -> np.ndarray:
    """Return a tensor as a NumPy array."""
    return keras.ops.convert_to_numpy(x)


def arrays(structure: Any) -> list[np.ndarray]:
    """Return the tensors of a structure as NumPy arrays."""
    return [array(x) for x in keras.tree.flatten(structure) if x is not None]


def compiled(function: Callable) -> Callable:
    """Compile a function on JAX, which otherwise compiles each operation for each shape, and much more slowly."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


def gradient(function, x):
    """Return the gradient of a scalar function at an array, as NumPy array."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()
