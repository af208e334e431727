"""The signatures of an exported model, from strings to strings in one TensorFlow graph.

They compute the task's `to_inputs` and `predict_arrays`, or a function of `introspection.py`. Axis 0 of
each tensor is the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.word_reader import WordReader
from keras_attention.generation import Sampling, Strategy
from keras_attention.prediction import introspection
from keras_attention.prediction.run_search import check_strategy, input_reader_for
from keras_attention.serving.graph_inputs import GraphEncodedTexts, GraphEncodedWords, encode_in_graph
from keras_attention.serving.graph_text import GraphTokenizer
from keras_attention.serving.precision import in_precision

EXAMPLES = ("we are eating bread", "")
Signature = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


class GraphTask:
    """The functions of a task in a TensorFlow graph, from strings or encoded images to strings.

    Args:
        model: the model to export.
        strategy: the search strategy; None for a task without search.
    """

    def __init__(self, model: Any, strategy: Strategy | None) -> None:
        self.model, self.strategy = model, strategy
        stop = () if strategy is None else strategy.stop
        self.tokenizers = {name: GraphTokenizer(tokenizer, stop) for name, tokenizer in model.tokenizers.items()}

    @property
    def input_specs(self) -> list[tf.TensorSpec]:
        """The inputs of `serving_default`: texts or images and, if the strategy is `Sampling`, a seed for each."""
        spec = strings_spec("image_bytes" if "images" in self.model.input else "text")
        seed = tf.TensorSpec((None,), tf.int32, name="seed")
        return [spec, seed] if isinstance(self.strategy, Sampling) else [spec]

    def examples(self) -> list[str | bytes]:
        """Return inputs for a warm-up request."""
        return [example_image(self.model.config.image_size)] if "images" in self.model.input else list(EXAMPLES)

    def module(self, attention_maps: bool = False, precision: str = "float32") -> tf.Module:
        """Return a module with everything that is saved: `functions`, and the weights and tokenizers that they use.

        The weights are TensorFlow variables, because for Keras variables a C++ loader would restore copies that no
        function uses. The states of the optimizer and of dropout are not saved.
        """
        module = tf.Module()
        with in_precision(self.model, precision) as replacements:
            module.functions = {
                name: compile_signature(*signature) for name, signature in self.signatures(attention_maps).items()
            }
        used = {id(tensor) for function in module.functions.values() for tensor in function.captured_inputs}
        variables = [*(variable.value for variable in self.model.weights), *replacements()]
        module.weights = [variable for variable in variables if id(variable.handle) in used]
        module.tokenizers = [tokenizer.tracked for tokenizer in self.tokenizers.values()]
        return module

    def signatures(self, attention_maps: bool) -> dict[str, Signature]:
        """Return the functions and their inputs by name: `serving_default` and, if possible, `score`, `embed`, ..."""
        model, text = self.model, strings_spec("text")
        signatures: dict[str, Signature] = {"serving_default": (self.predict, self.input_specs)}
        if model.spec.predict_method == "classify":
            signatures["pair"] = (self.pair, [text, strings_spec("text_pair")])
        if introspection.can_score(model):
            target = strings_spec("caption" if "images" in model.input else "target")
            specs = [self.input_specs[0], target] if "target_ids" in model.input else [text]
            signatures["score"] = (self.score, specs)
        if introspection.has_encoder(model):
            signatures["embed"] = (self.embed, [text])
        if attention_maps and introspection.has_maps(model):
            signatures["attention_maps"] = (self.attention_maps, [text])
        return signatures

    def predict(self, strings: tf.Tensor, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Compute the outputs of the prediction method, see `Task.predict_arrays`; for texts also `truncated`."""
        reader = input_reader_for(self.model, self.strategy)
        batch = encode_in_graph(reader, strings, self.graph_tokenizer, windows=True)
        outputs = self._outputs(batch, seed)
        return batch.join(outputs) if isinstance(batch, GraphEncodedWords) else outputs

    def pair(self, text: tf.Tensor, text_pair: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the outputs of a classifier for pairs of texts."""
        reader = self.model.input_reader
        return self._outputs(GraphEncodedTexts(text, reader, self.graph_tokenizer(reader.tokenizer), text_pair))

    def _outputs(self, batch: Any, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        model, options = self.model, {} if self.strategy is None else {"strategy": self.strategy}
        inputs = model.to_inputs(batch)
        if options:
            inputs["seeds"] = tf.zeros(tf.shape(batch.strings)[:1], tf.int32) if seed is None else seed
        outputs = model.predict_arrays(inputs, batch.strings, self.tokenizers, **options)
        return outputs | ({"truncated": batch.truncated} if isinstance(batch, GraphEncodedTexts) else {})

    def read(self, reader: TextReader | WordReader | None, strings: tf.Tensor) -> Any:
        """Tokenize texts; see `encode_in_graph`."""
        return encode_in_graph(reader, strings, self.graph_tokenizer)

    def graph_tokenizer(self, tokenizer: Any) -> GraphTokenizer:
        """Return the `GraphTokenizer` of a tokenizer of the model."""
        return next(each for each in self.tokenizers.values() if each.tokenizer is tokenizer)

    def score(self, strings: tf.Tensor, target: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Text or image, and target (B,) -> `score`, `truncated` (B,), `token_scores` and pieces (B, T).

        For images also `valid`. The score includes the end token.
        """
        model = self.model
        sources = None if target is None else self.read(model.input_reader, strings)
        targets = self.read(model.target_reader, strings if target is None else target)
        inputs, images = introspection.score_inputs(model, targets, sources)
        name = "target_pieces" if "target_tokenizer" in self.tokenizers else "pieces"
        pieces = targets.tokenizer.pieces(*targets.arrays())
        truncated = targets.truncated | getattr(sources, "truncated", False)
        return {**images, **introspection.score_tensors(model, inputs), name: pieces, "truncated": truncated}

    def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Text (B,) -> `embedding` (B, M), `token_embeddings` (B, S, M), `pieces` (B, S), `truncated` (B,)."""
        return self._inspect(introspection.embedding_tensors, text)

    def attention_maps(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Text (B,) -> `attention` (B, layers, H, S, S), `pieces` (B, S), `truncated` (B,)."""
        return self._inspect(introspection.attention_tensors, text)

    def _inspect(self, function: Callable[[Any, dict], dict], text: tf.Tensor) -> dict[str, tf.Tensor]:
        model = self.model
        batch = self.read(model.text_reader, text)
        arrays = introspection.encoder_inputs(model, batch)
        pieces = self.tokenizers["tokenizer"].pieces(arrays["token_ids"], arrays["padding_mask"])
        return {**function(model, arrays), "pieces": pieces, "truncated": batch.truncated}


def graph_task(model: Any, strategy: Strategy | None) -> GraphTask:
    """Return the `GraphTask` of a model; by default with the task's `default_strategy`."""
    if model.spec.default_strategy is None:
        return GraphTask(model, None)
    return GraphTask(model, check_strategy(strategy, model.spec.default_strategy))


def strings_spec(name: str) -> tf.TensorSpec:
    """Return the `TensorSpec` of a batch of strings."""
    return tf.TensorSpec((None,), tf.string, name=name)


def example_image(size: int) -> bytes:
    """Return the bytes of a PNG of size x size pixels, a grey gradient."""
    line = tf.cast(tf.linspace(0.0, 255.0, size), tf.uint8)
    return tf.io.encode_png(tf.tile(line[None, :, None], (size, 1, 3))).numpy()


def compile_signature(function: Callable, specs: list[tf.TensorSpec]) -> Callable:
    """Compile a function to a graph. It adds a row to an empty batch, on which some layers fail."""

    def signature(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.shape(inputs[0])[0]
        num_added = tf.cast(tf.equal(size, 0), tf.int32)
        nonempty = [tf.concat([x, tf.zeros([num_added], x.dtype)], 0) for x in inputs]
        return {name: value[:size] for name, value in function(*nonempty).items()}

    return tf.function(signature, specs, autograph=False).get_concrete_function()
