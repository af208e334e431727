"""The other half of `test_jax.py`. It is a separate file that runs early, so that both cores have work."""

import keras
import pytest
from test_jax import run_on_jax

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="this test starts JAX itself")
FILES = ("test_attention.py", "test_layers.py", "test_recurrent.py", "test_transformer.py", "test_generation.py")


@pytest.mark.slow
def test_attention_and_generation_pass_on_jax_without_tensorflow(translator_file, whole_run):
    run_on_jax(whole_run / "programs", *FILES, TRANSLATOR=str(translator_file))
