"""A model to `<directory>/<version>/`, written beside and renamed into place."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Sequence

import keras

from keras_attention.generation import Strategy
from keras_attention.models import Task
from keras_attention.models.introspection import has_maps


def export(
    model: Task,
    directory: str | pathlib.Path,
    version: int = 1,
    strategy: Strategy | None = None,
    examples: Sequence[str | bytes] | None = None,
    attention: bool = False,
) -> pathlib.Path:
    """Write a SavedModel that takes raw text or pictures and answers with text, score and attention.

    The signature `serving_default` is the task's verb:

    - `Translator`: text (B,), with sampling also seed (B,) -> text, score (B,), alignment (B, T, S),
      source_pieces (B, S), target_pieces (B, T);
    - `Captioner`: image_bytes (B,), with sampling also seed (B,) -> caption, score, valid (B,), pieces (B, T),
      attention (B, T, rows, columns);
    - `CausalLM`: text (B,), with sampling also seed (B,) -> text, score (B,);
    - `TextClassifier`: text (B,) -> label, score (B,), probabilities (B, classes), pieces and
      attention (B, S);
    - `TextTagger`: text (B,) -> words, tags, scores (B, W);
    - `MaskedLM`: text (B,) -> text, candidates and candidate_scores (B, G, 5) for up to G gaps.

    Beside it a language model, a translator and a captioner have `score`, and an encoder `embed`; see docs/serving.md.

    Decoding pictures, tokenising, search and detokenising are in the graph, which has no XLA and no Python in it.
    The examples become warm-up requests.

    Args:
        model: what to export.
        directory: where servable versions live, as `<directory>/<version>/`.
        version: a positive integer; a server takes the highest.
        strategy: how the served model writes; `Greedy()` or, for a language model, `Sampling()`
            by default.
        examples: texts, or encoded pictures, of the warm-up request; some of our own when absent, empty for no warm-up.
        attention: add the signature `attention`, the maps of every block and head, to a model with
            self-attention over one text.

    Returns:
        the path of the version.

    Raises:
        FileExistsError: the version exists.
        ValueError: the version is not positive, or there are no attention maps to add.
        RuntimeError: Keras does not run on TensorFlow.
        TypeError: `model` is no model of this library.

    Example:
        >>> tokenizer = ka.train_tokenizer(["we eat bread", "comemos pan"], "characters")
        >>> model = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer)
        >>> ka.export(model, "serving/translator").name
        '1'
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras runs on {keras.backend.backend()}; an export needs TensorFlow. Save the model with "
            "model.save('model.keras') and run: KERAS_BACKEND=tensorflow keras-attention export model.keras DIRECTORY"
        )
    if attention and not has_maps(model):
        raise ValueError(f"This {type(model).__name__} has no self-attention over one text whose maps could be served.")
    if version < 1:
        raise ValueError(f"`version` is {version}; expected a positive integer.")
    directory = pathlib.Path(directory)
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(
            f"{target} exists and is not overwritten. Choose another version, such as {_next(directory)}."
        )
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".partial-{version}-{os.getpid()}"
    try:
        _write(model, partial, strategy, examples, attention)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _next(directory: pathlib.Path) -> int:
    return 1 + max((int(path.name) for path in directory.iterdir() if path.name.isdigit()), default=0)


def _write(
    model: Task, path: pathlib.Path, strategy: Strategy | None, examples: Sequence[str | bytes] | None, attention: bool
) -> None:
    import tensorflow as tf

    from keras_attention.serving.signatures import served
    from keras_attention.serving.warmup import write_warmup

    task = served(model, strategy)
    module = task.module(attention)
    tf.saved_model.save(module, str(path), signatures=module.functions)
    examples = task.examples() if examples is None else examples
    if not len(examples):
        return
    inputs = {task.given.name: tf.constant(list(examples))}
    if len(task.input_specs()) > 1:
        inputs["seed"] = tf.range(len(examples))
    write_warmup(path, inputs)
