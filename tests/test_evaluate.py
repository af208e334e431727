"""The class attributes of each task, and `ka.evaluate` against values computed by hand or by sacreBLEU."""

import keras
import numpy as np
import pytest
import sacrebleu

import keras_attention as ka
from keras_attention.cli.evaluate import _report
from keras_attention.cli.options import task_class
from keras_attention.metrics.entities import have_entities

TASKS = ka.models.TASKS
TINY = {"width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5, "dropout": 0.0}
RECURRENT = {"units": 14, "embedding_dim": 3, "dropout": 0.0}
LINES = ["we eat bread", "they drink water", "we drink cold milk"]
PAIRS = [("we eat bread today", "hoy comemos pan fresco"), ("they drink water", "beben mucha agua fría")]
TAGGED = [[("we", "PRON"), ("eat", "VERB")], [("bread", "NOUN"), ("!", "PUNCT")]]
LABELLED = [("a fine film", "good"), ("a dull film", "bad"), ("so fine", "good")]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_the_attributes_of_a_task_are_consistent(task):
    preset = ka.presets()[task.spec.default_preset]
    assert preset.task == task.__name__ == task_class(task.spec.command_name).__name__
    assert callable(getattr(task, task.spec.predict_method))
    assert task.spec.output_class.__name__ in getattr(task, task.spec.predict_method).__annotations__["return"]
    assert task.spec.default_strategy is None or task.spec.default_strategy().num_beams == 1
    assert bool(task.spec.default_strategy) == hasattr(task, "step")
    assert task.spec.metric in ("loss", "accuracy", *task.data.text_metrics)


CHARACTERS = {"tokenizer_kind": "characters"}
FILES = [
    (
        ka.Translator,
        "".join(f"{a}\t{b}\n" for a, b in PAIRS),
        PAIRS,
        CHARACTERS | {"preset": "rnn_seq2seq", **RECURRENT},
    ),
    (ka.CausalLM, "\n".join(LINES), ["\n".join(LINES)], CHARACTERS | RECURRENT),
    (ka.MaskedLM, "\n".join(LINES), ["\n".join(LINES)], CHARACTERS | TINY),
    (ka.PermutationLM, "\n".join(LINES), ["\n".join(LINES)], CHARACTERS | TINY),
    (ka.TextClassifier, "".join(f"{a}\t{b}\n" for a, b in LABELLED), LABELLED, CHARACTERS | RECURRENT),
    (ka.TextTagger, "\n\n".join("\n".join(map("\t".join, s)) for s in TAGGED), TAGGED, RECURRENT),
]


@pytest.mark.parametrize(("task", "text", "examples", "options"), FILES, ids=[row[0].__name__ for row in FILES])
def test_a_file_becomes_a_model_and_batches(task, text, examples, options, tmp_path):
    (tmp_path / "examples.txt").write_text(text)
    assert task.data.read([str(tmp_path / "examples.txt")]) == examples
    model = task.from_examples(examples * 2, vocabulary_size=60, **options)
    assert all(tokenizer.vocabulary_size() > 8 for tokenizer in model.tokenizers.values())
    inputs, labels, _ = model.make_batches(examples, max_tokens=97, shuffle=False)[0]
    assert set(inputs) <= set(model.input)
    assert len({len(array) for array in keras.tree.flatten([inputs, labels])}) == 1  # as many rows in each
    with pytest.raises(ValueError, match="There are 3 files"):
        task.data.read(["a", "b", "c"])


def test_a_recurrent_tagger_has_a_word_and_a_character_tokenizer():
    model = ka.TextTagger.from_examples(TAGGED * 2, **RECURRENT)
    assert model.config.labels == ("NOUN", "PRON", "PUNCT", "VERB")
    assert set("breadwt!") <= set(model.character_tokenizer.get_vocabulary())
    assert "▁bread" in model.tokenizer.get_vocabulary()


def test_a_shared_vocabulary_is_one_tokenizer():
    tiny = {"tokenizer_kind": "characters", "preset": "transformer_tiny", **TINY}
    shared = ka.Translator.from_examples(PAIRS, **tiny)
    assert shared.source_tokenizer is shared.target_tokenizer
    two = ka.Translator.from_examples(PAIRS, shared_vocabulary=False, **tiny)
    assert "í" not in two.source_tokenizer.get_vocabulary()
    assert "í" in two.target_tokenizer.get_vocabulary()


class Exported:
    """A replacement for an export: its labels, the name of a prediction method, and that method."""

    metadata = {"max_length": 31}
    labels = ("bad", "good", "PRON", "VERB", "NOUN", "PUNCT")

    def __init__(self, predict_method, output):
        self.predict_method, self.output = predict_method, output

    def __getattr__(self, name):
        return lambda inputs, batch_size: [self.output(x) for x in inputs]


def test_bleu_and_chrf_equal_those_of_sacrebleu():
    written = {"we eat bread today": "hoy comemos el pan fresco", "they drink water": "beben agua fría"}
    model = Exported("translate", lambda source: ka.Translation(source, written[source], 0.0))
    scores = ka.evaluate(model, PAIRS)
    references = [[target for _, target in PAIRS]]
    np.testing.assert_allclose(
        (scores["bleu"], scores["chrf"]),
        (
            sacrebleu.corpus_bleu(list(written.values()), references).score,
            sacrebleu.corpus_chrf(list(written.values()), references).score,
        ),
        atol=1e-3,
    )
    assert scores["bleu_signature"].startswith("nrefs:1|case:mixed")
    assert {name: count for name, (count, _) in scores["by_length"].items()} == {"1-7": 2}
    upper = Exported("translate", lambda source: ka.Translation(source, dict(PAIRS)[source].upper(), 0.0))
    assert ka.evaluate(upper, PAIRS, ignore_case=True)["bleu"] == 100


def test_accuracy_by_hand():
    classifier = Exported("classify", lambda text: ka.Classification(text, "good", 0.5))
    scores = ka.evaluate(classifier, LABELLED)
    assert (scores["accuracy"], scores["correct"], scores["total"]) == (2 / 3, 2, 3)
    tagger = Exported("tag", lambda text: ka.Tagging(text, (), ("PRON", "NOUN")[: text.count(" ") + 1], ()))
    scores = ka.evaluate(tagger, [*TAGGED, [("bread", "NOUN")]])
    assert (scores["accuracy"], scores["correct"], scores["total"]) == (1 / 5, 1, 5)


# IOB2 (expected), IOB1, BIOES and BILOU describe these entities: PER 0-1, PER 2, LOC 4, ORG 6-8.
IOB2 = "B-PER I-PER B-PER O B-LOC O B-ORG I-ORG I-ORG"
SCHEMES = [
    (IOB2, IOB2, (1.0, 1.0, 1.0)),
    (IOB2, "I-PER I-PER B-PER O I-LOC O I-ORG I-ORG I-ORG", (1.0, 1.0, 1.0)),
    (IOB2, "B-PER E-PER S-PER O S-LOC O B-ORG I-ORG E-ORG", (1.0, 1.0, 1.0)),
    (IOB2, "B-PER L-PER U-PER O U-LOC O B-ORG I-ORG L-ORG", (1.0, 1.0, 1.0)),
    (IOB2, "O O O O O O O O O", (0.0, 0.0, 0.0)),
    # PER 0-2 instead of two, LOC 4 is right, ORG in two parts
    (IOB2, "B-PER I-PER I-PER O B-LOC O B-ORG B-ORG I-ORG", (1 / 4, 1 / 4, 1 / 4)),
    # two of four are right, and MISC 0-1 and 3 are wrong
    (IOB2, "B-MISC I-MISC B-PER I-MISC B-LOC O B-ORG O O", (2 / 5, 2 / 4, 4 / 9)),
    ("O O", "I-X E-X", (0.0, 0.0, 0.0)),
    ("S-X E-X B-X I-Y", "B-X B-X S-X S-Y", (1.0, 1.0, 1.0)),
    ("B-a-b I-a-b B I", "I-a-b I-a-b I I", (1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize(("expected", "predicted", "scores"), SCHEMES)
def test_entities_by_hand(expected, predicted, scores):
    micro, _ = ka.metrics.evaluate_entities([expected.split()], [predicted.split()])
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx(scores)


@pytest.mark.parametrize(("tags", "expected"), [
    (["O", "B-PER"], True), (["O", "I-PER", "E-PER"], True), (["NOUN", "B-PER"], False), (["O", "E-PER"], False),
    (["", "B-PER"], False), ([""], False), ([], False),
])  # fmt: skip
def test_tags_of_entities_have_prefixes(tags, expected):
    assert have_entities(tags) == expected


def test_entities_of_a_type_by_hand_and_in_evaluate():
    sentences = [list(zip("abcdefghi", tags.split(), strict=True)) for tags in (IOB2, "O B-LOC O B-PER O O O O O")]
    predicted = iter((IOB2.replace("B-ORG I-ORG", "O B-ORG").split(), ["B-LOC", "I-LOC", "O", "B-PER", "O", "B-LOC"]))
    model = Exported("tag", lambda text: ka.Tagging(text, (), tuple(next(predicted)), ()))
    model.labels = ("O", *(f"{prefix}-{type_}" for prefix in "BI" for type_ in ("LOC", "ORG", "PER")))
    scores = ka.evaluate(model, sentences)
    assert {type_: (s.precision, s.recall, s.f1, s.total) for type_, s in scores["by_type"].items()} == {
        "LOC": (1 / 3, 1 / 2, 2 / 5, 2),
        "ORG": (0.0, 0.0, 0.0, 1),
        "PER": (1.0, 1.0, 1.0, 3),
    }
    # 4 of 7 predicted and of 6 expected entities are right; 7 of 9 and 3 of 9 words, of which 3 have no tag
    assert (scores["precision"], scores["recall"], scores["f1"]) == (4 / 7, 4 / 6, 8 / 13)
    assert (scores["accuracy"], scores["correct"], scores["signature"]) == (
        10 / 18,
        10,
        "per:word|entities:exact|average:micro",
    )
    assert list(_report(scores))[:3] == [
        "F1 0.6154 (precision 0.5714, recall 0.6667)",
        "accuracy 0.5556 (10 of 18)",
        "  LOC: F1 0.4000 (precision 0.3333, recall 0.5000, expected: 2)",
    ]


@pytest.mark.parametrize("labels", [("O", "B-PER"), ("I-A", "O", "E-A", "S-A"), ("B", "I", "O")])
def test_a_tagger_of_entities_can_be_selected_by_f1(labels):
    sentence = [("a", label) for label in labels]
    tagger = ka.TextTagger.from_examples([sentence] * 2, **RECURRENT)
    assert tagger.data.output_metrics(tagger) == ("f1",)
    assert tagger.data.validation_metric(tagger, [sentence], "f1") == ka.evaluate(tagger, [sentence])["f1"]


@pytest.mark.parametrize("labels", [("NOUN", "VERB"), ("O", "S-A"), ("B-A", "I-A", "X")])
def test_a_tagger_of_other_labels_has_no_f1(labels):
    tagger = ka.TextTagger.from_examples([[("a", label) for label in labels]] * 2, **RECURRENT)
    assert tagger.data.output_metrics(tagger) == ()


def token_arrays(part):
    """Return the arrays for tokens; a model of next sentences also has others."""
    return part["logits"] if isinstance(part, dict) else part


def totals(model, documents) -> np.ndarray:
    """Return the sum over all tokens of the losses, of the correct predictions, and of the weights."""
    batches, sums = model.make_batches(documents, shuffle=False), np.zeros(3)
    for inputs, *targets in (batches[i] for i in range(len(batches))):
        labels, weights = map(token_arrays, targets)
        logits = np.asarray(token_arrays(model(inputs)), "float64")
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses = -np.take_along_axis(log_probs, labels[..., None], -1)[..., 0]
        sums += [(x * weights).sum() for x in (losses, log_probs.argmax(-1) == labels, 1)]
    return sums


DOCUMENTS = ["\n".join(LINES * 5), "\n".join(LINES)]  # two batches of different size
ACCURACIES = [
    (ka.MaskedLM, {**TINY, "next_sentence": False}, {"loss", "accuracy", "signature"}),
    (ka.MaskedLM, TINY, {"loss", "accuracy", "next_sentence_accuracy", "signature"}),
    (ka.PermutationLM, TINY, {"loss", "accuracy", "signature"}),
]


@pytest.mark.parametrize(("task", "sizes", "names"), ACCURACIES)
def test_loss_and_accuracy_are_means_over_all_tokens(task, sizes, names):
    model = task.from_examples(DOCUMENTS, max_length=41, **CHARACTERS, **sizes)
    scores, (losses, correct, weights) = ka.evaluate(model, DOCUMENTS), totals(model, DOCUMENTS)
    assert set(scores) == names
    assert scores["loss"] == pytest.approx(losses / weights, rel=1e-4)
    assert scores["accuracy"] == pytest.approx(correct / weights, abs=1e-6)


def test_the_perplexity_of_a_language_model_is_that_of_its_loss():
    """Its windows overlap, so that each token has a longer context than in a batch."""
    model = ka.CausalLM.from_examples(DOCUMENTS, max_length=41, **CHARACTERS, **RECURRENT)
    scores, (losses, _, weights) = ka.evaluate(model, DOCUMENTS), totals(model, DOCUMENTS)
    assert set(scores) == {"loss", "perplexity", "signature"}
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))
    assert 1 < scores["perplexity"] < 2 * np.exp(losses / weights)


def test_evaluate_does_not_change_the_compiled_model():
    model = ka.CausalLM.from_examples(LINES, **RECURRENT)
    model.compile(optimizer := keras.optimizers.SGD(0.1), ka.training.MaskedCrossEntropy())
    ka.evaluate(model, LINES)
    assert model.optimizer is optimizer


MISTAKES = [
    (lambda: ka.evaluate(Exported("translate", None), []), ValueError, "no examples to evaluate on"),
    (
        lambda: ka.evaluate(Exported("fill", None), LINES),
        TypeError,
        "An exported MaskedLM has no loss: .* true tokens, only what `fill` does",
    ),
    (lambda: ka.evaluate(Exported("translate", None), PAIRS, ka.Greedy()), TypeError, "an export has a fixed strategy"),
    (lambda: ka.evaluate(object(), PAIRS), TypeError, "`model` is a object; expected one of Translator"),
    (
        lambda: ka.evaluate(ka.TextClassifier.from_examples(LABELLED, **RECURRENT), [("a film", "gut")]),
        ValueError,
        "none of the model's labels, which are bad, good; they have gut",
    ),
    (
        lambda: ka.evaluate(ka.TextClassifier.from_examples(LABELLED, **RECURRENT), LABELLED, ka.Greedy()),
        TypeError,
        "a TextClassifier does not search",
    ),
    (lambda: ka.evaluate(Exported("tag", None), [[], []]), ValueError, "no words to evaluate on"),
    (lambda: ka.evaluate(Exported("complete", None), [" ", ""]), ValueError, "All texts are empty"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES, ids=[row[2] for row in MISTAKES])
def test_invalid_arguments_are_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
