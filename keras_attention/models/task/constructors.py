"""The constructors of `Task`: from a preset, from examples, from another model, or from its encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import one_of
from keras_attention.config import SINGLE_LABEL, RecurrentConfig
from keras_attention.data_size import DataSize
from keras_attention.defaults import default_tokenizer_kind, network_defaults
from keras_attention.presets import ENCODER_TASKS, ENCODER_USES, check_fields, find_preset

# Config fields whose values `from_encoder` can change.
_CHANGEABLE = {"labels", "pooling", "dropout", "attention_dropout"}
_MAX_UNLABELLED_WORDS = 50_000  # maximum size of a vocabulary of words that includes those of unlabelled texts


def from_preset(task_class: type, name: str, **overrides: Any):
    """Make a model of this task with the config of a preset and new weights.

    Args:
        name: a name of `keras_attention.presets()`.
        **overrides: the tokenizers; for classifiers and taggers, `labels`; and other config fields with new values,
            such as `units=512`.

    Returns:
        a model of this task.

    Raises:
        ValueError: the preset or a field is unknown; for a preset, the message suggests similar names.
    """
    config = find_preset(name, task_class.spec.class_name)
    tokenizers = {key: overrides.pop(key) for key in task_class.spec.tokenizer_names if key in overrides}
    return task_class(override_config(task_class, config, overrides), **tokenizers)


def from_examples(
    task_class: type,
    examples: Sequence,
    preset: str | None,
    tokenizer_kind: str | None,
    vocabulary_size: int | None,
    lowercase: bool,
    normalization: str,
    data_size: DataSize | None,
    unlabelled_texts: Sequence[str],
    **overrides: Any,
) -> Any:
    """Make a model with the config of a preset, new weights, and tokenizers trained on the examples.

    The vocabulary size, the dropout and, if no preset is named, the sizes of the network are computed from the size of
    the data; see `keras_attention.defaults.network_defaults`.

    Args:
        examples: training examples of the task, such as pairs of texts; see `keras_attention.data`.
        preset: a name of `keras_attention.presets()`; by default the task's `default_preset`.
        tokenizer_kind: see `train_tokenizer`. With the task's default preset, the default is the task's
            `default_tokenizer`; with another preset, it is `"sentencepiece"`.
        vocabulary_size: maximum number of tokens of each tokenizer; by default computed from the size of the data.
        lowercase: whether the tokenizers convert texts to lower case.
        normalization: `"identity"` or `"nfkc"`; see `train_tokenizer`.
        data_size: the size of the examples; None to measure it.
        unlabelled_texts: for a recurrent `TextTagger`, texts without tags, whose words are separated by white space as
            in the examples. The words are added to the vocabulary, and the initial embeddings are computed from all
            texts; see `initialize_embeddings`.
        **overrides: config fields with new values, such as `units=512`.

    Returns:
        a model of this task.

    Raises:
        TypeError: `examples` are not those of the task, or `unlabelled_texts` is not a list of strings.
        ValueError: the preset, a field or the kind is unknown, there are too few texts for the vocabulary, or the
            model cannot read `unlabelled_texts`.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> model = ka.Translator.from_examples(pairs, "rnn_attention", tokenizer_kind="characters")
        >>> model.target_tokenizer.vocabulary_size() > 10
        True
    """
    data = task_class.data
    data.check(examples)
    config = find_preset(preset or task_class.spec.default_preset, task_class.spec.class_name)
    kind = tokenizer_kind or default_tokenizer_kind(task_class, preset)
    size, only_dropout = data_size or DataSize.measure(task_class, examples), preset is not None
    overrides |= network_defaults(task_class, size, config, kind, only_dropout=only_dropout, overrides=overrides)
    derived_size = overrides.pop("vocabulary_size")
    options = {"vocabulary_size": vocabulary_size or derived_size, "lowercase": lowercase}
    if unlabelled_texts:
        _check_unlabelled(unlabelled_texts, task_class, config)
        options["unlabelled_texts"] = unlabelled_texts
        if kind == "words" and not vocabulary_size:
            options["vocabulary_size"] = _MAX_UNLABELLED_WORDS
    tokenizers = data.train_tokenizers(examples, config, overrides, kind=kind, **options, normalization=normalization)
    if labels := data.labels(examples):
        overrides.setdefault("labels", labels)
    return task_class.from_preset(preset or task_class.spec.default_preset, **tokenizers, **overrides)


def _check_unlabelled(texts: Any, task_class: type, config: Any) -> None:
    """Raise an error unless these are strings, and the network has embeddings that `initialize_embeddings` can set."""
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"`unlabelled_texts` is {texts!r:.80}; expected a list of strings.")
    if task_class.spec.predict_method != "tag" or not isinstance(config, RecurrentConfig):
        raise ValueError(
            "`unlabelled_texts` needs a recurrent TextTagger, such as the preset rnn_tagger; received a "
            f"{task_class.__name__} with a {type(config).__name__}. Train a MaskedLM or CausalLM on the texts instead, "
            "and start from it: `from_encoder` or `from_model` in Python, --init on the command line."
        )


def override_config(task_class: type, config, overrides: dict[str, Any]):
    """Return `config` with new values of some fields.

    Raises:
        ValueError: a field is unknown.
    """
    check_fields(config, task_class.spec.class_name, overrides, task_class.spec.tokenizer_names)
    return dataclasses.replace(config, **overrides)


def from_model(task_class: type, other: Any, **overrides: Any):
    """Make a model with another config and the weights of a model of the same task.

    The weights that both models have are copied. Weights, or rows of a weight, that only the new model has get initial
    values. Examples of config fields with new weights:

        `max_length`, larger than before    more positions in a learned position embedding
        `tie_weights=False`                 an output matrix
        `coordinate_features=True`          in a captioner, the rows of a kernel that multiply the coordinates
        `attention="hard"`                  in a captioner, the running mean of rewards, the baseline of REINFORCE

    Args:
        other: a model of this task.
        **overrides: config fields with new values, such as `dropout=0.0`.

    Returns:
        a model of this task; all of its weights are trainable, even if weights of `other` are frozen.

    Raises:
        TypeError: `other` is a model of another task.
        ValueError: a field is unknown; with the new config, a weight would be lost or would have another shape, except
            for additional rows; or `other` is quantized or has LoRA matrices.

    Example:
        >>> sizes = {"vocabulary_size": 7, "width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5}
        >>> model = ka.CausalLM.from_preset("gpt2_small", max_length=11, **sizes)
        >>> longer = ka.CausalLM.from_model(model, max_length=13)
        >>> bool((longer.embedding.get_weights()[0] == model.embedding.get_weights()[0]).all())
        True
    """
    check_not_quantized(other)
    config = override_config(task_class, other.config, overrides)
    model = task_class(config, **{name: getattr(other, name) for name in task_class.spec.tokenizer_names})
    copy_weights(model, other, overrides)
    model.is_pretrained = other.is_pretrained
    return model


def from_encoder(task_class: type, other: Any, **overrides: Any):
    """Make a model of this task with the encoder of another model; the layers after the encoder are new.

    Args:
        other: a model with a Transformer encoder of one text, such as a `MaskedLM`.
        **overrides: config fields with new values; only `labels`, `pooling`, `dropout` and `attention_dropout`.

    Returns:
        a model of this task.

    Raises:
        TypeError: `other` or this task has no Transformer encoder of one text.
        ValueError: a field cannot change, or `other` is quantized or has LoRA matrices.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["a fine film"], "characters")
        >>> pretrained = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> model = ka.TextClassifier.from_encoder(pretrained, labels=("bad", "good"))
        >>> model.classify(["a fine film"])[0].label in ("bad", "good")
        True

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.2.
    """
    if task_class.spec.class_name not in (*ENCODER_TASKS, *ENCODER_USES):
        raise TypeError(f"A {task_class.__name__} has no encoder of one text; expected {one_of(ENCODER_USES)}.")
    if other.encoder is None or "token_ids" not in other.input or not other.encoder.blocks:
        raise TypeError(
            f"This {type(other).__name__} has no Transformer encoder of one text; expected a model with one, such "
            "as a MaskedLM."
        )
    unknown = sorted(set(overrides) - _CHANGEABLE)
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} cannot change, because the encoder is already trained; expected only "
            f"{', '.join(sorted(_CHANGEABLE))}."
        )
    check_not_quantized(other)
    config = dataclasses.replace(other.config, next_sentence=False, problem_type=SINGLE_LABEL, **overrides)
    model = task_class(config, tokenizer=other.tokenizer)
    pairs = ((other.embedding, model.embedding), (other.encoder, model.encoder), (other.pooler, model.pooler))
    for old, new in pairs:
        if old is not None and new is not None:
            new.set_weights(old.get_weights())
    model.is_pretrained = True
    return model


def check_not_quantized(other: Any) -> None:
    """Raise ValueError if a model is quantized or has LoRA matrices."""
    if other.quantization or other.has_lora:
        raise ValueError(
            "The model is quantized or has LoRA matrices; expected float weights only. Save and load a model with "
            "LoRA, which merges the matrices into the weights. If it is quantized, use the original model, and "
            "quantize the new one."
        )


def copy_weights(model: Any, other: Any, changed: Iterable[str]) -> None:
    """Copy the weights that two models have in common; all other weights of `model` do not change.

    Weights are matched by path. If a matrix of `model` has more rows than that of `other`, its first rows are replaced.

    Args:
        model: the model that gets the weights.
        other: the model whose weights are copied.
        changed: names of the config fields that differ, for the error.

    Raises:
        ValueError: `model` does not have a weight of `other`, or the shapes do not fit.
    """
    old, new = _weights_by_path(other), _weights_by_path(model)
    lost = sorted(old.keys() - new.keys())
    if lost:
        raise ValueError(
            f"{', '.join(changed)} cannot change: the weights {', '.join(lost[:8])} would be lost. Expected values "
            "that keep all weights of the model."
        )
    for path, weight in new.items():
        if path not in old:
            continue
        array, new_array = np.array(old[path]), np.array(weight)
        if array.shape[1:] != new_array.shape[1:] or array.shape[:1] > new_array.shape[:1]:
            raise ValueError(
                f"{', '.join(changed)} cannot change: {weight.path} would have the shape {new_array.shape}; expected "
                f"{array.shape}, or more rows."
            )
        new_array[tuple(map(slice, array.shape[:1]))] = array
        weight.assign(new_array)


def _weights_by_path(model: Any) -> dict[str, Any]:
    """Return path -> weight; for an image encoder, numbers replace paths, because Keras numbers layers per network."""
    image_encoder = [] if model.image_encoder is None else model.image_encoder.weights
    names = {id(weight): f"image_encoder/{i}" for i, weight in enumerate(image_encoder)}
    return {names.get(id(weight), weight.path): weight for weight in model.weights}
