"""Every check for every model of `model_rows.py`."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from backends import arrays, compiled
from model_rows import MODELS, TRACED, WRITTEN, batch_for, randomize

import keras_attention as ka
from keras_attention import layers
from keras_attention.layers.decoding.cache import repeat_beams

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS = [row for row in MODELS if ON_TENSORFLOW or row.runs_on_jax]
once = pytest.mark.skipif(not ON_TENSORFLOW, reason="tested once, on TensorFlow")


def params(rows) -> list:
    """A parameter for each row; rows whose code other rows run are marked slow."""
    return [pytest.param(row, id=row.name, marks=() if row.is_unique else pytest.mark.slow) for row in rows]


models = pytest.mark.parametrize("row", params(ROWS))
WRITES = ("translate", "complete", "caption")
EXPORTED = [row for row in ROWS if row.is_unique and row.export in (WRITTEN, TRACED)]
decoders = pytest.mark.parametrize("row", params(row for row in ROWS if row.predict_method in WRITES))


@pytest.fixture
def model(row, tokenizer):
    """The model of a row with random weights; tests share it and do not change it."""
    return randomized(row, tokenizer)


@functools.cache
def randomized(row, tokenizer):
    model = row.make(tokenizer)
    randomize(model)
    return model


@functools.cache
def outputs_of_batch(row, tokenizer):
    """The outputs of the model of a row for one batch."""
    model = randomized(row, tokenizer)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, compiled(model)(batch_for(model)))


def predict(row, model, texts, **options) -> list[tuple]:
    """The strings that the prediction method returns."""
    return [strings(output) for output in getattr(model, row.predict_method)(texts, **options)]


def strings(output) -> tuple:
    """Return the strings of an output, without its numbers."""
    return tuple(getattr(output, name) for name in ("text", "label", "tags", "masked") if hasattr(output, name))


def search(row) -> dict:
    """The options of a prediction method that writes text, and of its export."""
    return {"strategy": ka.Greedy()} if row.predict_method in WRITES else {}


@functools.cache
def predictions(row, tokenizer) -> list[tuple]:
    """The predictions of the model of a row for all its texts in one batch."""
    return predict(row, randomized(row, tokenizer), row.texts, batch_size=3, **search(row))


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    yield
    for cached in (randomized, outputs_of_batch, predictions, first_update):
        cached.cache_clear()


def start_inputs(inputs: dict) -> dict:
    """The inputs that a decoder needs before its first token."""
    return {k: v[:, :0] if k in ("token_ids", "padding_mask") else v for k, v in inputs.items() if k != "target_ids"}


@decoders
def test_step_by_step_decoding_equals_the_whole_sequence(row, model, tokenizer):
    inputs, whole = batch_for(model), outputs_of_batch(row, tokenizer)
    key = "target_ids" if "target_ids" in inputs else "token_ids"
    length, step, steps = inputs[key].shape[1], compiled(model.step), []
    state = compiled(lambda inputs: model.start(inputs, length))(start_inputs(inputs))
    for t in range(length):
        logits, state, _ = step(inputs[key][:, t : t + 1], state)
        steps.append(keras.ops.convert_to_numpy(logits))
    stepped = np.concatenate(steps, 1)
    real = inputs["padding_mask"] if key == "token_ids" else np.ones_like(inputs[key], bool)
    assert whole.shape == (*inputs[key].shape, tokenizer.vocabulary_size())
    np.testing.assert_allclose(stepped[real], whole[real], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("row", params(row for row in ROWS if row.predict_method == "translate"))
def test_a_source_without_tokens_is_a_source_of_padding(model):
    first_logits = compiled(lambda source: model.step(np.array([[3], [5]]), model.start(source, 7))[0])
    empty, padding = (
        first_logits({"source_ids": np.ones((2, length), "int32"), "source_mask": np.zeros((2, length), bool)})
        for length in (0, 3)
    )
    np.testing.assert_allclose(*arrays([empty, padding]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_a_memory_without_vectors_is_a_memory_of_padding(hard):
    decoder = layers.RecurrentDecoder(7, 5, attention=layers.AdditiveAttention(3, hard=hard), attend_first=True)
    inputs, memory = (np.random.default_rng(3).normal(size=(2, n, 11)).astype("float32") for n in (5, 13))
    padding = decoder(inputs, memory, memory_mask=np.zeros((2, 13), bool))
    empty, scores = decoder(inputs, memory[:, :0], return_attention_scores=True)
    assert scores.shape == (2, 5, 0)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (empty, padding)), rtol=1e-5, atol=1e-6)


@once
@decoders
def test_a_step_changes_only_the_carry_and_accepts_a_beam_axis(model, tokenizer):
    inputs = batch_for(model)
    state = compiled(lambda inputs: model.start(inputs, 7))(start_inputs(inputs))
    state = repeat_beams(state, 5)
    logits, new, attention = compiled(model.step)(np.full((3, 5), 4), state)
    assert tuple(logits.shape) == (3, 5, tokenizer.vocabulary_size())
    assert all(tuple(x.shape[:2]) == (3, 5) for x in keras.tree.flatten(new["carry"]))
    for one, two in zip(arrays(state["constants"]), arrays(new["constants"]), strict=True):
        np.testing.assert_array_equal(one, two)
    if attention is not None:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(attention).sum(-1), 1.0, rtol=1e-5)


@once
@models
def test_outputs_do_not_depend_on_padding(row, model, tokenizer):
    inputs = batch_for(model)
    wider = {
        name: value if name == "images" else np.pad(value, [(0, 0)] + [(0, 3)] * (value.ndim - 1))
        for name, value in inputs.items()
    }
    before, after = arrays(outputs_of_batch(row, tokenizer))[0], arrays(model(wider))[0]
    if before.ndim == 3:
        after = after[:, : before.shape[1]]
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


@once
@pytest.mark.parametrize("row", params(row for row in ROWS if row.predict_method == "tag"))
def test_the_tags_of_short_words_do_not_depend_on_the_batch(model):
    def logits(*texts):
        encoded = model.input_reader.ids([text.split() for text in texts])
        return keras.ops.convert_to_numpy(model(model.word_arrays(encoded, multiple=1)))[0, : len(encoded[0].ids)]

    for text in ("a", "eat", "we a"):
        expected = logits(text, "the girl drinks milk", "b")
        np.testing.assert_allclose(logits(text), expected, rtol=2e-5, atol=2e-5)


# The search of the other rows runs the same code, and their steps are tested above.
predicted = [row for row in ROWS if row in EXPORTED or row.predict_method not in WRITES]


@pytest.mark.slow
@once
@pytest.mark.parametrize("row", params(predicted))
def test_predictions_are_the_same_in_any_batch(row, model, tokenizer):
    alone = [predict(row, model, [text], **search(row))[0] for text in row.texts]
    assert alone == predictions(row, tokenizer)


@pytest.fixture
def loaded(model, tmp_path):
    """The model of a row, saved and loaded."""
    model.save(tmp_path / "m.keras")
    return ka.load(tmp_path / "m.keras")


@pytest.mark.slow
@once
@pytest.mark.parametrize("row", params(row for row in ROWS if row not in EXPORTED))
def test_a_saved_model_returns_the_same(row, model, tokenizer, loaded):
    assert loaded.config == model.config
    for one, two in zip(arrays(outputs_of_batch(row, tokenizer)), arrays(loaded(batch_for(model))), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
@once
@pytest.mark.parametrize("row", params(row for row in EXPORTED if row.export == WRITTEN))
def test_a_saved_model_and_its_export_predict_the_same(row, model, tokenizer, loaded, tmp_path):
    assert loaded.config == model.config
    path = loaded.export(tmp_path / "m", attention_maps="attention_maps" in row.signatures, **search(row))
    assert ka.check_export(path).problems == ()
    served = ka.load(path)
    assert predict(row, served, row.texts) == predictions(row, tokenizer)
    if row.signatures:  # here, because writing an export takes long
        assert_same_inspection(row, model, served)


@pytest.mark.slow
@once
@pytest.mark.parametrize("row", params(row for row in EXPORTED if row.export == TRACED))
def test_a_saved_model_and_its_graph_predict_the_same(row, model, tokenizer, loaded):
    from graph_export import InGraph

    assert loaded.config == model.config
    assert predict(row, InGraph(loaded, **search(row)), row.texts) == predictions(row, tokenizer)


def assert_same_inspection(row, model, served) -> None:
    """The signatures of an export return the embeddings, scores and attention that Python returns."""
    signatures, texts = served.loaded.signatures, ["we eat bread", "we"]
    assert set(signatures) == {"serving_default", *row.signatures}
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    if "embed" in row.signatures:
        close(signatures["embed"](text=np.array(texts))["embedding"], ka.embed(model, texts))
    if "score" in row.signatures:
        close(served.score(texts), ka.score(model, texts))
    if "attention_maps" in row.signatures:
        scores = signatures["attention_maps"](text=np.array(texts))["attention"]
        close(scores[0], ka.attention_maps(model, texts)[0].attention)


@models
def test_model_is_a_functional_keras_model(model, capsys):
    model.summary()
    assert f"Total params: {sum(w.size for w in model.get_weights()):,}" in capsys.readouterr().out
    assert all(
        layer.built for layer in model._flatten_layers()
    )  # Keras runs a model with an unbuilt layer twice on JAX
    if ON_TENSORFLOW:
        part, inputs = keras.Model(model.inputs, model.get_layer(index=-1).output), batch_for(model)
        assert {len(x) for x in arrays(part(inputs))} == {len(next(iter(inputs.values())))}


@dataclasses.dataclass(frozen=True)
class Update:
    """What one update -r g of a model changed."""

    unchanged: list[str]  # the paths of weights that it did not change
    decrease: float  # of the loss
    predicted: float  # the decrease to first order, r |g|^2


@functools.cache
def first_update(row, tokenizer) -> Update:
    """Update a new model once, and compute its loss before and after it with the same dropout."""
    keras.utils.set_random_seed(23)
    model, optimizer = compiled_with_sgd(row, tokenizer)
    inputs, labels = batch_for(model), random_labels(outputs_of_batch(row, tokenizer))
    seeds = [(v, keras.ops.copy(v)) for v in model.variables if "seed" in v.path]
    statistics = [v for v in model.non_trainable_weights if not v.path.endswith(("character_classes", "characters"))]
    statistics_before = arrays(statistics)
    before = loss_of_update(model, inputs, labels)
    steps = arrays(optimizer.momentums)
    unchanged = [w.path for w, step in zip(model.trainable_weights, steps, strict=True) if not step.any()]
    pairs = zip(statistics, statistics_before, arrays(statistics), strict=True)
    unchanged += [v.path for v, *values in pairs if np.array_equal(*values)]
    for variable, seed in seeds:  # the same dropout again
        variable.assign(seed)
    if ON_TENSORFLOW:
        after = float(model.compute_loss(inputs, labels, model(inputs, training=True)))
    else:  # the update is compiled
        after = loss_of_update(model, inputs, labels)
    squares = sum((step.astype("float64") ** 2).sum() for step in steps)
    return Update(unchanged, before - after, squares / float(optimizer.learning_rate))


def compiled_with_sgd(row, tokenizer) -> tuple:
    """A new model and its optimizer, whose momentums after the first update are -r g."""
    model = row.make(tokenizer)
    rate = 1e-4 if row.is_hard else 1e-3  # a small step does not change which positions are sampled
    optimizer = keras.optimizers.SGD(rate, momentum=0.5)
    losses = keras.tree.map_structure(lambda _: ka.training.MaskedCrossEntropy(), outputs_of_batch(row, tokenizer))
    # TensorFlow takes longer to trace an update than to run two; other tests trace training.
    model.compile(optimizer, losses, run_eagerly=ON_TENSORFLOW, jit_compile=not ON_TENSORFLOW)
    return model, optimizer


def random_labels(outputs):
    """Draw a label for each position of the logits."""
    rng = np.random.default_rng(5)
    return keras.tree.map_structure(lambda logits: rng.integers(0, logits.shape[-1], logits.shape[:-1]), outputs)


def loss_of_update(model, inputs, labels) -> float:
    """Update a model, and return the loss before the update."""
    return float(np.ravel(model.train_on_batch(inputs, labels))[0])


@models
def test_one_update_changes_every_weight(row, tokenizer):
    assert first_update(row, tokenizer).unchanged == []


@pytest.mark.parametrize("row", params(row for row in ROWS if not row.is_hard))
def test_one_update_decreases_the_loss_as_the_gradient_predicts(row, tokenizer):
    update = first_update(row, tokenizer)
    np.testing.assert_allclose(update.decrease, update.predicted, rtol=0.1)


@once
@pytest.mark.parametrize("row", params(row for row in ROWS if row.is_hard))
def test_one_update_of_hard_attention_decreases_the_loss(row, tokenizer):
    """The gradient is an estimate from one sample, so the size of the decrease is not known."""
    assert first_update(row, tokenizer).decrease > 0
