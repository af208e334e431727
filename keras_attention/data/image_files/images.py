"""Decode, resize and rotate images into arrays of one size, and augment them for training."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from keras_attention.data.image_files.image_formats import ImageError, check_size, decode_bytes, is_webp, to_rgb
from keras_attention.data.lines import existing_file

MAX_BYTES = 32 * 2**20

ImageLike: TypeAlias = "str | pathlib.Path | bytes | np.ndarray"


def decode_image(image: ImageLike, image_size: int) -> np.ndarray:
    """Decode an image and resize it to a square; the aspect ratio is not preserved.

    Resizing is bilinear with anti-aliasing, as in `tf.image.resize(..., antialias=True)`. A grey channel is repeated.
    The alpha channel is removed; transparent pixels of a GIF are black. A JPEG or WebP is rotated by its EXIF
    orientation.

    Args:
        image: the path or the bytes of a JPEG, PNG, GIF or WebP (the first frame) or BMP (24 or 32 bits, uncompressed);
            or an array (height, width), (height, width, 1), (height, width, 3) or (height, width, 4), uint8.
        image_size: height and width of the result.

    Returns:
        (image_size, image_size, 3) float32, RGB in [0, 255], not rounded.

    Raises:
        ImageError: the format is another one, the file is damaged or truncated, or the image has more than 50 million
            pixels.
        FileNotFoundError: there is no such file.

    Example:
        >>> decode_image(np.full((2, 3), 7, "uint8"), 5).shape
        (5, 5, 3)
    """
    pixels, orientation = _decode(image)
    return _turn(_resize(pixels, image_size), orientation)


def decode_pixels(image: ImageLike) -> np.ndarray:
    """Decode an image in its own size, rotated by its EXIF orientation.

    Args:
        image: see `decode_image`; so are the errors.

    Returns:
        (height, width, 3) uint8, RGB.

    Example:
        >>> decode_pixels(np.full((2, 3), 7, "uint8")).shape
        (2, 3, 3)
    """
    return _turn(*_decode(image))


def _decode(image: ImageLike) -> tuple[np.ndarray, int]:
    """Return the pixels (height, width, 3) uint8 of an image, and its EXIF orientation, 1 to 8."""
    if isinstance(image, np.ndarray):
        return _check_array(image), 1
    name, data = ("The image", image) if isinstance(image, bytes) else (str(image), _read_file(image))
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has {len(data)} bytes; expected at most {MAX_BYTES}. Make it smaller.")
    try:
        return decode_bytes(data)
    except ImageError as error:
        raise ImageError(f"{name} {error}. Convert it with an image program, or leave it out.") from None


def read_images(images: Sequence[ImageLike], image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode images into one batch; an image that cannot be read is zeros.

    Args:
        images: B images; see `decode_image`.
        image_size: height and width of the result.

    Returns:
        Pixels (B, image_size, image_size, 3) float32 in [0, 255], and valid (B,) bool.

    Raises:
        FileNotFoundError: there is no such file.

    Example:
        >>> read_images([b"not an image", np.zeros((2, 3), "uint8")], 5)[1].tolist()
        [False, True]
    """
    pixels = np.zeros((len(images), image_size, image_size, 3), "float32")
    valid = np.ones(len(images), bool)
    for i, image in enumerate(images):
        try:
            pixels[i] = decode_image(image, image_size)
        except ImageError:
            valid[i] = False
    return pixels, valid


def image_problem(image: ImageLike) -> str | None:
    """Return why an image cannot be read; None if it can.

    Args:
        image: see `decode_image`.

    Returns:
        the message of the error, or None.

    Example:
        >>> image_problem(b"")
        'The image is empty; expected a JPEG, PNG, GIF, BMP or WebP. Convert it with an image program, or leave it out.'
    """
    try:
        decode_image(image, 1)
    except (ImageError, OSError) as error:
        return str(error)
    return None


def encoded_image(image: ImageLike) -> bytes:
    """Return the bytes of an encoded image, as a server receives them.

    Args:
        image: see `decode_image`.

    Returns:
        The contents of a file; or a PNG, if it is an array or a WebP, which a server cannot decode.

    Raises:
        ImageError: an array has another shape or type, a WebP is damaged, or a file has more than `MAX_BYTES` bytes.
        FileNotFoundError: there is no such file.

    Example:
        >>> encoded_image(np.zeros((2, 3), "uint8"))[1:4]
        b'PNG'
    """
    if not isinstance(image, np.ndarray):
        data = image if isinstance(image, bytes) else _read_file(image)
        if not is_webp(data):
            return data
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(decode_pixels(image)).save(file, "PNG")
    return file.getvalue()


def _read_file(image: str | pathlib.Path) -> bytes:
    path = existing_file(image, "an image")
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(f"{path} has {path.stat().st_size} bytes; expected at most {MAX_BYTES}. Make it smaller.")
    return path.read_bytes()


def augment_images(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augment images: crop each at random, resize it back, and change its contrast and brightness.

    A crop has the same aspect ratio and 0.7 to 1 of the area. Contrast and brightness are multiplied by 0.8 to 1.2.

    Args:
        images: (B, height, width, 3) float32 in [0, 255].
        rng: a random generator; the same state gives the same images.

    Returns:
        (B, height, width, 3) float32 in [0, 255].

    Example:
        >>> augment_images(np.zeros((2, 5, 7, 3), "float32"), np.random.default_rng(0)).shape
        (2, 5, 7, 3)
    """
    augmented = np.empty_like(images, "float32")
    for i, image in enumerate(images):
        side = np.sqrt(rng.uniform(0.7, 1.0))
        top, left = rng.uniform(0.0, 1.0 - side, 2)
        contrast, brightness = rng.uniform(0.8, 1.2, 2)
        image = _zoom(_zoom(image, top, side).swapaxes(0, 1), left, side).swapaxes(0, 1)
        mean = image.mean()
        augmented[i] = np.clip(((image - mean) * contrast + mean) * brightness, 0.0, 255.0)
    return augmented


def _zoom(image: np.ndarray, begin: float, part: float) -> np.ndarray:
    """Crop rows and resize the crop to all rows; `begin` and `part` are fractions of the number of rows."""
    length = len(image)
    position = (begin + (np.arange(length) + 0.5) / length * part) * length - 0.5
    position = np.clip(position, 0, length - 1).astype("float32")
    low = position.astype(int)
    weight = (position - low)[:, None, None]
    return image[low] * (1 - weight) + image[np.minimum(low + 1, length - 1)] * weight


def _check_array(pixels: np.ndarray) -> np.ndarray:
    """Check an array, and return it as (height, width, 3) uint8."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"An array of shape {pixels.shape} and type {pixels.dtype} is not an image; expected (height, width), "
            "(height, width, 1), (height, width, 3) or (height, width, 4) of type uint8."
        )
    try:
        check_size(pixels.shape[1], pixels.shape[0])
    except ImageError as error:
        raise ImageError(f"The array {error}. Resize it, or leave it out.") from None
    return to_rgb(pixels)


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (height, width, 3) uint8 to (size, size, 3) float32."""
    rows = _resize_rows(pixels, size)
    return np.ascontiguousarray(_resize_rows(rows.swapaxes(0, 1), size).swapaxes(0, 1))


def _resize_rows(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (n, ...) to (size, ...) float32; each new row is a mean of rows, weighted by a triangle."""
    length = len(pixels)
    if length == size:
        return pixels.astype("float32")
    reach = max(length / size, 1.0)
    resized = np.empty((size, *pixels.shape[1:]), "float32")
    for i in range(size):
        centre = (i + 0.5) * length / size
        first, last = max(int(centre - reach), 0), min(int(centre + reach) + 1, length)
        weights = np.maximum(1.0 - np.abs(np.arange(first, last) + 0.5 - centre) / reach, 0.0)
        weights = (weights / weights.sum()).astype("float32")
        resized[i] = (weights @ pixels[first:last].reshape(last - first, -1)).reshape(resized.shape[1:])
    return resized


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip an image (height, width, 3) by its EXIF orientation, 1 to 8."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)
