"""Tasks as Keras models: texts in `fit`, `evaluate` and `predict`, copies, files, processes and threads."""

import copy
import math
import os
import pathlib
import pickle
import re
import threading

import keras
import numpy as np
import pytest
from dtype_policies import dtype_policy

import keras_attention as ka
from keras_attention.generation.constraints import constrained_candidates
from keras_attention.keras_support import backend, processes
from keras_attention.layers.image_networks import make_network
from keras_attention.models.task import Task
from keras_attention.prediction.run_batches import compiled_function

SMALL = {"units": 14, "embedding_dim": 11, "dropout": 0.0}
TEXTS, LABELS = ["we eat", "they drink", "we drink water"], ["yes", "no", "yes"]


@pytest.fixture
def classifier(tokenizer):
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), **SMALL)
    model.compile(run_eagerly=True)
    return model


def test_texts_with_labels_are_like_pairs(classifier):
    expected = classifier.evaluate(list(zip(TEXTS, LABELS, strict=True)), verbose=0)
    for x, y in ((tuple(TEXTS), np.array(LABELS)), (np.array(TEXTS, object), LABELS)):
        np.testing.assert_array_equal(classifier.evaluate(x, y, verbose=0), expected)
    outputs = zip(classifier.predict(TEXTS), LABELS, strict=True)
    costs = [-math.log(output.score if output.label == label else 1 - output.score) for output, label in outputs]
    np.testing.assert_allclose(expected[0], sum(costs) / 3, rtol=1e-5)
    classifier.fit(TEXTS, LABELS, validation_data=(TEXTS, LABELS), verbose=0)
    assert classifier.evaluate(TEXTS, LABELS, verbose=0)[0] < expected[0]


def test_predict_is_the_prediction_method_for_texts_and_the_network_for_arrays(classifier):
    (output,) = classifier.predict(np.array(["we eat"]), batch_size=7)
    assert output.label in ("no", "yes")
    inputs, _, _ = classifier.make_batches([("we eat", "no")], shuffle=False)[0]
    logits = classifier.predict(inputs, verbose=0)
    np.testing.assert_allclose(np.exp(logits[0]).max() / np.exp(logits[0]).sum(), output.score, rtol=1e-5)


def test_wrong_texts_and_labels_are_errors(classifier, tokenizer):
    with pytest.raises(ValueError, match="`x` has 3 texts and `y` has 1"):
        classifier.fit(TEXTS, ["yes"])
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    model.compile()
    with pytest.raises(TypeError, match="a CausalLM expects whole examples in `x`"):
        model.fit(TEXTS, LABELS)


def test_copies_have_the_prediction_methods_and_the_same_weights_or_new_ones(classifier):
    (expected,) = classifier.classify(["we eat"])
    for same in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert same.classify(["we eat"])[0].score == pytest.approx(expected.score, rel=1e-6)
    new = keras.models.clone_model(classifier)
    assert type(new) is ka.TextClassifier
    assert new.compiled
    assert new.config == classifier.config
    assert new.classify(["we eat"])[0].score != pytest.approx(expected.score, rel=1e-6)
    plain = keras.models.clone_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)]))
    assert plain.output_shape == (None, 5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow traces a step")
def test_a_step_of_a_new_model_is_traced_once(tokenizer, monkeypatch):
    model, traces, step = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL), [], ka.CausalLM.train_step
    monkeypatch.setattr(ka.CausalLM, "train_step", lambda *arguments: traces.append(1) or step(*arguments))
    model.compile()
    model.fit(["we eat"], epochs=3, verbose=0)
    assert len(traces) == 1
    moments = [variable.numpy() for variable in model.optimizer.variables]
    model.make_train_function()
    assert all(map(np.array_equal, (variable.numpy() for variable in model.optimizer.variables), moments))


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.SparseCategoricalCrossentropy,
    ],
)
def test_a_loss_of_probabilities_is_an_error(classifier, loss):
    with pytest.raises(
        ValueError, match=r"expects probabilities, but a TextClassifier returns logits.*from_logits=True"
    ):
        classifier.compile("adam", loss)


def test_metrics_do_not_count_padding(tokenizer):
    """The labels of the shorter text are padded: accuracy is the fraction of correct tokens, computed with NumPy."""
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    batches = model.make_batches(["we eat bread", "we"], shuffle=False, pack=False)
    (inputs, labels, weights), count = batches[0], len(batches)
    correct = np.argmax(keras.ops.convert_to_numpy(model(inputs)), -1) == labels
    assert (count, 0 in weights) == (1, True)
    shown = model.evaluate(batches, verbose=0, return_dict=True)
    assert shown["accuracy"] == pytest.approx((correct * weights).sum() / weights.sum())
    with pytest.raises(ValueError, match="`metrics` and `weighted_metrics` are the same"):
        model.compile(metrics=["accuracy"], weighted_metrics=["accuracy"])
    model.compile(metrics=[], weighted_metrics=["accuracy"])
    assert model.get_compile_config()["weighted_metrics"] == ["accuracy"]
    model.compile()
    with pytest.raises(ValueError, match=r"ka.data.split_examples\(examples, 0.5\)"):
        model.fit(["we eat", "bread"], validation_split=0.5)


@pytest.mark.usefixtures("untraced")
def test_callbacks_averaged_weights_and_subclasses_of_keras(tokenizer, tmp_path):
    """The file of the best epoch is a whole task; the rate is far too high, so that later epochs are worse."""

    class Mine(ka.CausalLM):
        pass

    model, path = Mine.from_preset("char_rnn", tokenizer=tokenizer, **SMALL), tmp_path / "best.keras"
    model.compile(keras.optimizers.AdamW(30.0, use_ema=True))
    best = keras.callbacks.ModelCheckpoint(str(path), monitor="loss", save_best_only=True)
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    losses = model.fit(["we eat bread"], epochs=4, verbose=0, callbacks=[best, stop]).history["loss"]
    assert losses[-1] > min(losses)
    loaded = keras.saving.load_model(path, custom_objects={"Mine": Mine})
    assert type(loaded) is Mine
    prompt, strategy = ["we"], ka.Greedy(max_new_tokens=5)
    assert loaded.complete(prompt, strategy)[0].score == pytest.approx(
        model.complete(prompt, strategy)[0].score, rel=1e-5
    )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a data set of TensorFlow")
@pytest.mark.usefixtures("untraced")
def test_batches_may_come_from_a_data_set_of_tensorflow(tokenizer):
    import tensorflow as tf

    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    model.compile()
    batches = model.make_batches(["we eat bread", "we drink"], shuffle=False)
    data = tf.data.Dataset.from_tensors(batches[0])
    assert model.evaluate(data, verbose=0) == pytest.approx(model.evaluate(batches, verbose=0), rel=1e-6)
    assert model.fit(data, verbose=0).history["loss"][0] > 0


def test_a_second_fit_keeps_the_state_of_an_optimizer_that_scales_the_loss(tokenizer):
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **SMALL)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), run_eagerly=True)
    for steps in (1, 2):
        model.fit(["we eat"], verbose=0)
        assert int(model.optimizer.step_counter) == steps


@pytest.mark.parametrize("name", ["m.h5", "m", "m.weights.h5"])
def test_another_file_format_is_an_error_that_says_how_to_save(classifier, tmp_path, name):
    with pytest.raises(ValueError, match=r"does not end in \.keras.*Use save\('.*\.keras'\)"):
        classifier.save(tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_the_members_of_a_task_are_those_of_the_documentation():
    text = (pathlib.Path(__file__).parent.parent / "docs" / "getting-started.md").read_text()
    cells = re.findall(r"^\| (`[^|]+`) \|", text.split("## Tasks are Keras models")[1], re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    made_in_init = {"config", "quantization", "compiled_functions"}
    x = keras.Input((3,))
    members = {*dir(Task), *Task.__annotations__, *made_in_init} - set(dir(keras.Model(x, x)))
    assert {name for name in members if not name.startswith("_")} == documented


def test_threads_share_a_model(classifier):
    expected = [output.score for output in classifier.classify(TEXTS)]
    compiled_function(classifier, type(classifier)._compute).programs.clear()  # so that the threads compile
    outputs = {}

    def classify(index):
        outputs[index] = [output.score for output in classifier.classify(TEXTS)]

    threads = [threading.Thread(target=classify, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(5):
        np.testing.assert_allclose(outputs[index], expected, rtol=1e-6)


def test_a_forked_process_gets_an_error_that_says_what_to_do(classifier, monkeypatch):
    monkeypatch.setattr(processes, "_processes", [os.getpid() + 1])  # as in a child of the process with that id
    for call in (classifier.classify, classifier.predict, lambda texts: classifier.evaluate(texts, LABELS)):
        with pytest.raises(RuntimeError, match=r"forked after a model was made.* start method 'spawn'"):
            call(TEXTS)


def test_the_torch_backend_is_refused():
    with pytest.raises(ImportError, match="does not support the backend 'torch' of Keras; expected tensorflow or jax"):
        backend.check_backend("torch")


@pytest.fixture(params=["float16", "float64"])
def floatx(request):
    """Keras' global floatx, which is float32 again after the test."""
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx("float32")


def test_the_floatx_of_keras_json_is_replaced(floatx):
    with dtype_policy(floatx):
        with pytest.warns(UserWarning, match=f"replaces floatx '{floatx}'"):
            backend.use_float32()
        assert (keras.config.floatx(), keras.config.dtype_policy().name) == ("float32", "float32")


@pytest.fixture
def _channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.usefixtures("_channels_first")
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("small_cnn", (8, 8, 96), [1 / 127.5 - 1, 2 / 127.5 - 1, 3 / 127.5 - 1]),
        ("vgg16", (1, 1, 512), [3 - 103.939, 2 - 116.779, 1 - 123.68]),  # blue, green, red, minus ImageNet's means
    ],
)
def test_image_encoders_are_the_same_with_channels_first(name, shape, expected):
    preprocess, network = make_network(name, 32)
    assert network.output_shape[1:] == shape
    assert {layer.data_format for layer in network.layers if hasattr(layer, "data_format")} == {"channels_last"}
    pixel = np.array([[[[1.0, 2.0, 3.0]]]], "float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(preprocess(pixel))[0, 0, 0], expected, rtol=1e-5)
    assert keras.config.image_data_format() == "channels_first"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles each shape, of lengths rounded to 8")
def test_an_epoch_of_30_shapes_traces_the_update_once(tokenizer, monkeypatch):
    sizes = {"width": 6, "num_heads": 2, "num_layers": 1, "dropout": 0.0, "attention_dropout": 0.0}
    model, traced, train_step = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes), [], Task.train_step
    monkeypatch.setattr(ka.CausalLM, "train_step", lambda *a: traced.append(1) or train_step(*a))

    def collate(indices, extra):
        shape = (1, int(indices[0]) + 2 + extra)
        inputs = {"token_ids": np.zeros(shape, "int32"), "padding_mask": np.ones(shape, bool)}
        return inputs, np.ones(shape, "int32"), np.ones(shape, "float32")

    batches = ka.data.batches.LengthBatches(np.arange(30) + 2, collate, max_tokens=1)
    model.compile()
    model.fit(batches, verbose=0, epochs=2)
    assert (len(batches), len(traced)) == (30, 1)


@pytest.mark.usefixtures("floatx")
def test_a_search_does_not_depend_on_a_later_floatx():
    arguments = np.zeros((1, 1, 2)), np.zeros((1, 1, 1), "int32"), np.zeros((1, 1), "int32")
    strategy = ka.Greedy(min_new_tokens=1)
    log_probs, tokens = constrained_candidates(*arguments, strategy, 1, np.array([0]), np.array([[0]]))
    assert keras.backend.standardize_dtype(log_probs.dtype) == "float32"
    assert np.array(tokens).tolist() == [[[0]]]
    np.testing.assert_allclose(np.array(log_probs), [[[math.log(0.5)]]], rtol=1e-6)
