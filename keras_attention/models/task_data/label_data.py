"""`ClassificationData` and `TaggingData`: texts with a label each, and sentences with a tag for each word."""

from __future__ import annotations

import collections
import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from keras_attention.config import SINGLE_LABEL, RecurrentConfig
from keras_attention.data.reading.files import read_labelled, read_tagged
from keras_attention.data.tokenization.text_reader import Text, as_tuple
from keras_attention.data.tokenization.tokenizer_rules import split_words
from keras_attention.data.tokenization.tokenizers import train_tokenizer
from keras_attention.metrics.baselines import Baseline, frequent_tags, most_frequent
from keras_attention.metrics.entities import evaluate_entities, have_entities
from keras_attention.models.task_data.task_data import (
    TaskData,
    check_known_labels,
    has_items,
    is_string_pair,
    only_path,
)

LabelledTexts = Sequence[tuple[Text, str]]
TaggedSentences = Sequence[Sequence[tuple[str, str]]]


class ClassificationData(TaskData):
    """Read, check, batch and evaluate pairs (text, label); a text may be a pair of texts. See `TaskData`."""

    example_description = "(text, label), two strings"
    reader_call = "ka.data.read_labelled(path)"
    has_pairs = True

    def is_example(self, value: Any) -> bool:
        """Return whether a value is (text, label); a text is a string or a pair of strings."""
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            return is_string_pair(value)
        return (isinstance(value[0], str) or is_string_pair(value[0])) and isinstance(value[1], str)

    def read(
        self, paths: Sequence[str], columns: dict[str, str] | None = None, labels: Sequence[str] | None = None
    ) -> list[tuple[Text, str]]:
        """Read texts, or pairs of texts, and their labels; see `read_labelled`."""
        return read_labelled(only_path(paths), columns, labels)

    def texts(self, examples: LabelledTexts) -> list[str]:
        """Return the texts; both texts of a pair."""
        return [text for texts, _ in examples for text in as_tuple(texts)]

    def label_counts(self, examples: LabelledTexts) -> collections.Counter[str]:
        """Return label -> number of texts."""
        return collections.Counter(label for _, label in examples)

    def batches(
        self, model: Any, examples: LabelledTexts, max_tokens: int, shuffle: bool, seed: int, **options: Any
    ) -> Any:
        """Make batches of pairs (text, label); see `Task.make_batches`.

        Raises:
            ValueError: `config.problem_type` is not "single_label_classification".
        """
        if model.config.problem_type != SINGLE_LABEL:
            raise ValueError(
                f"The model's `problem_type` is {model.config.problem_type!r}; expected {SINGLE_LABEL!r}, the only one "
                "that can be trained. Make a new classifier with `TextClassifier.from_encoder(model, labels=...)`."
            )
        return super().batches(model, examples, max_tokens, shuffle, seed, **options)

    def baseline(
        self, model: Any, examples: LabelledTexts, validation: LabelledTexts, metric: str, **_: Any
    ) -> Baseline | None:
        """Return the accuracy of the most frequent label; see `keras_attention.training.baseline`."""
        if metric != "accuracy":
            return None
        label = most_frequent(label for _, label in examples)
        return Baseline(sum(other == label for _, other in validation) / len(validation), "the most frequent label")

    def metrics(self, model: Any, examples: LabelledTexts, batch_size: int = 32) -> dict[str, Any]:
        """Return `accuracy` (0 to 1), and the numbers of correct and of all texts."""
        check_known_labels(model, self.label_counts(examples))
        outputs = model.classify([text for text, _ in examples], batch_size=batch_size)
        correct = sum(output.label == label for output, (_, label) in zip(outputs, examples, strict=True))
        total = len(examples)
        return {"accuracy": correct / total, "correct": correct, "total": total, "signature": "per:text"}


class TaggingData(TaskData):
    """Read, check, batch and evaluate sentences, each a list of (word, tag); see `TaskData`."""

    example_description = "sentences, each a list of (word, tag), where a word has no white space"
    reader_call = "ka.data.read_tagged(path)"
    column_hint = "choose the column of the tags with `tag_column`"

    def is_example(self, value: Any) -> bool:
        """Return whether a value is a list of (word, tag). White space separates words, so a word has none."""
        if isinstance(value, str) or not has_items(value):
            return False
        return all(is_string_pair(pair) and split_words(pair[0]) == [pair[0]] for pair in value)

    def read(
        self, paths: Sequence[str], tag_column: int | None = None, labels: Sequence[str] | None = None
    ) -> list[list[tuple[str, str]]]:
        """Read sentences, each a list of (word, tag); see `read_tagged`."""
        return read_tagged(only_path(paths), tag_column, labels)

    def texts(self, examples: TaggedSentences) -> list[str]:
        """Return the sentences as strings, with spaces between the words."""
        return [" ".join(word for word, _ in sentence) for sentence in examples]

    def label_counts(self, examples: TaggedSentences) -> collections.Counter[str]:
        """Return tag -> number of words."""
        return collections.Counter(tag for sentence in examples for _, tag in sentence)

    def train_tokenizers(
        self,
        examples: TaggedSentences,
        config: Any,
        overrides: Mapping[str, Any],
        unlabelled_texts: Sequence[str] = (),
        **options: Any,
    ) -> dict[str, Any]:
        """Return a tokenizer; for words in a recurrent tagger, a lower-case one and a character tokenizer."""
        texts, tokenizers = [*self.texts(examples), *unlabelled_texts], {}
        if isinstance(config, RecurrentConfig) and options["kind"] == "words":  # characters keep capitals
            tokenizers["character_tokenizer"] = train_tokenizer(texts, "characters", lowercase=options["lowercase"])
            options |= {"lowercase": True, "min_count": 1}  # batches turn rare words into the unknown token
        return {**tokenizers, "tokenizer": train_tokenizer(texts, **options)}

    def output_metrics(self, model: Any) -> tuple[str, ...]:
        """Return `f1`, the F1 of entities, if the tags of the model describe entities."""
        return ("f1",) if have_entities(model.labels) else ()

    def validation_metric(self, model: Any, examples: TaggedSentences, metric: str, **_: Any) -> float:
        """Return the F1 of entities."""
        return self.metrics(model, examples)[metric]

    def baseline(
        self, model: Any, examples: TaggedSentences, validation: TaggedSentences, metric: str, **_: Any
    ) -> Baseline | None:
        """Return the accuracy or F1 of each word's most frequent tag; see `keras_attention.training.baseline`."""
        if metric not in ("accuracy", *self.output_metrics(model)) or not any(validation):
            return None
        tagged = frequent_tags(examples, [[word for word, _ in sentence] for sentence in validation])
        return Baseline(_tag_metrics(model, validation, tagged)[metric], "each word's most frequent tag")

    def metrics(self, model: Any, examples: TaggedSentences, batch_size: int = 32) -> dict[str, Any]:
        """Return `accuracy` (0 to 1), the numbers of correct and of all words and, for entities, their metrics."""
        check_known_labels(model, self.label_counts(examples))
        outputs = model.tag(self.texts(examples), batch_size=batch_size)
        return _tag_metrics(model, examples, [output.tags for output in outputs])


def _tag_metrics(model: Any, examples: TaggedSentences, tagged: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the metrics of predicted tags."""
    expected = [[tag for _, tag in sentence] for sentence in examples]
    total = sum(map(len, expected))
    correct = sum(map(operator.eq, itertools.chain(*tagged), itertools.chain(*expected)))
    metrics = {"accuracy": correct / total, "correct": correct, "total": total, "signature": "per:word"}
    if not have_entities(model.labels):
        return metrics
    micro, by_type = evaluate_entities(expected, [[tag or "O" for tag in tags] for tags in tagged])
    values = {name: getattr(micro, name) for name in ("f1", "precision", "recall")}
    return {**values, **metrics, "by_type": by_type, "signature": "per:word|entities:exact|average:micro"}
