"""What every task shares: made from a preset, kept whole in one `.keras` file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention import config as configs
from keras_attention.generation import Program
from keras_attention.presets import ENCODER_TASKS, ENCODER_USES, find_preset


class Task(keras.Model):
    """A functional Keras model that owns its sizes and its tokenizers.

    A subclass builds its graph in `__init__` and names its tokenizers in `tokenizer_names`.
    `model.save("m.keras")` keeps all of it. It does not keep how a model was trained: a model that is read computes
    under the dtype policy of its process, and all of its weights learn, until they are frozen again.

    Args:
        config: the sizes.
        tokenizers: name -> KerasHub tokenizer, one for each of `tokenizer_names`.
        inputs: the graph's inputs, a dict of Keras tensors.
        outputs: the graph's output.
    """

    tokenizer_names: tuple[str, ...] = ("tokenizer",)

    def __init__(self, config, tokenizers: dict[str, Any], inputs, outputs, **kwargs) -> None:
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.config, self.quantization = config, None
        for name, tokenizer in tokenizers.items():
            setattr(self, name, tokenizer)
            if tokenizer is not None:  # a layer without weights: unbuilt, Keras would run each prediction twice on JAX
                tokenizer.built = True

    @classmethod
    def task_name(cls) -> str:
        """Return the name of the class of this library that this one is, or extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("keras_attention."))

    @classmethod
    def from_preset(cls, name: str, **parts: Any):
        """Make a model of this task with the sizes of a preset and new weights.

        Args:
            name: a name of `keras_attention.presets()`.
            **parts: the tokenizers (and, for classifiers and taggers, `labels`), and any size of
                the preset that should differ, such as `units=512`.

        Raises:
            ValueError: an unknown preset (the nearest names are suggested) or an unknown size.
        """
        config = find_preset(name, cls.task_name())
        tokenizers = {key: parts.pop(key) for key in cls.tokenizer_names if key in parts}
        return cls(cls._resized(config, parts), **tokenizers)

    @classmethod
    def from_model(cls, other: Task, **sizes: Any):
        """Make a model that goes on from another one of its task, with sizes that differ.

        What both have keeps its weights. What the other lacks begins anew: the rows that more learned positions or a
        captioner's `coordinate_features` add to a matrix, an output matrix of its own (`tie_weights=False`), hard
        attention's baseline.

        Args:
            other: a model of this task. That weights of its were frozen is not taken over.
            **sizes: any size that should differ, such as `dropout=0.0`.

        Raises:
            TypeError: `other` is a model of another task.
            ValueError: an unknown size; one with which weights would be lost or would not fit; or weights of another
                kind: with LoRA, or quantised.

        Example:
            >>> import keras_attention as ka
            >>> sizes = {"vocabulary_size": 7, "width": 6, "num_heads": 3, "num_layers": 1, "intermediate_dim": 5}
            >>> model = ka.CausalLM.from_preset("gpt2_small", max_length=11, **sizes)
            >>> longer = ka.CausalLM.from_model(model, max_length=13)
            >>> bool((longer.embedding.get_weights()[0] == model.embedding.get_weights()[0]).all())
            True
        """
        if not isinstance(other, Task) or other.task_name() != cls.task_name():
            raise TypeError(f"`other` is a {type(other).__name__}; expected a {cls.task_name()}.")
        _check_plain(other)
        config = cls._resized(other.config, sizes)
        model = cls(config, **{name: getattr(other, name) for name in cls.tokenizer_names})
        _take_weights(model, other, sizes)
        return model

    @classmethod
    def _resized(cls, config, sizes: dict[str, Any]):
        fields = configs.fields_for(config, cls.task_name())
        unknown = sorted(set(sizes) - fields)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no {', '.join(unknown)}. Tokenizers: {', '.join(cls.tokenizer_names)}; "
                f"sizes: {', '.join(sorted(fields))}."
            )
        return dataclasses.replace(config, **sizes)

    @classmethod
    def from_encoder(cls, other: Task, **parts: Any):
        """Make a model of this task around the encoder of another; what stands behind the encoder is new.

        Args:
            other: a model with an encoder of one text, such as a `MaskedLM`.
            **parts: `labels`, and what may differ: `dropout`, `attention_dropout`.

        Raises:
            TypeError: `other` has no such encoder, or this task none to put it into.
            ValueError: a size that cannot change, or an encoder of other weights: with LoRA, or quantised.
        """
        if cls.task_name() not in (*ENCODER_TASKS, *ENCODER_USES):
            raise TypeError(f"A {cls.__name__} has no encoder of one text; see {', '.join(ENCODER_USES)}.")
        reads_one_text = hasattr(other, "encoder") and "token_ids" in other.input
        if not reads_one_text or not isinstance(other.config, configs.TransformerConfig):
            raise TypeError(
                f"This {type(other).__name__} has no Transformer encoder that a {cls.__name__} could be built around."
            )
        unknown = sorted(set(parts) - {"labels", "dropout", "attention_dropout"})
        if unknown:
            raise ValueError(f"{', '.join(unknown)} cannot change: the encoder is that of a trained model.")
        _check_plain(other)
        config = dataclasses.replace(other.config, next_sentence=False, **parts)
        model = cls(config, tokenizer=other.tokenizer)
        for name in ("embedding", "encoder", "pooler"):
            old, new = getattr(other, name, None), getattr(model, name, None)
            if old is not None and new is not None:
                new.set_weights(old.get_weights())
        return model

    @property
    def has_lora(self) -> bool:
        """Whether projections carry LoRA's pairs, which a file holds merged."""
        return any(getattr(layer, "lora_enabled", False) for layer in self._flatten_layers())

    def quantize(self, mode: str | None = None, config: Any = None, *, filters: None = None) -> None:
        """Quantise all projections and embeddings as `keras.Model.quantize` does, such as to `"int8"`.

        Args:
            mode: `"int8"` or another of Keras' modes.
            config: one of Keras' quantization configs, for more than the mode.
            filters: None: which layers is not a choice, as a file could not keep it.

        Raises:
            ValueError: there are filters, or LoRA matrices.
        """
        if filters is not None:
            raise ValueError("`filters` could not be kept in a file; expected none: all projections and embeddings.")
        kinds = (keras.layers.Dense, keras.layers.Embedding)  # not the tokenizers, nor norms
        if self.has_lora:
            raise ValueError(
                "The model has LoRA matrices. Save it, load it, and quantise that: a file holds their sum."
            )
        super().quantize(mode, config, filters=lambda layer: isinstance(layer, kinds))
        self.quantization = config

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        tokenizers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.tokenizer_names}
        sizes = {"class": type(self.config).__name__, **dataclasses.asdict(self.config)}
        quantization = keras.saving.serialize_keras_object(self.quantization)
        return {"config": sizes, "name": self.name, "quantization": quantization, **tokenizers}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None):
        """Make what `get_config` described."""
        import keras_hub  # noqa: F401  (registers the tokenizers' classes)

        config = dict(config)
        sizes = dict(config.pop("config"))
        if "labels" in sizes:
            sizes["labels"] = tuple(sizes["labels"])
        tokenizers = {
            name: keras.saving.deserialize_keras_object(config.pop(name, None), custom_objects)
            for name in cls.tokenizer_names
        }
        quantization = keras.saving.deserialize_keras_object(config.pop("quantization", None), custom_objects)
        model = cls(getattr(configs, sizes.pop("class"))(**sizes), **tokenizers, **config)
        if quantization is not None:
            model.quantize(config=quantization)  # its weights, which come next, are those of the quantised model
        return model

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers that the network needs, by their names; None for one that it was made without."""
        return {name: getattr(self, name) for name in self.tokenizer_names}

    @property
    def template(self) -> str:
        """What stands around a text; see `TransformerConfig`."""
        return getattr(self.config, "template", "end")

    def backbone(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose parameters a paper counts: all, but for the heads of an encoder."""
        return (self,)


def with_vocabulary(config, field: str, tokenizer: Any, name: str = "tokenizer"):
    """Return `config` with its vocabulary size taken from a tokenizer, unless it is known already.

    Without a tokenizer a model whose vocabulary size is known works on ids; it cannot answer strings.

    Raises:
        TypeError: there is neither a tokenizer nor a size, or the tokenizer is none.
        ValueError: the size that is known is too small for the tokenizer.
    """
    if tokenizer is None and getattr(config, field):
        return config
    if not hasattr(tokenizer, "detokenize"):
        raise TypeError(
            f"`{name}` is {type(tokenizer).__name__}; expected a KerasHub tokenizer. "
            "`keras_attention.train_tokenizer(texts)` makes one."
        )
    size = getattr(config, field)
    if not size:
        return dataclasses.replace(config, **{field: tokenizer.vocabulary_size()})
    try:
        pieces = tokenizer.vocabulary_size()
    except ValueError:  # it is being loaded, and gets its vocabulary later
        return config
    if size < pieces:
        raise ValueError(f"`{field}` is {size}, but the tokenizer has {pieces} pieces; leave it out.")
    return config


def without_attention(config, task: str):
    """Return `config`, if it is not that of a recurrent network with attention.

    Raises:
        ValueError: it is.
    """
    if getattr(config, "attention", None) is not None:
        raise ValueError(f"`attention` is {config.attention!r}, but a recurrent {task} has none; expected None.")
    return config


def text_inputs(config) -> dict[str, keras.KerasTensor]:
    """Return the inputs of a network over one text: ids, padding, and segments and characters where it has them."""
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
    }
    if getattr(config, "num_segments", 0):
        inputs["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
    if getattr(config, "character_vocabulary_size", 0):
        inputs["character_ids"] = keras.Input((None, None), dtype="int32", name="character_ids")
        inputs["character_mask"] = keras.Input((None, None), dtype="bool", name="character_mask")
    return inputs


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are two or more different names."""
    names = not isinstance(labels, str) and all(isinstance(label, str) for label in labels)
    if not names or len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"`labels` is {labels!r}; expected at least two different names, each a string.")


def _check_plain(other: Task) -> None:
    if other.quantization or other.has_lora:
        raise ValueError(
            "The model is quantised or has LoRA matrices. A file holds the sum of LoRA's: save the model, load it, "
            "and take that. Quantise what is made of it."
        )


def _take_weights(model: Task, other: Task, changed: Iterable[str]) -> None:
    """Give a model what another has, by addresses; longer matrices keep their last rows, and what is new stays new."""
    old, new = _addresses(other), _addresses(model)
    lost = sorted(old.keys() - new.keys())
    if lost:
        raise ValueError(f"{', '.join(changed)} cannot change: {', '.join(lost[:8])} would be lost.")
    for address, weight in new.items():
        if address not in old:
            continue
        array, begin = np.array(old[address]), np.array(weight)
        if array.shape[1:] != begin.shape[1:] or array.shape[:1] > begin.shape[:1]:
            raise ValueError(
                f"{', '.join(changed)} cannot change: {weight.path} would be {begin.shape} in place of {array.shape}."
            )
        begin[tuple(map(slice, array.shape[:1]))] = array
        weight.assign(begin)


def _addresses(model: Task) -> dict[str, Any]:
    """Name a model's weights by their paths, and a network that sees by order: Keras numbers some layers anew."""
    seeing = model.vision.weights if hasattr(model, "vision") else []
    places = {id(weight): f"vision/{i}" for i, weight in enumerate(seeing)}
    return {places.get(id(weight), weight.path): weight for weight in model.weights}


class Forward:
    """What a model shows of one pass over its inputs: its output, and whatever it sees beside it.

    Args:
        model: owns the weights.
        tensors: inputs -> dict of tensors; also for use inside another graph.
    """

    def __init__(self, model: keras.Model, tensors: Callable[[dict], dict]) -> None:
        self.model, self.tensors = model, tensors
        self.program: Program | None = None
        self.weights: tuple[int, ...] = ()

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        weights = tuple(map(id, self.model.weights))
        if weights != self.weights:  # the first time, and after LoRA or quantisation
            self.program, self.weights = Program(self.model, self.tensors), weights
        return self.program.run(inputs)


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of indices, short sequences first, so that batches carry little padding.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for begin in batch_begins(len(order), batch_size):
        yield order[begin : begin + batch_size]


def batch_begins(count: int, batch_size: int) -> range:
    """Return where each batch of `count` examples begins.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; expected a positive integer.")
    return range(0, count, batch_size)


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list.

    Raises:
        TypeError: a single string, or an element that is no string.
        ValueError: a text that UTF-8 cannot hold.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"Expected a list of strings; received one {type(texts).__name__}. Wrap it: [text].")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {index} is {type(text).__name__}; expected a string.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"Text {index} cannot be written as UTF-8: {error.reason}, at {error.start}.") from None
    return texts
