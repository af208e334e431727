"""GPT-2 and Megatron-GPT2 (converted by transformers): the names of their arrays and attributes in transformers.

Reference: Radford et al., 2019 (Language Models are Unsupervised Multitask Learners); Shoeybi et al., 2019,
https://arxiv.org/abs/1909.08053.
"""

from __future__ import annotations

import functools

from keras_attention.config import TransformerConfig
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import IDENTITY, SPLIT_QKV, Attribute, Family, Row, dense, norm
from keras_attention.weights.tokenizers import GPT2_ROLES, read_byte_pair

_BLOCK = "decoder.blocks.{i}"
_PROJECTIONS = tuple(f"{_BLOCK}.attention.{name}_projection" for name in ("query", "key", "value"))
_KERNELS, _BIASES = (tuple(f"{name}.{part}" for name in _PROJECTIONS) for part in ("kernel", "bias"))
_HF_BLOCK = "transformer.h.{i}"
# `n_ctx` is the size of the mask; the others concern dropout of the embeddings, other heads and precision.
_IGNORED = """
    n_ctx embd_pdrop reorder_and_upcast_attn summary_activation summary_first_dropout summary_proj_to_labels
    summary_type summary_use_proj
"""

GPT2 = Family(
    name="gpt2",
    config=TransformerConfig,
    architectures={"GPT2LMHeadModel": "CausalLM", "GPT2Model": "CausalLM"},
    attributes=(
        Attribute("n_embd", "width"),
        Attribute("n_layer", "num_layers"),
        Attribute("n_head", "num_heads"),
        Attribute("n_inner", "intermediate_dim", lambda value, attributes: value or 4 * attributes["n_embd"]),
        activation("activation_function"),
        Attribute("n_positions", "max_length"),
        Attribute("resid_pdrop", "dropout"),
        Attribute("attn_pdrop", "attention_dropout"),
        Attribute("layer_norm_epsilon", "epsilon"),
        Attribute("initializer_range", "initializer_range"),
        Attribute("vocab_size", "vocabulary_size"),
    ),
    read_tokenizers=functools.partial(read_byte_pair, roles=GPT2_ROLES, template=None),
    roles=GPT2_ROLES,
    token_ids={"bos_token_id": "start", "eos_token_id": "end"},
    default_token_ids=(-1, -1, -1),
    supported_values={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    ignored_attributes=frozenset(_IGNORED.split()),
    defaults={
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
    },
    family_defaults={
        "norm_first": True,
        "positions": "learned",
        "attention_bias": True,
        "num_segments": 0,
        "position_offset": 0,
        "embedding_norm": False,
        "template": "end",
    },
    rows=(
        Row("transformer.wte.weight", "embedding.embeddings"),
        Row("transformer.wpe.weight", "decoder.input_embedding.positions.table"),
        *norm(f"{_HF_BLOCK}.ln_1", f"{_BLOCK}.attention_norm"),
        Row(f"{_HF_BLOCK}.attn.c_attn.weight", _KERNELS, SPLIT_QKV),
        Row(f"{_HF_BLOCK}.attn.c_attn.bias", _BIASES, SPLIT_QKV),
        *dense(f"{_HF_BLOCK}.attn.c_proj", f"{_BLOCK}.attention.output_projection", IDENTITY),
        *norm(f"{_HF_BLOCK}.ln_2", f"{_BLOCK}.feed_forward_norm"),
        *dense(f"{_HF_BLOCK}.mlp.c_fc", f"{_BLOCK}.hidden", IDENTITY),
        *dense(f"{_HF_BLOCK}.mlp.c_proj", f"{_BLOCK}.output_projection", IDENTITY),
        *norm("transformer.ln_f", "decoder.norm"),
    ),
    tied_arrays={"lm_head.weight": "transformer.wte.weight"},
    ignored=(r"\.attn\.(bias|masked_bias)$",),  # the causal mask
    prefix="transformer.",
)
