"""The number of parameters of every preset equals the exact count of its paper."""

import concurrent.futures
import dataclasses
import json

import keras
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


def count(name: str, num_layers: int) -> int:
    """Count the parameters of a preset with some layers like its paper, without creating the values of the weights."""
    row = ka.presets()[name]
    sides = ("source_", "target_") if row.task == "Translator" else ("",)
    config = {"num_layers": num_layers, **{f"{side}vocabulary_size": row.vocabulary_size for side in sides}}
    task = "TextClassifier" if row.task == "MaskedLM" else row.task  # the paper counts the pooler
    labels = {"labels": ("a", "b")} if task == "TextClassifier" else {}

    def build():
        with keras.StatelessScope(initialize_variables=False):
            model = getattr(ka, task)(dataclasses.replace(row.config, **config, **labels))
        encoder = [getattr(model, name, None) for name in ("embedding", "mask_embedding", "encoder", "pooler")]
        layers = encoder if row.task in ("MaskedLM", "PermutationLM") else [model]  # without the head for pre-training
        return sum(layer.count_params() for layer in layers if layer is not None)

    # Keras has a list per thread of variables without a value; it ends with the thread.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()


def count_whole(name: str) -> int:
    """Count the parameters of networks with one and with two layers: each further layer has the same number."""
    one, two = count(name, 1), count(name, 2)
    return one + (ka.presets()[name].config.num_layers - 1) * (two - one)


@pytest.mark.slow
def test_every_preset_with_a_vocabulary_has_the_papers_number_of_parameters():
    rows = {name: row.parameters for name, row in ka.presets().items() if row.vocabulary_size}
    assert {name: count_whole(name) for name in rows} == rows
    assert rows == {**EXACT, "transformer_tiny": 6_054_912}
    for name in ("bert_base", "transformer_base"):  # all their layers
        assert count(name, ka.presets()[name].config.num_layers) == EXACT[name]


def test_a_recurrent_preset_has_no_vocabulary_size():
    assert all(row.parameters is None for row in ka.presets().values() if not row.vocabulary_size)


def test_presets_can_be_printed_as_json(capsys, monkeypatch):
    from keras_attention.cli import commands

    commands.main(["presets", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["parameters"] for row in rows if row["name"] in EXACT} == EXACT
    keys = {"name", "task", "layers", "width", "heads", "parameters", "published_parameters"}
    assert all(set(row) == keys for row in rows)
    (largest,) = [row for row in rows if row["name"] == "megatron_8.3b"]
    assert (largest["layers"], largest["width"], largest["heads"]) == (72, 3072, 32)
    commands.main(["presets"], standalone_mode=False)
    assert "8,317,040,640" in capsys.readouterr().out


def test_only_presets_of_encoders_can_be_used_for_other_tasks():
    tokenizer = ka.data.train_tokenizer(["abc"], "characters")
    with pytest.raises(ValueError, match="is a CausalLM, not a TextClassifier"):
        ka.TextClassifier.from_preset("gpt2_small", tokenizer=tokenizer, labels=("a", "b"))
