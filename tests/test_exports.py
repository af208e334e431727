"""An export returns what its model returns, also from the TensorFlow loader, and is written once and completely."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from backends import arrays
from conftest import PAIRS
from exported_translator import STRATEGY, exported, served
from model_rows import IMAGES, MODELS, randomize
from protobuf_fields import fields

import keras_attention as ka
from keras_attention.serving.check import run_tensorflow_loader, serving_tensors

tf = pytest.importorskip("tensorflow")

from keras_attention.serving.signatures import GraphTask  # noqa: E402

__all__ = ["exported", "served"]  # fixtures
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")

ENCODED = [tf.io.encode_jpeg(image).numpy() for image in IMAGES]
FILES = [ENCODED[0], b"no image", ENCODED[1], ENCODED[2][:200], ENCODED[2]]
TEXTS = ["we eat bread", "", "the girl drinks cold milk", "   ", "zzz ж unseen 東京", "they drink water " * 40]


def run_loader(path, strings: list[str | bytes], batch_size: int) -> list[dict]:
    """Return the outputs of the TensorFlow loader, one dict for each string."""
    (inputs, outputs), texts = serving_tensors(path), [as_text(string) for string in strings]
    (tensor,) = inputs.values()
    batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
    feeds = [{tensor: {"dtype": "string", "values": batch}} for batch in batches]
    found = run_tensorflow_loader(path, outputs, feeds)
    return [dict(zip(batch, row, strict=True)) for batch in found for row in zip(*batch.values(), strict=True)]


def as_text(string: str | bytes) -> str:
    """Return bytes as JSON can hold them."""
    return string if isinstance(string, str) else string.decode("utf-8", "surrogateescape")


def assert_close_attention(one, two) -> None:
    """Compare the attention of two outputs; those of an empty text have none."""
    np.testing.assert_allclose(arrays(one.attention), arrays(two.attention), rtol=1e-3, atol=1e-5)


def assert_empty_batches_have_empty_outputs(served) -> None:
    for function in served.loaded.signatures.values():
        outputs = function(**{name: tf.constant([], tf.string) for name in function.structured_input_signature[1]})
        assert {value.shape[0] for value in outputs.values()} == {0}


@pytest.mark.filterwarnings("ignore:Truncated")
def test_an_export_returns_the_translations_of_its_model(translator, exported, served, monkeypatch):
    monkeypatch.setattr(translator, "run_eagerly", False)  # a long text takes many steps
    in_python = translator.translate(TEXTS, STRATEGY)
    for one, two in zip(in_python, served.translate(TEXTS, batch_size=4), strict=True):
        assert (one.text, one.source_pieces, one.target_pieces) == (two.text, two.source_pieces, two.target_pieces)
        np.testing.assert_allclose(one.score, two.score, rtol=1e-4, atol=1e-5)
        assert_close_attention(one, two)
    for batch_size in (1, 5):
        for one, row in zip(in_python, run_loader(exported, TEXTS, batch_size), strict=True):
            assert row["text"] == one.text
            assert [piece for piece in row["target_pieces"] if piece] == list(one.target_pieces)
            assert row["alternatives"] == [one.text, *(a.text for a in one.alternatives)] or not one.text
    assert_empty_batches_have_empty_outputs(served)


@pytest.fixture(scope="module")
def captioner(tokenizer):
    """A captioner that has learned nothing."""
    keras.utils.set_random_seed(5)
    sizes = {"image_encoder": "small_cnn", "image_size": 32, "units": 14, "embedding_dim": 11}
    model = ka.Captioner.from_preset("show_attend_and_tell", tokenizer=tokenizer, **sizes)
    randomize(model, 0.3)
    return model


@pytest.mark.slow
def test_an_export_returns_the_captions_of_its_model(captioner, tmp_path):
    """Batches have readable and unreadable images. Two alternatives may differ if they are equally probable."""
    strategy = ka.BeamSearch(num_beams=3, num_return_sequences=2, max_new_tokens=13)
    path = captioner.export(tmp_path, strategy=strategy)
    served, in_python = ka.load(path), captioner.caption(FILES, strategy)
    assert [caption.valid for caption in in_python] == [True, False, True, False, True]
    for one, two in zip(in_python, served.caption(FILES, batch_size=2), strict=True):
        assert (one.text, one.valid, one.pieces) == (two.text, two.valid, two.pieces)
        for a, b in zip(one.alternatives, two.alternatives, strict=True):
            assert a.text == b.text or abs(a.score - b.score) < 1e-4
        assert_close_attention(one, two)
    for batch_size in (1, 5):
        for one, row in zip(in_python, run_loader(path, FILES, batch_size), strict=True):
            assert (row["caption"], row["valid"]) == (one.text, one.valid)
            np.testing.assert_allclose(row["score"], one.score, rtol=1e-4, atol=1e-4)
    assert_empty_batches_have_empty_outputs(served)
    score = served.loaded.signatures["score"]
    alone, together = (
        score(image_bytes=tf.constant(files), caption=tf.constant(["we eat"] * len(files)))["score"].numpy()
        for files in (ENCODED[1:2], ENCODED)
    )
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-4)


@pytest.mark.slow
def test_two_tokenizers_have_separate_vocabularies(tmp_path):
    """Two SavedModels in one process have their own as well, although TF-Text shares resources by name."""
    sources = [source for source, _ in PAIRS]
    sides = [ka.data.train_tokenizer([pair[i] for pair in PAIRS], "bpe", size) for i, size in enumerate((43, 97))]
    for version, (source, target) in enumerate((sides, sides[::-1]), 1):
        sizes = {"units": 14, "embedding_dim": 11, "cell": "simple"}
        model = ka.Translator.from_preset("rnn_seq2seq", source_tokenizer=source, target_tokenizer=target, **sizes)
        randomize(model, 0.4)
        path = model.export(tmp_path, version, strategy=ka.Greedy())
        expected = [(output.text, output.source_pieces) for output in model.translate(sources, ka.Greedy())]
        assert [(output.text, output.source_pieces) for output in ka.load(path).translate(sources)] == expected
        assert [row["text"] for row in run_loader(path, sources, 3)] == [text for text, _ in expected]


def test_an_exported_sampling_model_has_a_seed_input(tokenizer, tmp_path):
    model = next(row for row in MODELS if row.predict_method == "complete").make(tokenizer)
    randomize(model, 0.3)
    path = model.export(tmp_path / "lm", strategy=ka.Sampling(max_new_tokens=7))
    prompts = ["we", "", "the boy"]
    in_python = model.complete(prompts, ka.Sampling(max_new_tokens=7, seed=5))
    in_export = ka.load(path).complete(prompts, seed=5)
    assert [a.text for a in in_python] == [a.text for a in in_export]
    assert ka.check_export(path).ok


def test_the_warm_up_file_has_a_predict_request(exported):
    """The test reads the request without the code of the package that writes it."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    ((six, log),) = fields(record)
    ((one, request),) = fields(log)
    (spec_number, spec), (inputs_number, entry) = fields(request)
    name, value = (content for _, content in fields(entry))
    assert (six, one, spec_number, inputs_number) == (6, 1, 1, 2)
    assert dict(fields(spec)) == {1: b"model", 3: b"serving_default"}
    assert name == b"text"
    assert [text.decode() for text in TensorProto.FromString(value).string_val] == ["we are eating bread", ""]


def test_an_export_is_never_overwritten(translator, exported):
    before = sorted(p.stat().st_mtime_ns for p in exported.rglob("*"))
    with pytest.raises(FileExistsError, match="is not overwritten"):
        translator.export(exported.parent)
    assert sorted(p.stat().st_mtime_ns for p in exported.rglob("*")) == before


def test_a_failed_export_leaves_no_files(translator, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(GraphTask, "module", lambda *_: SimpleNamespace(functions={}))
    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        translator.export(tmp_path / "t")
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.parametrize("version", [0, -3, True, 1.5, "1"])
def test_a_version_that_is_not_positive_is_an_error(translator, tmp_path, version):
    with pytest.raises(ValueError, match="expected a positive integer"):
        translator.export(tmp_path, version=version)


@pytest.mark.parametrize("examples", ["we eat", [3], ["we eat", None]])
def test_a_warmup_request_that_a_server_cannot_read_is_an_error(translator, tmp_path, examples):
    with pytest.raises(TypeError, match=r"`examples` is .*; expected a list of texts"):
        translator.export(tmp_path, examples=examples)
    assert not list(tmp_path.iterdir())


def test_an_export_rejects_the_prediction_methods_of_other_tasks(served):
    with pytest.raises(TypeError, match=r"is a Translator, which cannot classify\. Call `translate`"):
        served.classify(["we eat"])


def test_the_translator_has_memorized_the_pairs(translator):
    """Other tests rely on this property of the fixture."""
    assert [a.text for a in translator.translate([s for s, _ in PAIRS])] == [t for _, t in PAIRS]
