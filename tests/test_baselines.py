"""Baselines compared with results by hand, and their comparison with a trained model."""

import itertools
import math

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.metrics import evaluate_texts
from keras_attention.metrics.baselines import TfIdf, frequent_tags, most_frequent, unigram_loss
from keras_attention.training.baselines import compare_with_baseline

LABELLED = [("a fine film", "good"), ("a dull film", "bad"), ("so fine", "good")]
TAGGED = [[("we", "PRON"), ("eat", "VERB")], [("the", "DET"), ("bread", "NOUN"), ("Eat", "NOUN"), ("eat", "NOUN")]]
TRANSLATED = [("we eat bread", "comemos pan"), ("they drink cold milk", "beben leche fría"), ("we eat", "comemos")]


def test_the_most_frequent_value_is_the_first_of_equally_frequent_ones():
    assert [most_frequent(text) for text in ("abb", "ab", "ba")] == ["b", "a", "b"]


def test_a_word_has_its_most_frequent_tag_in_any_case():
    assert frequent_tags(TAGGED, [["EAT", "we", "unknown"], []]) == [["NOUN", "PRON", "NOUN"], []]


def cosine(one, two):
    """The cosine of TF-IDF vectors of words and pairs of words, from the formula."""
    texts = [source for source, _ in TRANSLATED]
    terms = [text.split() + [f"{a} {b}" for a, b in itertools.pairwise(text.split())] for text in texts]
    known = sorted({term for text in terms for term in text})

    def vector(text):
        words = text.split()
        found = words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
        idf = [1 + math.log((1 + len(texts)) / (1 + sum(term in text for text in terms))) for term in known]
        return np.array([term in found for term in known]) * idf

    one, two = vector(one), vector(two)
    return one @ two / np.linalg.norm(one) / np.linalg.norm(two)


def test_the_most_similar_text_has_the_largest_cosine():
    texts = [source for source, _ in TRANSLATED]
    queries = ["we eat milk", "they eat bread", "cold milk we drink we", "bread bread they"]
    expected = [max(range(3), key=lambda i: cosine(query, texts[i])) for query in queries]
    assert TfIdf(texts).most_similar(queries) == expected
    assert len(set(expected)) == 3
    assert TfIdf(texts).most_similar(["", "nothing known"]) == [0, 0]
    central = max(range(3), key=lambda i: sum(cosine(texts[i], other) for other in texts))
    assert TfIdf(texts).most_central() == central


def test_a_character_of_a_script_without_spaces_is_a_word():
    assert TfIdf(["我们吃面包", "他们喝水", "nothing"]).most_similar(["喝牛奶", "面"]) == [1, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_frequencies_is_the_loss_of_constant_logits(smoothing):
    training = [(None, np.array([[1, 1, 4], [1, 3, 0]]), np.array([[1, 1, 1], [1, 1, 0.0]]))]
    validation = [(None, np.array([[3, 1, 0]]), np.array([[1, 1, 0.0]])), (None, np.array([[2]]), np.array([[1.0]]))]
    frequencies = np.array([1, 4, 1, 2, 2]) / 10  # (count + 1) / (5 + 5)
    logits = np.log((1 - smoothing) * frequencies + smoothing / 5)[None].repeat(3, 0)
    expected = float(ka.training.MaskedCrossEntropy(smoothing)(np.array([3, 1, 2]), logits.astype("float32")))
    assert unigram_loss(training, validation, 5, smoothing) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def tasks():
    """Models of each kind, without training."""
    characters = ka.data.train_tokenizer([*(s for s, _ in TRANSLATED), "áéíóú"], "characters")
    small = {"units": 8, "embedding_dim": 4}
    return {
        "classifier": ka.TextClassifier.from_preset(
            "rnn_classifier", tokenizer=characters, labels=("bad", "good"), **small
        ),
        "tagger": ka.TextTagger.from_preset("rnn_tagger", tokenizer=characters, labels=("NOUN", "VERB"), **small),
        "translator": ka.Translator.from_preset(
            "rnn_seq2seq", source_tokenizer=characters, target_tokenizer=characters, **small
        ),
        "lm": ka.CausalLM.from_preset("char_rnn", tokenizer=characters, **small),
        "mlm": ka.MaskedLM.from_preset("bert_base", tokenizer=characters, width=8, num_heads=2, num_layers=1),
    }


@pytest.mark.parametrize(
    ("task", "training", "validation", "expected"),
    [
        ("classifier", LABELLED, [("a", "good"), ("b", "bad"), ("c", "bad")], 1 / 3),
        ("tagger", TAGGED, [[("eat", "NOUN"), ("we", "VERB")], [("new", "NOUN"), ("the", "DET")]], 3 / 4),
        ("tagger", TAGGED, [[("eat", "NOUN")], [], [("we", "VERB"), ("x", "DET")]], 1 / 3),
    ],
)
def test_the_baseline_of_labels_is_the_accuracy_of_the_most_frequent_one(tasks, task, training, validation, expected):
    assert ka.training.baseline(tasks[task], training, validation).value == pytest.approx(expected)


def test_the_baseline_of_a_translator_is_the_score_of_the_most_similar_examples(tasks):
    validation = [("they drink milk", "beben leche"), ("we eat bread", "comemos pan")]
    expected = evaluate_texts(["beben leche fría", "comemos pan"], [target for _, target in validation])
    assert ka.training.baseline(tasks["translator"], TRANSLATED, validation).value == expected.bleu
    assert ka.training.baseline(tasks["translator"], TRANSLATED, validation, "chrf").value == expected.chrf


def test_the_baseline_of_a_language_model_is_the_loss_of_the_frequencies(tasks):
    texts = [source for source, _ in TRANSLATED]
    ends, characters = len(texts), "".join(texts)
    size = len(characters) + ends + tasks["lm"].tokenizer.vocabulary_size()
    costs = [-math.log((characters.count(c) + 1) / size) for c in "we"] + [-math.log((ends + 1) / size)]
    assert ka.training.baseline(tasks["lm"], texts, ["we"]).value == pytest.approx(sum(costs) / 3)


def test_what_has_no_baseline_is_none(tasks):
    batches = tasks["translator"].make_batches(TRANSLATED)
    assert ka.training.baseline(tasks["translator"], batches, TRANSLATED) is None
    assert ka.training.baseline(tasks["translator"], TRANSLATED, TRANSLATED, "loss") is None
    assert ka.training.baseline(tasks["classifier"], LABELLED, LABELLED, "loss") is None
    lines = ["we eat bread\nwe drink milk\nthey eat"]
    assert ka.training.baseline(tasks["mlm"], lines, lines, "loss") is None  # and next-sentence prediction
    assert 0 < ka.training.baseline(tasks["mlm"], lines, lines, "logits_loss").value < 5


def test_one_caption_is_scored_for_all_images():
    def image(name, *captions):
        return ka.data.CaptionedImage(name, f"{name}.png", captions)

    examples = [image("a", "a dog runs here", "a brown dog runs"), image("b", "a dog runs here fast", "two cats")]
    valid = [image("c", "A dog runs here", "it runs"), image("d", "a dog runs here now")]
    tokenizer = ka.data.train_tokenizer(["a dog"], "characters")
    model = ka.Captioner.from_preset(
        "show_and_tell", tokenizer=tokenizer, image_encoder="small_cnn", image_size=32, units=8, embedding_dim=4
    )
    expected = evaluate_texts(["a dog runs here"] * 2, [e.captions for e in valid], ignore_case=True).bleu
    assert ka.training.baseline(model, examples, valid).value == expected > 0


@pytest.mark.parametrize(
    ("monitor", "values", "line", "warned"),
    [
        ("val_accuracy", {"val_accuracy": 0.75}, "val_accuracy 0.75; baseline 0.5 (the most frequent label)", False),
        ("val_accuracy", {"val_accuracy": 0.5}, "val_accuracy 0.5; baseline 0.5 (the most frequent label)", True),
        ("val_loss", {"val_loss": 0.3, "val_accuracy": 0.25}, "val_accuracy 0.25; baseline 0.5 (the most", True),
        ("loss", {}, "There is no validation data, so the model is not compared", False),
        ("val_loss", {"val_loss": 0.3}, "", False),  # an average of checkpoints: its accuracy is not known
    ],
)
def test_a_model_that_is_not_better_has_a_warning(tasks, monitor, values, line, warned, capsys, recwarn):
    valid = None if monitor == "loss" else [("a", "good"), ("b", "bad")]
    compare_with_baseline(tasks["classifier"], LABELLED, valid, values.get, monitor, True)
    assert capsys.readouterr().err.startswith(line)
    assert ["not better than a baseline" in str(warning.message) for warning in recwarn] == [True] * warned


def test_a_perfect_baseline_says_that_the_validation_examples_are_too_easy(tasks):
    valid = [[("we", "PRON"), ("eat", "NOUN")]]  # the most frequent tags of these words
    with pytest.warns(UserWarning, match="are both perfect: val_accuracy is 1 .* more validation examples") as caught:
        compare_with_baseline(tasks["tagger"], TAGGED, valid, {"val_accuracy": 1.0}.get, "val_accuracy", False)
    assert len(caught) == 1


def test_the_loss_of_masked_tokens_is_compared(tasks, capsys, recwarn):
    lines = ["we eat bread\nwe drink milk\nthey eat"]
    compare_with_baseline(tasks["mlm"], lines, lines, {"val_loss": 1.5, "val_logits_loss": 0.5}.get, "val_loss", True)
    assert capsys.readouterr().err.startswith("val_logits_loss 0.5; baseline ")
    assert not recwarn.list


@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once, on one backend")
def test_train_compares_the_best_model(tasks, tmp_path, capsys):
    plan = ka.training.TrainingPlan(epochs=1, learning_rate=1e-9)
    with pytest.warns(UserWarning, match="the frequency of each token gives"):
        ka.train(tasks["lm"], ["we eat bread", "they"], tmp_path / "one", plan, validation=["we drink"])
    expected = ka.training.baseline(tasks["lm"], ["we eat bread", "they"], ["we drink"], label_smoothing=0.1).value
    assert f"baseline {expected:.4g} (the frequency of each token)" in capsys.readouterr().err
