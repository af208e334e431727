"""One update of every model of `model_rows.py` changes every weight, and decreases the loss."""

import dataclasses
import functools

import keras
import numpy as np
from backends import arrays
from model_rows import batch_for
from shared_models import ON_TENSORFLOW, ROWS, each, once, outputs_of_batch

import keras_attention as ka


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


@each(ROWS)
def test_one_update_changes_every_weight(row, tokenizer):
    assert first_update(row, tokenizer).unchanged == []


@each(row for row in ROWS if not row.is_hard)
def test_one_update_decreases_the_loss_as_the_gradient_predicts(row, tokenizer):
    update = first_update(row, tokenizer)
    np.testing.assert_allclose(update.decrease, update.predicted, rtol=0.1)


@once
@each(row for row in ROWS if row.is_hard)
def test_one_update_of_hard_attention_decreases_the_loss(row, tokenizer):
    """The gradient is an estimate from one sample, so the size of the decrease is not known."""
    assert first_update(row, tokenizer).decrease > 0
