"""Each loader has one clear error for each kind of unusable file; unusual but usable files are read."""

import gzip
import lzma
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

import keras_attention as ka
from keras_attention.data import DataError, read_captions, read_labelled, read_pairs, read_tagged, read_texts
from keras_attention.models import CausalLM
from keras_attention.models.network.config_checks import check_labels
from keras_attention.prediction.encoded_inputs import check_images, check_texts

LOADERS = {  # name of a loader -> the loader, a suffix of its files, and a file of one row
    "pairs": (read_pairs, ".tsv", "we eat\tcomemos\n"),
    "labelled": (read_labelled, ".csv", "fine,good\n"),
    "labelled jsonl": (read_labelled, ".jsonl", '{"text": "fine", "label": "good"}\n'),
    "texts": (read_texts, ".txt", "we eat\n"),
    "documents": (lambda path: CausalLM.data.read([path]), ".txt", "we eat\n"),
    "tagged": (read_tagged, ".conll", "we\tPRON\n"),
    "captions": (lambda path: read_captions(path, path.parent), ".csv", "a.png,a dog\n"),
}
FILES = {  # kind of a file -> its bytes, from the file of one row; and the error
    "empty": (lambda row: b"", "contains no (examples|captions)"),
    "blank lines": (lambda row: b"\n \n\r\n\t\n", "contains no (examples|captions)"),
    "binary": (lambda row: bytes(range(256)), "line 1: a byte is 0, so .* is a binary file; expected text"),
    "UTF-16": (lambda row: row.encode("utf-16"), "line 1: the text is UTF-16.*iconv -f utf-16 -t utf-8"),
    "UTF-16 without a mark": (lambda row: row.encode("utf-16-le"), "line 1: a byte is 0.*iconv -f utf-16le"),
    "Latin-1": (lambda row: row.encode() + b"caf\xe9\n", "line 2: byte 4 is not UTF-8.*iconv -f latin1"),
    "old Mac": (lambda row: (row.strip() + "\r" + row.strip()).encode(), r"line ends of an old Mac.*tr '\\r' '\\n'"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", LOADERS)
def test_an_unusable_file_is_an_error(name, kind, tmp_path):
    load, suffix, row = LOADERS[name]
    make, message = FILES[kind]
    (tmp_path / "a.png").write_bytes(b"")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(make(row))
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_folders_and_damaged_files_are_errors(name, tmp_path):
    load, suffix, row = LOADERS[name]
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder; expected a file"):
        load(tmp_path / f"folder{suffix}")
    for ending, data in ((".gz", gzip.compress(row.encode() * 99)), (".xz", lzma.compress(row.encode() * 99))):
        (tmp_path / f"x{suffix}{ending}").write_bytes(data[:-9])  # as while it is downloaded
        with pytest.raises(DataError, match=f"is not a complete {ending} file.*Download it again"):
            load(tmp_path / f"x{suffix}{ending}")


@pytest.mark.parametrize("name", LOADERS)
def test_one_row_is_read_with_any_line_end(name, tmp_path):
    load, suffix, row = LOADERS[name]
    (tmp_path / "a.png").write_bytes(b"")
    examples = []
    for i, data in enumerate((row, row.strip(), row.replace("\n", "\r\n"), "\ufeff" + row)):
        (tmp_path / f"{i}{suffix}").write_bytes(data.encode())
        examples.append(load(tmp_path / f"{i}{suffix}"))
    assert len(examples[0]) == 1
    assert all(example == examples[0] for example in examples)


def test_a_missing_image_and_a_folder_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no image .*no\.jpg"):
        ka.data.read_images([tmp_path / "no.jpg"], 5)
    with pytest.raises(FileNotFoundError, match="is a folder; expected an image"):
        ka.data.read_images([tmp_path], 5)


def test_long_rows_are_read(tmp_path):
    """A cell of 100,000 words is longer than the csv module allows by default."""
    text = "we " * 100_000
    for name, content in (("a.csv", f'text,label\n"{text}",good\n'), ("a.tsv", f"{text}\tgood\n")):
        (tmp_path / name).write_text(content)
        assert read_labelled(tmp_path / name) == [(text, "good")]


RAW_EXAMPLES = {  # what a user passes as raw examples -> the task and the error
    "the name of a file": (ka.Translator, "pairs.csv", r"is a str 'pairs.csv'; expected a list of \(source, target\)"),
    "a path": (ka.TextClassifier, pathlib.Path("r.csv"), r"'r\.csv'; expected.*`ka\.data\.read_labelled\(path\)`"),
    "texts of a translator": (ka.Translator, ["we eat"], r"Example 0 of `examples` is 'we eat'; expected"),
    "two letters": (ka.Translator, ["we"], r"Example 0 .*two strings"),
    "a triple": (ka.Translator, [("a", "b"), ("a", "b", "c")], r"Example 1 of `examples` is \('a', 'b', 'c'\)"),
    "a generator": (ka.CausalLM, (text for text in "ab"), "`examples` is a generator; expected a list of texts"),
    "a word with a space": (ka.TextTagger, [[("New York", "LOC")]], "expected .*, where a word has no white space"),
    "an empty word": (ka.TextTagger, [[("we", "PRON"), ("", "X")]], "expected .*, where a word has no white space"),
    "a label of another type": (ka.TextClassifier, [("fine", 1)], r"Example 0 of `examples` is \('fine', 1\)"),
    "numbers": (ka.TextClassifier, np.zeros((2, 3)), r"Example 0 of `examples` is array"),
    "texts of a tagger": (ka.TextTagger, ["we eat"], r"expected a list of sentences, each a list of \(word, tag\)"),
    "labelled texts of a tagger": (ka.TextTagger, [("we eat", "X")], "`ka.data.read_tagged"),
    "captions": (
        ka.Captioner,
        [("a.png", "a dog")],
        r"expected a list of CaptionedImage.*read_captions\(path, images\)",
    ),
    "pairs of a language model": (ka.MaskedLM, [("a", "b")], "expected a list of texts, each a string"),
}


@pytest.mark.parametrize(("task", "examples", "message"), RAW_EXAMPLES.values(), ids=RAW_EXAMPLES)
def test_raw_examples_of_another_kind_are_an_error(task, examples, message):
    with pytest.raises(TypeError, match=message):
        task.from_examples(examples)


def test_each_function_checks_its_raw_examples(tokenizer, tmp_path):
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), units=14)
    model.compile()
    functions = (
        model.fit,
        model.evaluate,
        lambda examples: model.fit([("we eat", "no")], validation_data=examples),
        lambda examples: ka.train(model, examples, tmp_path / "run"),
        lambda examples: ka.evaluate(model, examples),
    )
    for function in functions:
        for examples in ("pairs.csv", ["we eat"]):
            with pytest.raises(TypeError, match=r"expected a list of \(text, label\)"):
                function(examples)
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="`directory` is a TrainingPlan; expected the path of the run"):
        ka.train(model, [("we eat", "no")], ka.training.TrainingPlan())
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(TypeError, match=r"`strategy` is .*but a TextClassifier does not search; leave it out"):
            model.export(tmp_path / "served", strategy=ka.Greedy())
    with pytest.raises(TypeError, match="`translation` is a list; expected one"):
        ka.visualize.plot_alignment([ka.Translation("a", "b", 0.0)])
    with pytest.raises(TypeError, match="Example 1 of `examples` is"):
        model.fit(["we eat", "we drink"], ["no", 1])


@pytest.mark.parametrize("texts", [{"text": "we eat"}, {"we eat", "we drink"}])
def test_a_dict_or_a_set_is_not_a_list_of_texts(texts):
    """A loop over a dict has the text "text"; the outputs for a set would have no known order."""
    with pytest.raises(TypeError, match=f"Expected a list of strings; received a {type(texts).__name__}"):
        check_texts(texts)


@pytest.mark.parametrize("labels", [{"no", "yes"}, {"yes": 1, "no": 0}, 2, "no"])
def test_labels_have_an_order(labels):
    """The ids of classes are the positions of the labels; a dict may say otherwise, and a set has none."""
    with pytest.raises(ValueError, match=r"`labels` is .*; expected a list of at least two different names"):
        check_labels(labels)
    check_labels(np.array(["no", "yes"]))


@pytest.mark.parametrize("options", [{"epochs": 1.5}, {"epochs": "3"}, {"learning_rate": "1e-3"}, {"seed": None}])
def test_a_value_of_a_plan_of_another_type_is_an_error(options):
    with pytest.raises(TypeError, match=r"`.*` is .*; expected (an integer|a number)"):
        ka.training.TrainingPlan(**options)


IMAGES = {  # what a user passes as images -> the error
    "floats": (
        [np.zeros((3, 5, 3), "uint8"), np.zeros((3, 5, 3), "float32")],
        "Image 1 is an array of type float32.*255 *",
    ),
    "one array": (np.zeros((5, 7, 3), "uint8"), r"received one ndarray. Wrap it: \[image\]"),
    "one image of Pillow": (Image.new("RGB", (3, 5)), r"received one Image. Wrap it"),
    "another object": ([7], "Image 0 is a int; expected a path, bytes or an array of uint8"),
}


@pytest.mark.parametrize(("images", "message"), IMAGES.values(), ids=IMAGES)
def test_images_of_another_kind_are_an_error(images, message):
    with pytest.raises(TypeError, match=message):
        check_images(images)


def test_an_image_of_pillow_is_an_array():
    image = Image.new("L", (5, 3), 7)
    (array,) = check_images([image])
    np.testing.assert_array_equal(array, np.full((3, 5, 3), 7, "uint8"))


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


COLUMNS = {  # --columns -> the error
    "reviw": ({"text": "reviw", "label": "stars"}, "there is no column 'reviw'. Did you mean review?"),
    "7": ({"text": "1", "label": "7"}, "there is no column '7'; expected"),
}


@pytest.mark.parametrize(("columns", "message"), COLUMNS.values(), ids=COLUMNS)
def test_the_missing_column_is_named(columns, message, tmp_path):
    (tmp_path / "x.csv").write_text("id,review,stars\n1,fine,5\n")
    (tmp_path / "x.jsonl").write_text('{"id": 1, "review": "fine", "stars": "5"}\n')
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(DataError) as caught:
            read_labelled(tmp_path / name, columns)
        assert message in str(caught.value)
