"""`evaluate`: a model and examples in, the scores of its task out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras_attention as ka


def evaluate(
    model: Any, examples: Sequence, strategy: Any = None, *, batch_size: int = 64, **options: Any
) -> dict[str, Any]:
    """Score a model on examples with the metrics of its task.

    | task | examples | scores |
    |---|---|---|
    | `Translator` | (source, target) | `bleu`, `chrf`, `by_length`: bin of source lengths -> (sentences, BLEU) |
    | `Captioner` | `read_captions` | `bleu_1` to `bleu_4`, `meteor` (with Java), `rouge_l`, `cider`, each times 100 |
    | `CausalLM` | texts | `loss` (nats) and `perplexity` per token |
    | `MaskedLM` | texts | `loss`, `accuracy` of masked tokens, `next_sentence_accuracy` where the model has it |
    | `PermutationLM` | texts | `loss`, `accuracy` of predicted tokens |
    | `TextClassifier` | (text, label) | `accuracy` (0 to 1), `correct`, `total` |
    | `TextTagger` | sentences of (word, tag) | `accuracy` (0 to 1), `correct`, `total` |

    Args:
        model: a task of this library, or an exported model that is not a language model.
        examples: as in the table; `keras_attention.data` reads them from files.
        strategy: how a `Translator` or `Captioner` searches; greedily when absent.
        batch_size: texts or images that are computed at once; it does not change the scores.
        **options: of a `Translator` `lowercase=True`, to ignore case.

    Returns:
        dict of the scores, and `signature`, which says how they were computed: scores with different signatures
        cannot be compared.

    Raises:
        TypeError: `model` is none of these, or `strategy` is given for a model that does not search, or an export.
        ValueError: there are no examples, or they have none of the model's labels.
        ImportError: captions are scored without pycocoevalcap.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, tokenizer_kind="characters", units=12)
        >>> scores = ka.evaluate(model, pairs)
        >>> scores["bleu"] <= 100, scores["signature"].split("|")[0]
        (True, 'nrefs:1')
    """
    if not len(examples):
        raise ValueError("There are no examples to score on; expected at least one.")
    task = task_of(model)
    exported = not isinstance(model, ka.models.Task)
    if task.metric == "loss":
        if exported:
            raise TypeError("An exported language model has no loss. Evaluate the .keras file that it was made from.")
    else:
        options["batch_size"] = batch_size
    if strategy is not None:
        if exported or not task.text_metrics:
            reason = "an export searches as it was exported" if exported else f"a {task.__name__} does not search"
            raise TypeError(f"`strategy` is {strategy!r}, but {reason}; leave it out.")
        options["strategy"] = strategy
    return task.score_examples(model, examples, **options)


def task_of(model: Any) -> type:
    """Return the task of a model, or of an exported model.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(model, ka.models.Task):
        return type(model)
    verb = getattr(model, "verb", None)
    task = next((task for task in ka.models.TASKS if task.verb == verb), None)
    if task is None:
        names = ", ".join(task.__name__ for task in ka.models.TASKS)
        raise TypeError(f"`model` is a {type(model).__name__} without a task; expected one of {names}, or an export.")
    return task
