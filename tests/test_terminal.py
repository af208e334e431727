"""What the command line and a training run write to standard error."""

import io
import os
import sys
import types

import keras
import pytest
from command_line import run

from keras_attention.cli import terminal
from keras_attention.cli.lines import write_lines
from keras_attention.training.progress import EpochLog, ProgressBar, duration

__all__ = ["run"]  # a fixture


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self):
        return True


BARS = [
    ((3, 2, 10.0, ""), "lines [" + "=" * 16 + ">" + " " * 7 + "] 2/3, 0:05 left"),  # 16 = 24 * 2 / 3; 5 s for each
    ((7, 0, 0.0, ""), "lines [>" + " " * 23 + "] 0/7"),
    ((7, 7, 700.0, ", loss 2"), "lines [" + "=" * 24 + "] 7/7, loss 2, 0:00 left"),
    ((None, 11, 5.0, ""), "lines 11"),
]


@pytest.mark.parametrize(("arguments", "line"), BARS)
def test_a_bar_shows_what_is_done_and_the_time_left(arguments, line):
    total, *rest = arguments
    assert ProgressBar(total, "lines").text(*rest) == line


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7384, "2:03:04")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def trained(epochs: int) -> None:
    """Train a tiny network with the log."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    ones = keras.ops.ones
    model.fit(ones((7, 3)), ones((7, 1)), batch_size=2, epochs=epochs, verbose=0, callbacks=[EpochLog()])


def test_a_file_gets_one_line_per_epoch_and_a_terminal_a_bar_too(monkeypatch):
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        trained(epochs=2)
        lines = stream.getvalue().split("\n")
        assert [line.split("\r")[-1].split(" ")[:3] for line in lines[:-1]] == [["epoch", "1/2:", "loss"],
                                                                                ["epoch", "2/2:", "loss"]]  # fmt: skip
        assert ("left" in lines[0], "left" in lines[1].split("\r")[-1]) == (True, False) or stream.isatty()
        assert "\x1b" not in stream.getvalue()
        assert ("\r" in stream.getvalue(), "] 1/4, loss" in stream.getvalue()) == (stream.isatty(),) * 2


@pytest.mark.parametrize(
    ("saved", "message"),
    [(["checkpoint.npz"], "--out '{out}' --resume"), ([], "Nothing was saved")],
    ids=["a checkpoint", "nothing"],
)
def test_ctrl_c_says_what_was_saved_and_how_to_resume(run, tmp_path, monkeypatch, saved, message):
    out = tmp_path / "a run"
    (tmp_path / "book.txt").write_text("we eat bread\n" * 7)

    def stop(*_, **__):
        for name in saved:
            (out / name).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_attention.training.run.train", stop)
    code, _, err = run("train", "lm", "--train", tmp_path / "book.txt", "--tokenizer", "characters", "--out", out)
    last = err.splitlines()[-1]
    assert code == 130
    assert last.startswith("Stopped.")
    assert message.format(out=out) in last
    assert ("Nothing was saved" in last) != ("--resume" in last)


def test_an_error_is_one_line_and_verbose_adds_the_traceback(run, monkeypatch, tmp_path):
    def fail(_):
        raise KeyError("x\ny")

    monkeypatch.setattr("keras_attention.loading.load", fail)
    code, out, err = run("translate", tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: KeyError: 'x\\ny'. This is a defect of keras-attention; --verbose shows where.")
    assert "Traceback" in run("translate", tmp_path, "--verbose")[2]
    code, out, err = run("train", "lm", "--no-such-option")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith("Help: keras-attention train --help\n")


def test_messages_are_written_unless_quiet(capsys, monkeypatch):
    for quiet in (False, True):
        monkeypatch.setattr(terminal, "VERBOSITY", types.SimpleNamespace(quiet=quiet, verbose=False))
        terminal.write_message("a message")
        assert capsys.readouterr().err == "a message\n" * (not quiet)
    terminal.show_warning("one\n  two")
    assert capsys.readouterr().err == "Warning: one two\n"


def test_what_native_code_writes_is_hidden_and_messages_of_python_are_not(capfd, monkeypatch):
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    with terminal.native_log_hidden():
        os.write(2, b"a log message of TensorFlow")
        print("a message of Python", file=sys.stderr)
    os.write(2, b"a later message")
    assert capfd.readouterr().err == "a message of Python\na later message"


@pytest.mark.parametrize("quiet", [False, True])
def test_the_lines_of_a_file_have_a_bar_on_a_terminal(monkeypatch, tmp_path, capsys, quiet):
    (tmp_path / "lines.txt").write_text("a\nb\nc\n")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(terminal.VERBOSITY, "quiet", quiet)
    write_lines(str(tmp_path / "lines.txt"), lambda lines, done: [line.upper() for line in lines])
    assert capsys.readouterr().out == "A\nB\nC\n"
    assert ("] 3/3, 0:00 left" in stream.getvalue()) != quiet
