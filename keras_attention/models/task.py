"""What every task shares: made from a preset, kept whole in one `.keras` file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.config import RecurrentConfig
from keras_attention.layers import AdditiveAttention, DotProductAttention
from keras_attention.presets import find_preset


class Task(keras.Model):
    """A functional Keras model that owns its sizes and its tokenizers.

    A subclass builds its graph in `__init__`, names its tokenizers in `tokenizer_names`, and its
    sizes in `config_class`. `model.save("m.keras")` keeps all of it.

    Args:
        config: the sizes.
        tokenizers: name -> KerasHub tokenizer, one for each of `tokenizer_names`.
        inputs: the graph's inputs, a dict of Keras tensors.
        outputs: the graph's output.
    """

    config_class: type[RecurrentConfig] = RecurrentConfig
    tokenizer_names: tuple[str, ...] = ("tokenizer",)

    def __init__(self, config, tokenizers: dict[str, Any], inputs, outputs, **kwargs) -> None:
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.config = config
        for name, tokenizer in tokenizers.items():
            setattr(self, name, tokenizer)

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
        config = find_preset(name, cls.__name__)
        tokenizers = {key: parts.pop(key) for key in cls.tokenizer_names if key in parts}
        fields = {field.name for field in dataclasses.fields(config)}
        unknown = sorted(set(parts) - fields)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no {', '.join(unknown)}. Tokenizers: {', '.join(cls.tokenizer_names)}; "
                f"sizes: {', '.join(sorted(fields))}."
            )
        return cls(dataclasses.replace(config, **parts), **tokenizers)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        tokenizers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.tokenizer_names}
        return {"config": dataclasses.asdict(self.config), "name": self.name, **tokenizers}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None):
        """Make what `get_config` described."""
        import keras_hub  # noqa: F401  (registers the tokenizers' classes)

        config = dict(config)
        sizes = dict(config.pop("config"))
        if "labels" in sizes:
            sizes["labels"] = tuple(sizes["labels"])
        tokenizers = {
            name: keras.saving.deserialize_keras_object(config.pop(name), custom_objects)
            for name in cls.tokenizer_names
        }
        return cls(cls.config_class(**sizes), **tokenizers, **config)


def with_vocabulary(config: RecurrentConfig, field: str, tokenizer: Any, name: str = "tokenizer"):
    """Return `config` with its vocabulary size taken from a tokenizer, unless it is known already.

    Raises:
        TypeError: the tokenizer is missing or is none.
        ValueError: the size that is known is too small for the tokenizer.
    """
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


def embedding_initializer(config: RecurrentConfig) -> keras.initializers.Initializer:
    """Embeddings of length 1 on average, so that tied logits begin of order 1."""
    return keras.initializers.RandomNormal(stddev=config.embedding_dim**-0.5)


def make_attention(config: RecurrentConfig) -> keras.layers.Layer | None:
    """Return the attention layer that `config.attention` names, or None."""
    if config.attention is None:
        return None
    if config.attention == "additive":
        return AdditiveAttention(config.units, name="attention")
    return DotProductAttention(config.units, scaled=config.attention == "scaled_dot", name="attention")


def without_attention(config: RecurrentConfig, task: str) -> RecurrentConfig:
    """Return `config` if it asks for no attention.

    Raises:
        ValueError: it asks for one.
    """
    if config.attention is not None:
        raise ValueError(f"`attention` is {config.attention!r}, but a recurrent {task} has none; expected None.")
    return config


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are two or more different labels."""
    if isinstance(labels, str) or len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"`labels` is {labels!r}; expected at least two different names.")


class Forward:
    """A graph that answers arrays: the model's own, with whatever it shows beside its output.

    Args:
        graph: a functional model over the inputs of a task, answering a dict.
    """

    def __init__(self, graph: keras.Model) -> None:
        self.graph = graph
        # XLA compiles each shape anew; TensorFlow's own graph takes any batch and length.
        graph.compile(jit_compile=keras.backend.backend() != "tensorflow")

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in self.graph.predict_on_batch(inputs).items()}


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of indices, short sequences first, so that batches carry little padding.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; expected a positive integer.")
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list.

    Raises:
        TypeError: a single string, or an element that is no string.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"Expected a list of strings; received one {type(texts).__name__}. Wrap it: [text].")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {index} is {type(text).__name__}; expected a string.")
    return texts
