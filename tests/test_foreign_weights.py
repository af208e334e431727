"""Foreign weights of other writers, and what is refused, with its message."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from foreign import (
    DATA,
    IDS,
    MASK,
    SEGMENTS,
    batch,
    close,
    edit,
    edit_arrays,
    longs,
    safetensors_numpy,
    same,
    saved,
    theirs,
    torch,
    transformers,
)

import keras_attention as ka
from keras_attention.weights import from_huggingface, from_tensorflow, to_huggingface
from keras_attention.weights.convert import collect_arrays
from keras_attention.weights.megatron import megatron_family

__all__ = ["saved"]  # a fixture


@pytest.mark.parametrize("version", [0, 1.0, 2.0, 3.0])
def test_megatron_is_gpt2_with_other_names(version, saved):
    _, directory = saved("GPT2LMHeadModel")
    own, family = from_huggingface(directory), megatron_family({"checkpoint_version": version})
    arrays = collect_arrays(own, family)
    weight = arrays["language_model.transformer.layers.1.attention.query_key_value.weight"]  # (3 H D, M)
    orders = {0: "phd", 1.0: "hdp", 2.0: "hpd", 3.0: "hpd"}
    parts = weight.reshape([{"p": 3, "h": 3, "d": 5}[axis] for axis in orders[version]] + [15])
    query = parts.take(0, axis=orders[version].index("p")).reshape(15, 15).T
    np.testing.assert_array_equal(query, own.decoder.blocks[1].attention.query_projection.kernel)
    (directory / "model.safetensors").unlink()
    safetensors_numpy.save_file(arrays, directory / "model.safetensors")
    edit(directory, model_type="megatron-gpt2", checkpoint_version=version)
    same(from_huggingface(directory), own)


def rename(directory, pattern: str, replacement: str, **more) -> None:
    """Give arrays other names, and add some."""

    def change(arrays: dict) -> None:
        for name in list(arrays):
            arrays[re.sub(pattern, replacement, name)] = arrays.pop(name)
        arrays.update({name.replace("__", "."): np.asarray(value) for name, value in more.items()})

    edit_arrays(directory, change)


def test_old_spellings_are_read(saved):
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
    "unknown attribute": (lambda d: edit(d, rope_theta=5), r"rope_theta = 5.*could change what the network computes"),
    "another value": (lambda d: edit(d, position_embedding_type="relative_key"), r"expected 'absolute'"),
    "decoder": (lambda d: edit(d, is_decoder=True), r"`is_decoder` is True"),
    "activation": (lambda d: edit(d, hidden_act="mish"), r"'mish'; expected one of relu"),
    "family": (lambda d: edit(d, model_type="t5"), r"'t5'; expected one of bert, roberta"),
    "size": (lambda d: edit(d, intermediate_size=23), r"intermediate.*has the shape \(22, 15\).*the config says"),
    "left over": (
        lambda d: edit_arrays(d, lambda a: a.update(x=a["cls.predictions.bias"])),
        r"also hold x, which noth",
    ),
    "missing": (lambda d: edit_arrays(d, lambda a: a.pop("cls.predictions.bias")), r"lack cls\.predictions\.bias"),
    "no config": (lambda d: (d / "config.json").unlink(), r"There is no config.json"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), r"neither model.safetensors nor"),
    "pickle": (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), r"pickle.*safe_serialization=True"),
    "index": (
        lambda d: ((d / "model.safetensors").unlink(), (d / "model.safetensors.index.json").write_text("{}")),
        r"index.json' has no `weight_map`",
    ),
    "directory": (lambda d: shutil.rmtree(d), r"is not there; expected a directory"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_known_is_refused(case, saved):
    _, directory = saved("BertForMaskedLM")
    spoil, message = REFUSALS[case]
    spoil(directory)
    with pytest.raises(ValueError, match=message):
        from_huggingface(directory)


def test_wrong_requests_say_what_was_expected(saved, tokenizer, tmp_path):
    _, directory = saved("BertModel")
    with pytest.raises(ValueError, match="`task` is ''; expected one of MaskedLM, TextClassifier, TextTagger"):
        from_huggingface(directory)
    with pytest.raises(ValueError, match=r"expected labels=\("):
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
    own = from_huggingface(directory, task="TextClassifier", labels=("a", "b"))
    with pytest.raises(ValueError, match="Nothing was overwritten"):
        to_huggingface(own, directory)
    assert not list(tmp_path.glob("*.unfinished"))


def test_ids_that_the_tokenizer_calls_otherwise_are_refused(saved):
    _, directory = saved("GPT2LMHeadModel")
    pieces = ["<|endoftext|>", "<s>", "</s>", *"abĠ", "ab"]
    (directory / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (directory / "merges.txt").write_text("a b\n")
    with pytest.raises(ValueError, match=r"bos_token_id = 0, eos_token_id = 0, but .* bos_token_id = 1, eos_token_id"):
        from_huggingface(directory)
    edit(directory, bos_token_id=1, eos_token_id=2)
    assert from_huggingface(directory).tokenizer.vocabulary_size() == 7
    edit(directory, eos_token_id=0)
    assert from_huggingface(directory, tokenizer=None).tokenizer is None


def test_roberta_leaves_only_with_the_padding_that_its_positions_count_from(tokenizer, tmp_path):
    """transformers takes each piece whose id is that of padding for padding, and counts no position for it."""
    sizes = {"tokenizer": tokenizer, "width": 15, "num_heads": 3, "num_layers": 2, "intermediate_dim": 22}
    with pytest.raises(ValueError, match=r"`position_offset` is 2; expected 1\."):
        to_huggingface(ka.MaskedLM.from_preset("roberta_base", **sizes), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    own = ka.MaskedLM.from_preset("roberta_base", position_offset=1, **sizes)
    to_huggingface(own, tmp_path / "out")
    model = transformers.RobertaForMaskedLM.from_pretrained(tmp_path / "out").eval()
    ids = np.array([[2, 7, 9, 1, 11, 13, 3]], "int32")
    with torch.no_grad():
        expected = model(torch.tensor(ids).long()).logits.numpy()
    inputs = {"token_ids": ids, "padding_mask": ids >= 0, "segment_ids": ids * 0}
    close(own(inputs), torch.tensor(expected), slice(None))


def from_original(model, arrays) -> None:
    """Give a model of transformers the arrays of an original checkpoint, by their names."""
    named = {}
    for name in arrays:
        if name.endswith(("adam_m", "adam_v", "global_step")):
            continue
        new = re.sub(r"layer_(\d)", r"layer.\1", name.replace("/", "."))
        new = re.sub(r"^model\.(?:h(\d)\.)?", lambda m: f"transformer.h.{m[1]}." if m[1] else "transformer.", new)
        new = re.sub(
            r"(kernel|gamma|output_weights|\b[gw])$", "weight", re.sub(r"(beta|output_bias|\bb)$", "bias", new)
        )
        value = arrays[name].T if name.endswith("kernel") else arrays[name]
        named[new] = torch.tensor(value[0] if value.ndim == 3 else value)
        if new.endswith(("_embeddings", "wte", "wpe")):
            named[f"{new}.weight"] = named.pop(new)
    missing = model.load_state_dict(named, strict=False)
    assert not missing.unexpected_keys
    assert not [name for name in missing.missing_keys if "decoder" not in name and name != "lm_head.weight"]
    model.tie_weights()


@pytest.mark.skipif(not DATA.is_dir(), reason="there are no original checkpoints in KERAS_ATTENTION_DATA")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow reads these checkpoints")
def test_the_first_bert_loads():
    own = from_tensorflow(DATA / "bert_toy")
    sizes = json.loads((DATA / "bert_toy" / "bert_config.json").read_text())
    model = transformers.BertForPreTraining(transformers.BertConfig(**sizes)).eval()
    from_original(model, np.load(DATA / "bert_toy" / "bert_model.ckpt.npz"))
    with torch.no_grad():
        answer = model(longs(IDS % 15), attention_mask=longs(MASK), token_type_ids=longs(SEGMENTS))
    found = own({**batch(own), "token_ids": IDS % 15})
    close(found["logits"], answer.prediction_logits)
    close(found["next_sentence"], answer.seq_relationship_logits, slice(None))
    assert own.tokenizer.vocabulary_size() == 15


@pytest.mark.skipif(not DATA.is_dir(), reason="there are no original checkpoints in KERAS_ATTENTION_DATA")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow reads these checkpoints")
def test_the_first_gpt2_loads():
    with pytest.raises(ValueError, match="tokenizer=None to load the weights alone"):
        from_tensorflow(DATA / "gpt2_toy")
    own = from_tensorflow(DATA / "gpt2_toy", tokenizer=None)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=356, n_positions=20, n_embd=15, n_layer=3, n_head=5)
    ).eval()
    from_original(model, np.load(DATA / "gpt2_toy" / "model.ckpt.npz"))
    close(own(batch(own)), theirs(model).logits)
