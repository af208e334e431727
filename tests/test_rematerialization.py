"""Rematerialized blocks are computed twice and have the same gradients."""

import keras
import numpy as np
import pytest
from small_classifier import EXAMPLES, SIZES

import keras_attention as ka

pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_resuming.py traces


LABELS, TEXTS = {"labels": ("drink", "food")}, [text for text, _ in EXAMPLES] * 3


@pytest.mark.parametrize(
    ("kind", "preset", "options", "examples"),
    [
        (ka.TextClassifier, "bert_base", LABELS, EXAMPLES),
        (ka.TextClassifier, "xlnet_base", LABELS, EXAMPLES),
        (ka.PermutationLM, "xlnet_base", {}, TEXTS),
    ],
)
def test_rematerialized_blocks_have_the_same_gradients(kind, preset, options, examples, tokenizer, monkeypatch):
    runs = []
    feed_forward = ka.layers.TransformerBlock.feed_forward
    monkeypatch.setattr(
        ka.layers.TransformerBlock,
        "feed_forward",
        lambda *arguments: runs.append(arguments) or feed_forward(*arguments),
    )

    def weights(change) -> list[np.ndarray]:
        keras.utils.set_random_seed(5)
        model = kind.from_preset(preset, tokenizer=tokenizer, max_length=11, **options, **SIZES)
        change(model)
        model.compile(keras.optimizers.SGD(0.1), ka.training.MaskedCrossEntropy())
        runs.clear()
        model.train_on_batch(*model.make_batches(examples)[0])
        return model.get_weights()

    expected, once = weights(lambda model: None), len(runs)
    for one, two in zip(expected, weights(ka.training.rematerialize), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert len(runs) == {"tensorflow": 2, "jax": 1}[keras.backend.backend()] * once  # JAX traces them only once


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX drops the same units again")
def test_rematerializing_with_dropout_is_an_error_on_tensorflow(tokenizer):
    model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **{**SIZES, "dropout": 0.1})
    with pytest.raises(ValueError, match="drops different units"):
        ka.training.rematerialize(model)
