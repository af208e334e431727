"""Captioners: attention, the image encoder, batches of images, captions and self-critical training."""

import dataclasses
import io
import math
import os
import pathlib
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from test_conformance import randomize

import keras_attention as ka
from keras_attention.layers import AdditiveAttention, AttentionLoss, GumbelNoise, ImageEncoder, RecurrentDecoder
from keras_attention.layers.attention import chosen_positions
from keras_attention.layers.regions import SelfAttention2D, ShiftRegions
from keras_attention.layers.vision import make_network
from keras_attention.models.vision_weights import load_vision_weights

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def examples(count: int) -> list:
    scenes = ka.quickstart.captioned_scenes("train", count)
    return [ka.data.CaptionedPicture(s.name, png(s.image), s.captions[:2]) for s in scenes]


@pytest.fixture(scope="module")
def words():
    return ka.train_tokenizer(ka.data.captions_of(examples(89)), "bpe", 131)


def small(words, preset="show_attend_and_tell", **sizes):
    sizes = {"encoder": "small_cnn", "image_size": 32, "units": 14, "embedding_dim": 11, "max_length": 23, **sizes}
    return ka.Captioner.from_preset(preset, tokenizer=words, encoder_weights=None, **sizes)


# The decoder that attends first, against the paper's formulas in numpy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_step_is_its_formula():
    chance = np.random.default_rng(0)
    decoder = RecurrentDecoder(7, 5, attention=AdditiveAttention(3), attend_first=True)
    x, memory, mean = (chance.normal(size=size).astype("float32") for size in ((2, 1, 5), (2, 11, 13), (2, 13)))
    outputs, weights = decoder(x, memory, initial_state=[mean], return_attention_scores=True)
    get = lambda layer: [np.asarray(w) for w in layer.get_weights()]  # noqa: E731
    h, c = (np.tanh(mean @ kernel + bias) for kernel, bias in map(get, decoder.bridge))
    (query,), (key,) = get(decoder.attention.query_projection), get(decoder.attention.key_projection)
    vector = np.asarray(decoder.attention.vector)
    scores = np.tanh((np.concatenate([x[:, 0], h], 1) @ query)[:, None] + memory @ key) @ vector
    alpha = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    gate, gate_bias = get(decoder.gate)
    z = sigmoid(h @ gate + gate_bias) * np.einsum("bs,bsm->bm", alpha, memory)
    kernel, recurrent, bias = get(decoder.cells[0])
    i, f, g, o = np.split(np.concatenate([x[:, 0], z], 1) @ kernel + h @ recurrent + bias, 4, axis=1)
    new = sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(g))
    projection, shift = get(decoder.output_projection)
    expected = np.tanh(np.concatenate([x[:, 0], new, z], 1) @ projection + shift)
    np.testing.assert_allclose(np.asarray(weights)[:, 0], alpha, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs)[:, 0], expected, rtol=1e-5, atol=1e-5)


# Hard attention


def test_noise_samples_with_the_scores_as_probabilities():
    weights = np.array([0.5, 0.3, 0.15, 0.05], "float32")
    noise = GumbelNoise()(np.ones((1, 20_011, 1)), np.ones((1, 4, 1)), training=True)
    chosen = np.asarray(chosen_positions(ops.convert_to_tensor(np.tile(weights, (1, 20_011, 1))), noise))
    np.testing.assert_allclose(chosen[0].mean(0), weights, atol=4 * 0.5 / 20_011**0.5)


def test_without_noise_the_most_probable_region_is_the_context():
    layer = AdditiveAttention(3, hard=True)
    memory = np.random.default_rng(1).normal(size=(2, 7, 5)).astype("float32")
    context, weights = layer(np.ones((2, 1, 11), "float32"), memory, return_attention_scores=True)
    best = np.asarray(weights)[:, 0].argmax(-1)
    np.testing.assert_allclose(np.asarray(context)[:, 0], memory[np.arange(2), best], rtol=1e-6)


def gradient(function, x):
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def test_reinforce_is_its_formula():
    """d/dz of -(log p - b) log softmax(z)[s] is (log p - b) (softmax(z) - onehot(s)); b is the mean at first."""
    chance = np.random.default_rng(2)
    scores, noise = (chance.normal(size=(3, 3, 5)).astype("float32") for _ in range(2))
    real = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], "float32")  # the last row is padding
    costs = chance.uniform(1, 3, (3, 3)).astype("float32")
    layer = AttentionLoss(doubly_stochastic=0.0, reinforce=0.7, entropy=0.0)

    def loss(z):
        layer(z, ops.softmax(z, axis=-1), noise)
        return layer.loss(ops.convert_to_tensor(costs), ops.convert_to_tensor(real))

    layer(scores, scores, noise)
    before = [np.array(w) for w in layer.get_weights()]
    if keras.backend.backend() == "jax":
        with keras.StatelessScope(state_mapping=[(v, v.value) for v in layer.variables]):
            found = gradient(loss, scores)
    else:
        found = gradient(loss, scores)
        mean = (-costs * real)[:2].sum(1).mean()
        np.testing.assert_allclose(layer.get_weights()[0], mean, rtol=1e-5)  # 0.9 mean + 0.1 mean
        assert before[1] == 0
        assert layer.get_weights()[1] == 1
    alpha = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    drawn = np.eye(5)[(np.log(alpha) + noise).argmax(-1)]
    likelihood = (-costs * real).sum(1)
    reward = 0.7 * (likelihood - likelihood[:2].mean())
    expected = reward[:, None, None] * (alpha - drawn) * real[:, :, None] / real.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_doubly_stochastic_loss_is_its_formula():
    weights = np.array([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]], "float32")
    real = np.array([[1.0, 1.0, 0.0]], "float32")  # seen: 1.5, 0.5, 0 -> 0.25 + 0.25 + 1
    np.testing.assert_allclose(np.asarray(ka.layers.doubly_stochastic(weights, real)), [1.5])


# The image encoder and its regions


def test_regions_are_shifted_by_one_row_and_column_and_a_quarter_by_more():
    grid = np.arange(2 * 5 * 7, dtype="float32").reshape(5, 7, 2)
    moved = {np.roll(grid, (a, b), (0, 1)).tobytes(): (a, b) for a in range(-2, 3) for b in range(-3, 4)}
    regions = np.repeat(grid.reshape(1, 35, 2), 1009, axis=0)
    keras.utils.set_random_seed(3)
    layer = ShiftRegions(5, 7)
    np.testing.assert_array_equal(np.asarray(layer(regions)), regions)
    steps = [moved[one.tobytes()] for one in np.asarray(layer(regions, training=True))]
    assert set(steps) == set(moved.values())
    near = np.mean([max(abs(a), abs(b)) <= 1 for a, b in steps])
    assert abs(near - (3 / 4 + 1 / 4 * 9 / 35)) < 0.05  # four standard deviations


def test_with_grounded_attention_the_image_enters_through_attention_alone(words):
    ids, regions = np.array([[2, 7, 9, 11]]), np.random.default_rng(3).normal(size=(2, 1, 64, 96)).astype("float32")

    def difference(grounded_attention: bool, **others) -> float:
        """How much the outputs for two images differ."""
        model = small(words, grounded_attention=grounded_attention)
        randomize(model, 0.3)
        texts = model.embedding(ids)
        one, two = (np.asarray(model.decoder(texts, **model._encode(x), **others)) for x in regions)
        return np.abs(one - two).max()

    first = small(words, grounded_attention=True)
    second = ka.Captioner.from_model(first, grounded_attention=False, tie_weights=False)
    np.testing.assert_array_equal(*(np.asarray(m.decoder.cells[0].kernel) for m in (first, second)))
    nothing = np.zeros_like(regions[0])
    assert difference(True) > 1e-3
    assert difference(True, values=nothing) == 0
    assert difference(False, values=nothing) > 1e-3
    with pytest.raises(ValueError, match="`grounded_attention` is True; expected False without attention"):
        small(words, "show_and_tell", grounded_attention=True)


def test_attention_smoothing_is_a_gaussian_over_the_grid(words):
    plain = small(words)
    randomize(plain, 0.3)
    model = ka.Captioner.from_model(plain, attention_smoothing=1.5)
    ids, images = np.array([[2, 7, 9], [2, 5, 11]]), np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3))
    regions = plain.encode_images(images.astype("float32"))
    places = [(row, column) for row in range(8) for column in range(8)]
    near = np.array([[math.exp(-((a - c) ** 2 + (b - d) ** 2) / 4.5) for c, d in places] for a, b in places])
    near /= near.sum(1, keepdims=True)
    encoded = {**plain._encode(regions), "values": near @ regions, "return_attention_scores": True}
    outputs, weights = plain.decoder(plain.embedding(ids), **encoded)
    expected = np.asarray(plain.embedding(outputs, reverse=True))
    given = {"regions": regions, "target_ids": ids}
    np.testing.assert_allclose(np.asarray(model(given)), expected, atol=1e-4)
    logits, _, seen = model.step(ids[:, :1], model.start(given))
    np.testing.assert_allclose(np.asarray(logits)[:, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(np.asarray(seen)[:, 0], np.asarray(weights)[:, 0] @ near, atol=1e-5)
    with pytest.raises(ValueError, match="expected 0 without attention, or with a hard one"):
        small(words, attention="hard", attention_smoothing=1.5)
    with pytest.raises(ValueError, match="`attention_smoothing` is 'abc'; expected a number"):
        small(words, attention_smoothing="abc")


def test_self_attention_of_a_grid_starts_as_the_identity():
    layer = SelfAttention2D(3)
    grid = np.random.default_rng(3).normal(size=(2, 3, 5, 7)).astype("float32")
    np.testing.assert_array_equal(np.asarray(layer(grid)), grid)
    layer.gamma.assign(0.5)
    outputs, weights = layer(grid, return_attention_scores=True)
    flat = grid.reshape(2, 15, 7)
    query, key, value = (
        flat @ np.asarray(layer_.kernel)[0, 0]
        for layer_ in (layer.query_projection, layer.key_projection, layer.value_projection)
    )
    scores = query @ key.swapaxes(1, 2) / 3**0.5
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    kernel, bias = (np.asarray(w) for w in layer.output_projection.get_weights())
    context = (expected @ value) @ kernel[0, 0] + bias
    np.testing.assert_allclose(np.asarray(weights), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs), grid + 0.5 * context.reshape(grid.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", (0 - 103.939, 100 - 116.779, 255 - 123.68)),  # BGR, means taken off
        ("mobilenet_0.25", (1.0, 100 / 127.5 - 1, -1.0)),
        ("DenseNet121", ((1 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, -0.406 / 0.225)),
        ("mobilenet_v3_small", (255.0, 100.0, 0.0)),  # it scales inside
    ],
)
def test_each_network_has_its_own_preprocessing(name, expected):
    preprocess, network = make_network(name, 32)
    pixel = ops.convert_to_tensor(np.array([[[[255.0, 100.0, 0.0]]]], "float32"))
    np.testing.assert_allclose(np.asarray(preprocess(pixel)).ravel(), expected, rtol=1e-5, atol=1e-5)
    assert len(network.output.shape) == 4


def test_the_receptive_field_of_a_region_is_centred():
    """A bright spot moves the regions around it, as far to the left as to the right."""
    encoder = ImageEncoder("small_cnn", 64)
    for layer in encoder.network.layers:
        if isinstance(layer, keras.layers.Conv2D):  # every path counts, and none cancels another
            layer.set_weights([np.abs(w) for w in layer.get_weights()])
    first = encoder.network.get_layer("conv_0_0")
    first.set_weights([w * np.array([1, 1, 1, 0, 0])[:, None] for w in first.get_weights()])  # without the coordinates
    image = np.full((1, 64, 64, 3), 127.5, "float32")  # nothing, and in the middle four bright pixels
    image[:, 31:33, 31:33] = 255.0
    moved = np.asarray(encoder(image)).sum(-1).reshape(16, 16)
    np.testing.assert_array_equal(moved > 0, (moved > 0)[::-1, ::-1])
    assert (moved > 0).any(axis=0).sum() == 6  # (22 + 2) / 4


def test_a_network_is_trained_from_a_chosen_layer_on():
    frozen = ImageEncoder("mobilenet_0.25", 32)
    assert not frozen.learns
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
        (("resnet_5000",), "There is no network 'resnet_5000'; expected 'small_cnn' or one of keras.applications"),
        (("vgg16_0.5",), "VGG16 has no width multiplier"),
        (("mobilenet_0.25", 32, "block9"), "The network has no layer 'block9'"),
        (("mobilenet_0.25", 32, None, "block9"), "The network has no layer 'block9'"),
    ],
)
def test_an_unknown_network_or_layer_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(*arguments)


def test_weights_come_from_files(tmp_path):
    encoder, other = ImageEncoder("mobilenet_0.25", 32), ImageEncoder("mobilenet_0.25", 32)
    assert encoder.fingerprint() != other.fingerprint()
    arrays = {f"{layer.name}/{v.name}": np.asarray(v) for layer in encoder.network.layers for v in layer.weights}
    np.savez(tmp_path / "w.npz", **arrays)
    load_vision_weights(other, tmp_path / "w.npz")
    assert encoder.fingerprint() == other.fingerprint()
    half = ImageEncoder("mobilenet_0.25", 32, dtype="mixed_bfloat16")
    load_vision_weights(half, tmp_path / "w.npz")
    assert half.fingerprint() != encoder.fingerprint()
    encoder.network.save_weights(tmp_path / "w.weights.h5")
    third = ImageEncoder("mobilenet_0.25", 32, grid_layer="conv_pw_13_relu")
    load_vision_weights(third, tmp_path / "w.weights.h5")
    assert all((a == b).all() for a, b in zip(encoder.get_weights(), third.get_weights(), strict=True))
    arrays.pop("conv1/kernel")
    np.savez(tmp_path / "less.npz", **arrays)
    np.savez(tmp_path / "wrong.npz", **arrays, **{"conv1/kernel": np.zeros((3, 3))})
    for name, message in (("less", "has no conv1/kernel"), ("wrong", "conv1/kernel is .3, 3.; expected .3, 3, 3, 8.")):
        with pytest.raises(ValueError, match=message):
            load_vision_weights(other, tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_vision_weights(other, tmp_path / "none.h5")
    assert encoder.fingerprint() == other.fingerprint()


def test_weights_come_from_another_captioner(words, tmp_path):
    first = small(words)
    first.save(tmp_path / "first.keras")
    sizes = {"encoder": "small_cnn", "image_size": 32, "encoder_weights": tmp_path / "first.keras"}
    second = ka.Captioner.from_preset("transformer_captioner", tokenizer=words, width=14, num_heads=7, **sizes)
    image = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(second.encode_images(image), first.encode_images(image))
    arrays = {f"{layer.name}/{v.name}": np.asarray(v) for layer in first.vision.network.layers for v in layer.weights}
    np.savez(tmp_path / "w.npz", **{name: array + 1 for name, array in arrays.items()})
    load_vision_weights(second.vision, tmp_path / "w.npz")
    assert np.abs(second.encode_images(image) - first.encode_images(image)).max() > 1e-3
    with pytest.raises(
        ValueError,
        match=r"imagenet cannot hold the weights of small_cnn, .* expected a captioner's .keras file, or .npz",
    ):
        load_vision_weights(second.vision, "imagenet")
    ka.CausalLM.from_preset("char_rnn", tokenizer=words, units=5).save(tmp_path / "other.keras")
    (tmp_path / "damaged.keras").write_bytes((tmp_path / "first.keras").read_bytes()[:999])
    for name, message in (("other", "is a CausalLM; expected a captioner"), ("damaged", "is damaged, or no model")):
        with pytest.raises(ValueError, match=rf"{name}.keras {message}"):
            load_vision_weights(second.vision, tmp_path / f"{name}.keras")
    with pytest.raises(
        ValueError, match=r"network and grid layer \('small_cnn', None\); expected \('mobilenet_0.25', None\)"
    ):
        load_vision_weights(ImageEncoder("mobilenet_0.25", 32), tmp_path / "first.keras")


def test_a_captioner_goes_on_with_a_matrix_of_its_own_and_coordinates(words):
    first = small(words, tie_weights=True)
    second = ka.Captioner.from_model(first, tie_weights=False, coordinate_features=True)
    second.embedding.reverse_embeddings.assign(np.array(first.embedding.embeddings).T)  # it began anew
    shapes = {weight.path: weight.shape for weight in first.weights}
    grown = [weight for weight in second.weights if shapes.get(weight.path, weight.shape) != weight.shape]
    assert len(grown) == 3  # attention, cell and deep output read the context
    for weight in grown:
        rows = shapes[weight.path][0]
        assert weight.shape[0] == rows + 2
        weight.assign(np.concatenate([np.array(weight)[:rows], np.zeros((2, weight.shape[1]))]))
    given = {
        "images": np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32"),
        "target_ids": np.array([[1, 5, 7, 3]] * 2),
    }
    np.testing.assert_allclose(np.array(second(given)), np.array(first(given)), atol=1e-5)
    xception = small(words, encoder="xception", image_size=71)  # its layers are numbered anew in each network
    hard = ka.Captioner.from_model(xception, attention="hard")
    for old, new in zip(xception.vision.get_weights(), hard.vision.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    with pytest.raises(ValueError, match=r"tie_weights cannot change: embedding/reverse_embeddings would be lost\."):
        ka.Captioner.from_model(second, tie_weights=True)
    with pytest.raises(ValueError, match=r"encoder cannot change: .* would be"):
        ka.Captioner.from_model(first, encoder="mobilenet_0.25")


def test_layers_with_numbered_names_are_matched_by_their_order(tmp_path):
    """Keras counts the unnamed ones of a process, so that no two networks call them alike."""
    first, second = ImageEncoder("xception", 71), ImageEncoder("xception", 71)
    assert {layer.name for layer in first.network.layers} != {layer.name for layer in second.network.layers}
    first.network.save_weights(tmp_path / "w.weights.h5")
    load_vision_weights(second, tmp_path / "w.weights.h5")
    assert all((a == b).all() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.skipif(not (DATA / "cnn").is_dir(), reason="the weights of MobileNet are not here")
def test_a_published_network_gives_the_activations_of_another_program():
    encoder = ImageEncoder("mobilenet_0.75")
    load_vision_weights(encoder, DATA / "cnn" / "mobilenet_v1_075_224.npz")
    known = np.load(DATA / "cnn" / "reference_activations.npz")
    found = np.asarray(encoder(known["pixels"].astype("float32")))
    np.testing.assert_allclose(found, known["mobilenet075_pw13"].reshape(found.shape), atol=2e-4)


# Batches


def test_cached_regions_are_what_the_network_sees(words, tmp_path):
    model, pictures = small(words, encoder="mobilenet_0.25"), examples(5)
    seen = ka.caption_batches(pictures, model, max_tokens=10_000, shuffle=False)[0]
    cached = ka.caption_batches(pictures, model, max_tokens=10_000, shuffle=False, cache=tmp_path)[0]
    assert set(seen[0]) == {"images", "target_ids"}
    assert set(cached[0]) == {"regions", "target_ids"}
    order, again = (np.lexsort(batch[1].T) for batch in (seen, cached))
    logits, cached_logits = (np.asarray(model(batch[0])) for batch in (seen, cached))
    np.testing.assert_allclose(cached_logits[again], logits[order], atol=1e-2)
    for one, two in zip(seen[1:], cached[1:], strict=True):
        np.testing.assert_array_equal(one[order], two[again])
    row = [i for i in seen[1][0] if i > 4]
    assert ka.data.decode_ids(words, row) in {c for p in pictures for c in p.captions}


@pytest.mark.parametrize("preset", ["show_and_tell", "show_attend_and_tell", "transformer_captioner"])
def test_a_picture_is_seen_once_for_the_captions_that_it_most_often_has(words, preset):
    """Three of two captions, one of five and one of one: parts of two, one, and padding."""
    others = zip(examples(2), (5, 1), strict=True)
    pictures = [*examples(3), *(dataclasses.replace(e, captions=("a dog", *"abcd")[:n]) for e, n in others)]
    sizes = {"width": 12, "num_heads": 2} if preset == "transformer_captioner" else {"units": 14, "embedding_dim": 11}
    seeing = {"encoder": "small_cnn", "image_size": 32}
    model = ka.Captioner.from_preset(preset, tokenizer=words, dropout=0.0, **seeing, **sizes)
    inputs, labels, weights = ka.caption_batches(pictures, model, 10**4, shuffle=False)[0]
    assert (len(inputs["images"]), len(labels)) == (7, 14)
    assert weights.any(1).sum() == sum(len(p.captions) for p in pictures) == 12
    apart = ka.caption_batches(pictures, model, 10**4, shuffle=False, captions_per_image=1)[0]
    assert (len(apart[0]["images"]), len(apart[1])) == (12, 12)
    alone = {"images": np.repeat(inputs["images"], 2, axis=0), "target_ids": inputs["target_ids"]}
    np.testing.assert_allclose(np.asarray(model(inputs)), np.asarray(model(alone)), atol=1e-5)


def test_a_batch_mixes_captions_of_different_lengths(words):
    """In drawn scenes the length of a caption says which relation it has; a batch must not."""
    model, pictures = small(words), examples(29)
    of = ka.data.encode_texts(words, ka.data.captions_of(pictures), 23)
    assert len({len(ids) for ids in of}) > 3
    batches = ka.caption_batches(pictures, model, max_tokens=160, captions_per_image=1)
    lengths = [set(weights.sum(1)) for _, _, weights in (batches[i] for i in range(len(batches)))]
    assert len(lengths) > 5
    assert sum(len(found) > 1 for found in lengths) >= len(lengths) - 1


@pytest.mark.parametrize("given", ["images", "regions"])
@pytest.mark.parametrize("preset", ["show_and_tell", "show_attend_and_tell", "transformer_captioner"])
def test_dropout_is_active_in_training_and_nowhere_else(words, preset, given):
    """Also where a trainer calls the model without its `__call__`, as `fit` does on JAX."""
    sizes = {"units": 14, "embedding_dim": 11} if preset != "transformer_captioner" else {"width": 12, "num_heads": 2}
    model = ka.Captioner.from_preset(
        preset, tokenizer=words, encoder_weights=None, encoder="small_cnn", image_size=32, dropout=0.8, **sizes
    )
    images, ids = ka.data.read_images([p.picture for p in examples(2)], 32)[0], np.array([[1, 7, 9]] * 2)
    inputs = {given: images if given == "images" else model.encode_images(images), "target_ids": ids}
    state = [[v.value for v in values] for values in (model.trainable_variables, model.non_trainable_variables)]
    steady, other, *dropped = (
        np.asarray(model.stateless_call(*state, inputs, training=training)[0])
        for training in (False, False, True, True)
    )
    np.testing.assert_array_equal(steady, other)
    assert all(np.abs(steady - x).max() > 1e-3 for x in dropped)


def test_unreadable_pictures_are_left_out_and_named(words, tmp_path):
    good = examples(19)
    bad = ka.data.CaptionedPicture("broken.jpg", b"no picture", ("a dog",))
    gone = ka.data.CaptionedPicture("gone.jpg", str(tmp_path / "gone.jpg"), ("a dog",))
    for options in ({}, {"cache": tmp_path}):
        model = small(words, encoder="mobilenet_0.25" if options else "small_cnn")
        with pytest.warns(UserWarning, match="1 of 20 pictures cannot be read: gone.jpg"):
            ka.caption_batches([*good, gone], model, **options)
    with pytest.warns(UserWarning, match="1 of 20 pictures cannot be read: broken.jpg. They are left out"):
        batches = ka.caption_batches([*good[:7], bad, *good[7:]], small(words), shuffle=False)
    assert sum(len(batches[i][1]) for i in range(len(batches))) == 38
    with pytest.raises(ka.DataError, match="3 of 8 pictures cannot be read"):
        ka.caption_batches([*good[:5], bad, bad, bad], small(words))


def test_augmentation_is_another_each_epoch_and_the_same_again(words):
    batches = ka.caption_batches(examples(3), small(words), augment=True)
    first = batches[0][0]["images"]
    np.testing.assert_array_equal(first, batches[0][0]["images"])
    batches.start_epoch(1)
    assert not np.array_equal(np.sort(first.ravel()), np.sort(batches[0][0]["images"].ravel()))


@pytest.mark.parametrize("cached", [False, True])
def test_every_second_picture_is_mirrored_by_chance(words, tmp_path, cached):
    model, pictures = small(words, encoder="mobilenet_0.25" if cached else "small_cnn"), examples(1) * 40
    if cached:  # a new MobileNet answers nearly nothing
        model.encode_images = lambda images: np.reshape(images, (len(images), 32, -1))
    options = {"cache": tmp_path} if cached else {}
    batches = ka.caption_batches(pictures, model, 10**6, flip=True, **options)
    image = ka.data.read_images([pictures[0].picture], 32)[0]
    both = [np.array(model.encode_images(x)) if cached else x for x in (image, image[:, :, ::-1])]
    given = batches[0][0]["regions" if cached else "images"]
    apart = np.array([[np.abs(one - x[0]).max() for x in both] for one in given])
    assert (apart.min(1) < apart.max(1) / 4).all()  # one or the other
    assert 0.3 < apart.argmin(1).mean() < 0.7
    batches.start_epoch(1)
    assert not np.array_equal(given, batches[0][0]["regions" if cached else "images"])


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({}, {"cache": "features"}, "the network that sees learns"),
        ({"encoder": "mobilenet_0.25"}, {"cache": "features", "augment": True}, "Leave out one of them"),
    ],
)
def test_what_cannot_go_together_is_refused(words, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        ka.caption_batches(examples(2), small(words, **sizes), **options)


# Captions


def test_a_picture_that_cannot_be_read_has_an_empty_caption(words):
    model = small(words)
    randomize(model, 0.3)
    picture = examples(1)[0].picture
    one, bad, two = model.caption([picture, b"<html>", picture])
    assert (bad.text, bad.valid, bad.attention) == ("", False, None)
    assert one.text == two.text
    assert one.attention.shape == (len(one.pieces), 8, 8)
    np.testing.assert_allclose(one.attention.sum((1, 2)), 1, rtol=1e-5)
    with pytest.raises(TypeError, match="Wrap it"):
        model.caption(picture)
    with pytest.raises(ValueError, match="`batch_size` is -1"):
        model.caption([picture], batch_size=-1)


def test_a_caption_is_scored_by_the_sum_of_its_log_probabilities(words):
    model, special = small(words), ka.data.special_ids(words)
    randomize(model, 0.3)
    pictures, texts = [e.picture for e in examples(2)], ["a small red circle", "there is a blue cross above a square"]
    expected = []
    for picture, text in zip(pictures, texts, strict=True):
        labels = [*ka.data.encode_texts(words, [text])[0], special.end]
        images, _ = ka.data.read_images([picture], 32)
        logits = np.asarray(model({"images": images, "target_ids": np.array([[special.start, *labels[:-1]]])}))[0]
        chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected.append(chances[np.arange(len(labels)), labels].sum())
    scores = ka.score(model, [*pictures, b"no picture"], [*texts, "a red circle"])
    np.testing.assert_allclose(scores, [*expected, 0.0], rtol=1e-4)
    with pytest.raises(ValueError, match="as many targets"):
        ka.score(model, pictures, ["a red circle"])
    for wrong in (ka.embed, ka.attention_maps):
        with pytest.raises(TypeError, match="Captioner has no"):
            wrong(model, ["a"])


@pytest.mark.parametrize(
    ("preset", "tie_weights", "sizes"),
    [
        ("show_and_tell", False, {"units": 14, "embedding_dim": 11}),
        ("show_attend_and_tell", False, {"units": 14, "embedding_dim": 11}),
        ("show_attend_and_tell", True, {"units": 14, "embedding_dim": 11, "tie_weights": True}),
        ("transformer_captioner", True, {"width": 14, "num_heads": 7}),
    ],
)
def test_only_tied_captioners_write_with_their_embedding(words, preset, tie_weights, sizes):
    model = ka.Captioner.from_preset(preset, tokenizer=words, encoder="small_cnn", image_size=32, **sizes)
    inputs = {"images": np.full((1, 32, 32, 3), 77.0, "float32"), "target_ids": np.array([[1, 7, 9]])}
    model.embedding.embeddings.assign(np.zeros(model.embedding.embeddings.shape))
    step = model.step(np.array([[1]]), model.start({"images": inputs["images"]}))[0]
    assert np.asarray(model(inputs)).any() != tie_weights
    assert np.asarray(step).any() != tie_weights


def test_with_coordinate_features_attention_depends_on_the_position(words):
    regions, alike = np.full((1, 16, 96), 7.0, "float32"), {}
    for coordinates in (False, True):
        model = small(words, coordinate_features=coordinates, image_size=16)
        _, _, weights = model.step(np.array([[1]]), model.start({"regions": regions}))
        alike[coordinates] = np.ptp(np.asarray(weights)) < 1e-6
    assert alike == {False: True, True: False}
    placed = np.asarray(model.vision.append_coordinates(regions))
    np.testing.assert_array_equal(placed[..., :-2], regions)
    np.testing.assert_allclose(placed[0, [0, 3, 4, 15], -2:], [(-1, -1), (-1, 1), (-1 / 3, -1), (1, 1)], rtol=1e-6)
    with pytest.raises(ValueError, match="expected False without attention"):
        small(words, preset="show_and_tell", coordinate_features=True)


def test_a_new_transformer_attends_to_many_regions(words):
    """Features are larger than embeddings; if they were scaled as well, each region would attend to one other only."""
    sizes = {"width": 128, "num_heads": 4, "encoder_layers": 1, "encoder": "small_cnn", "image_size": 32}
    model = ka.Captioner.from_preset("transformer_captioner", tokenizer=words, **sizes)
    regions = np.maximum(np.random.default_rng(2).normal(size=(3, 64, 96)) * 3, 0).astype("float32")
    _, weights = model.encoder(model.region_projection(regions), return_attention_scores=True)
    largest = np.asarray(weights[0]).max(-1).mean()
    assert largest < 0.3


def test_more_regions_than_learned_positions_are_refused(words):
    sizes = {"width": 14, "num_heads": 7, "positions": "learned", "max_length": 15}
    with pytest.raises(ValueError, match="There are 64 regions and 15 learned positions"):
        ka.Captioner.from_preset("transformer_captioner", tokenizer=words, encoder="small_cnn", image_size=32, **sizes)


@pytest.mark.parametrize("attention", ["additive", "hard"])
@pytest.mark.parametrize("grounded_attention", [False, True])
def test_a_captioner_trains_in_half_precision(words, attention, grounded_attention):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(words, attention=attention, coordinate_features=True, grounded_attention=grounded_attention)
        model.compile("adam", ka.MaskedCrossEntropy())
        losses = model.fit(ka.caption_batches(examples(3), model), epochs=2, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(losses).all()


def test_the_image_encoder_has_the_smallest_layer_wise_rate(words):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11}
    model = ka.Captioner.from_preset(
        "transformer_captioner", tokenizer=words, encoder="small_cnn", image_size=32, **sizes
    )
    ka.training.compile_model(model, ka.TrainingPlan(layer_decay=0.5), 3)
    model.optimizer.build(model.trainable_variables)
    factors = dict(zip((id(v) for v in model.trainable_variables), model.optimizer.factors, strict=True))
    assert {factors[id(v)] for v in model.vision.trainable_variables} == {0.25}
    assert {factors[id(v)] for v in model.region_projection.trainable_variables} == {0.25}
    assert {factors[id(v)] for v in model.decoder.blocks[1].trainable_variables} == {1.0}


@pytest.mark.parametrize("how", [ka.training.freeze, lambda model: ka.training.enable_lora(model, 2)])
@pytest.mark.parametrize("preset", ["show_attend_and_tell", "transformer_captioner"])
def test_the_image_encoder_can_be_frozen(words, preset, how):
    sizes = {} if preset == "show_attend_and_tell" else {"width": 14, "num_heads": 7, "num_layers": 1}
    sizes = sizes or {"units": 14, "embedding_dim": 11}
    model = ka.Captioner.from_preset(preset, tokenizer=words, encoder="small_cnn", image_size=32, **sizes)
    assert model.vision.learns
    how(model)
    assert not model.vision.learns
    assert model.trainable_variables


def test_a_captioner_learns_scenes_by_heart(words):
    keras.utils.set_random_seed(3)
    pictures = [ka.data.CaptionedPicture(e.name, e.picture, e.captions[:1]) for e in examples(2)]
    model = small(words, units=38, embedding_dim=23, dropout=0.0, doubly_stochastic=0.0)
    model.compile(keras.optimizers.Adam(0.01), ka.MaskedCrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ka.caption_batches(pictures, model), epochs=120, verbose=0)
    found = model.caption([p.picture for p in pictures], ka.BeamSearch(num_beams=3))
    assert [c.text for c in found] == [p.captions[0] for p in pictures]


# Self-critical training


def test_a_reward_is_the_cider_and_bleu_of_each_caption_by_itself():
    from pycocoevalcap.cider.cider import Cider

    groups = [["a dog runs fast", "the dog is running"], ["a red car", "a car"], ["two men sit", "men on a bench"]]
    captions = ["a dog is running", "a red dog", "men sit on a bench"]
    theirs = Cider().compute_score(dict(enumerate(groups)), {i: [c] for i, c in enumerate(captions)})[1]
    assert (theirs > 0).all()
    order = np.array([2, 0, 0, 1, 2, 2, 1])
    reward = lambda weight: ka.metrics.CaptionReward(groups, weight)(  # noqa: E731
        [captions[i].title() + "." for i in order], order
    )
    np.testing.assert_allclose(reward(0.0), theirs[order], rtol=1e-6)
    bleu = [ka.metrics.score_captions([c], [g], meteor=False).bleu for c, g in zip(captions, groups, strict=True)]
    np.testing.assert_allclose((reward(3.0) - reward(0.0)) / 3, np.mean(bleu, axis=1)[order] / 100, rtol=1e-6)
    by_hand = (2 / 3 + np.sqrt(2 / 3 * 1 / 2)) / 4  # "a red", but not "red dog"; no trigram
    assert (reward(1.0) - reward(0.0))[3] == pytest.approx(by_hand, abs=2e-5)
    with pytest.raises(ValueError, match="`bleu_weight` is -1; expected 0 or more"):
        ka.metrics.CaptionReward(groups, -1)


def test_a_captioner_learns_to_be_rewarded(words):
    keras.utils.set_random_seed(3)
    pictures, model = examples(7), small(words, units=38, embedding_dim=23, dropout=0.0, doubly_stochastic=0.0)
    model.compile(keras.optimizers.Adam(0.01), ka.MaskedCrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ka.caption_batches(pictures, model), epochs=10, verbose=0)  # not all yet
    model.vision.freeze()
    batches = ka.training.SelfCriticalBatches(pictures, model, max_tokens=8 * 23 * 7, samples=8)
    inputs, labels, weights = batches[0]
    seen = [np.abs(inputs["images"] - ka.data.read_images([p.picture], 32)[0]).max((1, 2, 3)) == 0 for p in pictures]
    places = np.repeat(np.argmax(seen, axis=0), 8)
    assert sorted(places) == sorted([*range(7)] * 8)
    texts = [ka.data.decode_ids(words, row.tolist()) for row in labels]
    rewards = ka.metrics.CaptionReward([p.captions for p in pictures])(texts, places).reshape(7, 8)
    assert rewards.std(axis=1).max() > 0
    others = [[np.delete(row, k).mean() for k in range(8)] for row in rewards]
    np.testing.assert_allclose(weights[:, 0], (rewards - others).ravel(), rtol=1e-5, atol=1e-6)
    rewards, plan = [], ka.TrainingPlan(learning_rate=5e-4, schedule="constant", label_smoothing=0.0, warmup_steps=1)
    ka.training.compile_model(model, plan, len(batches))
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rewards.append(batches.mean_reward))
    model.fit(batches.for_fit(), epochs=60, verbose=0, shuffle=False, callbacks=[batches.callback, note])
    assert rewards[0] > 0  # of the only batch, which TensorFlow asks for before the epoch begins
    assert np.mean(rewards[-5:]) > 1.2 * np.mean(rewards[:5])


def test_captions_are_drawn_as_the_model_has_become(words):
    model, known = small(words, dropout=0.9), []
    batches = ka.training.SelfCriticalBatches(examples(13), model, max_tokens=2 * 23 * 3, samples=3)
    assert len(batches) == 6
    inputs = {"regions": model.encode_images(batches[0][0]["images"]), "target_ids": batches[0][0]["target_ids"]}
    np.testing.assert_array_equal(*(np.asarray(model(inputs, training=training)) for training in (False, True)))
    draw = model.draw
    model.draw = lambda *given: known.append(np.array(model.decoder.weights[0])) or draw(*given)
    plan = ka.TrainingPlan(learning_rate=0.1, warmup_steps=1)
    ka.training.compile_model(model, plan, len(batches))
    before = np.array(model.decoder.weights[0])
    model.fit(batches.for_fit(), verbose=0, shuffle=False, callbacks=[batches.callback])
    assert len(np.unique([x.ravel()[:5] for x in known], axis=0)) == len(known) == 5  # the first was drawn above
    early = keras.backend.backend() == "jax"  # the second is drawn before any update
    assert np.array_equal(known[0], before) == early
    with pytest.raises(Exception, match=r"fit\(batches\.for_fit"):  # TensorFlow wraps what a data set raises
        model.fit(batches, verbose=0, shuffle=False)


def test_an_epoch_may_have_fewer_pictures_than_a_batch_has_room_for(words):
    batches = ka.training.SelfCriticalBatches(examples(7), small(words), samples=2, pictures=3)
    assert len(batches) == 1
    assert len(batches[0][0]["images"]) == 3


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({"attention": "hard"}, {}, "hard attention, which learns where"),
        ({}, {"samples": 1}, "expected at least 2"),
        ({}, {"pictures": 0}, "`pictures` is 0"),
    ],
)
def test_self_critical_training_refuses_what_it_cannot_teach(words, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        ka.training.SelfCriticalBatches(examples(2), small(words, **sizes), **options)
