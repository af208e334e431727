"""Exports: the same outputs in Python, from a loaded export and from the TensorFlow loader; the check of exports."""

import pathlib
import re
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conformance import IMAGES, MODELS
from conftest import PAIRS
from test_conformance import randomize

import keras_attention as ka
from keras_attention.serving.check import run_tensorflow_loader, serving_tensors
from keras_attention.serving.gpu import step_costs

tf = pytest.importorskip("tensorflow")
from graph_export import InGraph  # noqa: E402

from keras_attention.serving.signatures import GraphTask  # noqa: E402

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")

TINY = {"width": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0}
TEXTS = ["we eat bread", "", "the girl drinks cold milk", "   ", "zzz ж unseen 東京", "they drink water " * 40]


STRATEGY = ka.BeamSearch(
    num_beams=3,
    num_return_sequences=2,
    min_new_tokens=2,
    repetition_penalty=1.1,
    stop=("fr", "ж"),
    suppress_tokens=(9,),
)


ENCODER_STEP = 28  # operations of a step of an LSTM


@pytest.fixture(scope="module")
def exported(translator, tmp_path_factory):
    return translator.export(tmp_path_factory.mktemp("serving") / "translator", strategy=STRATEGY)


@pytest.fixture(scope="module")
def served(exported):
    return ka.load(exported)


def run_stock(path, texts, batch_size):
    inputs, outputs = serving_tensors(path)
    batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
    feeds = [{inputs["text"]: {"dtype": "string", "values": batch}} for batch in batches]
    return [row for output in run_tensorflow_loader(path, outputs, feeds) for row in rows(output)]


def rows(output):
    return [{name: values[i] for name, values in output.items()} for i in range(len(output["text"]))]


@pytest.mark.filterwarnings("ignore:Truncated")
def test_model_export_and_tensorflow_loader_return_the_same_translation(translator, exported, served):
    in_python = translator.translate(TEXTS, STRATEGY)
    for one, two in zip(in_python, served.translate(TEXTS, batch_size=4), strict=True):
        assert (one.text, one.source_pieces, one.target_pieces) == (two.text, two.source_pieces, two.target_pieces)
        np.testing.assert_allclose(one.score, two.score, rtol=1e-4, atol=1e-5)
        if one.attention is not None:
            np.testing.assert_allclose(one.attention, two.attention, rtol=1e-3, atol=1e-5)
    for batch_size in (1, 5):
        for one, row in zip(in_python, run_stock(exported, TEXTS, batch_size), strict=True):
            assert row["text"] == one.text
            assert [piece for piece in row["target_pieces"] if piece] == list(one.target_pieces)
            assert row["alternatives"] == [one.text, *(a.text for a in one.alternatives)] or not one.text
    for outputs in outputs_of_an_empty_batch(served):
        assert {value.shape[0] for value in outputs.values()} == {0}


def outputs_of_an_empty_batch(served) -> list[dict]:
    """Return the outputs of each signature for an empty batch."""
    signatures = served.loaded.signatures.values()
    return [f(**{name: tf.constant([], tf.string) for name in f.structured_input_signature[1]}) for f in signatures]


@pytest.mark.slow
def test_model_export_and_tensorflow_loader_return_the_same_caption(tokenizer, tmp_path):
    """The inputs are batches with readable and unreadable images, and an empty batch."""
    keras.utils.set_random_seed(5)
    model = ka.Captioner.from_preset(
        "show_attend_and_tell",
        tokenizer=tokenizer,
        image_encoder="small_cnn",
        image_size=32,
        units=14,
        embedding_dim=11,
    )
    randomize(model, 0.3)
    encoded_images = [tf.io.encode_jpeg(image).numpy() for image in IMAGES]
    files = [encoded_images[0], b"no image", encoded_images[1], encoded_images[2][:200], encoded_images[2]]
    strategy = ka.BeamSearch(num_beams=3, num_return_sequences=2, max_new_tokens=13)
    in_python, path = model.caption(files, strategy), model.export(tmp_path, strategy=strategy)
    served = ka.load(path)
    assert [c.valid for c in in_python] == [True, False, True, False, True]
    inputs, outputs = serving_tensors(path)
    as_text = [file.decode("utf-8", "surrogateescape") for file in files]
    feeds = [{inputs["image_bytes"]: {"dtype": "string", "values": batch}} for batch in (as_text, *zip(as_text))]
    outputs = run_tensorflow_loader(
        path, outputs, [{k: {**v, "values": list(v["values"])} for k, v in f.items()} for f in feeds]
    )
    for i, (one, two) in enumerate(zip(in_python, served.caption(files, batch_size=2), strict=True)):
        assert (one.text, one.valid, one.pieces) == (two.text, two.valid, two.pieces)
        assert len(one.alternatives) == len(two.alternatives)
        for a, b in zip(one.alternatives, two.alternatives, strict=True):
            # the texts may differ only if the scores are equal
            assert a.text == b.text or abs(a.score - b.score) < 1e-4
        if one.valid:
            np.testing.assert_allclose(one.attention, two.attention, rtol=1e-3, atol=1e-5)
        for output, row in ((outputs[0], i), (outputs[1 + i], 0)):
            assert (output["caption"][row], output["valid"][row]) == (one.text, one.valid)
            np.testing.assert_allclose(output["score"][row], one.score, rtol=1e-4, atol=1e-4)
    for outputs in outputs_of_an_empty_batch(served):
        assert {value.shape[0] for value in outputs.values()} == {0}
    score = served.loaded.signatures["score"]
    scored = score(image_bytes=tf.constant(encoded_images), caption=tf.constant(["we eat"] * 3))
    again = score(image_bytes=tf.constant(encoded_images[1:2]), caption=tf.constant(["we eat"]))
    np.testing.assert_allclose(scored["score"][1], again["score"][0], rtol=1e-4)


@pytest.mark.slow
def test_two_tokenizers_have_separate_vocabularies(tmp_path):
    """This includes two SavedModels in one process, because TF-Text shares resources by name."""
    sides = [ka.data.train_tokenizer([pair[i] for pair in PAIRS], "bpe", size) for i, size in enumerate((43, 97))]
    for version, (source, target) in enumerate((sides, sides[::-1]), 1):
        model = ka.Translator.from_preset(
            "rnn_seq2seq", source_tokenizer=source, target_tokenizer=target, units=14, embedding_dim=11, cell="simple"
        )
        randomize(model, 0.4)
        path = model.export(tmp_path, version, strategy=ka.Greedy())
        in_python = model.translate([s for s, _ in PAIRS], ka.Greedy())
        in_export = ka.load(path).translate([s for s, _ in PAIRS])
        assert [(a.text, a.source_pieces) for a in in_python] == [(a.text, a.source_pieces) for a in in_export]
        assert [row["text"] for row in run_stock(path, [s for s, _ in PAIRS], 3)] == [a.text for a in in_python]


def test_an_export_says_which_texts_it_truncates(recwarn):
    """Of 8 tokens, one is the end token; a pair has one more, and a prompt leaves room for new tokens."""
    tokenizer = ka.data.train_tokenizer(["abcdefghij"], "characters")
    classifier = ka.TextClassifier.from_preset(
        "bert_base", tokenizer=tokenizer, labels=("no", "yes"), template="end", max_length=8, **TINY
    )
    export, texts = InGraph(classifier), ["abcdefg", "abcdefgh", "", "a"]
    for name in ("serving_default", "embed"):
        outputs = export.loaded.signatures[name](text=np.array(texts))
        assert outputs["truncated"].numpy().tolist() == [False, True, False, False]
    pair = export.loaded.signatures["pair"](text=np.array(["abc", "abc", ""]), text_pair=np.array(["abc", "abcd", "a"]))
    assert pair["truncated"].numpy().tolist() == [False, True, False]
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Truncated 1 of 4 texts: the export reads at most 8 tokens"):
        export.classify(texts)
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, max_length=8, **TINY)
    prompts = np.array(["abcde", "abcdef"])  # the start token and two of three new tokens are read, too
    outputs = InGraph(lm, ka.Greedy(max_new_tokens=3)).loaded.signatures["serving_default"](text=prompts)
    assert outputs["truncated"].numpy().tolist() == [False, True]


def test_an_exported_sampling_model_has_a_seed_input(tokenizer, tmp_path):
    model = next(row for row in MODELS if row.predict_method == "complete").make(tokenizer)
    randomize(model, 0.3)
    path = model.export(tmp_path / "lm", strategy=ka.Sampling(max_new_tokens=7))
    prompts = ["we", "", "the boy"]
    in_python = model.complete(prompts, ka.Sampling(max_new_tokens=7, seed=5))
    in_export = ka.load(path).complete(prompts, seed=5)
    assert [a.text for a in in_python] == [a.text for a in in_export]
    assert ka.check_export(path).ok


def test_the_report_describes_the_signature(exported, own_process):
    report = ka.check_export(exported)
    assert report.ok
    assert "attention (?, ?, ?), score (?), " in report.signatures["serving_default"]
    assert report.outputs["text"][1] == ""


def test_the_step_of_the_decoder_is_counted_and_not_that_of_the_recurrent_encoder(exported):
    """`score` reads the same encoder; in its loop, the decoder has no search, so it has fewer operations."""
    costs = step_costs(exported)
    assert costs["serving_default"].operations > costs["score"].operations > 2 * ENCODER_STEP


def test_the_warm_up_file_has_a_predict_request(exported):
    """The test parses the protobuf wire format without the code of the package."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]

    def fields(data):
        offset = 0
        while offset < len(data):
            key, size, shift, offset = data[offset], 0, 0, offset + 1
            while True:
                byte, offset = data[offset], offset + 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            yield key >> 3, data[offset : offset + size]
            offset += size

    ((six, log),) = fields(record)
    ((one, request),) = fields(log)
    (spec_number, spec), (inputs_number, entry) = fields(request)
    assert (six, one, spec_number, inputs_number) == (6, 1, 1, 2)
    assert dict(fields(spec)) == {1: b"model", 3: b"serving_default"}
    name, value = (content for _, content in fields(entry))
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


def test_other_keras_models_cannot_be_exported(tmp_path):
    with pytest.raises(TypeError, match="cannot be exported"):
        ka.serving.export(keras.Sequential([keras.layers.Dense(3)]), tmp_path / "m")
    assert not list((tmp_path / "m").iterdir())


def test_an_export_rejects_the_prediction_methods_of_other_tasks(served):
    with pytest.raises(TypeError, match="is a Translator, which cannot classify; it can translate"):
        served.classify(["we eat"])


def test_a_check_without_examples_is_an_error(exported):
    with pytest.raises(ValueError, match="`examples` is empty"):
        ka.check_export(exported, examples=[])


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


def test_the_check_reports_missing_weights(exported, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(exported, path)
    shutil.rmtree(path / "variables")
    assert not ka.check_export(path).ok


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1", b"not a protobuf", "cannot be read"),
        ("1", b"", "no graph has `serve` as its only tag"),
        ("latest", None, "expects an integer"),
    ],
)
def test_the_check_reports_invalid_directories(exported, tmp_path, name, content, message):
    path = tmp_path / name
    shutil.copytree(exported, path)
    if content is not None:
        (path / "saved_model.pb").write_bytes(content)
    assert any(message in problem for problem in ka.check_export(path).problems)


def test_the_translator_has_memorized_the_pairs(translator):
    """Other tests rely on this property of the fixture."""
    assert [a.text for a in translator.translate([s for s, _ in PAIRS])] == [t for _, t in PAIRS]


def test_white_space_is_split_the_same_in_python_and_in_an_export(tokenizer):
    model = next(row for row in MODELS if row.predict_method == "tag").make(tokenizer)
    texts = ["we\u00a0eat bread", "\u3000", " we\teat\x0b bread ", "\t"]
    assert [a.words for a in model.tag(texts)] == [a.words for a in InGraph(model).tag(texts)]


@pytest.mark.slow
def test_an_exported_translator_samples_the_same_with_the_same_seed(translator):
    strategy = ka.Sampling(temperature=2.0, num_return_sequences=2, max_new_tokens=7)
    texts = ["we eat bread", "they drink water", "we eat bread"]
    in_python = translator.translate(
        texts, ka.Sampling(temperature=2.0, num_return_sequences=2, max_new_tokens=7, seed=5)
    )
    in_export = InGraph(translator, strategy).translate(texts, seed=5)
    assert [(a.text, a.alternatives[0].text) for a in in_python] == [
        (a.text, a.alternatives[0].text) for a in in_export
    ]
    assert len({a.text for a in in_python}) > 1


@pytest.mark.slow
def test_an_export_returns_one_output_per_input_in_extreme_cases():
    """Constraints that allow no token, ids that the tokenizer lacks, and a seed of 32 bits are not errors."""
    tokenizer = ka.data.train_tokenizer(["abcabc", "cba"], "characters")
    model = ka.CausalLM.from_preset(
        "char_rnn", tokenizer=tokenizer, vocabulary_size=37, units=8, embedding_dim=5, max_length=60
    )
    strategy = ka.BeamSearch(num_beams=2, max_new_tokens=59, min_new_tokens=50, no_repeat_ngram_size=1)
    texts = ["abc", "", "ca"]
    assert [c.text for c in InGraph(model, strategy).complete(texts)] == texts
    served = InGraph(model, ka.Sampling(max_new_tokens=13))
    for seed in (5, 2**31 + 5):
        in_python = model.complete(texts, ka.Sampling(max_new_tokens=13, seed=seed))
        assert [c.text for c in in_python] == [c.text for c in served.complete(texts, seed=seed)]


@pytest.mark.slow
def test_incomplete_characters_and_unknown_ids_are_decoded_as_in_python():
    """Outputs with incomplete UTF-8 characters, ids that the tokenizer lacks, and an empty best hypothesis."""
    import keras_hub

    names = [chr(i) for i in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    names += [chr(256 + i) for i in range(256 - len(names))]  # the 256 byte symbols of byte-pair encoding
    vocabulary = {name: i for i, name in enumerate(["<|endoftext|>", *names, "ab"])}
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(vocabulary, ["a b"], unsplittable_tokens=["<|endoftext|>"])
    keras.utils.set_random_seed(5)
    model = ka.Translator.from_preset(
        "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=5,
        target_vocabulary_size=len(vocabulary) + 67,
    )  # fmt: skip
    texts, strategy = ["we eat", " ", "bread"], ka.Sampling(max_new_tokens=11, num_return_sequences=2)
    served = InGraph(model, strategy)
    for one, two in zip(model.translate(texts, strategy), served.translate(texts), strict=True):
        assert (one.text, [a.text for a in one.alternatives]) == (two.text, [a.text for a in two.alternatives])
        count = max((i + 1 for i, piece in enumerate(one.target_pieces) if piece), default=0)
        assert one.target_pieces[:count] == two.target_pieces
        if count:
            np.testing.assert_allclose(one.attention[:count], two.attention, atol=1e-5)
    assert "\ufffd" in "".join(output.text for output in served.translate(texts))
    assert not served.compute_outputs([" "], np.zeros(1, "int32"))["alternative_scores"].any()


@pytest.mark.slow
def test_a_long_prompt_leaves_room_for_the_new_tokens(tokenizer):
    sizes = {"width": 14, "num_heads": 7, "num_layers": 1, "max_length": 17}
    model = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **sizes)
    randomize(model, 0.3)
    never_end = (ka.data.special_tokens_of(tokenizer).end,)
    strategy = ka.Greedy(max_new_tokens=11, suppress_tokens=never_end)
    tail = "b o y b o y"
    prompts = ["we eat bread " * 20 + tail, "they drink milk " * 2 + tail, "we", ""]
    served = InGraph(model, strategy)
    with pytest.warns(UserWarning, match="2 of 4 texts"):
        in_python = model.complete(prompts, strategy)
    assert [len(a.pieces) for a in in_python] == [11] * 4
    assert in_python[0].pieces == in_python[1].pieces  # both are read from their last 17 - 11 tokens
    assert [(a.text, a.pieces) for a in in_python] == [(a.text, a.pieces) for a in served.complete(prompts)]
    with pytest.warns(UserWarning, match="1 of 1 text "):
        assert len(model.complete(prompts[:1], ka.Greedy(min_new_tokens=13, suppress_tokens=never_end))[0].pieces) == 14
    for name, limit in (("max", 16), ("min", 15)):
        options = {f"{name}_new_tokens": limit + 1}
        message = f"is {limit + 1}, but this model reads at most 17 tokens, prompt included; expected at most {limit}"
        with pytest.raises(ValueError, match=f"`{name}_new_tokens` {message}"):
            model.complete(["we"], ka.Greedy(**options))


@pytest.mark.slow
def test_models_in_half_precision_can_be_exported(tokenizer, tmp_path):
    keras.utils.set_random_seed(11)  # a text with two equally good tokens could differ
    rows = {row.name: row for row in MODELS}
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for name, scores in (("attention", "score"), ("tagger with characters", "scores")):
            model = rows[name].make(tokenizer)
            in_python, in_graph = (getattr(m, model.spec.predict_method)(TEXTS) for m in (model, InGraph(model)))
            for one, two in zip(in_python, in_graph, strict=True):  # a value of bfloat16 has 8 bits
                np.testing.assert_allclose(getattr(one, scores), getattr(two, scores), rtol=0.02)
        assert ka.check_export(rows["classifier"].make(tokenizer).export(tmp_path)).problems == ()
    finally:
        keras.config.set_dtype_policy("float32")
