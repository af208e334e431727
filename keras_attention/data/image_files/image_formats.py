"""Decode JPEG, PNG, GIF, BMP and WebP with Pillow and NumPy.

This module is the reference for `serving/graph_images.py`, which does the same in a graph with functions of the same
names.
There are two because a server runs no Python, and because Python must decode images on a machine without TensorFlow.
The graph has no WebP, which older servers cannot decode. Apart from that, both accept the same files and return the
same pixels, except for rare bit flips inside compressed data; `tests/test_image_formats.py` compares them. Pillow and
TensorFlow differ in palettes, CMYK, transparency, orientation and the check for missing pixels, so this module
implements these itself, as TensorFlow does.

Each reader checks the header before it decodes, and returns pixels (height, width, 3) uint8 and the EXIF orientation, 1
to 8.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np

FORMATS = "JPEG, PNG, GIF, BMP or WebP"
MAX_PIXELS = 50_000_000
MAX_SIDE = 65_500  # libjpeg's limit, applied to every format
MAX_STEPS = 32_768  # maximum number of segments of a JPEG, or blocks of a GIF, before the pixels

EXIF = b"Exif\0\0"
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # markers: baseline, extended, progressive
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # markers in the same range that do not begin a frame

_PNG_PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]

# Exceptions that Pillow, struct and zlib raise on damaged bytes.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


class ImageError(ValueError):
    """An image cannot be read. The message names the problem and what was expected.

    Example:
        >>> try:
        ...     ka.data.image_files.images.decode_image(b"", 8)
        ... except ImageError as error:
        ...     print(error)
        The image is empty; expected a JPEG, PNG, GIF, BMP or WebP. Convert it with an image program, or leave it out.
    """


def decode_bytes(data: bytes) -> tuple[np.ndarray, int]:
    """Decode an encoded image.

    Args:
        data: a JPEG, PNG, GIF or WebP (the first frame is decoded) or BMP (24 or 32 bits, uncompressed).

    Returns:
        Pixels (height, width, 3) uint8, RGB, and the EXIF orientation of a JPEG or WebP, 1 to 8; 1 for other formats.

    Raises:
        ImageError: the format is another one, the file is damaged or truncated, or it has more than `MAX_PIXELS`
            pixels. The message has no subject and no full stop: the caller adds the image's name.
    """
    from PIL import Image

    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                return read(data)
            except ImageError:
                raise
            except Image.DecompressionBombError as error:
                raise ImageError(f"is too large for Pillow ({error}); expected a smaller image") from None
            except _DAMAGE:  # messages of Pillow and struct, such as "unpack requires a buffer", explain nothing
                raise ImageError("is damaged or truncated; expected a complete image") from None
    problem = f"begins with {data[:8]!r}" if data else "is empty"
    raise ImageError(f"{problem}; expected a {FORMATS}")


def is_webp(data: bytes) -> bool:
    """Return whether an encoded image is a WebP, which an export cannot decode."""
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def check_size(width: int, height: int) -> None:
    """Raise an `ImageError` if an image has no pixels, more than `MAX_PIXELS` pixels, or a side over `MAX_SIDE`."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ImageError(
            f"has {width} x {height} pixels; expected 1 to {MAX_PIXELS} in all and at most {MAX_SIDE} a side"
        )


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return three channels of (height, width, 1 to 4) or (height, width): repeat grey, remove the last of 2 or 4."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :3] if pixels.shape[2] > 2 else np.repeat(pixels[..., :1], 3, axis=2)


# JPEG


def _read_jpeg(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    segments = list(_jpeg_segments(data))
    exif = next((data[b + 10 : e] for kind, b, e in segments if kind == 0xE1 and data[b + 4 : b + 10] == EXIF), b"")
    frame = next((data[b + 1 : e] for kind, b, e in segments if 0xC0 <= kind <= 0xCF and kind not in NOT_FRAMES), b"")
    kind, _, precision, height, width, components = struct.unpack_from(">BHBHHB", frame)
    if kind not in JPEG_FRAMES or precision != 8 or components not in (1, 3, 4):
        raise ImageError("is an unsupported JPEG; expected baseline or progressive, 8 bits, 1, 3 or 4 components")
    check_size(width, height)
    # Remove the metadata: Pillow parses them and can fail.
    parts = [data[b:e] for kind, b, e in segments if kind in (0xE0, 0xEE) or not 0xE0 <= kind <= 0xEF]
    with Image.open(io.BytesIO(b"".join([data[:2], *parts])), formats=("JPEG",)) as image:
        pixels = np.asarray(image)
        pixels = _cmyk_to_rgb(pixels, "adobe" in image.info) if components == 4 else to_rgb(pixels)
    return pixels, _orientation(exif)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, begin, end) of each segment; the last is the scan with everything after it."""
    at = 2
    for _ in range(MAX_STEPS):
        first, marker = data[at : at + 2]
        if first != 0xFF or marker == 0xFF:
            at += 1
        elif marker <= 1 or 0xD0 <= marker <= 0xD7:  # these have no length
            at += 2
        elif marker in (0xD9, 0xDA):
            yield marker, at, len(data)
            return
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            yield marker, at, at + 2 + length
            at += 2 + length
    raise ImageError(f"has over {MAX_STEPS} segments before its pixels; expected fewer")


def _orientation(tiff: bytes) -> int:
    """Return the orientation, 1 to 8, from the bytes after `Exif\\0\\0`; 1 if there is none."""
    order = ">" if tiff[:1] == b"M" else "<"
    if len(tiff) < 10:
        return 1
    first = min(struct.unpack_from(f"{order}I", tiff, 4)[0], len(tiff) - 2)
    (entries,) = struct.unpack_from(f"{order}H", tiff, first)
    table = tiff[first + 2 : first + 2 + 12 * entries]
    for entry in range(0, len(table) - 11, 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", table, entry)
        if (tag, kind) == (0x0112, 3):
            return value if 1 <= value <= 8 else 1
    return 1


def _cmyk_to_rgb(pixels: np.ndarray, adobe: bool) -> np.ndarray:
    """Convert CMYK (height, width, 4) to RGB as TensorFlow does; Pillow has inverted Adobe's files already."""
    light = (255 - pixels if adobe else pixels).astype("uint16")
    return (light[..., :3] * light[..., 3:] // 255).astype("uint8")


# PNG


def _read_png(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageError("is a PNG without a header; expected the chunk IHDR first")
    chunks = list(_png_chunks(data))
    _check_png(data, chunks)
    with Image.open(io.BytesIO(b"".join([data[:8], *(chunk for _, chunk in chunks)])), formats=("PNG",)) as image:
        image = image.convert("L") if image.mode == "1" else image
        pixels = np.asarray(image)
        if image.mode == "P":
            return _apply_palette(pixels, bytes(image.getpalette("RGB"))), 1
    return to_rgb((pixels >> 8).astype("uint8") if pixels.dtype != np.uint8 else pixels), 1


def _check_png(data: bytes, chunks: list[tuple[bytes, bytes]]) -> None:
    """Check the header and the palette, and that the compressed data contain all pixels."""
    width, height, depth, colour, method, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    palettes = [len(chunk) - 12 for kind, chunk in chunks if kind == b"PLTE"]
    invalid_palette = (colour & 2 and 0 in palettes) or (colour == 3 and (len(palettes) != 1 or palettes[0] % 3))
    if method or interlaced > 1 or invalid_palette:
        raise ImageError("has an invalid header or palette; expected a standard PNG")
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = _PNG_PASSES if interlaced else [(0, 0, 1, 1)]
    sizes = [(-(-(height - y) // down), -(-(width - x) // right)) for y, x, down, right in passes]
    expected = sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if columns > 0)
    _check_inflated(b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT"), expected)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, chunk) of the chunks that the pixels need, without transparency, animation and metadata."""
    check_size(*struct.unpack_from(">II", data, 16))
    at, kind, pixels_ended = 8, b"", False  # all chunks with pixels (IDAT) are consecutive
    while kind != b"IEND":
        previous = kind
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        pixels_ended |= previous == b"IDAT" and kind != b"IDAT"
        if kind in (b"PLTE", b"IDAT", b"IEND") or at == 8:
            if struct.pack(">I", zlib.crc32(chunk[4:-4])) != chunk[8 + length :]:
                raise ImageError(f"is a PNG whose chunk {kind!r} is damaged or cut; expected a complete image")
            if kind != b"IDAT" or not pixels_ended:
                yield kind, chunk
        elif not kind.isalpha() or kind[:1].isupper():  # critical: pixels may depend on it
            raise ImageError(f"is a PNG with an unknown chunk {kind!r}; expected standard chunks")
        at += len(chunk)


def _check_inflated(deflated: bytes, expected: int) -> None:
    """Check that the compressed data are complete, because Pillow accepts data that end before the last pixel."""
    inflate, count = zlib.decompressobj(wbits=0), 0
    while not inflate.eof:
        part = inflate.decompress(deflated, 2**20)
        count, deflated = count + len(part), inflate.unconsumed_tail
        if not part and not deflated:
            break
    if not inflate.eof or count < expected:
        raise ImageError(f"is a PNG with {count} bytes of pixels; expected {expected} and the end of the data")


def _apply_palette(indices: np.ndarray, palette: bytes) -> np.ndarray:
    """Return the colours (height, width, 3) of indices (height, width); an index beyond the palette is black."""
    table = np.zeros((256, 3), "uint8")
    table[: len(palette) // 3] = np.frombuffer(palette, "uint8").reshape(-1, 3)
    return table[indices]


# GIF: the first frame, which must fill the image; transparent pixels are black


def _read_gif(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    control, frame, end = _gif_frame(data)
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    left, top, width, height, local = struct.unpack_from("<HHHHB", data, frame + 1)
    check_size(screen_width, screen_height)
    if (left, top, width, height) != (0, 0, screen_width, screen_height):
        raise ImageError(
            f"is a GIF whose first frame has {width} x {height} pixels at {left}, {top}; expected the full size"
        )
    begin = frame + 10 + _gif_palette_bytes(local)
    palette = data[frame + 10 : begin] or data[13 : 13 + _gif_palette_bytes(flags)]
    indices = np.asarray(Image.frombytes("L", (width, height), data[begin + 1 : end], "gif", data[begin], local & 0x40))
    transparent = indices == (data[control + 6] if control and data[control + 3] & 1 else -1)
    if np.any((indices >= len(palette) // 3) & ~transparent):
        raise ImageError(f"is a GIF with a colour beyond its palette; expected less than {len(palette) // 3}")
    return np.where(transparent[..., None], np.uint8(0), _apply_palette(indices, palette)), 1


def _gif_frame(data: bytes) -> tuple[int, int, int]:
    """Return the beginnings of the first graphic control block (0 for none) and frame, and the end of the frame."""
    at, control, frame = 13 + _gif_palette_bytes(data[10]), 0, 0
    in_block = False  # a chain of sub-blocks, each after its length; the last has length 0
    for _ in range(MAX_STEPS):
        byte = data[at]
        if in_block:
            in_block = byte > 0
            at += 1 + byte
            if frame and not in_block:
                return control, frame, at
        elif byte == 0x21:
            control = control or (at if data[at + 1] == 0xF9 else 0)
            at, in_block = at + 2, True
        elif byte == 0x2C:
            frame, in_block = at, True
            at += 11 + _gif_palette_bytes(data[at + 9])
        else:
            raise ImageError(f"is a GIF with the block {byte}; expected an extension or a frame")
    raise ImageError(f"is a GIF of more than {MAX_STEPS} blocks; expected a smaller image")


def _gif_palette_bytes(flags: int) -> int:
    """Return the size in bytes of the palette that `flags` describe."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


# BMP


def _read_bmp(data: bytes) -> tuple[np.ndarray, int]:
    begin, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40 or bits not in (24, 32) or compression:
        raise ImageError("is an unsupported BMP; expected 24 or 32 bits, uncompressed")
    check_size(width, abs(height))
    stride = -(-width * bits // 32) * 4
    rows = np.frombuffer(data, "uint8", abs(height) * stride, begin).reshape(abs(height), stride)
    pixels = rows[:, : width * bits // 8].reshape(abs(height), width, bits // 8)[..., 2::-1]
    return pixels[::-1] if height > 0 else pixels, 1  # a negative height: the top row comes first


# WebP


def _read_webp(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    if not is_webp(data):
        raise ImageError(f"is a RIFF file without an image; expected a {FORMATS}")
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        check_size(*image.size)
        orientation = image.getexif().get(0x0112, 1)
        return np.asarray(image.convert("RGBA"))[..., :3], orientation if orientation in range(1, 9) else 1


_READERS = {
    b"\xff\xd8\xff": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"GIF87a": _read_gif,
    b"GIF89a": _read_gif,
    b"BM": _read_bmp,
    b"RIFF": _read_webp,
}
