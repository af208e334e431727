"""`TextData`: the examples of language models, texts without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_attention.data.batching.masking import masked_batches
from keras_attention.data.batching.permutation import permutation_batches
from keras_attention.data.batching.text_batches import language_batches
from keras_attention.data.lines import DataError, read_lines
from keras_attention.data.reading.files import has_records, read_texts
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.metrics.baselines import Baseline, unigram_loss
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity
from keras_attention.models.task_data.task_data import TaskData, only_path


class TextData(TaskData):
    """Read, check, batch and evaluate texts; see `TaskData`.

    Args:
        batch_function: see `TaskData`.
        evaluate: a function of (model, texts) that returns the metrics, such as `causal_metrics`.
    """

    example_description = "texts, each a string"
    reader_call = "ka.data.read_texts(path)"

    def __init__(self, batch_function: Callable[..., Any], evaluate: Callable[[Any, Sequence[str]], dict]) -> None:
        super().__init__(batch_function)
        self._evaluate = evaluate

    def is_example(self, value: Any) -> bool:
        """Return whether a value is a string."""
        return isinstance(value, str)

    def read(self, paths: Sequence[str], columns: dict[str, str] | None = None) -> list[str]:
        """Read texts: a text file is one text; a row of a table or data set is one text.

        Args:
            paths: one path, or one `tfds:NAME[:SPLIT]`.
            columns: name of the column `text`; see `read_texts`.

        Returns:
            list of strings.

        Raises:
            ValueError: there is not exactly one path.
            FileNotFoundError: the file does not exist; see `keras_attention.data.read_texts` for more errors.
        """
        path = only_path(paths)
        if columns or has_records(path):
            return read_texts(path, columns)
        lines = read_lines(path)
        if not any(map(str.strip, lines)):
            raise DataError(f"{path} contains no examples; expected at least one line that is not empty.")
        return ["\n".join(lines)]

    def baseline(
        self, model: Any, examples: Any, validation: Any, metric: str, label_smoothing: float = 0.0, **_: Any
    ) -> Baseline | None:
        """Return the loss of a prediction from token frequencies; see `keras_attention.training.baseline`.

        Args:
            model: a language model.
            examples: texts or batches.
            validation: texts or batches.
            metric: `"loss"`; for a model with several outputs `"logits_loss"`.
            label_smoothing: label smoothing of the loss.
        """
        has_dict_output = isinstance(model.output, dict)
        if metric != ("logits_loss" if has_dict_output else "loss"):
            return None

        def batches_of(data: Any) -> Iterator[tuple]:
            batches = data if isinstance(data, keras.utils.PyDataset) else model.make_batches(data, shuffle=False)
            for index in range(len(batches)):
                _, labels, weights = batches[index]
                yield (None, labels["logits"], weights["logits"]) if has_dict_output else (None, labels, weights)

        loss = unigram_loss(batches_of(examples), batches_of(validation), model.config.vocabulary_size, label_smoothing)
        return Baseline(loss, "the frequency of each token")

    def metrics(self, model: Any, examples: Sequence[str]) -> dict[str, Any]:
        """Return `loss` (nats) of the predicted tokens, and `perplexity` or `accuracy`."""
        return self._evaluate(model, examples)


def causal_metrics(model: Any, examples: Sequence[str]) -> dict[str, Any]:
    """Return `loss` and `perplexity` per token; each token has at least half a window of context."""
    if not isinstance(model, keras.Model):
        return _metrics_of_export(model, examples)
    stride = max(model.config.max_length // 2, 1)
    metrics = token_metrics(model, language_batches(examples, model, shuffle=False, stride=stride))
    signature = f"per:token|window:{model.config.max_length}|stride:{stride}"
    return {"loss": metrics["loss"], "perplexity": metrics["perplexity"], "signature": signature}


def _metrics_of_export(model: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of an exported `CausalLM`, which reads a text in one window."""
    texts, length = [text for text in texts if not TextReader.is_empty(text)], model.metadata["max_length"]
    if not texts:
        raise ValueError("All texts are empty; expected at least one with a word.")
    rows = model.score_rows(texts)
    counts = [sum(map(bool, row["pieces"])) for row in rows]
    if truncated := [text for text, row in zip(texts, rows, strict=True) if row["truncated"]]:
        raise ValueError(
            f"The text {truncated[0][:40]!r} has more than {length - 1} tokens, and an export reads it in one window. "
            "Expected shorter texts, such as lines. Or evaluate the .keras file that the export was made from."
        )
    loss = -sum(row["score"] for row in rows) / sum(counts)
    return {"loss": float(loss), "perplexity": math.exp(loss), "signature": f"per:token|window:{length}"}


def masked_metrics(model: Any, examples: Sequence[str]) -> dict[str, Any]:
    """Return `loss` and `accuracy` of masked tokens, and `next_sentence_accuracy` with `config.next_sentence`."""
    metrics = token_metrics(model, masked_batches(examples, model, shuffle=False))
    prefix = "logits_" if model.config.next_sentence else ""
    result = {name: metrics[prefix + name] for name in ("loss", "accuracy")}
    if model.config.next_sentence:
        result["next_sentence_accuracy"] = metrics["next_sentence_accuracy"]
    return {**result, "signature": "per:masked token|rate:0.15|seed:0"}


def permutation_metrics(model: Any, examples: Sequence[str]) -> dict[str, Any]:
    """Return `loss` and `accuracy` of tokens that are predicted in random order."""
    metrics = token_metrics(model, permutation_batches(examples, model, shuffle=False))
    signature = "per:predicted token|targets_every:6|seed:0"
    return {"loss": metrics["loss"], "accuracy": metrics["accuracy"], "signature": signature}


def token_metrics(model: keras.Model, batches: Any) -> dict[str, float]:
    """Compute loss, perplexity and accuracy over all tokens whose weight is not 0.

        loss = sum |w| cost / sum |w|,  perplexity = exp(loss)

    The sums are over all batches, so that the values do not depend on the batch size. A copy of the model is compiled,
    so that the metrics of `model` do not change.

    Args:
        model: a functional model with logits (B, T, V), or a dict of such outputs.
        batches: batches of (inputs, labels, weights).

    Returns:
        dict of `loss` in nats, `perplexity` and `accuracy` (0 to 1). For a dict of outputs, each name has the output's
        name as prefix, such as `logits_loss`.
    """
    outputs = model.output
    is_single = not isinstance(outputs, dict)
    metrics = {name: (Perplexity(), MaskedAccuracy()) for name in ([""] if is_single else outputs)}
    evaluated = keras.Model(model.input, outputs)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # Keras requires a loss
    evaluated.compile(
        loss=cross_entropy if is_single else dict.fromkeys(outputs, cross_entropy),
        weighted_metrics=list(metrics[""]) if is_single else {name: list(pair) for name, pair in metrics.items()},
    )
    evaluated.evaluate(batches, verbose=0)
    values = {}
    for name, (perplexity, accuracy) in metrics.items():
        prefix = f"{name}_" if name else ""
        values[f"{prefix}loss"] = float(perplexity.cross_entropy())
        values[f"{prefix}perplexity"] = float(perplexity.result())
        values[f"{prefix}accuracy"] = float(accuracy.result())
    return values
