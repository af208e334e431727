"""The commands that predict: n-best lists, JSON, scores, plots, and lines that arrive one by one."""

import io
import json
import os
import sys

import keras
import numpy as np
import pytest
from command_line import model, run, served
from conftest import PAIRS

import keras_attention as ka
from keras_attention.cli.lines import json_line, read_chunks, text_line, write_lines
from keras_attention.outputs import Completion, Translation

__all__ = ["model", "run", "served"]  # fixtures
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")

SOURCE = b"we eat bread\n\nthey drink water\n"


class Stream:
    """A stream whose reads return these blocks; it records how many were read."""

    def __init__(self, *blocks):
        self.blocks, self.buffer, self.reads = list(blocks), self, 0

    def read1(self, size):
        self.reads += 1
        return self.blocks.pop(0) if self.blocks else b""


def test_a_line_is_processed_before_the_next_is_read(monkeypatch):
    stream = Stream(b"\xef\xbb\xbfone\r\n", b"tw", b"o\n\nthr", b"ee\nfo", b"ur")
    monkeypatch.setattr(sys, "stdin", stream)
    chunks = read_chunks(None)
    assert (next(chunks), stream.reads) == (["one"], 1)
    assert (next(chunks), stream.reads) == (["two", ""], 3)
    assert list(chunks) == [["three"], ["four"]]


def test_many_lines_are_processed_in_chunks(monkeypatch, tmp_path):
    lines = [str(i) for i in range(1031)]
    (tmp_path / "x.txt").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "stdin", Stream("\n".join(lines).encode()))
    for chunks in (list(read_chunks(None)), list(read_chunks(str(tmp_path / "x.txt")))):
        assert [line for chunk in chunks for line in chunk] == lines
        assert max(map(len, chunks)) == 512


@pytest.mark.parametrize("source", [None, "-"])
def test_each_line_of_standard_input_has_an_output(monkeypatch, capsys, source):
    monkeypatch.setattr(sys, "stdin", Stream(b"one\n\n", b"two"))
    write_lines(source, lambda lines, done: [f"{done} {line}" for line in lines])
    assert capsys.readouterr().out == "0 one\n0 \n2 two\n"


def test_outputs_and_alternatives_are_one_line():
    other = Translation("a", "d\ne", -2.0, (), ("d\ne",))
    output = Translation("a", "b c", -float("inf"), ("a",), ("b", "c"), np.array([[0.25], [0.5]]), (other,))
    assert text_line(output, "text", scores=False) == "b c\td\\ne"
    assert text_line(output, "text", scores=True) == "-inf\tb c\t-2.0000\td\\ne"
    assert text_line(Translation("", "", 0.0), "text", scores=True) == ""
    expected = {"source": "a", "text": "b c", "score": None, "source_pieces": ["a"], "target_pieces": ["b", "c"]}
    expected["alternatives"] = [{"text": "d\ne", "score": -2.0, "target_pieces": ["d\ne"]}]
    assert json.loads(json_line(output)) == expected
    assert json.loads(json_line(output, attention=True)) == {**expected, "attention": [[0.25], [0.5]]}
    assert json.loads(json_line(Completion("a", "a", 0.0), n=3)) == {
        "prompt": "a", "text": "a", "score": 0.0, "pieces": [], "n": 3,
    }  # fmt: skip
    assert json.loads(json_line(Completion("", "", 0.0), several=True))["alternatives"] == []
    assert json.loads(json_line(output, several=True)) == expected


def test_translate_writes_n_best_lists_as_text_and_json(run, model, tmp_path):
    search = [
        "--num-beams",
        3,
        "--num-return-sequences",
        3,
        "--stop",
        " p",
        "--stop",
        "\\n",
        "--repetition-penalty",
        1.1,
    ]
    code, out, err = run("translate", model, *search, "--plot", tmp_path / "plots", stdin=SOURCE)
    lines = [line.split("\t") for line in out.splitlines()]
    assert (code, [line[0] for line in lines]) == (0, ["comemos", "", "beben agua"]), err
    assert len(set(lines[2])) == len(lines[2]) > 1
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["1.attention.png", "3.attention.png"]
    _, out, _ = run("translate", model, *search, "--attention", stdin=SOURCE)
    objects = [json.loads(line) for line in out.splitlines()]
    assert [[o["text"], *(a["text"] for a in o["alternatives"])] for o in objects] == lines
    assert np.shape(objects[0]["attention"]) == (len(objects[0]["target_pieces"]), len(objects[0]["source_pieces"]))
    code, _, err = run("translate", model, "--num-return-sequences", 3, stdin=SOURCE)
    assert (code, "`BeamSearch` with as many --num-beams, can return more" in err) == (2, True)


def test_score_writes_the_log_probability_of_each_target(run, model, served):
    rows = "".join(f"{source}\t{target}\n" for source, target in PAIRS[:3])
    expected = ka.score(ka.load(model), *([pair[i] for pair in PAIRS[:3]] for i in range(2)))
    code, out, err = run("score", model, stdin=rows.encode())
    assert code == 0, err
    np.testing.assert_allclose([float(line) for line in out.splitlines()], expected, atol=1e-3)
    objects = [json.loads(line) for line in run("score", served, "--json", stdin=rows.encode())[1].splitlines()]
    assert [(o["source"], o["target"]) for o in objects] == PAIRS[:3]
    np.testing.assert_allclose([o["score"] for o in objects], expected, atol=1e-3)
    code, _, err = run("score", model, stdin=b"we eat\n")
    assert (code, "standard input, line 1: 1 column; expected source and target" in err) == (1, True)


def test_classify_writes_the_probabilities_of_all_labels(run, tokenizer, tmp_path):
    labels = ("bad", "so so", "good")
    classifier = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=labels, units=14)
    classifier.save(tmp_path / "c.keras")
    code, out, err = run("classify", tmp_path / "c.keras", "--json", "--attention", stdin=b"we eat\n\n")
    assert code == 0, err
    first, empty = map(json.loads, out.splitlines())
    ids, mask = classifier.input_reader.arrays(["we eat"])
    logits = np.array(classifier({"token_ids": ids, "padding_mask": mask}))[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert tuple(first["probabilities"]) == labels
    np.testing.assert_allclose(list(first["probabilities"].values()), probabilities, atol=1e-5)
    assert (first["text"], first["label"]) == ("we eat", labels[np.argmax(probabilities)])
    assert len(first["attention"]) == len(first["pieces"])
    assert (empty["label"], set(empty["probabilities"].values())) == ("", {0.0})


def test_the_output_is_utf_8_in_every_locale(run, model, monkeypatch):
    """In the locale C, Python encodes standard output as ASCII. A name of a file may have other bytes."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", output)
    code, _, err = run("score", model, "--json", stdin="¿we eat\tcomé\n".encode())
    output.flush()
    assert code == 0, err
    assert json.loads(output.buffer.getvalue().decode())["source"] == "¿we eat"
    output.write(os.fsdecode(b"caf\xe9.jpg"))
    output.flush()
    assert output.buffer.getvalue().endswith(b"caf\xe9.jpg")
