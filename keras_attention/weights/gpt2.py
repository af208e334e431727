"""GPT-2: names of its arrays and attributes, as transformers writes them and as its authors did.

Reference: Radford et al., 2019 (Language Models are Unsupervised Multitask Learners).
"""

from __future__ import annotations

import dataclasses

from keras_attention.config import TransformerConfig
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import FIRST, SAME, THIRDS, Attribute, Family, Row, Transform, dense, norm

_BLOCK = "decoder.blocks.{i}"
PROJECTIONS = tuple(f"{_BLOCK}.attention.{name}_projection" for name in ("query", "key", "value"))
KERNELS, BIASES = (tuple(f"{name}.{part}" for name in PROJECTIONS) for part in ("kernel", "bias"))
_THEIRS = "transformer.h.{i}"
# `n_ctx` is the size of the mask, the rest dropout of the embeddings, heads that are not here, and precision.
_HARMLESS = """
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
    required={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    ignored_attributes=frozenset(_HARMLESS.split()),
    defaults={
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
    },
    fixed={
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
        Row("transformer.wpe.weight", "decoder.inputs.positions.table"),
        *norm(f"{_THEIRS}.ln_1", f"{_BLOCK}.attention_norm"),
        Row(f"{_THEIRS}.attn.c_attn.weight", KERNELS, THIRDS),
        Row(f"{_THEIRS}.attn.c_attn.bias", BIASES, THIRDS),
        *dense(f"{_THEIRS}.attn.c_proj", f"{_BLOCK}.attention.output_projection", SAME),
        *norm(f"{_THEIRS}.ln_2", f"{_BLOCK}.feed_forward_norm"),
        *dense(f"{_THEIRS}.mlp.c_fc", f"{_BLOCK}.hidden", SAME),
        *dense(f"{_THEIRS}.mlp.c_proj", f"{_BLOCK}.output_projection", SAME),
        *norm("transformer.ln_f", "decoder.norm"),
    ),
    tied={"lm_head.weight": "transformer.wte.weight"},
    ignored=(r"\.attn\.(bias|masked_bias)$",),  # the causal mask
    prefix="transformer.",
)


def _original(row: Row) -> Row:
    """Return the row for a kernel (1, M, N), which the authors' convolution of width 1 has."""
    is_kernel = row.theirs.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    form: Transform = FIRST.then(row.form) if is_kernel else row.form
    return row._replace(form=form)


ORIGINAL_GPT2 = dataclasses.replace(
    GPT2,
    attributes=tuple(
        row._replace(theirs={"n_positions": "n_ctx", "vocab_size": "n_vocab"}.get(row.theirs, row.theirs))
        for row in GPT2.attributes
    ),
    ignored_attributes=frozenset(),
    rows=tuple(_original(row) for row in GPT2.rows),
    renamed=(
        (r"/", "."),
        (r"^model\.", "transformer."),
        (r"\.h(\d+)\.", r".h.\1."),
        (r"\.[gw]$", ".weight"),
        (r"\.b$", ".bias"),
        (r"(wte|wpe)$", r"\1.weight"),
    ),
)
