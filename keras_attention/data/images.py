"""Pictures to arrays: read the header, refuse what is too large, decode, resize, turn upright.

JPEG, PNG, GIF (its first frame) and BMP, with Pillow and NumPy. `serving/images.py` does the same
in a TensorFlow graph: both accept the same files and give the same numbers, so that a model sees in
service what it saw in training. Whatever the two decoders would do differently is therefore done
here by hand: palettes, CMYK, transparency, orientation.
"""

from __future__ import annotations

import io
import pathlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

MAX_PIXELS = 50_000_000  # read from the header, before anything is decoded
MAX_SIDE = 65_500  # libjpeg's limit, here for every format
MAX_BYTES = 32 * 2**20
MAX_STEPS = 32_768  # segments of a JPEG or blocks of a GIF that are walked to find the pixels

Picture: TypeAlias = "str | pathlib.Path | bytes | np.ndarray"


class ImageError(ValueError):
    """A picture cannot be read; says what was found and what was expected."""


def decode_image(picture: Picture, size: int) -> np.ndarray:
    """Decode a picture and resize it to a square, whatever its shape was.

    Resizing is bilinear and anti-aliased: each output pixel is a mean of the input around its centre,
    weighted by a triangle as wide as two pixels of the coarser grid. Grey is repeated, transparency
    dropped (in a GIF it is black), and a JPEG turned upright as its EXIF orientation says.

    Args:
        picture: the path or the bytes of a JPEG, PNG, GIF (first frame) or BMP (24 or 32 bits,
            uncompressed); or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), uint8.
        size: height and width of the answer.

    Returns:
        (size, size, 3) float32, RGB in [0, 255], not rounded.

    Raises:
        ImageError: no such picture, a damaged or truncated one, or one of more than `MAX_PIXELS`.
        FileNotFoundError: there is no such file.

    Example:
        >>> decode_image(np.full((2, 3), 7, "uint8"), 5).shape
        (5, 5, 3)
    """
    if isinstance(picture, np.ndarray):
        return _resize(_check_array(picture), size)
    if isinstance(picture, bytes):
        return _decode(picture, "The picture", size)
    return _decode(encoded_image(picture), str(picture), size)


def read_images(pictures: Sequence[Picture], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode pictures into one batch, with zeros for those that cannot be read.

    Args:
        pictures: see `decode_image`.
        size: height and width of the answer.

    Returns:
        images (B, size, size, 3) float32 and valid (B,) bool.

    Raises:
        FileNotFoundError: there is no such file.

    Example:
        >>> read_images([b"no picture", np.zeros((2, 3), "uint8")], 5)[1].tolist()
        [False, True]
    """
    images = np.zeros((len(pictures), size, size, 3), "float32")
    valid = np.ones(len(pictures), bool)
    for i, picture in enumerate(pictures):
        try:
            images[i] = decode_image(picture, size)
        except ImageError:
            valid[i] = False
    return images, valid


def encoded_image(picture: Picture) -> bytes:
    """Return the bytes of a picture's file, as a server is sent them; an array becomes a PNG.

    Args:
        picture: see `decode_image`.

    Raises:
        ImageError: an array that is no picture, or a file of more than `MAX_BYTES`.
        FileNotFoundError: there is no such file.

    Example:
        >>> encoded_image(np.zeros((2, 3), "uint8"))[1:4]
        b'PNG'
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray):
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(_check_array(picture)).save(file, "PNG")
        return file.getvalue()
    path = pathlib.Path(picture)
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(f"{path} has {path.stat().st_size} bytes; expected at most {MAX_BYTES}.")
    return path.read_bytes()


def augment_images(images: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Vary pictures for training: a random crop, resized, with another contrast and brightness.

    Args:
        images: (B, h, w, 3) float32 in [0, 255].
        chance: where randomness comes from; the same state gives the same pictures.

    Returns:
        (B, h, w, 3) float32 in [0, 255]. A crop keeps the aspect ratio and 0.7 to 1 of the area.

    Example:
        >>> augment_images(np.zeros((2, 5, 7, 3), "float32"), np.random.default_rng(0)).shape
        (2, 5, 7, 3)
    """
    varied = np.empty_like(images, "float32")
    for i, image in enumerate(images):
        side = np.sqrt(chance.uniform(0.7, 1.0))
        top, left = chance.uniform(0.0, 1.0 - side, 2)
        contrast, brightness = chance.uniform(0.8, 1.2, 2)
        image = _zoom(_zoom(image, top, side).swapaxes(0, 1), left, side).swapaxes(0, 1)
        mean = image.mean()
        varied[i] = np.clip(((image - mean) * contrast + mean) * brightness, 0.0, 255.0)
    return varied


def _zoom(image: np.ndarray, begin: float, part: float) -> np.ndarray:
    """Enlarge a part of the rows, given as fractions of their number, to all of them."""
    length = len(image)
    place = (begin + (np.arange(length) + 0.5) / length * part) * length - 0.5
    place = np.clip(place, 0, length - 1).astype("float32")
    low = place.astype(int)
    share = (place - low)[:, None, None]
    return image[low] * (1 - share) + image[np.minimum(low + 1, length - 1)] * share


def _check_array(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"An array of shape {pixels.shape} and type {pixels.dtype} is no picture; expected (h, w), "
            "(h, w, 1), (h, w, 3) or (h, w, 4) of type uint8."
        )
    try:
        _check_size(pixels.shape[1], pixels.shape[0])
    except ImageError as error:
        raise ImageError(f"The array {error}.") from None
    return _three_channels(pixels)


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ImageError(
            f"has {width} x {height} pixels; expected 1 to {MAX_PIXELS} in all and at most {MAX_SIDE} a side"
        )


def _three_channels(pixels: np.ndarray) -> np.ndarray:
    """(h, w), (h, w, 1), (h, w, 2), (h, w, 3) or (h, w, 4) -> (h, w, 3), without the last of 2 or 4."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :3] if pixels.shape[2] > 2 else np.repeat(pixels[..., :1], 3, axis=2)


# Resizing and turning


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (size, size, 3) float32."""
    rows = _resize_rows(pixels, size)
    return np.ascontiguousarray(_resize_rows(rows.swapaxes(0, 1), size).swapaxes(0, 1))


def _resize_rows(pixels: np.ndarray, size: int) -> np.ndarray:
    """(n, ...) -> (size, ...) float32: each row a mean of the rows around it, weighted by a triangle."""
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
    """Turn a square picture (size, size, 3) upright, from one of EXIF's eight orientations."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)


# Formats: each reader checks the header, then answers (h, w, 3) uint8 and an orientation


# What Pillow, struct and zlib raise on damaged bytes.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def _decode(data: bytes, name: str, size: int) -> np.ndarray:
    """Decode with the reader whose signature the bytes begin with."""
    from PIL import Image

    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has {len(data)} bytes; expected at most {MAX_BYTES}.")
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                pixels, orientation = read(data)
            except ImageError as error:
                raise ImageError(f"{name} {error}.") from None
            except Image.DecompressionBombError as error:
                raise ImageError(f"{name} is too large for Pillow: {error}") from None
            except _DAMAGE as error:
                raise ImageError(f"{name} is damaged or truncated ({error}); expected a whole picture.") from None
            return _turn(_resize(pixels, size), orientation)
    found = f"begins with {data[:8]!r}" if data else "is empty"
    raise ImageError(f"{name} {found}; expected a JPEG, PNG, GIF or BMP. Convert it to one of these.")


def _read_jpeg(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    segments = list(_jpeg_segments(data))
    exif = next((data[b + 10 : e] for kind, b, e in segments if kind == 0xE1 and data[b + 4 : b + 10] == EXIF), b"")
    frame = next((data[b + 1 : e] for kind, b, e in segments if 0xC0 <= kind <= 0xCF and kind not in NO_FRAMES), b"")
    kind, _, precision, height, width, components = struct.unpack_from(">BHBHHB", frame)
    if kind not in FRAMES or precision != 8 or components not in (1, 3, 4):
        raise ImageError("is a JPEG of a rare kind; expected baseline or progressive, 8 bits, 1, 3 or 4 components")
    _check_size(width, height)
    # Without metadata, which Pillow would also parse, and might stumble over.
    kept = [data[b:e] for kind, b, e in segments if kind in (0xE0, 0xEE) or not 0xE0 <= kind <= 0xEF]
    with Image.open(io.BytesIO(b"".join([data[:2], *kept])), formats=("JPEG",)) as image:
        pixels = np.asarray(image)
        pixels = _from_cmyk(pixels, "adobe" in image.info) if components == 4 else _three_channels(pixels)
    return pixels, _orientation(exif)


EXIF = b"Exif\0\0"
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
NO_FRAMES = (0xC4, 0xC8, 0xCC)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, begin, end) of each segment; the last is the scan with all that follows it."""
    place = 2
    for _ in range(MAX_STEPS):
        first, marker = data[place : place + 2]
        if first != 0xFF or marker == 0xFF:
            place += 1
        elif marker <= 1 or 0xD0 <= marker <= 0xD7:  # these have no length
            place += 2
        elif marker in (0xD9, 0xDA):
            yield marker, place, len(data)
            return
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            yield marker, place, place + 2 + length
            place += 2 + length
    raise ImageError(f"has over {MAX_STEPS} segments before its pixels; expected a few")


def _orientation(tiff: bytes) -> int:
    """Return the orientation, 1 to 8, from what follows `Exif\\0\\0`; 1 if it says none."""
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


def _from_cmyk(pixels: np.ndarray, adobe: bool) -> np.ndarray:
    """CMYK (h, w, 4), inverted by Pillow as Adobe's files need it, to RGB (h, w, 3), as TensorFlow does."""
    light = (255 - pixels if adobe else pixels).astype("uint16")
    return (light[..., :3] * light[..., 3:] // 255).astype("uint8")


def _read_png(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageError("is a PNG that does not begin as expected, with a header")
    width, height, depth, colour, method, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    _check_size(width, height)
    chunks = list(_png_chunks(data))
    palettes = [len(chunk) - 12 for kind, chunk in chunks if kind == b"PLTE"]
    odd = (colour & 2 and 0 in palettes) or (colour == 3 and (len(palettes) != 1 or palettes[0] % 3))
    if method or interlaced > 1 or odd:
        raise ImageError("is a PNG whose header or palette is not as expected")
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = _PNG_PASSES if interlaced else [(0, 0, 1, 1)]
    sizes = [(-(-(height - y) // down), -(-(width - x) // right)) for y, x, down, right in passes]
    expected = sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if columns > 0)
    _check_inflated(b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT"), expected)
    with Image.open(io.BytesIO(b"".join([data[:8], *(chunk for _, chunk in chunks)])), formats=("PNG",)) as image:
        image = image.convert("L") if image.mode == "1" else image
        pixels = np.asarray(image)
        if image.mode == "P":
            return _from_palette(pixels, bytes(image.getpalette("RGB"))), 1
    return _three_channels((pixels >> 8).astype("uint8") if pixels.dtype != np.uint8 else pixels), 1


_PNG_PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, chunk) of what pixels need; transparency, animation and metadata are left out."""
    place, kind, over = 8, b"", False  # all pixels are in one run of chunks
    while kind != b"IEND":
        previous = kind
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + 12 + length]
        over |= previous == b"IDAT" and kind != b"IDAT"
        if kind in (b"PLTE", b"IDAT", b"IEND") or place == 8:
            if struct.pack(">I", zlib.crc32(chunk[4:-4])) != chunk[8 + length :]:
                raise ImageError(f"is a PNG whose chunk {kind!r} is damaged or cut; expected a whole picture")
            if kind != b"IDAT" or not over:
                yield kind, chunk
        elif not kind.isalpha() or kind[:1].isupper():  # critical: pixels may depend on it
            raise ImageError(f"is a PNG with a chunk {kind!r}; expected those of the standard")
        place += len(chunk)


def _check_inflated(deflated: bytes, expected: int) -> None:
    """Inflate piece by piece, to know that all pixels are there: Pillow takes fewer."""
    inflate, found = zlib.decompressobj(wbits=0), 0
    while not inflate.eof:
        piece = inflate.decompress(deflated, 2**20)
        found, deflated = found + len(piece), inflate.unconsumed_tail
        if not piece and not deflated:
            break
    if not inflate.eof or found < expected:
        raise ImageError(f"is a PNG with {found} bytes of pixels; expected {expected} and an end")


def _from_palette(indices: np.ndarray, palette: bytes) -> np.ndarray:
    """(h, w) indices to (h, w, 3); an index beyond the palette is black."""
    table = np.zeros((256, 3), "uint8")
    table[: len(palette) // 3] = np.frombuffer(palette, "uint8").reshape(-1, 3)
    return table[indices]


def _read_gif(data: bytes) -> tuple[np.ndarray, int]:
    from PIL import Image

    control, frame, end = _gif_frame(data)
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    left, top, width, height, local = struct.unpack_from("<HHHHB", data, frame + 1)
    canvas = max(screen_height, top + height), max(screen_width, left + width)
    _check_size(width, height)
    _check_size(canvas[1], canvas[0])
    colours = data[frame + 10 : frame + 10 + _gif_colours(local)] or data[13 : 13 + _gif_colours(flags)]
    begin = frame + 10 + _gif_colours(local)
    indices = np.asarray(Image.frombytes("L", (width, height), data[begin + 1 : end], "gif", data[begin], local & 0x40))
    clear = indices == (data[control + 6] if control and data[control + 3] & 1 else -1)
    if np.any((indices >= len(colours) // 3) & ~clear):
        raise ImageError(f"is a GIF with a pixel beyond the {len(colours) // 3} expected colours")
    pixels = np.zeros((*canvas, 3), "uint8")
    pixels[top : top + height, left : left + width] = np.where(clear[..., None], 0, _from_palette(indices, colours))
    return pixels, 1


def _gif_frame(data: bytes) -> tuple[int, int, int]:
    """Find in a GIF the first graphic control block (0 if none), the first frame, and where that ends."""
    place, control, frame = 13 + _gif_colours(data[10]), 0, 0
    within = False  # a chain of sub-blocks, each with its length in front, the last one empty
    for _ in range(MAX_STEPS):
        byte = data[place]
        if within:
            within = byte > 0
            place += 1 + byte
            if frame and not within:
                return control, frame, place
        elif byte == 0x21:
            control = control or (place if data[place + 1] == 0xF9 else 0)
            place, within = place + 2, True
        elif byte == 0x2C:
            frame, within = place, True
            place += 11 + _gif_colours(data[place + 9])
        else:
            raise ImageError(f"is a GIF with the block {byte}; expected an extension or a picture")
    raise ImageError(f"is a GIF of more than {MAX_STEPS} blocks; expected a smaller picture")


def _gif_colours(flags: int) -> int:
    """How many bytes a table of colours has, which the flags describe."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


def _read_bmp(data: bytes) -> tuple[np.ndarray, int]:
    begin, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40 or bits not in (24, 32) or compression:
        raise ImageError("is a BMP of a rare kind; expected 24 or 32 bits, uncompressed")
    _check_size(width, abs(height))
    stride = -(-width * bits // 32) * 4
    rows = np.frombuffer(data, "uint8", abs(height) * stride, begin).reshape(abs(height), stride)
    pixels = rows[:, : width * bits // 8].reshape(abs(height), width, bits // 8)[..., 2::-1]
    return pixels[::-1] if height > 0 else pixels, 1


_READERS = {
    b"\xff\xd8\xff": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"GIF87a": _read_gif,
    b"GIF89a": _read_gif,
    b"BM": _read_bmp,
}
