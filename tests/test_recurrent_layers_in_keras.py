"""Each recurrent and vision layer alone in a Keras model: masks, copies, specs, dtypes, LoRA and quantisation.

Sizes are distinct primes, so that a swapped axis cannot pass.
"""

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_attention.layers import (
    AdditiveAttention,
    AttentionLoss,
    CharacterEncoder,
    DotProductAttention,
    GumbelNoise,
    ImageEncoder,
    InputEmbedding,
    MaskedLMHead,
    OutputBias,
    PositionEmbedding,
    RecurrentDecoder,
    RecurrentEncoder,
    SelfAttention2D,
    ShiftRegions,
    SinusoidalPositions,
)

B, T, S, E, M, V = 2, 5, 7, 6, 11, 13
IDS = np.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]])
MEMORY_IDS = np.array([[2, 7, 1, 0, 0, 0, 0], [8, 2, 8, 1, 8, 2, 0]])


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer, the shapes of its call arguments without the batch, and its other arguments."""

    name: str
    make: Callable[[], keras.layers.Layer]
    shapes: dict[str, tuple[int, ...]]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    has_dense: bool = False
    integers: int = 0  # the inputs are ids below this

    def draw(self, seed: int) -> dict[str, np.ndarray]:
        """Random call arguments."""
        rng = np.random.default_rng(seed)
        if self.integers:
            return {name: rng.integers(0, self.integers, (B, *shape)) for name, shape in self.shapes.items()}
        return {name: rng.normal(size=(B, *shape)).astype("float32") for name, shape in self.shapes.items()}


SEQUENCE, MEMORY = {"inputs": (T, E)}, {"inputs": (T, E), "memory": (S, M)}
SCORES = {"return_attention_scores": True}
# fmt: off
ROWS = [
    Row("simple encoder", lambda: RecurrentEncoder(3, cell="simple", bidirectional=False), SEQUENCE),
    Row("lstm encoder", lambda: RecurrentEncoder(14, 2, return_state=True), SEQUENCE),
    Row("character encoder", lambda: CharacterEncoder(V, 3, 14, "gru"), {"inputs": (T, S)}, integers=V),
    Row("gru decoder", lambda: RecurrentDecoder(3, 17, cell="gru"), SEQUENCE, has_dense=True),
    Row("decoder with input feeding", lambda: RecurrentDecoder(3, 17, 2, attention=AdditiveAttention(19)), MEMORY,
        SCORES, has_dense=True),
    Row("decoder with attention first", lambda: RecurrentDecoder(
        3, 17, attention=DotProductAttention(19), attend_first=True), MEMORY, has_dense=True),
    Row("noise", GumbelNoise, {"query": (T, E), "memory": (S, M)}),
    Row("attention loss", AttentionLoss, {"inputs": (T, E), "scores": (T, S)}),
    Row("input embedding", lambda: InputEmbedding(PositionEmbedding(S), 3.0, 2, 1e-6), {"tokens": (T, E)}),
    Row("sinusoidal positions", SinusoidalPositions, SEQUENCE),
    Row("masked head", MaskedLMHead, SEQUENCE, has_dense=True),
    Row("output bias", OutputBias, SEQUENCE),
    Row("image encoder", lambda: ImageEncoder("small_cnn", 12), {"images": (12, 12, 3)}),
    Row("self-attention of a grid", lambda: SelfAttention2D(3), {"inputs": (2, S, E)}, SCORES),
    Row("shifted regions", lambda: ShiftRegions(2, S), {"regions": (2 * S, E)}),
]
# fmt: on
SEQUENCES = [row for row in ROWS if next(iter(row.shapes.values())) == (T, E) and row.name != "noise"]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_sequence = pytest.mark.parametrize("row", SEQUENCES, ids=lambda row: row.name)


def arrays(structure) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in keras.tree.flatten(structure)]


def assert_close(one, two, tolerance: float = 1e-6) -> None:
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def used_twice(row: Row, layer: keras.layers.Layer) -> keras.Model:
    """A functional model that calls one layer on two sets of inputs."""
    inputs = [
        {n: keras.Input(shape, dtype="int32" if row.integers else None) for n, shape in row.shapes.items()}
        for _ in range(2)
    ]
    outputs = [keras.tree.flatten(layer(**each, **row.options)) for each in inputs]
    return keras.Model([list(each.values()) for each in inputs], outputs)


@each_row
def test_layer_used_twice_is_the_same_after_clone_copy_and_pickle(row):
    layer, one, two = row.make(), row.draw(3), row.draw(5)
    model = used_twice(row, layer)
    given = [list(one.values()), list(two.values())]
    expected = [layer(**one, **row.options), layer(**two, **row.options)]
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    copies = [model, clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for each in copies:
        assert_close(each(given), expected)
    for each in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(each(**one, **row.options), expected[0])


@each_row
def test_config_goes_through_json(row):
    layer, given = row.make(), row.draw(3)
    expected = layer(**given, **row.options)
    again = type(layer).from_config(json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))["config"])
    again(**given, **row.options)
    again.set_weights(layer.get_weights())
    assert_close(again(**given, **row.options), expected)


@each_row
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_spec_is_what_the_layer_returns(row, policy):
    given = row.draw(3)
    expected = row.make()(**given, **row.options)
    keras.config.set_dtype_policy(policy)
    try:
        layer = row.make()
        inputs = {n: keras.KerasTensor(x.shape, "int32" if row.integers else "float32") for n, x in given.items()}
        specs = keras.tree.flatten(layer(**inputs, **row.options))
        returned = keras.tree.flatten(layer(**given, **row.options))
    finally:
        keras.config.set_dtype_policy("float32")
    facts = [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in returned]
    assert facts == [(tuple(x.shape), x.dtype) for x in specs]
    assert [shape for shape, _ in facts] == [x.shape for x in arrays(expected)]


@each_sequence
def test_implicit_masks_are_the_explicit_ones(row):
    layer, first = row.make(), next(iter(row.shapes))
    sources = {first: IDS} | ({"memory": MEMORY_IDS} if "memory" in row.shapes else {})
    given = row.draw(3)
    embedded = {n: keras.layers.Embedding(V, row.shapes[n][-1], mask_zero=True)(ids) for n, ids in sources.items()}
    implicit = layer(**{**given, **embedded}, **row.options)
    explicit = {n: keras.ops.convert_to_numpy(x) for n, x in embedded.items()}
    masks = {"mask": IDS != 0} if "cell" in layer.get_config() else {}
    masks |= {"memory_mask": MEMORY_IDS != 0} if "memory" in row.shapes else {}
    assert_close(layer(**{**given, **explicit}, **masks, **row.options), implicit)
    mean = keras.layers.GlobalAveragePooling1D()(keras.tree.flatten(implicit)[0])  # Keras' layer finds the mask
    real = (IDS != 0)[..., None]
    outputs = arrays(implicit)[0]
    assert_close(mean, (outputs * real).sum(1) / real.sum(1), 1e-5)
    if masks:
        changed = {n: np.where((sources[n] != 0)[..., None], x, 31.0).astype("float32") for n, x in explicit.items()}
        assert_close(layer(**{**given, **changed}, **masks, **row.options), implicit, 1e-5)


SINGLE = [row for row in ROWS if len(row.shapes) == 1 and not row.options and row.name != "lstm encoder"]


@pytest.mark.parametrize("row", SINGLE, ids=lambda row: row.name)
def test_a_layer_with_one_input_stands_in_a_sequential_model(row):
    layer, (given,), (shape,) = row.make(), row.draw(3).values(), row.shapes.values()
    model = keras.Sequential([keras.Input(shape, dtype="int32" if row.integers else None), layer])
    outputs = model(given)
    assert_close(outputs, layer(given))
    assert model.output_shape == (None, *outputs.shape[1:])
    assert model.compute_output_shape((B, *shape)) == tuple(outputs.shape)


def test_an_encoder_with_an_initial_state_still_finds_the_implicit_mask():
    embedded, state = keras.layers.Embedding(V, E, mask_zero=True)(IDS), np.full((B, 14), 0.5, "float32")
    encoder = RecurrentEncoder(14, cell="gru")
    explicit = encoder(keras.ops.convert_to_numpy(embedded), initial_state=[state], mask=IDS != 0)
    assert_close(encoder(embedded, initial_state=[state]), explicit)
    assert np.abs(arrays(explicit)[0] - arrays(encoder(embedded))[0]).max() > 1e-3


@pytest.mark.parametrize("row", [row for row in ROWS if row.has_dense], ids=lambda row: row.name)
def test_lora_matrices_start_at_zero_and_then_change_the_outputs(row):
    layer, given = row.make(), row.draw(3)
    expected = arrays(layer(**given, **row.options))
    dense = [part for part in layer._flatten_layers() if isinstance(part, keras.layers.Dense)]
    for part in dense:
        part.enable_lora(2)
    assert_close(layer(**given, **row.options), expected)
    for part in dense:
        part.lora_kernel_b.assign(np.ones(part.lora_kernel_b.shape))
    assert np.abs(arrays(layer(**given, **row.options))[0] - expected[0]).max() > 1e-3


@each_row
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_int8_changes_the_outputs_little(row):
    layer, one, two = row.make(), row.draw(3), row.draw(5)
    model, given = used_twice(row, layer), [list(one.values()), list(two.values())]
    expected = model(given)
    model.quantize("int8")
    assert_close(model(given), expected, 0.1)
    kinds = {part.quantization_mode for part in layer._flatten_layers() if isinstance(part, keras.layers.Dense)}
    assert kinds == ({"int8"} if row.has_dense else set())
