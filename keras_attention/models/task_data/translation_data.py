"""`TranslationData`: the examples of a `Translator`, pairs of strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_attention.data.reading.files import has_records, read_pairs
from keras_attention.data.tokenization.tokenizers import train_tokenizer
from keras_attention.metrics.baselines import Baseline, TfIdf
from keras_attention.metrics.text import evaluate_by_length, evaluate_texts
from keras_attention.models.task_data.task_data import TaskData, is_string_pair

Pairs = Sequence[tuple[str, str]]

_MAX_COMPARED = 100_000  # training pairs of the baseline; a pair takes 4 KB


class TranslationData(TaskData):
    """Read, check, batch and evaluate pairs (source, target); see `TaskData`."""

    example_description = "(source, target), two strings"
    reader_call = "ka.data.read_pairs(path)"
    has_pairs = True
    text_metrics = ("bleu", "chrf")

    def is_example(self, value: Any) -> bool:
        """Return whether a value is two strings."""
        return is_string_pair(value)

    def read(self, paths: Sequence[str], columns: dict[str, str] | None = None) -> list[tuple[str, str]]:
        """Read (source, target) pairs from one or more tables, or from two parallel files; see `read_pairs`."""
        if all(map(has_records, paths)):
            return [pair for path in paths for pair in read_pairs(path, columns=columns)]
        if len(paths) not in (1, 2):
            raise ValueError(
                f"There are {len(paths)} files, and not all are tables; expected tables of pairs, or two parallel text "
                "files."
            )
        return read_pairs(*paths, columns=columns)

    def texts(self, examples: Pairs) -> list[str]:
        """Return all source and target texts."""
        return [text for pair in examples for text in pair]

    def parts(self, examples: Pairs) -> dict[str, list]:
        """Return the sources and the targets."""
        return {**super().parts(examples), "target": [target for _, target in examples]}

    def train_tokenizers(
        self, examples: Pairs, config: Any, overrides: Mapping[str, Any], **options: Any
    ) -> dict[str, Any]:
        """Return a tokenizer for each language, or the same one for both if the vocabulary is shared."""
        sides = [[pair[i] for pair in examples] for i in range(2)]
        shared = overrides.get("shared_vocabulary", config.shared_vocabulary)
        corpora = [[*sides[0], *sides[1]]] if shared else sides
        tokenizers = [train_tokenizer(corpus, **options) for corpus in corpora]
        return {"source_tokenizer": tokenizers[0], "target_tokenizer": tokenizers[-1]}

    def validation_metric(self, model: Any, examples: Pairs, metric: str, bleu_tokenizer: str | None = None) -> float:
        """Return BLEU or chrF of greedy translations."""
        texts = [translation.text for translation in model.translate([source for source, _ in examples], batch_size=64)]
        references = [target for _, target in examples]
        return getattr(evaluate_texts(texts, references, bleu_tokenizer=bleu_tokenizer), metric)

    def baseline(
        self, model: Any, examples: Pairs, validation: Pairs, metric: str, bleu_tokenizer: str | None = None, **_: Any
    ) -> Baseline | None:
        """Return the metric of the translations of the most similar sources; see `ka.training.baseline`."""
        if metric not in self.text_metrics:
            return None
        examples = examples[:: math.ceil(len(examples) / _MAX_COMPARED)]
        nearest = TfIdf([source for source, _ in examples]).most_similar([source for source, _ in validation])
        metrics = evaluate_texts(
            [examples[i][1] for i in nearest], [target for _, target in validation], bleu_tokenizer=bleu_tokenizer
        )
        return Baseline(getattr(metrics, metric), "the translation of the most similar training source")

    def metrics(
        self, model: Any, examples: Pairs, ignore_case: bool = False, bleu_tokenizer: str | None = None, **search: Any
    ) -> dict[str, Any]:
        """Return `bleu`, `chrf` and `by_length`, the BLEU by source length; see `evaluate_texts` for the options."""
        sources, references = zip(*examples, strict=True)
        texts = [translation.text for translation in model.translate(list(sources), **search)]
        options = {"ignore_case": ignore_case, "bleu_tokenizer": bleu_tokenizer}
        metrics = evaluate_texts(texts, references, **options)
        return {
            "bleu": metrics.bleu,
            "chrf": metrics.chrf,
            "by_length": evaluate_by_length(sources, texts, references, **options),
            "bleu_signature": metrics.bleu_signature,
            "chrf_signature": metrics.chrf_signature,
        }
