"""The image encoder: a convolutional network that computes a grid of region features from an image.

images (B, height, width, 3), 0 to 255 --> preprocessing of the network --> network --> grid (B, rows, columns, C)
                                                                        --> regions (B, R, C), R = rows * columns
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from keras_attention.layers.regions import append_coordinates, to_regions

SMALL_CNN = "small_cnn"
ALL = "all"


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
        ValueError: the network or a layer is unknown, or the output of `grid_layer` is not a grid.

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
        self.preprocess, whole = make_network(network, image_size)
        self.network = self.up_to_grid(whole)
        self.rows, self.columns, self.channels = self.network.output.shape[1:]
        self._choose_trainable()

    def up_to_grid(self, whole: keras.Model) -> keras.Model:
        """Return the part of a network up to the layer `grid_layer`."""
        grid = whole.output if self.grid_layer is None else _find_layer(whole, self.grid_layer).output
        if len(grid.shape) != 4:
            raise ValueError(
                f"The output of {self.grid_layer} in {self.network_name} has the shape {grid.shape}; expected a grid "
                "(B, rows, columns, C). Name an earlier layer as `grid_layer`."
            )
        return keras.Model(whole.input, grid, name="network")

    @property
    def is_trainable(self) -> bool:
        """Whether any weight of the network is trained."""
        return bool(self.network.trainable_variables)

    def _choose_trainable(self) -> None:
        first = ALL if self.network_name == SMALL_CNN else self.fine_tune_from
        if first not in (None, ALL):
            _find_layer(self.network, first)
        trainable = first == ALL
        for layer in self.network.layers:
            trainable = trainable or layer.name == first
            fixed = isinstance(layer, keras.layers.BatchNormalization) and self.network_name != SMALL_CNN
            layer.trainable = trainable and not fixed

    def freeze(self) -> None:
        """Freeze all weights of the network. This is not saved: after loading, call `freeze` again."""
        for layer in self.network.layers:
            layer.trainable = False

    def call(self, images):
        """Compute the regions; see the class docstring."""
        # A frozen network computes the same in training; otherwise EfficientNet would drop blocks at random.
        mode = {} if self.is_trainable else {"training": False}
        return to_regions(self.network(self.preprocess(ops.cast(images, self.compute_dtype)), **mode))

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


def make_network(name: str, image_size: int, weights: str | None = None) -> tuple[Callable, keras.Model]:
    """Return the preprocessing function of a network, for images 0 to 255, and the network without its classifier.

    Args:
        name: `"small_cnn"` or the name of a `keras.applications` network; see `ImageEncoder`.
        image_size: height and width of the images, in pixels.
        weights: `"imagenet"`, or None for random weights.

    Raises:
        ValueError: the network is unknown, or it has no width multiplier.
    """
    if name == SMALL_CNN:
        return _to_unit_range, small_cnn(image_size)
    with_alpha = re.fullmatch(r"(.+)_([01]\.\d+)", name)  # such as mobilenet_0.25
    base, options = (with_alpha[1], {"alpha": float(with_alpha[2])}) if with_alpha else (name, {})
    networks = _applications()
    if _normalized_name(base) not in networks:
        names = ", ".join(sorted(function for _, function in networks.values()))
        raise ValueError(f"There is no network {name!r}; expected {SMALL_CNN!r} or one of keras.applications: {names}.")
    module, function = networks[_normalized_name(base)]
    module = importlib.import_module(f"keras.applications.{module}")
    make = getattr(keras.applications, function)
    shape = (image_size, image_size, 3)
    try:
        with _channels_last():
            network = make(include_top=False, weights=weights, input_shape=shape, **options)
    except TypeError:
        raise ValueError(f"{function} has no width multiplier; expected {base!r}.") from None
    return functools.partial(module.preprocess_input, data_format="channels_last"), network


@contextlib.contextmanager
def _channels_last() -> Iterator[None]:
    """Build networks for images (height, width, channels), whatever `keras.json` says."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


def small_cnn(image_size: int, widths: tuple[int, int, int] = (32, 64, 96)) -> keras.Model:
    """Return a network for small drawn images, whose grid has one region per 4 x 4 pixels.

    The receptive field of a region is 22 x 22 pixels around its centre, so a decoder must attend to the region of an
    object to describe it. The two convolutions with stride 2 have an even kernel, 4 x 4; with an odd kernel, padding
    would shift the receptive field off the centre. The input has two more channels: the coordinates, from -1 to 1.

    Args:
        image_size: height and width of the images, in pixels; a multiple of 4.
        widths: channels of the three pairs of convolutions.

    Example:
        >>> small_cnn(20, widths=(3, 5, 7)).output_shape
        (None, 5, 5, 7)

    Reference: Liu et al., 2018, https://arxiv.org/abs/1807.03247 (coordinates).
    """
    last = {"data_format": "channels_last"}
    images = x = keras.Input((image_size, image_size, 3))
    x = CoordinateChannels(name="coordinates")(x)
    shapes = (((4, 2), (3, 1)), ((4, 2), (3, 1)), ((1, 1), (1, 1)))  # kernel, strides
    for i, (width, pair) in enumerate(zip(widths, shapes, strict=True)):
        for j, (kernel, strides) in enumerate(pair):
            x = keras.layers.Conv2D(width, kernel, strides, "same", use_bias=False, **last, name=f"conv_{i}_{j}")(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{i}_{j}")(x)
            x = keras.layers.ReLU(name=f"relu_{i}_{j}")(x)
    return keras.Model(images, x)


@keras.saving.register_keras_serializable("keras_attention")
class CoordinateChannels(keras.layers.Layer):
    """Append two channels to images: the row and the column of each pixel, from -1 to 1.

    Call arguments:
        inputs: (B, height, width, C).

    Output:
        (B, height, width, C + 2).

    Example:
        >>> tuple(CoordinateChannels()(keras.ops.ones((2, 5, 7, 3))).shape)
        (2, 5, 7, 5)

    Reference: Liu et al., 2018, https://arxiv.org/abs/1807.03247.
    """

    def call(self, inputs):
        """Compute the outputs; see the class docstring."""
        return append_coordinates(inputs)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs."""
        return (*inputs_shape[:-1], inputs_shape[-1] + 2)


def _to_unit_range(images):
    return images / 127.5 - 1.0


def _normalized_name(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _applications() -> dict[str, tuple[str, str]]:
    """Return {normalized name: (module, function)} of all networks of `keras.applications`."""
    networks, modules = {}, [module.name for module in pkgutil.iter_modules(keras.applications.__path__)]
    for module in modules:
        loaded = importlib.import_module(f"keras.applications.{module}")
        for function in dir(loaded):
            if function[0].isupper() and hasattr(loaded, "preprocess_input"):
                networks[_normalized_name(function)] = (module, function)
    for function in dir(keras.applications):  # MobileNetV3Small and MobileNetV3Large have no separate module
        matching = [module for module in modules if _normalized_name(function).startswith(_normalized_name(module))]
        if function[0].isupper() and matching:
            networks.setdefault(_normalized_name(function), (max(matching, key=len), function))
    return networks


def _find_layer(network: keras.Model, name: str) -> keras.layers.Layer:
    names = [layer.name for layer in network.layers]
    if name not in names:
        raise ValueError(f"The network has no layer {name!r}; it has {', '.join(names)}.")
    return network.get_layer(name)
