"""Which epoch of a run is the best, and what a run must not be resumed with."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.data.batches import digest
from keras_attention.training import TrainingPlan
from keras_attention.training.plan import mode_of
from keras_attention.training.run_state import RunState, run_identity

PAIRS = [("we eat", "comemos"), ("they drink", "beben"), ("you read", "lees")]


def run_state(directory, monitor, mode, start=None, **plan):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.config, model.tokenizers = None, {}
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    state = RunState(directory, TrainingPlan(**plan), monitor, mode, None, start or {})
    state.set_model(model)
    return state, model


SELECTIONS = {
    "a metric": ("val_bleu", "max", [3.0, 7.0, 5.0], [1.0, 2.0, 3.0], 2),
    "an error rate": ("val_wer", "min", [0.9, 0.3, 0.5], [1.0, 2.0, 3.0], 2),
    "equal metrics": ("val_bleu", "max", [0.0, 0.0, 0.0], [3.0, 1.0, 2.0], 2),
    "two equal best metrics": ("val_bleu", "max", [7.0, 2.0, 7.0], [3.0, 1.0, 2.0], 3),
    "equal error rates": ("val_wer", "min", [0.5, 0.2, 0.2], [3.0, 2.0, 1.0], 3),
    "the loss": ("val_loss", "min", [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], 2),
    "a metric that is not a number": ("val_bleu", "max", [2.0, float("nan"), 1.0], [3.0, 1.0, 2.0], 1),
}


@pytest.mark.parametrize(("monitor", "mode", "values", "losses", "best"), SELECTIONS.values(), ids=SELECTIONS)
def test_the_best_epoch(monitor, mode, values, losses, best, tmp_path):
    state, _ = run_state(tmp_path, monitor, mode)
    for epoch, (value, loss) in enumerate(zip(values, losses, strict=True)):
        state.on_epoch_end(epoch, {"val_loss": loss, monitor: value})
    assert state.best_epoch == best
    assert state.best_loss == losses[best - 1]


def test_the_best_weights_are_loaded_even_if_a_callback_changed_them(tmp_path):
    state, model = run_state(tmp_path, "val_loss", "min")
    state.on_epoch_end(0, {"val_loss": 1.0})
    best = model.get_weights()
    model.set_weights([weight + 1 for weight in best])
    state.load_best(model)
    assert all(map(np.array_equal, model.get_weights(), best))


def test_equal_metrics_do_not_end_the_run_while_the_loss_falls(tmp_path):
    state, model = run_state(tmp_path, "val_bleu", "max", patience=2)
    for epoch, loss in enumerate([5.0, 4.0, 3.0, 3.5, 3.2]):
        assert not state.finished
        state.on_epoch_end(epoch, {"val_loss": loss, "val_bleu": 0.0})
    assert state.finished
    assert model.stop_training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0] * 3, "val_bleu was 0 after each of the 3 epochs, .* Train for longer, or monitor another"),
        ([100.0] * 2, "val_bleu was 100 after each of the 2 epochs, .* best model. Monitor another"),
    ],
)
def test_a_metric_that_is_constant_gives_a_warning(values, message, tmp_path):
    state, _ = run_state(tmp_path, "val_bleu", "max")
    state.history = {"val_bleu": values}
    with pytest.warns(UserWarning, match=message):
        state.warn_if_constant()


@pytest.mark.parametrize("values", [[0.0, 0.0, 2.0], [0.0]])
def test_a_metric_that_changes_or_has_one_value_gives_no_warning(values, tmp_path):
    state, _ = run_state(tmp_path, "val_bleu", "max")
    state.history = {"val_bleu": values}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state.warn_if_constant()


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        *((name, "min") for name in ("loss", "val_loss", "val_perplexity", "val_wer", "val_ter", "val_mse")),
        *((name, "max") for name in ("val_accuracy", "val_bleu", "val_chrf", "reward", "val_f1", "val_cider")),
        ("val_next_sentence_accuracy", "max"),
        ("val_logits_loss", "min"),
    ],
)
def test_the_mode_of_known_metrics(monitor, mode):
    assert mode_of(monitor, None, ["logits", "next_sentence"]) == mode


@pytest.mark.parametrize("monitor", ["val_error", "val_accuracy_error", "val_lossless"])
def test_the_mode_of_an_unknown_metric_must_be_set(monitor):
    with pytest.raises(ValueError, match=f"metric {monitor} is unknown, and `mode` is None; expected min"):
        mode_of(monitor)
    assert mode_of(monitor, "max") == "max"


def test_the_modes_of_keras_are_the_same():
    """Keras stores the direction of some of its metrics for its callbacks."""
    for kind in ("Accuracy", "SparseCategoricalAccuracy", "AUC", "Precision", "Recall", "MeanSquaredError"):
        metric = getattr(keras.metrics, kind)()
        direction = {"up": "max", "down": "min"}[metric._direction]
        assert mode_of(f"val_{metric.name}") == direction


PLAN = TrainingPlan(learning_rate=0.01)
CHANGES = {
    "another order": (PLAN, PAIRS[::-1], PAIRS[:1], {}, "the training data changed"),
    "another text": (PLAN, [*PAIRS[:2], ("you read", "leen")], PAIRS[:1], {}, "the training data changed"),
    "other validation data": (PLAN, PAIRS, PAIRS[:2], {}, "the validation data changed"),
    "no validation data": (PLAN, PAIRS, None, {}, "the validation data changed"),
    "the plan": (dataclasses.replace(PLAN, seed=5), PAIRS, PAIRS[:1], {}, "seed was 0 and is 5"),
    "an option": (PLAN, PAIRS, PAIRS[:1], {"flip": True}, "flip was None and is True"),
}


def resume(directory, plan, examples, validation, options):
    """Start a run, and resume it with these arguments; return the epoch at which it begins."""
    state, model = run_state(directory, "val_loss", "min", run_identity(PLAN, PAIRS, PAIRS[:1], {}))
    state.restore(model)
    again, _ = run_state(directory, "val_loss", "min", run_identity(plan, examples, validation, options))
    return again.restore(model)


@pytest.mark.parametrize("plan", [PLAN, dataclasses.replace(PLAN, epochs=70, patience=7)])
def test_a_run_is_resumed_with_what_it_started_with(plan, tmp_path):
    assert resume(tmp_path, plan, PAIRS, PAIRS[:1], {}) == 0


@pytest.mark.parametrize(("plan", "examples", "validation", "options", "message"), CHANGES.values(), ids=CHANGES)
def test_a_run_is_not_resumed_with_something_else(plan, examples, validation, options, message, tmp_path):
    with pytest.raises(ValueError, match=f"cannot be resumed: {message}. Resume it with the data"):
        resume(tmp_path, plan, examples, validation, options)


def test_batches_have_the_digest_of_their_examples():
    def batches(first):
        arrays = [np.full((1, 3), first), np.ones((1, 5))]
        return ka.data.LengthBatches([3, 5], lambda rows, extra: tuple(arrays[i] for i in rows))

    assert digest(batches(1)) == digest(batches(1)) != digest(batches(2))
    assert digest(["ab", "c"]) != digest(["a", "bc"])
