"""Defaults that follow the data: one rule for each task, from the size of its training data.

A rule sets the vocabulary size, some fields of the config (such as dropout), and the hyperparameters of training.
Little data needs a small vocabulary, small batches and strong regularization. The length of a run is a number of
updates, not of passes over the data. The page of each task in docs/ lists its rules and their sources.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from keras_attention.config import RecurrentConfig, TransformerConfig

# The fields of a `TrainingPlan` that follow from the data.
TRAINING_FIELDS = (
    "epochs", "passes_per_epoch", "max_tokens", "learning_rate", "warmup_steps", "label_smoothing", "weight_decay",
)  # fmt: skip
# Why a default follows from the data, in a few words.
REASONS = {
    "vocabulary_size": "grows with the square root of the number of words",
    "dropout": "higher for little data",
    **dict.fromkeys(
        ("units", "embedding_dim", "width", "num_layers", "num_heads", "intermediate_dim"), "smaller for little data"
    ),
    "epochs": "the number of updates depends on the data",
    "passes_per_epoch": "several for little data",
    "max_tokens": "small batches make more updates of little data",
    "learning_rate": "depends on the network and the size of the data",
    "warmup_steps": "a share of all updates",
    "label_smoothing": "depends on the task",
    "weight_decay": "depends on the task",
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
    """

    examples: int
    words: int
    distinct_words: int
    characters: int
    distinct_characters: int

    @classmethod
    def measure(cls, task: Any, examples: Sequence) -> DataSize:
        """Return the size of the examples of a task.

        Args:
            task: the class of a task, or a model.
            examples: raw examples of the task.

        Example:
            >>> DataSize.measure(ka.TextClassifier, [("so fine", "good"), ("so dull", "bad")])
            DataSize(examples=2, words=4, distinct_words=3, characters=14, distinct_characters=10)
        """
        words: collections.Counter[str] = collections.Counter()
        characters: set[str] = set()
        length = 0
        for text in task.data.texts(examples):
            words.update(text.lower().split())
            characters.update(text)
            length += len(text)
        return cls(len(examples), words.total(), len(words), length, len(characters))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """The defaults of a task for data of one size.

    Args:
        vocabulary_size: of a tokenizer of sub-words.
        network: config field -> value.
        max_tokens: maximum number of tokens in a batch.
        updates: number of updates in the run, in addition to those of `passes`.
        passes: number of passes over the data.
        learning_rate: peak learning rate.
        warmup: share of the updates in the warm-up.
        label_smoothing: label smoothing.
        weight_decay: weight decay.
    """

    vocabulary_size: int = 8000
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_tokens: int = 4096
    updates: int = 2000
    passes: int = 0
    learning_rate: float = 1e-3
    warmup: float = 0.1
    label_smoothing: float = 0.1
    weight_decay: float = 0.0


Config = RecurrentConfig | TransformerConfig


def _between(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)


def _subwords(words: int, distinct_characters: int) -> int:
    """Return the vocabulary size for texts with this number of words: 2,000 for 24,000 words, at most 8,000."""
    size = _between(300, 13 * math.sqrt(words), 8000)
    return max(int(round(size, -2)), 2 * distinct_characters + 100)


def _dropout(words: int) -> float:
    """Return 0.5 for 20,000 words of the target texts or captions, 0.3 for 320,000, and at least 0.1."""
    return round(_between(0.1, 0.3 + 0.17 * (5.5 - math.log10(words)), 0.5), 2)


def _translator(size: DataSize, config: Config) -> Rule:
    """Return the defaults of a translator.

    For 2,000, 8,000 and 29,000 pairs (23,000, 92,000 and 340,000 words of each language), a recurrent network has 192,
    256 and 384 units, dropout 0.5, 0.39 and 0.3, learning rates of 0.003, 0.002 and 0.001, and 900, 1,210 and 2,330
    updates with batches of 1,060, 2,120 and 4,080 tokens.
    """
    words = max(size.words // 2, 1)  # of one language
    root, is_recurrent = math.sqrt(words), isinstance(config, RecurrentConfig)
    units, dropout = 64 * round(_between(2, words**0.25 / 4, 6)), _dropout(words)
    return Rule(
        vocabulary_size=_subwords(words, size.distinct_characters),
        network={"dropout": dropout} | ({"units": units, "embedding_dim": min(units, 256)} if is_recurrent else {}),
        max_tokens=round(_between(256, 7 * root, 4096)),
        updates=round(max(900, 4 * root, words / 400)),
        learning_rate=_between(1e-3, 0.6 / root, min(3e-3, 0.576 / config.units)) if is_recurrent else 1e-3,
    )


def _captioner(size: DataSize, config: Config) -> Rule:
    """Return the defaults of a captioner.

    For 200, 1,000 and 6,000 images (11,000, 59,000 and 350,000 words of captions), a recurrent network has 256, 384 and
    512 units, dropout 0.5, 0.42 and 0.3, and 500, 970 and 2,370 updates with batches of 520, 1,210 and 2,960 tokens.
    """
    words = max(size.words, 1)
    root, is_recurrent = math.sqrt(words), isinstance(config, RecurrentConfig)
    units = 64 * round(_between(2, words**0.25 / 2.55, 8))
    return Rule(
        vocabulary_size=_subwords(words, size.distinct_characters),
        network={"dropout": _dropout(words)}
        | ({"units": units, "embedding_dim": min(units, 256)} if is_recurrent else {}),
        max_tokens=round(_between(256, 5 * root, 4096)),
        updates=round(max(500, 4 * root, words / 400)),
        learning_rate=_between(1e-3, 0.4 / root, 2e-3) if is_recurrent else 1e-3,
    )


def _classifier(size: DataSize, config: Config) -> Rule:
    """Return the defaults of a classifier.

    For 600 and 6,919 texts of 20 words, batches of about 32 texts. A recurrent network has 200 and 690 updates, because
    its weights of n-grams overfit with more, and a Transformer 370 and 1,250. The recurrent network has 32 units, and
    128 from 86,000 texts on: with few texts, a wider network overfits.
    """
    words, is_recurrent = max(size.words, size.examples), isinstance(config, RecurrentConfig)
    units = 32 * round(_between(1, math.sqrt(size.examples / 7000), 4))
    root = math.sqrt(size.examples)
    updates = max(min(15 * root, 190), 8 * root) if is_recurrent else 15 * root
    return Rule(
        vocabulary_size=_subwords(max(2 * words, 40_000), size.distinct_characters),
        network={"units": units, "embedding_dim": units} if is_recurrent else {},
        max_tokens=round(_between(512, 48 * words / max(size.examples, 1), 4096)),
        updates=round(max(100, updates, size.examples / 10)),
        learning_rate=1e-3 if is_recurrent else _between(1e-4, 0.25 / config.width, 1e-3),
    )


def _tagger(size: DataSize, config: Config) -> Rule:
    """Return the defaults of a tagger: for 2,500, 8,000 and 44,000 words, 400, 1,000 and 3,000 updates."""
    updates = round(max(_between(400, size.words / 8, 3000), size.words / 32))
    rate = 3e-3 if isinstance(config, RecurrentConfig) else _between(1e-4, 0.25 / config.width, 1e-3)
    return Rule(
        vocabulary_size=_subwords(size.words, size.distinct_characters),
        max_tokens=256,
        updates=updates,
        learning_rate=rate,
    )


def _language_model(size: DataSize, config: Config) -> Rule:
    """Return the defaults of a language model.

    For 20,000 and 1,000,000 characters, a recurrent network has 256 and 384 units, embeddings of half this width,
    dropout 0.5 and 0.19, batches of 1,024 and 2,048 characters, and 720 and 5,100 updates. A Transformer has the width
    128 and 2 blocks for 10,000 words, and 512 and 6 for a million.
    """
    characters = max(size.characters, 1)
    decades = math.log10(characters / 20_000)
    vocabulary_size = _subwords(size.words, size.distinct_characters)
    max_tokens = round(_between(1024, 7.2 * math.sqrt(characters), 2048))
    updates = round(_between(300, 720 * math.sqrt(characters / 20_000), 100_000))
    dropout = round(_between(0.1, 0.5 - 0.18 * decades, 0.5), 2)
    common = {"vocabulary_size": vocabulary_size, "updates": updates, "label_smoothing": 0.0}
    if isinstance(config, RecurrentConfig):
        units = 64 * round(_between(2, 4 + 1.2 * decades, 8))
        network = {"units": units, "embedding_dim": units // 2, "num_layers": 1, "dropout": dropout}
        rate = _between(1e-3, 5e-3 - 6e-4 * decades, 4e-3)
        return Rule(**common, network=network, max_tokens=max_tokens, learning_rate=rate, warmup=0.05)
    words = max(size.words, 1)
    width, num_layers = 64 * round(_between(2, words**0.25 / 4, 12)), round(_between(2, 2 * math.log10(words) - 6, 12))
    network = {"width": width, "num_heads": width // 64, "intermediate_dim": 4 * width, "num_layers": num_layers}
    rate = _between(1e-4, 0.25 / config.width, 1e-3)
    return Rule(**common, network=network, max_tokens=2 * max_tokens, learning_rate=rate, weight_decay=0.01)


def _fine_tuning(rule: Rule, model: Any, example_tokens: float) -> Rule:
    """Return the defaults for a model that starts from trained weights, from the rule of its task.

    They are those of BERT: about 20 examples in a batch, 3 passes, and a learning rate of 5e-5 for the width 768. With
    60 more updates, little data has more passes. A narrower network has a higher rate, and LoRA ten times this rate.
    With a frozen encoder, the rate is that of a new network.
    """
    rate = min(0.04 / model.config.width, rule.learning_rate) * (10 if model.has_lora else 1)
    if model.encoder is not None and not model.encoder.trainable_weights:
        rate = rule.learning_rate
    return dataclasses.replace(
        rule,
        max_tokens=int(_between(256, 20 * example_tokens, 2048)),
        updates=60,
        passes=3,
        learning_rate=rate,
        warmup=0.1,
        label_smoothing=0.0 if model.labels else rule.label_smoothing,
        weight_decay=0.01,
    )


_RULES: dict[str, Callable[[DataSize, Config], Rule]] = {
    "Translator": _translator,
    "Captioner": _captioner,
    "TextClassifier": _classifier,
    "TextTagger": _tagger,
    "CausalLM": _language_model,
    "MaskedLM": _language_model,
    "PermutationLM": _language_model,
}


def _rule(task: Any, size: DataSize, config: Config) -> Rule:
    """Return the defaults of a task; those of a task outside of this library do not depend on the data."""
    find = _RULES.get(task.task_name())
    return Rule() if find is None else find(size, config)


def default_tokenizer_kind(task: Any, preset: str | None) -> str:
    """Return the kind of tokenizer for a preset; None for the default preset."""
    return task.default_tokenizer if preset in (None, task.default_preset) else "sentencepiece"


def network_defaults(
    task: Any,
    size: DataSize,
    config: Config,
    tokenizer_kind: str = "sentencepiece",
    *,
    only_dropout: bool = False,
    overrides: Collection[str] = (),
) -> dict[str, Any]:
    """Return the vocabulary size and the config fields of a new network for data of this size.

    Args:
        task: the class of a task.
        size: the size of the training data.
        config: the config of the preset.
        tokenizer_kind: see `train_tokenizer`. A vocabulary of words or characters is limited to 8,000.
        only_dropout: leave out fields other than dropout, for a preset that the user has chosen.
        overrides: names of the fields that the user has chosen. If one is a size of the network, all other sizes are
            left out too, because the sizes must fit each other.

    Returns:
        dict of `vocabulary_size` and config fields.
    """
    rule = _rule(task, size, config)
    has_own_sizes = only_dropout or set(overrides) & (rule.network.keys() - {"dropout"})
    names = ({"dropout"} if has_own_sizes else rule.network.keys()) - set(overrides)
    network = {name: value for name, value in rule.network.items() if name in names}
    vocabulary_size = 8000 if tokenizer_kind in ("words", "characters") else rule.vocabulary_size
    return {"vocabulary_size": vocabulary_size, **network}


def training_defaults(model: Any, examples: Sequence, **chosen: Any) -> dict[str, Any]:
    """Return the hyperparameters of training for these examples, fields of a `TrainingPlan`.

    With U updates (those of the rule, and of its passes) and P updates in one pass over the data, an epoch has
    E = ceil(U / (40 P)) passes, and there are ceil(U / (E P)) epochs. If the number of epochs is chosen, an epoch is
    one pass.

    Args:
        model: a task.
        examples: raw examples of the task.
        **chosen: fields with other values; the others follow from them.

    Returns:
        dict of `TRAINING_FIELDS` and the chosen fields.
    """
    size = DataSize.measure(model, examples)
    rule = _rule(model, size, model.config)
    tokens = _num_tokens(model, examples, size)
    rule = _fine_tuning(rule, model, tokens / len(examples)) if model.is_pretrained else rule
    max_tokens = chosen.get("max_tokens") or rule.max_tokens
    pass_updates = max(tokens / max_tokens, 1)
    pass_updates = math.ceil(pass_updates / chosen.get("gradient_accumulation", 1))
    epochs = chosen.get("epochs")
    updates = rule.updates + rule.passes * pass_updates
    passes = chosen.get("passes_per_epoch") or (1 if epochs else math.ceil(updates / (_MAX_EPOCHS * pass_updates)))
    epochs = epochs or math.ceil(updates / (passes * pass_updates))
    updates = epochs * passes * pass_updates
    rule = dataclasses.replace(rule, learning_rate=float(f"{rule.learning_rate:.2g}"))
    derived = {"epochs": epochs, "passes_per_epoch": passes, "warmup_steps": max(round(rule.warmup * updates), 1)}
    return {name: getattr(rule, name) for name in TRAINING_FIELDS if name not in derived} | derived | chosen


def _num_tokens(model: Any, examples: Sequence, size: DataSize) -> int:
    """Return the number of tokens of all rows with their padding, estimated from a sample of the texts."""
    from keras_attention.data.batches import round_up  # imports Keras
    from keras_attention.data.tokenizers import encode_texts

    # Language models split a long text and taggers a long sentence; other tasks truncate it.
    longest = math.inf if model.metric == "loss" or model.predict_method == "tag" else model.config.max_length

    def lengths(tokenizer: Any, texts: Sequence[str]) -> list[int]:  # as in `LengthBatches`
        return [min(round_up(len(ids) + 1, 4), longest) for ids in encode_texts(tokenizer, texts)]

    if model.data.has_pairs and len(model.tokenizers) == 2:  # the longer text of a pair counts
        sample = examples[:: math.ceil(len(examples) / _SAMPLED_TEXTS) or 1]
        sides = [lengths(t, side) for t, side in zip(model.tokenizers.values(), zip(*sample, strict=True), strict=True)]
        return math.ceil(sum(map(max, *sides)) * len(examples) / max(len(sample), 1))
    texts = [text for text in model.data.texts(examples) if text]
    sample = [text[:_SAMPLED_CHARACTERS] for text in texts[:: math.ceil(len(texts) / _SAMPLED_TEXTS) or 1]]
    tokens = sum(lengths(model.tokenizer, sample))
    if longest < math.inf:
        return math.ceil(tokens * len(texts) / max(len(sample), 1))
    return math.ceil(tokens * size.characters / max(sum(map(len, sample)), 1))
