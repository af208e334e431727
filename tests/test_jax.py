"""Tests of layers, models, generation and training, run on JAX without TensorFlow."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import jax_environment
from test_backends import all_outputs

HERE = pathlib.Path(__file__).parent
TRANSFORMER = (
    "test_transformer.py::test_float16_works_without_a_float16_kernel_in_the_backend",
    "test_transformer.py::test_query_key_and_value_are_initialized_as_one_matrix",
)
LOSSES = (
    "test_token_loss.py::test_the_loss_of_an_epoch_is_per_token[padding]",
    "test_token_loss.py::test_accumulated_gradients_are_those_of_one_batch[50-0.1]",
    "test_token_loss.py::test_two_replicas_have_the_loss_and_the_update_of_one",
)
R_DROP = "test_r_drop.py::test_the_loss_of_an_update_by_hand"
MEMORIES = "test_relative.py::test_the_memories_are_the_last_vectors_of_both_parts"
FILES = ("test_backends.py", "test_model_networks.py", "test_model_updates.py", *TRANSFORMER, *LOSSES, MEMORIES, R_DROP)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this test starts JAX itself")
def test_layers_models_and_searches_pass_on_jax_without_tensorflow(tokenizer, translator, translator_file, whole_run):
    np.savez(whole_run / "outputs.npz", **all_outputs(tokenizer, translator))
    files = {"OUTPUTS": str(whole_run / "outputs.npz"), "TRANSLATOR": str(translator_file)}
    environment = jax_environment() | files
    environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *FILES],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
