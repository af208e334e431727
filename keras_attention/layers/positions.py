"""Where a token stands: without positions, self-attention sees a bag of tokens."""

from __future__ import annotations

import keras
from keras import ops


def sinusoidal_positions(positions, width: int):
    """Return sin(p / 10000^(2i / M)) for i < M / 2, then cos of the same.

    Args:
        positions: (L,) numbers.
        width: M, even.

    Returns:
        (L, M) float32. The sines stand before the cosines, as in the authors' code; the paper interleaves
        them, which is the same up to the order of the features.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    rates = ops.power(10000.0, -2.0 * ops.arange(width // 2, dtype="float32") / width)
    angles = ops.expand_dims(ops.cast(positions, "float32"), 1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


@keras.saving.register_keras_serializable("keras_attention")
class SinusoidalPositions(keras.layers.Layer):
    """Add the fixed encoding of `sinusoidal_positions` to each vector.

    Call arguments:
        inputs: (B, L, M).
        start: position of the first vector, a scalar int.

    Output:
        (B, L, M).

    Example:
        >>> tuple(SinusoidalPositions()(keras.ops.zeros((2, 3, 4))).shape)
        (2, 3, 4)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """

    def build(self, inputs_shape) -> None:
        """Check the width; there are no weights."""
        if inputs_shape[-1] % 2:
            raise ValueError(f"The vectors are {inputs_shape[-1]} wide; sinusoidal positions need an even width.")

    def call(self, inputs, start=0):
        """Compute the output; the class describes arguments and shapes."""
        positions = ops.arange(ops.shape(inputs)[1]) + start
        return inputs + ops.cast(sinusoidal_positions(positions, inputs.shape[-1]), inputs.dtype)


@keras.saving.register_keras_serializable("keras_attention")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector for each position: output[l] = inputs[l] + P[start + l + offset].

    Args:
        max_length: the most positions.
        offset: rows of P before that of the first position, which nothing uses (RoBERTa has 2).
        initializer: of P.

    Call arguments:
        inputs: (B, L, M); up to nine vectors of padding may stand beyond the last position.
        start: position of the first vector, a scalar int.

    Output:
        (B, L, M).

    Raises:
        ValueError: the sequence is longer than that. Where the length is only known when a graph runs, what is
            too long is given the last position instead; batches, verbs and exports cut it before.

    Example:
        >>> tuple(PositionEmbedding(7)(keras.ops.zeros((2, 3, 5))).shape)
        (2, 3, 5)

    Reference: Gehring et al., 2017, https://arxiv.org/abs/1705.03122; Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805.
    """

    def __init__(self, max_length: int, offset: int = 0, initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        self.max_length, self.offset = max_length, offset
        self.initializer = keras.initializers.get(initializer)

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        shape = (self.max_length + self.offset, inputs_shape[-1])
        self.table = self.add_weight(shape=shape, initializer=self.initializer, name="table")

    def call(self, inputs, start=0):
        """Compute the output; the class describes arguments and shapes."""
        length = inputs.shape[1]
        if length is not None and length > self.max_length + 9:  # a batch is padded to a multiple of 8, one by 2 more
            raise ValueError(f"The sequence has {length} tokens; there are positions for {self.max_length}.")
        positions = ops.minimum(ops.arange(ops.shape(inputs)[1]) + start, self.max_length - 1) + self.offset
        return inputs + ops.cast(ops.take(self.table, positions, axis=0), inputs.dtype)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        initializer = keras.initializers.serialize(self.initializer)
        own = {"max_length": self.max_length, "offset": self.offset, "initializer": initializer}
        return {**super().get_config(), **own}
