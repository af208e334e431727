"""Batches of captions: images or cached regions, several captions per image, unreadable images, augmentation."""

import dataclasses

import numpy as np
import pytest
from captioners import caption_tokenizer, examples, small_captioner

import keras_attention as ka

__all__ = ["caption_tokenizer"]  # a fixture

RECURRENT_SIZES, TRANSFORMER_SIZES = {"units": 14, "embedding_dim": 11}, {"width": 12, "num_heads": 2}
each_preset = pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("show_and_tell", RECURRENT_SIZES),
        ("show_attend_and_tell", RECURRENT_SIZES),
        ("transformer_captioner", TRANSFORMER_SIZES),
    ],
)


def test_cached_regions_equal_the_encoded_images(caption_tokenizer, tmp_path):
    with pytest.warns(UserWarning, match="mobilenet_0.25 is frozen, so its random weights are never trained"):
        model, captioned = small_captioner(caption_tokenizer, image_encoder="mobilenet_0.25"), examples(5)
    encoded = ka.data.caption_batches(captioned, model, max_tokens=10_000, shuffle=False)[0]
    cached = ka.data.caption_batches(captioned, model, max_tokens=10_000, shuffle=False, region_cache=tmp_path)[0]
    assert set(encoded[0]) == {"images", "target_ids"}
    assert set(cached[0]) == {"regions", "target_ids"}
    order, cached_order = (np.lexsort(batch[1].T) for batch in (encoded, cached))
    logits, cached_logits = (np.asarray(model(batch[0])) for batch in (encoded, cached))
    np.testing.assert_allclose(cached_logits[cached_order], logits[order], atol=1e-2)
    for one, two in zip(encoded[1:], cached[1:], strict=True):
        np.testing.assert_array_equal(one[order], two[cached_order])
    row = [i for i in encoded[1][0] if i > 4]
    assert ka.data.decode_ids(caption_tokenizer, row) in {c for example in captioned for c in example.captions}


@each_preset
def test_an_image_is_encoded_once_for_its_captions(caption_tokenizer, preset, sizes):
    """Three images have two captions, one has five, and one has one; groups have two captions, or one and padding."""
    others = zip(examples(2), (5, 1), strict=True)
    captioned = [*examples(3), *(dataclasses.replace(e, captions=("a dog", *"abcd")[:n]) for e, n in others)]
    encoder_options = {"image_encoder": "small_cnn", "image_size": 32}
    model = ka.Captioner.from_preset(preset, tokenizer=caption_tokenizer, dropout=0.0, **encoder_options, **sizes)
    inputs, labels, weights = ka.data.caption_batches(captioned, model, 10**4, shuffle=False)[0]
    assert (len(inputs["images"]), len(labels)) == (7, 14)
    assert weights.any(1).sum() == sum(len(example.captions) for example in captioned) == 12
    ungrouped = ka.data.caption_batches(captioned, model, 10**4, shuffle=False, captions_per_image=1)[0]
    assert (len(ungrouped[0]["images"]), len(ungrouped[1])) == (12, 12)
    repeated = {"images": np.repeat(inputs["images"], 2, axis=0), "target_ids": inputs["target_ids"]}
    np.testing.assert_allclose(np.asarray(model(inputs)), np.asarray(model(repeated)), atol=1e-5)


def test_a_batch_mixes_captions_of_different_lengths(caption_tokenizer):
    """In the drawn scenes a caption's length depends on its relation, so a batch must not have only one length."""
    model, captioned = small_captioner(caption_tokenizer), examples(29)
    ids_of_captions = [
        ids[:23]
        for ids in ka.data.tokenization.tokenizers.encode_texts(caption_tokenizer, ka.data.captions_of(captioned))
    ]
    assert len({len(ids) for ids in ids_of_captions}) > 3
    batches = ka.data.caption_batches(captioned, model, max_tokens=160, captions_per_image=1)
    lengths = [set(weights.sum(1)) for _, _, weights in (batches[i] for i in range(len(batches)))]
    assert len(lengths) > 5
    assert sum(len(distinct) > 1 for distinct in lengths) >= len(lengths) - 1


@pytest.mark.parametrize("input_name", ["images", "regions"])
@each_preset
def test_dropout_is_active_only_in_training(caption_tokenizer, preset, sizes, input_name):
    """Also with `stateless_call`, which `fit` uses on JAX."""
    model = ka.Captioner.from_preset(
        preset,
        tokenizer=caption_tokenizer,
        image_encoder_weights=None,
        image_encoder="small_cnn",
        image_size=32,
        dropout=0.8,
        **sizes,
    )
    images, ids = ka.data.read_images([example.image for example in examples(2)], 32)[0], np.array([[1, 7, 9]] * 2)
    image_inputs = {"images": images, "regions": model.encode_images(images)}
    inputs = {input_name: image_inputs[input_name], "target_ids": ids}
    state = [[v.value for v in values] for values in (model.trainable_variables, model.non_trainable_variables)]
    first, second, *with_dropout = (
        np.asarray(model.stateless_call(*state, inputs, training=training)[0])
        for training in (False, False, True, True)
    )
    np.testing.assert_array_equal(first, second)
    assert all(np.abs(first - x).max() > 1e-3 for x in with_dropout)


def test_unreadable_images_are_skipped_with_a_warning(caption_tokenizer, tmp_path):
    readable = examples(19)
    broken = ka.data.CaptionedImage("broken.jpg", b"no image", ("a dog",))
    missing = ka.data.CaptionedImage("missing.jpg", str(tmp_path / "missing.jpg"), ("a dog",))
    for image_encoder, options in (("small_cnn", {}), ("mobilenet_0.25", {"region_cache": tmp_path})):
        model = small_captioner(caption_tokenizer, image_encoder=image_encoder)
        with pytest.warns(UserWarning, match="1 of 20 images cannot be read: missing.jpg"):
            ka.data.caption_batches([*readable, missing], model, **options)
    with pytest.warns(UserWarning, match="1 of 20 images cannot be read: broken.jpg. .*The image begins"):
        batches = ka.data.caption_batches(
            [*readable[:7], broken, *readable[7:]], small_captioner(caption_tokenizer), shuffle=False
        )
    assert sum(len(batches[i][1]) for i in range(len(batches))) == 38
    with pytest.raises(ka.data.DataError, match=r"3 of 8 images cannot be read: .*; expected at most a tenth\."):
        ka.data.caption_batches([*readable[:5], broken, broken, broken], small_captioner(caption_tokenizer))


def test_augmentation_changes_with_the_epoch_and_is_reproducible(caption_tokenizer):
    batches = ka.data.caption_batches(examples(3), small_captioner(caption_tokenizer), augment=True)
    first = batches[0][0]["images"]
    np.testing.assert_array_equal(first, batches[0][0]["images"])
    batches.start_epoch(1)
    assert not np.array_equal(np.sort(first.ravel()), np.sort(batches[0][0]["images"].ravel()))


def assert_half_are_mirrored(batches, input_name: str, original, mirrored) -> None:
    """Assert that about half of a batch is like the mirrored image, and that another epoch mirrors other images."""
    batch = batches[0][0][input_name]
    distances = np.array([[np.abs(x - expected).max() for expected in (original, mirrored)] for x in batch])
    assert (distances.min(1) < distances.max(1) / 4).all()  # like one of the two
    assert 0.3 < distances.argmin(1).mean() < 0.7
    batches.start_epoch(1)
    assert not np.array_equal(batch, batches[0][0][input_name])


def test_half_of_the_images_are_mirrored(caption_tokenizer):
    (captioned,) = examples(1)
    batches = ka.data.caption_batches([captioned] * 40, small_captioner(caption_tokenizer), 10**6, flip=True)
    (image,) = ka.data.read_images([captioned.image], 32)[0]
    assert_half_are_mirrored(batches, "images", image, image[:, ::-1])


def test_half_of_the_cached_regions_are_those_of_the_mirrored_image(caption_tokenizer, tmp_path):
    (captioned,) = examples(1)
    model = small_captioner(caption_tokenizer, image_encoder="mobilenet_0.25")
    model.encode_images = lambda images: np.reshape(images, (len(images), 32, -1))  # MobileNet's random outputs are ~0
    batches = ka.data.caption_batches([captioned] * 40, model, 10**6, flip=True, region_cache=tmp_path)
    (image,) = ka.data.read_images([captioned.image], 32)[0]
    original, mirrored = model.encode_images([image, image[:, ::-1]])
    assert_half_are_mirrored(batches, "regions", original, mirrored)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({}, {"region_cache": "features"}, "the image encoder is trainable"),
        ({"image_encoder": "mobilenet_0.25"}, {"region_cache": "features", "augment": True}, "Use only one of them"),
    ],
)
def test_options_that_exclude_each_other_are_an_error(caption_tokenizer, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        ka.data.caption_batches(examples(2), small_captioner(caption_tokenizer, **sizes), **options)
