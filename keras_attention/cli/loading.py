"""The MODEL argument, and the search that options describe for it."""

from __future__ import annotations

from typing import Any

import click

import keras_attention as ka
from keras_attention.cli.options import BEAM, SAMPLING, flag, given


def load_for(verb: str, path: str) -> Any:
    """Load a model that has the given verb.

    Raises:
        ValueError: the model is of another task, whose verb is named.
    """
    model = ka.load(path)
    own = getattr(model, "verb", None)
    if own != verb:
        tasks = " or ".join(task.__name__ for task in ka.models.TASKS if task.verb == verb)
        hint = f"Try: keras-attention {own} {path}" if own else f"Expected a {tasks}."
        kind = "SavedModel" if is_export(model) else type(model).__name__
        raise ValueError(f"{path} is a {kind}, which cannot {verb}. {hint}")
    return model


def is_export(model: Any) -> bool:
    """Return whether a model was loaded from an export, which has its strategy in the graph."""
    return not isinstance(model, ka.models.Task)


def search_for(model: Any, search: dict[str, Any]) -> dict[str, Any]:
    """Return the strategy that options describe as an argument of the model's verb; none for an export.

    Args:
        model: a task, or an export.
        search: the fields of a strategy; None where an option was not given.

    Raises:
        click.UsageError: the options contradict each other, or the model.
    """
    if is_export(model):
        if names := ", ".join(map(flag, given(search))):
            raise click.UsageError(f"{names} cannot be changed: an export searches as it was exported.")
        return {}
    return {"strategy": strategy_of(type(model), given(search))}


def strategy_of(task: type, search: dict[str, Any]) -> Any:
    """Return a beam search where the options give the number of beams, else the task's default strategy."""
    sampling = [flag(name) for name in SAMPLING if name in search]
    beam = "num_beams" in search
    if task.default_strategy is None:
        names = ", ".join(map(flag, search))
        raise click.UsageError(f"{names}: a {task.command_name} does not search; leave it out.")
    if not beam and any(name in search for name in BEAM):
        raise click.UsageError("--length-penalty belongs to a beam search; add --num-beams.")
    if beam and sampling:
        raise click.UsageError(f"--num-beams searches and {', '.join(sampling)} samples; choose one of the two.")
    if sampling and task.default_strategy is not ka.Sampling:
        raise click.UsageError(f"{', '.join(sampling)}: a {task.command_name} does not sample; a language model does.")
    return (ka.BeamSearch if beam else task.default_strategy)(**search)
