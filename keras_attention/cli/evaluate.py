"""evaluate: how good is a model on a file with answers?"""

from __future__ import annotations

import click

from keras_attention.cli.jobs import jobs
from keras_attention.cli.loading import VERBS, load_model, search_of


@click.command()
@click.argument("model")
@click.argument("files", nargs=-1)
@click.option("--captions", help="Of a captioner: the file of captions, in place of FILES.")
@click.option("--images", help="Of a captioner: the folder of the pictures.")
@click.option("--num-beams", type=click.IntRange(1), help="Beam width of a translator or captioner; greedy without it.")
@click.option("--length-penalty", type=float, help="Of the beam search; 0.6 by default.")
@click.option("--lowercase", is_flag=True, help="Compare translations without regard to case; captions always are.")
@click.option("--plot", help="Where to draw BLEU by source length, such as bleu.png.")
def evaluate(
    model: str,
    files: tuple[str, ...],
    captions: str | None,
    images: str | None,
    num_beams: int | None,
    length_penalty: float | None,
    lowercase: bool,
    plot: str | None,
) -> None:
    """Score MODEL on FILES: BLEU and chrF, accuracy, perplexity, or a captioner's metrics, as its task wants.

    FILES is one file of pairs, labelled texts, tagged words, captions or text, or two files of sources and
    references, aligned line by line.
    """
    import keras_attention as ka
    from keras_attention.visualize import check_figure_path

    files = (*files, captions) if captions else files
    if not files:
        raise click.UsageError("There is nothing to score on; add FILES (of a captioner, --captions FILE).")
    loaded = load_model(model)
    name = type(loaded).__name__
    if isinstance(loaded, ka.ServedModel):
        if loaded.verb in ("complete", "fill"):
            raise click.UsageError(f"{model} is an exported language model, which has no loss; take its .keras file.")
        name = next((task for task, verb in VERBS.items() if verb == loaded.verb), "SavedModel of something else")
    job = next((job for job in jobs().values() if job.task == name), None)
    if job is None:
        raise click.UsageError(f"{model} is a {name}, which cannot be evaluated here.")
    if (plot or lowercase) and job.task != "Translator":
        raise click.UsageError(f"--plot and --lowercase belong to a translator; {model} is a {name}.")
    searches = job.task in ("Translator", "Captioner")
    if (num_beams or length_penalty is not None) and not searches:
        raise click.UsageError(
            f"--num-beams and --length-penalty belong to a translator or captioner; {model} is a {name}."
        )
    search = search_of(loaded, num_beams, length_penalty) if searches else {}
    if images and not job.pictures:
        raise click.UsageError(f"--images belongs to a captioner; {model} is a {name}.")
    if plot:  # said now, and not when all is translated
        check_figure_path(plot)
    examples = job.read(files, images) if job.pictures else job.read(files)
    if job.labels and not isinstance(loaded, ka.ServedModel) and not {*job.labels(examples)} & {*loaded.config.labels}:
        raise ValueError(
            f"{', '.join(files)} has none of the labels of {model}, which are {', '.join(loaded.config.labels)}; "
            f"it has {', '.join(label[:40] for label in job.labels(examples)[:3])}."
        )
    for line in job.evaluate(loaded, examples, {"search": search, "lowercase": lowercase, "plot": plot}):
        click.echo(line)
