"""A program: train a model on JAX, in a run that is killed twice and resumed, and in one that is not.

The argument is a directory for both runs, `whole` and `killed`, each with the final weights. Each run is a process of
its own, and all share the time for imports.
"""

import itertools
import os
import pathlib
import signal
import sys

for name in ("sklearn", "tensorflow", "tensorflow_text"):  # JAX starts faster, and has a compilation cache
    sys.modules[name] = None

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_attention as ka  # noqa: E402
from keras_attention.training.checkpoints import load_arrays  # noqa: E402

TEXTS = [" ".join(words) for words in itertools.permutations(("we", "eat", "red"))]  # one length: one program


class Kill(keras.callbacks.Callback):
    """Kill the process in the first batch of an epoch; -1 for no epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.killed_in, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.killed_in:
            os.kill(os.getpid(), signal.SIGKILL)


def train(path: pathlib.Path, killed_in: int) -> None:
    """Begin or resume a run, and write its final weights."""
    keras.utils.set_random_seed(3)
    if (path / "model.keras").exists():
        model = keras.saving.load_model(path / "model.keras", compile=False)
    else:
        sizes = {"units": 12, "embedding_dim": 7, "dropout": 0.2, "cell": "simple"}
        tokenizer = ka.data.train_tokenizer(TEXTS, "characters")
        model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **sizes)
    batches = ka.data.language_batches(TEXTS, model, max_tokens=32)
    assert len(batches) == 3
    ka.train(model, batches, path, ka.training.TrainingPlan(epochs=5, monitor="loss"), callbacks=[Kill(killed_in)])
    np.savez(path / "final.npz", **{weight.path: np.asarray(weight) for weight in model.weights})


def main(folder: str) -> None:
    """Print the exit code of each process, the epoch of its checkpoint, and whether it wrote final weights."""
    for name, epoch in ("whole", -1), ("killed", 0), ("killed", 3), ("killed", -1):
        path = pathlib.Path(folder, name)
        if not os.fork():
            train(path, epoch)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.wait()[1])
        epoch = load_arrays(path / "checkpoint.npz")[1]["epoch"]
        print("run", code, epoch, (path / "final.npz").exists(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
