"""Captioners: their captions, their scores, and their trainable weights."""

import warnings

import keras
import numpy as np
import pytest
from captioners import caption_tokenizer, examples, small_captioner
from dtype_policies import dtype_policy
from model_rows import randomize

import keras_attention as ka

__all__ = ["caption_tokenizer"]  # a fixture


@pytest.fixture(scope="module")
def captioner(caption_tokenizer):
    """An untied captioner with random weights, which the tests do not change."""
    model = small_captioner(caption_tokenizer, tie_weights=False)
    randomize(model, 0.3)
    return model


def enlarged_weights(old, new) -> list[tuple]:
    """Return pairs (old weight, new weight) with equal paths and different shapes."""
    weights = {weight.path: weight for weight in old.weights}
    pairs = [(weights[weight.path], weight) for weight in new.weights if weight.path in weights]
    return [(before, after) for before, after in pairs if before.shape != after.shape]


@pytest.mark.slow
def test_from_model_adds_an_output_matrix_and_coordinate_features(caption_tokenizer):
    """The logits stay the same if the new matrix equals the old one and the kernels' new rows are zeros."""
    first = small_captioner(caption_tokenizer, tie_weights=True)
    second = ka.Captioner.from_model(first, tie_weights=False, coordinate_features=True)
    second.embedding.reverse_embeddings.assign(np.array(first.embedding.embeddings).T)
    enlarged = enlarged_weights(first, second)
    assert len(enlarged) == 3  # attention, cell and deep output have the context as input
    for before, after in enlarged:
        rows, columns = before.shape
        assert after.shape == (rows + 2, columns)
        after.assign(np.concatenate([np.array(after)[:rows], np.zeros((2, columns))]))
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    inputs = {"images": images, "target_ids": np.array([[1, 5, 7, 3]] * 2)}
    np.testing.assert_allclose(np.array(second(inputs)), np.array(first(inputs)), atol=1e-5)


@pytest.mark.slow
def test_from_model_copies_an_xception(caption_tokenizer):
    """The numbers in the names of its layers differ from network to network."""
    xception = small_captioner(caption_tokenizer, image_encoder="xception", image_size=71)
    hard = ka.Captioner.from_model(xception, attention="hard")
    for old, new in zip(xception.image_encoder.get_weights(), hard.image_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tie_weights": True},
            r"tie_weights cannot change: the weights embedding/reverse_embeddings would be lost\.",
        ),
        ({"image_encoder": "mobilenet_0.25"}, "encoder cannot change: .* would have the shape"),
    ],
)
def test_from_model_refuses_changes_that_lose_weights(captioner, changes, message):
    with pytest.raises(ValueError, match=message):
        ka.Captioner.from_model(captioner, **changes)


def test_an_unreadable_image_has_an_empty_caption(captioner):
    image = examples(1)[0].image
    one, unreadable, two = captioner.caption([image, b"<html>", image])
    assert (unreadable.text, unreadable.valid, unreadable.attention) == ("", False, None)
    assert one.text == two.text
    assert one.attention.shape == (len(one.pieces), 8, 8)
    np.testing.assert_allclose(one.attention.sum((1, 2)), 1, rtol=1e-5)


def test_invalid_arguments_of_caption_are_errors(captioner):
    image = examples(1)[0].image
    with pytest.raises(TypeError, match="Wrap it"):
        captioner.caption(image)
    with pytest.raises(ValueError, match="`batch_size` is -1"):
        captioner.caption([image], batch_size=-1)


def test_a_metric_without_a_readable_image_is_an_error(captioner):
    unreadable = ka.data.CaptionedImage("a", b"<html>", ("a red circle",))
    with pytest.raises(ValueError, match="No image of 1 can be read"):
        captioner.data.validation_metric(captioner, [unreadable], "bleu")


def test_the_score_of_a_caption_is_the_sum_of_its_log_probabilities(caption_tokenizer):
    model, special = small_captioner(caption_tokenizer), ka.data.special_tokens_of(caption_tokenizer)
    randomize(model, 0.3)
    images, texts = [e.image for e in examples(2)], ["a small red circle", "there is a blue cross above a square"]
    expected = []
    for image, text in zip(images, texts, strict=True):
        labels = [*ka.data.tokenization.tokenizers.encode_texts(caption_tokenizer, [text])[0], special.end]
        pixels, _ = ka.data.read_images([image], 32)
        logits = np.asarray(model({"images": pixels, "target_ids": np.array([[special.start, *labels[:-1]]])}))[0]
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected.append(log_probs[np.arange(len(labels)), labels].sum())
    scores = ka.score(model, [*images, b"no image"], [*texts, "a red circle"])
    np.testing.assert_allclose(scores, [*expected, np.nan], rtol=1e-4)
    with pytest.raises(ValueError, match="one target for each"):
        ka.score(model, images, ["a red circle"])
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
def test_only_tied_weights_make_the_embedding_the_output_matrix(caption_tokenizer, preset, tie_weights, sizes):
    model = ka.Captioner.from_preset(
        preset, tokenizer=caption_tokenizer, image_encoder="small_cnn", image_size=32, **sizes
    )
    inputs = {"images": np.full((1, 32, 32, 3), 77.0, "float32"), "target_ids": np.array([[1, 7, 9]])}
    model.embedding.embeddings.assign(np.zeros(model.embedding.embeddings.shape))
    step = model.step(np.array([[1]]), model.start({"images": inputs["images"]}))[0]
    assert np.asarray(model(inputs)).any() != tie_weights
    assert np.asarray(step).any() != tie_weights


def test_more_regions_than_learned_positions_are_an_error(caption_tokenizer):
    sizes = {"width": 14, "num_heads": 7, "positions": "learned", "max_length": 15}
    with pytest.raises(ValueError, match="There are 64 regions, but only 15 learned positions"):
        ka.Captioner.from_preset(
            "transformer_captioner", tokenizer=caption_tokenizer, image_encoder="small_cnn", image_size=32, **sizes
        )


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("attention", "grounded_attention"), [("additive", False), ("hard", True)])
def test_a_captioner_trains_in_half_precision(caption_tokenizer, attention, grounded_attention):
    with dtype_policy("mixed_bfloat16"):
        model = small_captioner(
            caption_tokenizer, attention=attention, coordinate_features=True, grounded_attention=grounded_attention
        )
        model.compile("adam", ka.training.MaskedCrossEntropy())
        losses = model.fit(ka.data.caption_batches(examples(3), model), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_the_image_encoder_has_the_smallest_layer_wise_rate(caption_tokenizer):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11}
    model = ka.Captioner.from_preset(
        "transformer_captioner", tokenizer=caption_tokenizer, image_encoder="small_cnn", image_size=32, **sizes
    )
    ka.training.compile_model(model, ka.training.TrainingPlan(layer_decay=0.5), 3)
    model.optimizer.build(model.trainable_variables)
    factors = dict(zip((id(v) for v in model.trainable_variables), model.optimizer.factors, strict=True))
    assert {factors[id(v)] for v in model.image_encoder.trainable_variables} == {0.25}
    assert {factors[id(v)] for v in model.region_projection.trainable_variables} == {0.25}
    assert {factors[id(v)] for v in model.decoder.blocks[1].trainable_variables} == {1.0}


@pytest.mark.parametrize("freeze", [ka.training.freeze, lambda model: ka.training.enable_lora(model, 2)])
@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("show_attend_and_tell", {"units": 14, "embedding_dim": 11}),
        ("transformer_captioner", {"width": 14, "num_heads": 7, "num_layers": 1}),
    ],
)
def test_the_image_encoder_can_be_frozen(caption_tokenizer, preset, sizes, freeze):
    model = ka.Captioner.from_preset(
        preset, tokenizer=caption_tokenizer, image_encoder="small_cnn", image_size=32, **sizes
    )
    assert model.image_encoder.is_trainable
    freeze(model)
    assert not model.image_encoder.is_trainable
    assert model.trainable_variables


@pytest.mark.slow
def test_a_captioner_memorizes_scenes(caption_tokenizer):
    keras.utils.set_random_seed(3)
    texts = [" ".join(example.captions[0].split()[:4]) for example in examples(2)]
    captioned = [ka.data.CaptionedImage(e.name, e.image, (t,)) for e, t in zip(examples(2), texts, strict=True)]
    model = small_captioner(caption_tokenizer, units=38, embedding_dim=23, dropout=0.0, doubly_stochastic=0.0)
    model.compile(keras.optimizers.Adam(0.02), ka.training.MaskedCrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ka.data.caption_batches(captioned, model), epochs=60, verbose=0)
    outputs = model.caption([example.image for example in captioned], ka.BeamSearch(num_beams=3))
    assert [caption.text for caption in outputs] == texts
