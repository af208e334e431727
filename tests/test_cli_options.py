"""Options: their groups, their tasks, and the dataclasses that define them."""

import dataclasses
import re

import click
import pytest
from click.testing import CliRunner

import keras_attention as ka
from keras_attention.cli import _COMMANDS, commands
from keras_attention.cli.options import command_line_options, field_descriptions
from keras_attention.cli.train import default_options, train
from keras_attention.defaults import TRAINING_FIELDS


def invoke(*arguments):
    result = CliRunner().invoke(commands, list(arguments), terminal_width=400, max_content_width=400)
    return result.exit_code, result.output


def help_of_options(*arguments):
    """Return the first flag of each option in a help -> its text."""
    rows = re.split(r"\n  (?=--)", invoke(*arguments)[1])[1:]
    rows = [re.split(r"\s{2,}", row.split("\n\n")[0].strip(), maxsplit=1) for row in rows]
    return {re.split(r"[ ,]", flags)[0]: text for flags, text in rows}


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help(name):
    code, text = invoke(name, "--help")
    assert code == 0
    command = commands.get_command(None, name)
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert all(option.help and option.help[0].isupper() and option.help.count(". ") <= 1 for option in options)
    for option in options:
        assert option.opts[0] in text


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_summary_of_a_command_is_shown_whole(name):
    summary = commands.get_command(None, name).get_short_help_str(limit=1000)
    assert len(summary) <= 60
    assert summary in CliRunner().invoke(commands, ["--help"], terminal_width=80).output


def test_an_option_for_all_tasks_but_one_and_an_option_of_several_values_say_so():
    texts = help_of_options("train", "--help") | help_of_options("complete", "--help")
    assert texts["--columns"].endswith(" (not for tagger).")
    repeatable = {"--set", "--pretrain", "--stop", "--suppress-tokens"}
    assert {name for name, text in texts.items() if "repeatable" in text} == repeatable


def test_the_help_of_a_task_has_only_the_options_of_the_task():
    texts, of_tagger = (help_of_options("train", *task, "--help") for task in ([], ["tagger"]))
    removed = {name for name in texts if name not in of_tagger}
    assert removed == {
        *(
            "--columns",
            "--images",
            "--valid-images",
            "--captions-per-image",
            "--augment",
            "--flip",
            "--region-cache",
        ),
        *("--image-encoder", "--image-encoder-weights", "--self-critical", "--bleu-tokenizer"),
    }
    assert texts["--tag-column"].startswith("Tagger: number of the column")
    assert of_tagger["--tag-column"].startswith("Number of the column")
    assert "bert_base (mlm)" in texts["--preset"]
    assert of_tagger["--preset"].endswith("[default: rnn_tagger]")
    assert "[default: words (rnn_tagger), sentencepiece (other presets)]" in of_tagger["--tokenizer"]
    assert "[default: sentencepiece]" in help_of_options("train", "mlm", "--help")["--tokenizer"]
    assert help_of_options("train", "--out", "tagger", "--help") == texts  # the name of a directory, not of a task


def test_the_help_of_train_is_in_groups():
    _, text = invoke("train", "--help")
    headings = ["Data:", "Model:", "Optimization:", "Run:", "Options:"]
    positions = [text.index(f"\n{heading}\n") for heading in headings]
    assert positions == sorted(positions)
    order = [
        "--train",
        "--valid",
        "--max-tokens",
        "--preset",
        "--set",
        "--epochs",
        "--schedule",
        "--out",
        "--monitor",
    ]
    positions = [text.index(f"\n  {name}") for name in order]
    assert positions == sorted(positions)


def test_every_field_of_the_training_plan_is_an_option_with_its_default_unless_it_follows_from_the_data():
    options = default_options("translator")
    for field in dataclasses.fields(ka.training.TrainingPlan):
        assert options[field.name] == (None if field.name in TRAINING_FIELDS else field.default)
    assert dict.fromkeys(field_descriptions(ka.training.TrainingPlan)) == dict.fromkeys(
        field.name for field in dataclasses.fields(ka.training.TrainingPlan)
    )


def test_a_description_is_the_docstring_without_symbols():
    @dataclasses.dataclass
    class Base:
        """Something.

        Args:
            width: the size, M; 0 for
                none.

        Raises:
            ValueError: never.
        """

        width: int = 3

    @dataclasses.dataclass
    class Kind(Base):
        """Another.

        Args:
            rate: `r` of all.
        """

        rate: float = 0.5

    assert field_descriptions(Kind) == {"width": "the size; 0 for none.", "rate": "r of all."}


CAPTIONER = "belongs to a captioner; a {} has no such option"
REFUSED = [
    ("translator", ["--images", "x"], f"--images {CAPTIONER}"),
    ("lm", ["--augment"], f"--augment {CAPTIONER}"),
    ("mlm", ["--image-encoder", "x"], f"--image-encoder {CAPTIONER}"),
    ("plm", ["--flip"], f"--flip {CAPTIONER}"),
    ("classifier", ["--captions-per-image", "2"], f"--captions-per-image {CAPTIONER}"),
    ("tagger", ["--self-critical"], f"--self-critical {CAPTIONER}"),
    ("tagger", ["--image-encoder-weights", "none"], f"--image-encoder-weights {CAPTIONER}"),
    ("translator", ["--region-cache", "x"], f"--region-cache {CAPTIONER}"),
    ("translator", ["--freeze"], "--freeze belongs to a captioner, classifier or tagger; a {} has no such option"),
]


@pytest.mark.parametrize(("task", "arguments", "message"), REFUSED, ids=[f"{r[0]} {r[1][0]}" for r in REFUSED])
def test_an_option_of_another_task_is_an_error(task, arguments, message, tmp_path):
    code, text = invoke("train", task, "--train", "x", "--out", str(tmp_path / "r"), *arguments)
    assert code == 2
    assert message.format(task) in text
    assert not (tmp_path / "r").exists()


def test_command_line_options_are_those_on_the_command_line():
    context = train.make_context("train", ["lm", "--out", "x", "--epochs", "20", "--captions", "y"])
    assert set(command_line_options(context)) == {"--out", "--epochs", "--train"}


@pytest.mark.parametrize(
    ("command", "name"),
    [(["train", "lm", "--out", "x"], "--schedule"), (["translate", "model.keras"], "--num-beams")],
)
def test_an_error_for_an_invalid_value_names_the_option(command, name):
    code, text = invoke(*command, name, "many")
    assert (code, name in text) == (2, True)
