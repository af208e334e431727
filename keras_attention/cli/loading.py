"""A MODEL argument: a `.keras` file or an exported directory."""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import click

VERBS = {
    "Translator": "translate",
    "Captioner": "caption",
    "CausalLM": "complete",
    "PermutationLM": "complete",
    "MaskedLM": "fill",
    "TextClassifier": "classify",
    "TextTagger": "tag",
}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def strategy_of(search: dict[str, Any], otherwise: Callable[..., Any]) -> Any:
    """Return a beam search where the options give a width, else the strategy of the task."""
    import keras_attention as ka

    num_beams, chance = "num_beams" in search, sorted(search.keys() & {"temperature", "top_k", "top_p"})
    if "length_penalty" in search and not num_beams:
        raise click.UsageError("--length-penalty belongs to a beam search; add --num-beams.")
    if num_beams and chance:
        raise click.UsageError("--num-beams searches and the temperature options sample; choose one of the two.")
    if chance and otherwise is not ka.Sampling:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in chance)
        raise click.UsageError(f"{names}: only a language model samples here.")
    return (ka.BeamSearch if num_beams else otherwise)(**search)


def fixed(model: Any, chosen: dict[str, Any]) -> None:
    """Refuse what was chosen for an exported model, which has its strategy in the graph."""
    import keras_attention as ka

    names = [f"--{name.replace('_', '-')}" for name in given(chosen)]
    if isinstance(model, ka.ServedModel) and names:
        raise click.UsageError(f"{', '.join(names)} cannot be chosen now: a SavedModel searches as it was exported.")


def search_of(
    model: Any, num_beams: int | None, length_penalty: float | None, max_new_tokens: int | None = None
) -> dict[str, Any]:
    """Return the strategy that the options describe, none for an exported model, as an argument."""
    import keras_attention as ka

    fixed(model, {"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens})
    if isinstance(model, ka.ServedModel):
        return {}
    search = given({"num_beams": num_beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens})
    return {"strategy": strategy_of(search, ka.Greedy)}


def load_model(path: str) -> Any:
    """Load a `.keras` file, or a SavedModel directory, to an object that has the task's verb.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it is neither of the two, or damaged.
    """
    place = pathlib.Path(path)
    if not place.exists():
        raise FileNotFoundError(f"There is no model {path}.")
    import keras

    import keras_attention as ka

    if place.is_dir():
        if (place / "model.keras").is_file() and not (place / "saved_model.pb").exists():
            raise ValueError(f"{path} is the directory of a run; its model is {place / 'model.keras'}.")
        return ka.load_served(place)
    if not zipfile.is_zipfile(place) or "config.json" not in zipfile.ZipFile(place).namelist():
        raise ValueError(
            f"{path} is no model; expected a .keras file or an exported directory such as serving/translator/1."
        )
    try:
        return keras.saving.load_model(place, compile=False)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}); take it from a copy, or make it again.") from None


def load_for(verb: str, path: str) -> Any:
    """Load a model that has the given verb.

    Raises:
        ValueError: it is one of another task; its own verb is named.
    """
    import keras_attention as ka

    model = load_model(path)
    served = isinstance(model, ka.ServedModel)
    if (served and verb != model.verb) or not hasattr(model, verb):
        own = model.verb if served else VERBS.get(type(model).__name__)
        tasks = " or ".join(task for task, its in VERBS.items() if its == verb)
        hint = f"Try: keras-attention {own} {path}" if own else f"Expected a {tasks}."
        kind = "SavedModel" if served else type(model).__name__
        raise ValueError(f"{path} is a {kind}, which cannot {verb}. {hint}")
    return model
