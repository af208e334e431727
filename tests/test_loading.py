"""`load`, the description of an export, and training on raw examples."""

import json
import math

import keras
import numpy as np
import pytest
from conftest import PAIRS

import keras_attention as ka
from keras_attention.keras_support import keras_patches

SMALL = {"units": 14, "embedding_dim": 11, "dropout": 0.0}


@pytest.fixture(scope="module")
def classifier(tokenizer):
    return ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), **SMALL)


def assert_same_labels(model, loaded):
    for one, two in zip(model.classify(["we eat", ""]), loaded.classify(["we eat", ""]), strict=True):
        assert (one.label, one.pieces) == (two.label, two.pieces)
        assert math.isclose(one.score, two.score, rel_tol=1e-5)


def test_a_file_loads_as_the_model(classifier, tmp_path):
    classifier.save(tmp_path / "m.keras")
    loaded = ka.load(tmp_path / "m.keras")
    assert isinstance(loaded, ka.TextClassifier)
    assert_same_labels(classifier, loaded)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")
def test_an_export_loads_as_a_model_with_the_same_prediction_method(classifier, tmp_path):
    path = classifier.export(tmp_path / "m")
    metadata = json.loads((path / "assets.extra" / "keras_attention.json").read_text("utf-8"))
    assert metadata == {
        "format": 1, "library": "keras_attention", "version": ka.__version__, "task": "TextClassifier",
        "predict_method": "classify", "max_length": classifier.config.max_length, "labels": ["no", "yes"],
        "precision": "float32",
    }  # fmt: skip
    loaded = ka.load(path)
    assert (loaded.task, loaded.predict_method) == ("TextClassifier", "classify")
    assert_same_labels(classifier, loaded)
    (path / "assets.extra" / "keras_attention.json").unlink()
    with pytest.raises(ValueError, match=r"assets\.extra/keras_attention\.json is missing"):
        ka.load(path)


def test_weights_are_drawn_only_if_no_file_has_them(classifier):
    config = classifier.get_config()
    with keras_patches.reading_weights():
        empty = ka.TextClassifier.from_config(config)
    assert empty.count_params() == classifier.count_params()
    assert not any(weight.any() for weight in empty.get_weights())
    drawn = ka.TextClassifier.from_config(config)
    assert any(weight.any() for weight in drawn.get_weights() if weight.ndim > 1)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")
def test_an_export_records_its_strategy(tokenizer, tmp_path):
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    served = ka.load(model.export(tmp_path / "lm", strategy=ka.BeamSearch(num_beams=3, max_new_tokens=5), examples=()))
    assert served.metadata["strategy"]["name"] == "BeamSearch"
    assert served.metadata["strategy"]["num_beams"] == 3
    (one,), (two,) = (m.complete(["we"], **o) for m, o in (
        (model, {"strategy": ka.BeamSearch(num_beams=3, max_new_tokens=5)}), (served, {})))  # fmt: skip
    assert (one.text, one.pieces) == (two.text, two.pieces)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: path / "none.keras", FileNotFoundError, "There is no model"),
        (lambda path: path, ValueError, "contains no SavedModel"),
        (lambda path: write(path / "a.keras", b"text"), ValueError, "is not a model"),
        (lambda path: write(path / "model.keras", b"").parent, ValueError, "directory of a training run"),
        (lambda path: write(path / "3" / "saved_model.pb", b"").parent.parent, ValueError, "Its versions are .*3"),
    ],
)
def test_a_path_without_a_model_is_an_error(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        ka.load(make(tmp_path))


def write(path, content: bytes):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


EXAMPLES = {
    "classifier": [("we eat", "yes"), ("they drink", "no"), ("we drink water", "yes")],
    "lm": ["we eat bread", "they drink water"],
    "translator": PAIRS[:3],
}


def make(kind: str, tokenizer):
    if kind == "translator":
        tokenizers = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
        return ka.Translator.from_preset("rnn_attention", **tokenizers, **SMALL)
    if kind == "lm":
        return ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    return ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), **SMALL)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("kind", ["classifier", "lm", pytest.param("translator", marks=pytest.mark.slow)])
def test_fit_accepts_raw_examples(kind, tokenizer):
    model, examples = make(kind, tokenizer), EXAMPLES[kind]
    model.compile()
    history = model.fit(examples, validation_data=tuple(examples), epochs=3, verbose=0).history
    assert sorted(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert history["loss"][2] < history["loss"][0]


def test_a_batch_size_for_raw_examples_is_an_error(tokenizer):
    model = make("classifier", tokenizer)
    model.compile()
    with pytest.raises(ValueError, match="`batch_size` does not apply to raw examples"):
        model.fit(EXAMPLES["classifier"], batch_size=2)


def test_compile_with_a_custom_loss_adds_no_metrics(tokenizer, tmp_path):
    """A loaded model has the same loss."""
    model = make("classifier", tokenizer)
    model.compile("sgd", ka.training.MaskedCrossEntropy(), jit_compile=False)
    batch = model.make_batches(EXAMPLES["classifier"])[0]
    assert np.ndim(model.train_on_batch(*batch)) == 0
    model.save(tmp_path / "m.keras")
    assert isinstance(keras.saving.load_model(tmp_path / "m.keras").loss, ka.training.MaskedCrossEntropy)
