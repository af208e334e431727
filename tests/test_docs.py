"""What the documentation shows is run: every docstring's example, every block of the README."""

import dataclasses
import doctest
import glob
import importlib
import json
import pathlib
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once, on one backend")
ROOT = pathlib.Path(ka.__file__).parent.parent
PROGRAMS = ("keras_attention.serving.stock_loader",)  # run by file, in a process of its own


def modules():
    names = [info.name for info in pkgutil.walk_packages(ka.__path__, "keras_attention.")]
    return [name for name in names if name not in PROGRAMS]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"ka": ka, "np": np, "keras": keras}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in finder.find(module, extraglobs=names):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def described(kind):
    return [getattr(ka, name) for name in ka.__all__ if isinstance(getattr(ka, name), kind)]


def test_public_classes_and_functions_show_an_example():
    shown = [x for x in described((type,)) if not issubclass(x, Exception)]
    results = (
        "Caption",
        "Translation",
        "Classification",
        "Completion",
        "Tagging",
        "CheckReport",
        "TrainingPlan",
        "FilledMask",
        "AttentionMaps",
    )
    missing = [x.__name__ for x in shown if ">>>" not in x.__doc__ and x.__name__ not in results]
    assert not missing


def blocks(language):
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    found = blocks("python")
    assert len(found) >= 5
    for block in found:
        exec(compile(block, "README.md", "exec"), names)
    assert "we are eating bread" in capsys.readouterr().out


def test_readme_make_commands_exist():
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")]
    assert {"make quickstart", "make test"} <= {line.split("#")[0].strip() for line in lines}
    for line in lines:
        target = line.split("#")[0].split()[1]
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_readme_makes_the_captioners_quickstart():
    assert "`make quickstart-captioner`" in (ROOT / "README.md").read_text()
    subprocess.run(["make", "-n", "quickstart-captioner"], cwd=ROOT, check=True, capture_output=True)


def write_photos(folder):
    """Drawn scenes as photos of a user's, and their captions."""
    from PIL import Image

    folder.mkdir()
    rows = ["image,caption"]
    for scene in ka.quickstart.captioned_scenes("train", 7):
        Image.fromarray(scene.image).save(folder / f"{scene.name}.jpg")
        rows += [f"{scene.name}.jpg,{caption}" for caption in scene.captions]
    for name in ("captions.csv", "valid.csv"):
        (folder.parent / name).write_text("\n".join(rows))


RECURRENT = ("units=12", "embedding_dim=7")
SMALL = ("width=12", "num_heads=3", "num_layers=1", "intermediate_dim=7")


def write_gpt2(directory, texts):
    """A small GPT-2 as Hugging Face keeps it, with byte pairs of its own."""
    import tokenizers

    pairs = tokenizers.ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    sizes = {name: int(value) for name, value in (size.split("=") for size in SMALL)}
    config = dataclasses.replace(ka.presets()["gpt2_small"].config, vocabulary_size=pairs.get_vocab_size(), **sizes)
    ka.to_huggingface(ka.CausalLM(config), directory)
    pairs.save_model(str(directory))
    end = pairs.token_to_id("<|endoftext|>")
    attributes = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**attributes, "bos_token_id": end, "eos_token_id": end}))


def test_readme_commands_run(tmp_path, monkeypatch, capsys):
    """Each keras-attention line of the README, in order, with files of ours and one epoch."""
    from keras_attention.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # without Java: METEOR takes ten seconds, and test_cli.py asks for it
    pairs = ka.quickstart.phrase_pairs("validation")[:40]
    text = "".join(f"{source}\t{target}\n" for source, target in pairs)
    for name in ("pairs.tsv", "valid.tsv", "test.tsv"):
        (tmp_path / name).write_text(text)
    (tmp_path / "source.txt").write_text("".join(f"{source}\n" for source, _ in pairs))
    (tmp_path / "book.txt").write_text("\n".join(source for source, _ in pairs))
    (tmp_path / "gaps.txt").write_text("we are <mask> bread\nno gap\n")
    write_gpt2(tmp_path / "gpt2", [source for source, _ in pairs])
    write_photos(tmp_path / "photos")
    (tmp_path / "reviews.tsv").write_text("".join(f"{s}\ten\n{t}\tes\n" for s, t in pairs))
    (tmp_path / "corpus.conllu").write_text("1\tWe\twe\tPRON\n2\teat\teat\tVERB\n\n" * 9)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("keras-attention ")]
    assert len(lines) >= 10
    for line in lines:
        command, _, output = line.split("#")[0].partition(">")
        command, _, given = command.partition("<")
        arguments = [
            name for word in shlex.split(command) for name in (sorted(glob.glob(word)) if "*" in word else [word])
        ]
        if "captioner" in arguments and "train" in arguments:  # as far as it goes without a download
            arguments += ["--encoder-weights", "none", "--set", "image_size=64"]
        if arguments[1] == "train" and "--resume" not in arguments:
            own = {"rnn_attention", "show_attend_and_tell"} & set(arguments)
            sizes = RECURRENT if own or not {"--preset", "--init"} & set(arguments) else SMALL
            new = ["--vocabulary-size", "90", *(x for size in sizes for x in ("--set", size))]
            arguments += ["--epochs", "1", *([] if "--init" in arguments else new)]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(sys, "stdin", open((given or "source.txt").strip()))
        main()
        written = capsys.readouterr().out
        if output:
            (tmp_path / output.strip()).write_text(written)
    assert len((tmp_path / "target.txt").read_text().splitlines()) == 40


def test_readme_tree_is_the_tree():
    (tree,) = [block for block in blocks("text") if "keras_attention/" in block]
    named = set(re.findall(r"^  (\w+)(?:/|\.py)", tree, re.MULTILINE))
    real = {
        path.stem for path in (ROOT / "keras_attention").iterdir() if path.name not in ("__init__.py", "__pycache__")
    }
    assert named == real


@pytest.mark.parametrize(
    "name", ["translation", "language_model", "classification", "tagging", "pretraining", "captioning"]
)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    program = ROOT / "examples" / f"{name}.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program), "--smoke", "--out", str(tmp_path / "run")])
    runpy.run_path(str(program), run_name="__main__")
    assert (tmp_path / "run" / "model.keras").exists()
    assert len(capsys.readouterr().out.splitlines()) > 2
