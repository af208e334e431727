"""Layers, models and searches return the same on JAX as on TensorFlow; `test_jax.py` runs this file on JAX."""

import functools
import os

import keras
import numpy as np
import pytest
from backends import arrays, compiled
from conftest import PAIRS
from layer_rows import LAYERS
from model_rows import IMAGES, MODELS, batch_for

import keras_attention as ka
from keras_attention.generation import CompiledFunction
from keras_attention.layers.recurrent.lstm import lstm_outputs

UNIQUE = [row for row in MODELS if row.is_unique]  # the layers of the other models have rows of their own
SEARCHED = [row for row in MODELS if row.searches_on_jax]  # `translations` searches with a recurrent translator


def set_drawn_weights(layer) -> None:
    """Set weights that do not depend on the backend; variances are positive."""
    rng = np.random.default_rng(29)
    drawn = [rng.normal(0, 0.3, w.shape).astype(keras.backend.standardize_dtype(w.dtype)) for w in layer.weights]
    layer.set_weights(
        [np.abs(w) + 0.5 if "variance" in v.path else w for w, v in zip(drawn, layer.weights, strict=True)]
    )


def float_arrays(structure) -> list[np.ndarray]:
    return [x.astype("float32") for x in arrays(structure)]


def layer_outputs(row) -> list[np.ndarray]:
    """Call a layer with drawn weights."""
    layer, arguments = row.make(), row.arguments(np.random.default_rng(3))
    flags = {name: x for name, x in arguments.items() if isinstance(x, bool)}
    tensors = {name: x for name, x in arguments.items() if not isinstance(x, bool)}
    layer(**keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype.name), tensors), **flags)
    set_drawn_weights(layer)
    return float_arrays(compiled(lambda inputs: layer(**inputs, **flags))(tensors))


@functools.cache
def drawn_model(row, tokenizer):
    model = row.make(tokenizer)
    model.run_eagerly = keras.backend.backend() == "tensorflow"  # a search takes less time than to trace it
    set_drawn_weights(model)
    return model


def model_outputs(row, tokenizer) -> list[np.ndarray]:
    """Call a model with drawn weights on one batch."""
    model = drawn_model(row, tokenizer)
    return float_arrays(compiled(model)(batch_for(model)))


def searched(row, tokenizer) -> list[str]:
    """Write texts with a beam of 3: the search, the cache and the length penalty."""
    model = drawn_model(row, tokenizer)
    inputs = IMAGES if row.predict_method == "caption" else [source for source, _ in PAIRS[:3]]
    outputs = getattr(model, row.predict_method)(
        inputs, ka.BeamSearch(num_beams=3, num_return_sequences=3, max_new_tokens=7)
    )
    return [" | ".join([a.text, *(b.text for b in a.alternatives)]) for a in outputs]


def translations(translator) -> list[np.ndarray]:
    """Translate with a trained model by all three strategies; return the texts and the scores."""
    texts = [source for source, _ in PAIRS] + ["the boy drinks the old book", ""]
    strategies = [ka.Greedy(), ka.BeamSearch(num_beams=5, num_return_sequences=3), ka.Sampling(seed=3, temperature=1.5)]
    outputs = [output for strategy in strategies for output in translator.translate(texts, strategy)]
    return [
        np.array([" | ".join([a.text, *(b.text for b in a.alternatives)]) for a in outputs]),
        np.array([a.score for a in outputs], "float32"),
    ]


def all_outputs(tokenizer, translator) -> dict[str, np.ndarray]:
    """Return {key: array} with the outputs of every row, for `numpy.savez`."""
    outputs = {"translations": translations(translator)}
    outputs |= {f"layer {row.name}": layer_outputs(row) for row in LAYERS}
    outputs |= {f"model {row.name}": model_outputs(row, tokenizer) for row in UNIQUE}
    outputs |= {f"search {row.name}": [np.array(searched(row, tokenizer))] for row in SEARCHED}
    drawn_model.cache_clear()
    return {f"{name}/{i}": x for name, all_of_row in outputs.items() for i, x in enumerate(all_of_row)}


@pytest.fixture(scope="module")
def on_tensorflow():
    return np.load(os.environ["OUTPUTS"])


def assert_equal_on_tensorflow(name: str, outputs: list[np.ndarray], saved) -> None:
    assert sum(key.rsplit("/", 1)[0] == name for key in saved.files) == len(outputs) > 0
    for i, output in enumerate(outputs):
        np.testing.assert_allclose(output, saved[f"{name}/{i}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
def test_layer_computes_the_same_on_both_backends(row, on_tensorflow):
    assert_equal_on_tensorflow(f"layer {row.name}", layer_outputs(row), on_tensorflow)


@pytest.mark.parametrize("row", UNIQUE, ids=lambda row: row.name)
def test_model_computes_the_same_on_both_backends(row, tokenizer, on_tensorflow):
    assert_equal_on_tensorflow(f"model {row.name}", model_outputs(row, tokenizer), on_tensorflow)


@pytest.mark.parametrize("row", SEARCHED, ids=lambda row: row.name)
def test_search_writes_the_same_on_both_backends(row, tokenizer, on_tensorflow):
    assert searched(row, tokenizer) == on_tensorflow[f"search {row.name}/0"].tolist()


def test_a_model_file_translates_the_same_on_both_backends(translator, on_tensorflow):
    texts, scores = translations(translator)
    assert texts.tolist() == on_tensorflow["translations/0"].tolist()
    np.testing.assert_allclose(scores, on_tensorflow["translations/1"], atol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="an option of JAX")
def test_programs_compute_in_32_bits_on_jax():
    import jax

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    third = CompiledFunction(model, lambda model, inputs: {"x": inputs["x"] / 3, "i": inputs["i"]})
    with jax.enable_x64(True):
        outputs = third({"x": np.ones((2, 2)), "i": np.ones((2, 2), "int64")})
    assert (outputs["x"].dtype, outputs["i"].dtype) == ("float32", "int32")
    np.testing.assert_allclose(outputs["x"], 1 / 3, rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="TensorFlow has no tracers")
def test_an_lstm_is_differentiated_where_its_mask_is_computed():
    """`jax.checkpoint` computes the mask again in the backward pass, so the gradient must not keep it."""
    import jax

    cell, rng = keras.layers.LSTMCell(5), np.random.default_rng(3)
    inputs, hidden, memory, upstream = (
        rng.normal(size=size).astype("float32") for size in ((2, 7, 3), (2, 5), (2, 5), (2, 7, 5))
    )
    cell.build((2, 3))

    def outputs_of_cell(x):
        states, outputs = [hidden, memory], []
        for t in range(7):
            _, new = cell(x[:, t], states)
            states = [keras.ops.where(x[:, t, :1] > 0, a, b) for a, b in zip(new, states, strict=True)]
            outputs.append(states[0])
        return keras.ops.stack(outputs, axis=1)

    def gradient(outputs):
        return jax.jit(jax.grad(lambda x: (outputs(x) * upstream).sum()))(inputs)

    checkpointed = jax.checkpoint(lambda x: lstm_outputs(cell, x, hidden, memory, x[..., 0] > 0))
    np.testing.assert_allclose(gradient(checkpointed), gradient(outputs_of_cell), atol=1e-5)
