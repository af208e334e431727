"""Every preset's size, against the papers' exact counts."""

import json

import pytest

import keras_attention as ka

EXACT = {
    "transformer_base": 63_045_632,
    "transformer_large": 214_171_648,
    "bert_base": 109_482_240,
    "bert_large": 335_141_888,
    "roberta_base": 124_645_632,
    "roberta_large": 355_359_744,
    "xlnet_base": 116_718_336,
    "xlnet_large": 360_268_800,
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
    "megatron_1.2b": 1_213_479_936,
    "megatron_2.5b": 2_490_408_960,
    "megatron_4.2b": 4_199_109_120,
    "megatron_8.3b": 8_317_040_640,
}


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_those_of_the_paper(name):
    assert ka.count_parameters(name) == EXACT[name]


def test_billions_are_counted_without_being_allocated():
    """Each weight is known by its shape, and none has a value: 8.3 billion would fill 33 GB."""
    import resource

    ka.count_parameters.cache_clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ka.count_parameters("megatron_8.3b")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # KiB


def test_a_recurrent_preset_needs_a_vocabulary():
    with pytest.raises(ValueError, match="vocabulary_size"):
        ka.count_parameters("char_rnn")
    tokenizer = ka.data.train_tokenizer(["abc"], "characters")
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer)
    assert ka.count_parameters("char_rnn", tokenizer.vocabulary_size()) == model.count_params()


def test_table_for_machines(capsys, monkeypatch):
    from keras_attention.cli import commands

    commands.main(["presets", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["parameters"] for row in rows if row["name"] in EXACT} == EXACT
    keys = {"name", "task", "layers", "width", "heads", "parameters", "lecture_parameters"}
    assert all(set(row) == keys for row in rows)
    (largest,) = [row for row in rows if row["name"] == "megatron_8.3b"]
    assert (largest["layers"], largest["width"], largest["heads"]) == (72, 3072, 32)
    commands.main(["presets"], standalone_mode=False)
    assert "8,317,040,640" in capsys.readouterr().out


def test_an_encoder_serves_other_tasks_and_nothing_else_does():
    tokenizer = ka.data.train_tokenizer(["abc"], "characters")
    with pytest.raises(ValueError, match="is a CausalLM, not a TextClassifier"):
        ka.TextClassifier.from_preset("gpt2_small", tokenizer=tokenizer, labels=("a", "b"))
