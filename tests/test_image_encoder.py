"""Image encoders: their regions, preprocessing, trainable weights, and files of weights."""

import os
import pathlib

import keras
import numpy as np
import pytest
from captioners import caption_tokenizer, small_captioner
from keras import ops

import keras_attention as ka
from keras_attention.layers import ImageEncoder
from keras_attention.layers.image_networks import make_network
from keras_attention.layers.regions import SelfAttention2D, ShiftRegions
from keras_attention.models.network.image_encoder_weights import load_image_encoder_weights

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))
__all__ = ["caption_tokenizer"]  # a fixture


def test_shift_regions_shifts_by_at_most_one_row_and_column_in_three_of_four_images():
    grid = np.arange(2 * 5 * 7, dtype="float32").reshape(5, 7, 2)
    shifts = {np.roll(grid, (a, b), (0, 1)).tobytes(): (a, b) for a in range(-2, 3) for b in range(-3, 4)}
    regions = np.repeat(grid.reshape(1, 35, 2), 1009, axis=0)
    keras.utils.set_random_seed(3)
    layer = ShiftRegions(5, 7)
    np.testing.assert_array_equal(np.asarray(layer(regions)), regions)
    steps = [shifts[one.tobytes()] for one in np.asarray(layer(regions, training=True))]
    assert set(steps) == set(shifts.values())
    near = np.mean([max(abs(a), abs(b)) <= 1 for a, b in steps])
    assert abs(near - (3 / 4 + 1 / 4 * 9 / 35)) < 0.05  # four standard deviations


def test_2d_self_attention_is_initially_the_identity():
    layer = SelfAttention2D(3)
    grid = np.random.default_rng(3).normal(size=(2, 3, 5, 7)).astype("float32")
    np.testing.assert_array_equal(np.asarray(layer(grid)), grid)
    layer.gamma.assign(0.5)
    outputs, scores = layer(grid, return_attention_scores=True)
    flat = grid.reshape(2, 15, 7)
    query, key, value = (
        flat @ np.asarray(layer_.kernel)[0, 0]
        for layer_ in (layer.query_projection, layer.key_projection, layer.value_projection)
    )
    logits = query @ key.swapaxes(1, 2) / 3**0.5
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kernel, bias = (np.asarray(w) for w in layer.output_projection.get_weights())
    context = (expected @ value) @ kernel[0, 0] + bias
    np.testing.assert_allclose(np.asarray(scores), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs), grid + 0.5 * context.reshape(grid.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", (0 - 103.939, 100 - 116.779, 255 - 123.68)),  # BGR, minus the means
        ("mobilenet_0.25", (1.0, 100 / 127.5 - 1, -1.0)),
        ("DenseNet121", ((1 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, -0.406 / 0.225)),
        ("mobilenet_v3_small", (255.0, 100.0, 0.0)),  # the network rescales its inputs
    ],
)
def test_each_network_has_the_preprocessing_of_its_family(name, expected):
    preprocess, network = make_network(name, 32)
    pixel = ops.convert_to_tensor(np.array([[[[255.0, 100.0, 0.0]]]], "float32"))
    np.testing.assert_allclose(np.asarray(preprocess(pixel)).ravel(), expected, rtol=1e-5, atol=1e-5)
    assert len(network.output.shape) == 4


def test_the_receptive_field_of_a_region_is_centred():
    """A bright spot changes the same number of regions to its left and to its right."""
    encoder = ImageEncoder("small_cnn", 64)
    for layer in [x for x in encoder.network.layers if isinstance(x, keras.layers.Conv2D)]:
        layer.set_weights([np.abs(w) for w in layer.get_weights()])  # positive: no two paths cancel
    first = encoder.network.get_layer("conv_0_0")
    first.set_weights(
        [w * np.array([1, 1, 1, 0, 0])[:, None] for w in first.get_weights()]
    )  # no weights for the coordinates
    image = np.full((1, 64, 64, 3), 127.5, "float32")  # grey, with four bright pixels in the middle
    image[:, 31:33, 31:33] = 255.0
    changes = np.asarray(encoder(image)).sum(-1).reshape(16, 16)
    np.testing.assert_array_equal(changes > 0, (changes > 0)[::-1, ::-1])
    assert (changes > 0).any(axis=0).sum() == 6  # (22 + 2) / 4


@pytest.mark.slow
def test_fine_tune_from_trains_the_layers_from_the_given_one():
    frozen = ImageEncoder("mobilenet_0.25", 32)
    assert not frozen.is_trainable
    drops = ImageEncoder("efficientnet_b0", 32)
    image = np.random.default_rng(3).uniform(0, 255, (1, 32, 32, 3))
    np.testing.assert_array_equal(*(np.asarray(drops(image, training=training)) for training in (False, True)))
    part = ImageEncoder("mobilenet_0.25", 32, fine_tune_from="conv_pw_13")
    assert [v.path.split("/")[-2] for v in part.network.trainable_variables] == ["conv_pw_13"]
    whole = ImageEncoder("mobilenet_0.25", 32, fine_tune_from="all")
    assert all("bn" not in v.path for v in whole.network.trainable_variables)
    assert len(whole.network.trainable_variables) == 27
    early = ImageEncoder("mobilenet_0.25", 32, grid_layer="conv_pw_5_relu")
    assert (early.rows, early.columns, early.channels) == (4, 4, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet_5000",), "There is no network 'resnet_5000'; expected one of small_cnn"),
        (("vgg16_0.5",), "VGG16 has no width multiplier"),
        (("mobilenet_0.25", 32, "block9"), "`grid_layer` is 'block9'; expected one of .*, the layers of the network"),
        (("mobilenet_0.25", 32, None, "block9"), "`fine_tune_from` is 'block9'; expected one of"),
    ],
)
def test_an_unknown_network_or_layer_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(*arguments)


def test_weights_are_loaded_from_files(tmp_path):
    encoder, other = ImageEncoder("mobilenet_0.25", 32), ImageEncoder("mobilenet_0.25", 32)
    assert encoder.digest() != other.digest()
    arrays = {f"{layer.name}/{v.name}": np.asarray(v) for layer in encoder.network.layers for v in layer.weights}
    np.savez(tmp_path / "w.npz", **arrays)
    load_image_encoder_weights(other, tmp_path / "w.npz")
    assert encoder.digest() == other.digest()
    half = ImageEncoder("mobilenet_0.25", 32, dtype="mixed_bfloat16")
    load_image_encoder_weights(half, tmp_path / "w.npz")
    assert half.digest() != encoder.digest()
    encoder.network.save_weights(tmp_path / "w.weights.h5")
    third = ImageEncoder("mobilenet_0.25", 32, grid_layer="conv_pw_13_relu")
    load_image_encoder_weights(third, tmp_path / "w.weights.h5")
    assert all((a == b).all() for a, b in zip(encoder.get_weights(), third.get_weights(), strict=True))
    arrays.pop("conv1/kernel")
    np.savez(tmp_path / "less.npz", **arrays)
    np.savez(tmp_path / "wrong.npz", **arrays, **{"conv1/kernel": np.zeros((3, 3))})
    for name, message in (
        ("less", "has no array conv1/kernel"),
        ("wrong", "conv1/kernel has the shape .3, 3.; expected .3, 3, 3, 8."),
    ):
        with pytest.raises(ValueError, match=message):
            load_image_encoder_weights(other, tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_image_encoder_weights(other, tmp_path / "none.h5")
    assert encoder.digest() == other.digest()


def test_weights_are_loaded_from_another_captioner(caption_tokenizer, tmp_path):
    first = small_captioner(caption_tokenizer)
    first.save(tmp_path / "first.keras")
    sizes = {"image_encoder": "small_cnn", "image_size": 32, "image_encoder_weights": tmp_path / "first.keras"}
    second = ka.Captioner.from_preset(
        "transformer_captioner", tokenizer=caption_tokenizer, width=14, num_heads=7, **sizes
    )
    image = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(second.encode_images(image), first.encode_images(image))
    arrays = {
        f"{layer.name}/{v.name}": np.asarray(v) for layer in first.image_encoder.network.layers for v in layer.weights
    }
    np.savez(tmp_path / "w.npz", **{name: array + 1 for name, array in arrays.items()})
    load_image_encoder_weights(second.image_encoder, tmp_path / "w.npz")
    assert np.abs(second.encode_images(image) - first.encode_images(image)).max() > 1e-3
    with pytest.raises(
        ValueError,
        match=r"imagenet cannot have weights of small_cnn, .* expected a captioner's .keras file, or .npz",
    ):
        load_image_encoder_weights(second.image_encoder, "imagenet")
    ka.CausalLM.from_preset("char_rnn", tokenizer=caption_tokenizer, units=5).save(tmp_path / "other.keras")
    (tmp_path / "damaged.keras").write_bytes((tmp_path / "first.keras").read_bytes()[:999])
    for name, message in (
        ("other", "is a CausalLM; expected a captioner"),
        ("damaged", "is damaged or not a Keras model"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.keras {message}"):
            load_image_encoder_weights(second.image_encoder, tmp_path / f"{name}.keras")
    with pytest.raises(
        ValueError, match=r"network and grid layer \('small_cnn', None\); expected \('mobilenet_0.25', None\)"
    ):
        load_image_encoder_weights(ImageEncoder("mobilenet_0.25", 32), tmp_path / "first.keras")


@pytest.mark.slow
def test_layers_with_numbered_names_are_matched_by_their_order(tmp_path):
    """Keras numbers unnamed layers per process, so that two networks have different names for them."""
    first, second = ImageEncoder("xception", 71), ImageEncoder("xception", 71)
    assert {layer.name for layer in first.network.layers} != {layer.name for layer in second.network.layers}
    first.network.save_weights(tmp_path / "w.weights.h5")
    load_image_encoder_weights(second, tmp_path / "w.weights.h5")
    assert all((a == b).all() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.skipif(not (DATA / "cnn").is_dir(), reason="the weights of MobileNet are absent")
def test_a_published_network_has_the_activations_of_a_reference_implementation():
    encoder = ImageEncoder("mobilenet_0.75")
    load_image_encoder_weights(encoder, DATA / "cnn" / "mobilenet_v1_075_224.npz")
    reference = np.load(DATA / "cnn" / "reference_activations.npz")
    activations = np.asarray(encoder(reference["pixels"].astype("float32")))
    np.testing.assert_allclose(activations, reference["mobilenet075_pw13"].reshape(activations.shape), atol=2e-4)
