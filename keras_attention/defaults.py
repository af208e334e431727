"""Defaults computed from the size of the data: one rule for each task.

A rule computes the vocabulary size, some config fields (such as `dropout`), and the hyperparameters of training. Little
data needs a small vocabulary, small batches and strong regularization. The length of a run is a number of updates, not
a number of passes over the data. The page of each task in docs/ lists its rule and the sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data_size import DataSize

# The fields of a `TrainingPlan` that are computed from the data.
TRAINING_FIELDS = (
    "epochs", "passes_per_epoch", "max_tokens", "learning_rate", "warmup_steps", "label_smoothing", "weight_decay",
    "r_drop",
)  # fmt: skip
# How each default depends on the data; `keras-attention train` prints it next to the value.
REASONS = {
    "vocabulary_size": "grows with the square root of the number of words",
    "dropout": "higher for little data",
    **dict.fromkeys(
        ("units", "embedding_dim", "width", "num_layers", "num_heads", "intermediate_dim"), "smaller for little data"
    ),
    "epochs": "computed from the number of updates",
    "passes_per_epoch": "more for little data, so that validation runs less often",
    "max_tokens": "smaller batches for little data, so that a pass has more updates",
    "learning_rate": "depends on the network and the size of the data",
    "warmup_steps": "a fraction of all updates",
    "label_smoothing": "depends on the task",
    "weight_decay": "depends on the task",
    "r_drop": "for fine-tuning a classifier",
}
_MAX_EPOCHS = 40  # each epoch ends with a validation; with little data, an epoch is several passes
_MAX_PAIRED_EXAMPLES = 1000  # with more examples, the encoder is not trained on pairs
_MAX_R_DROP_EXAMPLES = 4000  # with more examples, R-Drop does not help, and an update takes longer
_SAMPLED_TEXTS, _SAMPLED_CHARACTERS = 1000, 10_000  # to estimate the number of tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """The defaults of a task for data of one size.

    Args:
        vocabulary_size: vocabulary size of a sub-word tokenizer.
        network: config field -> value.
        max_tokens: maximum number of tokens in a batch.
        updates: number of updates in the run, in addition to those of `passes`.
        passes: number of passes over the data.
        learning_rate: peak learning rate.
        warmup: fraction of the updates in the warm-up.
        label_smoothing: label smoothing.
        weight_decay: weight decay.
        r_drop: weight of R-Drop.
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
    r_drop: float = 0.0


Config = RecurrentConfig | TransformerConfig


def _clip(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)


def _subword_vocabulary_size(words: int, distinct_characters: int) -> int:
    """Return the vocabulary size for texts with this number of words: 2,000 for 24,000 words, at most 8,000."""
    size = _clip(300, 13 * math.sqrt(words), 8000)
    return max(int(round(size, -2)), 2 * distinct_characters + 100)


def _dropout_rate(words: int, decrease: float) -> float:
    """Return 0.5 for 20,000 words of the target texts or captions, and `decrease` less for ten times as many."""
    return round(_clip(0.1, 0.5 - decrease * math.log10(words / 20_000), 0.5), 2)


def _translator_rule(data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a translator.

    Values for a recurrent network; `words` are those of each language:

    | pairs  | words   | units | dropout | learning rate | updates | tokens in a batch |
    |--------|---------|-------|---------|---------------|---------|-------------------|
    |  2,000 |  23,000 |   192 |    0.49 |        0.0030 |   1,520 |               530 |
    |  8,000 |  92,000 |   256 |    0.44 |        0.0021 |   3,030 |             1,060 |
    | 29,000 | 340,000 |   384 |    0.40 |        0.0015 |   5,830 |             2,040 |
    """
    words = max(data_size.words // 2, 1)  # words of one language
    root, is_recurrent = math.sqrt(words), isinstance(config, RecurrentConfig)
    units, dropout = 64 * round(_clip(2, words**0.25 / 4, 6)), _dropout_rate(words, 0.085)
    return Rule(
        vocabulary_size=_subword_vocabulary_size(words, data_size.distinct_characters),
        network={"dropout": dropout} | ({"units": units, "embedding_dim": min(units, 256)} if is_recurrent else {}),
        max_tokens=round(_clip(256, (3.5 if is_recurrent else 7) * root, 4096)),
        updates=round(max(900, 10 * root, words / 400)),
        learning_rate=_clip(1e-3, 0.036 / math.sqrt(root), min(3e-3, 0.576 / config.units)) if is_recurrent else 1e-3,
    )


def _captioner_rule(data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a captioner.

    Values for a recurrent network; `words` are those of the captions:

    | images | words   | units | dropout | updates | tokens in a batch |
    |--------|---------|-------|---------|---------|-------------------|
    |    200 |  11,000 |   256 |    0.50 |     500 |               520 |
    |  1,000 |  59,000 |   384 |    0.42 |     970 |             1,210 |
    |  6,000 | 350,000 |   512 |    0.29 |   2,370 |             2,960 |
    """
    words = max(data_size.words, 1)
    root, is_recurrent = math.sqrt(words), isinstance(config, RecurrentConfig)
    units = 64 * round(_clip(2, words**0.25 / 2.55, 8))
    return Rule(
        vocabulary_size=_subword_vocabulary_size(words, data_size.distinct_characters),
        network={"dropout": _dropout_rate(words, 0.17)}
        | ({"units": units, "embedding_dim": min(units, 256)} if is_recurrent else {}),
        max_tokens=round(_clip(256, 5 * root, 4096)),
        updates=round(max(500, 4 * root, words / 400)),
        learning_rate=_clip(1e-3, 0.4 / root, 2e-3) if is_recurrent else 1e-3,
    )


def _classifier_rule(data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a classifier.

    A batch has about 32 texts. Numbers of updates for texts of 20 words:

    | texts | recurrent | Transformer |
    |-------|-----------|-------------|
    |   600 |       200 |         370 |
    | 6,919 |       690 |       1,250 |

    A recurrent network has fewer, because its weights of n-grams overfit. It has 32 units, and 128 from 86,000 texts
    on: with few texts, a wider network overfits.
    """
    words, is_recurrent = max(data_size.words, data_size.examples), isinstance(config, RecurrentConfig)
    units = 32 * round(_clip(1, math.sqrt(data_size.examples / 7000), 4))
    root = math.sqrt(data_size.examples)
    updates = max(min(15 * root, 190), 8 * root) if is_recurrent else 15 * root
    return Rule(
        vocabulary_size=_subword_vocabulary_size(max(2 * words, 40_000), data_size.distinct_characters),
        network={"units": units, "embedding_dim": units} if is_recurrent else {},
        max_tokens=round(_clip(512, 48 * words / max(data_size.examples, 1), 4096)),
        updates=round(max(100, updates, data_size.examples / 10)),
        learning_rate=1e-3 if is_recurrent else _clip(1e-4, 0.25 / config.width, 1e-3),
    )


def _tagger_rule(data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a tagger.

    | words  | updates |
    |--------|---------|
    |  2,500 |     400 |
    |  8,000 |   1,000 |
    | 44,000 |   3,000 |
    """
    updates = round(max(_clip(400, data_size.words / 8, 3000), data_size.words / 32))
    rate = 3e-3 if isinstance(config, RecurrentConfig) else _clip(1e-4, 0.25 / config.width, 1e-3)
    return Rule(
        vocabulary_size=_subword_vocabulary_size(data_size.words, data_size.distinct_characters),
        max_tokens=256,
        updates=updates,
        learning_rate=rate,
    )


def _language_model_rule(data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a language model.

    Values for a recurrent network of characters, whose embeddings have half as many dimensions as it has units:

    | characters | units | dropout | updates | tokens in a batch |
    |------------|-------|---------|---------|-------------------|
    |     20,000 |   256 |    0.50 |     720 |             1,024 |
    |  1,000,000 |   384 |    0.19 |   5,100 |             2,048 |

    A Transformer has 2 blocks of width 128 for 10,000 words, and 6 blocks of width 512 for a million.
    """
    characters = max(data_size.characters, 1)
    decades = math.log10(characters / 20_000)
    vocabulary_size = _subword_vocabulary_size(data_size.words, data_size.distinct_characters)
    max_tokens = round(_clip(1024, 7.2 * math.sqrt(characters), 2048))
    updates = round(_clip(300, 720 * math.sqrt(characters / 20_000), 100_000))
    dropout = round(_clip(0.1, 0.5 - 0.18 * decades, 0.5), 2)
    common = {"vocabulary_size": vocabulary_size, "updates": updates, "label_smoothing": 0.0}
    if isinstance(config, RecurrentConfig):
        units = 64 * round(_clip(2, 4 + 1.2 * decades, 8))
        network = {"units": units, "embedding_dim": units // 2, "num_layers": 1, "dropout": dropout}
        rate = _clip(1e-3, 5e-3 - 6e-4 * decades, 4e-3)
        return Rule(**common, network=network, max_tokens=max_tokens, learning_rate=rate, warmup=0.05)
    words = max(data_size.words, 1)
    width, num_layers = 64 * round(_clip(2, words**0.25 / 4, 12)), round(_clip(2, 2 * math.log10(words) - 6, 12))
    network = {"width": width, "num_heads": width // 64, "intermediate_dim": 4 * width, "num_layers": num_layers}
    rate = _clip(1e-4, 0.25 / config.width, 1e-3)
    return Rule(**common, network=network, max_tokens=2 * max_tokens, learning_rate=rate, weight_decay=0.01)


def _fine_tuning_rule(rule: Rule, model: Any, num_examples: int, example_tokens: float) -> Rule:
    """Return the defaults for a model with trained weights, computed from the rule of its task.

    They are those of BERT: about 20 examples in a batch, 3 passes, and a learning rate of 5e-5 for the width 768. The
    60 additional updates are several passes if there is little data. A narrower network has a higher learning rate, and
    LoRA ten times this rate. With a frozen encoder, the learning rate is that of a new network. A classifier of few
    texts has R-Drop, but not with LoRA or a frozen encoder.
    """
    rate = min(0.04 / model.config.width, rule.learning_rate) * (10 if model.has_lora else 1)
    if model.encoder is not None and not model.encoder.trainable_weights:
        rate = rule.learning_rate
    return dataclasses.replace(
        rule,
        max_tokens=int(_clip(256, 20 * example_tokens, 2048)),
        updates=60,
        passes=3,
        learning_rate=rate,
        warmup=0.1,
        label_smoothing=0.0 if model.labels else rule.label_smoothing,
        weight_decay=0.01,
        r_drop=4.0 if num_examples <= _MAX_R_DROP_EXAMPLES and _trains_whole_encoder(model) else 0.0,
    )


def _trains_whole_encoder(model: Any) -> bool:
    """Return whether a model is a classifier that trains all weights of a Transformer encoder, without LoRA."""
    is_classifier = model.spec.predict_method == "classify" and hasattr(model.config, "pooling")
    return is_classifier and not model.has_lora and bool(model.encoder.trainable_weights)


_RULES: dict[str, Callable[[DataSize, Config], Rule]] = {
    "Translator": _translator_rule,
    "Captioner": _captioner_rule,
    "TextClassifier": _classifier_rule,
    "TextTagger": _tagger_rule,
    "CausalLM": _language_model_rule,
    "MaskedLM": _language_model_rule,
    "PermutationLM": _language_model_rule,
}


def _rule(task: Any, data_size: DataSize, config: Config) -> Rule:
    """Return the defaults of a task; those of a task outside of this library do not depend on the data."""
    rule = _RULES.get(task.spec.class_name)
    return Rule() if rule is None else rule(data_size, config)


def default_tokenizer_kind(task: Any, preset: str | None) -> str:
    """Return the kind of tokenizer for a preset; None for the default preset."""
    return task.spec.default_tokenizer if preset in (None, task.spec.default_preset) else "sentencepiece"


def network_defaults(
    task: Any,
    data_size: DataSize,
    config: Config,
    tokenizer_kind: str = "sentencepiece",
    *,
    only_dropout: bool = False,
    overrides: Collection[str] = (),
) -> dict[str, Any]:
    """Return the vocabulary size and the config fields of a new network for data of this size.

    Args:
        task: the class of a task.
        data_size: the size of the training data.
        config: the config of the preset.
        tokenizer_kind: see `train_tokenizer`. A vocabulary of words or characters is limited to 8,000.
        only_dropout: return no config field except `dropout`, for a named preset.
        overrides: names of the fields that the user sets; they are not returned. If one of them is a size of the
            network, no size is returned, because the sizes must fit each other.

    Returns:
        dict of `vocabulary_size` and config fields.
    """
    rule = _rule(task, data_size, config)
    has_own_sizes = only_dropout or set(overrides) & (rule.network.keys() - {"dropout"})
    names = ({"dropout"} if has_own_sizes else rule.network.keys()) - set(overrides)
    network = {name: value for name, value in rule.network.items() if name in names}
    vocabulary_size = 8000 if tokenizer_kind in ("words", "characters") else rule.vocabulary_size
    return {"vocabulary_size": vocabulary_size, **network}


def trains_on_pairs(model: Any, examples: Sequence) -> bool:
    """Return whether `fit_new_head` fine-tunes the encoder on pairs of texts, and then freezes it.

    It does so for a `TextClassifier` with mean pooling (a sentence encoder), whose encoder is trainable and has no LoRA
    matrices, and for at most 1,000 single texts.
    """
    is_sentence_encoder = _trains_whole_encoder(model) and model.config.pooling == "mean"
    return is_sentence_encoder and 0 < len(examples) <= _MAX_PAIRED_EXAMPLES and isinstance(examples[0][0], str)


def training_defaults(
    model: Any, examples: Sequence, data_size: DataSize | None = None, **overrides: Any
) -> dict[str, Any]:
    """Return the hyperparameters of training for these examples, as fields of a `TrainingPlan`.

    The rule of the task gives the number of updates. An epoch has as many passes over the data as are needed for at
    most 40 epochs: passes = ceil(updates / (40 pass_updates)), epochs = ceil(updates / (passes pass_updates)), with
    `pass_updates` updates in one pass. With an explicit number of epochs, an epoch is one pass.

    Args:
        model: a task.
        examples: raw examples of the task.
        data_size: their size; None to measure it.
        **overrides: fields that are set; the values of the other fields are computed from them.

    Returns:
        dict of `TRAINING_FIELDS` and the overrides.
    """
    if not len(examples):
        raise ValueError("There are no examples to train on; expected at least one.")
    data_size = data_size or DataSize.measure(model, examples)
    rule = _rule(model, data_size, model.config)
    tokens = _num_tokens(model, examples, data_size)
    if model.is_pretrained:
        rule = _fine_tuning_rule(rule, model, len(examples), tokens / len(examples))
    max_tokens = overrides.get("max_tokens") or rule.max_tokens
    pass_updates = max(tokens / max_tokens, 1)
    pass_updates = math.ceil(pass_updates / overrides.get("gradient_accumulation", 1))
    epochs = overrides.get("epochs")
    updates = rule.updates + rule.passes * pass_updates
    passes = overrides.get("passes_per_epoch") or (1 if epochs else math.ceil(updates / (_MAX_EPOCHS * pass_updates)))
    epochs = epochs or math.ceil(updates / (passes * pass_updates))
    updates = epochs * passes * pass_updates
    rule = dataclasses.replace(rule, learning_rate=float(f"{rule.learning_rate:.2g}"))
    derived = {"epochs": epochs, "passes_per_epoch": passes, "warmup_steps": max(round(rule.warmup * updates), 1)}
    return {name: getattr(rule, name) for name in TRAINING_FIELDS if name not in derived} | derived | overrides


def _num_tokens(model: Any, examples: Sequence, data_size: DataSize) -> int:
    """Return the number of tokens of all rows with their padding, estimated from a sample of the texts."""
    from keras_attention.data.batches import round_up  # imports Keras
    from keras_attention.data.tokenization.tokenizers import encode_texts

    # Language models split a long text and taggers a long sentence; other tasks truncate it.
    longest = math.inf if model.spec.metric == "loss" or model.spec.predict_method == "tag" else model.config.max_length

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
    return math.ceil(tokens * data_size.characters / max(sum(map(len, sample)), 1))
