"""Cached features: computed once, stored completely, and computed again if the image or the encoder changes."""

import os
import pathlib
import signal

import numpy as np
import pytest
from PIL import Image

from keras_attention.data.image_files.images import ImageError, read_images
from keras_attention.data.image_files.region_cache import cached_regions

SIZE = 5


class Encoder:
    """An image encoder with outputs (B, 3, 2), which counts the encoded images."""

    def __init__(self, factor=1.0):
        self.factor, self.count = factor, 0

    def __call__(self, images):
        self.count += len(images)
        return images[:, :3, 1, :2] * self.factor


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (3, 11, 3), dtype=np.uint8)).save(path)
    return paths


def expected(images):
    return Encoder()(read_images(images, SIZE)[0]).astype("float16")


def test_features_are_computed_once_and_stored(images, tmp_path):
    encode = Encoder()
    doubled = [*images, images[2], images[3].read_bytes()]
    cache = cached_regions(doubled, encode, "a", tmp_path / "new" / "cache", SIZE, batch_size=3)
    assert (len(cache), cache.shape, cache.valid.tolist(), encode.count) == (9, (3, 2), [True] * 9, 8)
    rows = cache.take([8, 0, 2, 7])
    assert (rows.dtype, rows.shape, type(rows)) == (np.float32, (4, 3, 2), np.ndarray)
    np.testing.assert_array_equal(rows, expected([images[i] for i in (3, 0, 2, 2)]))
    assert cache.take([]).shape == (0, 3, 2)
    again = cached_regions(doubled[::-1], encode, "a", tmp_path / "new" / "cache", SIZE)
    assert encode.count == 8
    np.testing.assert_array_equal(again.take(range(9)), cache.take(range(9))[::-1])


def test_another_encoder_or_image_size_has_another_file(images, tmp_path):
    one = cached_regions(images, Encoder(), "a", tmp_path, SIZE)
    two = cached_regions(images, Encoder(0.5), "b", tmp_path, SIZE)
    large = cached_regions(images, Encoder(), "a", tmp_path, SIZE + 2)
    np.testing.assert_allclose(two.take([1]), one.take([1]) / 2, rtol=1e-3)
    assert not np.array_equal(large.take([1]), one.take([1]))
    assert len(list(tmp_path.glob("*.regions"))) == 3


def test_only_a_changed_image_is_encoded_again(images, tmp_path):
    before = cached_regions(images, Encoder(), "a", tmp_path, SIZE)
    Image.fromarray(np.full((3, 11, 3), 77, "uint8")).save(images[4])
    os.utime(images[5], ns=(0, 0))
    encode = Encoder()
    cache = cached_regions(images, encode, "a", tmp_path, SIZE)
    assert encode.count == 2
    assert (cache.take([4]) == 77).all()
    assert not (before.take([4]) == 77).all()
    np.testing.assert_array_equal(cache.take([5, 6]), before.take([5, 6]))


def test_unreadable_images_are_stored_as_unreadable(images, tmp_path):
    images[1].write_bytes(b"not an image")
    encode = Encoder()
    for _ in range(2):
        cache = cached_regions([*images, b""], encode, "a", tmp_path, SIZE, batch_size=2)
        assert cache.valid.tolist() == [True, False, *[True] * 5, False]
        assert not cache.take([1, 7]).any()
    assert encode.count == 8
    Image.fromarray(np.full((3, 11), 77, "uint8")).save(images[1])
    assert cached_regions(images, encode, "a", tmp_path, SIZE).valid.all()
    assert encode.count == 9


def test_a_truncated_file_is_continued(images, tmp_path):
    """A process that is killed while it writes leaves a truncated file."""
    cached_regions(images, Encoder(), "a", tmp_path, SIZE)
    (path,) = tmp_path.glob("*.regions")
    whole = path.read_bytes()
    record = (len(whole) - 4096) // 7
    for cut in (0, 1, 31, 4095, 4096, *range(4097, len(whole), 17), len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        encode = Encoder()
        cache = cached_regions(images, encode, "a", tmp_path, SIZE, batch_size=2)
        assert encode.count == 7 - max(cut - 4096, 0) // record
        np.testing.assert_array_equal(cache.take(range(7)), expected(images))
        assert path.read_bytes() == whole


def test_a_killed_process_is_continued(images, tmp_path):
    class Killed(Encoder):
        def __call__(self, images):
            if self.count >= 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(images)

    if not (child := os.fork()):  # the function and its encoder use neither TensorFlow nor JAX
        try:
            cached_regions(images, Killed(), "a", tmp_path, SIZE, batch_size=2)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    encode = Encoder()
    cache = cached_regions(images, encode, "a", tmp_path, SIZE)
    assert encode.count == 3
    np.testing.assert_array_equal(cache.take(range(7)), expected(images))


def test_large_features_stay_finite(images, tmp_path):
    cache = cached_regions(images, Encoder(1e6), "a", tmp_path, SIZE)
    assert cache.take([0]).max() == np.finfo("float16").max


def test_invalid_arguments_are_errors(images, tmp_path):
    with pytest.raises(ValueError, match="There are no images"):
        cached_regions([], Encoder(), "a", tmp_path, SIZE)
    with pytest.raises(ImageError, match="No image of 2 can be read"):
        cached_regions([b"", b"text"], Encoder(), "a", tmp_path, SIZE)
    with pytest.raises(ImageError, match="No image of 1"):
        cached_regions([tmp_path / "missing.jpg"], Encoder(), "a", tmp_path, SIZE)
    with pytest.raises(OSError, match="choose another directory"):
        cached_regions(images, Encoder(), "a", images[0] / "cache", SIZE)
    with pytest.raises(ValueError, match=r"shape \(7, 5, 5, 3\); expected \(7, R, C\)"):
        cached_regions(images, lambda images: images, "b", tmp_path, SIZE)
    with pytest.raises(ValueError, match="not finite"):
        cached_regions(images, Encoder(np.nan), "b", tmp_path, SIZE)
    cached_regions(images[:3], Encoder(), "b", tmp_path, SIZE)
    with pytest.raises(ValueError, match="another `encoder_digest`"):
        cached_regions(images, lambda images: images[:, 0], "b", tmp_path, SIZE)


def test_a_complete_file_needs_no_permission_to_write(images, tmp_path, monkeypatch):
    cached_regions(images, Encoder(), "a", tmp_path, SIZE)
    monkeypatch.setattr(pathlib.Path, "mkdir", lambda *_, **__: pytest.fail("was written"))
    assert cached_regions(images, Encoder(), "a", tmp_path, SIZE).valid.all()


def test_progress_goes_to_standard_error(images, tmp_path, monkeypatch, capsys):
    ticks = iter(range(0, 1000, 6))
    monkeypatch.setattr("keras_attention.data.image_files.region_cache.time.monotonic", lambda: next(ticks))
    cached_regions(images, Encoder(), "a", tmp_path, SIZE, batch_size=2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "images encoded: 4 of 7, about 9 s left",
        "images encoded: 7 of 7, about 0 s left",
    ]
