"""The signatures of an exported model, from strings to strings in one TensorFlow graph.

They compute the task's `compute` and `to_row`, or a function of `models/introspection.py`. Axis 0 of each tensor is the
batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.data.batches import text_model_inputs
from keras_attention.data.text_reader import TextReader
from keras_attention.data.tokenizers import mask_id
from keras_attention.generation import Sampling, Strategy
from keras_attention.models import Task, introspection
from keras_attention.models.autoregressive import prompt_reader
from keras_attention.serving.graph_text import GraphTokenizer, is_empty, read_words
from keras_attention.serving.images import decode_images

EXAMPLES = ("we are eating bread", "")
Signature = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


class GraphTask:
    """The functions of a task in a TensorFlow graph, from strings or encoded images to strings.

    Args:
        model: the model to export.
        strategy: the search strategy; None for a task without search.
    """

    def __init__(self, model: Task, strategy: Strategy | None) -> None:
        self.model, self.strategy = model, strategy
        self.tokenizers = {name: GraphTokenizer(tokenizer) for name, tokenizer in model.tokenizers.items()}
        self.read = _READERS[model.task_name()]

    @property
    def input_specs(self) -> list[tf.TensorSpec]:
        """The inputs of `serving_default`: texts or images and, if the strategy is `Sampling`, a seed for each."""
        spec = strings_spec("image_bytes" if "images" in self.model.input else "text")
        seed = tf.TensorSpec((None,), tf.int32, name="seed")
        return [spec, seed] if isinstance(self.strategy, Sampling) else [spec]

    def examples(self) -> list[str | bytes]:
        """Return inputs for a warm-up request."""
        return [example_image(self.model.config.image_size)] if "images" in self.model.input else list(EXAMPLES)

    def module(self, attention: bool = False) -> tf.Module:
        """Return a module with everything that is saved: `functions`, and the weights and tokenizers that they use.

        The weights are TensorFlow variables, because for Keras variables a C++ loader would restore copies that no
        function uses. The states of the optimizer and of dropout are not saved.
        """
        module = tf.Module()
        module.weights = [variable.value for variable in self.model.weights]
        module.tokenizers = [tokenizer.in_graph for tokenizer in self.tokenizers.values()]
        module.functions = {name: _compile(*signature) for name, signature in self.signatures(attention).items()}
        return module

    def signatures(self, attention: bool) -> dict[str, Signature]:
        """Return the functions and their inputs by name: the task's verb; `score`, `embed`, `attention` if possible."""
        model, text = self.model, strings_spec("text")
        signatures: dict[str, Signature] = {"serving_default": (self.verb, self.input_specs)}
        if introspection.gives_scores(model):
            target = {"Translator": "target", "Captioner": "caption"}.get(model.task_name())
            specs = [self.input_specs[0], strings_spec(target)] if target else [text]
            signatures["score"] = (self.score, specs)
        if introspection.has_encoder(model):
            signatures["embed"] = (self.embed, [text])
        if attention and introspection.has_maps(model):
            signatures["attention"] = (self.attention, [text])
        return signatures

    def verb(self, strings: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the outputs of the task's verb; see `Task.to_row`."""
        model, options = self.model, {} if self.strategy is None else {"strategy": self.strategy}
        outputs, inputs = self.read(model, self.tokenizers, strings)
        if options:
            inputs["seeds"] = tf.zeros(tf.shape(strings)[:1], tf.int32) if seed is None else seed
        computed = model.compute(model.prepare(inputs, **options), **options)
        return model.to_row(outputs, inputs, computed, self.tokenizers)

    def score(self, strings: tf.Tensor, target: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Text or image, and target (B,) -> `score` (B,), `piece_scores` and pieces (B, T); for images also `valid`.

        The score includes the end token.
        """
        model, is_translator = self.model, "source_tokenizer" in self.tokenizers
        tokenizer = self.tokenizers["target_tokenizer" if is_translator else "tokenizer"]
        reader = TextReader.from_template(tokenizer.tokenizer, "end", model.config.max_length)
        labels, mask = tokenizer.read(strings if target is None else target, reader)
        shifted, row = tokenizer.shift_right(labels), {}
        if target is None:
            inputs = {"token_ids": shifted, "padding_mask": mask}
        else:
            _, inputs = self.read(model, self.tokenizers, strings)
            inputs.pop("is_empty", None)
            row = {"valid": inputs.pop("valid")} if "valid" in inputs else {}
            inputs["target_ids"] = shifted
        counted = mask & row["valid"][:, None] if row else mask
        row |= introspection.score_tensors(model, {"inputs": inputs, "labels": labels, "mask": counted})
        return {**row, "target_pieces" if is_translator else "pieces": tokenizer.pieces(labels, mask)}

    def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Text (B,) -> `embedding` (B, M), `piece_embeddings` (B, S, M), `pieces` (B, S)."""
        return self._inspect(introspection.embedding_tensors, text)

    def attention(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Text (B,) -> `attention` (B, layers, H, S, S), `pieces` (B, S)."""
        return self._inspect(introspection.attention_tensors, text)

    def _inspect(self, function: Callable[[Any, dict], dict], text: tf.Tensor) -> dict[str, tf.Tensor]:
        model, tokenizer = self.model, self.tokenizers["tokenizer"]
        if "character_ids" in model.input:
            _, arrays = _read_words(model, self.tokenizers, text)
            arrays.pop("word_starts")
        else:
            arrays = text_model_inputs(model.config, *tokenizer.read(text, introspection.reader_of(model)))
        pieces = tokenizer.pieces(arrays["token_ids"], arrays["padding_mask"])
        return {**function(model, arrays), "pieces": pieces}


def graph_task(model: Task, strategy: Strategy | None) -> GraphTask:
    """Return the `GraphTask` of a model; the default strategy is that of its verb.

    Raises:
        TypeError: the model is not a task of this library.
    """
    if not isinstance(model, Task):
        raise TypeError(f"{type(model).__name__} cannot be exported; expected a model of this library.")
    if model.default_strategy is None:
        return GraphTask(model, None)
    return GraphTask(model, strategy or model.default_strategy())


def strings_spec(name: str) -> tf.TensorSpec:
    """Return the `TensorSpec` of a batch of strings."""
    return tf.TensorSpec((None,), tf.string, name=name)


def _read_source(model: Any, tokenizers: dict[str, GraphTokenizer], text: tf.Tensor) -> tuple[None, dict]:
    ids, mask = tokenizers["source_tokenizer"].read(text, model.source_reader)
    return None, {"source_ids": ids, "source_mask": mask, "is_empty": is_empty(text)}


def _read_image(model: Any, tokenizers: dict[str, GraphTokenizer], image_bytes: tf.Tensor) -> tuple[None, dict]:
    images, valid = decode_images(image_bytes, model.config.image_size)
    return None, {"images": images, "valid": valid}


def _read_prompt(model: Any, tokenizers: dict[str, GraphTokenizer], text: tf.Tensor) -> tuple[tf.Tensor, dict]:
    ids, mask = tokenizers["tokenizer"].read(text, prompt_reader(model))
    return text, {"token_ids": ids, "padding_mask": mask}


def _read_masked(model: Any, tokenizers: dict[str, GraphTokenizer], text: tf.Tensor) -> tuple[tf.Tensor, dict]:
    ids, mask = tokenizers["tokenizer"].read(text, model.reader)
    is_mask = tf.equal(ids, mask_id(model.tokenizer))
    positions = tf.zeros_like(ids) + tf.range(tf.shape(ids)[1])
    positions = tf.ragged.boolean_mask(positions, is_mask).to_tensor(-1)
    padding = tf.cast(tf.equal(tf.shape(positions)[1], 0), tf.int32)
    positions = tf.pad(positions, [(0, 0), (0, padding)], constant_values=-1)
    return text, {**text_model_inputs(model.config, ids, mask), "mask_positions": positions}


def _read_text(model: Any, tokenizers: dict[str, GraphTokenizer], text: tf.Tensor) -> tuple[None, dict]:
    ids, mask = tokenizers["tokenizer"].read(text, model.reader)
    return None, {**text_model_inputs(model.config, ids, mask), "is_empty": is_empty(text)}


def _read_words(model: Any, tokenizers: dict[str, GraphTokenizer], text: tf.Tensor) -> tuple[tf.Tensor, dict]:
    characters = tokenizers.get("character_tokenizer")
    words, arrays = read_words(text, model.word_reader, tokenizers["tokenizer"], characters)
    return words, {**arrays, **text_model_inputs(model.config, arrays["token_ids"], arrays["padding_mask"])}


_READERS = {  # task: (model, tokenizers, strings) -> (strings for `to_row`, inputs of `prepare`)
    "Translator": _read_source,
    "Captioner": _read_image,
    "CausalLM": _read_prompt,
    "PermutationLM": _read_prompt,
    "MaskedLM": _read_masked,
    "TextClassifier": _read_text,
    "TextTagger": _read_words,
}


def example_image(size: int) -> bytes:
    """Return the bytes of a PNG of size x size pixels, a grey gradient."""
    line = tf.cast(tf.linspace(0.0, 255.0, size), tf.uint8)
    return tf.io.encode_png(tf.tile(line[None, :, None], (size, 1, 3))).numpy()


def _compile(function: Callable, specs: list[tf.TensorSpec]) -> Callable:
    """Compile a function to a graph. It adds a row to an empty batch, on which some layers fail."""

    def signature(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.shape(inputs[0])[0]
        num_added = tf.cast(tf.equal(size, 0), tf.int32)
        filled = [tf.concat([x, tf.zeros([num_added], x.dtype)], 0) for x in inputs]
        return {name: value[:size] for name, value in function(*filled).items()}

    return tf.function(signature, specs, autograph=False)
