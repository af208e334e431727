"""`Task`: the base class of all models: presets, `.keras` files, training and exports."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention import config as configs
from keras_attention.data.special_tokens import SpecialTokens, declare
from keras_attention.data.text_reader import TextReader, WordReader
from keras_attention.generation import CompiledFunction, Strategy
from keras_attention.models.examples import are_raw, from_examples, train_tokenizers
from keras_attention.models.inference import Detokenizer, objects_from_rows, run_batches
from keras_attention.models.weight_transfer import from_encoder, from_model
from keras_attention.presets import find_preset


class Task(keras.Model):
    """A functional Keras model with a config and tokenizers.

    A subclass builds its network in `__init__`, lists its tokenizers in `tokenizer_names`, and defines the three parts
    of its verb: `to_inputs`, from strings to ids; `compute`, in `keras.ops`, from ids to numbers and ids; and
    `to_outputs`, which replaces ids by strings. The Python method and an export use all three.

    `model.save("m.keras")` saves weights, sizes and tokenizers. A loaded model uses the current dtype policy, and all
    of its weights are trainable.

    Args:
        config: the sizes, such as a `TransformerConfig`.
        tokenizers: dict of KerasHub tokenizers, one for each of `tokenizer_names`; None for a missing one.
        inputs: the network's inputs, a dict of Keras tensors.
        outputs: the network's output.
    """

    tokenizer_names: tuple[str, ...] = ("tokenizer",)
    command_name: str  # the task on the command line, such as "translator"
    verb: str  # name of the method that maps inputs to outputs, such as "translate"
    output_class: type  # the verb returns one per input
    default_preset: str
    input_reader: TextReader | WordReader | None = None  # of the verb's texts; None: the verb reads images
    default_strategy: type[Strategy] | None = None  # None: the task does not search
    default_tokenizer = "sentencepiece"  # the kind for the default preset
    metric = "loss"  # selects the best model on validation data
    text_metrics: tuple[str, ...] = ()  # metrics of generated texts; see `validation_score`

    from_model, from_encoder = classmethod(from_model), classmethod(from_encoder)

    def __init__(self, config, tokenizers: dict[str, Any], inputs, outputs, **kwargs) -> None:
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.config, self.quantization = config, None
        self._compiled_functions: dict[Callable, CompiledFunction] = {}
        for name, tokenizer in tokenizers.items():
            setattr(self, name, tokenizer)
            if tokenizer is not None:  # an unbuilt layer would make Keras predict twice on JAX
                tokenizer.built = True

    @classmethod
    def task_name(cls) -> str:
        """Return the name of this class, or of the class of this library that it extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("keras_attention."))

    @classmethod
    def from_preset(cls, name: str, **parts: Any):
        """Make a model of this task with the sizes of a preset and new weights.

        Args:
            name: a name of `keras_attention.presets()`.
            **parts: the tokenizers; for classifiers and taggers, `labels`; and sizes that replace those of the preset,
                such as `units=512`.

        Returns:
            a model of this task.

        Raises:
            ValueError: the preset or a size is unknown; for a preset, the message suggests similar names.
        """
        config = find_preset(name, cls.task_name())
        tokenizers = {key: parts.pop(key) for key in cls.tokenizer_names if key in parts}
        return cls(cls.resized(config, parts), **tokenizers)

    @classmethod
    def resized(cls, config, sizes: dict[str, Any]):
        """Return `config` with other sizes.

        Raises:
            ValueError: a size is unknown.
        """
        fields = configs.fields_for(config, cls.task_name())
        unknown = sorted(set(sizes) - fields)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no {', '.join(unknown)}. Tokenizers: {', '.join(cls.tokenizer_names)}; "
                f"sizes: {', '.join(sorted(fields))}."
            )
        return dataclasses.replace(config, **sizes)

    @property
    def has_lora(self) -> bool:
        """True if projections have LoRA matrices; saving merges them into the weights."""
        return any(getattr(layer, "lora_enabled", False) for layer in self._flatten_layers())

    def quantize(self, mode: str | None = None, config: Any = None, *, filters: None = None) -> None:
        """Quantise all projections and embeddings; see `keras.Model.quantize`.

        Args:
            mode: a mode of Keras, such as `"int8"`.
            config: a quantization config of Keras, for more options than the mode.
            filters: must be None, because a saved file does not store which layers are quantised.

        Raises:
            ValueError: `filters` is not None, or the model has LoRA matrices.
        """
        if filters is not None:
            raise ValueError(
                "`filters` cannot be saved in a file; expected None, which quantises all projections and embeddings."
            )
        kinds = (keras.layers.Dense, keras.layers.Embedding)  # neither tokenizers nor normalisation
        if self.has_lora:
            raise ValueError(
                "The model has LoRA matrices. Save and load it first, which merges them into the weights. Then "
                "quantise the loaded model."
            )
        super().quantize(mode, config, filters=lambda layer: isinstance(layer, kinds))
        self.quantization = config

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        tokenizers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.tokenizer_names}
        sizes = {"class": type(self.config).__name__, **dataclasses.asdict(self.config)}
        quantization = keras.saving.serialize_keras_object(self.quantization)
        declared = {name: getattr(tokenizer, "declared_tokens", None) for name, tokenizer in self.tokenizers.items()}
        special = {name: dataclasses.asdict(tokens) for name, tokens in declared.items() if tokens is not None}
        others = {"name": self.name, "quantization": quantization, "special_tokens": special}
        return {"config": sizes, **others, **tokenizers}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None):
        """Make a model from a dict that `get_config` returned."""
        import keras_hub  # noqa: F401  (registers the tokenizers' classes)

        config = dict(config)
        sizes = dict(config.pop("config"))
        if "labels" in sizes:
            sizes["labels"] = tuple(sizes["labels"])
        tokenizers = {
            name: keras.saving.deserialize_keras_object(config.pop(name, None), custom_objects)
            for name in cls.tokenizer_names
        }
        for name, special in config.pop("special_tokens", {}).items():
            declare(tokenizers[name], SpecialTokens(**special))
        quantization = keras.saving.deserialize_keras_object(config.pop("quantization", None), custom_objects)
        model = cls(getattr(configs, sizes.pop("class"))(**sizes), **tokenizers, **config)
        if quantization is not None:
            model.quantize(config=quantization)  # before Keras loads the weights, which are quantised
        return model

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers of the network, by name; a missing one is None."""
        return {name: getattr(self, name) for name in self.tokenizer_names}

    @property
    def template(self) -> str:
        """The special-token template; see `TransformerConfig`."""
        return self.config.template

    def compiled_function(self, function: Callable[..., dict]) -> CompiledFunction:
        """Compile `function(self, inputs, **options)` for arrays; see `CompiledFunction`."""
        if function not in self._compiled_functions:
            self._compiled_functions[function] = CompiledFunction(self, function)
        return self._compiled_functions[function]

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return the inputs of `prepare` for a batch of texts or images.

        Args:
            batch: `TextInputs`, `WordInputs` or `ImageInputs`; in an export, the class for a graph.

        Returns:
            dict of NumPy arrays or, in an export, of TensorFlow tensors; axis 0 is the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `to_inputs`.")

    def prepare(self, inputs: dict, **options: Any) -> dict:
        """Return the inputs of `compute`. Their shapes may depend on values of `inputs`, such as the longest length."""
        return inputs

    def compute(self, inputs: dict, **options: Any) -> dict:
        """Compute the task's result from ids or images.

        This is the whole computation of the task's verb, in `keras.ops`. The Python method compiles it, and an export
        contains it.

        Args:
            inputs: dict of tensors, from `prepare`; axis 0 is the batch.
            **options: constants of the compiled function, such as the `strategy` of a search.

        Returns:
            dict of tensors; axis 0 is the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `compute`.")

    def to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of the task's signature: the computed values, with strings instead of ids.

        It works on NumPy arrays and, in an export, on TensorFlow tensors.

        Args:
            strings: input strings that the output contains, such as prompts; or None.
            inputs: dict of arrays, the argument of `prepare`.
            computed: dict of arrays, from `compute`.
            detokenizers: dict of a `Detokenizer`, or `GraphTokenizer` in an export, for each tokenizer.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `to_outputs`.")

    def compute_outputs(self, strings: Any, inputs: dict, **options: Any) -> dict[str, Any]:
        """Run `prepare`, `compute` and `to_outputs` on a batch of arrays; see `to_outputs` for the result."""
        detokenizers = {name: Detokenizer(tokenizer) for name, tokenizer in self.tokenizers.items()}
        computed = self.compiled_function(type(self).compute)(self.prepare(inputs, **options), **options)
        return self.to_outputs(strings, inputs, computed, detokenizers)

    def run_verb(
        self,
        inputs: Any,
        texts: Sequence[str] | None,
        batch_size: int,
        add_inputs: Callable[[np.ndarray], dict] | None = None,
        **options: Any,
    ) -> list:
        """Compute one output for each text or image.

        Args:
            inputs: N texts or images, from `encode_inputs`.
            texts: the N texts; None for images.
            batch_size: number of texts or images in a batch.
            add_inputs: function from the indices of a batch to more inputs of `prepare`, such as seeds.
            **options: constants of the compiled function, such as the `strategy` of a search.

        Returns:
            N objects of `output_class`.
        """

        def compute(indices: np.ndarray) -> dict[str, Any]:
            batch = inputs.take(indices)
            added = {} if add_inputs is None else add_inputs(indices)
            return self.compute_outputs(batch.strings, {**self.to_inputs(batch), **added}, **options)

        return objects_from_rows(self.output_class, run_batches(inputs.lengths, batch_size, compute), texts)

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", *, weighted_metrics: Any = "auto", **options: Any
    ) -> None:
        """Configure training; see `keras.Model.compile`. The defaults fit this task.

        Args:
            optimizer: by default Adam with a learning rate of 0.001 and clipped gradients.
            loss: by default `MaskedCrossEntropy` for each output.
            weighted_metrics: by default, if `loss` is the default too, `MaskedAccuracy` for each output.
            **options: the other arguments of `keras.Model.compile`.
        """
        from keras_attention.metrics.tokens import MaskedAccuracy
        from keras_attention.training import MaskedCrossEntropy

        if weighted_metrics == "auto":
            metrics = keras.tree.map_structure(lambda _: [MaskedAccuracy()], self.output)
            weighted_metrics = metrics if loss == "auto" else None
        if loss == "auto":
            loss = keras.tree.map_structure(lambda _: MaskedCrossEntropy(), self.output)
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-3, beta_2=0.98, global_clipnorm=1.0)
        super().compile(optimizer, loss, weighted_metrics=weighted_metrics, **options)

    def compile_from_config(self, config: dict) -> None:
        """Compile with the configuration of a saved model."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **options: Any):
        """Train on raw examples or on batches; see `keras.Model.fit`.

        Args:
            x: raw examples, such as pairs of strings, as a list or a tuple; or batches, from `make_batches` or
                `keras_attention.data`.
            y: None for examples and batches; see `keras.Model.fit`.
            *args: further positional arguments of `keras.Model.fit`.
            validation_data: raw examples or batches.
            **options: the other arguments of `keras.Model.fit`, such as `epochs`.

        Raises:
            ValueError: there are no examples, or `batch_size` is set for raw examples.

        Example:
            >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
            >>> tokenizer = ka.data.train_tokenizer([text for pair in pairs for text in pair], "characters")
            >>> model = ka.Translator.from_preset(
            ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
            >>> model.compile()
            >>> sorted(model.fit(pairs, validation_data=pairs, verbose=0).history)
            ['accuracy', 'loss', 'val_accuracy', 'val_loss']
        """
        if are_raw(x):
            if args or options.get("batch_size") is not None:
                raise ValueError(
                    "`batch_size` does not apply to raw examples, because their batches are limited by tokens. Pass "
                    "`model.make_batches(examples, max_tokens=...)` to set the limit."
                )
            x = self.make_batches(x)
        if are_raw(validation_data):
            validation_data = self.make_batches(validation_data, shuffle=False)
        return super().fit(x, y, *args, validation_data=validation_data, **options)

    def export(
        self,
        directory: str | pathlib.Path,
        version: int = 1,
        strategy: Strategy | None = None,
        examples: Sequence[str | bytes] | None = None,
        attention: bool = False,
    ) -> pathlib.Path:
        """Write a SavedModel that takes raw text or images; see `keras_attention.serving.export`.

        Args:
            directory: parent directory; the model is written to `<directory>/<version>/`.
            version: a positive integer; a server loads the highest one.
            strategy: the search strategy of the export; by default the one of the task's verb.
            examples: texts or encoded images for the warm-up request; None for built-in ones, empty for no warm-up.
            attention: add the signature `attention`, the attention scores of every block and head; the model must have
                self-attention over one text.

        Returns:
            the path `<directory>/<version>`.

        Raises:
            FileExistsError: the version exists.
            ValueError: the version is not positive, or the model has no attention maps.
            RuntimeError: the backend of Keras is not TensorFlow.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "comemos pan"], "characters")
            >>> model = ka.Translator.from_preset(
            ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer)
            >>> model.export("serving/translator").name
            '1'
        """
        from keras_attention.serving.export import export

        return export(self, directory, version, strategy, examples, attention)

    @classmethod
    def read_examples(cls, paths: Sequence[str]) -> list:
        """Read examples from one file or `tfds:NAME[:SPLIT]`; a `Translator` also reads two aligned files.

        Raises:
            ValueError: the number of files is wrong, or a file has another format.
            FileNotFoundError: a file does not exist.
        """
        raise NotImplementedError(f"{cls.__name__} does not define `read_examples`.")

    @staticmethod
    def texts_of(examples: Sequence) -> list[str]:
        """Return the texts of examples, for training a tokenizer."""
        return list(examples)

    @staticmethod
    def labels_of(examples: Sequence) -> tuple[str, ...]:
        """Return the names of the classes or tags of examples; empty for a task without labels."""
        return ()

    from_examples = classmethod(from_examples)
    train_tokenizers = classmethod(train_tokenizers)

    def make_batches(self, examples: Sequence, max_tokens: int = 4096, shuffle: bool = True, seed: int = 0):
        """Turn examples into batches for `fit`.

        Args:
            examples: raw examples of the task.
            max_tokens: maximum number of tokens in a batch, with padding.
            shuffle: True for training: examples are batched in random order. False for a fixed order.
            seed: of the random order.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `make_batches`.")

    def validation_score(self, examples: Sequence, metric: str) -> float:
        """Return one of `text_metrics`, such as `"bleu"`, of the texts that the model generates for the examples."""
        raise NotImplementedError(f"{type(self).__name__} has no metric of generated texts, such as {metric}.")

    @classmethod
    def score_examples(cls, model: Any, examples: Sequence, **options: Any) -> dict[str, Any]:
        """Score a model of this task, or its export; see `keras_attention.evaluate`.

        `options` are those of the verb, such as `strategy` and `batch_size`.
        """
        raise NotImplementedError(f"{cls.__name__} does not define `score_examples`.")
