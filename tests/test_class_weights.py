"""Weights of classes and examples: in `fit`, in batches and on the command line; rows of padding."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.data.batches import pad_rows
from keras_attention.data.batching.example_weights import WeightedBatches, _class_id

EXAMPLES = [("a good film", "pos"), ("a bad film", "neg"), ("fine", "pos"), ("great one", "pos"), ("lovely now", "pos")]
IS_NEGATIVE = np.array([0, 1, 0, 0, 0])


@pytest.fixture(scope="module")
def classifier():
    tokenizer = ka.data.train_tokenizer([text for text, _ in EXAMPLES], "characters")
    sizes = {"units": 4, "embedding_dim": 3, "dropout": 0.0}
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("neg", "pos"), **sizes)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


WEIGHTS = {
    "by name": ({"class_weight": {"neg": 5.0}}, np.where(IS_NEGATIVE, 5, 1)),
    "by id": ({"class_weight": {0: 5.0, 1: 2.0}}, np.where(IS_NEGATIVE, 5, 2)),
    "balanced": ({"class_weight": "balanced"}, np.where(IS_NEGATIVE, 5 / 2, 5 / 8)),
    "examples": ({"sample_weight": [1, 2, 3, 5, 7]}, np.array([1, 2, 3, 5, 7])),
    "both": ({"sample_weight": [1, 2, 3, 5, 7], "class_weight": {"neg": 3}}, np.array([1, 6, 3, 5, 7])),
}


@pytest.mark.parametrize(("options", "weights"), WEIGHTS.values(), ids=WEIGHTS)
def test_the_weights_of_a_batch(options, weights, classifier):
    batches = ka.data.classification_batches(EXAMPLES, classifier, max_tokens=20)
    weighted = WeightedBatches(batches, labels=classifier.config.labels, **options)
    for index, rows in enumerate(batches.batches):
        np.testing.assert_allclose(weighted[index][2], weights[rows], rtol=1e-6)


@pytest.mark.parametrize("raw", [True, False])
def test_the_loss_is_weighted(raw, classifier):
    costs = []
    for example in EXAMPLES:
        inputs, labels, _ = ka.data.classification_batches([example], classifier)[0]
        logits = keras.ops.convert_to_numpy(classifier(inputs))[0].astype("float64")
        costs.append(np.log(np.exp(logits).sum()) - logits[labels[0]])
    options, weights = WEIGHTS["both"]
    data = EXAMPLES if raw else ka.data.classification_batches(EXAMPLES, classifier, max_tokens=31)
    history = classifier.fit(data, verbose=0, **options).history
    np.testing.assert_allclose(history["loss"][0], (np.array(costs) * weights).sum() / weights.sum(), rtol=2e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": {"good": 2.0}}, "the class 'good'; expected one of neg, pos"),
        ({"class_weight": {2: 2.0}}, "the class 2; expected one of neg, pos"),
        ({"class_weight": {1.0: 2.0}}, "the class 1.0; expected one of neg, pos"),
        ({"class_weight": {True: 2.0}}, "the class True; expected one of neg, pos"),
        ({"class_weight": {"neg": -1.0}}, "the weight -1.0 of 'neg'; expected a number, 0 or more"),
        ({"class_weight": {"neg": float("nan")}}, "the weight nan of 'neg'"),
        ({"class_weight": {"neg": "2"}}, "the weight '2' of 'neg'"),
        ({"sample_weight": [1, 1, float("nan"), 1, -1]}, "the weight nan of example 2; expected numbers from 0"),
        ({"sample_weight": [1, 1, 1, 1, -1]}, "the weight -1.0 of example 4; expected numbers from 0"),
        ({"sample_weight": [1.0, 2.0]}, r"has the shape \(2,\); expected \(5,\)"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(options, message, classifier):
    with pytest.raises(ValueError, match=message):
        classifier.fit(EXAMPLES, verbose=0, **options)


def test_balanced_classes_of_tags_have_equal_sums():
    sentences = [[("we", "P"), ("eat", "V"), ("we", "P")], [], [("bread", "N"), ("we", "P")]]
    tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
    tagger = ka.TextTagger.from_preset("rnn_tagger", tokenizer=tokenizer, labels=("N", "P", "V", "X"))
    batches = WeightedBatches(ka.data.tagging_batches(sentences, tagger, 20), "balanced", tagger.config.labels)
    sums = np.zeros(4)
    for _, labels, weights in (batches[i] for i in range(len(batches))):
        np.add.at(sums, labels, weights)
    np.testing.assert_allclose(sums, [5 / 3, 5 / 3, 5 / 3, 0], rtol=1e-6)
    weighted = WeightedBatches(ka.data.tagging_batches(sentences, tagger, 10_000, False), sample_weight=[2, 7, 3])
    assert sorted(set(weighted[0][2].ravel().tolist())) == [0.0, 2.0, 3.0]


def test_windows_of_a_text_have_the_weight_of_the_text():
    texts = ["abcdefgh", "", "xy"]
    tokenizer = ka.data.train_tokenizer(texts, "characters")
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, max_length=5)
    batches = WeightedBatches(ka.data.language_batches(texts, model, 10_000, False), sample_weight=[2, 7, 3])
    _, _, weights = batches[0]
    assert sorted(weights.sum(1).tolist()) == [8.0, 9.0, 10.0]  # windows of 5 and 4 tokens, and a text of 3
    packed = ka.data.language_batches(texts, model, pack=True)
    with pytest.raises(ValueError, match="made from several texts"):
        WeightedBatches(packed, sample_weight=[2, 7, 3])
    with pytest.raises(ValueError, match="has no classes"):
        WeightedBatches(packed, class_weight="balanced")


def test_rows_of_padding_keep_the_captions_of_an_image_together():
    batch = {"images": np.ones((3, 2)), "target_ids": np.ones((6, 5))}, np.ones((6, 5)), np.ones((6, 5))
    inputs, _, weights = pad_rows(batch, 4)
    assert {name: len(array) for name, array in inputs.items()} == {"images": 4, "target_ids": 8}
    assert weights.sum(1).tolist() == [5.0] * 6 + [0.0] * 2
    assert pad_rows(batch, 3) is batch


@pytest.mark.parametrize(("label", "index"), [("1", 0), (0, 0), (np.int64(4), 4)])
def test_a_class_is_its_name_or_its_id(label, index):
    assert _class_id(label, ("1", "2", "a", "b", "c")) == index


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (1, "the integer 1, which is the id of the class '2', but there is also .* '1'; .* such as '1'"),
        (5, "the integer 5, but there is also a class with the name '5'"),
    ],
)
def test_a_number_that_is_the_name_of_another_class_is_an_error(label, message):
    assert _class_id(2, ("0", "1", "2")) == 2  # id and name are those of one class
    with pytest.raises(ValueError, match=message):
        _class_id(label, ("1", "2", "3", "4", "5"))
