"""train: its options, and the start of a new or resumed run."""

from __future__ import annotations

import functools
import json
import pathlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

import keras_attention as ka
from keras_attention.choices import NORMALIZATIONS, TOKENIZER_KINDS
from keras_attention.cli.examples import reading_options
from keras_attention.cli.options import (
    Command,
    Option,
    TaskChoice,
    command_line_options,
    from_fields,
    refuse_other_tasks,
    task_class,
)
from keras_attention.cli.terminal import Stopped
from keras_attention.storage import local_path
from keras_attention.task_specs import TASK_SPECS

_CAPTIONER, _ENCODERS = ["captioner"], ["captioner", "classifier", "tagger"]
_POLICIES = click.Choice(["mixed_bfloat16", "mixed_float16"])


def _grouped(group: str) -> Callable[..., Option]:
    return functools.partial(Option, group=group)


def _default_presets(tasks: Sequence[str]) -> str:
    presets = [TASK_SPECS[task].default_preset for task in tasks]
    named = (f"{preset} ({task})" for preset, task in zip(presets, tasks, strict=True))
    return presets[0] if len(tasks) == 1 else ", ".join(named)


def _default_metrics(tasks: Sequence[str]) -> str:
    metrics = [f"val_{TASK_SPECS[task].metric}" for task in tasks]
    groups = {metric: [task for task, its in zip(tasks, metrics, strict=True) if its == metric] for metric in metrics}
    if len(groups) == 1:
        return metrics[0]
    return ", ".join(f"{metric} ({', '.join(names)})" for metric, names in groups.items())


def _default_image_encoder(tasks: Sequence[str]) -> str:
    return ka.presets()[TASK_SPECS[tasks[0]].default_preset].config.image_encoder


def _default_tokenizers(tasks: Sequence[str]) -> str:
    specs = [TASK_SPECS[task] for task in tasks if TASK_SPECS[task].default_tokenizer != "sentencepiece"]
    named = [f"{spec.default_tokenizer} ({spec.default_preset})" for spec in specs]
    return ", ".join([*named, f"sentencepiece{' (other presets)' * bool(named)}"])


def _plan_options(group: str, *names: str, **kwargs: Any) -> list[Option]:
    return from_fields(ka.training.TrainingPlan, names, group=group, **kwargs)


_data, _tokenizer, _image, _model = map(_grouped, ("Data", "Tokenizers", "Images", "Model"))
_finetuning, _optimization, _run = map(_grouped, ("Fine-tuning", "Optimization", "Run"))
_DATA = [
    _data(
        "--train",
        "--captions",
        "train_files",
        metavar="FILE",
        multiple=True,
        help="training file: text, TSV, CSV, JSONL, CoNLL, or captions in the JSON of COCO or Karpathy; may be "
        "compressed (.gz, .bz2, .xz); - for standard input, tfds:NAME[:SPLIT] for a data set of TensorFlow Datasets. "
        "Repeat the option for more tables of a translator (a table that is named twice counts twice), or for two "
        "parallel text files: first the source file, then the target file.",
    ),
    _data(
        "--valid",
        "valid_files",
        metavar="FILE",
        multiple=True,
        help="validation file, in the formats of --train, or the word none to train without validation; the best "
        "model is that of the epoch with the best validation metric.  [default: a tenth of the training examples]",
    ),
    *reading_options("Data"),
    *_plan_options("Data", "max_tokens"),
    _tokenizer(
        "--tokenizer",
        type=click.Choice(TOKENIZER_KINDS),
        default_of=_default_tokenizers,
        help="kind of tokenizer.",
    ),
    _tokenizer(
        "--vocabulary-size",
        type=click.IntRange(8),
        help="number of tokens in the vocabulary of each tokenizer.  [default: depends on the data]",
    ),
    _tokenizer("--lowercase", is_flag=True, help="convert texts to lower case."),
    _tokenizer(
        "--normalization",
        type=click.Choice(NORMALIZATIONS),
        help="Unicode normalization of texts: identity (none) or nfkc.  [default: identity]",
    ),
    _image("--images", metavar="DIRECTORY", tasks=_CAPTIONER, help="directory that contains the training images."),
    _image(
        "--valid-images",
        metavar="DIRECTORY",
        tasks=_CAPTIONER,
        help="directory that contains the validation images.  [default: that of --images]",
    ),
    _image(
        "--captions-per-image",
        type=click.IntRange(1),
        tasks=_CAPTIONER,
        help="number of captions per image in a batch; a batch encodes each image once.  [default: 1 with a region "
        "cache; otherwise the most frequent number of captions per image]",
    ),
    _image(
        "--augment",
        is_flag=True,
        tasks=_CAPTIONER,
        help="augment the training images with random crops, contrast and brightness; turns the region cache off.",
    ),
    _image(
        "--flip",
        is_flag=True,
        tasks=_CAPTIONER,
        help="flip each training image horizontally with probability 1/2. Do not use it if captions mention left or "
        "right.",
    ),
    _image(
        "--region-cache",
        metavar="DIRECTORY",
        tasks=_CAPTIONER,
        help="directory of the region cache, the stored outputs of a frozen image encoder, which encodes each image "
        "only once.  [default: OUT/region_cache]",
    ),
]
_MODEL = [
    _model(
        "--preset", metavar="NAME", default_of=_default_presets, help="name of a preset; see `keras-attention presets`."
    ),
    _model(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="override a config field of the preset, such as units=512; repeatable.",
    ),
    _model(
        "--image-encoder",
        metavar="NAME",
        tasks=_CAPTIONER,
        default_of=_default_image_encoder,
        help="name of the image encoder, small_cnn or a keras.applications network.",
    ),
    _model(
        "--image-encoder-weights",
        metavar="WEIGHTS",
        tasks=_CAPTIONER,
        help="initial weights of the image encoder: imagenet (Keras downloads them), none (random), or a .keras, .npz "
        "or .h5 file.  [default: imagenet; none for small_cnn]",
    ),
    _finetuning(
        "--init",
        metavar="MODEL",
        help="initialize the weights from MODEL, a .keras file or Hugging Face directory of the same task. A "
        "classifier or tagger can also be initialized from an mlm or plm.",
    ),
    _finetuning(
        "--pretrain",
        "unlabelled_texts",
        metavar="FILE",
        multiple=True,
        tasks=["tagger"],
        help="unlabelled text file, one text per line, words separated by spaces; repeatable. The initial word "
        "embeddings are computed from it: words with the same neighbours get similar embeddings.",
    ),
    _finetuning("--lora", type=click.IntRange(1), metavar="RANK", help="fine-tune with LoRA of this rank."),
    _finetuning(
        "--freeze",
        is_flag=True,
        tasks=_ENCODERS,
        help="freeze the text or image encoder, and train only the layers after it.",
    ),
]
_OPTIMIZATION = [
    *_plan_options("Optimization", "epochs", "passes_per_epoch", "learning_rate", "schedule", "warmup_steps"),
    *_plan_options("Optimization", "label_smoothing", "clip_norm", "weight_decay"),
    *_plan_options("Optimization", "r_drop", tasks=["classifier", "tagger"]),
    *_plan_options("Optimization", "layer_decay", "gradient_accumulation"),
    _optimization(
        "--class-weights",
        type=click.Choice(["balanced"]),
        tasks=["classifier", "tagger"],
        help="weight each class by its inverse frequency.",
    ),
    _optimization(
        "--rematerialize",
        is_flag=True,
        help="recompute activations in the backward pass: less memory, more time.",
    ),
    _optimization(
        "--mixed-precision", type=_POLICIES, help="train with this dtype policy of Keras instead of float32."
    ),
    _optimization(
        "--self-critical",
        is_flag=True,
        tasks=_CAPTIONER,
        help="fine-tune the model of --init with self-critical training; the reward is CIDEr plus BLEU.",
    ),
]
_RUN = [
    _run("--out", metavar="DIRECTORY", required=True, help="directory of the run; the best model is OUT/model.keras."),
    _run("--resume", is_flag=True, help="resume the run in --out with its original options."),
    *_plan_options("Run", "monitor", default_of=_default_metrics),
    *_plan_options("Run", "mode"),
    *_plan_options("Run", "bleu_tokenizer", tasks=["translator", "captioner"]),
    *_plan_options("Run", "patience", "average_checkpoints"),
    _run("--seed", type=int, default=0, show_default=True, help="seed of all random numbers."),
    _run("--tensorboard", is_flag=True, help="write curves and attention plots to OUT/tensorboard."),
]
_TASK = click.Argument(["task"], type=TaskChoice(), metavar="TASK")


@click.command(cls=Command, params=[_TASK, *_DATA, *_MODEL, *_OPTIMIZATION, *_RUN])
@click.pass_context
def train(context: click.Context, task: str, **options: Any) -> None:
    """Train a model for TASK on your files.

    TASK is one of:

    \b
    translator  translates texts
    captioner   describes images
    classifier  assigns a label to a text, or to a pair of texts
    tagger      assigns a tag to each word
    lm          causal language model: continues texts
    mlm         masked language model, such as BERT: fills masked words
    plm         permutation language model, XLNet: continues texts

    `keras-attention train tagger --help` lists only the options of a tagger. Defaults that depend on the data are
    computed from the size of the training data and printed before training. Example:

    keras-attention train translator --train train.tsv --valid valid.tsv --out run
    """
    refuse_other_tasks(context, task)
    out, resume = local_path(options.pop("out")), options.pop("resume")
    if resume:
        options |= _read_resumed_options(context, task, out)
    elif out.exists() and any(out.iterdir()):
        raise click.UsageError(
            f"{out} exists and is not empty. Add --resume to resume its run, or choose another --out."
        )
    elif not options["train_files"]:
        raise click.UsageError("There are no examples to train on; add --train FILE.")
    from keras_attention.cli.training_run import run_training  # imports Keras

    try:
        run_training(task_class(task), options, out)
    except KeyboardInterrupt:
        raise Stopped(_describe_saved(task, out)) from None


def _describe_saved(task: str, out: pathlib.Path) -> str:
    """Return what a stopped run has saved, and how to resume it."""
    if not (out / "checkpoint.npz").exists():
        return "Nothing was saved."
    return (
        f"{out / 'model.keras'} is the best model so far, and {out / 'checkpoint.npz'} the state after the last epoch. "
        f"Resume with: keras-attention train {task} --out {shlex.quote(str(out))} --resume"
    )


def _read_resumed_options(context: click.Context, task: str, out: pathlib.Path) -> dict[str, Any]:
    """Return the options of the run in a directory; they cannot change."""
    if not (out / "run.json").exists():
        raise click.UsageError(
            f"{out} contains no run to resume, because it has no run.json. Choose the --out of a run, or start a new "
            "run without --resume."
        )
    if changed := [name for name in command_line_options(context) if name not in ("--out", "--resume")]:
        raise click.UsageError(
            f"{', '.join(changed)} cannot change: --resume uses the options that the run started with. To train its "
            f"model further, start another run from it: --init {shlex.quote(str(out / 'model.keras'))} --out DIRECTORY"
        )
    stored_task, options = read_run(out)
    if stored_task != task:
        raise click.UsageError(
            f"{out} contains the run of a {stored_task}; resume it with: train {stored_task} --resume."
        )
    return options


def read_run(out: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Return the task and the options of the run in a directory."""
    try:
        task, options = json.loads((out / "run.json").read_text())
    except ValueError:
        raise click.UsageError(f"{out / 'run.json'} is damaged; start the run again in another --out.") from None
    return task, options


def default_options(task: str) -> dict[str, Any]:
    """Return the options of `train` and their defaults."""
    parameters = train.make_context("train", [task, "--out", "unused"]).params
    return {name: value for name, value in parameters.items() if name not in ("task", "out", "resume")}
