"""Fixtures for tests of the command line: run a command, a file of pairs, a model and its export."""

import io
import sys

import pytest
from conftest import PAIRS, made_once

from keras_attention.cli import main

TINY = [part for size in ("width=4", "num_heads=2", "num_layers=1", "intermediate_dim=5") for part in ("--set", size)]


@pytest.fixture
def run(capsys, monkeypatch, loaded_once, empty_plots):
    """A function that runs a command in this process: (exit code, standard output, standard error)."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["keras-attention", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    return path


@pytest.fixture(scope="session")
def model(translator_file):
    """The file of a translator that has memorized `PAIRS`."""
    return translator_file


@pytest.fixture(scope="session")
def served(model, whole_run):
    """The export of `model` that the command line made, once per test run."""
    folder = whole_run / "served"
    with made_once(folder) as missing, pytest.MonkeyPatch.context() as patch:
        if missing:
            patch.setattr(sys, "argv", ["keras-attention", "export", str(model), str(folder), "--num-beams", "5"])
            main()
    return folder / "1"
