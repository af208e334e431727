"""Batches of captions: images or cached regions, several captions of an image, damage, augmentation."""

import dataclasses

import numpy as np
import pytest
from captioners import examples, small, words

import keras_attention as ka

__all__ = ["words"]  # a fixture


def test_cached_regions_are_what_the_network_sees(words, tmp_path):
    model, pictures = small(words, encoder="mobilenet_0.25"), examples(5)
    seen = ka.data.caption_batches(pictures, model, max_tokens=10_000, shuffle=False)[0]
    cached = ka.data.caption_batches(pictures, model, max_tokens=10_000, shuffle=False, cache=tmp_path)[0]
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
    inputs, labels, weights = ka.data.caption_batches(pictures, model, 10**4, shuffle=False)[0]
    assert (len(inputs["images"]), len(labels)) == (7, 14)
    assert weights.any(1).sum() == sum(len(p.captions) for p in pictures) == 12
    apart = ka.data.caption_batches(pictures, model, 10**4, shuffle=False, captions_per_image=1)[0]
    assert (len(apart[0]["images"]), len(apart[1])) == (12, 12)
    alone = {"images": np.repeat(inputs["images"], 2, axis=0), "target_ids": inputs["target_ids"]}
    np.testing.assert_allclose(np.asarray(model(inputs)), np.asarray(model(alone)), atol=1e-5)


def test_a_batch_mixes_captions_of_different_lengths(words):
    """In drawn scenes the length of a caption says which relation it has; a batch must not."""
    model, pictures = small(words), examples(29)
    of = [ids[:23] for ids in ka.data.encode_texts(words, ka.data.captions_of(pictures))]
    assert len({len(ids) for ids in of}) > 3
    batches = ka.data.caption_batches(pictures, model, max_tokens=160, captions_per_image=1)
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
    images, ids = ka.data.read_images([p.image for p in examples(2)], 32)[0], np.array([[1, 7, 9]] * 2)
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
    bad = ka.data.CaptionedImage("broken.jpg", b"no picture", ("a dog",))
    gone = ka.data.CaptionedImage("gone.jpg", str(tmp_path / "gone.jpg"), ("a dog",))
    for options in ({}, {"cache": tmp_path}):
        model = small(words, encoder="mobilenet_0.25" if options else "small_cnn")
        with pytest.warns(UserWarning, match="1 of 20 images cannot be read: gone.jpg"):
            ka.data.caption_batches([*good, gone], model, **options)
    with pytest.warns(UserWarning, match="1 of 20 images cannot be read: broken.jpg. They are skipped"):
        batches = ka.data.caption_batches([*good[:7], bad, *good[7:]], small(words), shuffle=False)
    assert sum(len(batches[i][1]) for i in range(len(batches))) == 38
    with pytest.raises(ka.data.DataError, match="3 of 8 images cannot be read"):
        ka.data.caption_batches([*good[:5], bad, bad, bad], small(words))


def test_augmentation_is_another_each_epoch_and_the_same_again(words):
    batches = ka.data.caption_batches(examples(3), small(words), augment=True)
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
    batches = ka.data.caption_batches(pictures, model, 10**6, flip=True, **options)
    image = ka.data.read_images([pictures[0].image], 32)[0]
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
        ({}, {"cache": "features"}, "the image encoder is trainable"),
        ({"encoder": "mobilenet_0.25"}, {"cache": "features", "augment": True}, "Use only one of them"),
    ],
)
def test_what_cannot_go_together_is_refused(words, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        ka.data.caption_batches(examples(2), small(words, **sizes), **options)
