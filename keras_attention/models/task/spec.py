"""`TaskSpec`: what the command line, training, the export and its check derive from a task."""

from __future__ import annotations

import dataclasses

from keras_attention.generation import Strategy
from keras_attention.presets import TASKS


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """The names and the defaults of a task; `Task.spec` of each task is an instance.

    Args:
        command_name: the task on the command line, a key of `presets.TASKS`, such as `"translator"`.
        predict_method: name of the prediction method, such as `"translate"`.
        output_class: the class of the objects that the prediction method returns.
        metric: selects the best model on validation data.
        default_strategy: the class of the default search strategy; None for a task that does not search.
        tokenizer_names: names of the tokenizers, arguments of the constructor.

    Example:
        >>> spec = ka.TextTagger.spec
        >>> spec.class_name, spec.predict_method, spec.default_preset
        ('TextTagger', 'tag', 'rnn_tagger')
    """

    command_name: str
    predict_method: str
    output_class: type
    metric: str = "loss"
    default_strategy: type[Strategy] | None = None
    tokenizer_names: tuple[str, ...] = ("tokenizer",)

    @property
    def class_name(self) -> str:
        """Name of the class of this library, such as `"Translator"`, also for a class that extends it."""
        return TASKS[self.command_name].class_name

    @property
    def default_preset(self) -> str:
        """Name of the preset of a new model, if no other is named."""
        return TASKS[self.command_name].preset

    @property
    def default_tokenizer(self) -> str:
        """Kind of tokenizer for the default preset."""
        return TASKS[self.command_name].tokenizer
