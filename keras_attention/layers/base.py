"""The base classes of the layers.

BaseLayer:    propagates masks, and makes the config from the constructor's arguments
WordEncoder:  the masks and shapes of the layers that encode words from their characters

Most layers have `BaseLayer` as a base, and at most one other, with what similar layers share: `WordEncoder`,
`OneHead` or `AttentionHeads`. These are mixins, and not layers themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_attention.layers.masks import implicit_mask


class BaseLayer(keras.layers.Layer):
    """A Keras layer that stores each argument of its constructor in an attribute of the same name.

    `get_config` reads these attributes. The output gets the implicit mask of the first input.

    Example:
        >>> class Scale(BaseLayer):
        ...     def __init__(self, factor, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.factor = factor
        >>> Scale(7).get_config()["factor"]
        7
    """

    def compute_mask(self, inputs, previous_mask=None):
        """Return the mask of the output: the implicit mask of the first input. An explicit mask is ignored."""
        return implicit_mask(inputs)

    def make_dense(self, units: int, name: str, initializer, use_bias: bool = True, activation=None):
        """Return a `keras.layers.Dense` in this layer's dtype policy, with a copy of the initializer."""
        kernel = keras.initializers.get(initializer).clone()
        return keras.layers.Dense(
            units, activation, use_bias, kernel_initializer=kernel, dtype=self.dtype_policy, name=name
        )

    def add_constant(self, name: str, values: np.ndarray):
        """Return a weight with these values. It is not trained, and it is saved with the other weights."""
        return self.add_weight(
            shape=values.shape,
            initializer=lambda *_, **__: ops.array(values),
            dtype=values.dtype.name,
            trainable=False,
            name=name,
        )

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        names = [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        arguments = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in names}
        # Last, because a layer without a constructor has arguments of `keras.layers.Layer`, such as `dtype`.
        return arguments | super().get_config()

    @classmethod
    def from_config(cls, config: dict) -> BaseLayer:
        """Return a layer made from the config that `get_config` returned."""
        return cls(**keras.saving.deserialize_keras_object(config))


def build_once(layer: keras.layers.Layer, *shapes: tuple) -> None:
    """Create the weights of a layer, unless it has them: Keras has built it already when it loads a file.

    Example:
        >>> layer = keras.layers.Dense(3)
        >>> build_once(layer, (None, 5))
        >>> build_once(layer, (None, 5))
        >>> len(layer.weights)
        2
    """
    if not layer.built:
        layer.build(*shapes)


def rematerialize_if(condition: bool, function: Callable) -> Callable:
    """Return a function of tensors; if the condition is True, its backward pass computes its activations again.

    Example:
        >>> double = rematerialize_if(True, lambda x: 2 * x)
        >>> float(double(keras.ops.array(3.5)))
        7.0
    """
    if not condition:
        return function
    return keras.remat(lambda *tensors: function(*tensors))  # it reads `__name__`, which a `functools.partial` lacks


class WordEncoder:
    """Mixin of the layers that encode words from their characters; reads `self.units`, M, of the subclass.

    The inputs are (B, I, characters), the outputs (B, I, M). The other base of a subclass is `BaseLayer`, whose
    `compute_mask` this one replaces.
    """

    units: int

    def compute_mask(self, inputs, mask=None):
        """Return the mask of the words, (B, I): True for a word with characters. None without a character mask."""
        return None if mask is None else ops.any(mask, axis=-1)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the vectors of the words."""
        return (*inputs_shape[:2], self.units)
