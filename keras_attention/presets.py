"""The presets: name -> task, config, number of parameters and paper."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from keras_attention.argument_checks import did_you_mean, one_of
from keras_attention.config import (
    RecurrentCaptionerConfig,
    RecurrentConfig,
    TransformerCaptionerConfig,
    TransformerConfig,
    fields_for,
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row of the table of presets.

    Attributes:
        task: the name of the task class, such as `"Translator"`.
        config: the config of the network.
        paper: the URL of the paper.
        vocabulary_size: the vocabulary size that `parameters` assumes: that of the paper, or an example for
            recurrent networks and captioners, whose vocabulary depends on the data.
        parameters: the number of parameters with this vocabulary, counted as in the paper: for an encoder, without the
            pre-training head but with the pooler (if any). A classifier or tagger has two labels; a
            captioner includes its image encoder.
        published_parameters: the number of parameters that its authors report, as text.

    Example:
        >>> presets()["gpt2_small"].task
        'CausalLM'
    """

    task: str
    config: RecurrentConfig | TransformerConfig
    paper: str
    vocabulary_size: int
    parameters: int
    published_parameters: str | None = None


def _recurrent(task: str, paper: str, embedding_dim: int, units: int, dropout: float, *sizes, **options) -> Preset:
    config = RecurrentConfig(embedding_dim=embedding_dim, units=units, dropout=dropout, **options)
    return Preset(task, config, paper, *sizes)


def _captioner(paper: str, embedding_dim: int, units: int, *sizes, **options) -> Preset:
    config = RecurrentCaptionerConfig(embedding_dim=embedding_dim, units=units, dropout=0.3, max_length=32, **options)
    return Preset("Captioner", config, paper, *sizes)


def _transformer_captioner(layers: int, width: int, heads: int, intermediate_dim: int, *sizes) -> Preset:
    config = TransformerCaptionerConfig(
        width=width, num_layers=layers, num_heads=heads, intermediate_dim=intermediate_dim, max_length=64, dropout=0.3
    )
    return Preset("Captioner", config, "https://arxiv.org/abs/2006.06666", *sizes)


def _translator(layers: int, width: int, heads: int, intermediate_dim: int, dropout: float, *parameters) -> Preset:
    config = TransformerConfig(
        width, layers, heads, intermediate_dim, max_length=256, attention_bias=False, dropout=dropout
    )
    return Preset("Translator", config, "https://arxiv.org/abs/1706.03762", 37_000, *parameters)


def _bert(layers: int, width: int, heads: int, *parameters) -> Preset:
    config = TransformerConfig(
        width, layers, heads, 4 * width, "gelu", positions="learned", attention_dropout=0.1, epsilon=1e-12,
        initializer_range=0.02, num_segments=2, embedding_norm=True, template="start_end", next_sentence=True,
    )  # fmt: skip
    return Preset("MaskedLM", config, "https://arxiv.org/abs/1810.04805", 30_522, *parameters)


def _roberta(layers: int, width: int, heads: int, *parameters) -> Preset:
    config = TransformerConfig(
        width, layers, heads, 4 * width, "gelu", positions="learned", attention_dropout=0.1, epsilon=1e-5,
        initializer_range=0.02, num_segments=1, position_offset=2, embedding_norm=True, template="start_end",
    )  # fmt: skip
    return Preset("MaskedLM", config, "https://arxiv.org/abs/1907.11692", 50_265, *parameters)


def _xlnet(layers: int, width: int, heads: int, *parameters) -> Preset:
    config = TransformerConfig(
        width, layers, heads, 4 * width, "gelu", positions="relative", attention_bias=False, attention_dropout=0.1,
        epsilon=1e-12, initializer_range=0.02, num_segments=3, template="end_start",
    )  # fmt: skip
    return Preset("PermutationLM", config, "https://arxiv.org/abs/1906.08237", 32_000, *parameters)


def _gpt(layers: int, width: int, heads: int, source: tuple[str, int], *parameters) -> Preset:
    config = TransformerConfig(
        width, layers, heads, 4 * width, "gelu_tanh", norm_first=True, positions="learned", max_length=1024,
        attention_dropout=0.1, epsilon=1e-5, initializer_range=0.02,
    )  # fmt: skip
    return Preset("CausalLM", config, *source, *parameters)


_SUTSKEVER = "https://arxiv.org/abs/1409.3215"
_BAHDANAU = "https://arxiv.org/abs/1409.0473"
_KARPATHY = "https://karpathy.github.io/2015/05/21/rnn-effectiveness/"
_HUANG = "https://arxiv.org/abs/1508.01991"
_GPT2 = (
    "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    50_257,
)
_MEGATRON = ("https://arxiv.org/abs/1909.08053", 51_200)

# fmt: off
PRESETS: dict[str, Preset] = {
    #                            task, paper,                 embedding_dim, units, dropout, vocabulary, parameters
    "rnn_seq2seq":    _recurrent("Translator", _SUTSKEVER,              256,   384,     0.3,     10_000,  7_188_480),
    "rnn_attention":  _recurrent("Translator", _BAHDANAU,               256,   384,     0.3,     10_000,  8_139_136,
                                 attention="additive", attend_embeddings=True),
    "char_rnn":       _recurrent("CausalLM", _KARPATHY,                  64,   512,     0.2,        100,  3_320_128,
                                 num_layers=2, max_length=256),
    "rnn_classifier": _recurrent("TextClassifier", _BAHDANAU,           128,   128,     0.5,     10_000,  1_854_370,
                                 attention="additive", hash_buckets=2**16),
    "rnn_tagger":     _recurrent("TextTagger", _HUANG,                  128,   256,     0.5,     10_000,  1_543_682,
                                 hash_buckets=2**13),

    #                                             paper,                 embedding_dim, units, vocabulary, parameters
    "show_and_tell":        _captioner("https://arxiv.org/abs/1411.4555",          256,   512,     10_000,  9_412_160),
    "show_attend_and_tell": _captioner("https://arxiv.org/abs/1502.03044",         256,   512,     10_000, 14_460_225,
                                       attention="additive", doubly_stochastic=0.02),

    #                                            layers, width, heads, intermediate_dim, vocabulary, parameters
    "transformer_captioner": _transformer_captioner(  3,   256,     8,             1024,     10_000,  8_306_752),

    #                          layers, width, heads, intermediate_dim, dropout, parameters, published_parameters
    "transformer_tiny":  _translator(4,  128,     4,              256,     0.3,   6_054_912, None),
    "transformer_base":  _translator(6,  512,     8,             2048,     0.1,  63_045_632, "65M"),
    "transformer_large": _translator(6, 1024,    16,             4096,     0.3, 214_171_648, "213M"),

    #                  layers, width, heads,  parameters, published_parameters
    "bert_base":       _bert(12,  768,    12, 109_482_240, "110M"),
    "bert_large":      _bert(24, 1024,    16, 335_141_888, "340M"),
    "roberta_base": _roberta(12,  768,    12, 124_645_632, None),
    "roberta_large": _roberta(24, 1024,   16, 355_359_744, "355M"),
    "xlnet_base":     _xlnet(12,  768,    12, 116_718_336, None),
    "xlnet_large":    _xlnet(24, 1024,    16, 360_268_800, "~340M"),

    #               layers, width, heads, (paper, vocabulary_size), parameters, published_parameters
    "gpt2_small":    _gpt(12,  768,  12,  _GPT2,       124_439_808, "117M"),
    "gpt2_medium":   _gpt(24, 1024,  16,  _GPT2,       354_823_168, "345M"),
    "gpt2_large":    _gpt(36, 1280,  20,  _GPT2,       774_030_080, "762M"),
    "gpt2_xl":       _gpt(48, 1600,  25,  _GPT2,     1_557_611_200, "1.5B"),
    "megatron_1.2b": _gpt(40, 1536,  16,  _MEGATRON, 1_213_479_936, "1.2B"),
    "megatron_2.5b": _gpt(54, 1920,  20,  _MEGATRON, 2_490_408_960, "2.5B"),
    "megatron_4.2b": _gpt(64, 2304,  24,  _MEGATRON, 4_199_109_120, "4.2B"),
    "megatron_8.3b": _gpt(72, 3072,  32,  _MEGATRON, 8_317_040_640, "8.3B"),
}
# fmt: on

# The pre-trained encoders of ENCODER_TASKS can be fine-tuned for ENCODER_USES.
ENCODER_TASKS = ("MaskedLM", "PermutationLM")
ENCODER_USES = ("TextClassifier", "TextTagger")


def presets() -> dict[str, Preset]:
    """Return all presets.

    Returns:
        dict of names to a `Preset`: the task, the config, and the number of parameters.

    Example:
        >>> presets()["bert_base"].parameters
        109482240
    """
    return dict(PRESETS)


def find_preset(name: str, task: str) -> RecurrentConfig | TransformerConfig:
    """Return the config of a preset.

    Args:
        name: a key of `presets()`.
        task: the name of the task class, such as `"Translator"`.

    Returns:
        a config.

    Raises:
        ValueError: the name is unknown (the message suggests similar names), or `task` cannot use the preset.

    Example:
        >>> find_preset("rnn_attention", "Translator").units
        384
    """
    usable_tasks = (task, *(ENCODER_TASKS if task in ENCODER_USES else ()))
    usable_names = [key for key, row in PRESETS.items() if row.task in usable_tasks]
    if name not in PRESETS:
        variants = [key for key in usable_names if key.startswith(re.sub("[ -]", "", name.lower()))]
        suggestion = f" Did you mean {' or '.join(variants)}?" if variants else did_you_mean(name, PRESETS, count=3)
        raise ValueError(f"There is no preset {name!r}; expected {one_of(usable_names)}.{suggestion}")
    row = PRESETS[name]
    if row.task not in usable_tasks:
        raise ValueError(f"Preset {name!r} is a {row.task}, not a {task}; expected {one_of(usable_names)}.")
    return row.config


def check_fields(config: object, task: str, names: Iterable[str], tokenizer_names: Iterable[str] = ()) -> None:
    """Raise a ValueError if a task uses no field of one of these names; the message has the names that it expects."""
    fields = fields_for(config, task)
    if unknown := sorted(set(names) - fields):
        raise ValueError(
            f"{task} has no {', '.join(unknown)}.{did_you_mean(unknown[0], fields)} "
            f"Expected a tokenizer ({', '.join(tokenizer_names)}) or a config field ({', '.join(sorted(fields))})."
        )
