"""The methods `compile`, `fit`, `evaluate` and `predict` of Keras, with the defaults of a task and for raw examples."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np

from keras_attention.argument_checks import require
from keras_attention.config import SINGLE_LABEL
from keras_attention.data.batching.example_weights import ClassWeight, WeightedBatches
from keras_attention.data.lines import counted
from keras_attention.keras_support import keras_patches
from keras_attention.keras_support.processes import check_process
from keras_attention.models.task import token_loss
from keras_attention.training import compiling


def compile(model: Any, optimizer: Any, loss: Any, weighted_metrics: Any, r_drop: float, **options: Any) -> None:
    """Configure training; see `keras.Model.compile`. By default, it uses the loss and metrics of the task.

    Args:
        optimizer: `"auto"` for Adam with a learning rate of 0.001 and clipped gradients.
        loss: `"auto"` for `MaskedCrossEntropy` per output.
        weighted_metrics: `"auto"` for `MaskedAccuracy` per output, but only if `loss` is also `"auto"`.
        r_drop: for a classifier or tagger, weight of R-Drop: an update computes each example twice, with different
            dropout, and adds the divergence of both predictions to the loss; 0 for off.
        **options: the other arguments of `keras.Model.compile`. `metrics` means the same as `weighted_metrics`, so that
            padding, whose weight is 0, is not counted. `run_eagerly=True` also runs the prediction methods eagerly, for
            debugging.

    Raises:
        ValueError: a loss expects probabilities, but the outputs of the network are logits; or `r_drop` is negative, or
            not 0 for a model that does not predict one label for each text or word.

    Reference: Liang et al., 2021, https://arxiv.org/abs/2106.14448 (R-Drop).
    """
    require(r_drop >= 0, "r_drop", r_drop, "a number, 0 or more")
    if r_drop and (not model.labels or model.config.problem_type != SINGLE_LABEL):
        raise ValueError(
            f"`r_drop` is {r_drop}; expected 0 for this {model.spec.class_name}. Only a classifier or tagger with one "
            "label for each text or word has R-Drop. Leave it out."
        )
    for loss_of_output in keras.tree.flatten(loss):
        compiling.check_takes_logits(loss_of_output, model.spec.class_name)
    metrics = options.pop("metrics", None)
    if metrics and weighted_metrics and weighted_metrics != "auto":
        raise ValueError(
            "`metrics` and `weighted_metrics` are the same for this model, and both are set; pass one of them."
        )
    if metrics or (metrics is not None and weighted_metrics == "auto"):
        weighted_metrics = metrics
    if weighted_metrics == "auto":
        weighted_metrics = compiling.metrics(model) if loss == "auto" else None
    loss = compiling.losses(model) if loss == "auto" else loss
    optimizer = compiling.adam() if optimizer == "auto" else optimizer
    model.r_drop = r_drop
    keras.Model.compile(model, optimizer, loss, weighted_metrics=weighted_metrics, **options)
    token_loss.track_token_loss(model, loss, options.get("loss_weights"))


def fit(
    model: Any,
    x: Any,
    y: Any,
    *args: Any,
    validation_data: Any,
    class_weight: ClassWeight | None,
    sample_weight: Any,
    **options: Any,
):
    """Train on raw examples or on batches; see `keras.Model.fit`.

    Args:
        x: raw examples, such as pairs of strings, as a list or a tuple; or batches, from `make_batches` or
            `keras_attention.data`. A translator or classifier also accepts a list or an array of texts, with `y`.
        y: the translations or the labels of the texts; None for examples and batches; see `keras.Model.fit`.
        *args: further positional arguments of `keras.Model.fit`.
        validation_data: raw examples or batches; with `y`, a pair (texts, translations or labels).
        class_weight: for a classifier or tagger, name or id of a class -> its weight in the loss and metrics; or
            `"balanced"`, which gives all classes the same total weight.
        sample_weight: one weight for each raw example, or each example of batches from `keras_attention.data`.
        **options: the other arguments of `keras.Model.fit`, such as `epochs`.

    Raises:
        ValueError: there are no examples, `batch_size` or `validation_split` is set for raw examples, or weights do not
            fit.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> tokenizer = ka.data.train_tokenizer([text for pair in pairs for text in pair], "characters")
        >>> model = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> model.compile()
        >>> sorted(model.fit(pairs, validation_data=pairs, verbose=0).history)
        ['accuracy', 'loss', 'val_accuracy', 'val_loss']
    """
    check_process()
    texts_and_labels = y is not None and isinstance(validation_data, (list, tuple))
    valid = raw_examples(model, *(validation_data[:2] if texts_and_labels else (validation_data,)))
    if (examples := raw_examples(model, x, y)) is not None:
        if args or options.get("batch_size") is not None:
            raise ValueError(
                "`batch_size` does not apply to raw examples, because their batches are limited by tokens. Pass "
                "`model.make_batches(examples, max_tokens=...)` to set the limit."
            )
        if options.get("validation_split"):
            raise ValueError(
                "`validation_split` does not apply to raw examples. Use: train, valid = "
                f"ka.data.split_examples(examples, {options['validation_split']}); fit(train, validation_data=valid)"
            )
        x, y = model.make_batches(examples), None
    if valid is not None:
        validation_data = model.make_batches(valid, shuffle=False)
    weights = {"class_weight": class_weight, "sample_weight": sample_weight}
    if isinstance(x, keras.utils.PyDataset) and not (class_weight is None and sample_weight is None):
        x, weights = WeightedBatches(x, labels=model.labels, **weights), {}
    return keras.Model.fit(model, x, y, *args, validation_data=validation_data, **weights, **options)


def make_train_function(model: Any, force: bool = False) -> Any:
    """Make the compiled training step. The optimizer is built first: a step that creates variables is traced twice."""
    if model.optimizer is not None and not model.optimizer.built and keras_patches.distribution_strategy(model) is None:
        model.optimizer.build(model.trainable_variables)
    return keras.Model.make_train_function(model, force)


def evaluate(model: Any, x: Any, y: Any, *args: Any, **options: Any) -> Any:
    """Compute the loss and the metrics on raw examples or on batches; see `keras.Model.evaluate`.

    `keras_attention.evaluate` computes the metrics of generated texts, such as BLEU.

    Args:
        x: as in `fit`.
        y: as in `fit`.
        *args: further positional arguments of `keras.Model.evaluate`.
        **options: the other arguments of `keras.Model.evaluate`, such as `return_dict`.

    Example:
        >>> pairs = [("fine", "good"), ("dull", "bad")]
        >>> model = ka.TextClassifier.from_examples(pairs, tokenizer_kind="characters", units=8)
        >>> model.compile()
        >>> sorted(model.evaluate(["so fine"], ["good"], verbose=0, return_dict=True))
        ['accuracy', 'loss']
    """
    check_process()
    if (examples := raw_examples(model, x, y)) is not None:
        x, y = model.make_batches(examples, shuffle=False), None
    return keras.Model.evaluate(model, x, y, *args, **options)


def predict(model: Any, x: Any, batch_size: int | None, *args: Any, **options: Any) -> Any:
    """Return the outputs for texts or images, or the network's outputs for batches; see `keras.Model.predict`.

    Args:
        x: texts, or images of a captioner, as a list, a tuple or an array; or batches.
        batch_size: number of texts or images in a batch.
        *args: further positional arguments of `keras.Model.predict`.
        **options: the other arguments of `keras.Model.predict`, for batches.

    Returns:
        for texts and images, what the task's `predict_method` returns, a list of `output_class`; else arrays.

    Example:
        >>> pairs = [("fine", "good"), ("dull", "bad")]
        >>> model = ka.TextClassifier.from_examples(pairs, tokenizer_kind="characters", units=8)
        >>> model.predict(["so fine"])[0].label in ("good", "bad")
        True
    """
    check_process()
    if (texts := raw_examples(model, x)) is not None:
        return getattr(model, model.spec.predict_method)(
            texts, **({} if batch_size is None else {"batch_size": batch_size})
        )
    return keras.Model.predict(model, x, batch_size, *args, **options)


def are_raw(data: Any) -> bool:
    """Return whether data for `fit` are raw examples: a list or tuple without arrays, tensors or dicts; or a path."""
    if isinstance(data, (str, os.PathLike)):  # an error later, which names the function that reads the file
        return True
    if not isinstance(data, (list, tuple)):
        return False
    arrays = (dict, np.ndarray)
    return not any(isinstance(part, arrays) or keras.ops.is_tensor(part) for part in data)


def raw_examples(model: Any, x: Any, y: Any = None) -> list | tuple | None:
    """Return the raw examples that `fit` and `evaluate` got, or None for batches and arrays of numbers.

    Args:
        model: a task.
        x: examples; or, with `y`, texts. An array or a pandas column of strings is like a list.
        y: the translation or the label of each text; None if `x` has whole examples.

    Raises:
        ValueError: `x` and `y` have different lengths.
        TypeError: the examples of the task are not pairs of strings, so that `y` must be None.
    """
    x, y = _as_list(x), _as_list(y)
    if not are_raw(x):
        return None
    if y is None:
        return x
    if not model.data.has_pairs:
        raise TypeError(f"`y` is not None; a {model.spec.class_name} expects whole examples in `x`.")
    if len(x) != len(y):
        raise ValueError(f"`x` has {counted(len(x), 'text')} and `y` has {len(y)}; expected the same number.")
    return list(zip(x, y, strict=True))


def _as_list(data: Any) -> Any:
    """Return an array of strings as a list, and other data unchanged."""
    kind = getattr(getattr(data, "dtype", None), "kind", None)
    return data.tolist() if kind in ("O", "U") else data
