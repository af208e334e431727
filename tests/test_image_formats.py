"""Python and the graph of an export decode each format like Pillow, and reject the same damaged files."""

import io

import keras
import numpy as np
import pytest
from image_files import (
    BAD,
    BMP,
    GIF,
    GIF_CLEAR,
    GOOD,
    JPEG,
    PALETTE,
    PNG,
    RGB,
    SIZE,
    exif,
    patched,
    resized,
    segment,
    smooth,
    write,
)
from PIL import Image, ImageOps

from keras_attention.data.image_files.images import (
    ImageError,
    decode_image,
    encoded_image,
    image_problem,
    read_images,
)

needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph needs TensorFlow")


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


@pytest.fixture(scope="module")
def decode_in_graph():
    """A function: encoded images -> images and valid, computed by the served graph."""
    tf = pytest.importorskip("tensorflow")
    from keras_attention.serving.graph_images import decode_images

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


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tiff", r"begins with b'II\*.*'; expected a JPEG, PNG, GIF, BMP or WebP"),
        ("riff", "is a RIFF file without an image"),
        ("jpeg cut 3", "is damaged or truncated; expected a complete image"),
        ("jpeg 12 bits", "is an unsupported JPEG; expected baseline or progressive, 8 bits"),
        ("png cut 11", "is a PNG without a header; expected the chunk IHDR first"),
        ("png cut 29", "is a PNG whose chunk b'IHDR' is damaged or cut"),
        ("png no palette", "has an invalid header or palette; expected a standard PNG"),
        ("png two headers", "is a PNG with an unknown chunk b'IHDR'; expected standard chunks"),
        ("gif huge frame", "first frame has 65000 x 65000 pixels at 0, 0; expected the full size"),
        ("gif no frame", "is a GIF with the block 59; expected an extension or a frame"),
        ("gif no colours", "is a GIF with a colour beyond its palette; expected less than 0"),
        ("bmp old header", "is an unsupported BMP; expected 24 or 32 bits, uncompressed"),
    ],
)
def test_the_error_of_an_invalid_image_names_the_problem(name, problem):
    with pytest.raises(ImageError, match=problem):
        decode_image(BAD[name], SIZE)


@needs_tensorflow
def test_python_and_graph_agree_on_every_file(decode_in_graph):
    """All files are in one batch. An invalid image is zeros and does not change the others."""
    files = {**GOOD, **BAD, "gif transparent": GIF_CLEAR}
    in_python, valid_in_python = read_images(list(files.values()), SIZE)
    in_tensorflow, valid_in_tensorflow = decode_in_graph(list(files.values()))
    for valid in (valid_in_python, valid_in_tensorflow):
        assert {name for name, is_valid in zip(files, valid, strict=True) if not is_valid} == set(BAD)
    np.testing.assert_allclose(in_python, in_tensorflow, rtol=0, atol=0.01)
    assert not in_tensorflow[~valid_in_tensorflow].any()


@needs_tensorflow
def test_python_and_graph_agree_on_randomly_damaged_files(decode_in_graph):
    rng = np.random.default_rng(7)
    files = []
    for name in ("jpeg 4:2:0", "jpeg progressive", "png palette, alphas", "png 16 bits", "gif 1x1", "bmp 32 bits"):
        data = GOOD[name]
        files += [data[:cut] for cut in rng.integers(0, len(data), 30)]
        files += [patched(data, at, rng.bytes(1)) for at in rng.integers(0, min(len(data), 200), 30)]
    (in_python, valid_in_python), (in_tensorflow, valid_in_tensorflow) = (
        read_images(files, SIZE),
        decode_in_graph(files),
    )
    assert 0.1 < valid_in_python.mean() < 0.9
    np.testing.assert_array_equal(valid_in_python, valid_in_tensorflow)
    np.testing.assert_allclose(in_python, in_tensorflow, rtol=0, atol=0.01)


@pytest.mark.parametrize("order", "<>", ids=["little", "big"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are ignored
def test_a_photo_is_rotated_by_its_exif_orientation(orientation, order):
    data = exif(JPEG, orientation, order, at=8 + orientation % 3)
    expected = resized(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    np.testing.assert_allclose(decode_image(data, SIZE), expected, rtol=0, atol=0.01)
    assert np.abs(expected - resized(smooth())).max() > 9 or orientation in (0, 1, 9)


@needs_tensorflow
def test_the_graph_rotates_a_photo_by_its_exif_orientation(decode_in_graph):
    data = [exif(JPEG, i, order, at=8 + i % 3) for i in range(10) for order in "<>"]
    images, valid = decode_in_graph([*data, b""])
    assert valid.tolist() == [True] * 20 + [False]
    expected = [resized(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(each))))) for each in data]
    np.testing.assert_allclose(images[:-1], expected, rtol=0, atol=0.01)


INVALID_ORIENTATIONS = [
    exif(JPEG, 6, kind=4),  # not a 16-bit number
    segment(JPEG, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff\1\0"),  # a table after the end
    segment(JPEG, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\1\3\0"),  # a truncated table
    segment(JPEG, 0xE1, b"Exif\0\0"),
    segment(exif(JPEG, 6), 0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0"),  # the first EXIF segment is used
]


@pytest.mark.parametrize("data", INVALID_ORIENTATIONS)
def test_invalid_orientations_are_ignored(data):
    np.testing.assert_array_equal(decode_image(data, SIZE), decode_image(JPEG, SIZE))


@needs_tensorflow
def test_the_graph_ignores_invalid_orientations(decode_in_graph):
    images, _ = decode_in_graph(INVALID_ORIENTATIONS)
    np.testing.assert_allclose(images, [decode_image(JPEG, SIZE)] * len(images), rtol=0, atol=0.01)


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
    from keras_attention.serving.graph_images import decode_images

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
