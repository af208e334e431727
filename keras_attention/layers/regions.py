"""Layers and functions for a grid of regions: self-attention, random shifts, smoothing, coordinates.

A grid (B, rows, columns, C) and its regions (B, R, C), R = rows * columns, are the same vectors, row by row.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require, require_positive_integer, require_positive_integers
from keras_attention.layers.attention import dot_logits, soft_attend
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.shapes import output_specs, reshape, sizes_of

FAR_SHIFTS = 0.25  # the fraction of images with shifts from all rows and columns, not only -1, 0 and 1


def to_regions(grid):
    """Flatten a grid row by row: (B, rows, columns, C) -> (B, R, C)."""
    batch, rows, columns, channels = sizes_of(grid)
    return reshape(grid, (batch, rows * columns, channels))


def append_coordinates(grid):
    """Append the row and the column of each position, from -1 to 1, to its channels.

    Args:
        grid: (B, rows, columns, C); rows and columns must be known.

    Returns:
        (B, rows, columns, C + 2).

    Example:
        >>> grid = append_coordinates(keras.ops.ones((1, 2, 3, 5)))
        >>> keras.ops.convert_to_numpy(grid)[0, 0, :, -1].tolist()
        [-1.0, 0.0, 1.0]

    Reference: Liu et al., 2018, https://arxiv.org/abs/1807.03247.
    """
    axes = [np.linspace(-1.0, 1.0, size, dtype="float32") for size in grid.shape[1:3]]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # (rows, columns, 2)
    coordinates = ops.zeros_like(grid[..., :1]) + ops.cast(coordinates, grid.dtype)
    return ops.concatenate([grid, coordinates], axis=-1)


def gaussian_kernel(rows: int, columns: int, deviation: float) -> np.ndarray:
    """Return Gaussian weights around each region: kernel[i, j] = g[i, j] / sum_k g[i, k].

    g[i, j] = exp(-|i - j|^2 / (2 deviation^2)), with the distance |i - j| in regions. Smoothed attention scores are
    `scores @ kernel`, and their context is `scores @ (kernel @ regions)`.

    Args:
        rows: the number of rows of the grid.
        columns: the number of columns of the grid.
        deviation: standard deviation, in regions.

    Returns:
        (R, R) float32, R = `rows` * `columns`; each row sums to 1.

    Example:
        >>> print(gaussian_kernel(1, 3, 1.0)[0].round(2))  # 1, exp(-1/2) and exp(-2), divided by their sum
        [0.57 0.35 0.08]
    """

    def axis_kernel(size: int) -> np.ndarray:
        distances = np.subtract.outer(np.arange(size), np.arange(size))
        weights = np.exp(-np.square(distances / deviation) / 2)
        return weights / weights.sum(-1, keepdims=True)

    return np.kron(axis_kernel(rows), axis_kernel(columns)).astype("float32")


@keras.saving.register_keras_serializable("keras_attention")
class SelfAttention2D(BaseLayer):
    """Self-attention over the positions of a feature map, between the layers of a CNN.

        y = x + gamma * W_o (softmax(q k' / sqrt(D)) v),    q, k, v: 1 x 1 convolutions of x

    gamma is learned and starts at 0, so that a new layer is the identity.

    Args:
        units: D, the number of channels of queries, keys and values; an eighth of the input channels when None.

    Call arguments:
        inputs: (B, height, width, C).
        return_attention_scores: also return the attention scores.

    Output:
        outputs (B, height, width, C). With `return_attention_scores`, the pair (outputs, scores): scores (B, R, R),
        R = height * width, are float32, and row i has the scores of the query at position i.

    Raises:
        ValueError: `units` is neither None nor a positive integer.

    Example:
        >>> layers = [keras.Input((15, 15, 3)), keras.layers.Conv2D(16, 3, strides=2), SelfAttention2D()]
        >>> keras.Sequential(layers).output_shape
        (None, 7, 7, 16)

    Reference: Wang et al., 2018, https://arxiv.org/abs/1711.07971 (non-local networks); Zhang et al., 2019,
    https://arxiv.org/abs/1805.08318 (gamma).
    """

    def __init__(self, units: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if units is not None:
            require_positive_integer("units", units, ", or None for an eighth of the channels")
        self.units = units

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        channels = inputs_shape[-1]
        units = self.units or max(channels // 8, 1)
        self.query_projection, self.key_projection, self.value_projection = (
            keras.layers.Conv2D(
                units, 1, use_bias=False, data_format="channels_last", dtype=self.dtype_policy, name=name
            )
            for name in ("query", "key", "value")
        )
        self.output_projection = keras.layers.Conv2D(
            channels, 1, data_format="channels_last", dtype=self.dtype_policy, name="output"
        )
        for layer in (self.query_projection, self.key_projection, self.value_projection):
            layer.build(inputs_shape)
        self.output_projection.build((*inputs_shape[:-1], units))
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def call(self, inputs, return_attention_scores=False):
        """Compute the outputs; see the class docstring."""
        projections = self.query_projection, self.key_projection, self.value_projection
        query, keys, values = (to_regions(projection(inputs)) for projection in projections)  # (B, R, D) each
        context, scores = soft_attend(dot_logits(query, keys), values)  # (B, R, D), (B, R, R)
        context = reshape(context, (*sizes_of(inputs)[:3], context.shape[-1]))
        outputs = inputs + ops.cast(self.gamma, inputs.dtype) * self.output_projection(context)
        return (outputs, scores) if return_attention_scores else outputs

    def compute_output_spec(self, inputs, return_attention_scores=False):
        """Return the shapes and dtypes of the outputs."""
        height, width = inputs.shape[1:3]
        regions = None if None in (height, width) else height * width
        scores_shape = (inputs.shape[0], regions, regions)
        return output_specs(self, inputs.shape, scores_shape if return_attention_scores else None)


@keras.saving.register_keras_serializable("keras_attention")
class ShiftRegions(BaseLayer):
    """In training, shift the regions of each image cyclically by a random number of rows and columns.

        y[i, j] = x[(i + a) mod rows, (j + b) mod columns]

    For three quarters of the images, a and b are sampled from -1, 0 and 1; for the others, from all rows and columns.
    A captioner uses the shifted regions as values and the regions themselves as keys. Attention to the centre of an
    object then usually returns the value of the object; attention to another region returns a random value.

    Args:
        rows: the number of rows of the grid.
        columns: the number of columns of the grid.

    Call arguments:
        regions: (B, R, C), R = `rows` * `columns`.
        training: shift the regions; otherwise return them unchanged.

    Output:
        (B, R, C).

    Raises:
        ValueError: `rows` or `columns` is not a positive integer, or R is another number.

    Example:
        >>> tuple(ShiftRegions(3, 5)(keras.ops.ones((2, 15, 7)), training=True).shape)
        (2, 15, 7)
    """

    def __init__(self, rows: int, columns: int, **kwargs) -> None:
        super().__init__(**kwargs)
        require_positive_integers(rows=rows, columns=columns)
        self.rows, self.columns = rows, columns
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, regions, training=False):
        """Compute the outputs; see the class docstring."""
        count = self.rows * self.columns
        require(regions.shape[1] in (None, count), "regions.shape[1]", regions.shape[1], f"{count}, rows times columns")
        if not training:
            return regions
        shifts = self._draw_shifts(ops.shape(regions)[0])  # a and b, (B, 2)
        rows = ops.mod(ops.arange(self.rows, dtype="int32") + shifts[:, :1], self.rows)  # (B, rows)
        columns = ops.mod(ops.arange(self.columns, dtype="int32") + shifts[:, 1:], self.columns)  # (B, columns)
        sources = ops.reshape(rows[:, :, None] * self.columns + columns[:, None], (-1, count, 1))
        return ops.take_along_axis(regions, sources, axis=1)

    def _draw_shifts(self, batch):
        """Return the random shifts of each image, in rows and columns: (B, 2) int."""
        seed = self.seed_generator
        near = keras.random.randint((batch, 2), -1, 2, "int32", seed=seed)
        far = keras.random.randint((batch, 2), 0, self.rows * self.columns, "int32", seed=seed)
        is_far = keras.random.uniform((batch, 1), seed=seed) < FAR_SHIFTS
        return ops.where(is_far, far, near)

    def compute_output_shape(self, regions_shape):
        """Return the shape of the outputs."""
        return regions_shape
