"""Fine-tuning: which weights change, and by how much."""

import dataclasses
import gc
import json

import keras
import numpy as np
import pytest
from conftest import gradient

import keras_attention as ka
from keras_attention.defaults import learns_from_pairs
from keras_attention.training.checkpoints import load_arrays
from keras_attention.training.new_head import PairLoss, _logistic_regression, fit_encoder, fit_head
from keras_attention.weights import from_huggingface, to_huggingface

pytestmark = pytest.mark.usefixtures("untraced")  # a few updates per test; test_training.py traces
EXAMPLES = [("we eat bread", "food"), ("they drink water", "drink"), ("we drink milk", "drink"), ("eat apple", "food")]
SIZES = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11, "dropout": 0.0, "attention_dropout": 0.0}


PLAN = ka.training.TrainingPlan(epochs=2, warmup_steps=1)


@pytest.fixture
def classifier(tokenizer):
    keras.utils.set_random_seed(7)
    return ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("drink", "food"), **SIZES)


def changed(model, steps: int = 3, **plan) -> set[str]:
    """Return the paths of the weights that a few updates change."""
    ka.training.compile_model(model, ka.training.TrainingPlan(learning_rate=0.05, warmup_steps=1, **plan), steps)
    before = {w.path: np.array(w) for w in model.weights}
    batch = ka.data.classification_batches(EXAMPLES, model)[0]
    for _ in range(steps):
        model.train_on_batch(*batch)
    return {w.path for w in model.weights if np.abs(np.array(w) - before[w.path]).max() > 0}


def test_from_encoder_copies_the_encoder_under_a_new_head(tokenizer):
    masked = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **SIZES)
    model = ka.TextTagger.from_encoder(masked, labels=("a", "b"))
    for name in ("embedding", "encoder"):
        pairs = zip(getattr(masked, name).get_weights(), getattr(model, name).get_weights(), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    both = ka.TextClassifier.from_encoder(masked, labels=("a", "b"))
    assert np.array_equal(both.pooler.get_weights()[0], masked.pooler.get_weights()[0])
    translator = ka.Translator.from_preset(
        "transformer_tiny", source_tokenizer=tokenizer, target_tokenizer=tokenizer, **SIZES
    )
    with pytest.raises(TypeError, match="no Transformer encoder"):
        ka.TextClassifier.from_encoder(translator, labels=("a", "b"))
    with pytest.raises(TypeError, match="A CausalLM has no encoder of one text"):
        ka.CausalLM.from_encoder(masked)
    ka.training.enable_lora(masked, 2)
    with pytest.raises(ValueError, match=r"has LoRA matrices; expected float weights only\. Save and load"):
        ka.TextTagger.from_encoder(masked, labels=("a", "b"))


def test_from_model_copies_weights_into_other_sizes(tokenizer, classifier):
    ids = np.array([[2, 7, 9, 11, 5]])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES, max_length=11)
    longer = ka.CausalLM.from_model(lm, max_length=13, dropout=0.5)
    assert longer.config == dataclasses.replace(lm.config, max_length=13, dropout=0.5)
    np.testing.assert_allclose(np.array(longer(inputs)), np.array(lm(inputs)), atol=1e-6)
    renamed = ka.TextClassifier.from_model(classifier, labels=("yes", "no"))
    names = {"drink": "yes", "food": "no"}
    assert renamed.classify(["we eat"])[0].label == names[classifier.classify(["we eat"])[0].label]
    with pytest.raises(
        ValueError,
        match=r"max_length cannot change: .* would have the shape \(7, 14\); expected \(11, 14\), or more rows",
    ):
        ka.CausalLM.from_model(lm, max_length=7)
    with pytest.raises(ValueError, match=r"num_layers cannot change: .* would be lost"):
        ka.CausalLM.from_model(lm, num_layers=1)
    with pytest.raises(
        ValueError, match=r"labels cannot change: .* would have the shape \(14, 3\); expected \(14, 2\)"
    ):
        ka.TextClassifier.from_model(classifier, labels=("a", "b", "c"))
    with pytest.raises(ValueError, match="CausalLM has no heads"):
        ka.CausalLM.from_model(lm, heads=7)
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


def test_the_head_is_fitted_by_logistic_regression(classifier):
    """Compare the difference of both rows of the head with Newton's method for two classes."""
    inputs, labels, _ = ka.data.classification_batches(EXAMPLES, classifier, shuffle=False)[0]
    vectors = np.asarray(keras.Model(classifier.input, classifier.head.input)(inputs))
    encoder = classifier.encoder.get_weights()
    fit_head(classifier, EXAMPLES)
    x = np.c_[vectors / np.linalg.norm(vectors, axis=1).mean(), np.ones(len(vectors))]
    penalty, expected = np.diag([0.25] * 14 + [0.0]), np.zeros(15)  # |W|^2 / 4 = |difference|^2 / 8
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ expected))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        expected -= np.linalg.solve(hessian, x.T @ (p - labels) + penalty @ expected)
    kernel, bias = classifier.head.get_weights()
    scale = np.linalg.norm(vectors, axis=1).mean()
    np.testing.assert_allclose((kernel[:, 1] - kernel[:, 0]) * scale, expected[:-1], atol=1e-3)
    np.testing.assert_allclose(bias[1] - bias[0], expected[-1], atol=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(encoder, classifier.encoder.get_weights(), strict=True))
    with pytest.raises(ValueError, match=r"A CausalLM has no labels"):
        fit_head(ka.CausalLM.from_preset("char_rnn", vocabulary_size=7, units=3), EXAMPLES)


def test_the_head_of_zero_vectors_has_the_frequencies_of_the_labels():
    """softmax(b) = (2/3, 1/3), so that the biases differ by log 2."""
    kernel, bias = _logistic_regression(np.zeros((3, 5), "float32"), np.array([0, 0, 1]), 2)
    assert not kernel.any()
    assert bias[0] - bias[1] == pytest.approx(np.log(2), rel=1e-4)


def test_only_a_classifier_with_examples_learns_from_pairs(classifier):
    assert not learns_from_pairs(ka.TextClassifier.from_encoder(classifier, labels=("a", "b"), pooling="mean"), [])
    assert not learns_from_pairs(classifier, [[], [("we", "a")]])


PAIR_LOSSES = (  # labels, vectors, weights, loss
    ([0, 0, 1], [[3, 4], [6, 8], [1, 0]], None, 0.5 * 0.0 + 0.5 * 0.36),
    ([[0], [0], [1]], [[3, 4], [5, 0], [0, 2]], None, 0.5 * 0.4**2 + 0.5 * (0.8**2 + 0.0) / 2),
    ([0, 0, 1], [[3, 4], [5, 0], [0, 2]], [1.0, 1.0, 0.0], 0.5 * 0.4**2),
    ([0, 1, 2], [[3, 4], [5, 0], [0, 2]], None, 0.5 * (0.6**2 + 0.8**2 + 0.0) / 3),
    ([7], [[3, 4]], None, 0.0),
)


@pytest.mark.parametrize(("labels", "vectors", "weights", "expected"), PAIR_LOSSES)
def test_pairs_with_equal_labels_should_have_the_cosine_1_and_others_0(labels, vectors, weights, expected):
    arrays = np.array(labels), np.array(vectors, "float32"), None if weights is None else np.array(weights)
    assert float(PairLoss()(*arrays)) == pytest.approx(expected)


def test_a_zero_vector_has_a_gradient_of_zero():
    vectors = np.array([[0.0, 0.0], [3.0, 4.0], [5.0, 0.0]], "float32")
    loss = PairLoss()
    for weights in (None, np.array([0.0, 1.0, 1.0], "float32")):
        gradients = gradient(lambda x, weights=weights: loss(np.array([0, 0, 1]), x, weights), vectors)
        assert np.isfinite(gradients).all()
        assert not gradients[0].any()


def test_the_encoder_is_fitted_to_pairs_and_the_head_is_not(classifier):
    head, encoder = classifier.head.get_weights(), classifier.encoder.get_weights()
    losses = fit_encoder(classifier, EXAMPLES, PLAN)
    assert losses[1] < losses[0]
    assert all(np.array_equal(a, b) for a, b in zip(head, classifier.head.get_weights(), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(encoder, classifier.encoder.get_weights(), strict=True))
    with pytest.raises(ValueError, match=r"A CausalLM has no labels of whole texts"):
        fit_encoder(ka.CausalLM.from_preset("char_rnn", vocabulary_size=7, units=3), EXAMPLES, PLAN)


@pytest.mark.parametrize("pooling", ["mean", "start"])
def test_a_new_head_is_fitted_and_a_sentence_encoder_learns_first_and_is_frozen(classifier, pooling):
    model = ka.TextClassifier.from_encoder(classifier, labels=("drink", "food"), pooling=pooling)
    before = model.encoder.get_weights()
    plan = ka.training.fit_new_head(model, EXAMPLES, learning_rate=0.02)
    assert [output.label for output in model.classify([text for text, _ in EXAMPLES])] == [b for _, b in EXAMPLES]
    learned = not all(np.array_equal(a, b) for a, b in zip(before, model.encoder.get_weights(), strict=True))
    learns = pooling == "mean"
    assert (learned, not model.encoder.trainable_weights, plan.epochs == 3) == (learns, learns, learns)
    assert plan.learning_rate == 0.02


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


def test_layer_decay_multiplies_the_rate_from_block_to_block():
    optimizer = ka.training.LayerwiseAdam(1e-3, layer_decay=0.5, num_layers=3)
    assert ka.training.LayerwiseAdam.from_config(optimizer.get_config()).factor("embedding/embeddings") == 0.125
    paths = ["embedding/embeddings", "encoder/inputs/norm/gamma", "encoder/block_0/hidden/kernel",
             "encoder/block_2/hidden/kernel", "pooler/kernel"]  # fmt: skip
    assert [optimizer.factor(path) for path in paths] == [0.125, 0.125, 0.25, 1.0, 1.0]
    with pytest.raises(ValueError, match="layer_decay"):
        ka.training.LayerwiseAdam(1e-3, layer_decay=0.0)


def test_layer_decay_changes_the_first_block_less(classifier):
    """Adam's first step equals the learning rate, if the gradient is not nearly 0."""
    ka.training.compile_model(
        classifier, ka.training.TrainingPlan(learning_rate=0.01, warmup_steps=1, layer_decay=0.1), 9
    )
    before = [np.array(block.hidden.kernel) for block in classifier.encoder.blocks]
    batch = ka.data.classification_batches(EXAMPLES, classifier)[0]
    classifier.train_on_batch(*batch)
    steps = [
        np.abs(np.array(b.hidden.kernel) - a).max() for a, b in zip(before, classifier.encoder.blocks, strict=True)
    ]
    np.testing.assert_allclose(steps[0] / steps[1], 0.1, rtol=0.01)


def test_weight_decay_uses_the_rate_of_the_layer():
    optimizer = ka.training.LayerwiseAdam(0.1, layer_decay=0.1, num_layers=4, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    paths = ("block_0/kernel", "block_3/kernel", "block_3/bias")
    variables = [keras.Variable(np.ones(3), name=path.replace("/", "_")) for path in paths]
    for variable, path in zip(variables, paths, strict=True):
        variable._path = path
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(3)] * 3)
    values = [float(variable[0]) for variable in variables]
    np.testing.assert_allclose(values, [1 - 0.1 * 0.1**3 * 0.5, 1 - 0.1 * 0.5, 1.0], rtol=1e-6)


def test_accumulated_gradients_equal_those_of_the_whole_batch(tokenizer):
    pairs = [EXAMPLES[:2], EXAMPLES[2:]]

    def kernel(gradient_accumulation: int) -> np.ndarray:
        keras.utils.set_random_seed(5)
        model = ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("drink", "food"), **SIZES)
        model.compile(
            keras.optimizers.SGD(
                0.1, gradient_accumulation_steps=gradient_accumulation if gradient_accumulation > 1 else None
            ),
            ka.training.MaskedCrossEntropy(),
        )
        for part in pairs if gradient_accumulation > 1 else [EXAMPLES]:
            model.train_on_batch(*ka.data.classification_batches(part, model)[0])
        return np.array(model.head.kernel)

    np.testing.assert_allclose(kernel(2), kernel(1), atol=1e-6)


def test_the_schedule_counts_updates_not_batches(tokenizer):
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=3, embedding_dim=2, cell="simple")
    plan = ka.training.TrainingPlan(
        epochs=2, learning_rate=1e-3, warmup_steps=2, gradient_accumulation=4, schedule="linear"
    )
    ka.training.compile_model(model, plan, 16)
    batch = ka.data.language_batches(["we"], model)[0]
    rates = []
    for _ in range(2 * 16):
        rates.append(float(model.optimizer.learning_rate))
        model.train_on_batch(*batch)
    assert rates.index(max(rates)) == 2 * 4 - 1
    assert all(rate > 0 for rate in rates)


def test_prediction_methods_use_the_weights_that_lora_and_quantization_change(classifier):
    texts = [text for text, _ in EXAMPLES]
    before = [a.score for a in classifier.classify(texts)]
    ka.training.enable_lora(classifier, 3)
    changed(classifier)
    after = [a.score for a in classifier.classify(texts)]
    assert np.abs(np.subtract(after, before)).max() > 1e-3
    with pytest.raises(ValueError, match="LoRA"):
        ka.weights.to_huggingface(classifier, "nowhere")


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


def test_rematerializing_with_dropout_is_an_error_on_tensorflow(tokenizer):
    model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **{**SIZES, "dropout": 0.1})
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="drops different units"):
            ka.training.rematerialize(model)
