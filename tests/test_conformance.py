"""Every layer and every model of `conformance.py`, through every check."""

import functools

import keras
import numpy as np
import pytest
from conformance import LAYERS, MODELS, batch_for, compiled

import keras_attention as ka

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS = [row for row in MODELS if row.own_code or ON_TENSORFLOW]
layers = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
MASKED = [row for row in LAYERS if "mask" in row.arguments(np.random.default_rng(3))]


def params(rows) -> list:
    """A parameter for each row; those of code that other rows run are slow."""
    return [pytest.param(row, id=row.name, marks=() if row.own_code else pytest.mark.slow) for row in rows]


models = pytest.mark.parametrize("row", params(ROWS))
WRITES = ("translate", "complete", "caption")
decoders = pytest.mark.parametrize("row", params(row for row in ROWS if row.verb in WRITES))


def arrays(structure) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(structure) if x is not None]


def randomize(model, scale: float = 0.5) -> None:
    chance = np.random.default_rng(11)
    drawn = [w + chance.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()]
    variances = ["moving_variance" in weight.path for weight in model.weights]
    model.set_weights([np.abs(w) if positive else w for w, positive in zip(drawn, variances, strict=True)])


def make(row):
    """The same weights each time: what a hard attention chooses may else hang on a rounding."""
    keras.utils.set_random_seed(23)
    return row.make()


@functools.cache
def called(row) -> tuple:
    """A row's layer, its arguments, and its outputs, which several tests share."""
    layer, arguments = make(row), row.arguments(np.random.default_rng(3))
    return layer, arguments, arrays(layer(**arguments))


@pytest.fixture
def model(row, tokenizer):
    """The model of a row with random weights; tests share it and leave it as it is."""
    return randomized(row, tokenizer)


@functools.cache
def randomized(row, tokenizer):
    model = row.make(tokenizer)
    randomize(model)
    return model


@layers
def test_layer_has_its_shapes_and_is_the_same_after_its_config(row):
    layer, arguments, before = called(row)
    assert tuple(a.shape for a in before) == row.shapes
    again = type(layer).from_config(layer.get_config())
    again(**arguments)
    again.set_weights(layer.get_weights())
    for one, two in zip(before, arrays(again(**arguments)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("row", MASKED, ids=lambda row: row.name)
def test_layer_ignores_what_is_masked(row):
    layer, arguments, before = called(row)
    mask = arguments["mask"]
    key = next(name for name in ("memory", "inputs", "tokens", "query") if name in arguments)
    given = arguments[key]
    real = mask.reshape(*mask.shape, *[1] * (given.ndim - mask.ndim))
    changed = {**arguments, key: np.where(real, given, 7 if given.dtype.kind == "i" else 31.0).astype(given.dtype)}
    for one, two in zip(before, arrays(layer(**changed)), strict=True):
        self_attention = mask.ndim == 2 and one.shape[-2] == mask.shape[1]
        if self_attention:  # what padding itself sees is of no account
            real = mask.reshape(len(mask), *[1] * (one.ndim - 3), mask.shape[1], 1)
            one, two = np.where(real, one, 0.0), np.where(real, two, 0.0)
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@layers
def test_layer_works_in_half_precision(row):
    before, arguments, expected = called(row)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make(row)
        layer(**arguments)
        layer.set_weights(before.get_weights())
        answers = arrays(layer(**arguments))
    finally:
        keras.config.set_dtype_policy("float32")
    for one, two in zip(expected, answers, strict=True):
        np.testing.assert_allclose(one, two.astype("float32"), atol=0.1)


def beginning(inputs: dict) -> dict:
    """What a decoder is given before its first token."""
    return {k: v[:, :0] if k in ("token_ids", "padding_mask") else v for k, v in inputs.items() if k != "target_ids"}


@decoders
def test_stepping_equals_the_whole_sequence(model, tokenizer):
    inputs = batch_for(model)
    whole = keras.ops.convert_to_numpy(compiled(model)(inputs))
    key = "target_ids" if "target_ids" in inputs else "token_ids"
    length, step, steps = inputs[key].shape[1], compiled(model.step), []
    state = compiled(lambda inputs: model.start(inputs, length))(beginning(inputs))
    for t in range(length):
        logits, state, _ = step(inputs[key][:, t : t + 1], state)
        steps.append(keras.ops.convert_to_numpy(logits))
    stepped = np.concatenate(steps, 1)
    real = inputs["padding_mask"] if key == "token_ids" else np.ones_like(inputs[key], bool)
    assert whole.shape == (*inputs[key].shape, tokenizer.vocabulary_size())
    np.testing.assert_allclose(stepped[real], whole[real], rtol=2e-5, atol=2e-5)


@decoders
def test_only_the_carry_changes_and_beams_are_an_axis(model, tokenizer):
    inputs = batch_for(model)
    state = compiled(lambda inputs: model.start(inputs, 7))(beginning(inputs))
    wide = keras.tree.map_structure(lambda x: keras.ops.repeat(x, 5, axis=1), state["carry"])
    state = {"constants": state["constants"], "carry": wide}
    logits, new, attention = compiled(model.step)(np.full((3, 5), 4), state)
    assert tuple(logits.shape) == (3, 5, tokenizer.vocabulary_size())
    assert all(tuple(x.shape[:2]) == (3, 5) for x in keras.tree.flatten(new["carry"]))
    for one, two in zip(arrays(state["constants"]), arrays(new["constants"]), strict=True):
        np.testing.assert_array_equal(one, two)
    if attention is not None:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(attention).sum(-1), 1.0, rtol=1e-5)


@models
def test_padding_changes_nothing(model):
    inputs = batch_for(model)
    wider = {
        name: value if name == "images" else np.pad(value, [(0, 0)] + [(0, 3)] * (value.ndim - 1))
        for name, value in inputs.items()
    }
    before, after = (arrays(compiled(model)(x))[0] for x in (inputs, wider))
    if before.ndim == 3:
        after = after[:, : before.shape[1]]
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


@models
def test_answers_depend_neither_on_the_batch_nor_on_being_saved_or_exported(row, model, tmp_path):
    """What was saved, loaded again and exported answers as the model did, to all texts at once or to one alone."""
    options = {"strategy": ka.Greedy()} if row.verb in WRITES else {}
    together = [strings(a) for a in getattr(model, row.verb)(row.texts, batch_size=3, **options)]
    alone = row.texts if ON_TENSORFLOW else row.texts[:1]  # JAX compiles each shape anew
    assert [strings(getattr(model, row.verb)([text], **options)[0]) for text in alone] == together[: len(alone)]
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.config == model.config
    if ON_TENSORFLOW and row.own_code:
        path = again.export(tmp_path / "m", **options)
        assert ka.check_export(path).problems == ()
        assert [strings(a) for a in getattr(ka.load(path), row.verb)(row.texts)] == together
    else:  # no export, or one of code that other rows run
        inputs = batch_for(model)
        for one, two in zip(arrays(compiled(model)(inputs)), arrays(compiled(again)(inputs)), strict=True):
            np.testing.assert_array_equal(one, two)


@models
def test_model_is_a_functional_keras_model(model, capsys):
    model.summary()
    assert f"Total params: {sum(w.size for w in model.get_weights()):,}" in capsys.readouterr().out
    assert all(layer.built for layer in model._flatten_layers())  # Keras runs a model twice on JAX where one is not
    if ON_TENSORFLOW:
        part, inputs = keras.Model(model.inputs, model.get_layer(index=-1).output), batch_for(model)
        assert {len(x) for x in arrays(part(inputs))} == {len(next(iter(inputs.values())))}


@models
def test_model_learns(row, tokenizer):
    """One batch, a few updates: the loss falls, and every weight has moved."""
    keras.utils.set_random_seed(23)
    model = row.make(tokenizer)
    inputs = batch_for(model)
    chance, answers = np.random.default_rng(5), compiled(model)(inputs)
    draw = lambda logits: chance.integers(0, logits.shape[-1], logits.shape[:-1])  # noqa: E731
    labels = keras.tree.map_structure(draw, answers)
    losses = keras.tree.map_structure(lambda _: ka.training.MaskedCrossEntropy(), answers)
    # Without recurrence TensorFlow takes longer to trace a step than to run it, which tests of training do.
    eagerly = ON_TENSORFLOW and hasattr(model.config, "num_heads")
    model.compile(keras.optimizers.Adam(0.03), losses, run_eagerly=eagerly, jit_compile=not ON_TENSORFLOW)
    model.optimizer.build(model.trainable_variables)
    before = model.get_weights()
    costs = [float(np.ravel(model.train_on_batch(inputs, labels))[0]) for _ in range(12)]
    assert costs[-1] < 0.9 * costs[0]
    moved = [not np.allclose(a, b, atol=1e-7) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved), [w.path for w, m in zip(model.weights, moved, strict=True) if not m]


def strings(answer) -> tuple:
    """What an answer says, without its numbers."""
    return tuple(getattr(answer, name) for name in ("text", "label", "tags", "masked") if hasattr(answer, name))
