"""The image encoder: a convolutional network that computes a grid of region features from an image.

images (B, height, width, 3), 0 to 255 --> preprocessing of the network --> network --> grid (B, rows, columns, C)
                                                                        --> regions (B, R, C), R = rows * columns

`image_networks.py` has the networks.
"""

from __future__ import annotations

import hashlib

import keras
import numpy as np
from keras import ops

from keras_attention.argument_checks import require_one_of
from keras_attention.layers.image_networks import SMALL_CNN, make_network
from keras_attention.layers.regions import append_coordinates, to_regions

_ALL = "all"  # of `fine_tune_from`: all layers


@keras.saving.register_keras_serializable("keras_attention")
class ImageEncoder(keras.layers.Layer):
    """Encode images as a grid of region features: the output of one layer of a convolutional network.

    Args:
        network: `"small_cnn"`, a network for small drawn images, which is trained unless you call `freeze`; or the
            name of a `keras.applications` network, such as `"mobilenet_v2"`, `"resnet50"`, `"vgg16"`. The name of a
            MobileNet may include a width multiplier: `"mobilenet_0.75"`. The layer includes the preprocessing.
        image_size: height and width of the images, in pixels.
        grid_layer: name of the layer whose output is the grid; None for the last layer before the classifier.
        fine_tune_from: name of the first trained layer, or `"all"`; None for a frozen network. The batch
            normalizations of `keras.applications` always remain frozen.

    Call arguments:
        images: (B, image_size, image_size, 3) RGB, 0 to 255, any dtype.

    Output:
        (B, R, C), the regions row by row: R = `rows` * `columns`.

    Raises:
        ValueError: the network or a layer is unknown, the network has no width multiplier, the output of `grid_layer`
            is not a grid, or `image_size` is not a multiple of 4 for `"small_cnn"`.

    Example:
        >>> encoder = ImageEncoder("small_cnn", image_size=32)
        >>> layers = [keras.Input((32, 32, 3)), encoder, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(7)]
        >>> encoder.rows, encoder.columns, keras.Sequential(layers).output_shape
        (8, 8, (None, 7))

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, section 3.1.1 (a grid of region features).
    """

    def __init__(
        self,
        network: str = "mobilenet_v2",
        image_size: int = 224,
        grid_layer: str | None = None,
        fine_tune_from: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.network_name, self.image_size = network, image_size
        self.grid_layer, self.fine_tune_from = grid_layer, fine_tune_from
        self.preprocess, full_network = make_network(network, image_size)
        self.network = self.up_to_grid(full_network)
        self.rows, self.columns, self.channels = self.network.output.shape[1:]
        self._choose_trainable()

    def up_to_grid(self, full_network: keras.Model) -> keras.Model:
        """Return the part of a network up to the layer `grid_layer`."""
        last = full_network if self.grid_layer is None else _find_layer(full_network, "grid_layer", self.grid_layer)
        grid = last.output
        if len(grid.shape) != 4:
            raise ValueError(
                f"The output of {self.grid_layer} in {self.network_name} has the shape {grid.shape}; expected a grid "
                "(B, rows, columns, C). Name an earlier layer as `grid_layer`."
            )
        return keras.Model(full_network.input, grid, name="network")

    @property
    def is_trainable(self) -> bool:
        """Whether any weight of the network is trained."""
        return bool(self.network.trainable_variables)

    def _choose_trainable(self) -> None:
        is_pretrained = self.network_name != SMALL_CNN  # a network of `keras.applications`, whose weights may be loaded
        first_trained = self.fine_tune_from if is_pretrained else _ALL
        if first_trained not in (None, _ALL):
            _find_layer(self.network, "fine_tune_from", first_trained)
        trainable = first_trained == _ALL
        for layer in self.network.layers:
            trainable = trainable or layer.name == first_trained
            is_frozen_norm = is_pretrained and isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = trainable and not is_frozen_norm

    def freeze(self) -> None:
        """Freeze all weights of the network. This is not saved: after loading, call `freeze` again."""
        for layer in self.network.layers:
            layer.trainable = False

    def call(self, images):
        """Compute the regions; see the class docstring."""
        images = self.preprocess(ops.cast(images, self.compute_dtype))
        # A frozen network computes the same in training; otherwise EfficientNet would drop blocks at random.
        mode = {} if self.is_trainable else {"training": False}
        return to_regions(self.network(images, **mode))

    def compute_output_shape(self, images_shape):
        """Return the shape of the regions."""
        return (images_shape[0], self.rows * self.columns, self.channels)

    def append_coordinates(self, regions):
        """Append the row and the column of each region, from -1 to 1: (B, R, C) -> (B, R, C + 2)."""
        grid = ops.reshape(regions, (-1, self.rows, self.columns, regions.shape[-1]))
        return to_regions(append_coordinates(grid))

    def digest(self) -> str:
        """Return a digest of all that the outputs depend on: network, weights, grid, precision and image size."""
        precision = () if self.compute_dtype == "float32" else (self.compute_dtype,)
        digest = hashlib.sha256(repr((self.network_name, self.image_size, self.grid_layer, *precision)).encode())
        for weight in self.network.weights:
            digest.update(np.ascontiguousarray(ops.convert_to_numpy(weight)).tobytes())
        return f"{self.network_name}-{digest.hexdigest()[:16]}"

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "network": self.network_name,
            "image_size": self.image_size,
            "grid_layer": self.grid_layer,
            "fine_tune_from": self.fine_tune_from,
        }


def _find_layer(network: keras.Model, argument: str, name: str) -> keras.layers.Layer:
    require_one_of(argument, name, [layer.name for layer in network.layers], ", the layers of the network")
    return network.get_layer(name)
