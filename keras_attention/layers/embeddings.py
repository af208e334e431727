"""The inputs of a Transformer's first block: tokens with positions and segments, and the vector of masked positions."""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require_nonnegative_integer, require_positive_integers
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.normalization import LayerNormalization
from keras_attention.layers.shapes import output_specs


@keras.saving.register_keras_serializable("keras_attention")
class InputEmbedding(BaseLayer):
    """Add positions and segments to token vectors: x = dropout(norm(scale * inputs + position + segment)).

    Args:
        positions: a layer with `call(inputs, start)`, such as `SinusoidalPositions`; None adds no positions.
        scale: factor of the inputs; sqrt(M) in the Transformer.
        num_segments: the number of segment vectors; 0 adds none.
        norm_epsilon: epsilon of the layer normalization; None for no normalization.
        dropout: probability of dropping a feature.
        initializer: initializer of the segment vectors.

    Call arguments:
        inputs: (B, L, M) embedded tokens. The output gets their implicit mask.
        segment_ids: (B, L) int; all 0 when None. None without segment vectors.
        start: position of the first token, a scalar int or (B, 1).
        training: whether dropout is active.

    Output:
        (B, L, M).

    Raises:
        ValueError: `num_segments` is negative or not an integer, or `segment_ids` was passed while it is 0.

    Example:
        >>> from keras_attention.layers import SinusoidalPositions
        >>> inputs = InputEmbedding(SinusoidalPositions(), scale=6**0.5)
        >>> keras.Sequential([keras.Input((5,)), keras.layers.Embedding(11, 6), inputs]).output_shape
        (None, 5, 6)

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.4; Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805 (segments).
    """

    def __init__(
        self,
        positions: keras.layers.Layer | None = None,
        scale: float = 1.0,
        num_segments: int = 0,
        norm_epsilon: float | None = None,
        dropout: float = 0.0,
        initializer="glorot_uniform",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_nonnegative_integer("num_segments", num_segments)
        self.positions, self.scale, self.num_segments = positions, scale, num_segments
        self.norm_epsilon, self.dropout = norm_epsilon, dropout
        self.initializer = keras.initializers.get(initializer)
        self.segments = self.norm = None
        if num_segments:  # `build` replaces the width 1 by M
            self.segments = keras.layers.Embedding(
                num_segments, 1, initializer, dtype=self.dtype_policy, name="segments"
            )
        if norm_epsilon is not None:
            self.norm = LayerNormalization(epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm")
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, inputs_shape, segment_ids_shape=None) -> None:
        """Create the weights."""
        if self.positions is not None and not self.positions.built:
            self.positions.build(inputs_shape)
        if self.segments is not None:
            self.segments.output_dim = inputs_shape[-1]
            self.segments.build(inputs_shape[:-1])
        if self.norm is not None:
            self.norm.build(inputs_shape)

    def call(self, inputs, segment_ids=None, start=0, training=False):
        """Compute the outputs; see the class docstring."""
        x = inputs * self.scale if self.scale != 1.0 else inputs
        if self.segments is None and segment_ids is not None:
            raise ValueError(
                "`segment_ids` was passed, but `num_segments` is 0; expected None. Omit it, or create the layer with "
                "a larger `num_segments`."
            )
        if self.segments is not None:
            segment_ids = ops.zeros(ops.shape(x)[:2], "int32") if segment_ids is None else segment_ids
            x = x + self.segments(segment_ids)
        if self.positions is not None:
            x = self.positions(x, start=start)
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout_layer(x, training=training)

    def compute_output_shape(self, inputs_shape, *_: object):
        """Return the shape of the outputs."""
        return inputs_shape


@keras.saving.register_keras_serializable("keras_attention")
class MaskEmbedding(BaseLayer):
    """Return one learned vector v for every position to predict: output[b, p] = v.

    Args:
        width: M.
        initializer: initializer of v.

    Call arguments:
        inputs: (B, P, any); only the shape is used.

    Output:
        (B, P, M).

    Raises:
        ValueError: `width` is not a positive integer.

    Example:
        >>> tuple(MaskEmbedding(7)(keras.ops.ones((2, 3, 5))).shape)
        (2, 3, 7)

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237, section 2.3.
    """

    def __init__(self, width: int, initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        require_positive_integers(width=width)
        self.width, self.initializer = width, keras.initializers.get(initializer)

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.vector = self.add_weight(shape=(1, self.width), initializer=self.initializer, name="vector")

    def call(self, inputs):
        """Compute the outputs; see the class docstring."""
        return ops.zeros_like(inputs[..., :1], dtype=self.compute_dtype) + ops.cast(self.vector[0], self.compute_dtype)

    def compute_output_spec(self, inputs):
        """Return the shape and dtype of the output."""
        return output_specs(self, (*inputs.shape[:-1], self.width))
