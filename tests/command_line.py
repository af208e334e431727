"""Fixtures for tests of the command line: run a command, a file of pairs, a model and its export."""

import io
import sys

import pytest
from conftest import PAIRS

import keras_attention as ka
from keras_attention.cli import main

TINY = [part for size in ("width=4", "num_heads=2", "num_layers=1", "intermediate_dim=5") for part in ("--set", size)]


@pytest.fixture
def run(capsys, monkeypatch, loaded_once):
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
def model(translator, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "model.keras"
    translator.save(path)
    return path


@pytest.fixture(scope="session")
def served(translator, tmp_path_factory):
    return translator.export(tmp_path_factory.mktemp("cli") / "t", strategy=ka.BeamSearch(num_beams=5))
