"""Arguments of tasks of another kind are an error: examples, texts, labels, strategies."""

import pathlib

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models.network.config_checks import check_labels
from keras_attention.prediction.encoded_inputs import check_texts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.translate(["we eat"], batch_size=0), "`batch_size` is 0"),
        (lambda t: ka.TextTagger.from_preset("rnn_tagger", tokenizer=t.source_tokenizer, labels="ab"), "two different"),
        (
            lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, attention="dot"),
            "a recurrent language model uses none",
        ),
        (lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, units="x"), "an integer"),
        (
            lambda t: ka.CausalLM.from_preset("char_rnn", tokenizer=t.source_tokenizer, vocabulary_size=3),
            "pieces; omit `vocabulary_size`",
        ),
    ],
)
def test_invalid_arguments_of_models_are_an_error(translator, make, message):
    with pytest.raises(ValueError, match=message):
        make(translator)


@pytest.mark.parametrize("texts", ["we eat", b"we eat", [3]])
def test_other_inputs_than_a_list_of_strings_are_an_error(translator, texts):
    with pytest.raises(TypeError, match=r"xpected a (list of )?string"):
        translator.translate(texts)


def test_the_error_for_a_list_of_words_says_how_to_join_them():
    with pytest.raises(
        TypeError, match=r"Text 0 is list; expected a string\. Join words with spaces: ' '\.join\(words\)"
    ):
        check_texts([["Peter", "works"]])


@pytest.mark.parametrize("strategy", [ka.Greedy, "greedy", 5])
def test_a_strategy_is_an_object(translator, strategy):
    with pytest.raises(TypeError, match=r"`strategy` is .*; expected an object, such as ka.Greedy\(\)"):
        translator.translate(["we eat"], strategy)


RAW_EXAMPLES = {  # what a user passes as raw examples -> the task and the error
    "the name of a file": (ka.Translator, "pairs.csv", r"is a str 'pairs.csv'; expected a list of \(source, target\)"),
    "a path": (ka.TextClassifier, pathlib.Path("r.csv"), r"'r\.csv'; expected.*`ka\.data\.read_labelled\(path\)`"),
    "texts of a translator": (ka.Translator, ["we eat"], r"Example 0 of `examples` is 'we eat'; expected"),
    "two letters": (ka.Translator, ["we"], r"Example 0 .*two strings"),
    "a triple": (ka.Translator, [("a", "b"), ("a", "b", "c")], r"Example 1 of `examples` is \('a', 'b', 'c'\)"),
    "a generator": (ka.CausalLM, (text for text in "ab"), "`examples` is a generator; expected a list of texts"),
    "a word with a space": (ka.TextTagger, [[("New York", "LOC")]], "expected .*, where a word has no white space"),
    "an empty word": (ka.TextTagger, [[("we", "PRON"), ("", "X")]], "expected .*, where a word has no white space"),
    "a label that is a number": (
        ka.TextClassifier,
        [("fine " * 50, 5)],
        r"Example 0 of `examples` contains 5 of type int, where a string is expected; convert it with str\(\.\.\.\)",
    ),
    "a label of NumPy": (ka.TextClassifier, [("fine", np.int64(1))], "of type int64, where a string"),
    "a tag that is a number": (ka.TextTagger, [[("we", "X"), ("eat", 3)]], "contains 3 of type int, where a string"),
    "a missing translation": (ka.Translator, [("we eat", None)], "contains None of type NoneType, where a string"),
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


@pytest.fixture
def classifier(tokenizer):
    return ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), units=14)


def test_each_function_checks_its_raw_examples(classifier, tmp_path):
    model = classifier
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
    with pytest.raises(TypeError, match="Example 1 of `examples` contains 1 of type int"):
        model.fit(["we eat", "we drink"], ["no", 1])


def test_a_plan_is_not_a_directory(classifier):
    with pytest.raises(TypeError, match="`directory` is a TrainingPlan; expected the path of the run"):
        ka.train(classifier, [("we eat", "no")], ka.training.TrainingPlan())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")
def test_a_classifier_is_not_exported_with_a_strategy(classifier, tmp_path):
    with pytest.raises(TypeError, match=r"`strategy` is .*but a TextClassifier does not search; leave it out"):
        classifier.export(tmp_path / "served", strategy=ka.Greedy())


def test_a_plot_checks_its_prediction():
    with pytest.raises(TypeError, match="`translation` is a list; expected one Translation"):
        ka.plot_alignment([ka.Translation("a", "b", 0.0)])
    with pytest.raises(TypeError, match=r"`translation` is a Caption; .* `plot_caption` a Caption"):
        ka.plot_alignment(ka.Caption("a", 0.0))
    with pytest.raises(TypeError, match=r"`caption` is a Translation; expected one Caption. `plot_alignment` plots"):
        ka.plot_caption(ka.Translation("a", "b", 0.0), b"")


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
