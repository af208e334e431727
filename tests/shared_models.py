"""The models of `model_rows.py` with random weights, and what they compute. Tests share and do not change them."""

import functools

import keras
import pytest
from backends import compiled
from model_rows import MODELS, batch_for, randomize

import keras_attention as ka

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS = [row for row in MODELS if ON_TENSORFLOW or row.runs_on_jax]
once = pytest.mark.skipif(not ON_TENSORFLOW, reason="tested once, on TensorFlow")


def each(rows) -> pytest.MarkDecorator:
    """Run a test once for each row; rows whose code other rows run are marked slow."""
    marks = {True: (), False: pytest.mark.slow}
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.name, marks=marks[row.is_unique]) for row in rows])


@pytest.fixture
def model(row, tokenizer):
    """The model of a row with random weights."""
    return randomized(row, tokenizer)


@functools.cache
def randomized(row, tokenizer):
    keras.utils.set_random_seed(11)
    model = row.make(tokenizer)
    randomize(model)
    return model


@functools.cache
def outputs_of_batch(row, tokenizer):
    """What the model of a row computes for one batch."""
    model = randomized(row, tokenizer)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, compiled(model)(batch_for(model)))


@pytest.fixture
def loaded(model, tmp_path):
    """The model of a row, saved and loaded."""
    model.save(tmp_path / "m.keras")
    return ka.load(tmp_path / "m.keras")
