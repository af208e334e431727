"""Examples are split into training and validation examples; equal inputs are on one side."""

import collections

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.cli.examples import hold_out
from keras_attention.data.batching.splitting import input_of

PAIRS = [(f"source {i % 53}", f"target {i}") for i in range(101)]
EXAMPLES = {
    "pairs": PAIRS,
    "lists": [list(pair) for pair in PAIRS],
    "labelled": [(f"text {i % 37}", "ab"[i % 2]) for i in range(61)],
    "pairs of texts": [((f"text {i % 31}", "b"), "ab"[i % 2]) for i in range(59)],
    "tagged": [[("we", "PRON"), (f"eat{i % 23}", "VERB")] for i in range(47)],
    "images": [ka.data.CaptionedImage(f"{i}", f"{i % 29}.png", (f"a {i}", "b")) for i in range(43)],
    "texts": [f"text {i % 41}" for i in range(67)],
}


@pytest.mark.parametrize("examples", EXAMPLES.values(), ids=list(EXAMPLES))
@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_groups_of_equal_inputs_are_on_one_side(examples, fraction):
    train, valid = ka.data.split_examples(examples, fraction)
    inputs = [{input_of(example) for example in side} for side in (train, valid)]
    assert not inputs[0] & inputs[1]
    assert len(inputs[1]) == round(fraction * len(inputs[0] | inputs[1]))
    assert [e for e in examples if e in train] == train
    assert sorted(map(repr, [*train, *valid])) == sorted(map(repr, examples))


def test_the_seed_chooses_the_examples():
    one, two, other = (ka.data.split_examples(PAIRS, seed=seed)[1] for seed in (3, 3, 5))
    assert one == two != other


def test_the_number_of_validation_groups_is_limited():
    def valid(count, fraction=0.1):
        return len(ka.data.split_examples([(f"{i}", "x") for i in range(count)], fraction)[1])

    assert [valid(19), valid(20), valid(20, 0.001), valid(10_007), valid(10_007, 0.5)] == [0, 2, 1, 1000, 1000]
    with pytest.raises(ValueError, match=r"`fraction` is 1.5; expected a number in \(0, 1\)"):
        valid(20, 1.5)


def test_a_label_stays_in_the_training_examples():
    examples = [(f"text {i}", "common" if i % 3 else f"label {i // 6}") for i in range(60)]  # labels of two examples
    counts = ka.TextClassifier.data.label_counts(examples)
    train, valid = ka.data.split_examples(examples, 0.5, label_counts=ka.TextClassifier.data.label_counts)
    assert len(valid) == 30
    assert set(ka.TextClassifier.data.label_counts(train)) == set(counts)
    tagged = [[("a", "X"), ("b", f"Y{i % 10}")] for i in range(20)]
    tagged = [[*sentence, (f"{i}", "X")] for i, sentence in enumerate(tagged)]
    train, valid = ka.data.split_examples(tagged, 0.5, label_counts=ka.TextTagger.data.label_counts)
    assert len(valid) == 10
    assert collections.Counter(tag for sentence in train for _, tag in sentence)["Y3"] == 1


def test_one_of_few_validation_examples_has_a_rare_label():
    tagged = [[(f"word{i}", "O"), ("ends", "B-LOC" if i in (7, 11, 31) else "O")] for i in range(41)]
    splits = [ka.data.split_examples(tagged, seed=s, label_counts=ka.TextTagger.data.label_counts) for s in range(20)]
    assert [len(valid) for _, valid in splits] == [4] * 20
    assert all("B-LOC" in ka.TextTagger.data.labels(side) for split in splits for side in split)


def test_a_group_of_many_examples_stays_in_training():
    examples = [("often", f"{i}") for i in range(50)] + [(f"{i}", "x") for i in range(20)]
    assert all("often" not in [s for s, _ in ka.data.split_examples(examples, seed=seed)[1]] for seed in range(23))


LINES = [f"line {i} has some words" for i in range(211)]


def test_the_last_part_of_a_text_is_held_out():
    text = "\n".join(LINES)
    (first,), (last,) = ka.data.split_examples([text])
    assert f"{first}\n{last}" == text
    assert 0.1 <= len(last) / len(text) < 0.11
    (first,), (last,) = ka.data.split_examples([text.replace("\n", " ")])
    assert f"{first} {last}" == text.replace("\n", " ")
    unspaced = "".join(np.random.default_rng(3).choice(list("abc"), 2003))
    assert ka.data.split_examples([unspaced]) == ([unspaced[:1803]], [unspaced[1803:]])


def test_a_few_texts_are_cut_as_one():
    texts = ["\n".join(LINES[i : i + 70]) for i in (0, 70, 140)] + ["a short end"]
    train, valid = ka.data.split_examples(texts)
    assert (train[:2], valid[1:]) == (texts[:2], texts[3:])
    assert f"{train[2]}\n{valid[0]}" == texts[2]
    assert 0.1 <= sum(map(len, valid)) / sum(map(len, texts)) < 0.11
    assert ka.data.split_examples(["short"]) == (["short"], [])
    train, valid = ka.data.split_examples(["x" * 1000, "y" * 1000], 0.5)
    assert (train, valid) == (["x" * 1000], ["y" * 1000])


@pytest.mark.parametrize(
    ("task", "examples", "line"),
    [
        (ka.Translator, PAIRS, "--valid is not set: 10 of 101 training examples are held out"),
        (ka.Translator, PAIRS[:9], "--valid is not set, and the data is too little to hold out a part"),
        (
            ka.CausalLM,
            ["\n".join(LINES)],
            "--valid is not set: the last 503 of 4,953 characters are held out",
        ),
        (ka.CausalLM, LINES, "--valid is not set: 21 of 211 training examples are held out"),
    ],
)
def test_the_command_line_says_what_is_held_out(task, examples, line, capsys):
    train, valid = hold_out(task, examples, 3)
    assert capsys.readouterr().err.startswith(line)
    assert (train, valid or []) == ka.data.split_examples(examples, seed=3)
