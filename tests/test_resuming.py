"""A resumed run has the weights of an uninterrupted one, and other runs are not resumed."""

import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import PAIRS, jax_environment
from small_runs import run, small_model

from keras_attention.training import TrainingPlan
from keras_attention.training.checkpoints import assign
from keras_attention.training.run_state import RunState, run_identity

KILLED_RUN = str(pathlib.Path(__file__).parent / "killed_run.py")


class Stop(keras.callbacks.Callback):
    """Interrupt a run in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.at, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tokenizer, tmp_path):
    whole = small_model(tokenizer)
    history = run(whole, tmp_path / "whole", average_checkpoints=2)
    broken = small_model(tokenizer)
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "broken", average_checkpoints=2, callbacks=[Stop(2)])
    keras.utils.set_random_seed(99)  # a new process has another random state
    resumed = keras.saving.load_model(tmp_path / "broken" / "model.keras", compile=False)
    again = run(resumed, tmp_path / "broken", average_checkpoints=2)
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert again["loss"] == history["loss"]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="slow: once, on one backend")
def test_a_killed_and_resumed_run_has_the_same_weights(tmp_path):
    """The run is killed in its first epoch, when only the initial state is stored, and in its fourth."""
    command = [sys.executable, KILLED_RUN, str(tmp_path)]
    done = subprocess.run(command, env=jax_environment(tmp_path / "programs"), capture_output=True, text=True)
    runs = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("run ")]
    killed = str(-signal.SIGKILL)
    assert runs == [["0", "5", "True"], [killed, "0", "False"], [killed, "3", "False"], ["0", "5", "True"]], done.stderr
    whole, resumed = (np.load(tmp_path / name / "final.npz") for name in ("whole", "killed"))
    assert whole.files == resumed.files
    assert len(whole.files) > 5
    for path in whole.files:
        np.testing.assert_array_equal(whole[path], resumed[path], err_msg=path)


def test_a_checkpoint_of_another_model_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="do not fit the model"):
        assign(small_model(tokenizer).variables, [np.zeros(3)])


@pytest.mark.usefixtures("untraced")
def test_a_damaged_checkpoint_is_an_error(tokenizer, tmp_path):
    run(small_model(tokenizer), tmp_path, epochs=1)
    whole = (tmp_path / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.npz is damaged"):
        run(small_model(tokenizer), tmp_path, epochs=2)


@pytest.mark.usefixtures("untraced")
def test_resuming_another_models_run_is_an_error_and_a_finished_run_a_warning(tokenizer, tmp_path):
    run(small_model(tokenizer), tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="is finished; its best model is used"):
        run(small_model(tokenizer), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="another config or vocabulary"):
        run(small_model(tokenizer, units=14), tmp_path, epochs=1)


def test_a_run_may_be_resumed_with_another_region_cache():
    identities = [run_identity(TrainingPlan(), PAIRS, None, {"region_cache": name}) for name in ("old", "new")]
    assert identities[0] == identities[1]


def test_an_option_that_is_left_out_is_a_change(tokenizer, tmp_path):
    model = small_model(tokenizer)
    model.compile("sgd")
    begun, resumed = (
        RunState(tmp_path, TrainingPlan(), "val_loss", "min", None, identity)
        for identity in ({"seed": "3", "augment": "True"}, {"seed": "3"})
    )
    begun.restore(model)  # saves the initial state
    with pytest.raises(ValueError, match="cannot be resumed: augment was True and is None"):
        resumed.restore(model)
