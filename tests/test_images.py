"""Images as arrays: their size, their kinds, their limits and their augmentation."""

import numpy as np
import pytest
from image_files import BAD, JPEG, PNG, SIZE, resized, smooth, write
from PIL import Image

import keras_attention as ka
from keras_attention.data.image_files import images as reading
from keras_attention.data.image_files.images import (
    ImageError,
    augment_images,
    decode_image,
    read_images,
)
from keras_attention.prediction.encoded_inputs import check_images


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


def test_a_missing_image_and_a_folder_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no image .*no\.jpg"):
        ka.data.read_images([tmp_path / "no.jpg"], 5)
    with pytest.raises(FileNotFoundError, match="is a directory; expected an image"):
        ka.data.read_images([tmp_path], 5)


IMAGES = {  # what a user passes as images -> the error
    "floats": (
        [np.zeros((3, 5, 3), "uint8"), np.zeros((3, 5, 3), "float32")],
        "Image 1 is an array of type float32.*255 *",
    ),
    "one array": (np.zeros((5, 7, 3), "uint8"), r"received one ndarray. Wrap it: \[image\]"),
    "one image of Pillow": (Image.new("RGB", (3, 5)), r"received one Image. Wrap it"),
    "another object": ([7], "Image 0 is a int; expected a path, bytes or an array of uint8"),
}


@pytest.mark.parametrize(("images", "message"), IMAGES.values(), ids=IMAGES)
def test_images_of_another_kind_are_an_error(images, message):
    with pytest.raises(TypeError, match=message):
        check_images(images)


def test_an_image_of_pillow_is_an_array():
    image = Image.new("L", (5, 3), 7)
    (array,) = check_images([image])
    np.testing.assert_array_equal(array, np.full((3, 5, 3), 7, "uint8"))
