"""Load pretrained weights of an image encoder: from ImageNet, from a file, or from a captioner."""

from __future__ import annotations

import pathlib
import zipfile

import keras
import numpy as np
from keras import ops

from keras_attention.layers import ImageEncoder
from keras_attention.layers.image_networks import SMALL_CNN, make_network
from keras_attention.storage import local_path

IMAGENET = "imagenet"


def load_image_encoder_weights(encoder: ImageEncoder, source: str | pathlib.Path) -> None:
    """Load pretrained weights into the network of an image encoder.

    Args:
        encoder: the image encoder that gets the weights.
        source: `"imagenet"`, which Keras downloads; or a file: a captioner's `.keras`, whose image encoder has the
            same network and grid layer; `.npz` with arrays named `layer/variable`; or weights that Keras saved for the
            network without its classifier (`.weights.h5`, `.h5`).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the weights do not fit the network; the message names the first wrong one.
        RuntimeError: the download failed.

    Example:
        >>> import tempfile
        >>> first, second = (ImageEncoder("small_cnn", image_size=32) for _ in range(2))
        >>> arrays = {f"{layer.name}/{v.name}": v for layer in first.network.layers for v in layer.weights}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     np.savez(f"{directory}/weights.npz", **arrays)
        ...     load_image_encoder_weights(second, f"{directory}/weights.npz")
        >>> first.digest() == second.digest()
        True
    """
    source = source if str(source) == IMAGENET else local_path(source)
    ending = pathlib.Path(source).suffix
    if encoder.network_name == SMALL_CNN and ending not in (".keras", ".npz"):
        raise ValueError(
            f"{source} cannot have weights of {SMALL_CNN}, for which Keras has no pretrained weights; expected a "
            "captioner's .keras file, or .npz."
        )
    if str(source) != IMAGENET and not pathlib.Path(source).is_file():
        raise FileNotFoundError(
            f"There is no file {source} with weights of {encoder.network_name}; expected the path of a .keras, .npz or "
            '.h5 file, or "imagenet".'
        )
    if ending == ".npz":
        arrays = _read_npz(source)
    else:  # matched by order, because Keras numbers some layers differently in each network
        network = _read_captioner(encoder, source) if ending == ".keras" else _read_weights(encoder, source)
        pairs = zip(_named(encoder.network), _named(network), strict=True)
        arrays = {name: ops.convert_to_numpy(variable) for (_, name), (variable, _) in pairs}
    _assign(encoder.network, arrays, str(source))


def _read_captioner(encoder: ImageEncoder, path: str | pathlib.Path) -> keras.Model:
    try:
        captioner = keras.saving.load_model(path, compile=False)
    except Exception as error:  # a damaged archive can raise any exception
        raise ValueError(
            f"{path} is damaged or not a Keras model ({error}); expected a captioner's .keras file. Copy it again, or "
            "use other weights."
        ) from None
    if getattr(captioner, "image_encoder", None) is None:
        raise ValueError(
            f"{path} is a {type(captioner).__name__}; expected a captioner with an image encoder. Choose another file."
        )
    saved, expected = ((x.network_name, x.grid_layer) for x in (captioner.image_encoder, encoder))
    if saved != expected:
        raise ValueError(
            f"The image encoder of {path} has the network and grid layer {saved}; expected {expected}. Choose another "
            "file, or make the captioner with the `image_encoder` and `grid_layer` of the file."
        )
    return captioner.image_encoder.network


def _read_weights(encoder: ImageEncoder, source: str | pathlib.Path) -> keras.Model:
    try:
        _, whole = make_network(encoder.network_name, encoder.image_size, weights=str(source))
    except ValueError as error:
        raise ValueError(
            f"{source} does not have the weights of {encoder.network_name}: {error} Expected weights that Keras saved "
            "for this network without its classifier; choose another file or another image encoder."
        ) from None
    except Exception as error:  # Keras raises a bare Exception for a failed download
        if str(source) != IMAGENET:
            raise
        raise RuntimeError(
            f"The weights of {encoder.network_name} could not be downloaded ({error}). Choose a file as "
            "`image_encoder_weights`, or small_cnn as `image_encoder`, which needs no weights because it is trained."
        ) from None
    return encoder.up_to_grid(whole)


def _read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Read arrays. Rename `depthwise_kernel`, the name of depthwise kernels in older versions of Keras."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name.replace("/depthwise_kernel", "/kernel"): file[name] for name in file}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or not an .npz file ({error}); expected arrays that np.savez wrote, with names "
            "LAYER/WEIGHT. Write the file again."
        ) from None


def _named(network: keras.Model) -> list[tuple[keras.Variable, str]]:
    """Return the weights with their names, layer by layer."""
    return [(variable, f"{layer.name}/{variable.name}") for layer in network.layers for variable in layer.weights]


def _assign(network: keras.Model, arrays: dict[str, np.ndarray], source: str) -> None:
    """Set all weights; if one does not fit, set none and raise an error with its name."""
    pairs = _named(network)
    for variable, name in pairs:
        if name not in arrays:
            raise ValueError(
                f"{source} has no array {name}; it has {', '.join(sorted(arrays)[:5])}, ... Expected an array "
                "LAYER/WEIGHT for each weight of the image encoder. Write the file from the same network."
            )
        if arrays[name].shape != tuple(variable.shape):
            raise ValueError(
                f"{source}: {name} has the shape {arrays[name].shape}; expected {tuple(variable.shape)}. Write the "
                "file from the same network, with the same width multiplier."
            )
    for variable, name in pairs:
        variable.assign(arrays[name])
