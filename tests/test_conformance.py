"""Every layer and every model of `conformance.py`, through every check."""

import keras
import numpy as np
import pytest
from conformance import LAYERS, MODELS, batch_for

import keras_attention as ka

layers = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
models = pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)
decoders = pytest.mark.parametrize(
    "row", [row for row in MODELS if row.verb in ("translate", "complete")], ids=lambda row: row.name
)


def arrays(structure) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(structure) if x is not None]


def randomize(model, scale: float = 0.5) -> None:
    chance = np.random.default_rng(11)
    model.set_weights([w + chance.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()])


@layers
def test_layer_shapes(row):
    arguments = row.arguments(np.random.default_rng(3))
    assert tuple(a.shape for a in arrays(row.make()(**arguments))) == row.shapes


@layers
def test_layer_is_the_same_after_its_config(row):
    arguments = row.arguments(np.random.default_rng(3))
    layer = row.make()
    before = arrays(layer(**arguments))
    again = type(layer).from_config(layer.get_config())
    again(**arguments)
    again.set_weights(layer.get_weights())
    for one, two in zip(before, arrays(again(**arguments)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@layers
def test_layer_ignores_what_is_masked(row):
    arguments = row.arguments(np.random.default_rng(3))
    if "mask" not in arguments:
        return
    layer, mask = row.make(), arguments["mask"]
    before = arrays(layer(**arguments))
    key = "memory" if "memory" in arguments else "inputs"
    changed = {**arguments, key: np.where(mask[:, :, None], arguments[key], 31.0).astype("float32")}
    for one, two in zip(before, arrays(layer(**changed)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@layers
def test_layer_works_in_half_precision(row):
    arguments = row.arguments(np.random.default_rng(3))
    before = row.make()
    expected = arrays(before(**arguments))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = row.make()
        layer(**arguments)
        layer.set_weights(before.get_weights())
        answers = layer(**arguments)
    finally:
        keras.config.set_dtype_policy("float32")
    for one, two in zip(expected, arrays(answers), strict=True):
        np.testing.assert_allclose(one, two.astype("float32"), atol=0.1)


@decoders
def test_stepping_equals_the_whole_sequence(row, tokenizer):
    model = row.make(tokenizer)
    randomize(model)
    inputs = batch_for(model)
    whole = keras.ops.convert_to_numpy(model(inputs))
    key = "target_ids" if "target_ids" in inputs else "token_ids"
    state, steps = model.start({k: v for k, v in inputs.items() if k != "target_ids"}), []
    for t in range(inputs[key].shape[1]):
        logits, state, _ = model.step(inputs[key][:, t : t + 1], state)
        steps.append(keras.ops.convert_to_numpy(logits))
    stepped = np.concatenate(steps, 1)
    real = inputs["padding_mask"] if key == "token_ids" else np.ones_like(inputs[key], bool)
    assert whole.shape == (*inputs[key].shape, tokenizer.vocabulary_size())
    np.testing.assert_allclose(stepped[real], whole[real], rtol=2e-5, atol=2e-5)


@decoders
def test_only_the_carry_changes_and_beams_are_an_axis(row, tokenizer):
    model = row.make(tokenizer)
    inputs = batch_for(model)
    state = model.start({k: v for k, v in inputs.items() if k != "target_ids"})
    wide = keras.tree.map_structure(lambda x: keras.ops.repeat(x, 5, axis=1), state["carry"])
    state = {"constants": state["constants"], "carry": wide}
    logits, new, attention = model.step(np.full((3, 5), 4), state)
    assert tuple(logits.shape) == (3, 5, tokenizer.vocabulary_size())
    assert all(tuple(x.shape[:2]) == (3, 5) for x in keras.tree.flatten(new["carry"]))
    for one, two in zip(arrays(state["constants"]), arrays(new["constants"]), strict=True):
        np.testing.assert_array_equal(one, two)
    if attention is not None:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(attention).sum(-1), 1.0, rtol=1e-5)


@models
def test_padding_changes_nothing(row, tokenizer):
    model = row.make(tokenizer)
    randomize(model)
    inputs = batch_for(model)
    wider = {name: np.pad(value, ((0, 0), (0, 3))) for name, value in inputs.items()}
    before, after = (keras.ops.convert_to_numpy(model(x)) for x in (inputs, wider))
    if before.ndim == 3:
        after = after[:, : before.shape[1]]
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


@models
def test_keras_file_answers_the_same_strings(row, tokenizer, tmp_path):
    model = row.make(tokenizer)
    randomize(model)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    one, two = (getattr(m, row.verb)(row.texts) for m in (model, again))
    assert [strings(a) for a in one] == [strings(a) for a in two]
    assert again.config == model.config


@models
def test_answers_do_not_depend_on_the_batch(row, tokenizer):
    model = row.make(tokenizer)
    randomize(model)
    verb = getattr(model, row.verb)
    options = {"strategy": ka.Greedy()} if row.verb in ("translate", "complete") else {}
    together = verb(row.texts, batch_size=3, **options)
    alone = [verb([text], **options)[0] for text in row.texts]
    assert [strings(a) for a in together] == [strings(a) for a in alone]


@models
def test_model_is_a_functional_keras_model(row, tokenizer, capsys):
    model = row.make(tokenizer)
    model.summary()
    assert "Total params" in capsys.readouterr().out
    first = model.get_layer(index=-1)
    part = keras.Model(model.inputs, first.output)
    assert keras.tree.flatten(part.outputs)
    assert model.count_params() == sum(w.size for w in model.get_weights())


@models
def test_model_learns(row, tokenizer):
    """One batch, a few updates: the loss falls, and every weight has moved."""
    model = row.make(tokenizer)
    inputs = batch_for(model)
    logits = model(inputs)
    labels = np.random.default_rng(5).integers(0, logits.shape[-1], logits.shape[:-1])
    model.compile(keras.optimizers.Adam(0.03), ka.MaskedCrossEntropy())
    before = model.get_weights()
    losses = [float(model.train_on_batch(inputs, labels)) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    moved = [not np.allclose(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved), [w.path for w, m in zip(model.weights, moved, strict=True) if not m]


def strings(answer) -> tuple:
    """What an answer says, without its numbers."""
    return tuple(getattr(answer, name) for name in ("text", "label", "tags") if hasattr(answer, name))
