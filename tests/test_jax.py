"""The suite for layers, models, generation and training again on JAX, where TensorFlow cannot be imported."""

import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import pytest
from conftest import PAIRS

import keras_attention as ka

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="it is what this starts")
HERE = pathlib.Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "KERAS_BACKEND": "jax",
    "BLOCK_TENSORFLOW": "1",
    # Each program is compiled once: many tests make the same layer, or load the same model, again.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def run_on_jax(*files: str, **environment: str) -> None:
    with tempfile.TemporaryDirectory() as programs:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", *files],
            cwd=HERE,
            env=ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": programs} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout or "100%" in done.stdout


def test_layers_and_models_pass_on_jax_without_tensorflow():
    run_on_jax("test_conformance.py")


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
answers = [[(a.text, a.score, [b.text for b in a.alternatives]) for a in model.translate(texts, s)] for s in strategies]
print(json.dumps(answers))
"""


def test_the_same_file_says_the_same_on_both_backends(translator, tmp_path):
    import json

    translator.save(tmp_path / "m.keras")
    texts = [source for source, _ in PAIRS] + ["the boy drinks the old book", ""]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "m.keras"), json.dumps(texts)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    there = json.loads(done.stdout.splitlines()[-1])
    strategies = [ka.Greedy(), ka.BeamSearch(num_beams=5, num_return_sequences=3), ka.Sampling(seed=3, temperature=1.5)]
    for strategy, answers in zip(strategies, there, strict=True):
        for here, (text, score, others) in zip(translator.translate(texts, strategy), answers, strict=True):
            assert (here.text, [a.text for a in here.alternatives]) == (text, others)
            assert abs(here.score - score) < 1e-3
