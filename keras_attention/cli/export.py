"""export, check, presets and import."""

from __future__ import annotations

import json
from typing import Any

import click

import keras_attention as ka
from keras_attention.choices import PRECISIONS
from keras_attention.cli.load_model import is_export, load, strategy_of
from keras_attention.cli.options import (
    BEAM,
    GENERATION,
    SAMPLING,
    Command,
    Option,
    TaskChoice,
    drop_unset,
    search_options,
)
from keras_attention.cli.terminal import native_log_hidden, show_warning, write_message
from keras_attention.storage import atomic_write, local_path
from keras_attention.task_specs import TASK_SPECS

_EXPORT = [
    click.Argument(["model"]),
    click.Argument(["directory"]),
    Option(
        "--version",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        group="Output",
        help="version number; TensorFlow Serving loads the highest one.",
    ),
    Option(
        "--huggingface", is_flag=True, group="Output", help="write a Hugging Face directory instead of a SavedModel."
    ),
    *search_options(
        *BEAM,
        *SAMPLING,
        *GENERATION,
        "replace_unknown",
        group="Generation",
        default_length=f"for a translator, {TASK_SPECS['translator'].default_limit_text}; for other models, max_length "
        "minus the length of the prompt",
    ),
    Option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="float32",
        show_default=True,
        group="Model",
        help="dtype of the large weight matrices; int8 is the fastest and needs an x86 processor. Outputs of bfloat16 "
        "and int8 may differ slightly from those of float32.",
    ),
    Option(
        "--attention-maps",
        is_flag=True,
        group="Model",
        help="add the signature attention_maps, which returns the attention scores of all blocks and heads.",
    ),
]


@click.command(cls=Command, params=_EXPORT)
def export(
    model: str, directory: str, version: int, huggingface: bool, precision: str, attention_maps: bool, **search: Any
) -> None:
    """Export MODEL, a .keras file, for TensorFlow Serving.

    The SavedModel is written to DIRECTORY/VERSION/. Its inputs are texts or encoded images; it contains the tokenizer
    and the search. The options of the group "Generation" set the search; the default is sampling for a language model,
    and greedy search for a translator or captioner.
    """
    loaded, search = load(model), drop_unset(search)
    if is_export(loaded):
        raise click.UsageError(
            f"{model} is already an export; expected a .keras file. Serve the export as it is, or export the .keras "
            "file that it was made from."
        )
    if huggingface:
        if search or attention_maps or precision != "float32":
            raise click.UsageError("--huggingface writes only the weights and the config; leave the other options out.")
        ka.weights.to_huggingface(loaded, directory)
        write_message(f"Wrote {directory} for transformers.")
        return
    strategy = strategy_of(type(loaded), search) if search else None
    path = loaded.export(directory, version, strategy=strategy, attention_maps=attention_maps, precision=precision)
    write_message(f"Exported to {path}. Check it with: keras-attention check {path}")


@click.command(cls=Command)
@click.argument("directory")
@click.option(
    "--step-costs",
    is_flag=True,
    help="Also count the operations of one decoding step on a GPU and the copies between GPU and host. The counts "
    "are computed from the graph; no GPU is needed.",
)
def check(directory: str, step_costs: bool) -> None:
    """Check that TensorFlow Serving can run an export.

    DIRECTORY contains the SavedModel, such as serving/translator/1. The command lists its signatures, runs it with
    TensorFlow's C++ loader, and lists the problems. If there is a problem, the exit code is 1.
    """
    report = ka.check_export(directory)
    for name, signature in report.signatures.items():
        click.echo(f"{name}: {signature}")
    for name, cost in (ka.serving.step_costs(directory) if step_costs else {}).items():
        click.echo(f"{name}, a step on a GPU: {_describe_cost(cost)}")
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    if not report.ok:
        raise click.ClickException(
            f"TensorFlow Serving cannot run this SavedModel because of the {len(report.problems)} problem(s) above. "
            "Correct them, and export the model again."
        )
    click.echo("ok: loaded and run by the C++ loader, XLA off")


def _describe_cost(cost: ka.serving.StepCost | None) -> str:
    if cost is None:
        return "there is no decode loop"
    without_kernel, in_host_memory = (
        f"{sum(counts.values())}{''.join(f', {op} {count}' for op, count in sorted(counts.items()))}"
        for counts in (cost.without_kernel, cost.in_host_memory)
    )
    return (
        f"{cost.operations} operations; without a GPU kernel: {without_kernel}; in host memory: {in_host_memory}; "
        f"transfers between host and GPU: {cost.transfers}"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON, one object per preset.")
def presets(as_json: bool) -> None:
    """List the presets with their sizes.

    The last columns of the table:

    \b
    vocabulary  vocabulary size for which the parameters are counted
    parameters  number of parameters of the model in this library
    published   number of parameters that its authors report
    """
    rows = [_preset_row(name, row) for name, row in ka.presets().items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    columns = f"{'layers':>7}{'width':>7}{'heads':>7}{'vocabulary':>12}{'parameters':>15}{'published':>11}"
    click.echo(f"{'preset':23}{'task':16}{columns}")
    for row in rows:
        click.echo(
            f"{row['name']:23}{row['task']:16}{row['layers']:7}{row['width']:7}{row['heads'] or '-':>7}"
            f"{row['vocabulary_size']:12,}{row['parameters']:15,}{row['published_parameters'] or '-':>11}"
        )


def _preset_row(name: str, row: Any) -> dict[str, Any]:
    config = row.config
    return {
        "name": name,
        "task": next(name for name, spec in TASK_SPECS.items() if spec.class_name == row.task),
        "layers": config.num_layers,
        "width": config.width,
        "heads": config.num_heads,
        "vocabulary_size": row.vocabulary_size,
        "parameters": row.parameters,
        "published_parameters": row.published_parameters,
    }


@click.command("import", cls=Command)
@click.argument("directory")
@click.argument("model")
@click.option(
    "--task",
    type=TaskChoice(),
    help="Task of MODEL; if it is not the task of the checkpoint, MODEL gets a new head with random weights, which "
    "must be trained.  [default: the task of the checkpoint]",
)
@click.option("--labels", metavar="NAMES", help="Labels of the new head, separated by commas.")
def import_(directory: str, model: str, task: str | None, labels: str | None) -> None:
    """Convert a Hugging Face DIRECTORY to MODEL, a .keras file."""
    target = local_path(model)
    if target.suffix != ".keras":
        raise click.UsageError(f"MODEL is {model}; expected the name of a file to write that ends in .keras.")
    if target.exists():
        raise click.UsageError(f"{model} exists and is not overwritten; choose another name.")
    overrides = {"labels": tuple(label.strip() for label in labels.split(","))} if labels else {}
    with native_log_hidden():
        loaded = ka.weights.from_huggingface(directory, task=task and TASK_SPECS[task].class_name, **overrides)
    if labels and not isinstance(loaded, (ka.TextClassifier, ka.TextTagger)):
        raise click.UsageError(
            f"--labels needs a new head; {directory} is a {type(loaded).__name__}. Add --task classifier or "
            "--task tagger."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, lambda name: loaded.save(name))
    write_message(f"{type(loaded).__name__} with {loaded.count_params():,} parameters in {model}.")
    if None in loaded.tokenizers.values():
        show_warning(f"{directory} has no tokenizer files that can be read; {model} takes ids only.")
