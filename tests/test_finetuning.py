"""Fine-tuning: the weights that `freeze`, LoRA and int8 quantization change."""

import gc

import keras
import numpy as np
import pytest
from small_classifier import EXAMPLES, SIZES, classifier

import keras_attention as ka
from keras_attention.training.checkpoints import load_arrays

__all__ = ["classifier"]  # a fixture
pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_resuming.py traces


def changed(model, steps: int = 3, **plan) -> set[str]:
    """Return the paths of the weights that a few updates change."""
    ka.training.compile_model(model, ka.training.TrainingPlan(learning_rate=0.05, warmup_steps=1, **plan), steps)
    before = {w.path: np.array(w) for w in model.weights}
    batch = ka.data.classification_batches(EXAMPLES, model)[0]
    for _ in range(steps):
        model.train_on_batch(*batch)
    return {w.path for w in model.weights if np.abs(np.array(w) - before[w.path]).max() > 0}


def test_freeze_changes_only_the_pooler_and_the_head(classifier):
    ka.training.freeze(classifier)
    assert changed(classifier) == {w.path for w in [*classifier.pooler.weights, *classifier.head.weights]}


def test_the_character_encoder_is_frozen_with_the_encoder(tokenizer):
    characters = ka.data.train_tokenizer(["we eat bread"], "characters")
    model = ka.TextTagger.from_preset(
        "rnn_tagger", tokenizer=tokenizer, character_tokenizer=characters, labels=("a", "b"), units=6, embedding_dim=5
    )
    ka.training.freeze(model)
    assert {w.path for w in model.trainable_variables} == {w.path for w in model.head.weights}


def test_lora_changes_only_its_matrices_biases_and_the_head(classifier, tmp_path):
    count = ka.training.enable_lora(classifier, 3)
    assert count == 2 * 6  # per block: query, key, value and output projections, and two feed-forward layers
    paths = changed(classifier)
    assert all(any(part in path for part in ("lora", "bias", "pooler", "logits")) for path in paths)
    assert sum("lora" in path for path in paths) == 2 * count
    texts = [text for text, _ in EXAMPLES]
    expected = [output.score for output in classifier.classify(texts)]
    classifier.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose([a.score for a in again.classify(texts)], expected, atol=1e-5)


@pytest.mark.slow
def test_lora_trains_after_loading_and_after_averaging_checkpoints(classifier, tmp_path):
    """A file contains W + A B. Reading it does not add A B twice, and A B stays trainable."""
    dense = classifier.encoder.blocks[0].hidden
    before = np.array(dense.kernel)
    ka.training.enable_lora(classifier, 3)
    batches = ka.data.classification_batches(EXAMPLES, classifier)
    plan = ka.training.TrainingPlan(
        epochs=3, average_checkpoints=2, warmup_steps=1, learning_rate=0.02, monitor="val_average", mode="max"
    )
    rising = iter((1.0, 2.0, 3.0, 4.0))
    ka.train(classifier, batches, tmp_path, plan, extra_metrics=lambda _: {"val_average": next(rising)})
    files = [load_arrays(file)[0] for file in sorted(tmp_path.glob("weights-*.npz"))]
    mean = {w.path: (a + b) / 2 for w, a, b in zip(classifier.weights, *files, strict=True)}
    expected = before + mean[dense.lora_kernel_a.path] @ mean[dense.lora_kernel_b.path]
    np.testing.assert_allclose(np.array(dense.kernel), expected, atol=1e-6)
    assert np.abs(expected - before).max() > 1e-3
    assert changed(classifier) >= {dense.lora_kernel_a.path, dense.lora_kernel_b.path}


def test_prediction_methods_use_the_weights_that_lora_and_quantization_change(classifier):
    texts = [text for text, _ in EXAMPLES]
    before = [a.score for a in classifier.classify(texts)]
    ka.training.enable_lora(classifier, 3)
    changed(classifier)
    after = [a.score for a in classifier.classify(texts)]
    assert np.abs(np.subtract(after, before)).max() > 1e-3
    with pytest.raises(ValueError, match="LoRA"):
        ka.weights.to_huggingface(classifier, "nowhere")


@pytest.mark.slow
def test_int8_outputs_are_close_and_are_saved(tokenizer, tmp_path):
    keras.utils.set_random_seed(5)
    gc.freeze()  # Keras collects garbage for each quantized layer; freeze hides the objects of other tests
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES, max_length=31)
    ids = np.array([[2, 7, 9, 11, 5]])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    before = np.array(lm(inputs))
    lm.quantize("int8")
    after = np.array(lm(inputs))
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    lm.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(np.array(again(inputs)), after, atol=1e-6)
    expected, (output,) = (
        lm.complete(["we"], ka.Greedy(max_new_tokens=2)),
        again.complete(["we"], ka.Greedy(max_new_tokens=2)),
    )
    assert output.text == expected[0].text
    with pytest.raises(ValueError, match="`filters` cannot be saved"):
        lm.quantize("int8", filters=lambda layer: False)
    with pytest.raises(ValueError, match="whose rounding would remove"):
        ka.training.enable_lora(lm, 2)
    gc.unfreeze()


def test_a_model_with_lora_cannot_be_quantized(classifier):
    ka.training.enable_lora(classifier, 2)
    with pytest.raises(ValueError, match=r"Save and load it first.* Then quantize the loaded model"):
        classifier.quantize("int8")


def test_invalid_fine_tuning_is_an_error(tokenizer, classifier):
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES)
    with pytest.raises(ValueError, match="no layers after an encoder"):
        ka.training.freeze(lm)
    with pytest.raises(ValueError, match="width cannot change"):
        ka.TextTagger.from_encoder(classifier, labels=("a", "b"), width=7)
    with pytest.raises(ValueError, match="`rank` is 0"):
        ka.training.enable_lora(classifier, 0)
    with pytest.raises(ValueError, match="`num_segments` is 2"):
        ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, num_segments=2, **SIZES)
    with pytest.raises(ValueError, match="each a string"):
        ka.TextTagger.from_encoder(classifier, labels=(0, 1))
