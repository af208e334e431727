"""Files are written completely or not at all, and URLs of other file systems are refused everywhere."""

import pathlib

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.cli.train import default_options
from keras_attention.cli.training_run import run_training
from keras_attention.data.image_files.region_cache import cached_regions
from keras_attention.storage import atomic_directory, atomic_write, local_path, write_text

URL = "gs://bucket/folder"


TRANSLATOR = {**default_options("translator"), "train_files": ["a.tsv"]}


def enter(directory):
    with atomic_directory(directory):
        pass


@pytest.mark.parametrize(
    "use",
    [
        local_path,
        ka.load,
        ka.data.read_lines,
        ka.data.read_pairs,
        ka.data.read_labelled,
        ka.data.read_tagged,
        ka.data.read_texts,
        ka.check_export,
        ka.weights.from_huggingface,
        enter,
        lambda url: ka.data.read_captions("captions.csv", url),
        lambda url: ka.data.read_images([url], 5),
        lambda url: write_text(url, "text"),
        lambda url: atomic_write(url, lambda name: pathlib.Path(name).touch()),
        lambda url: cached_regions([b"image"], np.asarray, "", url, 5),
        lambda url: ka.visualize.check_figure_path(f"{url}/a.png"),
        lambda url: ka.train(None, [], url),
        lambda url: ka.models.Task.export(None, url),
        lambda url: run_training(ka.Translator, TRANSLATOR, url),
    ],
)
@pytest.mark.parametrize("url", [URL, pathlib.Path(URL), "s3://bucket", "hdfs://host/run", "https://host/a.tsv"])
def test_a_url_is_not_a_local_path(use, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r":/.* is not a local path; expected a file or directory of this machine"):
        use(url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["a.tsv", "/tmp/a:b/c", "tfds:phrases", "C:/models/a.keras", "a.json:train", "../x"])
def test_other_names_are_local_paths(path):
    assert local_path(path) == pathlib.Path(path)


def test_the_home_directory_is_not_a_folder_called_tilde(tmp_path, monkeypatch, translator):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "~notes.txt").write_text("we eat\n")
    translator.save("~/t.keras")
    write_text("~/a.txt", "one\n")
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["a.txt", "t.keras"]
    assert ka.load("~/t.keras").config == translator.config
    assert ka.data.read_lines("~/a.txt") + ka.data.read_lines("~notes.txt") == ["one", "we eat"]
    assert not (tmp_path / "~").exists()


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("the old one")

    def fail(name):
        with open(name, "w") as file:
            file.write("half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, fail)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def interrupted(path):
    with atomic_directory(path) as partial:
        (partial / "a.txt").write_text("half")
        raise KeyboardInterrupt


def test_a_directory_is_written_completely_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "1")
    assert not list(tmp_path.iterdir())
    with atomic_directory(tmp_path / "1") as partial:
        (partial / "a.txt").write_text("whole")
    assert (tmp_path / "1" / "a.txt").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "1"]
