"""XLNet: outputs of published checkpoints and of transformers, and export to transformers."""

import dataclasses
import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest
from backends import array
from permuted import B, H, M, S, V, batch, make_model, make_rng

import keras_attention as ka
from keras_attention.weights import from_huggingface, to_huggingface
from keras_attention.weights.attributes import make_config, read_config
from keras_attention.weights.convert import load_arrays
from keras_attention.weights.xlnet import XLNET

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "tiny_ckpt" / "xlnet"


# Against the outputs of another implementation


def names_of_transformers(arrays: dict[str, np.ndarray], layers: int = 2) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint of XLNet's authors with the names and shapes of transformers."""
    vectors = ("r_w_bias", "r_r_bias", "r_s_bias", "seg_embed")  # one array for all layers
    named = {}
    for name, value in arrays.items():
        name = name.removeprefix("model/").replace("/", ".")
        last = name.split(".")[-1]
        if last in vectors:
            stacked = value.ndim == 4 or (value.ndim == 3 and last != "seg_embed")
            for i in range(layers):
                named[f"transformer.layer.{i}.rel_attn.{last}"] = value[i] if stacked else value
            continue
        name = re.sub(r"\.layer_(\d)\.(rel_attn|ff)", r".layer.\1.\2", name).replace("mask_emb.mask_emb", "mask_emb")
        name = re.sub(r"(rel_attn\.[qkvor])\.kernel", r"\1", name).replace("LayerNorm", "layer_norm")
        named[re.sub(r"\.(gamma|kernel|lookup_table)$", ".weight", name).replace(".beta", ".bias")] = (
            value.T if last == "kernel" and value.ndim == 2 else value
        )
    return named


def load_tiny(name: str, task: type = ka.PermutationLM, **overrides) -> tuple[dict[str, np.ndarray], ka.models.Task]:
    """Return the published outputs of a checkpoint, and a model with its weights."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; KERAS_ATTENTION_DATA names the folder")
    attributes = json.loads((folder / "xlnet_config.json").read_text())
    attributes |= {"vocab_size": attributes.pop("n_token"), "ff_activation": "gelu_new"}  # the GELU of the authors
    family = dataclasses.replace(XLNET, ignored_attributes=XLNET.ignored_attributes | {"tie_weight"})
    model = task(make_config(family, read_config(family, attributes), **overrides))
    arrays = names_of_transformers(np.load(folder / "xlnet_model.ckpt.npz"))
    load_arrays(model, family, arrays, new_head=task is not ka.PermutationLM)
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}, model


def tiny_memories(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    memories = {f"block_{i}": published[f"mems_{i}"].astype("float32") for i in range(2)}
    return {**memories, "mask": np.ones((2, 5), bool)}


BACKWARD = np.tril(np.ones((5, 5), bool))[None]


def test_one_stream_equals_a_published_checkpoint():
    published, model = load_tiny("test_checkpoint_empty", ka.TextTagger, labels=("a", "b"))  # it has no mask embedding
    tokens = model.embedding(published["input_ids"])
    outputs = model.encoder(tokens, segment_ids=published["seg_ids"], permutation_mask=BACKWARD)
    np.testing.assert_allclose(array(outputs), published["empty_output"], rtol=0, atol=1e-5)


def test_two_streams_and_memory_equal_a_published_checkpoint():
    published, model = load_tiny("test_checkpoint_pre")
    tokens, masked = model.embedding(published["input_ids"]), published["input_query"][..., None].astype("float32")
    queries = masked * model.mask_embedding(tokens) + (1 - masked) * tokens
    options = {"segment_ids": published["seg_ids"], "permutation_mask": BACKWARD, "memories": tiny_memories(published)}
    outputs = model.encoder(tokens, queries=queries, **options)
    logits = array(model._to_logits(outputs))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, published["pre_output"], rtol=0, atol=1e-6)


def test_the_new_memory_equals_a_published_checkpoint():
    published, model = load_tiny("test_checkpoint_pre")
    options = {"segment_ids": published["seg_ids"], "memories": tiny_memories(published), "memory_length": 5}
    _, new = model.encoder.encode_part(model.embedding(published["input_ids"]), permutation_mask=BACKWARD, **options)
    for i in range(2):
        np.testing.assert_allclose(array(new[f"block_{i}"]), published[f"pre_new_mems_{i}"], rtol=0, atol=1e-5)


# Against transformers


def foreign_packages() -> tuple:
    sys.modules.setdefault("triton", None)  # triton and TensorFlow crash in one process; a CPU does not need triton
    return pytest.importorskip("torch"), pytest.importorskip("transformers")


def make_models(tmp_path, kind: str = "XLNetLMHeadModel"):
    """Return a small model of transformers with random weights, and our model, read from its files."""
    torch, transformers = foreign_packages()
    sizes = {"vocab_size": V, "d_model": M, "n_layer": 2, "n_head": H, "d_inner": 11, "mem_len": None}
    network = getattr(transformers, kind)(transformers.XLNetConfig(**sizes)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5)
    network.save_pretrained(tmp_path / "transformers")
    return network, from_huggingface(tmp_path / "transformers")


def run_transformers(network, inputs: dict[str, np.ndarray], **options):
    import torch

    with torch.no_grad():
        return network(**{name: torch.as_tensor(np.asarray(x)) for name, x in inputs.items()}, **options)


def transformers_inputs(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "input_ids": inputs["token_ids"].astype("int64"),
        "attention_mask": inputs["padding_mask"].astype("float32"),
        "token_type_ids": inputs["segment_ids"].astype("int64"),
    }


def test_features_and_attention_equal_those_of_transformers(tmp_path):
    network, model = make_models(tmp_path)
    inputs = batch()
    reference = run_transformers(network.transformer, transformers_inputs(inputs), output_attentions=True)
    outputs, scores = model.encoder(
        model.embedding(inputs["token_ids"]),
        mask=inputs["padding_mask"],
        segment_ids=inputs["segment_ids"],
        return_attention_scores=True,
    )
    real = inputs["padding_mask"]
    np.testing.assert_allclose(array(outputs)[real], reference.last_hidden_state.numpy()[real], rtol=0, atol=1e-5)
    for one, two in zip(scores, reference.attentions, strict=True):
        np.testing.assert_allclose(array(one).swapaxes(1, 2)[real], two.numpy().swapaxes(1, 2)[real], rtol=0, atol=1e-5)


def test_logits_of_both_streams_equal_those_of_transformers(tmp_path):
    network, model = make_models(tmp_path)
    inputs = batch()
    permuted = {
        **transformers_inputs(inputs),
        "perm_mask": 1.0 - inputs["permutation_mask"].astype("float32"),
        "target_mapping": inputs["target_mapping"],
    }
    reference = run_transformers(network, permuted, output_attentions=True)
    np.testing.assert_allclose(array(model(inputs)), reference.logits.numpy(), rtol=0, atol=1e-5)
    _, attention = model.encoder(
        model.embedding(inputs["token_ids"]),
        inputs["padding_mask"],
        inputs["segment_ids"],
        inputs["permutation_mask"],
        model.mask_embedding(inputs["target_mapping"]),
        inputs["target_mapping"],
        return_attention_scores=True,
    )
    for i, (_, queries) in enumerate(reference.attentions):
        expected = np.einsum("bps,bhsk->bhpk", inputs["target_mapping"], queries.numpy())
        np.testing.assert_allclose(array(attention[i]), expected, rtol=0, atol=1e-5)


def test_memories_equal_those_of_transformers(tmp_path):
    network, model = make_models(tmp_path)
    first, second = (make_rng(i).integers(0, V, (B, S)) for i in (1, 2))
    reference, mask = run_transformers(network.transformer, {"input_ids": first}, use_mems=True), np.ones((B, S), bool)
    _, memories = model.encode_part({"token_ids": first, "padding_mask": mask})
    for i, states in enumerate(reference.mems):
        np.testing.assert_allclose(memories[f"block_{i}"], states.numpy().swapaxes(0, 1), rtol=0, atol=1e-5)
    reference = run_transformers(network.transformer, {"input_ids": second}, mems=reference.mems, use_mems=True)
    outputs, _ = model.encode_part({"token_ids": second, "padding_mask": mask}, memories)
    np.testing.assert_allclose(outputs, reference.last_hidden_state.numpy(), rtol=0, atol=1e-5)


def test_an_empty_memory_equals_no_memory(tmp_path):
    _, model = make_models(tmp_path)
    inputs = {"token_ids": make_rng(1).integers(0, V, (B, S)), "padding_mask": np.ones((B, S), bool)}
    alone, nothing = model.encode_part(inputs, None, 0)
    np.testing.assert_allclose(model.encode_part(inputs, nothing)[0], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["XLNetForSequenceClassification", "XLNetForTokenClassification"])
def test_classes_equal_those_of_transformers(tmp_path, kind):
    network, model = make_models(tmp_path, kind)
    inputs = {name: x for name, x in batch().items() if name in ("token_ids", "segment_ids")}
    inputs["padding_mask"] = np.ones((B, S), bool)
    reference = run_transformers(network, transformers_inputs(inputs))
    np.testing.assert_allclose(array(model(inputs)), reference.logits.numpy(), rtol=0, atol=1e-5)


def test_transformers_reads_our_export(tmp_path):
    _, transformers = foreign_packages()
    model, inputs = make_model(), batch()
    to_huggingface(model, tmp_path / "ours")
    network = transformers.XLNetLMHeadModel.from_pretrained(tmp_path / "ours").eval()
    permuted = {
        **transformers_inputs(inputs),
        "perm_mask": 1.0 - inputs["permutation_mask"].astype("float32"),
        "target_mapping": inputs["target_mapping"],
    }
    np.testing.assert_allclose(
        array(model(inputs)), run_transformers(network, permuted).logits.numpy(), rtol=0, atol=1e-5
    )
    again = from_huggingface(tmp_path / "ours", max_length=19)
    assert again.config == model.config
