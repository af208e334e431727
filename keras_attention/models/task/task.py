"""`Task`, the base class of all models: the attributes that describe a task, and its methods."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras

from keras_attention.argument_checks import missing_method
from keras_attention.data.batching.example_weights import ClassWeight
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.word_reader import WordReader
from keras_attention.data_size import DataSize
from keras_attention.generation import CompiledFunction, Strategy
from keras_attention.keras_support import keras_patches
from keras_attention.keras_support.processes import check_process
from keras_attention.models.task import constructors, keras_methods, saving, token_loss
from keras_attention.models.task_data.task_data import TaskData
from keras_attention.prediction.detokenizer import Detokenizer
from keras_attention.prediction.run_batches import compiled_function
from keras_attention.serving.export import write_export
from keras_attention.task_specs import TaskSpec


def _documented_by(function: Callable) -> Callable[[Callable], Callable]:
    """Return a decorator that gives a method the docstring of the function that it calls."""

    def decorate(method: Callable) -> Callable:
        method.__doc__ = function.__doc__
        return method

    return decorate


def _check_other(is_expected: bool, other: Any, expected: str) -> None:
    """Raise TypeError if `other` is not the expected kind of model."""
    if not is_expected:
        raise TypeError(f"`other` is a {type(other).__name__}; expected a {expected}.")


class Task(keras.Model):
    """A functional Keras model with a config and tokenizers.

    A subclass builds its network in `__init__`, describes itself in `spec` and its examples in `data`, and defines the
    steps of a prediction: `to_inputs`, from strings to ids; `_prepare` and `_compute`, in `keras.ops`, from ids to
    numbers and ids; and `_to_outputs`, from ids to strings. `predict_arrays` runs them after `to_inputs`; the
    prediction method and an export call both.

    `model.save("m.keras")` saves weights, config and tokenizers. A loaded model uses the current dtype policy, and all
    of its weights are trainable.

    Args:
        config: the config of the network, such as a `TransformerConfig`.
        tokenizers: dict of KerasHub tokenizers, one for each of `spec.tokenizer_names`; None for a missing one.
        inputs: the network's inputs, a dict of Keras tensors.
        outputs: the network's output.

    Raises:
        RuntimeError: the process was forked after a model was made.

    Example:
        >>> model = ka.CausalLM(ka.config.RecurrentConfig(units=8, embedding_dim=4, vocabulary_size=11))
        >>> isinstance(model, Task), model.spec.predict_method, model.config.units
        (True, 'complete', 8)
    """

    spec: TaskSpec  # names and defaults of the task
    data: TaskData  # reads, checks, batches and evaluates the examples
    input_reader: TextReader | WordReader | None = None  # encodes the input texts; None for images
    target_reader: TextReader | None = None  # reader of the texts that the model generates

    # Parts of the network; None for a part that the task does not have.
    embedding: keras.layers.Layer | None = None
    character_encoder: keras.layers.Layer | None = None
    image_encoder: keras.layers.Layer | None = None
    encoder: keras.layers.Layer | None = None
    decoder: keras.layers.Layer | None = None
    pooler: keras.layers.Layer | None = None

    r_drop = 0.0  # the weight of R-Drop in training
    is_pretrained = False  # whether it was loaded, or has the encoder of another model; see `TrainingPlan.for_data`

    def __init__(self, config, tokenizers: dict[str, Any], inputs, outputs, **kwargs) -> None:
        check_process()
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.config, self.quantization = config, None
        self.compiled_functions: dict[Callable, CompiledFunction] = {}  # from `compiled_function`
        for name, tokenizer in tokenizers.items():
            setattr(self, name, tokenizer)
            if tokenizer is not None:  # an unbuilt layer would make Keras predict twice on JAX
                tokenizer.built = True

    @classmethod
    @_documented_by(constructors.from_preset)
    def from_preset(cls, name: str, **overrides: Any) -> Self:
        """Make a model with the config of a preset and new weights."""
        return constructors.from_preset(cls, name, **overrides)

    @classmethod
    @_documented_by(constructors.from_examples)
    def from_examples(
        cls,
        examples: Sequence,
        preset: str | None = None,
        *,
        tokenizer_kind: str | None = None,
        vocabulary_size: int | None = None,
        lowercase: bool = False,
        normalization: str = "identity",
        data_size: DataSize | None = None,
        unlabelled_texts: Sequence[str] = (),
        **overrides: Any,
    ) -> Self:
        """Make a model with the config of a preset, new weights, and tokenizers trained on the examples."""
        tokenizer_options = (tokenizer_kind, vocabulary_size, lowercase, normalization)
        model = constructors.from_examples(
            cls, examples, preset, *tokenizer_options, data_size, unlabelled_texts, **overrides
        )
        model._initialize_from_examples(examples, unlabelled_texts)
        return model

    @classmethod
    @_documented_by(constructors.from_model)
    def from_model(cls, other: Task, **overrides: Any) -> Self:
        """Make a model with another config and the weights of a model of the same task."""
        name = cls.spec.class_name
        _check_other(isinstance(other, Task) and other.spec.class_name == name, other, name)
        return constructors.from_model(cls, other, **overrides)

    @classmethod
    @_documented_by(constructors.from_encoder)
    def from_encoder(cls, other: Task, **overrides: Any) -> Self:
        """Make a model with the encoder of another model; the layers after the encoder are new."""
        _check_other(isinstance(other, Task), other, "model with a Transformer encoder of one text")
        return constructors.from_encoder(cls, other, **overrides)

    @_documented_by(keras_methods.compile)
    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        weighted_metrics: Any = "auto",
        r_drop: float = 0.0,
        **options: Any,
    ) -> None:
        """Configure training; see `keras.Model.compile`."""
        keras_methods.compile(self, optimizer, loss, weighted_metrics, r_drop, **options)

    def get_compile_config(self) -> dict | None:
        """Return the arguments of `compile`, for saving."""
        config = super().get_compile_config()
        return config and {**config, "r_drop": self.r_drop}

    def compile_from_config(self, config: dict) -> None:
        """Compile with the configuration of a saved model."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @_documented_by(keras_methods.fit)
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        validation_data: Any = None,
        class_weight: ClassWeight | None = None,
        sample_weight: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Train on raw examples or on batches; see `keras.Model.fit`."""
        data = {"validation_data": validation_data, "class_weight": class_weight, "sample_weight": sample_weight}
        return keras_methods.fit(self, x, y, *args, **data, **options)

    @_documented_by(keras_methods.evaluate)
    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **options: Any) -> Any:
        """Compute the loss and the metrics; see `keras.Model.evaluate`."""
        return keras_methods.evaluate(self, x, y, *args, **options)

    @_documented_by(keras_methods.predict)
    def predict(self, x: Any, batch_size: int | None = None, *args: Any, **options: Any) -> Any:
        """Return the outputs for texts or images, or the network's outputs for batches; see `keras.Model.predict`."""
        return keras_methods.predict(self, x, batch_size, *args, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch per token; see `token_loss.compute_loss`."""
        added = self._added_loss(y, y_pred, sample_weight, training)
        return token_loss.compute_loss(self, x, y, y_pred, sample_weight, training, added)

    def train_step(self, *arguments):
        """Update the weights, or accumulate the gradients of a batch; see `token_loss.train_step`."""
        return token_loss.train_step(self, *arguments)

    @_documented_by(keras_methods.make_train_function)
    def make_train_function(self, force: bool = False) -> Any:
        return keras_methods.make_train_function(self, force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        keras_patches.build_on_one_replica(self, iterator, data_batch)

    @_documented_by(saving.save)
    def save(self, filepath: str | pathlib.Path, *args: Any, **options: Any) -> None:
        """Save the weights, the config and the tokenizers to a `.keras` file."""
        saving.save(self, filepath, *args, **options)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return saving.get_config(self)

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Make a model from a dict that `get_config` returned."""
        return saving.from_config(cls, config, custom_objects)

    @_documented_by(saving.quantize)
    def quantize(self, mode: str | None = None, config: Any = None, *, filters: None = None) -> None:
        """Quantize all projections and embeddings; see `keras.Model.quantize`."""
        saving.quantize(self, mode, config, filters)

    @property
    def has_lora(self) -> bool:
        """True if projections have LoRA matrices; saving merges them into the weights."""
        return any(getattr(layer, "lora_enabled", False) for layer in keras_patches.all_layers(self))

    @_documented_by(write_export)
    def export(
        self,
        directory: str | pathlib.Path,
        version: int = 1,
        strategy: Strategy | None = None,
        examples: Sequence[str | bytes] | None = None,
        attention_maps: bool = False,
        precision: str = "float32",
    ) -> pathlib.Path:
        """Write a SavedModel that takes raw text or images."""
        return write_export(self, directory, version, strategy, examples, attention_maps, precision)

    def _initialize_from_examples(self, examples: Sequence, unlabelled_texts: Sequence[str]) -> None:
        """Set initial weights of a new model to values computed from examples and texts; by default do nothing."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of a classifier or the tags of a tagger; empty for other tasks."""
        return self.config.labels

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers of the network, by name; a missing one is None."""
        return {name: getattr(self, name) for name in self.spec.tokenizer_names}

    @property
    def text_reader(self) -> TextReader | WordReader:
        """The reader of a whole text: for embeddings, attention maps and the sequences of training."""
        return TextReader.from_template(self.tokenizer, self.config.template, self.config.max_length)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return the inputs of `predict_arrays` for a batch of texts or images.

        Args:
            batch: `EncodedTexts`, `EncodedWordWindows` or `RawImages`; in an export, the class for a graph.

        Returns:
            dict of NumPy arrays or, in an export, of TensorFlow tensors; axis 0 is the batch.
        """
        raise missing_method(self, "to_inputs")

    def predict_arrays(
        self, inputs: dict, strings: Any = None, graph_tokenizers: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return the outputs of the task's signature: the computed values, with strings instead of ids.

        Args:
            inputs: dict of arrays from `to_inputs` and, for a search, `seeds` (B,); axis 0 is the batch.
            strings: input strings that the outputs contain, such as prompts; None if they contain none.
            graph_tokenizers: in an export, the `GraphTokenizer` of each tokenizer; the computation is then a part of
                the graph. None to compile it and run it.
            **options: constants of the compiled function, such as the `strategy` of a search.

        Returns:
            dict of NumPy arrays or, in an export, of TensorFlow tensors; axis 0 is the batch.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
            >>> model = ka.TextTagger.from_preset(
            ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=8, embedding_dim=4)
            >>> inputs = model.word_arrays(model.input_reader.ids([["we", "eat"]]), multiple=1)
            >>> model.predict_arrays({**inputs, "word_starts": np.array([[0, 2]])})["scores"].shape
            (1, 2)
        """
        prepared = self._prepare(inputs, **options)
        if graph_tokenizers is not None:
            return self._to_outputs(strings, inputs, self._compute(prepared, **options), graph_tokenizers)
        computed = compiled_function(self, type(self)._compute)(prepared, **options)
        stop = options["strategy"].stop if "strategy" in options else ()
        detokenizers = {name: Detokenizer(tokenizer, stop) for name, tokenizer in self.tokenizers.items()}
        return self._to_outputs(strings, inputs, computed, detokenizers)

    def _prepare(self, inputs: dict, **options: Any) -> dict:
        """Return the inputs of `_compute`. Their shapes may depend on values of `inputs`, as the longest length."""
        return inputs

    def _compute(self, inputs: dict, **options: Any) -> dict:
        """Compute the task's result from ids or images, in `keras.ops`.

        Args:
            inputs: dict of tensors, from `_prepare`; axis 0 is the batch.
            **options: constants of the compiled function.

        Returns:
            dict of tensors; axis 0 is the batch.
        """
        raise missing_method(self, "_compute")

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of the task's signature, on NumPy arrays or, in an export, on TensorFlow tensors.

        Args:
            strings: input strings that the output contains; or None.
            inputs: dict of arrays, the argument of `_prepare`.
            computed: dict of arrays, from `_compute`.
            detokenizers: dict of a `Detokenizer`, or `GraphTokenizer` in an export, for each tokenizer.
        """
        raise missing_method(self, "_to_outputs")

    def _added_loss(self, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        """Return a loss per token that is added to the compiled loss, such as the one of a captioner's attention."""
        return 0.0

    def make_batches(
        self, examples: Sequence, max_tokens: int = 4096, shuffle: bool = True, seed: int = 0, **options: Any
    ) -> Any:
        """Make batches of examples for `fit`.

        Args:
            examples: raw examples of the task.
            max_tokens: maximum number of tokens in a batch, including padding.
            shuffle: True for training: examples are batched in random order. False for a fixed order.
            seed: the seed of the random order.
            **options: the other options of the function in `keras_attention.data` that makes the batches of the task.

        Raises:
            TypeError: `examples` are not those of the task.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
            >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
            >>> inputs, labels, mask = model.make_batches(["to be"], shuffle=False)[0]
            >>> sorted(inputs), labels.shape
            (['padding_mask', 'token_ids'], (1, 6))
        """
        return self.data.batches(self, examples, max_tokens, shuffle, seed, **options)


keras_patches.replace_clone_model(Task)
keras_patches.replace_walk()
