"""train: the options, and the start or resumption of a run."""

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
from keras_attention.cli.options import Command, Option, from_fields, given_flags, refuse_other_tasks, task_class
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


def _default_tokenizers(tasks: Sequence[str]) -> str:
    specs = [TASK_SPECS[task] for task in tasks if TASK_SPECS[task].default_tokenizer != "sentencepiece"]
    named = [f"{spec.default_tokenizer} ({spec.default_preset})" for spec in specs]
    return ", ".join([*named, f"sentencepiece{' (other presets)' * bool(named)}"])


def _plan(group: str, *names: str, **settings: Any) -> list[Option]:
    return from_fields(ka.training.TrainingPlan, names, group=group, **settings)


_data, _tokenizer, _image, _model = map(_grouped, ("Data", "Tokenizers", "Images", "Model"))
_finetuning, _optimization, _run = map(_grouped, ("Fine-tuning", "Optimization", "Run"))
_DATA = [
    _data(
        "--train",
        "--captions",
        "train_files",
        metavar="FILE",
        multiple=True,
        help="training file: TSV, CSV, JSONL, CoNLL, text, or JSON with captions as in COCO or Karpathy's splits, also "
        "compressed (.gz, .bz2, .xz); - for standard input; tfds:NAME[:SPLIT] for a data set of TensorFlow Datasets. "
        "For a translator, repeat the option for more tables (one that is named twice counts twice), or for two text "
        "files that are aligned line by line: first the sources, then the targets.",
    ),
    _data(
        "--valid",
        "valid_files",
        metavar="FILE",
        multiple=True,
        help="validation file, in the same formats; the run keeps the epoch with the best metric on its "
        "examples; --valid none for no validation.  [default: a tenth of the training examples]",
    ),
    *reading_options("Data"),
    *_plan("Data", "max_tokens"),
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
        help="directory that contains the validation images.  [default: --images]",
    ),
    _image(
        "--captions-per-image",
        type=click.IntRange(1),
        tasks=_CAPTIONER,
        help="number of captions of the same image in a batch; the image is encoded once for all of them.  [default: "
        "1 with a region cache; without one, the number of captions that most images have]",
    ),
    _image(
        "--augment",
        is_flag=True,
        tasks=_CAPTIONER,
        help="crop the training images at random, and change their contrast and brightness; there is no region cache "
        "then.",
    ),
    _image(
        "--flip",
        is_flag=True,
        tasks=_CAPTIONER,
        help="mirror training images at random; not for captions with the words left or right.",
    ),
    _image(
        "--region-cache",
        metavar="DIRECTORY",
        tasks=_CAPTIONER,
        help="directory for the outputs of a frozen image encoder, which encodes each image only once.  "
        "[default: OUT/region_cache]",
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
        help="value of a field of the config, instead of the preset's, such as units=512; repeatable.",
    ),
    _model(
        "--image-encoder",
        metavar="NAME",
        tasks=_CAPTIONER,
        help="network that encodes the images: small_cnn or the name of a keras.applications network.  [default: "
        "mobilenet_v2]",
    ),
    _model(
        "--image-encoder-weights",
        metavar="WEIGHTS",
        tasks=_CAPTIONER,
        help="initial weights of the image encoder: imagenet, none (random), or a .keras, .npz or .h5 file.  [default: "
        "imagenet, which Keras downloads; none for small_cnn]",
    ),
    _finetuning(
        "--init",
        metavar="MODEL",
        help="start from this model, a .keras file or Hugging Face directory. It must have the same task; a "
        "classifier or tagger may also start from an mlm or plm.",
    ),
    _finetuning(
        "--pretrain",
        "unlabelled_texts",
        metavar="FILE",
        multiple=True,
        tasks=["tagger"],
        help="file of texts without tags, one per line, with spaces between words; repeatable. It sets the initial "
        "embeddings, which are similar for words with the same neighbours; the training uses only --train.",
    ),
    _finetuning("--lora", type=click.IntRange(1), metavar="RANK", help="fine-tune with LoRA of this rank."),
    _finetuning(
        "--freeze",
        is_flag=True,
        tasks=_ENCODERS,
        help="do not train the text or image encoder, only the layers after it.",
    ),
]
_OPTIMIZATION = [
    *_plan("Optimization", "epochs", "passes_per_epoch", "learning_rate", "schedule", "warmup_steps"),
    *_plan("Optimization", "label_smoothing", "clip_norm", "weight_decay", "layer_decay", "gradient_accumulation"),
    _optimization(
        "--class-weights",
        type=click.Choice(["balanced"]),
        tasks=["classifier", "tagger"],
        help="weight each class by its inverse frequency.",
    ),
    _optimization(
        "--rematerialize",
        is_flag=True,
        help="recompute activations in the backward pass, which needs less memory and more time.",
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
    *_plan("Run", "monitor", "mode"),
    *_plan("Run", "bleu_tokenizer", tasks=["translator", "captioner"]),
    *_plan("Run", "patience", "average_checkpoints"),
    _run("--seed", type=int, default=0, show_default=True, help="seed of all random numbers."),
    _run("--tensorboard", is_flag=True, help="write curves and attention plots to OUT/tensorboard."),
]
_TASK = click.Argument(["task"], type=click.Choice(list(TASK_SPECS)), metavar="TASK")


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

    With TASK, as in `keras-attention train tagger --help`, this help lists only the options of the task. A default
    that depends on the data is computed from the size of the training data and printed. Example:

    keras-attention train translator --train train.tsv --valid valid.tsv --out run
    """
    refuse_other_tasks(context, task)
    out, resume = local_path(options.pop("out")), options.pop("resume")
    if resume:
        options |= _resumed(context, task, out)
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
        raise Stopped(_saved(task, out)) from None


def _saved(task: str, out: pathlib.Path) -> str:
    """Return what a stopped run has saved, and how to resume it."""
    if not (out / "checkpoint.npz").exists():
        return "Nothing was saved."
    return (
        f"{out / 'model.keras'} is the best model so far, and {out / 'checkpoint.npz'} the state after the last epoch. "
        f"Resume with: keras-attention train {task} --out {shlex.quote(str(out))} --resume"
    )


def _resumed(context: click.Context, task: str, out: pathlib.Path) -> dict[str, Any]:
    """Return the options of the run in a directory; they cannot change."""
    if not (out / "run.json").exists():
        raise click.UsageError(
            f"{out} contains no run to resume, because it has no run.json. Choose the --out of a run, or start a new "
            "run without --resume."
        )
    if changed := [name for name in given_flags(context) if name not in ("--out", "--resume")]:
        raise click.UsageError(
            f"{', '.join(changed)} cannot change: --resume uses the options that the run started with. To train its "
            f"model further, start another run from it: --init {shlex.quote(str(out / 'model.keras'))} --out DIRECTORY"
        )
    started, options = read_run(out)
    if started != task:
        raise click.UsageError(f"{out} contains the run of a {started}; resume it with: train {started} --resume.")
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
