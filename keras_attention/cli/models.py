"""A MODEL argument: a `.keras` file or an exported directory."""

from __future__ import annotations

import pathlib
import zipfile
from typing import Any

VERBS = {
    "Translator": "translate",
    "Captioner": "caption",
    "CausalLM": "complete",
    "PermutationLM": "complete",
    "MaskedLM": "fill",
    "TextClassifier": "classify",
    "TextTagger": "tag",
}


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
    model = load_model(path)
    if not hasattr(model, verb):
        own = VERBS.get(type(model).__name__)
        tasks = " or ".join(task for task, its in VERBS.items() if its == verb)
        hint = f"Try: keras-attention {own} {path}" if own else f"Expected a {tasks}."
        raise ValueError(f"{path} is a {type(model).__name__}, which cannot {verb}. {hint}")
    return model
