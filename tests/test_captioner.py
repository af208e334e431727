"""Captioners: what they write, how it is scored, and what of them learns."""

import warnings

import keras
import numpy as np
import pytest
from captioners import examples, small, words
from test_conformance import randomize

import keras_attention as ka

__all__ = ["words"]  # a fixture


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
    with pytest.raises(
        ValueError, match=r"tie_weights cannot change: the weights embedding/reverse_embeddings would be lost\."
    ):
        ka.Captioner.from_model(second, tie_weights=True)
    with pytest.raises(ValueError, match=r"encoder cannot change: .* would have the shape"):
        ka.Captioner.from_model(first, encoder="mobilenet_0.25")


def test_a_picture_that_cannot_be_read_has_an_empty_caption(words):
    model = small(words)
    randomize(model, 0.3)
    picture = examples(1)[0].image
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
    pictures, texts = [e.image for e in examples(2)], ["a small red circle", "there is a blue cross above a square"]
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


def test_more_regions_than_learned_positions_are_refused(words):
    sizes = {"width": 14, "num_heads": 7, "positions": "learned", "max_length": 15}
    with pytest.raises(ValueError, match="There are 64 regions, but only 15 learned positions"):
        ka.Captioner.from_preset("transformer_captioner", tokenizer=words, encoder="small_cnn", image_size=32, **sizes)


@pytest.mark.parametrize(("attention", "grounded_attention"), [("additive", False), ("hard", True)])
def test_a_captioner_trains_in_half_precision(words, attention, grounded_attention):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(words, attention=attention, coordinate_features=True, grounded_attention=grounded_attention)
        model.compile("adam", ka.training.MaskedCrossEntropy())
        losses = model.fit(ka.data.caption_batches(examples(3), model), epochs=2, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(losses).all()


def test_the_image_encoder_has_the_smallest_layer_wise_rate(words):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11}
    model = ka.Captioner.from_preset(
        "transformer_captioner", tokenizer=words, encoder="small_cnn", image_size=32, **sizes
    )
    ka.training.compile_model(model, ka.training.TrainingPlan(layer_decay=0.5), 3)
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
    pictures = [ka.data.CaptionedImage(e.name, e.image, e.captions[:1]) for e in examples(2)]
    model = small(words, units=38, embedding_dim=23, dropout=0.0, doubly_stochastic=0.0)
    model.compile(keras.optimizers.Adam(0.01), ka.training.MaskedCrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ka.data.caption_batches(pictures, model), epochs=120, verbose=0)
    found = model.caption([p.image for p in pictures], ka.BeamSearch(num_beams=3))
    assert [c.text for c in found] == [p.captions[0] for p in pictures]
