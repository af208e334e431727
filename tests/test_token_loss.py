"""The loss of a task is per token: over batches of any size, padding, accumulated gradients, outputs and replicas."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from backends import compiled

import keras_attention as ka
from keras_attention.metrics import MaskedAccuracy, Perplexity
from keras_attention.models.task import token_loss

TEXTS = ["to be", "or not to be that is", "the question", "whether", "tis nobler in the mind"]
SIZES = {"width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5, "dropout": 0.0, "attention_dropout": 0.0}


def language_model(optimizer=None):
    keras.utils.set_random_seed(3)
    tokenizer = ka.data.train_tokenizer(TEXTS, "characters")
    model = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, max_length=29, **SIZES)
    model.compile(optimizer or keras.optimizers.SGD(0.0), run_eagerly=keras.backend.backend() == "tensorflow")
    return model


class Padded(keras.utils.PyDataset):
    """Batches with more columns of padding, and one more row that is all padding."""

    def __init__(self, batches, columns, rows):
        super().__init__()
        self.batches, self.columns, self.rows = batches, columns, rows

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return keras.tree.map_structure(lambda a: np.pad(a, ((0, self.rows), (0, self.columns))), self.batches[index])


class NegativeLabels(Padded):
    """Batches whose padding has the label -100 and the weight 1."""

    def __getitem__(self, index):
        inputs, labels, weights = super().__getitem__(index)
        return inputs, np.where(weights > 0, labels, -100), np.ones_like(weights)


def batches_of(model, max_tokens, columns=0, rows=0):
    return Padded(ka.data.language_batches(TEXTS, model, max_tokens, shuffle=False), columns, rows)


def by_hand(model):
    """The loss and the accuracy per token, from the logits of all texts in float64."""
    ((inputs, labels, _),) = batches_of(model, 10_000)
    real = inputs["padding_mask"]
    logits, labels = keras.ops.convert_to_numpy(compiled(model)(inputs)).astype("float64")[real], labels[real]
    costs = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]
    return costs.mean(), (logits.argmax(-1) == labels).mean()


BATCHINGS = {
    "one batch": (10_000, 0, 0),
    "one text per batch": (1, 0, 0),
    "few texts per batch": (50, 0, 0),
    "padding": (60, 5, 2),
}


@pytest.mark.parametrize("batching", BATCHINGS.values(), ids=BATCHINGS)
def test_the_loss_of_an_epoch_is_per_token(batching):
    model = language_model()
    loss, accuracy = by_hand(model)
    history = model.fit(batches_of(model, *batching), validation_data=batches_of(model, *batching), verbose=0).history
    np.testing.assert_allclose([history["loss"], history["val_loss"]], loss, rtol=1e-6)
    np.testing.assert_allclose([history["accuracy"], history["val_accuracy"]], accuracy, rtol=1e-6)


def test_evaluate_returns_the_loss_per_token():
    model = language_model()
    scores = ka.evaluate(model, TEXTS)
    loss, _ = by_hand(model)
    np.testing.assert_allclose([scores["loss"], scores["perplexity"]], [loss, np.exp(loss)], rtol=1e-6)


def updates(model, fit):
    """Return how much `fit` changes the weights."""
    before = model.get_weights()
    fit()
    return [after - weight for after, weight in zip(model.get_weights(), before, strict=True)]


@functools.cache
def update_by_keras():
    """The update of gradient descent for all texts in one batch, by Keras' own model and loss."""
    model = language_model()
    keras_model = keras.Model(model.input, model.output)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    keras_model.compile(keras.optimizers.SGD(1.0), loss)
    return updates(keras_model, lambda: keras_model.train_on_batch(*batches_of(model, 10_000)[0]))


def one_update(clip_norm=None):
    """The same update, clipped."""
    update = update_by_keras()
    norm = np.sqrt(sum(np.sum(np.square(part, dtype="float64")) for part in update))
    return [part * min(1, (clip_norm or np.inf) / norm) for part in update]


def assert_same_update(update, expected):
    largest = max(np.abs(part).max() for part in expected)
    for one, two in zip(update, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4 * largest)


@pytest.mark.parametrize(("max_tokens", "clip_norm"), [(1, None), (50, 0.1), (10_000, 0.1)])
def test_accumulated_gradients_are_those_of_one_batch(max_tokens, clip_norm):
    steps = len(batches_of(language_model(), max_tokens))
    accumulation = steps if steps > 1 else None
    options = {"global_clipnorm": clip_norm, "gradient_accumulation_steps": accumulation}
    model = language_model(keras.optimizers.SGD(1.0, **options))
    fit = lambda: model.fit(batches_of(model, max_tokens), verbose=0, shuffle=False)  # noqa: E731
    assert_same_update(updates(model, fit), one_update(clip_norm))


def test_negative_labels_do_not_count_in_accumulated_gradients():
    """The labels of padding are -100, and its weights are 1."""
    count = len(batches_of(language_model(), 50))
    model = language_model(keras.optimizers.SGD(1.0, gradient_accumulation_steps=count))
    batches = NegativeLabels(batches_of(model, 50), 0, 0)
    assert len({int((labels >= 0).sum()) for _, labels, _ in map(batches.__getitem__, range(count))}) > 1
    assert_same_update(updates(model, lambda: model.fit(batches, verbose=0, shuffle=False)), one_update())


def test_accumulated_gradients_of_several_replicas_are_an_error():
    optimizer, strategy = keras.optimizers.SGD(gradient_accumulation_steps=2), SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="does not accumulate gradients on several replicas"):
        token_loss._add_accumulated_weight(optimizer, strategy)


def test_each_output_has_its_own_weights():
    """The loss of a masked model with next-sentence prediction is the sum of two means, with factors."""
    documents = ["we eat bread\nthey drink\nwe see", "a b\nc d e f g h\ni j k"]
    model = ka.MaskedLM.from_examples(documents * 3, tokenizer_kind="characters", **SIZES)
    model.compile(keras.optimizers.SGD(0.0), loss_weights={"logits": 2.0, "next_sentence": 3.0}, run_eagerly=True)
    batches = ka.data.masked_batches(documents, model, 20, shuffle=False)
    values = model.evaluate(batches, verbose=0, return_dict=True)
    means = {}
    for name in ("logits", "next_sentence"):
        costs = []
        for inputs, labels, weights in (batches[i] for i in range(len(batches))):
            logits = keras.ops.convert_to_numpy(model(inputs)[name]).astype("float64")[weights[name] > 0]
            ids = labels[name][weights[name] > 0]
            costs += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids)), ids])
        means[name] = np.mean(costs)
        np.testing.assert_allclose(values[f"{name}_loss"], means[name], rtol=1e-6)
    np.testing.assert_allclose(values["loss"], 2 * means["logits"] + 3 * means["next_sentence"], rtol=1e-6)


def test_a_loss_of_keras_is_shown_as_keras_does():
    model = language_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    one = batches_of(model, 10_000)
    weights = one[0][2]
    loss = model.evaluate(one, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, by_hand(model)[0] * weights.sum() / weights.size, rtol=1e-5)


def test_loss_and_metrics_honour_the_mask_of_keras():
    layers, labels = keras.layers, np.array([[2, 3, 4, 0], [5, 0, 0, 0]])
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, layers.Dense(7)(layers.Embedding(7, 5, mask_zero=True)(ids)))
    metrics = [MaskedAccuracy(), Perplexity()]
    model.compile("sgd", ka.training.MaskedCrossEntropy(), metrics=metrics, run_eagerly=True)
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])
    logits = keras.ops.convert_to_numpy(model(x)).astype("float64")
    costs = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    real = x > 0
    values = model.evaluate(x, labels, verbose=0, return_dict=True)
    np.testing.assert_allclose(values["loss"], costs[real].mean(), rtol=1e-5)
    np.testing.assert_allclose(values["perplexity"], np.exp(costs[real].mean()), rtol=1e-5)
    np.testing.assert_allclose(values["accuracy"], (logits.argmax(-1) == labels)[real].mean(), rtol=1e-6)
    weighted = model.evaluate(x, labels, sample_weight=np.array([3.0, 2.0]), verbose=0, return_dict=True)
    weights = real * np.array([[3.0], [2.0]])
    np.testing.assert_allclose(weighted["loss"], (costs * weights).sum() / weights.sum(), rtol=1e-5)


def test_padding_without_a_finite_cost_does_not_count():
    logits = np.array([[[0.0, 0.0], [np.inf, np.nan]]], "float32")
    loss = ka.training.MaskedCrossEntropy()([[1, 0]], logits, sample_weight=[[1.0, 0.0]])
    np.testing.assert_allclose(float(loss), np.log(2), rtol=1e-6)
    assert float(ka.training.MaskedCrossEntropy()([[1]], logits[:, 1:], sample_weight=[[0.0]])) == 0.0


def two_replicas():
    """Return a context with two replicas; conftest.py divides the processor into two devices."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    import jax

    assert len(jax.devices()) == 2
    return keras.distribution.DataParallel(devices=jax.devices()).scope()


@pytest.mark.slow
def test_two_replicas_have_the_loss_and_the_update_of_one():
    expected = one_update(clip_norm=0.1)
    one = language_model().evaluate(ka.data.language_batches(TEXTS, language_model()), verbose=0)
    with two_replicas():
        model = language_model(keras.optimizers.SGD(1.0, global_clipnorm=0.1))
        model.run_eagerly = False
        for max_tokens in (50, 1):  # 3 or 2 rows, and 1 row, so that a replica has fewer rows or none
            two = model.evaluate(ka.data.language_batches(TEXTS, model, max_tokens), verbose=0)
            np.testing.assert_allclose(two, one, rtol=1e-6)
        batches = ka.data.language_batches(TEXTS, model)
        assert_same_update(updates(model, lambda: model.fit(batches, verbose=0)), expected)


def test_labels_can_be_booleans():
    """Both classes have the probability 1/2."""
    labels, logits = np.array([True, False]), np.zeros((2, 2), "float32")
    assert float(ka.training.MaskedCrossEntropy()(labels, logits)) == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("ignored", [-1, -100])
def test_negative_labels_do_not_count(ignored):
    """As `ignore_class=-1` of Keras, and the -100 of Hugging Face: the means are over the other two tokens."""
    logits = np.random.default_rng(3).normal(size=(1, 4, 7)).astype("float32")
    labels, log_probs = np.array([[5, 2, ignored, ignored]]), logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    cost = -(log_probs[0, 0, 5] + log_probs[0, 1, 2]) / 2
    assert float(ka.training.MaskedCrossEntropy()(labels, logits)) == pytest.approx(cost, rel=1e-6)
    perplexity, accuracy = Perplexity(), MaskedAccuracy()
    for metric in (perplexity, accuracy):
        metric.update_state(labels, logits)
    assert float(perplexity.result()) == pytest.approx(np.exp(cost), rel=1e-6)
    assert float(accuracy.result()) == (log_probs.argmax(-1) == labels).sum() / 2
