"""A captioner's attention: `attend_first`, hard attention, and options for attention that locates words."""

import math

import numpy as np
import pytest
from backends import gradient, sigmoid
from captioners import caption_tokenizer, small_captioner
from keras import ops
from model_rows import randomize

import keras_attention as ka
from keras_attention.layers import AdditiveAttention, AttentionLoss, DotProductAttention, GumbelNoise, RecurrentDecoder
from keras_attention.layers.attention import chosen_positions
from keras_attention.layers.attention_losses import doubly_stochastic

__all__ = ["caption_tokenizer"]  # a fixture


def test_a_step_with_attend_first_by_hand():
    rng = np.random.default_rng(0)
    decoder = RecurrentDecoder(7, 5, attention=AdditiveAttention(3), attend_first=True)
    x, memory, mean = (rng.normal(size=size).astype("float32") for size in ((2, 1, 5), (2, 11, 13), (2, 13)))
    outputs, scores = decoder(x, memory, initial_state=[mean], return_attention_scores=True)
    get = lambda layer: [np.asarray(w) for w in layer.get_weights()]  # noqa: E731
    h, c = (np.tanh(mean @ kernel + bias) for kernel, bias in map(get, decoder.state_projections))
    (query,), (key,) = get(decoder.attention.query_projection), get(decoder.attention.key_projection)
    vector = np.asarray(decoder.attention.vector)
    logits = np.tanh((np.concatenate([x[:, 0], h], 1) @ query)[:, None] + memory @ key) @ vector
    alpha = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gate, gate_bias = get(decoder.gate)
    z = sigmoid(h @ gate + gate_bias) * np.einsum("bs,bsm->bm", alpha, memory)
    kernel, recurrent, bias = get(decoder.cells[0])
    i, f, g, o = np.split(np.concatenate([x[:, 0], z], 1) @ kernel + h @ recurrent + bias, 4, axis=1)
    new = sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(g))
    projection, shift = get(decoder.output_projection)
    expected = np.tanh(np.concatenate([x[:, 0], new, z], 1) @ projection + shift)
    np.testing.assert_allclose(np.asarray(scores)[:, 0], alpha, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs)[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_gumbel_noise_samples_with_the_scores_as_probabilities():
    scores = np.array([0.5, 0.3, 0.15, 0.05], "float32")
    noise = GumbelNoise()(np.ones((1, 20_011, 1)), np.ones((1, 4, 1)), training=True)
    chosen = np.asarray(chosen_positions(ops.convert_to_tensor(np.tile(scores, (1, 20_011, 1))), noise))
    np.testing.assert_allclose(chosen[0].mean(0), scores, atol=4 * 0.5 / 20_011**0.5)


@pytest.mark.parametrize("layer", [AdditiveAttention(3, hard=True), DotProductAttention(3, hard=True)])
def test_without_noise_the_most_probable_region_is_the_context(layer):
    memory = np.random.default_rng(1).normal(size=(2, 7, 5)).astype("float32")
    context, scores = layer(np.ones((2, 1, 11), "float32"), memory, return_attention_scores=True)
    best = np.asarray(scores)[:, 0].argmax(-1)
    np.testing.assert_allclose(np.asarray(context)[:, 0], memory[np.arange(2), best], rtol=1e-6)


class Reinforce:
    """One batch of hard attention; the last row is padding."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.logits, self.noise = (rng.normal(size=(3, 3, 5)).astype("float32") for _ in range(2))
        self.real = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], "float32")
        self.costs = rng.uniform(1, 3, (3, 3)).astype("float32")
        self.layer = AttentionLoss(doubly_stochastic=0.0, reinforce=0.7, entropy=0.0)
        self.layer(self.logits, self.logits, self.noise)  # creates the weights

    def loss(self, logits):
        self.layer(logits, ops.softmax(logits, axis=-1), self.noise)
        return self.layer.loss(ops.convert_to_tensor(self.costs), ops.convert_to_tensor(self.real > 0))

    def log_likelihoods(self) -> np.ndarray:
        """Return the log-probability of each text."""
        return (-self.costs * self.real).sum(1)


def test_the_reinforce_gradient_by_hand():
    """d/dz of -(log p - b) log softmax(z)[s] is (log p - b) (softmax(z) - onehot(s)); b is initially the mean."""
    batch = Reinforce()
    computed = gradient(batch.loss, batch.logits)
    alpha = np.exp(batch.logits) / np.exp(batch.logits).sum(-1, keepdims=True)
    drawn = np.eye(5)[(np.log(alpha) + batch.noise).argmax(-1)]
    reward = 0.7 * (batch.log_likelihoods() - batch.log_likelihoods()[:2].mean())
    expected = reward[:, None, None] * (alpha - drawn) * batch.real[:, :, None] / batch.real.sum()
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-6)


def test_the_baseline_of_reinforce_is_first_the_mean_log_likelihood():
    batch = Reinforce()
    baseline, is_known = batch.layer.get_weights()
    assert (baseline, is_known) == (0, 0)
    batch.loss(batch.logits)
    baseline, is_known = batch.layer.get_weights()
    np.testing.assert_allclose(baseline, batch.log_likelihoods()[:2].mean(), rtol=1e-5)  # 0.9 mean + 0.1 mean
    assert is_known == 1


def test_negative_labels_do_not_count_in_the_attention_loss(caption_tokenizer):
    """The loss with the label -100 is that with the weight 0, also in hard attention."""
    model, rng = small_captioner(caption_tokenizer, attention="hard"), np.random.default_rng(4)
    layer, logits = model.attention_loss, rng.normal(size=(2, 3, 131)).astype("float32")
    scores, noise = ops.softmax(rng.normal(size=(2, 3, 64)).astype("float32")), np.zeros((2, 3, 64), "float32")
    real, losses = np.array([[1, 1, 0], [1, 0, 0]]), []
    labels, negative = real * 7, np.where(real, 7, -100)
    for y, weights in ((labels, real.astype("float32")), (negative, None), (negative, np.array([2, 3], "float32"))):
        layer(logits, scores, noise)
        layer.baseline_known.assign(0.0)
        loss = model._added_loss(y, logits, weights, training=True)
        losses.append([float(loss), *layer.get_weights()])
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-6)
    assert losses[0][0] > 0


def test_the_doubly_stochastic_loss_by_hand():
    scores = np.array([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]], "float32")
    real = np.array([[True, True, False]])  # sums over time: 1.5, 0.5, 0 -> 0.25 + 0.25 + 1
    np.testing.assert_allclose(np.asarray(doubly_stochastic(scores, real)), [1.5])


def test_a_loss_without_a_call_is_an_error():
    with pytest.raises(ValueError, match="no attention scores for `loss`; expected a call of the layer"):
        AttentionLoss().loss(np.ones((1, 2)), np.ones((1, 2), bool))


def test_with_grounded_attention_only_attention_reads_the_image(caption_tokenizer):
    ids, regions = np.array([[2, 7, 9, 11]]), np.random.default_rng(3).normal(size=(2, 1, 64, 96)).astype("float32")

    def difference(grounded_attention: bool, **others) -> float:
        """Return how much the outputs for two images differ."""
        model = small_captioner(caption_tokenizer, grounded_attention=grounded_attention)
        randomize(model, 0.3)
        texts = model.embedding(ids)
        one, two = (np.asarray(model.decoder(texts, **model._encode(x), **others)) for x in regions)
        return np.abs(one - two).max()

    first = small_captioner(caption_tokenizer, grounded_attention=True)
    second = ka.Captioner.from_model(first, grounded_attention=False, tie_weights=False)
    np.testing.assert_array_equal(*(np.asarray(m.decoder.cells[0].kernel) for m in (first, second)))
    nothing = np.zeros_like(regions[0])
    assert difference(True) > 1e-3
    assert difference(True, values=nothing) == 0
    assert difference(False, values=nothing) > 1e-3
    with pytest.raises(ValueError, match="`grounded_attention` is True; expected False without attention"):
        small_captioner(caption_tokenizer, "show_and_tell", grounded_attention=True)


def test_attention_smoothing_is_a_gaussian_over_the_grid(caption_tokenizer):
    plain = small_captioner(caption_tokenizer)
    randomize(plain, 0.3)
    model = ka.Captioner.from_model(plain, attention_smoothing=1.5)
    ids, images = np.array([[2, 7, 9], [2, 5, 11]]), np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3))
    regions = plain.encode_images(images.astype("float32"))
    positions = [(row, column) for row in range(8) for column in range(8)]
    gaussian = np.array([[math.exp(-((a - c) ** 2 + (b - d) ** 2) / 4.5) for c, d in positions] for a, b in positions])
    gaussian /= gaussian.sum(1, keepdims=True)
    encoded = {**plain._encode(regions), "values": gaussian @ regions, "return_attention_scores": True}
    outputs, scores = plain.decoder(plain.embedding(ids), **encoded)
    expected = np.asarray(plain.embedding(outputs, reverse=True))
    inputs = {"regions": regions, "target_ids": ids}
    np.testing.assert_allclose(np.asarray(model(inputs)), expected, atol=1e-4)
    logits, _, step_scores = model.step(ids[:, :1], model.start(inputs))
    np.testing.assert_allclose(np.asarray(logits)[:, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(np.asarray(step_scores)[:, 0], np.asarray(scores)[:, 0] @ gaussian, atol=1e-5)
    with pytest.raises(ValueError, match="expected 0 without attention or with hard attention"):
        small_captioner(caption_tokenizer, attention="hard", attention_smoothing=1.5)
    with pytest.raises(ValueError, match="`attention_smoothing` is 'abc'; expected a number"):
        small_captioner(caption_tokenizer, attention_smoothing="abc")


def test_with_coordinate_features_attention_depends_on_the_position(caption_tokenizer):
    regions, alike = np.full((1, 16, 96), 7.0, "float32"), {}
    for coordinates in (False, True):
        model = small_captioner(caption_tokenizer, coordinate_features=coordinates, image_size=16)
        _, _, scores = model.step(np.array([[1]]), model.start({"regions": regions}))
        alike[coordinates] = np.ptp(np.asarray(scores)) < 1e-6
    assert alike == {False: True, True: False}
    placed = np.asarray(model.image_encoder.append_coordinates(regions))
    np.testing.assert_array_equal(placed[..., :-2], regions)
    np.testing.assert_allclose(placed[0, [0, 3, 4, 15], -2:], [(-1, -1), (-1, 1), (-1 / 3, -1), (1, 1)], rtol=1e-6)
    with pytest.raises(ValueError, match="expected False without attention"):
        small_captioner(caption_tokenizer, preset="show_and_tell", coordinate_features=True)


def test_a_new_transformer_attends_to_many_regions(caption_tokenizer):
    """Features are larger than embeddings. If they were scaled too, each region would attend to only one other."""
    sizes = {"width": 128, "num_heads": 4, "encoder_layers": 1, "image_encoder": "small_cnn", "image_size": 32}
    model = ka.Captioner.from_preset("transformer_captioner", tokenizer=caption_tokenizer, **sizes)
    regions = np.maximum(np.random.default_rng(2).normal(size=(3, 64, 96)) * 3, 0).astype("float32")
    _, scores = model.encoder(model.region_projection(regions), return_attention_scores=True)
    largest = np.asarray(scores[0]).max(-1).mean()
    assert largest < 0.3
