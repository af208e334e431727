"""Images: Python and the served graph read each format, and each damaged file, in the same way."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from keras_attention.data import images as reading
from keras_attention.data.images import (
    ImageError,
    augment_images,
    decode_image,
    encoded_image,
    image_problem,
    read_images,
)
from keras_attention.prediction.encoded_inputs import check_images

SIZE = 23
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph needs TensorFlow")


def smooth(width=47, height=31, channels=3, seed=0):
    """Return an image whose colours vary slowly, as in a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(noise[..., c]).filter(ImageFilter.BoxBlur(2))) for c in range(channels)], 2
    )


RGB = Image.fromarray(smooth())


def write(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels, interlaced=False, extra=b"", size=None, data=None):
    """Return a PNG of (h, w, channels) uint8 or uint16, written without a library."""
    height, width, channels = pixels.shape
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in steps] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() for p in passes if p.size for row in p)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 8 * pixels.itemsize, colour, 0, 0, interlaced)
    data = zlib.compress(rows) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def split_png(between):
    """Return a PNG with two chunks of pixels, and other bytes between them."""
    at = PNG.index(b"IDAT") - 4
    data = PNG[at + 8 : -16]
    return PNG[:at] + chunk(b"IDAT", data[:101]) + between + chunk(b"IDAT", data[101:]) + PNG[-12:]


def bmp(pixels, bits=24, header=40, compression=0, top_down=False):
    height, width = pixels.shape[:2]
    rows = pixels[..., ::-1] if top_down else pixels[::-1, :, ::-1]
    rows = np.concatenate([rows, np.full((height, width, 1), 99, "uint8")], 2) if bits == 32 else rows
    data = b"".join(row.tobytes() + bytes(-width * bits // 8 % 4) for row in rows)
    info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, *[0] * 5)
    info += bytes(header - 40)
    return struct.pack("<2sIHHI", b"BM", 14 + header + len(data), 0, 0, 14 + header) + info + data


def exif(data, orientation, order="<", kind=3, at=8):
    """Return a JPEG with an EXIF orientation."""
    entries = [(0x010F, 2, 3, b"ab\0\0"), (0x0112, kind, 1, struct.pack(f"{order}HH", orientation, 0))]
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at) + bytes(max(at - 8, 0))
    tiff += struct.pack(f"{order}H", len(entries))
    tiff += b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    return segment(data, 0xE1, b"Exif\0\0" + tiff)


def segment(data, marker, content):
    """Return a JPEG with a new first segment."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


JPEG = write(RGB, "JPEG", quality=90)
FRAME = JPEG.index(b"\xff\xc0")  # marker, length, precision, height, width, components
CMYK = write(Image.fromarray(smooth(channels=4), "CMYK"), "JPEG")
ADOBE = CMYK.index(b"\xff\xee")
PNG = write(RGB, "PNG")
BMP = bmp(np.asarray(RGB))
GIF = write(RGB, "GIF")
GIF_FRAME = GIF.index(b"\x2c\0\0\0\0")
PALETTE = RGB.quantize(7)
GIF_8 = write(PALETTE, "GIF", interlace=0, optimize=True)  # eight colours: 24 bytes after a header of 13 bytes
AT = GIF_8.index(b"\x2c\0\0\0\0")
GIF_LOCAL = patched(GIF_8[:13] + GIF_8[37 : AT + 9], 10, b"\0") + b"\x82" + GIF_8[13:37] + GIF_8[AT + 10 :]
GIF_OFFSET = patched(patched(GIF_8, AT + 1, struct.pack("<HH", 5, 3)), 6, struct.pack("<HH", 61, 37))
GIF_CLEAR = write(PALETTE, "GIF", transparency=2)
TEXT_BOMB = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(80_000_000)))

GOOD = {
    **{f"jpeg {s}": write(RGB, "JPEG", subsampling=s, quality=90) for s in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")},
    "jpeg": JPEG,
    "jpeg progressive": write(RGB, "JPEG", progressive=True),
    "jpeg cmyk": CMYK,
    "jpeg cmyk, not by Adobe": CMYK[:ADOBE] + CMYK[ADOBE + 16 :],
    "jpeg grey": write(RGB.convert("L"), "JPEG"),
    "jpeg rgb": write(RGB, "JPEG", keep_rgb=True),
    "jpeg restarts": write(RGB, "JPEG", restart_marker_blocks=1),
    "jpeg 1x1": write(RGB.crop((0, 0, 1, 1)), "JPEG"),
    "jpeg wide": write(Image.fromarray(smooth(997, 2)), "JPEG"),
    "jpeg large": write(Image.fromarray(smooth(401, 307)), "JPEG"),
    "jpeg fill bytes": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
    "jpeg junk between segments": JPEG[: FRAME] + b"junk" + JPEG[FRAME:],
    "jpeg with something after": JPEG + b"and more",
    "jpeg odd exif": segment(JPEG, 0xE1, b"Exif\0\0MM"),
    "jpeg odd photoshop": segment(JPEG, 0xED, b"Photoshop 3.0\0008BIM\x04\x04\xff\xff"),
    "jpeg several images": write(RGB, "MPO", save_all=True, append_images=[RGB.crop((0, 0, 5, 7))]),
    "png": PNG,
    "png grey": write(RGB.convert("L"), "PNG"),
    "png grey and alpha": write(RGB.convert("LA"), "PNG"),
    "png alpha": write(Image.fromarray(smooth(channels=4)), "PNG"),
    "png palette": write(PALETTE, "PNG"),
    "png palette, 2 bits": write(RGB.quantize(3), "PNG", bits=2),
    "png palette, transparent": write(PALETTE, "PNG", transparency=2),
    "png palette, alphas": write(PALETTE, "PNG", transparency=bytes([0, 10, 255, 77])),
    "png colour, transparent": png(smooth(), extra=chunk(b"tRNS", bytes(6))),
    "png 1 bit": write(RGB.convert("1"), "PNG"),
    "png 16 bits": png(smooth().astype("uint16") * 256 + smooth(seed=1)),
    "png 16 bits, alpha": png(smooth(channels=4).astype("uint16") * 256 + 201),
    "png 16 bits, grey": png(smooth(channels=1).astype("uint16") * 256 + smooth(channels=1, seed=1)),
    "png 16 bits, grey and alpha": png(smooth(channels=2).astype("uint16") * 256 + 201),
    "png interlaced": png(smooth(), interlaced=True),
    "png interlaced, 1 x 3": png(smooth(1, 3), interlaced=True),
    "png gamma": png(smooth(), extra=chunk(b"gAMA", struct.pack(">I", 100_000))),
    "png of several chunks": split_png(chunk(b"IDAT", b"")),
    "png 1x1": write(RGB.crop((0, 0, 1, 1)), "PNG"),
    "png animated": write(RGB, "PNG", save_all=True, append_images=[ImageOps.invert(RGB)]),
    "png a text that is a bomb": png(smooth(), extra=TEXT_BOMB),
    "png a text with a wrong sum": png(smooth(), extra=chunk(b"tEXt", b"a\0b")[:-1] + b"x"),
    "png more data than pixels": png(smooth(), data=zlib.compress(bytes(31 * (47 * 3 + 1) + 30_000_000))),
    "gif": GIF,
    "gif not interlaced": write(RGB, "GIF", interlace=0),
    "gif grey": write(RGB.convert("L"), "GIF"),
    "gif animated": write(RGB, "GIF", save_all=True, append_images=[ImageOps.invert(RGB), ImageOps.mirror(RGB)]),
    "gif local colours": GIF_LOCAL,
    "gif comment": write(RGB, "GIF", comment=b"c" * 700),
    "gif 1x1": write(RGB.crop((0, 0, 1, 1)), "GIF"),
    "gif without an end": GIF[:-1],
    "gif large": write(Image.fromarray(smooth(401, 307)), "GIF"),
    "bmp": BMP,
    "bmp by Pillow": write(RGB, "BMP"),
    "bmp 32 bits": bmp(np.asarray(RGB), 32),
    "bmp top down": bmp(np.asarray(RGB), top_down=True),
    "bmp long header": bmp(np.asarray(RGB), 32, 124),
    "bmp 1x1": bmp(np.asarray(RGB.crop((0, 0, 1, 1)))),
}  # fmt: skip

BAD = {
    "empty": b"",
    "text": b"a boy eats an apple",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "random": np.random.default_rng(3).bytes(997),
    "tiff": write(RGB, "TIFF"),
    "riff": b"RIFF\x10\0\0\0WAVEfmt 12345678",
    "ppm": write(RGB, "PPM"),
    **{
        f"{name} cut {cut}": data[:cut]
        for name, data in (("jpeg", JPEG), ("png", PNG), ("gif", GIF), ("bmp", BMP))
        for cut in (3, 7, 11, 17, 29, 101, len(data) // 2, len(data) - 19)
    },
    "jpeg without an end": JPEG[:-2],
    "jpeg cut in its last byte": JPEG[:-1],
    "gif cut before its terminator": GIF[:-2],
    "bmp cut in its last byte": BMP[:-1],
    "jpeg huge": patched(JPEG, FRAME + 5, struct.pack(">HH", 65_000, 65_000)),
    "jpeg no rows": patched(JPEG, FRAME + 5, struct.pack(">HH", 0, 47)),
    "jpeg 12 bits": patched(JPEG, FRAME + 4, b"\x0c"),
    "jpeg lossless": patched(JPEG, FRAME + 1, b"\xc3"),
    "jpeg arithmetic": patched(JPEG, FRAME + 1, b"\xc9"),
    "jpeg two components": patched(JPEG, FRAME + 9, b"\x02"),
    "jpeg no tables": JPEG[:2] + JPEG[FRAME:],
    "jpeg no frame": JPEG[:FRAME] + JPEG[FRAME + 19 :],
    "jpeg ends before its scan": JPEG[:FRAME] + b"\xff\xd9" + JPEG[FRAME:],
    "jpeg junk without end": JPEG[:20] + bytes(1_000),
    "png huge": png(smooth(), size=(100_000, 100_000)),
    "png wide": png(smooth(), size=(500_000, 1)),
    "png no columns": png(smooth(), size=(0, 31)),
    "png too few rows": png(smooth(), size=(47, 32)),
    "png no deflate": png(smooth(), data=b"no deflate"),
    "png wrong sum": patched(PNG, len(PNG) - 14, b"\0\0"),
    "png no palette": write(PALETTE, "PNG").replace(b"PLTE", b"pLTE"),
    "png text between pixels": split_png(chunk(b"tEXt", b"a\0b")),
    "png without the end of its pixels": png(smooth(), data=zlib.compress(bytes(31 * (47 * 3 + 1)))[:-4]),
    "png two headers": png(smooth(), extra=PNG[8:33]),
    "png odd interlacing": png(smooth(), interlaced=2),
    "png unknown chunk": png(smooth(), extra=chunk(b"ABCD", b"x")),
    "gif huge": patched(GIF, 6, struct.pack("<HH", 65_000, 65_000)),
    "gif huge frame": patched(GIF, GIF_FRAME + 5, struct.pack("<HH", 65_000, 65_000)),
    "gif a frame at an offset": GIF_OFFSET,
    "gif a screen larger than its frame": patched(GIF_8, 6, struct.pack("<HH", 61, 37)),
    "gif too few pixels": patched(patched(GIF, GIF_FRAME + 7, struct.pack("<H", 32)), 8, struct.pack("<H", 32)),
    "gif no frame": GIF[: GIF_FRAME] + b"\x3b",
    "gif no colours": patched(GIF, 10, b"\0")[:13] + GIF[13 + 768 :],
    "gif a pixel beyond its colours": patched(GIF_8[:19] + GIF_8[37:], 10, b"\x80"),
    "bmp huge": patched(BMP, 18, struct.pack("<ii", 100_000, 100_000)),
    "bmp old header": patched(BMP, 14, struct.pack("<I", 12)),
    "bmp 8 bits": write(PALETTE, "BMP"),
    "bmp compressed": bmp(np.asarray(RGB), 32, compression=3),
}  # fmt: skip


def reference(name, data):
    """Return what Pillow decodes from a valid file, corrected for known differences."""
    if "with a wrong sum" in name or "bomb" in name:
        return resized(smooth())
    image = Image.open(io.BytesIO(data))
    if name == "jpeg cmyk, not by Adobe":
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if name == "png 16 bits, grey":
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return resized(np.asarray(image.convert("RGBA" if image.mode != "CMYK" else "RGB"))[..., :3])


def resized(pixels):
    channels = [Image.fromarray(pixels[..., c].astype("float32")) for c in range(3)]
    return np.stack([np.asarray(c.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for c in channels], 2)


@pytest.fixture(scope="module")
def in_graph():
    """A function: encoded images -> images and valid, computed by the served graph."""
    tf = pytest.importorskip("tensorflow")
    from keras_attention.serving.images import decode_images

    graph = tf.function(decode_images, autograph=False).get_concrete_function(tf.TensorSpec((None,), tf.string), SIZE)
    return lambda encoded: tuple(t.numpy() for t in graph(tf.constant(encoded, tf.string)))


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_image_is_decoded_like_in_pillow(name):
    image = decode_image(GOOD[name], SIZE)
    assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.float32)
    atol = 1.0 if "cmyk" in name else 0.01  # Pillow rounds ink to the nearest value, TensorFlow rounds down
    np.testing.assert_allclose(image, reference(name, GOOD[name]), rtol=0, atol=atol)


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_image_is_an_error(name):
    with pytest.raises(ImageError, match=r"^The image .*expected.*\.$"):
        decode_image(BAD[name], SIZE)


@needs_tensorflow
def test_python_and_graph_agree_on_every_file(in_graph):
    """All files are in one batch. An invalid image is zeros and does not change the others."""
    files = {**GOOD, **BAD, "gif transparent": GIF_CLEAR}
    in_python, valid_in_python = read_images(list(files.values()), SIZE)
    in_tensorflow, valid_in_tensorflow = in_graph(list(files.values()))
    for valid in (valid_in_python, valid_in_tensorflow):
        assert {name for name, is_valid in zip(files, valid, strict=True) if not is_valid} == set(BAD)
    np.testing.assert_allclose(in_python, in_tensorflow, rtol=0, atol=0.01)
    assert not in_tensorflow[~valid_in_tensorflow].any()


@needs_tensorflow
def test_python_and_graph_agree_on_randomly_damaged_files(in_graph):
    rng = np.random.default_rng(7)
    files = []
    for name in ("jpeg 4:2:0", "jpeg progressive", "png palette, alphas", "png 16 bits", "gif 1x1", "bmp 32 bits"):
        data = GOOD[name]
        files += [data[:cut] for cut in rng.integers(0, len(data), 30)]
        files += [patched(data, at, rng.bytes(1)) for at in rng.integers(0, min(len(data), 200), 30)]
    (in_python, valid_in_python), (in_tensorflow, valid_in_tensorflow) = read_images(files, SIZE), in_graph(files)
    assert 0.1 < valid_in_python.mean() < 0.9
    np.testing.assert_array_equal(valid_in_python, valid_in_tensorflow)
    np.testing.assert_allclose(in_python, in_tensorflow, rtol=0, atol=0.01)


@pytest.mark.parametrize("order", "<>", ids=["little", "big"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are ignored
def test_a_photo_is_rotated_by_its_exif_orientation(orientation, order, request):
    data = exif(JPEG, orientation, order, at=8 + orientation % 3)
    expected = resized(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    np.testing.assert_allclose(decode_image(data, SIZE), expected, rtol=0, atol=0.01)
    assert np.abs(expected - resized(smooth())).max() > 9 or orientation in (0, 1, 9)
    if keras.backend.backend() == "tensorflow":
        images, valid = request.getfixturevalue("in_graph")([data, b""])
        assert valid.tolist() == [True, False]
        np.testing.assert_allclose(images[0], expected, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "data",
    [
        exif(JPEG, 6, kind=4),  # not a 16-bit number
        segment(JPEG, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff\1\0"),  # a table after the end
        segment(JPEG, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\1\3\0"),  # a truncated table
        segment(JPEG, 0xE1, b"Exif\0\0"),
        segment(exif(JPEG, 6), 0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0"),  # the first EXIF segment is used
    ],
)
def test_invalid_orientations_are_ignored(data, request):
    np.testing.assert_array_equal(decode_image(data, SIZE), decode_image(JPEG, SIZE))
    if keras.backend.backend() == "tensorflow":
        images, _ = request.getfixturevalue("in_graph")([data])
        np.testing.assert_allclose(images[0], decode_image(data, SIZE), rtol=0, atol=0.01)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_webp_is_decoded_in_python_and_sent_to_a_server_as_png(mode):
    image = RGB.convert(mode)
    data = write(image, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0")
    upright = np.asarray(image.convert("RGB").transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_allclose(decode_image(data, SIZE), resized(upright), rtol=0, atol=0.01)
    sent = encoded_image(data)
    assert sent[1:4] == b"PNG"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sent))), upright)
    for damaged in (data[: len(data) // 2], data[:20]):
        with pytest.raises(ImageError, match="damaged"):
            decode_image(damaged, SIZE)
        assert "damaged or truncated" in image_problem(damaged)


def test_transparent_pixels_of_a_gif_are_black():
    cleared = np.where(np.asarray(PALETTE)[..., None] == 2, 0, np.asarray(PALETTE.convert("RGB")))
    np.testing.assert_allclose(decode_image(GIF_CLEAR, SIZE), resized(cleared), rtol=0, atol=0.01)


@needs_tensorflow
def test_the_tensorflow_loader_decodes_the_same(tmp_path):
    import tensorflow as tf

    from keras_attention.serving.check import check_export, run_tensorflow_loader, serving_tensors
    from keras_attention.serving.images import decode_images

    class Decoder(tf.Module):
        @tf.function(autograph=False, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
        def __call__(self, image_bytes):
            images, valid = decode_images(image_bytes, 5)
            return {"images": images, "valid": valid}

    decoder = Decoder()
    tf.saved_model.save(decoder, str(tmp_path / "1"), signatures=decoder.__call__)
    assert check_export(tmp_path / "1").problems == ()
    inputs, outputs = serving_tensors(tmp_path / "1")
    files = [JPEG, b"", BAD["jpeg huge"], exif(JPEG, 6, ">"), GIF, BAD["png too few rows"], PNG, BMP]
    batches = [files, [], files[1:2], files[:1]]
    feeds = [[data.decode("utf-8", "surrogateescape") for data in batch] for batch in batches]
    outputs = run_tensorflow_loader(
        tmp_path / "1", outputs, [{inputs["image_bytes"]: {"dtype": "string", "values": feed}} for feed in feeds]
    )
    for batch, output in zip(batches, outputs, strict=True):
        images, valid = read_images(batch, 5)
        assert output["valid"] == valid.tolist()
        np.testing.assert_allclose(np.reshape(output["images"], images.shape), images, rtol=0, atol=0.01)


def test_resizing_preserves_the_mean_of_large_photos():
    """The triangle filters give every pixel the same weight at every scale."""
    pixels = np.random.default_rng(0).integers(0, 256, (1009, 757, 3), dtype=np.uint8)
    image = decode_image(pixels, SIZE)
    np.testing.assert_allclose(image, resized(pixels), rtol=0, atol=0.01)
    np.testing.assert_allclose(image.mean(), pixels.mean(), atol=0.5)


def test_paths_bytes_and_arrays_give_the_same_image(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    pixels = smooth()
    alpha = np.concatenate([pixels, pixels[..., :1]], 2)
    same = [tmp_path / "a.png", str(tmp_path / "a.png"), PNG, pixels, alpha]
    images, valid = read_images(same, SIZE)
    assert valid.all()
    assert (images == images[0]).all()
    grey = [pixels[..., 0], pixels[..., :1], np.repeat(pixels[..., :1], 3, 2)]
    images, _ = read_images(grey, SIZE)
    assert (images == images[0]).all()
    assert read_images([], SIZE)[0].shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 5), "float32"), np.zeros((3, 5, 2), "uint8"), np.zeros((0, 5), "uint8")]
)
def test_other_arrays_are_an_error(wrong):
    with pytest.raises(ImageError, match=r"^(An|The) array .*expected.*\.$"):
        decode_image(wrong, SIZE)


def test_size_limits_are_checked_before_decoding(tmp_path, monkeypatch):
    for function in (decode_image, lambda image, size: read_images([image], size)):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "missing.jpg", SIZE)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    monkeypatch.setattr(reading, "MAX_BYTES", 97)
    for image in (JPEG, tmp_path / "a.jpg"):
        with pytest.raises(ImageError, match=f"{len(JPEG)} bytes; expected at most 97"):
            decode_image(image, SIZE)
    monkeypatch.undo()
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was decoded"))
    for name in ("jpeg huge", "png huge", "gif huge", "bmp huge"):
        with pytest.raises(ImageError, match="pixels; expected 1 to 50000000 in all"):
            decode_image(BAD[name], SIZE)


def test_augmentation_is_determined_by_the_random_generator():
    images = np.stack([smooth(13, 11), smooth(13, 11, seed=1)] * 5).astype("float32")
    one, two = (augment_images(images, np.random.default_rng(3)) for _ in range(2))
    assert (one.shape, one.dtype) == (images.shape, np.float32)
    np.testing.assert_array_equal(one, two)
    assert 0 <= one.min() <= one.max() <= 255
    assert all(np.abs(a - b).max() > 1 for a, b in zip(one[:-2], one[2:], strict=True))
    assert not augment_images(np.zeros((2, 3, 5, 3), "float32"), np.random.default_rng(3)).any()


def test_a_pillow_image_of_16_bits_has_the_pixels_of_its_file():
    """Pillow itself makes all values above 255 white."""
    grey = np.arange(0, 65520, 13, dtype="uint16").reshape(72, 70)
    image = Image.fromarray(grey)
    (pixels,) = check_images([image])
    np.testing.assert_array_equal(pixels, np.repeat((grey // 256)[..., None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(pixels, 8), decode_image(write(image, "PNG"), 8))
    with pytest.raises(TypeError, match="has the mode F, whose range of values is not known"):
        check_images([Image.fromarray(grey.astype("float32"))])
