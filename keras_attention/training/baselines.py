"""`baseline`: the metric of a prediction without a network; `train` compares it with the metric of the best model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_attention.metrics.baselines import Baseline
from keras_attention.training.plan import is_perfect, mode_of
from keras_attention.training.progress import write_line


def baseline(
    model: keras.Model,
    examples: Any,
    validation: Any,
    metric: str | None = None,
    *,
    label_smoothing: float = 0.0,
    bleu_tokenizer: str | None = None,
) -> Baseline | None:
    """Compute a metric of a prediction that needs no network, only the training examples.

    | task | metrics | prediction |
    |---|---|---|
    | `TextClassifier` | `accuracy` (0 to 1) | the most frequent label |
    | `TextTagger` | `accuracy`, `f1` (0 to 1) | the most frequent tag of each word, in lower case, or of all words |
    | `Translator` | `bleu`, `chrf` | the translation of the most similar source, by the cosine of TF-IDF vectors |
    | `Captioner` | `bleu`, `cider` | for all images, the caption with the highest mean similarity to all captions |
    | language models | `loss` (nats per token) | the frequencies of the tokens, p(v) = (count(v) + 1) / (n + V) |

    The similarity is that of `TfIdf` in `keras_attention.metrics.baselines`, and the loss that of `unigram_loss` there.
    For a `MaskedLM` with next-sentence prediction, the metric is `logits_loss`.

    Args:
        model: a task of this library; only a language model uses its tokenizer and batches.
        examples: raw training examples; for a language model also batches.
        validation: raw validation examples; for a language model also batches.
        metric: a metric of the table; by default the `metric` of the task.
        label_smoothing: label smoothing of the loss of a language model.
        bleu_tokenizer: sacreBLEU's tokenizer; see `keras_attention.metrics.evaluate_texts`.

    Returns:
        a `Baseline` with the `value` and a `description` of the prediction; None if the metric is not in the table, or
        if the task needs raw examples and has batches.

    Example:
        >>> train = [("a fine film", "good"), ("a dull film", "bad"), ("so fine", "good")]
        >>> model = ka.TextClassifier.from_examples(train, tokenizer_kind="characters", units=8)
        >>> ka.training.baseline(model, train, [("very fine", "good"), ("very dull", "bad")])
        Baseline(value=0.5, description='the most frequent label')
    """
    if model.spec.metric != "loss" and any(isinstance(data, keras.utils.PyDataset) for data in (examples, validation)):
        return None
    options = {"label_smoothing": label_smoothing, "bleu_tokenizer": bleu_tokenizer}
    return model.data.baseline(model, examples, validation, metric or model.spec.metric, **options)


def compare_with_baseline(
    model: keras.Model,
    examples: Any,
    validation: Any,
    value_of: Callable[[str], float | None],
    monitor: str,
    verbose: bool,
    **options: Any,
) -> None:
    """Write the metric of the best model next to the baseline, and warn if it is not better.

    The metric is the monitored one or, if this has no baseline, the metric of the task.

    Args:
        model: the trained model.
        examples: see `baseline`.
        validation: see `baseline`; None if there is none.
        value_of: function from the name of a metric, such as `"val_bleu"`, to its value for the best model, or None.
        monitor: the metric that selected the best model.
        verbose: write a line to standard error.
        **options: the other arguments of `baseline`.
    """
    if validation is None:
        if verbose:
            write_line("There is no validation data, so the model is not compared with a baseline.")
        return
    for name in dict.fromkeys([monitor, f"val_{model.spec.metric}", "val_logits_loss"]):
        value = value_of(name) if name.startswith("val_") else None
        metric = name.removeprefix("val_")
        if value is None or (result := baseline(model, examples, validation, metric, **options)) is None:
            continue
        if verbose:
            write_line(f"{name} {value:.4g}; baseline {result.value:.4g} ({result.description})")
        gain = value - result.value if mode_of(name, outputs=["logits"]) == "max" else result.value - value
        if is_perfect(name, result.value) and is_perfect(name, value):
            warnings.warn(
                f"The model and a baseline without a network are both perfect: {name} is {value:.4g} for the model and "
                f"for {result.description}, so it does not show what the model has learned. Use more validation "
                "examples, or more difficult ones.",
                stacklevel=3,
            )
        elif gain <= 1e-6 * max(abs(result.value), 1):  # Keras rounds to float32
            warnings.warn(
                f"The model is not better than a baseline without a network: {name} is {value:.4g}, and "
                f"{result.description} gives {result.value:.4g}. Train for longer (`epochs`, `patience`) or on more "
                "examples, or start from a pre-trained model.",
                stacklevel=3,
            )
        return
