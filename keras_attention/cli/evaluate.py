"""evaluate: the metrics of a model on a file of examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.examples import read_examples, reading_options
from keras_attention.cli.load_model import is_export, load, search_for
from keras_attention.cli.options import Command, Option, from_fields, refuse_other_tasks, search_options
from keras_attention.cli.terminal import write_message
from keras_attention.evaluate import task_of
from keras_attention.visualize import check_figure_path, plot_bleu_by_length

_LINES = {
    "bleu": "BLEU {:.2f}",
    "chrf": "chrF {:.2f}",
    **{f"bleu_{n}": f"BLEU-{n} {{:.2f}}" for n in range(1, 5)},
    "meteor": "METEOR {:.2f}",
    "rouge_l": "ROUGE-L {:.2f}",
    "cider": "CIDEr {:.2f}",
    "perplexity": "perplexity {:.3f} per token",
    "loss": "loss {:.4f} nats per token",
    "f1": "F1 {:.4f}",
    "accuracy": "accuracy {:.4f}",
    "next_sentence_accuracy": "next-sentence accuracy {:.4f}",
}
_SEARCH_TASKS = ("translator", "captioner")
_PARAMETERS = [
    click.Argument(["model"]),
    click.Argument(["files"], nargs=-1),
    Option(
        "--captions",
        metavar="FILE",
        tasks=["captioner"],
        group="Data",
        help="file of image names and reference captions, instead of FILES.",
    ),
    Option(
        "--images", metavar="DIRECTORY", tasks=["captioner"], group="Data", help="directory that contains the images."
    ),
    *reading_options("Data"),
    Option("--ignore-case", is_flag=True, tasks=["translator"], group="Metrics", help="ignore case in BLEU and chrF."),
    *from_fields(ka.training.TrainingPlan, ["bleu_tokenizer"], tasks=["translator"], group="Metrics"),
    Option(
        "--plot",
        metavar="FILE",
        tasks=["translator"],
        group="Metrics",
        help="plot BLEU by source length to FILE, such as bleu.png.",
    ),
    *search_options("num_beams", "length_penalty", group="Beam search", tasks=_SEARCH_TASKS),
]


@click.command(cls=Command, params=_PARAMETERS)
@click.pass_context
def evaluate(
    context: click.Context,
    model: str,
    files: tuple[str, ...],
    captions: str | None,
    images: str | None,
    columns: dict[str, str] | None,
    tag_column: int | None,
    ignore_case: bool,
    bleu_tokenizer: str | None,
    plot: str | None,
    **search: Any,
) -> None:
    """Compute the metrics of MODEL on FILES.

    MODEL is a .keras file or the directory of an export. FILES is one file in a format of `keras-attention train`, or
    for a translator two parallel text files: first the sources, then the references. The metrics of each task:

    \b
    translator   BLEU, chrF
    captioner    BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr
    classifier   accuracy
    tagger       accuracy; F1 of entities if tags have prefixes, as in B-PER
    lm           perplexity and loss per token
    mlm, plm     loss per token, accuracy of the predicted tokens

    The last lines are the signatures of the metrics, as in sacreBLEU: they describe how a metric was computed. For
    example, per:word means that the accuracy counts words. A translator or captioner uses greedy search, or beam
    search with --num-beams. An export has a fixed search, set by the options of `keras-attention export`.
    """
    files = (*files, captions) if captions else files
    if not files:
        raise click.UsageError("There are no examples to evaluate on; add FILES (for a captioner, --captions FILE).")
    loaded = load(model)
    task = task_of(loaded)
    refuse_other_tasks(context, task.spec.command_name)
    options = {"ignore_case": ignore_case, "bleu_tokenizer": bleu_tokenizer} if task is ka.Translator else {}
    if task.spec.command_name in _SEARCH_TASKS:
        options |= search_for(loaded, search)
    if plot:  # fail before the translation, which takes long
        check_figure_path(plot)
    examples = read_examples(task, files, images=images, columns=columns, tag_column=tag_column)
    if is_export(loaded) and task is ka.CausalLM:
        write_message("An export reads each line as a separate text, so its loss differs from that of the .keras file.")
        examples = [line for text in examples for line in text.split("\n")]
    metrics = ka.evaluate(loaded, examples, **options)
    for line in _report(metrics):
        click.echo(line)
    if plot:
        plot_bleu_by_length({"BLEU": metrics["by_length"]}, plot)


def _report(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each metric, then the signatures, which describe how the metrics were computed."""
    from keras_attention.data.lines import shortened  # imports Keras

    for name, template in _LINES.items():
        if name in metrics:
            yield template.format(metrics[name]) + _details(name, metrics)
    for name, entity in metrics.get("by_type", {}).items():
        yield f"  {name}: F1 {entity.f1:.4f} ({_precision_and_recall(vars(entity))}, expected: {entity.total})"
    for name, (count, bleu) in metrics.get("by_length", {}).items():
        yield f"  source of {name} words: BLEU {bleu:.2f} (lines: {count})"
    if unreadable := metrics.get("unreadable"):
        yield f"  images that cannot be read: {len(unreadable)} ({shortened(unreadable, max_names=3)})"
    if "images" in metrics:
        yield f"  images: {metrics['images']}"
    for name in ("signature", "bleu_signature", "chrf_signature"):
        if name in metrics:
            yield f"  signature: {metrics[name]}"


def _details(name: str, metrics: dict[str, Any]) -> str:
    """Return the text after a metric: the counts of an accuracy, or the precision and recall of an F1."""
    if name == "f1":
        return f" ({_precision_and_recall(metrics)})"
    return f" ({metrics['correct']} of {metrics['total']})" if "total" in metrics else ""


def _precision_and_recall(metrics: dict[str, Any]) -> str:
    return f"precision {metrics['precision']:.4f}, recall {metrics['recall']:.4f}"
