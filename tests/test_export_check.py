"""`check_export` reports what TensorFlow Serving cannot run."""

import pathlib
import re
import shutil

import keras
import pytest
from exported_translator import exported

import keras_attention as ka
from keras_attention.serving.gpu_costs import step_costs

tf = pytest.importorskip("tensorflow")


__all__ = ["exported"]  # a fixture
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")


ENCODER_STEP = 28  # operations of a step of an LSTM


def test_the_report_describes_the_signature(exported, own_process):
    report = ka.check_export(exported)
    assert report.ok
    assert "attention (?, ?, ?), score (?), " in report.signatures["serving_default"]
    assert report.outputs["text"][1] == ""


@pytest.mark.parametrize("use", [ka.load, ka.check_export])
def test_a_directory_without_a_saved_model_is_an_error(tmp_path, use):
    with pytest.raises(ValueError, match="contains no SavedModel"):
        use(tmp_path)


# Modules that load in Python but not in TensorFlow Serving: the check must report each.


def save_module(path: pathlib.Path, function, spec=None, assets=()) -> pathlib.Path:
    module = tf.Module()
    module.assets = list(assets)
    module.serve = tf.function(function, input_signature=[spec or tf.TensorSpec((None,), tf.string, name="text")])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def xla_op(text):
    from tensorflow.compiler.tf2xla.python import xla

    values = tf.cast(tf.strings.length(text), tf.float32)
    return {"y": xla.dynamic_update_slice(values, tf.zeros((1,)), tf.zeros((1,), tf.int32))}


def compiled(text):
    return {"y": tf.function(lambda x: x * 2.0, jit_compile=True)(tf.cast(tf.strings.length(text), tf.float32))}


def python_function(text):
    return {"y": tf.ensure_shape(tf.py_function(lambda x: x, [text], tf.string), (None,))}


def fixed_output(text):
    return {"y": tf.strings.reduce_join(text)}


def fine(text):
    return {"y": tf.strings.upper(text)}


FAULTS = [
    ("xla op", xla_op, None, "the op XlaDynamicUpdateSlice .* needs XLA"),
    ("compiled", compiled, None, "must be compiled by XLA"),
    ("py_function", python_function, None, "the op EagerPyFunc .* calls Python"),
    (
        "scalar input",
        fine,
        tf.TensorSpec((), tf.string, name="text"),
        "the input text has the shape .*; expected a batch of any size",
    ),
    ("fixed batch", fine, tf.TensorSpec((3,), tf.string, name="text"), r"the input text has the shape \[3\]"),
    ("scalar output", fixed_output, None, "the output y has the shape"),
    ("unknown rank", fine, tf.TensorSpec(None, tf.string, name="text"), "has an unknown rank"),
]


@pytest.mark.parametrize(("name", "function", "spec", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_the_check_reports_unsuitable_modules(tmp_path, name, function, spec, message):
    report = ka.check_export(save_module(tmp_path / "1", function, spec), ["one", "two", "three"])
    assert not report.ok
    assert any(re.search(message, problem) for problem in report.problems), report.problems


def test_a_correct_module_passes_the_check(tmp_path, own_process):
    report = ka.check_export(save_module(tmp_path / "1", fine), ["one", "zwölf"])
    assert report.problems == ()
    assert report.outputs == {"y": ["ONE", "ZWöLF"]}


def test_the_check_supports_inputs_and_outputs_of_every_dtype(tmp_path):
    def function(x):
        kinds = (tf.float16, tf.uint8, tf.int16, tf.uint32, tf.int64)
        return {"y": x * 2, **{f"y_{i}": tf.cast(x + 3, kind) for i, kind in enumerate(kinds)}}

    report = ka.check_export(save_module(tmp_path / "1", function, tf.TensorSpec((None,), tf.float64, name="x")))
    assert report.problems == ()
    assert report.outputs == {"y": [0.0, 0.0], **{f"y_{i}": [3, 3] for i in range(5)}}


def test_the_check_reports_a_missing_asset(tmp_path):
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(tmp_path / "words.txt"),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )
    path = save_module(tmp_path / "1", lambda text: {"y": table.lookup(text)}, assets=[table])
    assert ka.check_export(path, ["two", "three"]).outputs == {"y": [1, -1]}
    shutil.rmtree(path / "assets")
    report = ka.check_export(path)
    assert any("the C++ loader failed" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none", FileNotFoundError, "There is no directory .*none; expected a version directory"),
        ("m.keras", ValueError, r"m\.keras is a file; .* Export it first: keras-attention export .*m\.keras DIRECTORY"),
        ("versions", ValueError, r"versions contains no SavedModel.* Its versions are .*versions/3\."),
    ],
)
def test_a_check_of_another_path_says_what_to_check(tmp_path, name, error, message):
    (tmp_path / "m.keras").write_bytes(b"")
    (tmp_path / "versions" / "3").mkdir(parents=True)
    (tmp_path / "versions" / "3" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(error, match=message):
        ka.check_export(tmp_path / name)


def test_the_step_of_the_decoder_is_counted_and_not_that_of_the_recurrent_encoder(exported):
    """`score` reads the same encoder; in its loop, the decoder has no search, so it has fewer operations."""
    costs = step_costs(exported)
    assert costs["serving_default"].operations > costs["score"].operations > 2 * ENCODER_STEP


def test_a_check_without_examples_is_an_error(exported):
    with pytest.raises(ValueError, match="`examples` is empty"):
        ka.check_export(exported, examples=[])


def test_the_check_reports_missing_weights(exported, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(exported, path)
    shutil.rmtree(path / "variables")
    assert not ka.check_export(path).ok


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not a protobuf", "cannot be read"), (b"", "no graph has `serve` as its only tag")],
)
def test_the_check_reports_an_unreadable_graph(exported, tmp_path, content, message):
    path = shutil.copytree(exported, tmp_path / "1")
    (path / "saved_model.pb").write_bytes(content)
    assert any(message in problem for problem in ka.check_export(path).problems)


def test_the_check_reports_a_name_that_is_no_version(exported, tmp_path):
    path = shutil.copytree(exported, tmp_path / "latest")
    assert any("expects an integer" in problem for problem in ka.check_export(path).problems)
