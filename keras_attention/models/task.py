"""`Task`: what all tasks share, from a preset to one `.keras` file and an export."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_attention import config as configs
from keras_attention.generation import CompiledFunction, Strategy
from keras_attention.models import examples
from keras_attention.models.inference import Detokenizer
from keras_attention.models.weight_transfer import from_encoder, from_model
from keras_attention.presets import find_preset


class Task(keras.Model):
    """A functional Keras model that owns its sizes and its tokenizers.

    A subclass builds its network in `__init__`, names its tokenizers in `tokenizer_names`, and defines the computation
    of its verb: `compute` in `keras.ops`, from ids to numbers and ids, and `to_row`, which puts strings in place of
    ids. Python and an export use the same two.

    `model.save("m.keras")` saves weights, sizes and tokenizers. A loaded model computes under the dtype policy of its
    process, and all of its weights are trainable.

    Args:
        config: the sizes.
        tokenizers: name -> KerasHub tokenizer, one for each of `tokenizer_names`.
        inputs: the network's inputs, a dict of Keras tensors.
        outputs: the network's output.
    """

    tokenizer_names: tuple[str, ...] = ("tokenizer",)
    command_name: str  # on the command line, such as `train translator`
    verb: str  # the name of the method from input to output, such as "translate"
    output_class: type  # what the verb returns one of for each input
    default_preset: str
    default_strategy: type[Strategy] | None = None  # None: the task does not search
    default_tokenizer = "sentencepiece"  # the kind that the default preset is made with
    metric = "loss"  # what selects the best model, computed on validation data
    text_metrics: tuple[str, ...] = ()  # metrics that need texts written by the model; see `validation_score`

    from_model, from_encoder = classmethod(from_model), classmethod(from_encoder)

    def __init__(self, config, tokenizers: dict[str, Any], inputs, outputs, **kwargs) -> None:
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.config, self.quantization = config, None
        self._compiled_functions: dict[Callable, CompiledFunction] = {}
        for name, tokenizer in tokenizers.items():
            setattr(self, name, tokenizer)
            if tokenizer is not None:  # has no weights; if it were unbuilt, Keras would predict twice on JAX
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
        return cls(cls.resized(config, parts), **tokenizers)

    @classmethod
    def resized(cls, config, sizes: dict[str, Any]):
        """Return `config` with other sizes.

        Raises:
            ValueError: an unknown size.
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
        """Whether projections have LoRA matrices, which a file holds merged."""
        return any(getattr(layer, "lora_enabled", False) for layer in self._flatten_layers())

    def quantize(self, mode: str | None = None, config: Any = None, *, filters: None = None) -> None:
        """Quantise all projections and embeddings as `keras.Model.quantize` does, such as to `"int8"`.

        Args:
            mode: `"int8"` or another of Keras' modes.
            config: one of Keras' quantization configs, for more than the mode.
            filters: None: a file could not hold a choice of layers.

        Raises:
            ValueError: there are filters, or LoRA matrices.
        """
        if filters is not None:
            raise ValueError(
                "`filters` cannot be saved in a file; expected None, which quantises all projections and embeddings."
            )
        kinds = (keras.layers.Dense, keras.layers.Embedding)  # not the tokenizers, nor norms
        if self.has_lora:
            raise ValueError(
                "The model has LoRA matrices. Save it, load it, and quantise the loaded model: a file holds the sum of "
                "weights and LoRA matrices."
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
        """Make a model from what `get_config` returned."""
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
            model.quantize(config=quantization)  # the weights, which are loaded next, are quantised
        return model

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers that the network needs, by their names; None for one that is missing."""
        return {name: getattr(self, name) for name in self.tokenizer_names}

    @property
    def template(self) -> str:
        """The special-token template; see `TransformerConfig`."""
        return self.config.template

    def compiled_function(self, function: Callable[..., dict]) -> CompiledFunction:
        """Return a function of arrays that computes function(self, inputs, **options); see `CompiledFunction`."""
        if function not in self._compiled_functions:
            self._compiled_functions[function] = CompiledFunction(self, function)
        return self._compiled_functions[function]

    def prepare(self, inputs: dict, **options: Any) -> dict:
        """Return the inputs of `compute`, whose shapes depend on values, for inputs that were read."""
        return inputs

    def compute(self, inputs: dict, **options: Any) -> dict:
        """Compute the task's result from ids or images.

        This is the whole computation of the task's verb, in `keras.ops`. Python compiles it, and an export has it in
        its graph.

        Args:
            inputs: dict of tensors, from `prepare`; axis 0 is the batch.
            **options: what is part of the program, such as a search's `strategy`.

        Returns:
            dict of tensors; axis 0 is the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `compute`.")

    def to_row(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of the task's signature: what was computed, with strings in place of ids.

        It works on numpy arrays, and in a graph on TensorFlow's tensors.

        Args:
            strings: input strings that are part of the output, such as prompts; None where there are none.
            inputs: what was read, the argument of `prepare`.
            computed: what `compute` returned.
            detokenizers: name -> `Detokenizer`, or `GraphTokenizer` in a graph, of each tokenizer.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `to_row`.")

    def compute_row(self, strings: Any, inputs: dict, **options: Any) -> dict[str, Any]:
        """Return the outputs of the task's signature for arrays that were read; see `to_row`."""
        detokenizers = {name: Detokenizer(tokenizer) for name, tokenizer in self.tokenizers.items()}
        computed = self.compiled_function(type(self).compute)(self.prepare(inputs, **options), **options)
        return self.to_row(strings, inputs, computed, detokenizers)

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", *, weighted_metrics: Any = "auto", **options: Any
    ) -> None:
        """Configure training as `keras.Model.compile` does, with defaults for this task.

        Args:
            optimizer: by default Adam with a learning rate of 0.001 and clipped gradients.
            loss: by default `MaskedCrossEntropy` of each output.
            weighted_metrics: by default the accuracy of each output, where the loss is the default too.
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
        """Compile as a saved model was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **options: Any):
        """Train as `keras.Model.fit` does, on raw examples or on batches.

        Args:
            x: raw examples, such as pairs of strings, as a list or a tuple; or batches, from `make_batches` or
                `keras_attention.data`.
            y: as for `keras.Model.fit`; None for examples and batches.
            *args: the next arguments of `keras.Model.fit`.
            validation_data: raw examples or batches.
            **options: the other arguments of `keras.Model.fit`, such as `epochs`.

        Raises:
            ValueError: there are no examples, or examples with a `batch_size`.

        Example:
            >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
            >>> tokenizer = ka.data.train_tokenizer([text for pair in pairs for text in pair], "characters")
            >>> model = ka.Translator.from_preset(
            ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
            >>> model.compile()
            >>> sorted(model.fit(pairs, validation_data=pairs, verbose=0).history)
            ['accuracy', 'loss', 'val_accuracy', 'val_loss']
        """
        if examples.are_raw(x):
            if args or options.get("batch_size") is not None:
                raise ValueError(
                    "`batch_size` does not apply to raw examples, which are put into batches of similar length. Pass "
                    "`make_batches(examples, max_tokens=...)` to choose the size of a batch."
                )
            x = self.make_batches(x)
        if examples.are_raw(validation_data):
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
            directory: gets the versions of the model, as `<directory>/<version>/`.
            version: a positive integer; a server takes the highest.
            strategy: how the exported model searches; by default the strategy of the task's verb.
            examples: texts, or encoded images, of the warm-up request; some of the library's when absent, empty for no
                warm-up.
            attention: add the signature `attention`, the weights of every block and head, to a model with
                self-attention over one text.

        Returns:
            the path of the version.

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
        """Read examples from one file, or from `tfds:NAME[:SPLIT]`; a `Translator` reads two aligned files as well.

        Raises:
            ValueError: the number of files is wrong, or a file holds something else.
            FileNotFoundError: a file is missing.
        """
        raise NotImplementedError(f"{cls.__name__} does not define `read_examples`.")

    @staticmethod
    def texts_of(examples: Sequence) -> list[str]:
        """Return the texts of examples, on which a tokenizer is trained."""
        return list(examples)

    @staticmethod
    def labels_of(examples: Sequence) -> tuple[str, ...]:
        """Return the names of the classes or tags of examples; none for a task without labels."""
        return ()

    from_examples = classmethod(examples.from_examples)
    train_tokenizers = classmethod(examples.train_tokenizers)

    def make_batches(self, examples: Sequence, max_tokens: int = 4096, shuffle: bool = True, seed: int = 0):
        """Turn examples into the batches that `fit` takes, of at most `max_tokens` tokens, padding included.

        `shuffle` is for training: random order and composition, from `seed`; without it the order is fixed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `make_batches`.")

    def validation_score(self, examples: Sequence, metric: str) -> float:
        """Return one of `text_metrics`, such as `"bleu"`, of what the model writes for the examples."""
        raise NotImplementedError(f"{type(self).__name__} has no metric of written texts; {metric} was asked for.")

    @classmethod
    def score_examples(cls, model: Any, examples: Sequence, **options: Any) -> dict[str, Any]:
        """Score a model of this task, or its export; see `keras_attention.evaluate`.

        `options` are those of the verb, such as `strategy` and `batch_size`.
        """
        raise NotImplementedError(f"{cls.__name__} does not define `score_examples`.")
