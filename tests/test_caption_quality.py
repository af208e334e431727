"""Caption scores: computed by hand, by coco-caption, without Java, and with a Java that fails."""

import json
import os
import pathlib
import shutil
import sys

import pytest

from keras_attention.metrics import captions as caption_metrics
from keras_attention.metrics.captions import evaluate_captions

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR and coco-caption's tokenizer need Java")
GENERATED = "metrics/coco/fixture_fakecap126.json"


@pytest.fixture(autouse=True)
def _library():
    pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pip install 'keras-attention-models[captioning]'")


def stored(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent; KERAS_ATTENTION_DATA names the folder with it")
    return path.read_text()


def generated_captions():
    """Return captions that a model generated for 126 images of COCO, their references, and their scores."""
    content = json.loads(stored(GENERATED))
    rows = [str(row) for row in content["image_ids"]]
    return [content["hyp_raw"][row] for row in rows], [content["refs_raw"][row] for row in rows], content["scores"]


def two_sentences():
    hypotheses, *references = (stored(f"metrics/nlg_eval/{n}.txt").splitlines() for n in ("hyp", "ref1", "ref2"))
    return hypotheses, list(zip(*references, strict=True)), json.loads(stored("metrics/nlg_eval/expected.json"))


def assert_close(scores, expected, tolerance):
    bleu = [100 * expected[f"Bleu_{n}"] for n in (1, 2, 3, 4)]
    assert scores.bleu == pytest.approx(bleu, abs=100 * tolerance)
    assert (scores.rouge_l, scores.cider) == pytest.approx((expected["ROUGE_L"], expected["CIDEr"]), abs=tolerance)


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Put a shell script with the name `java` on the path."""

    def write_java(script):
        program = tmp_path / "java"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr(caption_metrics, "_time_limit", lambda captions: 1.0)

    return write_java


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)


def test_scores_by_hand(no_java):
    # 4 of 5 words and 2 of 4 pairs are right; the longest common subsequence has 4 words.
    scores = evaluate_captions(["The dog runs home fast."], [["the dog runs fast"]])
    assert scores.bleu[:2] == pytest.approx([80, 100 * (0.8 * 0.5) ** 0.5])
    assert scores.rouge_l == pytest.approx((1 + 1.2**2) * 0.8 * 1 / (1 + 1.2**2 * 0.8))
    # All 3 words are right, but the nearest reference has 4: exp(1 - 4/3).
    scores = evaluate_captions(["a dog runs"], [["a dog runs fast", "nobody sees that a dog runs"]])
    assert scores.bleu[:2] == pytest.approx([71.65313] * 2)
    assert scores.rouge_l == pytest.approx((1 + 1.2**2) * 1 * 0.75 / (0.75 + 1.2**2))


@pytest.mark.slow
@needs_java
def test_scores_of_126_captions_equal_those_of_coco_caption(capfd):
    """The only test of METEOR, which takes eight seconds for any number of captions."""
    hypotheses, references, expected = generated_captions()
    scores = evaluate_captions(hypotheses, references)
    assert_close(scores, expected, 1e-6)
    assert scores.meteor == pytest.approx(expected["METEOR"], abs=1e-6)
    assert scores.signature == "Words split by the PTBTokenizer of coco-caption."
    assert capfd.readouterr().out == ""


@needs_java
def test_scores_of_two_captions_equal_those_of_coco_caption(capfd):
    hypotheses, references, expected = two_sentences()
    assert_close(evaluate_captions(hypotheses, references, meteor=False), expected, 1e-6)
    assert capfd.readouterr().out == ""


def test_scores_without_java(no_java):
    hypotheses, references, expected = generated_captions()
    scores = evaluate_captions(hypotheses, references)
    assert_close(scores, expected, 1e-4)
    assert scores.meteor is None
    assert "regular expression" in scores.signature
    assert "there is no java on the path" in scores.signature


@pytest.mark.slow
@needs_java
def test_the_two_tokenizers_agree_on_human_captions(monkeypatch):
    groups: dict = {}
    for note in json.loads(stored("coco/captions_val2017.json"))["annotations"]:
        groups.setdefault(note["image_id"], []).append(note["caption"])
    captions = list(groups.values())[:1000]
    first, others = [group[0] for group in captions], [group[1:] for group in captions]
    with_java = evaluate_captions(first, others, meteor=False)
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)
    without = evaluate_captions(first, others, meteor=False)
    assert without.bleu == pytest.approx(with_java.bleu, abs=0.1)
    assert (without.rouge_l, without.cider) == pytest.approx((with_java.rouge_l, with_java.cider), abs=0.001)
    assert "PTBTokenizer of coco-caption. No METEOR: it was not requested." in with_java.signature


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's T-shirt, close-up!", "a man 's t-shirt close-up"),
        ("Don't stop at 12:30 on Main St. (in the U.S.)", "do n't stop at 12:30 on main st. -lrb- in the u.s. -rrb-"),
        ('  "Two"  dogs -- one cat...', "two dogs one cat"),
        ("un café\nà Paris", "un café à paris"),
        ("", ""),
    ],
)
def test_words_are_split_like_the_penn_treebank(no_java, text, words):
    assert caption_metrics._tokenize([text])[0] == [words]


@needs_java
def test_java_splits_words_in_the_same_way():
    texts = ["A man's T-shirt, close-up!", "", "Don't stop at 12:30 on Main St. (in the U.S.)", "un café", ""]
    lines, _, trouble = caption_metrics._tokenize(texts)
    assert not trouble
    assert lines[1:3] == ["", "do n't stop at 12:30 on main st. -lrb- in the u.s. -rrb-"]
    assert [lines[0], *lines[3:]] == ["a man 's t-shirt close-up", "un café", ""]


def test_an_empty_caption_scores_zero(no_java):
    scores = evaluate_captions(["", "a dog"], [["a dog runs"], ["a dog"]])
    assert 0 < scores.bleu[0] < 100
    assert scores.rouge_l == pytest.approx(0.5)
    assert evaluate_captions([""], [["a dog runs"]]).bleu == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('case "$1" in -cp) cat;; *) exec sleep 600;; esac', "or took over 1 seconds (no error message)"),
        ('case "$1" in -cp) cat;; *) echo no memory >&2; exit 1;; esac', "its program failed"),
        ('case "$1" in -cp) cat;; *) exec cat;; esac', "its program failed"),
        ("exec sleep 600", "timed out after 1.0 seconds"),
        ("exit 3", "exit status 3"),
        ("cat > /dev/null; echo one line", "returned 1 lines; expected 3, one for each caption"),
    ],
)
def test_without_a_working_java_only_meteor_is_missing(java, script, reason):
    java(script)
    scores = evaluate_captions(["a dog runs"], [["a dog runs", "a dog is running"]])
    assert scores.bleu[0] == pytest.approx(100)
    assert scores.meteor is None
    assert reason in scores.signature


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "of 0 images and the references of 0"),
        (["a dog"], [["a dog"], ["a cat"]], "of 1 image and the references of 2"),
        (["a dog", "a cat"], [["a dog"], []], r"The references of caption 1 are \[\]"),
        (["a dog"], [["", " . "]], "expected a sequence of one or more captions with words"),
        (["a dog"], ["a dog"], "The references of caption 0 are 'a dog'"),
    ],
)
def test_invalid_captions_are_an_error(hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        evaluate_captions(hypotheses, references)


def test_an_error_names_the_extra_of_a_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-attention-models\[captioning\]'"):
        evaluate_captions(["a dog"], [["a dog"]])
