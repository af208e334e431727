"""Rematerialized blocks are computed twice and have the same gradients."""

import keras
import numpy as np
import pytest
from small_classifier import EXAMPLES, SIZES

import keras_attention as ka

pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_resuming.py traces


@pytest.mark.parametrize(
    ("kind", "preset"),
    [(ka.TextClassifier, "bert_base"), (ka.TextClassifier, "xlnet_base"), (ka.PermutationLM, "xlnet_base")],
)
def test_rematerialized_blocks_have_the_same_gradients(kind, preset, tokenizer, monkeypatch):
    runs = []
    feed_forward = ka.layers.TransformerBlock.feed_forward
    monkeypatch.setattr(
        ka.layers.TransformerBlock,
        "feed_forward",
        lambda *arguments: runs.append(arguments) or feed_forward(*arguments),
    )

    def weights(again: bool) -> list[np.ndarray]:
        keras.utils.set_random_seed(5)
        labels = {"labels": ("drink", "food")} if kind is ka.TextClassifier else {}
        model = kind.from_preset(preset, tokenizer=tokenizer, max_length=11, **labels, **SIZES)
        if again:
            ka.training.rematerialize(model)
        model.compile(keras.optimizers.SGD(0.1), ka.training.MaskedCrossEntropy())
        if kind is ka.TextClassifier:
            batches = ka.data.classification_batches(EXAMPLES, model)
        else:
            batches = ka.data.permutation_batches([text for text, _ in EXAMPLES] * 3, model)
        runs.clear()
        model.train_on_batch(*batches[0])
        return model.get_weights()

    expected, once = weights(False), len(runs)
    for one, two in zip(expected, weights(True), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    if keras.backend.backend() == "tensorflow":  # JAX traces them only once
        assert len(runs) == 2 * once


def test_rematerializing_with_dropout_is_an_error_on_tensorflow(tokenizer):
    model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **{**SIZES, "dropout": 0.1})
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="drops different units"):
            ka.training.rematerialize(model)
