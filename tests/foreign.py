"""Small models of transformers, one batch for them and for our models, and comparisons."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.weights.huggingface import FAMILIES

sys.modules.setdefault("triton", None)  # triton and TensorFlow crash in one process; a CPU does not need triton
torch = pytest.importorskip("torch", reason="the weights to compare with are made by torch")
transformers = pytest.importorskip("transformers", reason="the numbers to compare with are its")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "tiny_ckpt"
V, PAD, END = 29, 28, 0  # size of every vocabulary; padding and end id of Marian
IDS = np.array([[5, 7, 11, 13, 3, 2], [17, 19, 23, 4, 0, 0]], "int32")
MASK = np.array([[True] * 6, [True] * 4 + [False] * 2])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]], "int32")
_BERT = dict(  # noqa: C408
    vocab_size=V, hidden_size=15, num_hidden_layers=2, num_attention_heads=3, intermediate_size=22,
    max_position_embeddings=31, attn_implementation="eager",
)  # fmt: skip
_GPT2 = dict(  # noqa: C408
    vocab_size=V, n_embd=15, n_layer=2, n_head=3, n_inner=22, n_positions=31, bos_token_id=END, eos_token_id=END,
    attn_implementation="eager",
)  # fmt: skip
_MARIAN = dict(  # noqa: C408
    vocab_size=V, d_model=18, encoder_layers=2, decoder_layers=2, encoder_attention_heads=3, decoder_attention_heads=3,
    encoder_ffn_dim=22, decoder_ffn_dim=22, max_position_embeddings=31, pad_token_id=PAD, eos_token_id=END,
    decoder_start_token_id=PAD, bos_token_id=None, forced_eos_token_id=None, scale_embedding=True,
    activation_function="swish",
)  # fmt: skip
# Class of transformers -> a function that makes its config, and our task.
ROWS = {
    "BertForPreTraining": (lambda: transformers.BertConfig(**_BERT), "MaskedLM"),
    "BertForMaskedLM": (lambda: transformers.BertConfig(**_BERT, hidden_act="gelu_new"), "MaskedLM"),
    "BertForSequenceClassification": (lambda: transformers.BertConfig(**_BERT, num_labels=3), "TextClassifier"),
    "BertForTokenClassification": (lambda: transformers.BertConfig(**_BERT, num_labels=5), "TextTagger"),
    "RobertaForMaskedLM": (lambda: transformers.RobertaConfig(**_BERT, type_vocab_size=1), "MaskedLM"),
    "RobertaForSequenceClassification": (lambda: transformers.RobertaConfig(**_BERT), "TextClassifier"),
    "RobertaForTokenClassification": (lambda: transformers.RobertaConfig(**_BERT, num_labels=3), "TextTagger"),
    "GPT2LMHeadModel": (lambda: transformers.GPT2Config(**_GPT2), "CausalLM"),
    "MarianMTModel": (lambda: transformers.MarianConfig(**_MARIAN), "Translator"),
}


def family_named(name: str):
    """Return the tables of a family; the first of several."""
    return next(family for family in FAMILIES if family.name == name)


def foreign(name: str, **sizes):
    """Return a small model of transformers with random weights; no weight is exactly 0 or 1."""
    torch.manual_seed(7)
    kind = getattr(transformers, name)
    config = ROWS[name][0]() if name in ROWS else kind.config_class(**(_GPT2 if "GPT2" in name else _BERT))
    model = kind(kind.config_class(**{**config.to_dict(), **sizes}) if sizes else config)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if "embed_positions" not in path:  # sinusoidal in Marian
                weight.add_(0.2 * torch.randn_like(weight))
        if name == "MarianMTModel":
            model.final_logits_bias.add_(torch.randn_like(model.final_logits_bias))
            model.final_logits_bias[0, END] += 2.0  # so that a search ends
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    """A function: class name -> the model of transformers, and its directory."""

    def save(name: str, sizes: dict | None = None, **options):
        model = foreign(name, **(sizes or {}))
        model.save_pretrained(tmp_path / name, **options)
        return model, tmp_path / name

    return save


def edit(directory: pathlib.Path, **attributes) -> None:
    """Change `config.json`."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **attributes}))


def edit_arrays(directory: pathlib.Path, change) -> None:
    """Change `model.safetensors` with a function that edits its dict."""
    arrays = safetensors_numpy.load_file(directory / "model.safetensors")
    change(arrays)
    safetensors_numpy.save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})


def longs(array) -> "torch.Tensor":
    return torch.tensor(np.asarray(array).astype("int64"))


def transformers_outputs(model, **options) -> dict:
    """Return what transformers computes from the batch above."""
    inputs = {"input_ids": longs(IDS), "attention_mask": longs(MASK)}
    if getattr(model.config, "type_vocab_size", 0):
        inputs["token_type_ids"] = longs(SEGMENTS % model.config.type_vocab_size)
    if isinstance(model, transformers.MarianMTModel):
        inputs["decoder_input_ids"] = longs(IDS[:, ::-1].copy())
    with torch.no_grad():
        return model(**inputs, **options)


def batch(model) -> dict:
    """Return the same batch for our model."""
    if isinstance(model, ka.Translator):
        return {"source_ids": IDS, "source_mask": MASK, "target_ids": IDS[:, ::-1].copy()}
    segments = getattr(model.config, "num_segments", 0)
    inputs = {"token_ids": IDS, "padding_mask": MASK}
    return inputs | ({"segment_ids": SEGMENTS % segments} if segments else {})


def close(one, other, where=MASK) -> None:
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape
    np.testing.assert_allclose(one[where], other[where], atol=1e-5)


def same(one, other) -> None:
    """Check that two of our models have the same config and exactly the same weights."""
    assert one.config == other.config
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
