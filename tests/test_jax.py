"""Tests of layers, models, generation and training, run on JAX without TensorFlow."""

import json
import pathlib
import subprocess
import sys

import keras
import pytest
from conftest import PAIRS, jax_environment

import keras_attention as ka

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="this test starts JAX itself")
HERE = pathlib.Path(__file__).parent


def run_on_jax(programs: pathlib.Path, *files: str, **environment: str) -> None:
    """Run test files on JAX in one process; its compilation cache is `programs`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files],
        cwd=HERE,
        env=jax_environment(programs) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
def test_layers_models_and_losses_pass_on_jax_without_tensorflow(whole_run):
    run_on_jax(whole_run / "programs", "test_conformance.py", "test_token_loss.py")


PROGRAM = """
import sys
for name in ("tensorflow", "tensorflow_text"):
    sys.modules[name] = None
import json
import keras
import keras_attention as ka
assert keras.backend.backend() == "jax"
model = keras.saving.load_model(sys.argv[1], compile=False)
texts = json.loads(sys.argv[2])
strategies = [ka.Greedy(), ka.BeamSearch(num_beams=5, num_return_sequences=3), ka.Sampling(seed=3, temperature=1.5)]
outputs = [[(a.text, a.score, [b.text for b in a.alternatives]) for a in model.translate(texts, s)] for s in strategies]
print(json.dumps(outputs))
"""


def test_a_model_file_translates_the_same_on_both_backends(translator, translator_file, whole_run):
    texts = [source for source, _ in PAIRS] + ["the boy drinks the old book", ""]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(translator_file), json.dumps(texts)],
        env=jax_environment(whole_run / "programs"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outputs_on_jax = json.loads(done.stdout.splitlines()[-1])
    strategies = [ka.Greedy(), ka.BeamSearch(num_beams=5, num_return_sequences=3), ka.Sampling(seed=3, temperature=1.5)]
    for strategy, outputs in zip(strategies, outputs_on_jax, strict=True):
        for translation, (text, score, alternatives) in zip(
            translator.translate(texts, strategy), outputs, strict=True
        ):
            assert (translation.text, [a.text for a in translation.alternatives]) == (text, alternatives)
            assert abs(translation.score - score) < 1e-3
