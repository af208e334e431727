"""Weights are copied from one model into another: `from_encoder`, `from_model`, and a subclass of a task."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from small_classifier import SIZES, classifier

import keras_attention as ka
from keras_attention.weights import from_huggingface, to_huggingface

__all__ = ["classifier"]  # a fixture
pytestmark = pytest.mark.usefixtures("untraced")
IDS = np.array([[2, 7, 9, 11, 5]])
INPUTS = {"token_ids": IDS, "padding_mask": np.ones_like(IDS, bool)}
AB = ("a", "b")


@pytest.fixture(scope="module")
def masked_lm(tokenizer):
    return ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **SIZES)


@pytest.fixture(scope="module")
def lm(tokenizer):
    return ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES, max_length=11)


def test_from_encoder_copies_all_layers_but_the_head(masked_lm):
    tagger = ka.TextTagger.from_encoder(masked_lm, labels=AB)
    classifier = ka.TextClassifier.from_encoder(masked_lm, labels=AB)
    for model, names in (tagger, ["embedding", "encoder"]), (classifier, ["embedding", "encoder", "pooler"]):
        for name in names:
            weights = [getattr(part, name).get_weights() for part in (masked_lm, model)]
            assert all(map(np.array_equal, *weights)), name


def test_from_encoder_needs_the_encoder_of_one_text_with_float_weights(tokenizer):
    sides = dict.fromkeys(("source_tokenizer", "target_tokenizer"), tokenizer)
    with pytest.raises(TypeError, match="no Transformer encoder"):
        ka.TextClassifier.from_encoder(ka.Translator.from_preset("transformer_tiny", **sides, **SIZES), labels=AB)
    masked_lm = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **SIZES)
    with pytest.raises(TypeError, match="A CausalLM has no encoder of one text"):
        ka.CausalLM.from_encoder(masked_lm)
    ka.training.enable_lora(masked_lm, 2)
    with pytest.raises(ValueError, match=r"has LoRA matrices; expected float weights only\. Save and load"):
        ka.TextTagger.from_encoder(masked_lm, labels=AB)


def test_a_model_with_more_positions_computes_the_same(lm):
    longer = ka.CausalLM.from_model(lm, max_length=13, dropout=0.5)
    assert longer.config == dataclasses.replace(lm.config, max_length=13, dropout=0.5)
    np.testing.assert_allclose(np.array(longer(INPUTS)), np.array(lm(INPUTS)), atol=1e-6)


def test_labels_can_be_renamed(classifier):
    renamed = ka.TextClassifier.from_model(classifier, labels=("yes", "no"))
    names = {"drink": "yes", "food": "no"}
    assert renamed.classify(["we eat"])[0].label == names[classifier.classify(["we eat"])[0].label]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"max_length": 7},
            r"max_length cannot change: .* would have the shape \(7, 14\); expected \(11, 14\), or more rows",
        ),
        ({"num_layers": 1}, "num_layers cannot change: .* would be lost"),
        ({"heads": 7}, "CausalLM has no heads"),
    ],
)
def test_no_weight_is_lost(lm, change, message):
    with pytest.raises(ValueError, match=message):
        ka.CausalLM.from_model(lm, **change)


def test_a_model_of_other_labels_or_another_task_is_an_error(classifier):
    message = r"labels cannot change: .* would have the shape \(14, 3\); expected \(14, 2\)"
    with pytest.raises(ValueError, match=message):
        ka.TextClassifier.from_model(classifier, labels=("a", "b", "c"))
    with pytest.raises(TypeError, match="`other` is a TextClassifier; expected a CausalLM"):
        ka.CausalLM.from_model(classifier)


@keras.saving.register_keras_serializable("tests")
class LoudClassifier(ka.TextClassifier):
    """A user's subclass."""

    def shout(self, text: str) -> str:
        return self.classify([text])[0].label.upper()


def test_a_subclass_has_its_parents_task(tokenizer, tmp_path):
    model = LoudClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("drink", "food"), **SIZES)
    new_head = LoudClassifier.from_encoder(model, labels=("a", "b"))
    new_head.save(tmp_path / "loud.keras")
    again = keras.saving.load_model(tmp_path / "loud.keras")
    assert isinstance(again, LoudClassifier)
    assert again.shout("we eat") in ("A", "B")
    to_huggingface(again, tmp_path / "loud")
    assert json.loads((tmp_path / "loud/config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    same = from_huggingface(tmp_path / "loud", tokenizer=tokenizer)
    assert type(same) is ka.TextClassifier
    assert same.classify(["we eat"])[0].label.upper() == again.shout("we eat")
