"""Small things that many tests share. With `BLOCK_TENSORFLOW` set, TensorFlow cannot be imported.

Nothing heavy is imported here at the top: the process that only hands tests out to the workers reads this file too.
"""

import contextlib
import fcntl
import gc
import os
import pathlib
import subprocess
import sys

import pytest

for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # the workers share the cores already; a pool of threads only waits, and spins
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compile fast, not well: these programs run for milliseconds.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
if os.environ.get("BLOCK_TENSORFLOW"):
    for name in ("tensorflow", "tensorflow_text", "tensorflow_datasets"):
        sys.modules[name] = None

HERE = pathlib.Path(__file__).parent
gc.set_threshold(50_000)  # traces are made of many small objects, few of them garbage

PAIRS = [
    ("we eat bread", "comemos pan"),
    ("they drink water", "beben agua"),
    ("we drink water", "bebemos agua"),
    ("they eat bread", "comen pan"),
    ("the boy eats the red apple", "el niño come la manzana roja"),
    ("the girl drinks cold milk", "la niña bebe leche fría"),
    ("i see the old house", "veo la casa vieja"),
    ("you read a book", "lees un libro"),
]


def jax_environment(programs: pathlib.Path) -> dict[str, str]:
    """Where Keras runs on JAX, without TensorFlow, and each program is compiled once, into the folder `programs`."""
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "BLOCK_TENSORFLOW": "1",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="session", autouse=True)
def _fast_graphs():
    """Run TensorFlow's graphs as they are traced: to optimize one takes longer than to run it here."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class _OneLoader:
    """Stands for the module `subprocess` where exports are checked: one process loads them all, one after another."""

    def __init__(self):
        self.process = None

    def run(self, command, *, input, **_):
        if self.process is None:
            program = [sys.executable, str(HERE / "stock_loads.py"), command[-1]]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(f"{input}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            return subprocess.CompletedProcess(command, 0, answer, "")
        code, self.process = self.process.wait(), None
        return subprocess.CompletedProcess(command, code or 1, "", "the process died")

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


@pytest.fixture(scope="session", autouse=True)
def _one_loader():
    """Check exports in one process for the session; `own_process` gives a test a process of its own."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    from keras_attention.serving import check

    loader = _OneLoader()
    check.subprocess = loader
    yield loader
    loader.close()
    check.subprocess = subprocess


@pytest.fixture
def own_process(monkeypatch):
    """Check exports as a user does, each in a process of its own."""
    from keras_attention.serving import check

    monkeypatch.setattr(check, "subprocess", subprocess)


@pytest.fixture
def untraced_training(monkeypatch):
    """Train step by step: TensorFlow traces a step for longer than a test runs it. Searches are traced as ever."""
    import keras

    compile_model = keras.Model.compile

    def compile_eagerly(self, *arguments, **options):
        trained = bool(arguments) or "loss" in options or "optimizer" in options
        compile_model(self, *arguments, **options | ({"run_eagerly": True} if trained else {}))

    monkeypatch.setattr(keras.Model, "compile", compile_eagerly)


# Commands that leave the model that they load as it is.
_READING = ("translate", "caption", "complete", "classify", "tag", "fill", "score", "embed", "evaluate")


@pytest.fixture(scope="session")
def _loaded():
    return {}


@pytest.fixture
def loaded_once(monkeypatch, _loaded):
    """Commands in this process share the model of a file that has not changed, with the searches that it has traced."""
    import keras

    load_model = keras.saving.load_model

    def load_once(path, **options):
        if not set(sys.argv[1:2]) & set(_READING):
            return load_model(path, **options)
        file = os.stat(path)
        key = (str(path), file.st_mtime_ns, file.st_size, str(options))
        if key not in _loaded:
            _loaded[key] = load_model(path, **options)
        return _loaded[key]

    monkeypatch.setattr(keras.saving, "load_model", load_once)


@pytest.fixture(scope="session")
def tokenizer():
    import keras_attention as ka

    return ka.data.train_tokenizer([text for pair in PAIRS for text in pair], "sentencepiece", 71)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A folder that all workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextlib.contextmanager
def made_once(path):
    """Lock a file of the run; the first worker makes it, and the others take it as it is."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@pytest.fixture(scope="session")
def translator_file(tokenizer, whole_run):
    """The file of a translator with attention that knows `PAIRS` by heart; TensorFlow trains it, once for a run."""
    if "TRANSLATOR" in os.environ:
        return pathlib.Path(os.environ["TRANSLATOR"])
    import keras

    import keras_attention as ka

    path = whole_run / "translator.keras"
    with made_once(path) as missing:
        if missing:
            keras.utils.set_random_seed(7)
            model = ka.Translator.from_preset(
                "rnn_attention",
                source_tokenizer=tokenizer,
                target_tokenizer=tokenizer,
                units=38,
                embedding_dim=23,
                dropout=0.0,
            )
            model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), ka.training.MaskedCrossEntropy())
            model.fit(ka.data.translation_batches(PAIRS, model, max_tokens=71), epochs=60, verbose=0)
            model.save(path)
    return path


@pytest.fixture(scope="session")
def translator(translator_file):
    """The translator in `translator_file`."""
    import keras

    import keras_attention  # noqa: F401  (registers its classes)

    return keras.saving.load_model(translator_file, compile=False)
