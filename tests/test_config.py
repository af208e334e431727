"""Config validation: every invalid value with its message, and the fields of each task."""

import re

import pytest

import keras_attention as ka
from keras_attention.config import (
    RecurrentCaptionerConfig,
    RecurrentConfig,
    TransformerCaptionerConfig,
    TransformerConfig,
    fields_for,
)

CELLS, ATTENTIONS = "simple, gru, lstm", "additive, dot, scaled_dot"
POSITIONS = "one of sinusoidal, learned, relative"
# fmt: off
REJECTED = [
    (RecurrentConfig, {"embedding_dim": 0}, "an integer, at least 1"),
    (RecurrentConfig, {"units": 2.5}, "an integer, at least 1"),
    (RecurrentConfig, {"num_layers": "2"}, "an integer, at least 1"),
    (RecurrentConfig, {"max_length": 1}, "an integer, at least 2"),
    (RecurrentConfig, {"max_word_length": 0}, "an integer, at least 1"),
    (RecurrentConfig, {"vocabulary_size": -1}, "an integer, at least 0"),
    (RecurrentConfig, {"source_vocabulary_size": -1}, "an integer, at least 0"),
    (RecurrentConfig, {"target_vocabulary_size": 0.5}, "an integer, at least 0"),
    (RecurrentConfig, {"character_vocabulary_size": -1}, "an integer, at least 0"),
    (RecurrentConfig, {"dropout": 1.0}, "a number in [0, 1)"),
    (RecurrentConfig, {"dropout": "0.1"}, "a number"),
    (RecurrentConfig, {"cell": "lstn"}, f"one of {CELLS}"),
    (RecurrentConfig, {"attention": "hard"}, f"one of {ATTENTIONS}, or None"),
    (TransformerConfig, {"width": 0}, "an integer, at least 1"),
    (TransformerConfig, {"num_layers": 0}, "an integer, at least 1"),
    (TransformerConfig, {"num_heads": 7}, "a divisor of 512, the width"),
    (TransformerConfig, {"intermediate_dim": -3}, "an integer, at least 1"),
    (TransformerConfig, {"max_length": 1}, "an integer, at least 2"),
    (TransformerConfig, {"num_segments": -1}, "an integer, at least 0"),
    (TransformerConfig, {"position_offset": -1}, "an integer, at least 0"),
    (TransformerConfig, {"vocabulary_size": -1}, "an integer, at least 0"),
    (TransformerConfig, {"dropout": -0.1}, "a number in [0, 1)"),
    (TransformerConfig, {"attention_dropout": 1}, "a number in [0, 1)"),
    (TransformerConfig, {"epsilon": "1e-6"}, "a number"),
    (TransformerConfig, {"activation": "tanh"}, "one of relu, gelu, gelu_tanh, silu"),
    (TransformerConfig, {"positions": "rotary"}, POSITIONS),
    (TransformerConfig, {"template": "start"}, "one of end, start_end, end_start"),
    (TransformerConfig, {"norm_first": "False"}, "a boolean, true or false"),
    (TransformerConfig, {"attention_bias": 1}, "a boolean, true or false"),
    (TransformerConfig, {"shared_vocabulary": "true"}, "a boolean, true or false"),
    (TransformerConfig, {"output_bias": None}, "a boolean, true or false"),
    (TransformerConfig, {"embedding_norm": 0}, "a boolean, true or false"),
    (TransformerConfig, {"next_sentence": "no"}, "a boolean, true or false"),
    (RecurrentCaptionerConfig, {"image_size": 15}, "an integer, at least 16"),
    (RecurrentCaptionerConfig, {"attention": "soft"}, f"one of {ATTENTIONS}, hard, or None"),
    (RecurrentCaptionerConfig, {"image_injection": "merge"}, "one of init, pre"),
    (RecurrentCaptionerConfig, {"coordinate_features": True}, "False without attention"),
    (RecurrentCaptionerConfig, {"grounded_attention": True}, "False without attention"),
    (RecurrentCaptionerConfig, {"tie_weights": "False"}, "a boolean, true or false"),
    (RecurrentCaptionerConfig, {"attention_smoothing": -1.0}, "0 or more"),
    (RecurrentCaptionerConfig, {"attention_smoothing": 1.5}, "0 without attention or with hard attention"),
    (RecurrentCaptionerConfig, {"attention_smoothing": 1.5, "attention": "hard"}, "0 without attention"),
    (RecurrentCaptionerConfig, {"doubly_stochastic": -1.0}, "0 or more"),
    (RecurrentCaptionerConfig, {"reinforce": -1.0}, "0 or more"),
    (RecurrentCaptionerConfig, {"entropy": -1.0}, "0 or more"),
    (TransformerCaptionerConfig, {"image_size": 15}, "an integer, at least 16"),
    (TransformerCaptionerConfig, {"encoder_layers": -1}, "an integer, at least 0"),
    (TransformerCaptionerConfig, {"positions": "relative"}, "'sinusoidal' or 'learned' in a captioner"),
]
# fmt: on


@pytest.mark.parametrize(("kind", "values", "expected"), REJECTED)
def test_an_error_for_an_invalid_value_names_the_expected_ones(kind, values, expected):
    (name, value), *_ = values.items()
    with pytest.raises(ValueError, match=re.escape(f"`{name}` is {value!r}; expected {expected}")):
        kind(**values)


ONE_TEXT = ("CausalLM", "MaskedLM", "PermutationLM", "TextClassifier", "TextTagger")


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("vocabulary_size", (*ONE_TEXT, "Captioner")),
        ("source_vocabulary_size", ("Translator",)),
        ("labels", ("TextClassifier", "TextTagger")),
        ("template", ONE_TEXT),
        ("pooling", ("TextClassifier",)),
        ("output_bias", ("Translator", "Captioner")),
        ("dropout", (*ONE_TEXT, "Captioner", "Translator")),
    ],
)
def test_a_field_belongs_to_its_tasks(name, tasks):
    tasks_with_field = [
        task for task in (*ONE_TEXT, "Captioner", "Translator") if name in fields_for(TransformerConfig, task)
    ]
    assert set(tasks_with_field) == set(tasks)


@pytest.mark.parametrize(
    ("task", "preset", "field"),
    [
        ("Translator", "rnn_attention", {"labels": ("a", "b")}),
        ("Translator", "transformer_tiny", {"template": "start_end"}),
        ("CausalLM", "char_rnn", {"character_vocabulary_size": 7}),
        ("MaskedLM", "bert_base", {"shared_vocabulary": True}),
        ("Captioner", "show_and_tell", {"labels": ("a", "b")}),
    ],
)
def test_from_preset_rejects_a_field_of_another_task(task, preset, field):
    (name,) = field
    with pytest.raises(ValueError, match=f"{task} has no {name}"):
        getattr(ka, task).from_preset(preset, **field)
