"""The networks of an image encoder, by name: those of `keras.applications`, and a small one for drawn images.

images (B, height, width, 3), 0 to 255 --> preprocessing --> network without its classifier --> (B, rows, columns, C)
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator

import keras

from keras_attention.argument_checks import one_of, require
from keras_attention.layers.regions import append_coordinates

SMALL_CNN = "small_cnn"


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
        names = [SMALL_CNN, *sorted(function for _, function in networks.values())]
        raise ValueError(f"There is no network {name!r}; expected {one_of(names)}, networks of keras.applications.")
    module, function = networks[_normalized_name(base)]
    module = importlib.import_module(f"keras.applications.{module}")
    make = getattr(keras.applications, function)
    shape = (image_size, image_size, 3)
    try:
        with _channels_last():
            network = make(include_top=False, weights=weights, input_shape=shape, **options)
    except TypeError:
        raise ValueError(
            f"The network is {name!r}, but {function} has no width multiplier, the number after _; expected {base!r}."
        ) from None
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

    Raises:
        ValueError: `image_size` is not a positive multiple of 4.

    Example:
        >>> small_cnn(20, widths=(3, 5, 7)).output_shape
        (None, 5, 5, 7)

    Reference: Liu et al., 2018, https://arxiv.org/abs/1807.03247 (coordinates).
    """
    require(image_size > 0 and image_size % 4 == 0, "image_size", image_size, "a positive multiple of 4 for small_cnn")
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
