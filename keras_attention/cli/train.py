"""train: from files to `run/model.keras`, resumable."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from keras_attention.cli.jobs import Job, jobs

_OPTIONS: list[Callable] = [
    click.option("--train", "--captions", "train_files", multiple=True, help="TSV, CSV, JSONL, COCO JSON, CoNLL-U, text, or tfds:NAME[:SPLIT]; give it twice for two files aligned line by line."),
    click.option("--valid", "valid_files", multiple=True, help="The same, to select the best model on."),
    click.option("--images", help="Of a captioner: the folder of the pictures that --train names."),
    click.option("--valid-images", help="The same for --valid; --images when absent."),
    click.option("--encoder", help="Of a captioner: the network that sees, small_cnn or one of keras.applications, such as mobilenet_v2."),
    click.option("--encoder-weights", help="Its weights: imagenet (downloaded), a file, another captioner, or none. [default: imagenet]"),
    click.option("--augment", is_flag=True, help="Change pictures by chance each time; a network that is frozen then sees each picture anew."),
    click.option("--features", help="Folder for what a frozen network answers, which other runs can use.  [default: OUT/features]"),
    click.option("--flip", is_flag=True, help="Mirror every second picture, by chance; not for captions that tell left from right."),
    click.option("--captions-per-image", type=click.IntRange(1), help="Captions of a picture that stand together in a batch, so that it is seen once for all of them; with 1 a batch has more pictures, and a network that begins to learn learns sooner.  [default: all, or 1 with kept --features]"),
    click.option("--self-critical", is_flag=True, help="A captioner that is there (--init) learns from captions that it draws itself, by their CIDEr and BLEU, without label smoothing; at a low --learning-rate, such as 1e-4, and many --max-tokens, such as 4096."),
    click.option("--out", required=True, help="Directory of the run. Its model.keras is the best one so far; before the first epoch ends, the one that it began with."),
    click.option("--resume", is_flag=True, help="Go on with the run in --out, as it was begun."),
    click.option("--preset", help="See: keras-attention presets.  [default: rnn_attention, show_attend_and_tell, char_rnn, bert_base, xlnet_base, rnn_classifier or rnn_tagger]"),
    click.option("--init", help="Model to begin with: one of the same task, or an encoder to put a new classifier or tagger on."),
    click.option("--lora", type=click.IntRange(1), help="Learn a correction of this rank to each projection, and leave the rest as it is."),
    click.option("--freeze", is_flag=True, help="Leave the encoder as it is; learn only what stands behind it."),
    click.option("--set", "sizes", multiple=True, metavar="NAME=VALUE", help="A size of the preset, or of --init, that should differ, such as units=512; weights have to fit."),
    click.option("--tokenizer", type=click.Choice(["sentencepiece", "bpe", "wordpiece", "words", "characters"]), help="How texts are cut. A recurrent tagger reads words, folded to lower case, and spells them beside. [default: the preset's]"),
    click.option("--vocabulary-size", type=click.IntRange(8), help="Pieces in each tokenizer.  [default: 8000]"),
    click.option("--lowercase", is_flag=True, help="Fold to lower case inside the tokenizers."),
    click.option("--epochs", type=click.IntRange(1), default=20, show_default=True, help="The most passes over the data."),
    click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="The peak, for Adam."),
    click.option("--schedule", type=click.Choice(["cosine", "linear", "inverse_sqrt", "constant"]), default="cosine", show_default=True, help="How the learning rate falls after its peak."),
    click.option("--warmup-steps", type=click.IntRange(1), default=200, show_default=True, help="Updates until the peak."),
    click.option("--label-smoothing", type=float, default=0.1, show_default=True, help="Share of the target that is spread over all pieces."),
    click.option("--clip-norm", type=float, default=1.0, show_default=True, help="The largest norm of all gradients together."),
    click.option("--monitor", help="Value that selects the best model; BLEU, accuracy or loss on --valid by default."),
    click.option("--patience", type=click.IntRange(1), default=10, show_default=True, help="Epochs without a better value until training stops."),
    click.option("--average-checkpoints", type=click.IntRange(1), default=1, show_default=True, help="Average the weights of this many last epochs."),
    click.option("--max-tokens", type=click.IntRange(1), default=2048, show_default=True, help="The most tokens in a batch."),
    click.option("--gradient-accumulation", type=click.IntRange(1), default=1, show_default=True, help="Average the gradients of this many batches for one update."),
    click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Shrinking of each weight per update, over the learning rate."),
    click.option("--layer-decay", type=float, default=1.0, show_default=True, help="Learning rate of each block over that of the next one up."),
    click.option("--remat", is_flag=True, help="Compute each block again in the backward pass, to save memory."),
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True),
    click.option("--mixed-precision", type=click.Choice(["mixed_bfloat16", "mixed_float16"])),
    click.option("--tensorboard", is_flag=True, help="Write curves and alignments to OUT/tensorboard."),
]  # fmt: skip


@click.command()
@click.argument("task", type=click.Choice(["translator", "captioner", "lm", "mlm", "plm", "classifier", "tagger"]))
@click.pass_context
def train(context: click.Context, task: str, **options: Any) -> None:
    """Train a model on your files; write the best one to OUT/model.keras."""
    out = pathlib.Path(options.pop("out"))
    resume = options.pop("resume")
    if resume:
        if not (out / "run.json").exists():
            raise click.UsageError(f"{out} holds no run to resume (no run.json).")
        _refuse_changes(context)
        begun, chosen = read_run(out)
        options |= chosen  # an older version did not know all of them
        if begun != task:
            raise click.UsageError(f"{out} holds the run of a {begun}; resume it with: train {begun} --resume.")
    elif out.exists() and any(out.iterdir()):
        raise click.UsageError(
            f"{out} exists and is not empty. Add --resume to go on with its run, or choose another --out."
        )
    elif not options["train_files"]:
        raise click.UsageError("There is nothing to train on; add --train FILE.")
    run_job(jobs()[task], task, options, out)


def read_run(out: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Return the task and the options that the run in a directory was begun with."""
    try:
        task, options = json.loads((out / "run.json").read_text())
    except ValueError:
        raise click.UsageError(f"{out / 'run.json'} is damaged; begin the run anew in another --out.") from None
    return task, options


def _refuse_changes(context: click.Context) -> None:
    """A run goes on as it was begun."""
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name not in ("task", "out", "resume")
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)} cannot change now: --resume goes on with the run as it was begun.")


for _option in reversed(_OPTIONS):
    train = _option(train)


def run_job(job: Job, task: str, options: dict[str, Any], out: pathlib.Path) -> Any:
    """Train as the options say, write the curves, and return the model."""
    import keras

    import keras_attention as ka

    keras.utils.set_random_seed(options["seed"])
    if options["mixed_precision"]:
        keras.config.set_dtype_policy(options["mixed_precision"])
    _check_beginning(options)
    _check_images(job, options)
    plan = _plan(job, options, bool(options["valid_files"]))
    _check_names(job, options)
    with _described(task, options, out):
        examples = _read(job, options["train_files"], options["images"])
        valid = None
        if options["valid_files"]:
            valid = _read(job, options["valid_files"], options["valid_images"] or options["images"])
        click.echo(f"{len(examples)} examples to train on, {len(valid or [])} to validate on", err=True)
        model = _model(job, options, examples, out)
        click.echo(f"{type(model).__name__} with {model.count_params():,} parameters", err=True)
        batches, validation, measure = _learned(job, options, model, examples, valid, out)
        callbacks = _tensorboard(model, valid or examples, out) if options["tensorboard"] else ()
        history = ka.train(model, batches, out, plan, validation=validation, measure=measure, callbacks=callbacks)
    ka.plot_history(history, out / "curves.png")
    click.echo(f"The best model is in {out / 'model.keras'}, the curves in {out / 'curves.png'}.", err=True)
    return model


@contextlib.contextmanager
def _described(task: str, options: dict[str, Any], out: pathlib.Path) -> Iterator[None]:
    """Write what the run is; where it is refused take that back, so that the mended command may be given."""
    import keras_attention as ka

    begun = (out / "run.json").exists()
    out.mkdir(parents=True, exist_ok=True)
    described = json.dumps([task, options], indent=2)
    ka.training.write_whole(out / "run.json", lambda name: pathlib.Path(name).write_text(described))
    try:
        yield
    except BaseException:
        if not begun and not (out / "model.keras").exists():  # nothing was trained
            (out / "run.json").unlink()
            with contextlib.suppress_tokens(OSError):  # region features stay
                out.rmdir()
        raise


def _learned(
    job: Job, options: dict[str, Any], model: Any, examples: list, valid: list | None, out: pathlib.Path
) -> tuple[Any, Any, Callable | None]:
    """Return what to learn from, what to validate on, and what to measure beside; the last two may be None."""
    import keras_attention as ka

    budget, seed, seeing = options["max_tokens"], options["seed"], _seeing(job, options, model, out)
    measure = job.measure(valid, **_steady(seeing)) if job.measure and valid else None
    if options["self_critical"]:
        batches = ka.training.SelfCriticalBatches(examples, model, budget, seed=seed, **seeing)
        measure = _with_reward(measure, batches)
    else:
        batches = job.batches(examples, model, budget, True, seed, **seeing)
    validation = job.batches(valid, model, budget, False, **_steady(seeing)) if valid else None
    return batches, validation, measure


def _read(job: Job, places: list[str], images: str | None) -> list:
    return job.read(places, images) if job.pictures else job.read(places)


def _check_names(job: Job, options: dict[str, Any]) -> None:
    """Refuse what does not exist before anything is read."""
    import keras_attention as ka

    if options["preset"]:
        ka.find_preset(options["preset"], job.task)
    if options["init"] and not pathlib.Path(options["init"]).exists():
        raise click.UsageError(f"--init: there is no model {options['init']}.")
    _sizes(options["sizes"])


def _check_beginning(options: dict[str, Any]) -> None:
    """Refuse what a model that is there already brings itself, and two ways to train a part of it."""
    if options["init"] and options["preset"]:
        raise click.UsageError("--init brings its own sizes; leave out --preset.")
    if options["init"] and (options["encoder"] or options["encoder_weights"]):
        raise click.UsageError("--init brings the network that sees; leave out --encoder and --encoder-weights.")
    if options["init"] and (options["tokenizer"] or options["lowercase"] or options["vocabulary_size"]):
        raise click.UsageError(
            "--init brings its own tokenizer; leave out --tokenizer, --lowercase and --vocabulary-size."
        )
    if options["lora"] and options["freeze"]:
        raise click.UsageError("--lora learns inside the encoder and --freeze does not; choose one of the two.")


def _check_images(job: Job, options: dict[str, Any]) -> None:
    """Refuse what belongs to pictures where there are none."""
    seeing = ("encoder", "encoder_weights", "features", "augment", "flip", "together")
    names = ("images", "valid_images", *seeing, "self_critical")
    given = [f"--{name.replace('_', '-')}" for name in names if options[name]]
    if given and not job.pictures:
        raise click.UsageError(f"{', '.join(given)} belongs to a captioner.")
    if options["self_critical"] and not options["init"]:
        raise click.UsageError("--self-critical needs a captioner that writes captions already; add --init MODEL.")
    if options["self_critical"] and options["together"]:
        raise click.UsageError(
            "--captions-per-image is for captions that people wrote; leave it out with --self-critical."
        )
    if options["valid_images"] and not options["valid_files"]:
        raise click.UsageError("--valid-images are those of --valid; add --valid FILE.")
    if options["encoder"] == "small_cnn" and options["encoder_weights"] == "imagenet":
        raise click.UsageError("The small_cnn was not trained on ImageNet; leave out --encoder-weights.")
    if options["encoder"] == "small_cnn" and options["freeze"] and options["encoder_weights"] in (None, "none"):
        raise click.UsageError("--freeze: the small_cnn has learned nothing yet; add --encoder-weights CAPTIONER.")
    if options["features"] and options["augment"]:
        raise click.UsageError("--augment changes pictures each time, so that there are no --features to keep.")


def _seeing(job: Job, options: dict[str, Any], model: Any, out: pathlib.Path) -> dict[str, Any]:
    """How pictures are seen: a network that does not learn answers once for each, and that is kept."""
    if not job.pictures:
        return {}
    seeing = {name: options[name] for name in ("augment", "flip", "together") if options[name]}
    if options["augment"] or model.vision.learns:
        return seeing
    return {"cache": pathlib.Path(options["features"] or out / "features"), **seeing}


def _with_reward(measure: Callable | None, batches: Any) -> Callable[[Any], dict[str, float]]:
    """The same measure, and what the model's own captions were worth."""
    return lambda model: {**(measure(model) if measure else {}), "reward": batches.mean_reward}


def _steady(seeing: dict[str, Any]) -> dict[str, Any]:
    """The same, without chance."""
    return {name: value for name, value in seeing.items() if name == "cache"}


def _model(job: Job, options: dict[str, Any], examples: list, out: pathlib.Path) -> Any:
    import keras

    import keras_attention as ka

    if (out / "model.keras").exists():
        model = keras.saving.load_model(out / "model.keras", compile=False)
    else:
        model = (_initialized if options["init"] else _fresh)(job, options, examples)
    if options["lora"]:
        ka.training.enable_lora(model, options["lora"])
    elif options["freeze"]:
        ka.training.freeze(model)
    if options["remat"]:
        ka.training.rematerialize(model)
    return model


def _fresh(job: Job, options: dict[str, Any], examples: list) -> Any:
    preset = options["preset"] or job.preset
    tokenizer = {
        "kind": options["tokenizer"] or (job.tokenizer if preset == job.preset else "sentencepiece"),
        "vocabulary_size": options["vocabulary_size"] or 8000,
        "lowercase": options["lowercase"],
    }
    sizes = _sizes(options["sizes"])
    if options["encoder"]:
        sizes["encoder"] = options["encoder"]
    if options["encoder_weights"]:
        sizes["encoder_weights"] = None if options["encoder_weights"] == "none" else options["encoder_weights"]
    return job.make(preset, examples, tokenizer, sizes)


def _initialized(job: Job, options: dict[str, Any], examples: list) -> Any:
    """A model that is there already, with sizes that may differ, or a new head on its encoder."""
    import keras_attention as ka
    from keras_attention.cli.loading import load_model

    model, sizes = load_model(options["init"]), _sizes(options["sizes"])
    if type(model).__name__ == job.task:
        return type(model).from_model(model, **sizes) if sizes else model
    if job.labels is None:
        raise click.UsageError(f"--init: {options['init']} is a {type(model).__name__}; expected a {job.task}.")
    return getattr(ka, job.task).from_encoder(model, labels=job.labels(examples), **sizes)


def _sizes(given: list[str] | tuple[str, ...]) -> dict[str, Any]:
    sizes: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise click.UsageError(f"--set {item}: expected NAME=VALUE, such as units=512.")
        try:
            sizes[name] = json.loads(value)
        except json.JSONDecodeError:
            sizes[name] = value
    return sizes


def _plan(job: Job, options: dict[str, Any], validated: bool) -> Any:
    import keras_attention as ka

    critical = options["self_critical"]
    select = options["monitor"] or (job.select if validated else "reward" if critical else "loss")
    known = ("loss", "accuracy", *(["bleu"] if job.measure else []), *(["reward"] if critical else []))
    if not select.endswith(known):
        raise click.UsageError(
            f"--monitor {select}: expected a name that ends in {', '.join(known)}, such as val_loss."
        )
    if select.startswith("val_") and not validated:
        raise click.UsageError(f"--monitor {select} needs validation data; add --valid FILE.")
    if select == "reward" and options["average_checkpoints"] > 1:
        raise click.UsageError(
            "--average-checkpoints is kept where it is better, and `reward` is of captions that were drawn before; add --valid FILE."
        )
    names = (
        "epochs",
        "learning_rate",
        "schedule",
        "warmup_steps",
        "label_smoothing",
        "clip_norm",
        "patience",
        "average_checkpoints",
        "gradient_accumulation",
        "weight_decay",
        "layer_decay",
    )
    chosen = {name: options[name] for name in names} | ({"label_smoothing": 0.0} if critical else {})
    return ka.TrainingPlan(monitor=select, **chosen)


def _tensorboard(model: Any, examples: list, out: pathlib.Path) -> list:
    import importlib.util

    import keras

    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("--tensorboard needs a package: pip install 'keras-attention[tensorboard]'")
    directory = out / "tensorboard"
    callbacks: list = [keras.callbacks.TensorBoard(directory, write_graph=False)]
    if hasattr(model, "translate") and model.has_attention:
        from keras_attention.visualize import AlignmentImages

        callbacks.append(AlignmentImages([source for source, _ in examples[:3]], directory))
    if hasattr(model, "caption") and model.has_attention:
        from keras_attention.visualize import CaptionImages

        callbacks.append(CaptionImages([example.picture for example in examples[:3]], directory))
    return callbacks
