"""`train`: a training run in a directory, with the best model and a checkpoint to resume from."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_attention.data.batches import RepeatedBatches
from keras_attention.data.batching.example_weights import ClassWeight, WeightedBatches
from keras_attention.storage import local_path
from keras_attention.training.baselines import compare_with_baseline
from keras_attention.training.checkpoints import average_weights
from keras_attention.training.compiling import compile_model, computed_names
from keras_attention.training.plan import TrainingPlan, mode_of
from keras_attention.training.progress import EpochLog
from keras_attention.training.run_state import RunState, check_monitor, run_identity, was_pretrained


def train(
    model: keras.Model,
    examples: Any,
    directory: str | pathlib.Path,
    plan: TrainingPlan | None = None,
    *,
    validation: Any = None,
    extra_metrics: Callable[[keras.Model], dict[str, float]] | None = None,
    class_weight: ClassWeight | None = None,
    batch_options: Mapping[str, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = True,
) -> dict[str, list[float]]:
    """Train a model and save the best one; resume if the directory contains an unfinished run.

    After each epoch, the whole state (weights, optimizer, random generators, history) is written atomically to
    `checkpoint.npz`, and the best model so far to `model.keras`. An interrupted run resumes from the checkpoint, and
    ends with the same weights as a run without interruption.

    Raw examples are checked before training: examples from which no model can learn are an error, and probable mistakes
    are warnings. After training, there is a warning if the best model is not better than a `baseline`, a prediction
    without a network. This comparison needs raw validation examples, and a metric that has a baseline.

    Args:
        model: a task of this library. To resume a run, pass the same model.
        examples: raw examples of the task, such as pairs of texts, or batches from `keras_attention.data`.
        directory: the directory of the run; created if it does not exist.
        plan: the hyperparameters; by default `TrainingPlan.for_data(model, examples)`, and for batches
            `TrainingPlan()`.
        validation: raw examples or batches; None for no validation. `keras_attention.data.split_examples` makes them
            from training examples. By default, the best model is selected by the metric of the task, such as BLEU, for
            raw examples, and by a metric that Keras computes for batches.
        extra_metrics: function of the model that is called after each epoch and returns metrics, such as
            `{"val_f1": 0.7}`; they are added to the history and can be monitored.
        class_weight: weights of the classes in the loss, for a `TextClassifier` or `TextTagger`; see its `fit`.
        batch_options: more arguments of the task's `make_batches`, such as `{"region_cache": "run/region_cache"}` for a
            `Captioner` with a frozen image encoder.
        callbacks: more Keras callbacks.
        verbose: write one line per epoch to standard error, and a progress bar if it is a terminal.

    Returns:
        the history: metric -> one value per epoch. `model` has the best weights.

    Raises:
        TypeError: `examples` are not those of the task, or `directory` is not a path.
        DataError: no model can learn from the examples, such as examples with one label.
        ValueError: the monitored metric is not computed or was never finite, it is not known whether a lower or higher
            value is better, or the directory has the run of another model, with other data or with another plan. Only
            `epochs`, `patience` and `average_checkpoints` of a plan may change.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, tokenizer_kind="characters", units=12)
        >>> history = ka.train(model, pairs, "run", ka.training.TrainingPlan(epochs=2), validation=pairs)
        >>> len(history["val_bleu"])
        2
    """
    directory, options = _check_directory(directory), dict(batch_options or {})
    if (pretrained := was_pretrained(directory)) is not None:  # a resumed run has the defaults of its first start
        model.is_pretrained = pretrained
    plan = plan or _default_plan(model, examples)
    arguments = {**options, "class_weight": class_weight, "is_pretrained": model.is_pretrained}
    identity = run_identity(plan, examples, validation, arguments)
    batches = _make_batches(model, examples, plan, options)
    _check_data(model, examples, validation)
    validation_batches = None if validation is None else _make_batches(model, validation, plan, options, shuffle=False)
    monitor = plan.monitor or default_monitor(model, batches, validation)
    if plan.bleu_tokenizer:
        options["bleu_tokenizer"] = plan.bleu_tokenizer
    metrics = _task_metrics(model, batches, validation, monitor, options)
    if extra_metrics is None:
        check_monitor(monitor, [*computed_names(model, validation_batches is not None), *metrics])
    mode = mode_of(monitor, plan.mode, model.output if isinstance(model.output, dict) else ())
    _check_passes(plan, batches)
    directory.mkdir(parents=True, exist_ok=True)
    compile_model(model, plan, plan.passes_per_epoch * len(batches))
    model.optimizer.build(model.trainable_variables)
    compute_metrics = _combine_metrics(metrics, extra_metrics)
    state = RunState(directory, plan, monitor, mode, compute_metrics, {**identity, "monitor": monitor})
    callbacks = [*callbacks, *([EpochLog()] if verbose else [])]
    _fit(model, state, plan, batches, validation_batches, class_weight, callbacks)
    state.warn_if_constant()
    state.load_best(model)
    if plan.average_checkpoints > 1:
        _keep_average_if_better(model, state, batches, validation_batches)
    data = (batches, validation_batches) if model.spec.metric == "loss" else (examples, validation)
    metric_options = {"label_smoothing": plan.label_smoothing, "bleu_tokenizer": plan.bleu_tokenizer}
    compare_with_baseline(model, *data, state.value_of_best, monitor, verbose, **metric_options)
    return state.history


def _check_directory(path: Any) -> pathlib.Path:
    if not isinstance(path, (str, os.PathLike)):
        expected = "expected the path of the run, as in train(model, examples, 'run', plan)"
        raise TypeError(f"`directory` is a {type(path).__name__}; {expected}.")
    return local_path(path)


def _default_plan(model: keras.Model, examples: Any) -> TrainingPlan:
    if isinstance(examples, keras.utils.PyDataset):
        return TrainingPlan()
    model.data.check(examples)
    return TrainingPlan.for_data(model, examples)


def _make_batches(model: keras.Model, examples: Any, plan: TrainingPlan, options: dict, shuffle: bool = True) -> Any:
    """Make batches of raw examples; return batches unchanged."""
    if isinstance(examples, keras.utils.PyDataset):
        return examples
    return model.make_batches(examples, plan.max_tokens, shuffle=shuffle, seed=plan.seed, **options)


def _check_data(model: keras.Model, examples: Any, validation: Any) -> None:
    """Check raw examples; batches are not checked."""
    raw = [None if isinstance(data, keras.utils.PyDataset) else data for data in (examples, validation)]
    if raw[0] is not None:
        model.data.check_training(*raw, known_labels=getattr(model.config, "labels", ()))


def default_monitor(model: keras.Model, batches: Any, validation: Any) -> str:
    """Return the validation metric of the task; if there is no validation data, the reward or the training loss."""
    if validation is None:
        return "loss" if batches.mean_reward is None else "reward"
    only_batches = isinstance(validation, keras.utils.PyDataset)
    return "val_loss" if only_batches and model.spec.metric in model.data.text_metrics else f"val_{model.spec.metric}"


def _task_metrics(
    model: keras.Model, batches: Any, validation: Any, monitor: str, options: dict
) -> dict[str, Callable[[Any], float]]:
    """Return metric -> function for the metrics that Keras does not compute: those of generated texts, the reward."""
    metrics: dict[str, Callable[[Any], float]] = {}
    if validation is not None and not isinstance(validation, keras.utils.PyDataset):
        for metric in model.data.output_metrics(model):
            if metric in (model.spec.metric, monitor.removeprefix("val_")):
                metrics[f"val_{metric}"] = lambda model, metric=metric: model.data.validation_metric(
                    model, validation, metric, **options
                )
    if batches.mean_reward is not None:
        metrics["reward"] = lambda _: batches.mean_reward
    return metrics


def _combine_metrics(
    metrics: dict[str, Callable[[Any], float]], extra_metrics: Callable[[Any], dict[str, float]] | None
) -> Callable[[Any], dict[str, float]] | None:
    """Return one function that computes `metrics` and `extra_metrics`; None if there are neither."""
    if not metrics and extra_metrics is None:
        return None

    def compute_metrics(model: keras.Model) -> dict[str, float]:
        values = {name: compute(model) for name, compute in metrics.items()}
        return values if extra_metrics is None else {**values, **extra_metrics(model)}

    return compute_metrics


def _check_passes(plan: TrainingPlan, batches: Any) -> None:
    if batches.mean_reward is not None and plan.passes_per_epoch > 1:
        raise ValueError(
            f"`passes_per_epoch` is {plan.passes_per_epoch}; expected 1 for self-critical training, which samples "
            "new captions in each epoch."
        )


def _fit(
    model: keras.Model,
    state: RunState,
    plan: TrainingPlan,
    batches: Any,
    validation: Any,
    class_weight: ClassWeight | None,
    callbacks: Sequence,
) -> None:
    """Train from the epoch of the last checkpoint to the end."""
    first_epoch = state.restore(model)
    if plan.epochs * plan.passes_per_epoch * len(batches) < plan.gradient_accumulation:
        warnings.warn(
            f"There are fewer than {plan.gradient_accumulation} batches in all, so no weight is updated; lower "
            "`gradient_accumulation`.",
            stacklevel=3,
        )
    batches.start_epoch(first_epoch * plan.passes_per_epoch)
    data = batches.for_fit()
    if class_weight is not None:
        data = WeightedBatches(batches, class_weight, model.labels)
    if plan.passes_per_epoch > 1:
        data = RepeatedBatches(data, plan.passes_per_epoch, first_epoch)
    if state.finished or first_epoch >= plan.epochs:
        warnings.warn(f"The run in {state.directory} is finished; its best model is used.", stacklevel=3)
    else:
        model.fit(
            data,
            epochs=plan.epochs,
            initial_epoch=first_epoch,
            validation_data=validation,
            shuffle=False,  # the batches shuffle with the seed of the plan
            callbacks=[state, *callbacks, *batches.callbacks],
            verbose=0,
        )
    if state.best is None:
        raise ValueError(
            f"{state.monitor} was never a finite number: the training diverged. {state.directory}/model.keras has the "
            "initial weights. Start again with a lower learning rate or a longer warm-up."
        )


def _keep_average_if_better(model: keras.Model, state: RunState, batches: Any, validation: Any) -> None:
    """Load the average of the last epochs' weights into the model if it is better than the best epoch."""
    is_training_metric = not state.monitor.startswith("val_")
    prefix, data = ("", batches) if is_training_metric else ("val_", validation)

    def compute_metrics() -> dict[str, float]:
        values = {} if state.extra_metrics is None else state.extra_metrics(model)
        if state.monitor in values:
            return values
        computed = model.evaluate(data, verbose=0, return_dict=True)
        return {f"{prefix}{name}": value for name, value in computed.items()}

    if is_training_metric:  # the value of `fit` is a mean over an epoch with dropout, so compute it again
        state.best = float(compute_metrics()[state.monitor])
    average_weights(model, state.recent_weights())
    if state.save_if_best(model, compute_metrics(), "average_checkpoints"):
        state.record_best()
    state.load_best(model)
