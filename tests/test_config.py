"""Sizes outside their range are refused where they are given, with the name, the value and what was expected."""

import dataclasses

import pytest

import keras_attention as ka

MISTAKES = [
    ("rnn_attention", {"units": 0}, "`units` is 0; expected an integer, at least 1"),
    ("rnn_attention", {"units": 2.5}, r"`units` is 2\.5; expected an integer, at least 1"),
    ("rnn_attention", {"embedding_dim": -3}, "`embedding_dim` is -3; expected an integer, at least 1"),
    ("rnn_attention", {"num_layers": 0}, "`num_layers` is 0; expected an integer, at least 1"),
    ("rnn_attention", {"max_length": 1}, "`max_length` is 1; expected an integer, at least 2"),
    ("rnn_attention", {"dropout": 1.0}, r"`dropout` is 1\.0; expected a number in \[0, 1\)"),
    ("rnn_attention", {"dropout": "0.1"}, "`dropout` is '0.1'; expected a number"),
    ("rnn_attention", {"cell": "lstn"}, "`cell` is 'lstn'; expected one of .*'simple', 'gru', 'lstm'"),
    ("rnn_attention", {"attention": "hard"}, "`attention` is 'hard'; expected None or one of .*'additive', 'dot'"),
    ("rnn_tagger", {"max_word_length": 0}, "`max_word_length` is 0; expected an integer, at least 1"),
    ("transformer_base", {"num_heads": 7}, "`num_heads` is 7; expected a divisor of 512, the width"),
    ("transformer_base", {"width": 0}, "`width` is 0; expected an integer, at least 1"),
    ("transformer_base", {"activation": "mish"}, "`activation` is 'mish'; expected one of .*'relu', 'gelu'"),
    ("transformer_base", {"positions": "none"}, "`positions` is 'none'; expected one of .*'sinusoidal', 'learned'"),
    ("transformer_base", {"positions": "relative"}, "`positions` is 'relative'; expected 'sinusoidal' or 'learned'"),
    ("transformer_base", {"attention_dropout": -0.1}, r"`attention_dropout` is -0\.1; expected a number in \[0, 1\)"),
    ("transformer_base", {"shared_vocabulary": "False"}, "`shared_vocabulary` is 'False'; expected a boolean"),
    ("bert_base", {"template": "middle"}, "`template` is 'middle'; expected one of .*'end', 'start_end', 'end_start'"),
]


@pytest.mark.parametrize(("preset", "sizes", "message"), MISTAKES, ids=[f"{p} {s}" for p, s, _ in MISTAKES])
def test_a_size_outside_its_range_is_explained(preset, sizes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ka.presets()[preset].config, **sizes)


@pytest.mark.parametrize("name", ka.presets())
def test_a_preset_is_frozen_and_may_have_other_sizes(name):
    config = ka.presets()[name].config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_length = 3
    assert dataclasses.replace(config, max_length=17).max_length == 17
