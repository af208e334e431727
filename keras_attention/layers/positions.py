"""Position encodings. They are added to token vectors, because self-attention ignores the order of its tokens."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require_even, require_nonnegative_integer, require_positive_integer
from keras_attention.layers.base import BaseLayer

# A batch is padded to a multiple of 8, and sometimes by 2 more columns. This padding needs no positions in the table.
_PADDING = 9


def sinusoidal_positions(positions, width: int):
    """Return the position encodings sin(p / 10000^(2i / M)) and cos(p / 10000^(2i / M)) for i < M / 2.

    Args:
        positions: (..., L) numbers p.
        width: M, even.

    Returns:
        (..., L, M) float32: first all sines, then all cosines, as in the authors' code. The paper interleaves them;
        only the order of the numbers differs.

    Raises:
        ValueError: `width` is odd.

    Example:
        >>> keras.ops.convert_to_numpy(sinusoidal_positions(keras.ops.array([0.0]), 4)).tolist()
        [[0.0, 0.0, 1.0, 1.0]]

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    require_even("width", width)
    rates = (10000.0 ** (-2.0 * np.arange(width // 2) / width)).astype("float32")
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def _positions(inputs, start):
    """Return the positions (L,) of inputs (B, L, M), or (B, L) if `start` (B, 1) differs between texts."""
    length = inputs.shape[1]
    return start + (ops.arange(ops.shape(inputs)[1]) if length is None else np.arange(length, dtype="int32"))


@keras.saving.register_keras_serializable("keras_attention")
class SinusoidalPositions(BaseLayer):
    """Add sinusoidal position encodings: output[l] = inputs[l] + `sinusoidal_positions`(start + l).

    Call arguments:
        inputs: (B, L, M).
        start: the position of the first vector, a scalar int or (B, 1).

    Output:
        (B, L, M).

    Raises:
        ValueError: M is odd.

    Example:
        >>> layers = [keras.Input((5,)), keras.layers.Embedding(11, 6), SinusoidalPositions()]
        >>> keras.Sequential(layers).output_shape
        (None, 5, 6)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """

    def build(self, inputs_shape) -> None:
        """Check the width; there are no weights."""
        require_even("width", inputs_shape[-1], " or learned positions")

    def call(self, inputs, start=0):
        """Compute the outputs; see the class docstring."""
        positions = _positions(inputs, start)
        return inputs + ops.cast(sinusoidal_positions(positions, inputs.shape[-1]), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return inputs_shape


@keras.saving.register_keras_serializable("keras_attention")
class PositionEmbedding(BaseLayer):
    """Add a learned vector for each position: output[l] = inputs[l] + table[start + l + offset].

    Args:
        max_length: the number of positions.
        offset: the number of unused vectors at the start of the table (2 in RoBERTa).
        initializer: initializer of the table.

    Call arguments:
        inputs: (B, L, M). Up to 9 padding vectors beyond `max_length` are allowed.
        start: the position of the first vector, a scalar int or (B, 1).

    Output:
        (B, L, M).

    Raises:
        ValueError: `max_length` or `offset` has an impossible value, or the sequence is longer than `max_length`. If
            the length is not known when the graph is traced, there is no error, and all further vectors get the last
            position.

    Example:
        >>> layers = [keras.Input((5,)), keras.layers.Embedding(11, 6), PositionEmbedding(7)]
        >>> keras.Sequential(layers).output_shape
        (None, 5, 6)

    Reference: Gehring et al., 2017, https://arxiv.org/abs/1705.03122; Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805.
    """

    def __init__(self, max_length: int, offset: int = 0, initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        require_positive_integer("max_length", max_length)
        require_nonnegative_integer("offset", offset)
        self.max_length, self.offset = max_length, offset
        self.initializer = keras.initializers.get(initializer)

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        shape = (self.max_length + self.offset, inputs_shape[-1])
        self.table = self.add_weight(shape=shape, initializer=self.initializer, name="table")

    def call(self, inputs, start=0):
        """Compute the outputs; see the class docstring."""
        length = inputs.shape[1]
        if length is not None and length > self.max_length + _PADDING:
            raise ValueError(
                f"The sequence has {length} tokens, but there are positions for {self.max_length}. Shorten the "
                "sequence, or create the layer with a larger `max_length`."
            )
        positions = ops.minimum(_positions(inputs, start), self.max_length - 1) + self.offset
        return inputs + ops.cast(ops.take(self.table, positions, axis=0), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return inputs_shape
