"""Fixtures that many tests share. With `BLOCK_TENSORFLOW` set, TensorFlow cannot be imported.

No large package is imported at the top: the process that only distributes tests to workers imports this file too.
"""

import contextlib
import fcntl
import functools
import gc
import gzip
import os
import pathlib
import subprocess
import sys
import types
import typing

import pytest

for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # the workers already use all cores; more threads would only wait
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compile fast, without optimization: these programs run for milliseconds.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# Keras imports scikit-learn, and TensorFlow imports JAX, if it is installed: a second each, and no test uses them.
UNUSED = ("sklearn", "jax")
if os.environ.get("BLOCK_TENSORFLOW"):
    UNUSED = ("sklearn", "tensorflow", "tensorflow_text", "tensorflow_datasets")
sys.modules.update(dict.fromkeys(UNUSED))

HERE = pathlib.Path(__file__).parent
# It compares JAX with the outputs of TensorFlow, which test_jax.py computes.
collect_ignore = [] if os.environ.get("BLOCK_TENSORFLOW") else ["test_backends.py"]
gc.set_threshold(150_000)  # tracing makes many small objects, and few of them are garbage

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


# The emitters of fused operations take twice as long to compile a program; splitting small programs takes time too.
JAX_FLAGS = f"{os.environ['XLA_FLAGS']} --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def jax_environment(programs: pathlib.Path | None = None) -> dict[str, str]:
    """Return the environment for Keras on JAX without TensorFlow; processes share the compiled programs in a folder."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "BLOCK_TENSORFLOW": "1", "XLA_FLAGS": JAX_FLAGS}
    if programs is None:
        return environment
    return environment | {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


# The files that take longest run first, so that both workers end together; the second one runs the three of models.
MODELS = ("test_model_networks", "test_model_updates", "test_model_predictions")
LONGEST = ("test_jax", MODELS[0], "test_cli", *MODELS[1:], "test_docs", "test_foreign_tokenizers")


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_sessionstart(session):
    """Divide the processor into two devices of TensorFlow for test_token_loss.py, before TensorFlow uses it."""
    is_worker = hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None)
    if is_worker and not os.environ.get("BLOCK_TENSORFLOW"):
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_collection_finish():
    gc.freeze()  # what was imported is never garbage


EXIT_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End the processes that ran tests at once: Python takes seconds to free the models, graphs and programs."""
    if hasattr(config, "workerinput") or os.environ.get("BLOCK_TENSORFLOW"):
        sys.stdout.flush()
        os._exit(config.stash[EXIT_STATUS])


@pytest.fixture(scope="session", autouse=True)
def _few_collections():
    """Let `gc.collect()` collect only new objects: Keras calls it for each weight that `quantize` replaces.

    With the objects of all tests, a whole collection takes up to a second; `gc.collect(2)` is one.
    """
    collect = gc.collect
    gc.collect = lambda generation=0: collect(generation)
    yield
    gc.collect = collect


@pytest.fixture(scope="session", autouse=True)
def _fast_initializers():
    """Draw the random numbers of initial weights with NumPy on JAX, which compiles a program for each shape."""
    import keras
    import numpy as np

    def drawn(values, dtype):
        return keras.ops.convert_to_tensor(values.astype("float32"), dtype or "float32")  # JAX would compile the cast

    def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
        return drawn(np.random.uniform(minval, maxval, shape), dtype)

    def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        return drawn(np.random.normal(mean, stddev, shape), dtype)

    def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        return drawn(mean + stddev * np.clip(np.random.normal(size=shape), -2.0, 2.0), dtype)

    if keras.backend.backend() == "jax":
        from keras.src.initializers import random_initializers

        functions = {**vars(random_initializers.random), **{f.__name__: f for f in (uniform, normal, truncated_normal)}}
        random_initializers.random = types.SimpleNamespace(**functions)
        keras.initializers.Orthogonal.__call__ = lambda self, shape, dtype=None: normal(shape, 0.0, len(shape) ** -0.5)
        keras.initializers.Zeros.__call__ = lambda self, shape, dtype=None: keras.ops.convert_to_tensor(
            np.zeros(shape, keras.backend.standardize_dtype(dtype))
        )


@pytest.fixture(scope="session", autouse=True)
def _fast_graphs():
    """Let TensorFlow make graphs faster: without optimization, and without a stack trace for each operation.

    And variables: a new name needs a new kernel, which takes five times as long as the rest.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.framework import ops
        from tensorflow.python.ops import gen_resource_variable_ops as variable_ops

        make_handle = variable_ops.var_handle_op

        def make_unnamed_handle(*, name, debug_name, **options):
            name = None if tf.executing_eagerly() else name
            return make_handle(name=name, debug_name=name or "", **options)

        variable_ops.var_handle_op = make_unnamed_handle

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)  # for `isinstance` with a protocol
        versions = tf.Graph().graph_def_versions
        tf.Graph.graph_def_versions = property(lambda graph: versions)
        ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)


class _OneLoader:
    """A replacement for the module `subprocess` in the check of exports: one process loads all exports, one by one."""

    def __init__(self):
        self.process = None

    def run(self, command, *, input, **_):
        if self.process is None:
            program = [sys.executable, str(HERE / "one_loader.py"), command[-1]]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(f"{input}\n")
        self.process.stdin.flush()
        output = self.process.stdout.readline()
        if output:
            return subprocess.CompletedProcess(command, 0, output, "")
        code, self.process = self.process.wait(), None
        return subprocess.CompletedProcess(command, code or 1, "", "the process died")

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


@pytest.fixture(scope="session", autouse=True)
def _one_loader():
    """Check all exports of the session in one process; the fixture `own_process` starts a new one."""
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
    """Check each export in a new process, as for a user."""
    from keras_attention.serving import check

    monkeypatch.setattr(check, "subprocess", subprocess)


def train_shortly(monkeypatch, epochs: int) -> None:
    """Let `fit` train for at most a few epochs, each of one batch."""
    import keras

    fit = keras.Model.fit

    def fit_shortly(self, *arguments, initial_epoch=0, **options):
        options["epochs"] = min(options.get("epochs", 1), initial_epoch + epochs)
        return fit(self, *arguments, initial_epoch=initial_epoch, steps_per_epoch=1, **options)

    monkeypatch.setattr(keras.Model, "fit", fit_shortly)


def train_eagerly(monkeypatch) -> None:
    """Train and search eagerly: TensorFlow takes longer to trace a step or a search than to run it here."""
    import keras

    compile_model = keras.Model.compile

    def compile_eagerly(self, *arguments, **options):
        compile_model(self, *arguments, **options | {"run_eagerly": True})

    monkeypatch.setattr(keras.Model, "compile", compile_eagerly)


@pytest.fixture
def untraced(monkeypatch):
    """See `train_eagerly`."""
    train_eagerly(monkeypatch)


@pytest.fixture
def short_searches(untraced, monkeypatch):
    """End each search after 5 new tokens: a model that has learned nothing reaches the maximum length."""
    from keras_attention.generation import Strategy

    check = Strategy.__post_init__

    def shorten(self):
        check(self)
        if sys.argv[1:2] != ["augment"]:  # it uses only translations that end
            object.__setattr__(self, "max_new_tokens", min(self.max_new_tokens or 5, 5) + self.min_new_tokens)

    monkeypatch.setattr(Strategy, "__post_init__", shorten)


@pytest.fixture
def empty_plots(monkeypatch):
    """Write plots as empty files: test_visualize.py draws them."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **_: pathlib.Path(path).touch())


# Commands that do not change the model that they load.
_READ_ONLY = ("translate", "caption", "complete", "classify", "tag", "fill", "score", "embed", "evaluate")


@pytest.fixture(scope="session")
def _loaded():
    return {}


@pytest.fixture
def loaded_once(monkeypatch, _loaded):
    """Load each unchanged model file and export once, so that commands share the model and its traced searches."""
    import keras
    import tensorflow as tf

    def once(load):
        def load_once(path, **options):
            if not set(sys.argv[1:2]) & set(_READ_ONLY):
                return load(path, **options)
            file = os.stat(path)
            key = (str(path), file.st_mtime_ns, file.st_size, str(options))
            if key not in _loaded:
                _loaded[key] = load(path, **options)
            return _loaded[key]

        return load_once

    monkeypatch.setattr(keras.saving, "load_model", once(keras.saving.load_model))
    monkeypatch.setattr(tf.saved_model, "load", once(tf.saved_model.load))


@pytest.fixture(scope="session")
def tokenizer():
    import keras_attention as ka

    return ka.data.train_tokenizer([text for pair in PAIRS for text in pair], "sentencepiece", 71)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A folder that all workers of one test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextlib.contextmanager
def made_once(path):
    """Lock a file of the test run; the first worker writes it, and the others read it."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@pytest.fixture(scope="session")
def translator_file(tokenizer, whole_run):
    """The file of an attention translator that has memorized `PAIRS`; TensorFlow trains it, once per test run."""
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
    """The translator of `translator_file`; on TensorFlow it searches eagerly, which takes less time than to trace."""
    import keras

    import keras_attention  # noqa: F401  (registers its classes)

    model = keras.saving.load_model(translator_file, compile=False)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    return model


@pytest.fixture
def write(tmp_path):
    """A function that writes a file, compressed if its name ends in .gz, and returns its path."""

    def write(name, text):
        data = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write
