"""`evaluate`: compute the metrics of a model on examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_attention.argument_checks import one_of


def evaluate(
    model: Any, examples: Sequence, strategy: Any = None, *, batch_size: int = 64, **options: Any
) -> dict[str, Any]:
    """Compute the metrics of a model's task on examples.

    | task | examples | metrics |
    |---|---|---|
    | `Translator` | (source, target) | `bleu`, `chrf`, `by_length`: range of source lengths -> (sentences, BLEU) |
    | `Captioner` | `read_captions` | `bleu_1` to `bleu_4`, `meteor` (with Java), `rouge_l`, `cider`, each times 100 |
    | `CausalLM` | texts | `loss` (nats) and `perplexity` per token |
    | `MaskedLM` | texts | `loss`, `accuracy` of masked tokens, `next_sentence_accuracy` if the model has this head |
    | `PermutationLM` | texts | `loss`, `accuracy` of predicted tokens |
    | `TextClassifier` | (text, label) | `accuracy` (0 to 1), `correct`, `total` |
    | `TextTagger` | sentences of (word, tag) | `accuracy` (0 to 1), `correct`, `total`; for tags such as `B-PER` also |
    | | | `f1`, `precision`, `recall` of entities, and `by_type`: type -> `EntityMetrics` |

    Args:
        model: a task of this library, or an exported model. An exported `CausalLM` reads a text in one window, so its
            texts must be shorter than `max_length`. An exported `MaskedLM` or `PermutationLM` has no metrics, because
            it does not return the probabilities of the true tokens.
        examples: as in the table; `keras_attention.data` reads them from files.
        strategy: search strategy of a `Translator` or `Captioner`; greedy by default.
        batch_size: number of texts or images in a batch; the metrics do not depend on it.
        **options: for a `Translator`, `ignore_case=True`, which ignores case in BLEU and chrF, and `bleu_tokenizer`,
            the name of sacreBLEU's tokenizer; by default it is chosen by the script of the references.

    Returns:
        dict of the metrics and `signature`, a string that describes how they were computed, as in sacreBLEU; for a
        `Translator`, `bleu_signature` and `chrf_signature`. Do not compare metrics with different signatures.

    Raises:
        TypeError: `model` is neither a task nor an export, `examples` are not those of its task, or `strategy` is
            passed for a model that does not search or for an export.
        ValueError: there are no examples, or none of their labels is a label of the model.
        ImportError: pycocoevalcap is not installed and the model is a `Captioner`.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, tokenizer_kind="characters", units=12)
        >>> metrics = ka.evaluate(model, pairs)
        >>> metrics["bleu"] <= 100, metrics["bleu_signature"].split("|")[0]
        (True, 'nrefs:1')
    """
    task = task_of(model)
    task.data.check(examples)
    if not len(examples):
        raise ValueError("There are no examples to evaluate on; expected at least one.")
    exported = not isinstance(model, task)
    if task.spec.metric == "loss":
        if exported and task.target_reader is None:
            raise TypeError(
                f"An exported {task.__name__} has no loss: it does not return the probabilities of the true tokens, "
                f"only what `{task.spec.predict_method}` does. Evaluate the .keras file that it was made from."
            )
    else:
        options["batch_size"] = batch_size
    if strategy is not None:
        if exported or not task.data.text_metrics:
            reason = "an export has a fixed strategy" if exported else f"a {task.__name__} does not search"
            raise TypeError(f"`strategy` is {strategy!r}, but {reason}; leave it out.")
        options["strategy"] = strategy
    return task.data.metrics(model, examples, **options)


def task_of(model: Any) -> type:
    """Return the task class of a model or of an exported model.

    Raises:
        TypeError: the object is neither.
    """
    from keras_attention.models import TASKS, Task  # imports Keras

    if isinstance(model, Task):
        return type(model)
    name, method = getattr(model, "task", None), getattr(model, "predict_method", None)
    tasks = [task for task in TASKS if task.spec.predict_method == method]
    task = next((task for task in tasks if task.__name__ == name), tasks[0] if tasks else None)
    if task is None:
        names = one_of(task.__name__ for task in TASKS)
        raise TypeError(
            f"`model` is a {type(model).__name__}; expected {names}, or an export. Load it with `keras_attention.load`."
        )
    return task
