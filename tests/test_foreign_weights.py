"""Weights of transformers with older names, and the errors for unsupported models."""

import json
import re
import shutil

import numpy as np
import pytest
from foreign import (
    MASK,
    batch,
    close,
    edit,
    edit_arrays,
    same,
    saved,
    torch,
    transformers,
    transformers_outputs,
)

import keras_attention as ka
from keras_attention.data import special_tokens_of
from keras_attention.prediction.encoder_outputs import encode_text
from keras_attention.weights import from_huggingface, to_huggingface
from keras_attention.weights.tokenizers import read_word_piece

__all__ = ["saved"]  # a fixture


def rename(directory, pattern: str, replacement: str, **more) -> None:
    """Rename arrays of a checkpoint, and add some."""

    def change(arrays: dict) -> None:
        for name in list(arrays):
            arrays[re.sub(pattern, replacement, name)] = arrays.pop(name)
        arrays.update({name.replace("__", "."): np.asarray(value) for name, value in more.items()})

    edit_arrays(directory, change)


def test_older_names_of_weights_are_read(saved):
    _, directory = saved("BertForPreTraining")
    first = from_huggingface(directory)
    rename(directory, r"LayerNorm\.weight$", "LayerNorm.gamma", bert__embeddings__position_ids=np.arange(31))
    rename(directory, r"LayerNorm\.bias$", "LayerNorm.beta")
    edit(directory, directionality="bidi", pooler_fc_size=768, pooler_type="first_token_transform")  # bert-base-chinese
    edit(directory, gradient_checkpointing=False, position_embedding_type="absolute", architectures=["BertForMaskedLM"])
    same(from_huggingface(directory), first)
    _, directory = saved("GPT2LMHeadModel")
    first = from_huggingface(directory)
    rename(directory, r"^transformer\.", "", h__0__attn__bias=np.ones((1, 1, 31, 31)), h__1__attn__masked_bias=-1e4)
    edit(directory, n_ctx=31, task_specific_params={"text-generation": {"do_sample": True}})
    same(from_huggingface(directory), first)


REFUSALS = {
    "unknown attribute": (lambda d: edit(d, rope_theta=5), r"rope_theta = 5.*could change the computation"),
    "another value": (lambda d: edit(d, position_embedding_type="relative_key"), r"expected 'absolute'"),
    "decoder": (lambda d: edit(d, is_decoder=True), r"`is_decoder` is True"),
    "activation": (lambda d: edit(d, hidden_act="mish"), r"'mish'; expected one of relu"),
    "family": (lambda d: edit(d, model_type="t5"), r"'t5'; expected one of bert, roberta"),
    "size": (lambda d: edit(d, intermediate_size=23), r"intermediate.*has the shape \(22, 15\).*by the config"),
    "left over": (
        lambda d: edit_arrays(d, lambda a: a.update(x=a["cls.predictions.bias"])),
        r"also have x, which the model does not use",
    ),
    "missing": (lambda d: edit_arrays(d, lambda a: a.pop("cls.predictions.bias")), r"lack cls\.predictions\.bias"),
    "no config": (lambda d: (d / "config.json").unlink(), r"There is no config.json"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), r"neither model.safetensors nor"),
    "pickle": (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), r"pickle.*safe_serialization=True"),
    "index": (
        lambda d: ((d / "model.safetensors").unlink(), (d / "model.safetensors.index.json").write_text("{}")),
        r"index.json' has no `weight_map`",
    ),
    "other formats": (
        lambda d: (d / "model.safetensors").rename(d / "tf_model.h5"),
        r"neither model.safetensors nor .*Convert tf_model.h5 with transformers",
    ),
    "Git LFS": (
        lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"),
        r"model.safetensors is a pointer of Git LFS.*git lfs pull",
    ),
    "half a file": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-999]),
        r"model.safetensors is damaged .*Download it again",
    ),
    "NaN": (
        lambda d: edit_arrays(d, lambda a: a["cls.predictions.bias"].put(3, np.nan)),
        r"cls.predictions.bias has NaN values",
    ),
    "directory": (lambda d: shutil.rmtree(d), r"does not exist; expected a directory"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_unsupported_models_are_an_error(case, saved):
    _, directory = saved("BertForMaskedLM")
    break_it, message = REFUSALS[case]
    break_it(directory)
    with pytest.raises(ValueError, match=message):
        from_huggingface(directory)


def test_a_classifier_has_the_mean_pooling_of_a_sentence_encoder(saved, tmp_path):
    foreign_model, directory = saved("BertModel")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    model = from_huggingface(directory, task="TextClassifier", labels=("a", "b", "c"))
    states = transformers_outputs(foreign_model).last_hidden_state.numpy()
    means = [row[mask].mean(axis=0) for row, mask in zip(states, MASK, strict=True)]
    kernel, bias = model.head.get_weights()
    np.testing.assert_allclose(np.asarray(model(batch(model))), np.array(means) @ kernel + bias, atol=1e-5)
    scores = encode_text(model, batch(model), return_attention_scores=True)[1][-1]  # (B, H, S, S)
    attention = model._compute({**batch(model), "valid": np.array([True, True])})["attention"]
    expected = [np.asarray(row)[:, mask].mean(axis=(0, 1)) for row, mask in zip(scores, MASK, strict=True)]
    np.testing.assert_allclose(np.asarray(attention), expected, atol=1e-6)
    with pytest.raises(ValueError, match="`pooling` is 'mean', but bert models always have 'start'"):
        to_huggingface(model, tmp_path / "out")
    first = from_huggingface(directory, task="TextClassifier", labels=("a", "b", "c"), pooling="start")
    assert first.pooler.units == model.config.width


def test_errors_for_invalid_arguments_name_the_expected_values(saved, tokenizer, tmp_path):
    _, directory = saved("BertModel")
    with pytest.raises(ValueError, match="`task` is ''; expected one of MaskedLM, TextClassifier, TextTagger"):
        from_huggingface(directory)
    with pytest.raises(ValueError, match="expected `labels`, a name for each class"):
        from_huggingface(directory, task="TextClassifier")
    with pytest.raises(ValueError, match="There is no units"):
        from_huggingface(directory, task="TextClassifier", labels=("a", "b"), units=3)
    recurrent = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=3)
    with pytest.raises(ValueError, match="transformers has no network like this CausalLM"):
        to_huggingface(recurrent, tmp_path / "out")
    sizes = {"vocabulary_size": 7, "width": 4, "num_heads": 2, "num_layers": 1}
    with pytest.raises(ValueError, match=r"`norm_first` is False, but gpt2 models always have True"):
        to_huggingface(ka.CausalLM.from_preset("gpt2_small", norm_first=False, **sizes), tmp_path / "out")
    uneven = ka.PermutationLM.from_preset("xlnet_base", dropout=0.1, attention_dropout=0.3, intermediate_dim=5, **sizes)
    with pytest.raises(
        ValueError, match=r"`attention_dropout` = 0\.3 and `dropout` = 0\.1, but xlnet has one `dropout`"
    ):
        to_huggingface(uneven, tmp_path / "out")
    converted = from_huggingface(directory, task="TextClassifier", labels=("a", "b"))
    with pytest.raises(ValueError, match="Nothing was overwritten"):
        to_huggingface(converted, directory)
    assert not list(tmp_path.glob(".partial-*"))


def test_special_ids_that_differ_from_the_tokenizers_are_an_error(saved):
    _, directory = saved("GPT2LMHeadModel")
    pieces = ["<|endoftext|>", "<s>", "</s>", *"abĠ", "ab"]
    (directory / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (directory / "merges.txt").write_text("a b\n")
    assert from_huggingface(directory).tokenizer.vocabulary_size() == 7  # transformers' class has <|endoftext|>
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"config.json has bos_token_id = 0, but tokenizer_config.json.*'<s>'.* 1;"):
        from_huggingface(directory)
    edit(directory, bos_token_id=1, eos_token_id=2)
    special = special_tokens_of(from_huggingface(directory).tokenizer)
    assert (special.start, special.end, special.add_start_token) == (1, 2, False)
    edit(directory, eos_token_id=0)
    assert from_huggingface(directory, tokenizer=None).tokenizer is None


DISAGREEMENTS = {  # files of a BERT tokenizer -> the error
    "names": (
        {"tokenizer_config.json": {"sep_token": "[SEP]"}, "special_tokens_map.json": {"sep_token": "<sep>"}},
        r"tokenizer_config.json has sep_token = '\[SEP\]', but special_tokens_map.json has '<sep>'",
    ),
    "id of an added piece": (
        {
            "added_tokens.json": {"[ENT]": 6},
            "tokenizer_config.json": {"added_tokens_decoder": {"7": {"content": "[ENT]"}}},
        },
        r"tokenizer_config.json has '\[ENT\]' = 7, but added_tokens.json has 6",
    ),
    "id of a piece": (
        {"added_tokens.json": {"[SEP]": 6}},
        r"vocabulary has '\[SEP\]' = 3, but added_tokens.* has 6",
    ),
    "piece": ({"tokenizer_config.json": {"cls_token": "<cls>"}}, r"cls_token = '<cls>', which the vocabulary lacks"),
    "config": (
        {"config.json": {"pad_token_id": 3}},
        r"has pad_token_id = 3, but .* '\[PAD\]', whose id is 0",
    ),
    "processor": (
        {"tokenizer.json": {"post_processor": {"type": "BertProcessing", "sep": ["<sep>", 5], "cls": ["[CLS]", 2]}}},
        r"puts \['\[CLS\]'\] before a text and \['<sep>'\] after it, but .* and \['\[SEP\]'\]",
    ),
}


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_tokenizer_files_that_disagree_are_an_error(case, tmp_path):
    files, message = DISAGREEMENTS[case]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<sep>"]))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_word_piece(tmp_path)


def test_roberta_is_exported_only_if_its_first_position_follows_the_padding_id(tokenizer, tmp_path):
    """transformers gives no position to a token with the padding id."""
    sizes = {"tokenizer": tokenizer, "width": 15, "num_heads": 3, "num_layers": 2, "intermediate_dim": 22}
    with pytest.raises(ValueError, match=r"`position_offset` is 2; expected 1\."):
        to_huggingface(ka.MaskedLM.from_preset("roberta_base", **sizes), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    converted = ka.MaskedLM.from_preset("roberta_base", position_offset=1, **sizes)
    to_huggingface(converted, tmp_path / "out")
    model = transformers.RobertaForMaskedLM.from_pretrained(tmp_path / "out").eval()
    ids = np.array([[2, 7, 9, 1, 11, 13, 3]], "int32")
    with torch.no_grad():
        expected = model(torch.tensor(ids).long()).logits.numpy()
    inputs = {"token_ids": ids, "padding_mask": ids >= 0, "segment_ids": ids * 0}
    close(converted(inputs), torch.tensor(expected), slice(None))
