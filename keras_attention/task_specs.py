"""The tasks: one row of names and defaults per task, which other parts of the library read, without Keras."""

from __future__ import annotations

import dataclasses

from keras_attention.generation import Greedy, Sampling, Strategy
from keras_attention.outputs import Caption, Classification, Completion, FilledMask, Tagging, Translation


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """The names and the defaults of a task; `Task.spec` of each task is one of `TASK_SPECS`.

    Args:
        command_name: the task on the command line, such as `"translator"`.
        class_name: name of the class of this library, such as `"Translator"`, also for a class that extends it.
        predict_method: name of the prediction method, such as `"translate"`.
        output_class: the class of the objects that the prediction method returns.
        default_preset: name of the preset of a new model, if no other is named.
        metric: the metric of validation data that selects the best model.
        default_strategy: the class of the default search strategy; None for a task that does not search.
        default_limit_text: text of the help: the maximum number of new tokens, if a strategy does not set it.
        default_tokenizer: kind of tokenizer for the default preset.
        tokenizer_names: names of the tokenizers, arguments of the constructor.
        exported_attributes: attributes of a model, such as `"labels"`, that are stored in the metadata of its export.

    Example:
        >>> spec = ka.TextTagger.spec
        >>> spec.class_name, spec.predict_method, spec.default_preset
        ('TextTagger', 'tag', 'rnn_tagger')
    """

    command_name: str
    class_name: str
    predict_method: str
    output_class: type
    default_preset: str
    metric: str = "loss"
    default_strategy: type[Strategy] | None = None
    default_limit_text: str = ""
    default_tokenizer: str = "sentencepiece"
    tokenizer_names: tuple[str, ...] = ("tokenizer",)
    exported_attributes: tuple[str, ...] = ()


# A translation of S source tokens has at most 2 S + 8 tokens by default.
TOKENS_PER_SOURCE_TOKEN, ADDED_TOKENS = 2, 8
_TO_MAX_LENGTH = "max_length of the model minus the length of the prompt"

_SPECS = (
    TaskSpec(
        *("translator", "Translator", "translate", Translation, "rnn_attention"),
        metric="bleu",
        default_strategy=Greedy,
        default_limit_text=f"{TOKENS_PER_SOURCE_TOKEN} times the number of source tokens, plus {ADDED_TOKENS}",
        tokenizer_names=("source_tokenizer", "target_tokenizer"),
    ),
    TaskSpec(
        *("captioner", "Captioner", "caption", Caption, "show_attend_and_tell"),
        metric="bleu",
        default_strategy=Greedy,
        default_limit_text="max_length of the model",
        exported_attributes=("image_size",),
    ),
    TaskSpec(
        *("lm", "CausalLM", "complete", Completion, "char_rnn"),
        default_strategy=Sampling,
        default_limit_text=_TO_MAX_LENGTH,
        default_tokenizer="characters",
    ),
    TaskSpec("mlm", "MaskedLM", "fill", FilledMask, "bert_base", exported_attributes=("mask_token",)),
    TaskSpec(
        *("plm", "PermutationLM", "complete", Completion, "xlnet_base"),
        default_strategy=Sampling,
        default_limit_text=_TO_MAX_LENGTH,
    ),
    TaskSpec(
        *("classifier", "TextClassifier", "classify", Classification, "rnn_classifier"),
        metric="accuracy",
        exported_attributes=("labels",),
    ),
    TaskSpec(
        *("tagger", "TextTagger", "tag", Tagging, "rnn_tagger"),
        metric="accuracy",
        default_tokenizer="words",
        tokenizer_names=("tokenizer", "character_tokenizer"),
        exported_attributes=("labels",),
    ),
)
TASK_SPECS = {spec.command_name: spec for spec in _SPECS}
