"""Pictures to tensors in a graph that a stock server runs: the twin of `data/images.py`.

Each reader checks the header before anything is decoded and answers an image and whether it is good.
TensorFlow's decoders fail on damaged bytes; the dataset around them drops what failed, so that a
damaged picture costs its own row and not the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from keras_attention.data.images import EXIF, FRAMES, MAX_BYTES, MAX_PIXELS, MAX_SIDE, MAX_STEPS, NO_FRAMES

# A second frame of one pixel: where the decoder does not come to it, the first one was damaged.
_LAST_GIF_FRAME = b"\x2c\0\0\0\0\1\0\1\0\x80\0\0\0\0\0\0\2\2\x44\1\0\x3b"


def decode_images(image_bytes: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode pictures as `keras_attention.data.images.read_images` does, in a graph.

    Args:
        image_bytes: (B,) string, JPEG, PNG, GIF or BMP; B may be 0.
        size: height and width of the answer.

    Returns:
        images (B, size, size, 3) float32 in [0, 255], all zero where a picture cannot be read, and
        valid (B,) bool.

    Example:
        >>> images, valid = decode_images(tf.constant([b"no picture"]), 5)
        >>> images.shape, valid.numpy().tolist()
        (TensorShape([1, 5, 5, 3]), [False])
    """
    count = tf.shape(image_bytes)[0]

    def decode(row: tf.Tensor, picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, good = _decode(picture, size)
        return tf.where(good, row, count), image

    spare = tf.data.Dataset.from_tensors((count, tf.zeros((size, size, 3))))  # takes what is not good
    pictures = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    pictures = pictures.map(decode, num_parallel_calls=4, deterministic=False).ignore_errors()
    rows, images = pictures.concatenate(spare).batch(tf.cast(count, tf.int64) + 1).get_single_element()
    images = tf.scatter_nd(rows[:, None], images, (count + 1, size, size, 3))[:count]
    valid = tf.scatter_nd(rows[:, None], tf.ones_like(rows), (count + 1,))[:count] > 0
    return images, valid


def _decode(picture: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """One picture -> (size, size, 3) float32 and whether it is good; fails, or is not good, otherwise."""
    data = tf.io.decode_raw(picture, tf.uint8)
    signatures = {b"\xff\xd8\xff": 0, b"\x89PNG\r\n\x1a\n": 1, b"GIF87a": 2, b"GIF89a": 2, b"BM": 3}
    readers = [_read_jpeg, _read_png, _read_gif, _read_bmp]
    kind = tf.constant(len(readers))
    for signature, i in signatures.items():
        kind = tf.where(tf.equal(tf.strings.substr(picture, 0, len(signature)), signature), i, kind)
    kind = tf.where(tf.strings.length(picture) <= MAX_BYTES, kind, len(readers))
    branches = [lambda read=read: read(picture, data, size) for read in readers]
    return tf.switch_case(kind, [*branches, lambda: (tf.zeros((size, size, 3)), tf.constant(False))])


def _read_jpeg(picture: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    frame, exif, scan = _jpeg_segments(picture, data)
    kind, precision = _number(data, frame + 1, 1), _number(data, frame + 4, 1)
    height, width, components = _number(data, frame + 5, 2), _number(data, frame + 7, 2), _number(data, frame + 9, 1)
    good = scan & (frame > 0) & tf.equal(precision, 8) & _fits(width, height)
    good &= _among(kind, FRAMES) & _among(components, (1, 3, 4))

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.io.decode_jpeg(picture, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
        image = _resize(pixels, size)
        orientation = tf.cond(exif > 0, lambda: _orientation(data, exif), lambda: _INT(1))
        return tf.cond(orientation > 1, lambda: _turn(image, orientation), lambda: image), tf.constant(True)

    return _if_good(good, decode, size)


def _jpeg_segments(picture: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find the segment of the first frame and the first with EXIF, 0 if none, and whether a scan follows."""

    def ahead(place, frame, exif, steps):
        return (steps < MAX_STEPS) & ~(
            tf.equal(_byte(data, place), 0xFF) & _among(_byte(data, place + 1), (0xD9, 0xDA))
        )

    def step(place, frame, exif, steps):
        marker = _byte(data, place + 1)
        junk = tf.not_equal(_byte(data, place), 0xFF) | tf.equal(marker, 0xFF)
        alone = (marker <= 1) | ((marker >= 0xD0) & (marker <= 0xD7))
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & ~_among(marker, NO_FRAMES)
        is_exif = tf.equal(marker, 0xE1) & tf.equal(tf.strings.substr(picture, place + 4, _INT(len(EXIF))), EXIF)
        frame = tf.where(~junk & is_frame & tf.equal(frame, 0), place, frame)
        exif = tf.where(~junk & is_exif & tf.equal(exif, 0), place, exif)
        length = tf.where(junk, _INT(1), tf.where(alone, _INT(2), 2 + _number(data, place + 2, 2)))
        return place + length, frame, exif, steps + 1

    place, frame, exif, _ = tf.while_loop(ahead, step, (_INT(2), _INT(0), _INT(0), _INT(0)))
    return frame, exif, tf.equal(_number(data, place, 2), 0xFFDA)


def _orientation(data: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 to 8, from a segment with EXIF; 1 if it says none."""
    tiff = data[exif + 10 : exif + 2 + _number(data, exif + 2, 2)]
    short = tf.size(tiff, tf.int64) < 10
    tiff = tf.cond(short, lambda: tf.zeros(10, tf.uint8), lambda: tiff)
    big = tf.equal(tiff[0], ord("M"))
    first = tf.minimum(_number(tiff, 4, 4, big), tf.size(tiff, tf.int64) - 2)
    table = tiff[first + 2 : first + 2 + 12 * _number(tiff, first, 2, big)]
    table = tf.reshape(table[: tf.size(table) // 12 * 12], (-1, 12))
    # Tag 0x0112, type 3 (short): the first such entry decides.
    wanted = tf.where(big, tf.constant([1, 0x12, 0, 3], tf.uint8), tf.constant([0x12, 1, 3, 0], tf.uint8))
    found = table[tf.reduce_all(tf.equal(table[:, :4], wanted), 1)][:1]
    value = tf.cond(tf.size(found) > 0, lambda: _number(found[0], 8, 2, big), lambda: _INT(1))
    return tf.where((value >= 1) & (value <= 8), value, _INT(1))


def _read_png(picture: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    headed = tf.equal(tf.strings.substr(picture, 8, 8), b"\0\0\0\rIHDR")
    good = headed & _fits(_number(data, 16, 4), _number(data, 20, 4))
    return _if_good(good, lambda: (_resize(tf.io.decode_png(picture, 3), size), tf.constant(True)), size)


def _read_gif(picture: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    frame, end = _gif_frame(data)
    sides = [_number(data, place, 2, False) for place in (6, 8, frame + 1, frame + 3, frame + 5, frame + 7)]
    screen_width, screen_height, left, top, width, height = sides
    across, down = tf.maximum(screen_width, left + width), tf.maximum(screen_height, top + height)

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        # The first frame alone, at the origin, for TensorFlow's canvas is as large as the largest frame.
        head, tail = (
            tf.strings.substr(picture, _INT(0), frame + 1),
            tf.strings.substr(picture, frame + 5, end - frame - 5),
        )
        frames = tf.io.decode_gif(tf.strings.join([head, b"\0\0\0\0", tail, _LAST_GIF_FRAME]))
        margins = [[top, down - top - height], [left, across - left - width], [0, 0]]
        return _resize(tf.pad(frames[0], margins), size), tf.equal(tf.shape(frames)[0], 2)

    return _if_good(_fits(width, height) & _fits(across, down), decode, size)


def _gif_frame(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Find where the first frame begins and ends; fails if there is none, or more than `MAX_STEPS` blocks."""

    def ahead(place, frame, within, steps):
        return within | tf.equal(frame, 0)

    def step(place, frame, within, steps):
        byte = _byte(data, place)
        extension, image = ~within & tf.equal(byte, 0x21), ~within & tf.equal(byte, 0x2C)
        good = (within | extension | image) & (steps < MAX_STEPS)
        colours = tf.cond(image, lambda: _gif_colours(_byte(data, place + 9)), lambda: _INT(0))
        length = tf.where(within, 1 + byte, tf.where(image, 11 + colours, 2))
        place, frame = tf.where(good, place + length, tf.size(data, tf.int64)), tf.where(image, place, frame)
        return place, frame, extension | image | (within & (byte > 0)), steps + 1

    start = 13 + _gif_colours(_byte(data, 10))
    place, frame, _, _ = tf.while_loop(ahead, step, (start, _INT(0), tf.constant(False), _INT(0)))
    return frame, place


def _gif_colours(flags: tf.Tensor) -> tf.Tensor:
    """How many bytes a table of colours has, which the flags describe."""
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(_INT(2), flags % 8), _INT(0))


def _read_bmp(picture: tf.Tensor, data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    begin, header, width, height = (_number(data, place, 4, False) for place in (10, 14, 18, 22))
    bits, compression = _number(data, 28, 2, False), _number(data, 30, 4, False)
    down = tf.where(height < 2**31, height, 2**32 - height)  # negative: the top row comes first
    good = (header >= 40) & _among(bits, (24, 32)) & tf.equal(compression, 0) & _fits(width, down)

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        stride = (width * bits + 31) // 32 * 4
        rows = tf.reshape(data[begin : begin + down * stride], (down, stride))[:, : width * bits // 8]
        pixels = tf.reshape(rows, (down, width, bits // 8))[:, :, 2::-1]
        upright = tf.cond(height < 2**31, lambda: pixels[::-1], lambda: pixels)
        return _resize(upright, size), tf.constant(True)

    return _if_good(good, decode, size)


_INT = partial(tf.constant, dtype=tf.int64)


def _byte(data: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """One byte as int64; fails beyond the end."""
    return tf.cast(data[place], tf.int64)


def _number(data: tf.Tensor, place: tf.Tensor | int, count: int, big: tf.Tensor | bool = True) -> tf.Tensor:
    """A number of `count` bytes, big-endian or little-endian, as int64; fails beyond the end."""
    digits = tf.reshape(tf.cast(data[place : place + count], tf.int64), (count,))
    weights = tf.constant([256**i for i in range(count)], tf.int64)
    return tf.reduce_sum(digits * tf.where(big, weights[::-1], weights))


def _among(value: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, tf.constant(values, tf.int64)))


def _fits(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    sides = (width > 0) & (width <= MAX_SIDE) & (height > 0) & (height <= MAX_SIDE)
    return sides & (width * height <= MAX_PIXELS)


def _if_good(good: tf.Tensor, decode: Callable, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cond(good, decode, lambda: (tf.zeros((size, size, 3)), tf.constant(False)))


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """(h, w, 3) uint8 -> (size, size, 3) float32: what `tf.image.resize` does, without a copy in float32."""
    scale = size / tf.cast(tf.shape(pixels)[:2], tf.float32)
    image = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None], size=[size, size], scale=scale, translation=[0.0, 0.0], kernel_type="triangle"
    )
    return tf.ensure_shape(image[0], (size, size, 3))


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn a square picture (size, size, 3) upright, from one of EXIF's eight orientations."""
    image = tf.where(orientation >= 5, tf.transpose(image, (1, 0, 2)), image)
    image = tf.where(_among(orientation, (2, 3, 6, 7)), image[:, ::-1], image)
    return tf.where(_among(orientation, (3, 4, 7, 8)), image[::-1], image)
