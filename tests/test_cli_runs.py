"""A run of the command line: its files, and when it is resumed."""

import contextlib
import io
import json
import os
import shutil
import sys

import keras
import pytest
from command_line import SMALL, pairs, run
from conftest import PAIRS, shorten_searches, train_eagerly

from keras_attention.cli import main

__all__ = ["pairs", "run"]  # fixtures
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorBoard needs TensorFlow"),
]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """The directory of a run with two parallel files and a file of JSON lines, and what training printed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "a.en").write_text("\n".join(source for source, _ in PAIRS))
    (folder / "a.es").write_text("\n".join(target for _, target in PAIRS))
    rows = [json.dumps({"source": source, "target": target}) for source, target in PAIRS]
    (folder / "a.jsonl").write_text("\n".join(rows))
    files = ["--train", folder / "a.en", "--train", folder / "a.es", "--valid", folder / "a.jsonl"]
    options = [*files, "--out", folder / "run", *SMALL, "--average-checkpoints", 2, "--tensorboard"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as printed:
        train_eagerly(patch)
        shorten_searches(patch)
        patch.setattr(sys, "argv", ["keras-attention", "train", "translator", *map(str, options)])
        main()
    return folder / "run", printed.getvalue()


def test_a_run_with_parallel_files_and_json_lines_writes_a_model_and_plots(finished_run):
    out, printed = finished_run
    assert "8 training examples, 8 validation examples" in printed
    assert {"model.keras", "checkpoint.npz", "run.json", "curves.png", "tensorboard"} <= set(os.listdir(out))
    assert any(b"alignment/0" in path.read_bytes() for path in (out / "tensorboard").rglob("*tfevents*"))
    assert json.loads((out / "run.json").read_text())[1]["derived_network"] == {"dropout": 0.5}  # SMALL has the sizes


def test_a_finished_run_is_not_trained_further(run, finished_run):
    out, _ = finished_run
    code, _, err = run("train", "translator", "--out", out, "--resume")
    assert code == 0, err
    assert f"Warning: The run in {out} is finished; its best model is used." in err.splitlines()


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("translator", ["--train", "pairs.tsv"], "exists and is not empty. Add --resume"),
        ("translator", ["--resume", "--epochs", 9], "--epochs cannot change: --resume uses the options"),
        ("translator", ["--resume", "--epochs", 9], "start another run from it: --init {out}/model.keras --out DIRECT"),
        ("lm", ["--resume"], "contains the run of a translator"),
    ],
)
def test_a_run_is_resumed_only_as_it_was_started(run, finished_run, pairs, monkeypatch, task, options, message):
    out, _ = finished_run
    monkeypatch.chdir(pairs.parent)
    code, _, err = run("train", task, "--out", out, *options)
    assert code == 2
    assert message.format(out=out) in err


def test_a_run_is_not_resumed_with_other_data(run, finished_run, tmp_path):
    out, _ = finished_run
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "changed.en").write_text("\n".join(f"{source} now" for source, _ in PAIRS))
    options = (out / "run.json").read_text().replace(str(out.parent / "a.en"), str(tmp_path / "changed.en"))
    (tmp_path / "run" / "run.json").write_text(options)
    code, _, err = run("train", "translator", "--out", tmp_path / "run", "--resume")
    assert (code, "the training data changed" in err) == (1, True)
