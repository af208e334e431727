"""The documentation's code is run: the example of every docstring, and the commands and Python of every page."""

import dataclasses
import doctest
import functools
import glob
import importlib
import io
import json
import pathlib
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import PAIRS, train_shortly

import keras_attention as ka

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once, on one backend")
ROOT = pathlib.Path(ka.__file__).parent.parent
MAKE = shutil.which("make")
COPIED = "keras_attention.models.task.task.Task."  # its methods have the docstrings of functions in other files ...
OWN = f"{COPIED}make_batches"  # ... except this one
PROGRAMS = ("keras_attention.serving.tensorflow_loader",)  # run as a file, in a new process


def modules():
    names = [info.name for info in pkgutil.walk_packages(ka.__path__, "keras_attention.")]
    return [name for name in names if name not in PROGRAMS]


@pytest.mark.slow
@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name, tmp_path, monkeypatch, short_searches):
    monkeypatch.chdir(tmp_path)
    train_shortly(monkeypatch, epochs=2)
    module = importlib.import_module(name)
    names = {"ka": ka, "np": np, "keras": keras}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    examples = finder.find(module, extraglobs=names)
    for test in [x for x in examples if x.name == OWN or not x.name.startswith(COPIED)]:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


# Pages: the commands and the Python of each page run in a folder with small files of the names that they use.

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = ("pip", "git", "cd", "export", "docker", "curl", "tensorflow_model_server")  # not run here
NEEDS_NETWORK = ("from_tensorflow(", "ka.connect(")  # Python that needs a download or a server
ONE_LINE_EACH = ("translate", "complete", "classify", "tag", "fill")
SMALL = {"units": 12, "embedding_dim": 7, "width": 12, "num_heads": 3, "num_layers": 1, "intermediate_dim": 7}
SMALL["max_length"] = 13  # an untraced step of a recurrent network takes time for each token


def blocks(language, page=ROOT / "README.md"):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def pages_with(language):
    return pytest.mark.parametrize("page", [p for p in PAGES if blocks(language, p)], ids=lambda page: page.name)


def shortest(examples, count=12):
    """The shortest pairs of texts: an untraced step of a recurrent network takes time for each token."""
    return sorted(examples, key=lambda pair: len("".join(pair)))[:count]


@pytest.fixture
def small_training(monkeypatch, tmp_path, short_searches, empty_plots):
    """Small presets, few short examples and scenes, and one epoch of one batch."""
    presets = importlib.import_module("keras_attention.presets")
    small = {}
    for name, preset in presets.PRESETS.items():
        fields = {field.name for field in dataclasses.fields(preset.config)}
        sizes = {size: value for size, value in SMALL.items() if size in fields}
        small[name] = dataclasses.replace(preset, config=dataclasses.replace(preset.config, **sizes))
    monkeypatch.setattr(presets, "PRESETS", small)
    phrases, scenes = ka.quickstart.phrase_pairs, ka.quickstart.captioned_scenes

    def few_scenes(split, count=10):
        return scenes(split, min(count, 10))

    train_shortly(monkeypatch, epochs=1)
    monkeypatch.setattr(ka.quickstart, "phrase_pairs", lambda split: shortest(phrases(split)))
    monkeypatch.setattr(ka.quickstart, "captioned_scenes", few_scenes)
    scenes_tfds = importlib.import_module("keras_attention.quickstart.scenes_tfds")
    monkeypatch.setattr(scenes_tfds, "captioned_scenes", few_scenes)
    monkeypatch.setattr(scenes_tfds, "Scenes", functools.partial(scenes_tfds.Scenes, data_dir=tmp_path / "tfds"))


@pytest.fixture
def folder(tmp_path, monkeypatch, small_training, loaded_once):
    """A folder with the files that the pages use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # without Java: METEOR takes ten seconds, and test_caption_quality.py computes it
    pairs = ka.quickstart.phrase_pairs("validation")
    text = "".join(f"{source}\t{target}\n" for source, target in pairs)
    for name in ("pairs.tsv", "valid.tsv", "test.tsv"):
        (tmp_path / name).write_text(text)
    (tmp_path / "source.txt").write_text("".join(f"{source}\n" for source, _ in pairs[:7]))
    (tmp_path / "target.txt").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    (tmp_path / "book.txt").write_text("\n".join(source for source, _ in pairs[:5]))
    (tmp_path / "masked.txt").write_text("we are <mask> bread\nno mask\n")
    for name in ("reviews.tsv", "valid_reviews.tsv", "test_reviews.tsv"):
        (tmp_path / name).write_text("".join(f"{s}\ten\n{t}\tes\n" for s, t in pairs))
    (tmp_path / "corpus.conllu").write_text("1\tWe\twe\tPRON\n2\teat\teat\tVERB\n\n1\tEat\teat\tVERB\n\n" * 5)
    return tmp_path


def write_photos(folder):
    """Write drawn scenes as photos, and the beginnings of their captions."""
    from PIL import Image

    folder.mkdir()
    rows = ["image,caption"]
    for scene in ka.quickstart.captioned_scenes("train", 2):
        Image.fromarray(scene.image).save(folder / f"{scene.name}.jpg")
        rows += [f"{scene.name}.jpg,{' '.join(caption.split()[:3])}" for caption in scene.captions]
    for name in ("captions.csv", "valid.csv"):
        (folder.parent / name).write_text("\n".join(rows))


def write_gpt2(directory, texts):
    """Write a small GPT-2 in the format of Hugging Face, with its tokenizer."""
    import tokenizers

    pairs = tokenizers.ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    config = dataclasses.replace(ka.presets()["gpt2_small"].config, vocabulary_size=pairs.get_vocab_size())
    ka.weights.to_huggingface(ka.CausalLM(config), directory)
    pairs.save_model(str(directory))
    end = pairs.token_to_id("<|endoftext|>")
    attributes = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**attributes, "bos_token_id": end, "eos_token_id": end}))


def write_minilm(directory, texts):
    """Write a small sentence encoder with mean pooling, as sentence-transformers does."""
    ka.weights.to_huggingface(
        ka.MaskedLM.from_examples(texts, tokenizer_kind="wordpiece", vocabulary_size=90), directory
    )
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')


def write_marian(directory, texts):
    """Write a small Marian translator, with one SentencePiece model for both languages."""
    import sentencepiece

    options = {"vocab_size": 90, "hard_vocab_limit": False, "bos_id": -1, "minloglevel": 2, "num_threads": 1}
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=file, **options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    pad = processor.vocab_size()
    pieces = [*(processor.id_to_piece(i) for i in range(pad)), "<pad>"]
    sizes = dict.fromkeys(("source_vocabulary_size", "target_vocabulary_size"), pad + 1)
    sizes |= {"output_bias": True, "activation": "silu", "attention_bias": True, "epsilon": 1e-5}
    ka.weights.to_huggingface(ka.Translator.from_preset("transformer_tiny", **sizes), directory)
    for name in ("source.spm", "target.spm"):
        (directory / name).write_bytes(file.getvalue())
    (directory / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    ids = {"pad_token_id": pad, "eos_token_id": pieces.index("</s>"), "decoder_start_token_id": pad}
    attributes = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**attributes, **ids}))


def write_directories(code, folder):
    """Write the photos and the Hugging Face directories that the code of a page uses."""
    texts = ["we eat bread", "they drink water", "comemos pan", "beben agua"]
    if "photos" in code:
        write_photos(folder / "photos")
    for name, write in (("gpt2", write_gpt2), ("minilm", write_minilm), ("marian", write_marian)):
        if re.search(rf"\b(?<!-){name}/", code):
            write(folder / name, texts)


PRINTED = {"README.md": "we are eating bread"}


@pytest.mark.slow
@pages_with("python")
def test_the_python_of_a_page_runs(page, folder, capsys):
    write_directories("".join(blocks("python", page)), folder)
    names: dict = {}
    for block in [x for x in blocks("python", page) if not any(name in x for name in NEEDS_NETWORK)]:
        exec(compile(block, str(page), "exec"), names)
    assert PRINTED.get(page.name, "") in capsys.readouterr().out


def test_every_layer_is_on_the_page_of_layers():
    page, training = (ROOT / "docs" / "layers.md").read_text(), ("AttentionLoss", "GumbelNoise", "ShiftRegions")
    public = [getattr(ka.layers, name) for name in ka.layers.__all__ if name not in training]
    layers = [x.__name__ for x in public if isinstance(x, type) and issubclass(x, keras.layers.Layer)]
    assert not [name for name in layers if not re.search(rf"^### .*\b{name}\b", page, re.MULTILINE)]


def commands(page):
    """The commands of a page, without comments; continued lines are joined."""
    lines = [line for block in blocks("sh", page) for line in block.replace("\\\n", " ").splitlines()]
    lines = [line.split("#")[0].strip() for line in lines]
    return [re.sub(r"^(\w+=\S+ )+", "", line) for line in lines if line]


def shrunk(arguments):
    """The arguments of a command, changed to one epoch with small vocabularies and images."""
    if arguments[1] != "train" or "--resume" in arguments:
        return arguments
    arguments = [*arguments, "--epochs", "1", *([] if "--init" in arguments else ["--vocabulary-size", "90"])]
    if "captioner" in arguments and "--init" not in arguments:  # without downloaded weights
        if "--image-encoder" in arguments:
            arguments[arguments.index("--image-encoder") + 1] = "small_cnn"
        arguments += ["--image-encoder-weights", "none", "--set", "image_size=32", "--set", "max_length=9"]
    return arguments


def run_command(line, folder, monkeypatch, capsys, translator_file):
    """Run a keras-attention line in this process; `augment` has a trained model, whose translations end."""
    from keras_attention.cli import main

    command, _, output = line.partition(">")
    command, _, input_file = command.partition("<")
    words = shlex.split(command)
    arguments = shrunk([name for word in words for name in (sorted(glob.glob(word)) if "*" in word else [word])])
    if arguments[1] == "augment":
        arguments[2] = str(translator_file)
    source = folder / (input_file.strip() or "source.txt")
    monkeypatch.setattr(sys, "argv", arguments)
    with source.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        main()
    printed = capsys.readouterr().out
    if input_file and arguments[1] in ONE_LINE_EACH:
        assert printed.count("\n") == source.read_text().count("\n"), line
    if output:
        (folder / output.strip()).write_text(printed)


def check_program(line):
    """Check a command of another program: print what `make` would run, or find the file of a Python program."""
    program, *rest = shlex.split(line)
    if program == "make":
        subprocess.run([MAKE, "-n", *rest], cwd=ROOT, check=True, capture_output=True)
    elif program == "python" and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file(), line
    else:
        assert program in ("keras-attention", *ELSEWHERE), f"nothing here runs {line!r}"


@pytest.mark.slow
@pages_with("sh")
def test_the_commands_of_a_page_run(page, folder, monkeypatch, capsys, translator_file):
    """Run the package's commands in order and in this process."""
    write_directories("".join(blocks("sh", page)), folder)
    for line in commands(page):
        runs_here = line.startswith("keras-attention") and " quickstart" not in line  # test_cli.py has a smaller one
        if runs_here:
            run_command(line, folder, monkeypatch, capsys, translator_file)
        else:
            check_program(line)


def test_the_readme_begins_with_make():
    assert {"make quickstart", "make test"} <= set(commands(ROOT / "README.md"))
    subprocess.run(["make", "-n", "quickstart-captioner"], cwd=ROOT, check=True, capture_output=True)


def test_the_limits_of_the_platform_are_documented():
    """TensorFlow Text has no wheels for Windows, and TensorFlow's threads do not survive a fork."""
    pages = " ".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert re.search(r"Windows.*tensorflow-text", pages)
    assert re.search(r"\bfork", pages)


def test_the_map_of_contributing_lists_every_file_and_folder():
    (tree,) = [block for block in blocks("text", ROOT / "CONTRIBUTING.md") if "keras_attention/" in block]
    named = set(re.findall(r"^  (\w+)(?:/|\.py)", tree, re.MULTILINE))
    others = ("__init__.py", "__main__.py", "__pycache__", "py.typed")
    real = {path.stem for path in (ROOT / "keras_attention").iterdir() if path.name not in others}
    assert named == real


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["translation", "language_model", "classification", "tagging", "pretraining", "captioning"]
)
def test_example_programs_run(name, tmp_path, monkeypatch, capsys, small_training):
    program = ROOT / "examples" / f"{name}.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # without Java, as in `folder`
    monkeypatch.setattr(sys, "argv", [str(program), "--smoke", "--out", str(tmp_path / "run")])
    runpy.run_path(str(program), run_name="__main__")
    assert (tmp_path / "run" / "model.keras").exists()
    assert len(capsys.readouterr().out.splitlines()) >= 2
