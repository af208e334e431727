"""A training run of the command line: read the examples, make the model, train it, plot the curves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import click
import keras

import keras_attention as ka
from keras_attention.cli.examples import hold_out, list_labels, read_examples
from keras_attention.cli.options import config_overrides
from keras_attention.cli.tensorboard import tensorboard_callbacks
from keras_attention.cli.terminal import VERBOSITY, native_log_hidden, write_message
from keras_attention.data.lines import counted
from keras_attention.data_size import DataSize
from keras_attention.defaults import (
    REASONS,
    TRAINING_FIELDS,
    default_tokenizer_kind,
    network_defaults,
    trains_on_pairs,
)
from keras_attention.presets import check_fields, find_preset
from keras_attention.storage import local_path, write_text
from keras_attention.visualize import plot_history

_NONE = ["none"]  # --valid none


def run_training(task: type, options: dict[str, Any], out: pathlib.Path) -> Any:
    """Train a model of a task with the options of `train`, and return it with the best weights."""
    out = local_path(out)
    check_options(task, options)
    if not (out / "model.keras").exists():
        _refuse(_file_rules(options))
    try:
        seed = ka.training.TrainingPlan(**_plan_overrides(options)).seed
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    keras.utils.set_random_seed(seed)
    if options["mixed_precision"]:
        keras.config.set_dtype_policy(options["mixed_precision"])
    with _run_file(task.spec.command_name, options, out), warnings.catch_warnings():
        init, starts_from_init = None, options["init"] and not (out / "model.keras").exists()
        if starts_from_init:
            with native_log_hidden():
                init = _load_init(options["init"], task)
        options = {**options, **_labels_of(init, task)}
        examples, validation = _read_data(task, options)
        warnings.simplefilter("ignore", ka.data.DataWarning)  # `ka.train` checks the examples again
        with native_log_hidden():
            data_size = DataSize.measure(task, examples)
            model = _make_model(task, options, examples, data_size, validation or [], out, init)
        write_message(f"{type(model).__name__} with {model.count_params():,} parameters")
        has_new_head = starts_from_init and bool(model.labels) and not isinstance(init, task)
        plan = _make_plan(model, examples, data_size, options, out, has_new_head)
        callbacks = tensorboard_callbacks(model, validation or examples, out) if options["tensorboard"] else ()
        images = _image_options(options, model, out)
        if options["self_critical"]:
            examples = ka.training.SelfCriticalBatches(examples, model, plan.max_tokens, seed=plan.seed, **images)
        history = ka.train(
            model,
            examples,
            out,
            plan,
            validation=validation,
            class_weight=options["class_weights"],
            batch_options=images,
            callbacks=callbacks,
            verbose=not VERBOSITY.quiet,
        )
    plot_history(history, out / "curves.png")
    write_message(f"The best model is {out / 'model.keras'}, the curves are {out / 'curves.png'}.")
    return model


def check_options(task: type, options: dict[str, Any]) -> None:
    """Check that the options do not contradict each other and that the preset exists, before any file is read.

    Raises:
        click.UsageError: options contradict each other; the message contains the fix.
        ValueError: the task has no such preset, or no field of --set.
    """
    validated = list(options["valid_files"]) != _NONE
    _refuse([*_model_rules(options), *_validation_rules(options, validated), *_image_rules(options)])
    config = find_preset(options["preset"] or task.spec.default_preset, task.__name__)
    overrides = config_overrides(options["overrides"])
    if not options["init"]:
        check_fields(config, task.spec.class_name, overrides, task.spec.tokenizer_names)


def _refuse(rules: list[tuple[Any, str]]) -> None:
    for wrong, message in rules:
        if wrong:
            raise click.UsageError(message)


def _model_rules(options: dict[str, Any]) -> list[tuple[Any, str]]:
    init = options["init"]
    return [
        (init and options["preset"], "--init has its own config; leave out --preset."),
        (
            init and (options["image_encoder"] or options["image_encoder_weights"]),
            "--init has its own image encoder; leave out --image-encoder and --image-encoder-weights.",
        ),
        (
            init and any(options[name] for name in ("tokenizer", "lowercase", "vocabulary_size", "normalization")),
            "--init has a tokenizer; leave out --tokenizer, --lowercase, --vocabulary-size and --normalization.",
        ),
        (
            init and options["unlabelled_texts"],
            "--init is trained already, and --pretrain starts with a new model; choose one of the two.",
        ),
        (
            options["lora"] and options["freeze"],
            "--lora trains the encoder and --freeze does not; choose one of the two.",
        ),
    ]


def _validation_rules(options: dict[str, Any], validated: bool) -> list[tuple[Any, str]]:
    monitor = options["monitor"] or ""
    return [
        (
            monitor.startswith("val_") and not validated,
            f"--monitor {monitor} needs validation data; add --valid FILE.",
        ),
        (
            options["self_critical"] and not validated and (options["average_checkpoints"] or 1) > 1,
            "--average-checkpoints needs a validation metric, since `reward` is not computed for the average; add "
            "--valid FILE.",
        ),
    ]


def _image_rules(options: dict[str, Any]) -> list[tuple[Any, str]]:
    small = options["image_encoder"] == "small_cnn"
    frozen = options["freeze"] or config_overrides(options["overrides"]).get("fine_tune_from") != "all"
    return [
        (
            options["self_critical"] and not options["init"],
            "--self-critical needs a trained captioner; add --init MODEL.",
        ),
        (
            options["self_critical"] and options["captions_per_image"],
            "--captions-per-image applies to human captions; leave it out with --self-critical.",
        ),
        (
            options["valid_images"] and list(options["valid_files"]) in ([], _NONE),
            "--valid-images needs captions; add --valid FILE.",
        ),
        (
            small and options["image_encoder_weights"] == "imagenet",
            "There are no ImageNet weights for small_cnn; leave out --image-encoder-weights.",
        ),
        (
            options["image_encoder_weights"] == "none" and not small and frozen,
            "--image-encoder-weights none: the image encoder is frozen, so its weights would stay random. Choose "
            "--image-encoder small_cnn, which is trained, or add --set fine_tune_from=all and leave out --freeze.",
        ),
        (
            small and options["freeze"] and options["image_encoder_weights"] in (None, "none"),
            "--freeze: the small_cnn is not trained yet; add --image-encoder-weights CAPTIONER.",
        ),
        (
            options["region_cache"] and options["augment"],
            "--augment changes the images in each epoch, so their regions cannot be cached; leave out --region-cache.",
        ),
    ]


def _file_rules(options: dict[str, Any]) -> list[tuple[Any, str]]:
    """Return the rules for files that a new run reads, but a resumed run does not."""
    files = [("--init: there is no model", options["init"])] if options["init"] else []
    files += [("--pretrain: there is no file", path) for path in options["unlabelled_texts"]]
    return [(not local_path(path).exists(), f"{problem} {path}.") for problem, path in files]


def _plan_overrides(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `TrainingPlan` that are set."""
    fields = {field.name: options[field.name] for field in dataclasses.fields(ka.training.TrainingPlan)}
    return {name: value for name, value in fields.items() if value is not None}


def _make_plan(
    model: Any, examples: list, data_size: DataSize, options: dict[str, Any], out: pathlib.Path, has_new_head: bool
) -> Any:
    """Return the plan of the options; unset values are computed from the data, printed, and stored in run.json.

    A new head is fitted first. If the encoder is trained on pairs, run.json also stores the values that are set: a run
    that is interrupted in this stage repeats it, and a run that is resumed later freezes the encoder.
    """
    overrides = _plan_overrides(options)
    if options["self_critical"]:
        return ka.training.TrainingPlan(**{**overrides, "label_smoothing": 0.0})
    if has_new_head:
        overrides = options.get("set_before_pairs", overrides)
        if trains_on_pairs(model, examples):
            options = {**options, "set_before_pairs": overrides}
        with native_log_hidden():
            plan = ka.training.fit_new_head(
                model, examples, verbose=not VERBOSITY.quiet, data_size=data_size, **overrides
            )
    else:
        plan = ka.training.TrainingPlan.for_data(model, examples, data_size, **overrides)
    derived = {name: getattr(plan, name) for name in TRAINING_FIELDS if name not in overrides}
    if derived:
        network = {} if model.is_pretrained else _derived_fields(type(model), data_size, options)
        _list_defaults(model, data_size, network | derived)
        options = {**options, "derived_network": network}  # for the reader of run.json
    write_run(out, type(model).spec.command_name, options | derived)
    return plan


_WITHOUT_EFFECT = {"passes_per_epoch": 1, "r_drop": 0.0}  # values that are not listed


def _list_defaults(model: Any, data_size: DataSize, values: dict[str, Any]) -> None:
    """Print the values that are computed from the data, with reasons."""
    examples, words = counted(data_size.examples, "example"), counted(data_size.words, "word")
    write_message(f"Defaults for {examples} with {words}, {data_size.distinct_words:,} of them distinct:")
    for name, value in values.items():
        if name == "vocabulary_size":
            _list_default(name, *_vocabulary_size(model, limit=value))
        elif _WITHOUT_EFFECT.get(name) != value:
            _list_default(name, value, REASONS[name])


def _list_default(name: str, value: Any, reason: str) -> None:
    write_message(f"  {name.replace('_', ' '):20} {value!s:8} {reason}")


def _vocabulary_size(model: Any, limit: int) -> tuple[int, str]:
    """Return the vocabulary size of a new model, and the reason; few texts have fewer tokens than the limit."""
    size = (getattr(model, "target_tokenizer", None) or model.tokenizer).vocabulary_size()
    return size, REASONS["vocabulary_size"] if size >= limit else f"all tokens of the texts; the limit is {limit:,}"


def _derived_fields(task: type, data_size: DataSize, options: dict[str, Any]) -> dict[str, Any]:
    """Return the config fields of a new model that are computed from the data, and the limit of its vocabulary size."""
    preset = options["preset"]
    config = find_preset(preset or task.spec.default_preset, task.spec.class_name)
    kind, overrides = (
        options["tokenizer"] or default_tokenizer_kind(task, preset),
        config_overrides(options["overrides"]),
    )
    fields = network_defaults(task, data_size, config, kind, only_dropout=preset is not None, overrides=overrides)
    if options["vocabulary_size"] or kind in ("words", "characters"):
        del fields["vocabulary_size"]
    return fields


def write_run(out: pathlib.Path, task: str, options: dict[str, Any]) -> None:
    """Write the task and the options of a run to run.json, for --resume."""
    write_text(out / "run.json", json.dumps([task, options], indent=2))


@contextlib.contextmanager
def _run_file(task: str, options: dict[str, Any], out: pathlib.Path) -> Iterator[None]:
    """Write the task and the options to run.json; remove it if a new run fails before training."""
    is_resumed = (out / "run.json").exists()
    out.mkdir(parents=True, exist_ok=True)
    write_run(out, task, options)
    try:
        yield
    except BaseException:
        if not is_resumed and not (out / "model.keras").exists():
            (out / "run.json").unlink()
            with contextlib.suppress(OSError):  # it may contain the region cache
                out.rmdir()
        raise


def _labels_of(init: Any, task: type) -> dict[str, list[str]]:
    """Return the labels of --init as an option for run.json, because a resumed run does not read --init."""
    has_labels = isinstance(init, task) and hasattr(init.config, "labels")
    return {"init_labels": list(init.config.labels)} if has_labels else {}


def _read_data(task: type, options: dict[str, Any]) -> tuple[list, list | None]:
    """Return training and validation examples; the labels are those of --init or of the training examples."""
    reading = {name: options[name] for name in ("images", "columns", "tag_column")}
    labels = options.get("init_labels")
    examples, validation = read_examples(task, options["train_files"], labels or None, **reading), None
    if list(options["valid_files"]) not in ([], _NONE):
        reading["images"] = options["valid_images"] or options["images"]
        # An unknown label of a text is a mistake, but a rare tag may be missing in few training sentences.
        expected = labels or (task.data.labels(examples) if task.data.has_pairs else None) or None
        validation = read_examples(task, options["valid_files"], expected, **reading)
    list_labels(task, examples)
    task.data.check_training(examples, validation, labels or ())
    if not options["valid_files"]:
        examples, validation = hold_out(task, examples, options["seed"])
        _refuse(_validation_rules(options, bool(validation)))
    write_message(
        f"{counted(len(examples), 'training example')}, {counted(len(validation or []), 'validation example')}"
    )
    return examples, validation


def _image_options(options: dict[str, Any], model: Any, out: pathlib.Path) -> dict[str, Any]:
    """Return the image options of `make_batches`; a region cache only if the regions of an image never change."""
    image_options = {name: options[name] for name in ("augment", "flip", "captions_per_image") if options[name]}
    if model.image_encoder is None or options["augment"] or model.image_encoder.is_trainable:
        return image_options
    return {"region_cache": local_path(options["region_cache"] or out / "region_cache"), **image_options}


def _make_model(
    task: type,
    options: dict[str, Any],
    examples: list,
    data_size: DataSize,
    validation: list,
    out: pathlib.Path,
    init: Any,
) -> Any:
    """Return the model of the run in `out`, a model that starts from that of --init, or a new model."""
    if (out / "model.keras").exists():
        model = ka.load(out / "model.keras")
    elif options["init"]:
        model = _make_model_from_init(task, options, examples, init)
    else:
        model = _make_new_model(task, options, examples, data_size, validation)
    if options["lora"]:
        ka.training.enable_lora(model, options["lora"])
    elif options["freeze"] or ("set_before_pairs" in options and (out / "model.keras").exists()):
        ka.training.freeze(model)
    if options["rematerialize"]:
        ka.training.rematerialize(model)
    return model


def _make_new_model(task: type, options: dict[str, Any], examples: list, data_size: DataSize, validation: list) -> Any:
    overrides = config_overrides(options["overrides"])
    if labels := task.data.labels([*examples, *validation]):
        overrides.setdefault("labels", labels)
    if options["image_encoder"]:
        overrides["image_encoder"] = options["image_encoder"]
    if options["image_encoder_weights"]:
        overrides["image_encoder_weights"] = (
            None if options["image_encoder_weights"] == "none" else options["image_encoder_weights"]
        )
    return task.from_examples(
        examples,
        options["preset"],
        tokenizer_kind=options["tokenizer"],
        vocabulary_size=options["vocabulary_size"],
        lowercase=options["lowercase"],
        normalization=options["normalization"] or "identity",
        data_size=data_size,
        unlabelled_texts=_read_unlabelled(task, options["unlabelled_texts"], examples),
        **overrides,
    )


def _read_unlabelled(task: type, paths: Sequence[str], examples: list) -> list[str]:
    """Return the texts of --pretrain, and print the fraction of the words of the examples that they contain."""
    texts = [text for path in paths for text in ka.data.read_texts(path)]
    if texts:
        known = {word for text in texts for word in text.lower().split()}
        words = [word for text in task.data.texts(examples) for word in text.lower().split()]
        fraction = sum(word in known for word in words) / max(len(words), 1)
        write_message(
            f"--pretrain: {counted(len(texts), 'text')}, with {fraction:.0%} of the words of the training examples"
        )
    return texts


def _make_model_from_init(task: type, options: dict[str, Any], examples: list, model: Any) -> Any:
    """Return the model of --init, with the config fields of --set, or a new model on its encoder."""
    overrides, labels = config_overrides(options["overrides"]), task.data.labels(examples)
    if isinstance(model, task):
        return type(model).from_model(model, **overrides) if overrides else model
    overrides |= {"labels": labels} if labels else {}
    if model is None:
        model = ka.weights.from_huggingface(options["init"], task=task.spec.class_name, **overrides)
    elif labels:
        model = task.from_encoder(model, **overrides)
    else:
        raise click.UsageError(
            f"--init: {options['init']} is a {type(model).__name__}; expected a {task.__name__}. "
            "Choose another model, or train without --init."
        )
    return model


def _load_init(path: str, task: type) -> Any:
    """Load --init; return None for a Hugging Face directory that gets a new head, because the head needs the labels."""
    if not (local_path(path) / "config.json").is_file():
        return ka.load(path)
    stored, has_labels = ka.weights.stored_task(path), task.spec.predict_method in ("classify", "tag")
    return None if stored != task.spec.class_name and (has_labels or not stored) else ka.load(path)
