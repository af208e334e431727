"""Decode images in a graph that an unmodified TensorFlow Serving runs, exactly as `data/image_files/` does in Python.

The reference is `data/image_files/image_formats.py`: a reader here accepts the same files as the function of the same
name there, and returns the same pixels. There are two because a server runs no Python, and Python may have no
TensorFlow.

Each reader checks the header before it decodes, and returns an image and whether it is valid. TensorFlow's decoders
raise errors on damaged bytes. A `tf.data` pipeline ignores these errors, so a damaged image does not affect the other
images of the batch.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from keras_attention.data.image_files.image_formats import (
    EXIF,
    JPEG_FRAMES,
    MAX_PIXELS,
    MAX_SIDE,
    MAX_STEPS,
    NOT_FRAMES,
)
from keras_attention.data.image_files.images import MAX_BYTES

# A second frame of one pixel. If the decoder does not return it, the first frame is damaged.
_LAST_GIF_FRAME = b"\x2c\0\0\0\0\1\0\1\0\x80\0\0\0\0\0\0\2\2\x44\1\0\x3b"
_INT = partial(tf.constant, dtype=tf.int64)


def decode_images(image_bytes: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode images in a graph, as `keras_attention.data.read_images` does in Python.

    Args:
        image_bytes: (B,) string, JPEG, PNG, GIF or BMP; B may be 0.
        size: height and width of the result.

    Returns:
        Images (B, size, size, 3) float32 in [0, 255], zeros for an unreadable image, and valid (B,) bool.

    Example:
        >>> images, valid = decode_images(tf.constant([b"not an image"]), 5)
        >>> images.shape, valid.numpy().tolist()
        (TensorShape([1, 5, 5, 3]), [False])
    """
    count = tf.shape(image_bytes)[0]

    def decode(row: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, valid = _decode(encoded, size)
        return tf.where(valid, row, count), image

    rejected = tf.data.Dataset.from_tensors((count, tf.zeros((size, size, 3))))  # one more row, for all invalid images
    decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    decoded = decoded.map(decode, num_parallel_calls=4, deterministic=False).ignore_errors()
    rows, images = decoded.concatenate(rejected).batch(tf.cast(count, tf.int64) + 1).get_single_element()
    images = tf.scatter_nd(rows[:, None], images, (count + 1, size, size, 3))[:count]
    valid = tf.scatter_nd(rows[:, None], tf.ones_like(rows), (count + 1,))[:count] > 0
    return images, valid


def _decode(encoded: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return an image (size, size, 3) float32 and whether it is valid; damaged bytes may also raise an error."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    signatures = {b"\xff\xd8\xff": 0, b"\x89PNG\r\n\x1a\n": 1, b"GIF87a": 2, b"GIF89a": 2, b"BM": 3}
    readers = [_read_jpeg, _read_png, _read_gif, _read_bmp]
    kind = tf.constant(len(readers))
    for signature, i in signatures.items():
        kind = tf.where(tf.equal(tf.strings.substr(encoded, 0, len(signature)), signature), i, kind)
    kind = tf.where(tf.strings.length(encoded) <= MAX_BYTES, kind, len(readers))
    branches = [lambda read=read: read(encoded, data, size) for read in readers]
    return tf.switch_case(kind, [*branches, lambda: _invalid(size)])


def _invalid(size: int) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.zeros((size, size, 3)), tf.constant(False)


# JPEG


def _read_jpeg(encoded: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    frame, exif, scan = _jpeg_segments(encoded, data)
    kind, precision = _number(data, frame + 1, 1), _number(data, frame + 4, 1)
    height, width, components = _number(data, frame + 5, 2), _number(data, frame + 7, 2), _number(data, frame + 9, 1)
    valid = scan & (frame > 0) & tf.equal(precision, 8) & _fits(width, height)
    valid &= _is_one_of(kind, JPEG_FRAMES) & _is_one_of(components, (1, 3, 4))

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
        image = _resize(pixels, size)
        orientation = tf.cond(exif > 0, lambda: _orientation(data, exif), lambda: _INT(1))
        return tf.cond(orientation > 1, lambda: _turn(image, orientation), lambda: image), tf.constant(True)

    return tf.cond(valid, decode, lambda: _invalid(size))


def _jpeg_segments(encoded: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the beginnings of the first frame and EXIF segment, 0 for none, and whether a scan follows."""

    def continues(at, frame, exif, steps):
        ended = tf.equal(_byte(data, at), 0xFF) & _is_one_of(_byte(data, at + 1), (0xD9, 0xDA))
        return (steps < MAX_STEPS) & ~ended

    def step(at, frame, exif, steps):
        marker = _byte(data, at + 1)
        junk = tf.not_equal(_byte(data, at), 0xFF) | tf.equal(marker, 0xFF)
        without_length = (marker <= 1) | ((marker >= 0xD0) & (marker <= 0xD7))
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & ~_is_one_of(marker, NOT_FRAMES)
        is_exif = tf.equal(marker, 0xE1) & tf.equal(tf.strings.substr(encoded, at + 4, _INT(len(EXIF))), EXIF)
        frame = tf.where(~junk & is_frame & tf.equal(frame, 0), at, frame)
        exif = tf.where(~junk & is_exif & tf.equal(exif, 0), at, exif)
        length = tf.where(junk, _INT(1), tf.where(without_length, _INT(2), 2 + _number(data, at + 2, 2)))
        return at + length, frame, exif, steps + 1

    at, frame, exif, _ = tf.while_loop(continues, step, (_INT(2), _INT(0), _INT(0), _INT(0)))
    return frame, exif, tf.equal(_number(data, at, 2), 0xFFDA)


def _orientation(data: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 to 8, of an EXIF segment; 1 if it has none."""
    tiff = data[exif + 10 : exif + 2 + _number(data, exif + 2, 2)]
    short = tf.size(tiff, tf.int64) < 10
    tiff = tf.cond(short, lambda: tf.zeros(10, tf.uint8), lambda: tiff)
    big = tf.equal(tiff[0], ord("M"))
    first = tf.minimum(_number(tiff, 4, 4, big), tf.size(tiff, tf.int64) - 2)
    table = tiff[first + 2 : first + 2 + 12 * _number(tiff, first, 2, big)]
    table = tf.reshape(table[: tf.size(table) // 12 * 12], (-1, 12))
    # The first entry with the tag 0x0112 and the type 3 (short) has the orientation.
    tag_and_type = tf.where(big, tf.constant([1, 0x12, 0, 3], tf.uint8), tf.constant([0x12, 1, 3, 0], tf.uint8))
    entries = table[tf.reduce_all(tf.equal(table[:, :4], tag_and_type), 1)][:1]
    value = tf.cond(tf.size(entries) > 0, lambda: _number(entries[0], 8, 2, big), lambda: _INT(1))
    return tf.where((value >= 1) & (value <= 8), value, _INT(1))


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and flip a square image (size, size, 3) by its EXIF orientation, 1 to 8."""
    image = tf.where(orientation >= 5, tf.transpose(image, (1, 0, 2)), image)
    image = tf.where(_is_one_of(orientation, (2, 3, 6, 7)), image[:, ::-1], image)
    return tf.where(_is_one_of(orientation, (3, 4, 7, 8)), image[::-1], image)


# PNG, GIF, BMP


def _read_png(encoded: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    has_header = tf.equal(tf.strings.substr(encoded, 8, 8), b"\0\0\0\rIHDR")
    valid = has_header & _fits(_number(data, 16, 4), _number(data, 20, 4))
    decode = lambda: (_resize(tf.io.decode_png(encoded, 3), size), tf.constant(True))  # noqa: E731
    return tf.cond(valid, decode, lambda: _invalid(size))


def _read_gif(encoded: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    frame, end = _gif_frame(data)
    screen = tf.stack([_number(data, at, 2, False) for at in (6, 8)])
    left_top, sides = (tf.stack([_number(data, frame + at, 2, False) for at in pair]) for pair in ((1, 3), (5, 7)))
    fills_screen = tf.reduce_all(tf.equal(left_top, 0)) & tf.reduce_all(tf.equal(sides, screen))

    def decode() -> tuple[tf.Tensor, tf.Tensor]:  # only the first frame; a file may have any number of frames
        frames = tf.io.decode_gif(tf.strings.join([tf.strings.substr(encoded, _INT(0), end), _LAST_GIF_FRAME]))
        return _resize(frames[0], size), tf.equal(tf.shape(frames)[0], 2)

    return tf.cond(fills_screen & _fits(screen[0], screen[1]), decode, lambda: _invalid(size))


def _gif_frame(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the beginning and end of the first frame; fails without a frame within `MAX_STEPS` blocks."""

    def continues(at, frame, in_block, steps):
        return in_block | tf.equal(frame, 0)

    def step(at, frame, in_block, steps):
        byte = _byte(data, at)
        extension, image = ~in_block & tf.equal(byte, 0x21), ~in_block & tf.equal(byte, 0x2C)
        valid = (in_block | extension | image) & (steps < MAX_STEPS)
        palette = tf.cond(image, lambda: _gif_palette_bytes(_byte(data, at + 9)), lambda: _INT(0))
        length = tf.where(in_block, 1 + byte, tf.where(image, 11 + palette, 2))
        at, frame = tf.where(valid, at + length, tf.size(data, tf.int64)), tf.where(image, at, frame)
        return at, frame, extension | image | (in_block & (byte > 0)), steps + 1

    start = 13 + _gif_palette_bytes(_byte(data, 10))
    at, frame, _, _ = tf.while_loop(continues, step, (start, _INT(0), tf.constant(False), _INT(0)))
    return frame, at


def _gif_palette_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Return the size in bytes of the palette that `flags` describe."""
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(_INT(2), flags % 8), _INT(0))


def _read_bmp(encoded: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    begin, header, width, height = (_number(data, at, 4, False) for at in (10, 14, 18, 22))
    bits, compression = _number(data, 28, 2, False), _number(data, 30, 4, False)
    rows = tf.where(height < 2**31, height, 2**32 - height)  # a negative height: the top row comes first
    valid = (header >= 40) & _is_one_of(bits, (24, 32)) & tf.equal(compression, 0) & _fits(width, rows)

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        stride = (width * bits + 31) // 32 * 4
        padded = tf.reshape(data[begin : begin + rows * stride], (rows, stride))
        pixels = tf.reshape(padded[:, : width * bits // 8], (rows, width, bits // 8))[:, :, 2::-1]
        upright = tf.cond(height < 2**31, lambda: pixels[::-1], lambda: pixels)
        return _resize(upright, size), tf.constant(True)

    return tf.cond(valid, decode, lambda: _invalid(size))


# Bytes, numbers and pixels


def _byte(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Return one byte as int64; fails beyond the end."""
    return tf.cast(data[at], tf.int64)


def _number(data: tf.Tensor, at: tf.Tensor | int, count: int, big: tf.Tensor | bool = True) -> tf.Tensor:
    """Return a number of `count` bytes, big-endian or little-endian, as int64; fails beyond the end."""
    digits = tf.reshape(tf.cast(data[at : at + count], tf.int64), (count,))
    weights = tf.constant([256**i for i in range(count)], tf.int64)
    return tf.reduce_sum(digits * tf.where(big, weights[::-1], weights))


def _is_one_of(value: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, tf.constant(values, tf.int64)))


def _fits(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    sides = (width > 0) & (width <= MAX_SIDE) & (height > 0) & (height <= MAX_SIDE)
    return sides & (width * height <= MAX_PIXELS)


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resize (height, width, 3) uint8 to (size, size, 3) float32 as `tf.image.resize` does, without a float32 copy."""
    scale = size / tf.cast(tf.shape(pixels)[:2], tf.float32)
    image = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None], size=[size, size], scale=scale, translation=[0.0, 0.0], kernel_type="triangle"
    )
    return tf.ensure_shape(image[0], (size, size, 3))
