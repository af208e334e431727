"""`TaskData`: how a task reads, checks, batches and evaluates its examples."""

from __future__ import annotations

import collections
import numbers
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_attention.argument_checks import missing_method
from keras_attention.data.batching.splitting import input_of
from keras_attention.data.lines import counted
from keras_attention.data.tokenization.tokenizers import train_tokenizer
from keras_attention.metrics.baselines import Baseline
from keras_attention.models.task_data import example_checks


class TaskData:
    """Read, check, batch and evaluate the examples of a task; `Task.data` of each task is an instance.

    Methods with an argument `model` read its tokenizers and its config. Methods without `model` can be called on the
    class: `ka.TextClassifier.data.labels(examples)`.

    Args:
        batch_function: function (examples, model, max_tokens, shuffle, seed) -> batches, such as
            `keras_attention.data.translation_batches`.

    Example:
        >>> ka.TextClassifier.data.label_counts([("so fine", "good"), ("a fine film", "good"), ("dull", "bad")])
        Counter({'good': 2, 'bad': 1})
    """

    example_description = ""  # description of one example, for errors; "" if the examples of the task are not checked
    reader_call = ""  # the call that reads a file of examples, for errors
    column_hint = "name the columns with `columns`"  # how to read other columns of a file, for errors
    has_pairs = False  # whether an example is a pair (input, target or label), which `fit` also takes as `x` and `y`
    text_metrics: tuple[str, ...] = ()  # metrics of generated texts; see `output_metrics`

    def __init__(self, batch_function: Callable[..., Any]) -> None:
        self._batch_function = batch_function

    def is_example(self, value: Any) -> bool:
        """Return whether a value is one example."""
        raise missing_method(self, "is_example")

    def check(self, examples: Any) -> None:
        """Check that raw examples are those of this task.

        Raises:
            TypeError: `examples` is not a list, such as the path of a file; or an example is not one of the task.
        """
        if not self.example_description:
            return
        fix = f"expected a list of {self.example_description}. `{self.reader_call}` reads a file."
        if isinstance(examples, (str, bytes, os.PathLike)) or not has_items(examples):
            shown = f" {str(examples)[:80]!r}" if isinstance(examples, (str, os.PathLike)) else ""
            raise TypeError(f"`examples` is a {type(examples).__name__}{shown}; {fix}")
        for index, example in enumerate(examples):
            if not self.is_example(example):
                raise TypeError(f"Example {index} of `examples` {_problem(example)}; {fix}")

    def check_training(
        self, examples: Sequence, validation: Sequence | None = None, known_labels: Sequence[str] = ()
    ) -> None:
        """Raise an error if no model can learn from the examples, and warn about probable mistakes.

        Errors: one label, or nearly all labels occur once; all inputs, targets or captions are equal, unless they are
        texts of several lines for a language model; all targets, labels or tags are empty.
        Warnings: few different examples; equal texts of several lines; labels that occur once, or differ only in case,
        spaces or Unicode normal form; empty texts; outputs that equal their inputs; equal texts with different labels;
        validation examples that are also training examples, that have one label, or whose labels no training example
        has.

        Args:
            examples: raw training examples of the task.
            validation: raw validation examples, or None.
            known_labels: the labels that the model already has. If there are any, examples with one label are a
                warning.

        Raises:
            DataError: see above. The warnings are `DataWarning`.

        Example:
            >>> ka.Translator.data.check_training([("we eat", "comemos"), ("we eat", "comemos")])
            Traceback (most recent call last):
            ...
            keras_attention.data.lines.DataError: All 2 training examples have the input 'we eat'; expected ...
        """
        if self.example_description and len(examples):
            example_checks.check_training(self, examples, validation or (), known_labels)

    def read(self, paths: Sequence[str], **options: Any) -> list:
        """Read examples from one file or `tfds:NAME[:SPLIT]`; a `Translator` also reads several.

        Args:
            paths: the file; for a translator also several tables of pairs, or two parallel files.
            **options: `columns`, the names of columns; for a classifier or tagger `labels`, the expected labels; for a
                tagger `tag_column`; for a captioner `images`, the directory of the images.

        Raises:
            ValueError: the number of files is wrong, or a file has another format.
            FileNotFoundError: a file does not exist.
        """
        raise missing_method(self, "read")

    def texts(self, examples: Sequence) -> list[str]:
        """Return the texts of examples, for training a tokenizer."""
        return list(examples)

    def label_counts(self, examples: Sequence) -> collections.Counter[str]:
        """Return label -> number of texts or words; empty for a task without labels."""
        return collections.Counter()

    def labels(self, examples: Sequence) -> tuple[str, ...]:
        """Return the names of the classes or tags of examples, sorted; empty for a task without labels."""
        return tuple(sorted(self.label_counts(examples)))

    def parts(self, examples: Sequence) -> dict[str, list]:
        """Return name -> values of a part of the examples, such as the inputs; not all values may be equal."""
        return {"input": [input_of(example) for example in examples]}

    def train_tokenizers(
        self,
        examples: Sequence,
        config: Any,
        overrides: Mapping[str, Any],
        unlabelled_texts: Sequence[str] = (),
        **options: Any,
    ) -> dict[str, Any]:
        """Train the tokenizers of the task on examples.

        Args:
            examples: training examples of the task.
            config: the config of the preset.
            overrides: config fields with new values.
            unlabelled_texts: more texts.
            **options: the options of `train_tokenizer`: `kind`, `vocabulary_size`, `lowercase` and `normalization`.

        Returns:
            dict of tokenizers by the names of the constructor's arguments.
        """
        return {"tokenizer": train_tokenizer([*self.texts(examples), *unlabelled_texts], **options)}

    def batches(self, model: Any, examples: Sequence, max_tokens: int, shuffle: bool, seed: int, **options: Any) -> Any:
        """Make batches of examples for `fit`; see `Task.make_batches`."""
        self.check(examples)
        return self._batch_function(examples, model, max_tokens, shuffle, seed, **options)

    def output_metrics(self, model: Any) -> tuple[str, ...]:
        """Return the metrics of `validation_metric` for a model: by default `text_metrics`."""
        return self.text_metrics

    def validation_metric(self, model: Any, examples: Sequence, metric: str, **options: Any) -> float:
        """Return one of `output_metrics`, such as `"bleu"`, of the outputs that the model predicts for the examples."""
        raise NotImplementedError(
            f"{type(model).__name__} has no metric {metric} of its outputs; expected a task with one. Use `val_loss`."
        )

    def baseline(self, model: Any, examples: Any, validation: Any, metric: str, **options: Any) -> Baseline | None:
        """Return the metric of a prediction without a network, or None; see `keras_attention.training.baseline`."""
        return None

    def metrics(self, model: Any, examples: Sequence, **options: Any) -> dict[str, Any]:
        """Compute the metrics of a model of this task, or of its export; see `keras_attention.evaluate`.

        `options` are those of the prediction method, such as `strategy` and `batch_size`.
        """
        raise missing_method(self, "metrics")


def _problem(example: Any) -> str:
    """Return the part of an error message about an invalid example: that it contains a number, or its `repr`."""
    for value in _leaves(example) if isinstance(example, (list, tuple)) else ():
        if isinstance(value, (numbers.Number, type(None))):
            kind = type(value).__name__
            return f"contains {value!r} of type {kind}, where a string is expected; convert it with str(...)"
    return f"is {repr(example)[:80]}"


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values in nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def has_items(value: Any) -> bool:
    """Return whether a value is a sequence: it has a length and items by number."""
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def is_string_pair(value: Any) -> bool:
    """Return whether a value is two strings."""
    return (
        not isinstance(value, str) and has_items(value) and len(value) == 2 and all(isinstance(v, str) for v in value)
    )


def only_path(paths: Sequence[str]) -> str:
    """Return the single path of a list.

    Raises:
        ValueError: there is not exactly one path.
    """
    if len(paths) != 1:
        raise ValueError(f"There are {len(paths)} files; this task reads exactly one. Join them into one file.")
    return str(paths[0])


def check_known_labels(model: Any, counts: Mapping[str, int]) -> None:
    """Warn about labels that the model, or the export, does not have.

    Args:
        model: a task or an exported model.
        counts: label -> number of examples.

    Raises:
        ValueError: there are no labels, or the model has none of them.
    """
    if not counts:
        raise ValueError("The examples have no words to evaluate on; expected at least one with a tag.")
    unknown = {label: count for label, count in counts.items() if label not in model.labels}
    shown = ", ".join(label[:40] for label in list(unknown)[:3])
    if len(unknown) == len(counts):
        raise ValueError(
            f"The examples have none of the model's labels, which are {', '.join(model.labels)}; they have {shown}. "
            "Expected examples with labels of the model."
        )
    if unknown:
        warnings.warn(
            f"The model does not have the label of {counted(sum(unknown.values()), 'example')}, so each counts as "
            f"wrong: {shown}."
        )
