"""Training data from which no model can learn are an error; what is probably a mistake is one warning."""

import warnings

import pytest

import keras_attention as ka
from keras_attention.cli import training_run

PAIRS = [(f"we eat {i}", f"comemos {i}") for i in range(11)]
LABELLED = [(f"a film {i}", ("good", "bad")[i % 2]) for i in range(12)]
TAGGED = [[("we", "PRON"), (f"eat{i}", "VERB")] for i in range(10)]
IMAGES = [ka.data.CaptionedImage(f"{i}", f"{i}.png", (f"a dog {i}", f"dog {i}")) for i in range(10)]
TEXTS = ["".join(f"they drink water {i} times {j}\n" for j in range(7)) for i in range(7)]
TASKS = {"t": ka.Translator, "c": ka.TextClassifier, "g": ka.TextTagger, "i": ka.Captioner, "lm": ka.CausalLM}


def image(example, *captions):
    return ka.data.CaptionedImage(example.name, example.image, captions)


ERRORS = [
    ("c", [(text, "good") for text, _ in LABELLED], "All 12 training examples have the label good; expected at least"),
    ("g", [[("we", "PRON")], [("it", "PRON")]], "All 2 training examples have the label PRON; .*`tag_column`"),
    ("t", PAIRS[:1] * 3, "All 3 training examples have the input 'we eat 0'; expected different ones. .*`columns`"),
    ("t", [(source, "si") for source, _ in PAIRS], "All 11 training examples have the target 'si'"),
    ("c", [("a film", label) for _, label in LABELLED], "All 12 training examples have the input 'a film'"),
    ("g", TAGGED[:1] * 9, "All 9 training examples have the input 'we eat0'"),
    ("i", [image(e, "a dog") for e in IMAGES], "All 10 training examples have the caption 'a dog'"),
    ("lm", ["to be"] * 5, "All 5 training examples have the input 'to be'"),
    (
        "t",
        [(source, " ") for source, _ in PAIRS],
        "The target, label or tag of all 11 examples is empty; expected text",
    ),
]
WARNINGS = [
    ("t", PAIRS[:2], (), "There are 2 training examples, too few to learn from; a few hundred are needed."),
    ("i", IMAGES[:1], (), "There is one training example, too few"),
    (
        "t",
        PAIRS[:2] * 20,
        (),
        "There are 40 training examples, of which 2 differ, too few to learn from; a few hundred",
    ),
    ("c", LABELLED[:2] * 20, (), "There are 40 training examples, of which 2 differ, too few"),
    ("g", TAGGED[:2] * 600, (), "There are 1,200 training examples, of which 2 differ, too few"),
    ("i", [image(e, e.name) for e in IMAGES[:9]] * 2, (), "There are 18 training examples, of which 9 differ, too few"),
    ("lm", TEXTS[:1], (), "The training texts have 189 characters in all, which is too little to learn from"),
    ("lm", [TEXTS[0] * 10], (), "have 1,890 characters in all, 182 in lines that differ, which is too little"),
    (
        "t",
        [*PAIRS, ("", "si"), (" ", "a"), ("b", "")],
        (),
        "Without text: the input of 2 and the target, label or tag of 1 of 14 examples",
    ),
    (
        "c",
        [*LABELLED, ("", "bad")],
        (),
        "Without text: the input of 1 of 13 examples. Leave such examples out, or correct them.",
    ),
    (
        "t",
        [(s, s if i % 2 else t) for i, (s, t) in enumerate(PAIRS + PAIRS[:1])],
        (),
        "in 6 of 12 examples, such as 'we eat 1'",
    ),
    (
        "g",
        [[(word, word) for word, _ in s] * 2 for s in TAGGED],
        (),
        "equals the input in 40 of 40 examples, such as 'we'",
    ),
    (
        "c",
        [*LABELLED, ("a film 0", "bad")],
        (),
        "1 input has different labels, such as 'a film 0' with bad and",
    ),
    ("g", [*TAGGED, [("we", "PRON"), ("eat3", "PRON")]], (), "such as 'we eat3' with PRON PRON and PRON VERB"),
    ("c", [*LABELLED, ("one", "label")], (), "These labels occur once: label. One may be a mistake"),
    (
        "c",
        [*LABELLED, *[(f"{label} {i}", label) for label in ("caf\u00e9", "Cafe\u0301", "1", "1.0") for i in range(2)]],
        (),
        r"'1' and '1.0', 'Cafe.u0301' and 'caf.xe9'. Write equal labels in the same way",
    ),
    (
        "c",
        [*LABELLED, *[(f"{label} {i}", label) for label in ("ok", "ok\u200f") for i in range(2)]],
        (),
        r"almost equal, but they are different labels: 'ok' and 'ok.u200f'",
    ),
    ("lm", ["".join(TEXTS)] * 2, (), "All 2 training texts are equal, so the model learns this one text"),
    ("t", PAIRS, [*PAIRS[2:5], ("x", "y"), ("z", "y")], "training examples contain 3 of 5 validation examples"),
    ("g", TAGGED, TAGGED[3:], "contain 7 of 7 validation examples"),
    ("g", TAGGED, [[("x", "SYM"), ("y", "SYM")]], "labels of the validation examples: SYM .2."),
    (
        "g",
        TAGGED,
        [[("you", "PRON")], [("it", "PRON")]],
        "All validation examples have the label PRON, so the .* metric",
    ),
    ("i", IMAGES, IMAGES[:3], "contain 3 of 3 validation examples"),
    ("lm", TEXTS, [f"{TEXTS[2]}\n{TEXTS[3]}end"], "training lines contain 14 of 15 validation lines"),
]
FINE = [
    ("t", PAIRS, [*PAIRS[:1], ("x", "y")]),
    ("c", LABELLED, [("a film", "good"), ("the film", "bad")]),
    ("c", [((text, "a pair"), label) for text, label in LABELLED], ()),
    ("g", [*TAGGED, []], [[("you", "PRON"), ("go", "VERB")]]),
    ("i", IMAGES, None),
    ("lm", TEXTS, ["they drink tea"]),
]


@pytest.mark.parametrize(("task", "examples", "message"), ERRORS)
def test_data_without_anything_to_learn_are_an_error(task, examples, message):
    with pytest.raises(ka.data.DataError, match=message):
        TASKS[task].data.check_training(examples)


@pytest.mark.parametrize(("task", "examples", "validation", "message"), WARNINGS)
def test_a_probable_mistake_has_one_warning(task, examples, validation, message):
    with pytest.warns(ka.data.DataWarning, match=message) as caught:
        TASKS[task].data.check_training(examples, validation)
    assert len(caught) == 1


@pytest.mark.parametrize(("task", "examples", "validation"), FINE)
def test_good_data_have_no_warning(task, examples, validation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TASKS[task].data.check_training(examples, validation)


def test_one_label_is_a_warning_if_the_model_has_others():
    with pytest.warns(ka.data.DataWarning, match="have the label good, so the model learns to return it for any text"):
        ka.TextClassifier.data.check_training([(f"film {i}", "good") for i in range(11)], known_labels=("good", "bad"))


def examples_with_rare_labels(once, twice):
    """Return examples of labels that occur once, and of labels that occur twice."""
    labels = [f"{i} x" for i in range(once)] + [f"t{i}" for i in range(twice)] * 2
    return [(f"film {i}", label) for i, label in enumerate(labels)]


@pytest.mark.parametrize(("once", "twice"), [(47, 5), (51, 0)])
def test_labels_that_nearly_all_occur_once_are_an_error(once, twice):
    message = f"There are {once + twice} labels for {once + 2 * twice} examples, such as 0 x.*`columns`"
    with pytest.raises(ka.data.DataError, match=message):
        ka.TextClassifier.data.check_training(examples_with_rare_labels(once, twice), known_labels=())


@pytest.mark.parametrize(("once", "twice", "known"), [(47, 6, False), (41, 4, False), (47, 5, True)])
def test_many_labels_that_occur_once_are_a_warning(once, twice, known):
    examples = examples_with_rare_labels(once, twice)
    with pytest.warns(ka.data.DataWarning, match="occur once: 0 x, 1 x"):
        ka.TextClassifier.data.check_training(examples, known_labels=[label for _, label in examples] * known)


def test_a_resumed_run_knows_the_labels_of_the_model_that_it_started_from(tmp_path):
    model = ka.TextClassifier.from_examples(LABELLED, tokenizer_kind="characters", units=8)
    (tmp_path / "one.tsv").write_text("".join(f"a film {i}\tgood\n" for i in range(12)))
    (tmp_path / "bad.tsv").write_text("a dull film\tbad\n")
    files = {
        "train_files": [tmp_path / "one.tsv"],
        "valid_files": [tmp_path / "bad.tsv"],
        "valid_images": None,
    }
    options = {**files, **dict.fromkeys(("images", "columns", "tag_column"))}
    for init in (model, None):  # a new run, then a resumed one, which does not load the model
        options |= training_run._labels_of(init, ka.TextClassifier)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            examples, valid = training_run._read_data(ka.TextClassifier, options)
        assert (len(examples), valid) == (12, [("a dull film", "bad")])
