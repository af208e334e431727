"""Defaults that follow the data: one rule for each task, from the size of its training data.

A rule sets the vocabulary size, some fields of the config (such as dropout), and the hyperparameters of training.
Little data needs a small vocabulary, small batches and strong regularization. The length of a run is a number of
updates, not of passes over the data. docs/training.md has the source of each rule.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from keras_attention.config import RecurrentConfig, TransformerConfig

# The fields of a `TrainingPlan` that follow from the data.
TRAINING_FIELDS = (
    "epochs", "passes", "max_tokens", "learning_rate", "warmup_steps", "label_smoothing", "weight_decay", "layer_decay",
    "patience", "average_checkpoints",
)  # fmt: skip
# Why a default follows from the data, in a few words.
REASONS = {
    "vocabulary_size": "grows with the square root of the number of words",
    "dropout": "higher for little data",
    "max_tokens": "small batches make more updates of little data",
    "epochs": "the number of updates depends on the data",
    "passes": "an epoch of little data is several passes",
    "learning_rate": "depends on the network and the batch",
    "warmup_steps": "a share of all updates",
    "label_smoothing": "depends on the task",
    "weight_decay": "depends on the task",
    "layer_decay": "lower rates in trained layers",
    "patience": "in epochs",
    "average_checkpoints": "reduces the noise of small batches",
}
_MAX_EPOCHS = 40  # an epoch ends with a validation, so an epoch of little data is several passes
_SAMPLED_TEXTS, _SAMPLED_CHARACTERS = 1000, 10_000


@dataclasses.dataclass(frozen=True)
class DataSize:
    """The size of training data.

    Args:
        examples: number of examples, such as pairs of texts or images.
        words: number of words, separated by white space, in all texts (source and target texts of pairs).
        distinct_words: number of different words, in lower case.
        characters: number of characters.
        distinct_characters: number of different characters.
        labels: number of classes or tags; 0 for a task without labels.
    """

    examples: int
    words: int
    distinct_words: int
    characters: int
    distinct_characters: int
    labels: int = 0

    @classmethod
    def measure(cls, task: Any, examples: Sequence) -> DataSize:
        """Return the size of the examples of a task.

        Args:
            task: the class of a task, or a model.
            examples: raw examples of the task.

        Example:
            >>> DataSize.measure(ka.TextClassifier, [("so fine", "good"), ("so dull", "bad")])
            DataSize(examples=2, words=4, distinct_words=3, characters=14, distinct_characters=10, labels=2)
        """
        words: collections.Counter[str] = collections.Counter()
        characters: set[str] = set()
        length = 0
        for text in task.texts_of(examples):
            words.update(text.lower().split())
            characters.update(text)
            length += len(text)
        return cls(len(examples), words.total(), len(words), length, len(characters), len(task.label_counts(examples)))


@dataclasses.dataclass(frozen=True)
class Rule:
    """The defaults of a task for data of one size.

    Args:
        vocabulary_size: of a tokenizer of sub-words.
        network: config field -> value.
        max_tokens: maximum number of tokens in a batch.
        updates: number of updates in the run.
        learning_rate: peak learning rate.
        warmup: share of the updates in the warm-up.
        label_smoothing: label smoothing.
        weight_decay: weight decay.
        layer_decay: layer-wise learning-rate decay.
        patience: epochs without an improvement before training stops.
        average_checkpoints: number of checkpoints to average.
        texts_in_row: number of texts of an example that are in different tensors, such as source and target.
    """

    vocabulary_size: int = 8000
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_tokens: int = 4096
    updates: int = 2000
    learning_rate: float = 1e-3
    warmup: float = 0.1
    label_smoothing: float = 0.1
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    patience: int = 10
    average_checkpoints: int = 1
    texts_in_row: int = 1


Config = RecurrentConfig | TransformerConfig


def _between(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)


def _subwords(words: int, distinct_characters: int) -> int:
    """Return the vocabulary size for texts with this number of words: 2,000 for 24,000 words, at most 8,000."""
    size = _between(300, 13 * math.sqrt(words), 8000)
    return max(int(round(size, -2)), 2 * distinct_characters + 100)


def _translator(size: DataSize, config: Config) -> Rule:
    words = size.words // 2
    return Rule(_subwords(words, size.distinct_characters), texts_in_row=2)


def _captioner(size: DataSize, config: Config) -> Rule:
    return Rule(_subwords(size.words, size.distinct_characters))


def _classifier(size: DataSize, config: Config) -> Rule:
    return Rule(_subwords(size.words, size.distinct_characters))


def _tagger(size: DataSize, config: Config) -> Rule:
    return Rule(_subwords(size.words, size.distinct_characters))


def _language_model(size: DataSize, config: Config) -> Rule:
    return Rule(_subwords(size.words, size.distinct_characters), label_smoothing=0.0)


def _fine_tuning(size: DataSize, config: Config) -> Rule:
    """Return the defaults for a model that starts from trained weights."""
    return Rule()


_RULES: dict[str, Callable[[DataSize, Config], Rule]] = {
    "Translator": _translator,
    "Captioner": _captioner,
    "TextClassifier": _classifier,
    "TextTagger": _tagger,
    "CausalLM": _language_model,
    "MaskedLM": _language_model,
    "PermutationLM": _language_model,
}


def network_defaults(
    task: Any, size: DataSize, config: Config, tokenizer_kind: str = "sentencepiece", *, only_dropout: bool = False
) -> dict[str, Any]:
    """Return the vocabulary size and the config fields of a new network for data of this size.

    Args:
        task: the class of a task.
        size: the size of the training data.
        config: the config of the preset.
        tokenizer_kind: see `train_tokenizer`. A vocabulary of words or characters is limited to 8,000.
        only_dropout: leave out fields other than dropout, for a preset that the user has chosen.

    Returns:
        dict of `vocabulary_size` and config fields.
    """
    rule = _RULES[task.task_name()](size, config)
    network = {name: value for name, value in rule.network.items() if not only_dropout or name == "dropout"}
    vocabulary_size = 8000 if tokenizer_kind in ("words", "characters") else rule.vocabulary_size
    return {"vocabulary_size": vocabulary_size, **network}


def training_defaults(model: Any, examples: Sequence, **chosen: Any) -> dict[str, Any]:
    """Return the hyperparameters of training for these examples, fields of a `TrainingPlan`.

    With U updates and P updates in one pass over the data, an epoch has E = ceil(U / (40 P)) passes, and there are
    ceil(U / (E P)) epochs. If the number of epochs is chosen, an epoch is one pass.

    Args:
        model: a task.
        examples: raw examples of the task.
        **chosen: fields with other values; the others follow from them.

    Returns:
        dict of `TRAINING_FIELDS` and the chosen fields.
    """
    size = DataSize.measure(model, examples)
    rule = (_fine_tuning if model.is_pretrained else _RULES[model.task_name()])(size, model.config)
    max_tokens = chosen.get("max_tokens") or rule.max_tokens
    pass_updates = max(_num_tokens(model, examples, size) / rule.texts_in_row / max_tokens, 1)
    pass_updates = math.ceil(pass_updates / chosen.get("gradient_accumulation", 1))
    epochs = chosen.get("epochs")
    passes = chosen.get("passes") or (1 if epochs else math.ceil(rule.updates / (_MAX_EPOCHS * pass_updates)))
    epochs = epochs or math.ceil(rule.updates / (passes * pass_updates))
    updates = epochs * passes * pass_updates
    derived = {"epochs": epochs, "passes": passes, "warmup_steps": max(round(rule.warmup * updates), 1)}
    return {name: getattr(rule, name) for name in TRAINING_FIELDS if name not in derived} | derived | chosen


def _num_tokens(model: Any, examples: Sequence, size: DataSize) -> int:
    """Return the number of tokens and padding of all texts, estimated from a sample of them."""
    from keras_attention.data.batches import round_up  # imports Keras
    from keras_attention.data.tokenizers import encode_texts

    texts = [text for text in model.texts_of(examples) if text]
    sample = [text[:_SAMPLED_CHARACTERS] for text in texts[:: math.ceil(len(texts) / _SAMPLED_TEXTS) or 1]]
    tokenizer = getattr(model, "target_tokenizer", None) or model.tokenizer
    tokens = sum(round_up(len(ids) + 1, 4) for ids in encode_texts(tokenizer, sample))  # as in `LengthBatches`
    return math.ceil(tokens * size.characters / max(sum(map(len, sample)), 1))
