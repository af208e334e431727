"""Load the argument MODEL, and make its search strategy from the options."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.options import BEAM, SAMPLING, drop_unset, flag
from keras_attention.cli.terminal import native_log_hidden


def load(path: str) -> Any:
    """Load a model, and hide the messages of native libraries."""
    with native_log_hidden():
        return ka.load(path)


def load_for(method: str, path: str) -> Any:
    """Load a model, and check that it has a prediction method, such as `translate`.

    Raises:
        ValueError: the model has another task; the message names the correct command.
    """
    model = load(path)
    model_method = method_of(model)
    if model_method != method:
        tasks = " or ".join(task.__name__ for task in ka.models.TASKS if task.spec.predict_method == method)
        fix = f"Try: keras-attention {model_method} {path}" if model_method else f"Expected a {tasks}."
        kind = "SavedModel" if is_export(model) else type(model).__name__
        raise ValueError(f"{path} is a {kind}, which cannot {method}. {fix}")
    return model


def method_of(model: Any) -> str | None:
    """Return the name of the prediction method of a task or an export; None for another model."""
    return getattr(getattr(model, "spec", model), "predict_method", None)


def is_export(model: Any) -> bool:
    """Return whether a model was loaded from an export, whose search strategy is fixed."""
    return not isinstance(model, ka.models.Task)


def search_for(model: Any, search: dict[str, Any]) -> dict[str, Any]:
    """Return the search arguments of the model's prediction method: `strategy`; none for an export.

    Args:
        model: a task, or an export.
        search: the fields of a strategy; None for an option that is not set.

    Raises:
        click.UsageError: the options contradict each other, or do not apply to the model.
    """
    if is_export(model):
        if names := ", ".join(map(flag, drop_unset(search))):
            raise click.UsageError(
                f"{names} cannot be changed, because an export has a fixed strategy. Leave the option out, or export "
                "the model again with it."
            )
        return {}
    return {"strategy": strategy_of(type(model), drop_unset(search))}


def returns_several(model: Any, options: dict[str, Any]) -> bool:
    """Return whether a search returns several outputs for a line; `options` come from `search_for`."""
    strategy = model.metadata["strategy"] if is_export(model) else dataclasses.asdict(options["strategy"])
    return (strategy or {}).get("num_return_sequences", 1) > 1


def strategy_of(task: type, search: dict[str, Any]) -> Any:
    """Return a `BeamSearch` if the options set `num_beams`, else the task's default strategy.

    Args:
        task: the class of the model.
        search: the fields of the strategy that the options set.

    Raises:
        click.UsageError: the options contradict each other, do not apply to the task, or have an impossible value.
    """
    sampling = [flag(name) for name in SAMPLING if name in search]
    beam = "num_beams" in search
    if task.spec.default_strategy is None:
        names = ", ".join(map(flag, search))
        raise click.UsageError(f"{names}: a {task.spec.command_name} does not search; leave out the option.")
    if not beam and any(name in search for name in BEAM):
        raise click.UsageError("--length-penalty belongs to a beam search; add --num-beams.")
    if beam and sampling:
        raise click.UsageError(f"--num-beams searches and {', '.join(sampling)} samples; choose one of the two.")
    if sampling and task.spec.default_strategy is not ka.Sampling:
        raise click.UsageError(
            f"{', '.join(sampling)}: a {task.spec.command_name} does not sample, only a language model does; leave the "
            "option out."
        )
    if "stop" in search:
        search = {**search, "stop": [text.replace("\\n", "\n") for text in search["stop"]]}
    try:
        return (ka.BeamSearch if beam else task.spec.default_strategy)(**search)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
