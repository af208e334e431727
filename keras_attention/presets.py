"""Every ready-made network: name -> task, sizes, and the figure of the lecture that it draws."""

from __future__ import annotations

import dataclasses
import difflib

from keras_attention.config import (
    ClassifierConfig,
    LanguageModelConfig,
    RecurrentConfig,
    TaggerConfig,
    TranslatorConfig,
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row: the task that runs it, its sizes, what it is, and where it comes from."""

    task: str
    config: RecurrentConfig
    figure: str
    paper: str


def _row(task: str, config: RecurrentConfig, figure: str, paper: str) -> Preset:
    return Preset(task, config, figure, paper)


# fmt: off
PRESETS: dict[str, Preset] = {
    "rnn_seq2seq": _row(
        "Translator", TranslatorConfig(embedding_dim=256, units=384, dropout=0.3),
        "Sequence to sequence with RNNs", "https://arxiv.org/abs/1409.3215"),
    "rnn_attention": _row(
        "Translator", TranslatorConfig(embedding_dim=256, units=384, dropout=0.3, attention="additive"),
        "Sequence to sequence with RNNs and attention", "https://arxiv.org/abs/1409.0473"),
    "char_rnn": _row(
        "CausalLM", LanguageModelConfig(embedding_dim=64, units=512, num_layers=2, dropout=0.2, max_length=256),
        "Recurrent networks: one to many", "https://karpathy.github.io/2015/05/21/rnn-effectiveness/"),
    "rnn_classifier": _row(
        "TextClassifier", ClassifierConfig(embedding_dim=128, units=128, dropout=0.5, attention="additive"),
        "Recurrent networks: many to one", "https://arxiv.org/abs/1409.0473"),
    "rnn_tagger": _row(
        "TextTagger", TaggerConfig(embedding_dim=128, units=256, dropout=0.4),
        "Recurrent networks: many to many", "https://arxiv.org/abs/1508.01991"),
}
# fmt: on


def presets() -> dict[str, Preset]:
    """Return every preset by name.

    Example:
        >>> presets()["rnn_attention"].config.units
        384
    """
    return dict(PRESETS)


def find_preset(name: str, task: str) -> RecurrentConfig:
    """Return the sizes of the preset `name`, which has to belong to `task`.

    Raises:
        ValueError: there is no such preset, or it is one of another task; the nearest names are
            suggested.
    """
    of_task = [key for key, row in PRESETS.items() if row.task == task]
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4) or of_task
        raise ValueError(f"There is no preset {name!r}. Did you mean {' or '.join(near)}?")
    row = PRESETS[name]
    if row.task != task:
        raise ValueError(f"Preset {name!r} is a {row.task}, not a {task}. Presets of {task}: {', '.join(of_task)}.")
    return row.config
