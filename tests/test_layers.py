"""Every layer of `layer_rows.py` works with Keras: masks, specs, copies, dtypes, LoRA and quantization."""

import copy
import functools
import json
import pickle
from collections.abc import Callable

import keras
import numpy as np
import pytest
from backends import arrays
from dtype_policies import dtype_policy
from layer_rows import LAYERS


def parametrize(rows):
    """Run a test once for each row."""
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def assert_close(one, two, tolerance: float = 1e-6) -> None:
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=tolerance, atol=tolerance)


@functools.cache
def shared(row) -> tuple[keras.layers.Layer, dict, list[np.ndarray]]:
    """Return a layer, arguments and its outputs; tests share the layer and do not change it."""
    keras.utils.set_random_seed(23)
    layer, arguments = row.make(), row.arguments(np.random.default_rng(3))
    return layer, arguments, arrays(layer(**arguments))


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    yield
    shared.cache_clear()


def with_weights_of(before: keras.layers.Layer, layer: keras.layers.Layer, arguments: dict) -> keras.layers.Layer:
    """Build a layer, and give it the weights of another one."""
    layer(**symbols_of(arguments), **flags_of(arguments))
    layer.set_weights(before.get_weights())
    return layer


def copied(row) -> keras.layers.Layer:
    """Return a copy of the shared layer, from its config in JSON and its weights."""
    layer, arguments, _ = shared(row)
    copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    return with_weights_of(layer, copy, arguments)


def flags_of(arguments: dict) -> dict[str, bool]:
    """Return the call arguments that are options."""
    return {name: x for name, x in arguments.items() if isinstance(x, bool)}


def symbols_of(arguments: dict) -> dict:
    """Return the call arguments that are arrays, without their values."""
    return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype.name), tensors_of(arguments))


def tensors_of(arguments: dict) -> dict:
    """Return the call arguments that are arrays, or dicts and lists of arrays."""
    return {name: x for name, x in arguments.items() if not isinstance(x, bool)}


def specs_of(structure) -> list[tuple]:
    """Return the shape and the dtype of each tensor."""
    return [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in keras.tree.flatten(structure)]


def dense_parts(layer: keras.layers.Layer) -> list[keras.layers.Dense]:
    """Return the projections of a layer."""
    return [part for part in layer._flatten_layers() if isinstance(part, keras.layers.Dense)]


def masks_of(arguments: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return a dict of masks: input name -> (name of its mask argument, mask)."""
    first = next(name for name in arguments if not name.endswith("mask"))
    names = {name: first if name == "mask" else name.removesuffix("_mask") for name in arguments if "mask" in name}
    return {x: (name, arguments[name]) for name, x in names.items() if x in arguments}


def float_masks_of(arguments: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return the masks of inputs that are vectors: layers of Keras propagate them."""
    return {x: pair for x, pair in masks_of(arguments).items() if arguments[x].dtype.kind == "f"}


def first_mask_of(arguments: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return the mask of the first input, if it has one."""
    first = next(iter(arguments))
    return {x: pair for x, pair in masks_of(arguments).items() if x == first}


def first_float_mask_of(arguments: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return the mask of the first input, if it has one and is vectors."""
    return {x: pair for x, pair in first_mask_of(arguments).items() if x in float_masks_of(arguments)}


def other_masks_of(arguments: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return the masks of all inputs but the first."""
    first = next(iter(arguments))
    return {x: pair for x, pair in masks_of(arguments).items() if x != first}


def rows_with(masks: Callable) -> list:
    """Return the rows whose arguments have masks."""
    return [row for row in LAYERS if masks(row.arguments(np.random.default_rng(3)))]


def padded(x: np.ndarray, mask: np.ndarray, value: float) -> np.ndarray:
    """Return x with a value at the positions that the mask excludes."""
    real = mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
    return np.where(real, x, value).astype(x.dtype)


def with_other_padding(arguments: dict, x: str, mask: np.ndarray) -> dict:
    """Return the arguments with other values at the padding of the input x."""
    value = {"i": 7, "f": 31.0}[arguments[x].dtype.kind]
    return {**arguments, x: padded(arguments[x], mask, value)}


def defined(row, outputs: list[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
    """Return the outputs with zeros at the padding of the first input, where they are undefined."""
    count = len(outputs) - row.whole_outputs
    excluded = [~mask.reshape(len(mask), *[1] * (x.ndim - 3), -1, 1) for x in outputs[:count]]
    return [np.where(no, 0.0, x) for no, x in zip(excluded, outputs[:count], strict=True)] + outputs[count:]


@parametrize(LAYERS)
def test_layer_and_its_output_spec_have_the_expected_shapes(row):
    layer, arguments, outputs = shared(row)
    assert tuple(x.shape for x in outputs) == row.output_shapes
    assert specs_of(layer(**symbols_of(arguments), **flags_of(arguments))) == specs_of(outputs)


@parametrize([row for row in LAYERS if "return_attention_scores" in row.arguments(np.random.default_rng(3))])
def test_outputs_without_scores_are_the_same(row):
    """Without the scores, attention can use a fused kernel."""
    layer, arguments, outputs = shared(row)
    alone = layer(**{**arguments, "return_attention_scores": False})
    assert specs_of(layer(**symbols_of(arguments))) == specs_of(alone)
    assert_close(alone, outputs[0], 1e-5)


@parametrize(LAYERS)
def test_layer_is_recreated_from_its_config_in_json(row):
    _, arguments, outputs = shared(row)
    assert_close(copied(row)(**arguments), outputs)


@parametrize([row for row in LAYERS if row.in_sequential])
def test_layer_works_in_a_sequential_model(row):
    layer, arguments, _ = shared(row)
    inputs = next(iter(arguments.values()))
    model = keras.Sequential([keras.Input(inputs.shape[1:], dtype=inputs.dtype.name), layer])
    (outputs,) = arrays(model(inputs))
    assert_close(outputs, layer(inputs))
    assert model.output_shape == (None, *outputs.shape[1:])
    assert model.compute_output_shape(inputs.shape) == outputs.shape


def used_twice(layer, arguments: dict) -> tuple[keras.Model, list[np.ndarray]]:
    """Return a functional model that calls one layer on two sets of inputs, and arrays for it."""
    first = tensors_of(arguments)
    second = {name: x[::-1] if isinstance(x, np.ndarray) else x for name, x in first.items()}
    options = flags_of(arguments)
    symbols = [
        keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), x) for x in (first, second)
    ]
    outputs = [layer(**x, **options) for x in symbols]
    return keras.Model(*(keras.tree.flatten(x) for x in (symbols, outputs))), keras.tree.flatten([first, second])


@pytest.mark.slow
@parametrize(LAYERS)
def test_a_functional_model_that_calls_a_layer_twice_can_be_cloned(row):
    layer, arguments, outputs = shared(row)
    model, inputs = used_twice(layer, arguments)
    expected = model(inputs)
    assert_close(arrays(expected)[: len(row.output_shapes)], outputs, 1e-5)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for again in (clone, pickle.loads(pickle.dumps(model))):  # `deepcopy` calls the functions of `pickle`
        assert_close(again(inputs), expected, 1e-5)


def test_a_functional_model_can_be_copied():
    layer, arguments, _ = shared(next(row for row in LAYERS if row.name == "transformer block"))
    model, inputs = used_twice(layer, arguments)
    assert_close(copy.deepcopy(model)(inputs), model(inputs), 1e-5)


def with_explicit_masks(arguments: dict) -> dict:
    """Return the arguments with zeros at the padding of vectors."""
    masks = float_masks_of(arguments)
    return {**arguments, **{x: padded(arguments[x], mask, 0.0) for x, (_, mask) in masks.items()}}


def with_implicit_masks(arguments: dict) -> dict:
    """Return the arguments without masks of vectors; the vectors have masks as those of `Embedding(mask_zero=True)`."""
    masks = float_masks_of(arguments)
    names = [name for name, _ in masks.values()]
    masked = {x: keras.layers.Masking(-7.0)(padded(arguments[x], mask, -7.0)) for x, (_, mask) in masks.items()}
    return {**{name: x for name, x in arguments.items() if name not in names}, **masked}


@parametrize(rows_with(float_masks_of))
def test_implicit_masks_equal_explicit_ones(row):
    layer, arguments, _ = shared(row)
    assert_close(layer(**with_implicit_masks(arguments)), layer(**with_explicit_masks(arguments)))


@parametrize([row for row in rows_with(first_float_mask_of) if row.whole_outputs < len(row.output_shapes)])
def test_the_mask_of_the_first_input_is_propagated(row):
    """A layer of Keras uses the mask of the output."""
    layer, arguments, _ = shared(row)
    output = keras.tree.flatten(layer(**with_implicit_masks(arguments)))[0]
    ((_, mask),) = first_mask_of(arguments).values()
    real = mask[..., None]
    after = keras.layers.GlobalAveragePooling1D()(output)
    assert_close(after, (arrays(output)[0] * real).sum(1) / real.sum(1), 1e-5)


@parametrize(rows_with(first_mask_of))
def test_outputs_do_not_depend_on_padding_of_the_first_input(row):
    layer, arguments, before = shared(row)
    ((x, (_, mask)),) = first_mask_of(arguments).items()
    after = arrays(layer(**with_other_padding(arguments, x, mask)))
    assert_close(defined(row, after, mask), defined(row, before, mask), 1e-5)


@parametrize(rows_with(other_masks_of))
def test_outputs_do_not_depend_on_padding_of_other_inputs(row):
    layer, arguments, before = shared(row)
    for x, (_, mask) in other_masks_of(arguments).items():
        assert_close(layer(**with_other_padding(arguments, x, mask)), before, 1e-5)


@pytest.mark.slow
@parametrize(LAYERS)
def test_layer_works_in_half_precision(row):
    before, arguments, expected = shared(row)
    with dtype_policy("mixed_bfloat16"):
        assert_close(with_weights_of(before, row.make(), arguments)(**arguments), expected, 0.1)


@parametrize(LAYERS)
def test_a_copy_from_the_config_has_the_same_dtype_policy(row):
    with dtype_policy("mixed_bfloat16"):
        layer = row.make()
    copy = type(layer).from_config(layer.get_config())
    assert copy.dtype_policy.name == layer.dtype_policy.name == "mixed_bfloat16"


@parametrize(LAYERS)
def test_the_row_says_whether_the_layer_has_dense_parts(row):
    """The next tests run on these rows. A layer has its parts only after its first call, so the row says it."""
    assert row.has_dense == bool(dense_parts(shared(row)[0]))


@parametrize([row for row in LAYERS if row.has_dense])
def test_new_lora_matrices_do_not_change_the_outputs(row):
    _, arguments, before = shared(row)
    layer = copied(row)
    for part in (dense := dense_parts(layer)):
        part.enable_lora(2)
    assert_close(layer(**arguments), before)
    for part in dense:
        part.lora_kernel_b.assign(np.random.default_rng(5).normal(size=part.lora_kernel_b.shape))
    assert np.abs(arrays(layer(**arguments))[0] - before[0]).max() > 1e-3


@pytest.mark.slow
@parametrize([row for row in LAYERS if row.has_dense and not row.parts_have_rows and not row.is_hard])
def test_int8_outputs_are_close(row):
    _, arguments, expected = shared(row)
    layer = copied(row)
    for part in dense_parts(layer):  # as `keras.Model.quantize` does
        part.quantize("int8")
    assert_close(layer(**arguments), expected, 0.15)
