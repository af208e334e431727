"""Self-critical training: the reward by hand, the advantage of each caption, and an increasing reward."""

import warnings

import keras
import numpy as np
import pytest
from captioners import caption_tokenizer, examples, small_captioner

import keras_attention as ka

__all__ = ["caption_tokenizer"]  # a fixture


@pytest.fixture(scope="module", autouse=True)
def _without_java():
    """Words are split in Python: each start of Java takes two seconds, and test_caption_quality.py compares the two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        yield


def test_the_reward_is_the_cider_and_bleu_of_each_caption():
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
    bleu = [ka.metrics.evaluate_captions([c], [g], meteor=False).bleu for c, g in zip(captions, groups, strict=True)]
    np.testing.assert_allclose((reward(3.0) - reward(0.0)) / 3, np.mean(bleu, axis=1)[order] / 100, rtol=1e-6)
    by_hand = (2 / 3 + np.sqrt(2 / 3 * 1 / 2)) / 4  # the bigram "a red" is right, "red dog" is not; there is no trigram
    assert (reward(1.0) - reward(0.0))[3] == pytest.approx(by_hand, abs=2e-5)
    with pytest.raises(ValueError, match="`bleu_weight` is -1; expected 0 or more"):
        ka.metrics.CaptionReward(groups, -1)


CAPTIONED, SAMPLED = 7, 8  # images, and captions that are sampled for each image


@pytest.fixture(scope="module")
def self_critical(caption_tokenizer):
    """A captioner that has learned a little, and the batches of its self-critical training: one batch."""
    keras.utils.set_random_seed(3)
    sizes = {"units": 38, "embedding_dim": 23, "dropout": 0.0, "doubly_stochastic": 0.0}
    captioned, model = examples(CAPTIONED), small_captioner(caption_tokenizer, **sizes)
    model.compile(keras.optimizers.Adam(0.01), ka.training.MaskedCrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ka.data.caption_batches(captioned, model), epochs=10, verbose=0)  # not yet converged
    model.image_encoder.freeze()
    options = {"max_tokens": SAMPLED * 23 * CAPTIONED, "captions_per_image": SAMPLED}
    return model, ka.training.SelfCriticalBatches(captioned, model, **options)


@pytest.mark.slow
def test_the_weight_of_a_caption_is_its_reward_less_the_mean_of_the_others(self_critical, caption_tokenizer):
    captioned, (inputs, labels, weights) = examples(CAPTIONED), self_critical[1][0]
    images, _ = ka.data.read_images([example.image for example in captioned], 32)
    differences = np.abs(inputs["images"][:, None] - images).max((2, 3, 4))  # the images are in random order
    image_indices = np.repeat(np.argmin(differences, axis=1), SAMPLED)
    texts = [ka.data.decode_ids(caption_tokenizer, row.tolist()) for row in labels]
    rewards = ka.metrics.CaptionReward([example.captions for example in captioned])(texts, image_indices)
    rewards = rewards.reshape(CAPTIONED, SAMPLED)
    assert rewards.std(axis=1).max() > 0
    mean_of_others = [[np.delete(row, k).mean() for k in range(SAMPLED)] for row in rewards]
    np.testing.assert_allclose(weights[:, 0], (rewards - mean_of_others).ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_batch_has_each_image_once(self_critical):
    images = self_critical[1][0][0]["images"]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == CAPTIONED == len(images)


@pytest.mark.slow
def test_training_increases_the_reward(self_critical):
    (model, batches), rewards = self_critical, []
    plan = ka.training.TrainingPlan(learning_rate=5e-3, schedule="constant", label_smoothing=0.0, warmup_steps=1)
    ka.training.compile_model(model, plan, len(batches))
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rewards.append(batches.mean_reward))
    model.fit(batches.for_fit(), epochs=24, verbose=0, shuffle=False, callbacks=[*batches.callbacks, note])
    assert rewards[0] > 0  # the reward of the only batch, which TensorFlow requests before the epoch begins
    assert np.mean(rewards[-5:]) > 1.2 * np.mean(rewards[:5])


@pytest.mark.slow
def test_captions_are_sampled_from_the_updated_model(caption_tokenizer):
    model, weights_of_samples = small_captioner(caption_tokenizer, dropout=0.9), []
    batches = ka.training.SelfCriticalBatches(examples(13), model, max_tokens=2 * 23 * 3, captions_per_image=3)
    assert len(batches) == 6
    inputs = {"regions": model.encode_images(batches[0][0]["images"]), "target_ids": batches[0][0]["target_ids"]}
    np.testing.assert_array_equal(*(np.asarray(model(inputs, training=training)) for training in (False, True)))
    sample = model.sample_captions
    weights = model.decoder.weights
    model.sample_captions = lambda *args: weights_of_samples.append(np.array(weights[0])) or sample(*args)
    plan = ka.training.TrainingPlan(learning_rate=0.1, warmup_steps=1)
    ka.training.compile_model(model, plan, len(batches))
    before = np.array(model.decoder.weights[0])
    model.fit(batches.for_fit(), verbose=0, shuffle=False, callbacks=batches.callbacks)
    assert (
        len(np.unique([x.ravel()[:5] for x in weights_of_samples], axis=0)) == len(weights_of_samples) == 5
    )  # the captions of the first batch were sampled above
    early = keras.backend.backend() == "jax"  # on JAX the second batch is sampled before any update
    assert np.array_equal(weights_of_samples[0], before) == early
    with pytest.raises(Exception, match=r"fit\(batches\.for_fit"):  # TensorFlow wraps the errors of a data set
        model.fit(batches, verbose=0, shuffle=False)


def test_an_epoch_may_have_fewer_images_than_a_full_batch(caption_tokenizer):
    batches = ka.training.SelfCriticalBatches(
        examples(7), small_captioner(caption_tokenizer), captions_per_image=2, images_per_epoch=3
    )
    assert len(batches) == 1
    assert len(batches[0][0]["images"]) == 3


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({"attention": "hard"}, {}, "hard attention, which learns from the probability"),
        ({}, {"captions_per_image": 1}, "expected at least 2"),
        ({}, {"images_per_epoch": 0}, "`images_per_epoch` is 0"),
    ],
)
def test_unsupported_self_critical_training_is_an_error(caption_tokenizer, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        ka.training.SelfCriticalBatches(examples(2), small_captioner(caption_tokenizer, **sizes), **options)
