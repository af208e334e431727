"""Marian (OPUS-MT): a Transformer translator whose one embedding serves both sides and the output.

Reference: Junczys-Dowmunt et al., 2018, https://arxiv.org/abs/1804.00344; Vaswani et al., 2017,
https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

from keras_attention.config import TransformerConfig
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import FIRST, Attribute, Family, Row, dense, norm

# Dropout that only some papers' training has, and what old versions of transformers wrote twice.
_HARMLESS = """
    activation_dropout classif_dropout classifier_dropout decoder_layerdrop encoder_layerdrop extra_pos_embeddings
    num_hidden_layers
"""


def _attention(theirs: str, ours: str) -> tuple[Row, ...]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    return tuple(row for old, new in names.items() for row in dense(f"{theirs}.{old}", f"{ours}.{new}_projection"))


def _side(side: str) -> tuple[Row, ...]:
    theirs, ours = f"model.{side}.layers.{{i}}", f"{side}.blocks.{{i}}"
    return (
        *_attention(f"{theirs}.self_attn", f"{ours}.attention"),
        *norm(f"{theirs}.self_attn_layer_norm", f"{ours}.attention_norm"),
        *_attention(f"{theirs}.encoder_attn", f"{ours}.cross_attention"),
        *norm(f"{theirs}.encoder_attn_layer_norm", f"{ours}.cross_norm"),
        *dense(f"{theirs}.fc1", f"{ours}.hidden"),
        *dense(f"{theirs}.fc2", f"{ours}.output_projection"),
        *norm(f"{theirs}.final_layer_norm", f"{ours}.feed_forward_norm"),
    )


MARIAN = Family(
    name="marian",
    config=TransformerConfig,
    architectures={"MarianMTModel": "Translator"},
    attributes=(
        Attribute("d_model", "width"),
        Attribute("encoder_layers", "num_layers"),
        Attribute("decoder_layers", "num_layers"),
        Attribute("encoder_attention_heads", "num_heads"),
        Attribute("decoder_attention_heads", "num_heads"),
        Attribute("encoder_ffn_dim", "intermediate_dim"),
        Attribute("decoder_ffn_dim", "intermediate_dim"),
        activation("activation_function"),
        Attribute("max_position_embeddings", "max_length"),
        Attribute("dropout", "dropout"),
        Attribute("attention_dropout", "attention_dropout"),
        Attribute("init_std", "initializer_range"),
        Attribute("vocab_size", "source_vocabulary_size"),
        Attribute(
            "decoder_vocab_size",
            "target_vocabulary_size",
            lambda value, attributes: value or attributes["vocab_size"],
        ),
    ),
    required={
        "is_encoder_decoder": (True,),
        "scale_embedding": (True,),
        "static_position_embeddings": (True,),
        "share_encoder_decoder_embeddings": (True,),
        "normalize_before": (False,),
        "normalize_embedding": (False,),
        "add_final_layer_norm": (False,),
        "add_bias_logits": (False,),
    },
    ignored_attributes=frozenset(_HARMLESS.split()),
    defaults={"scale_embedding": False, "decoder_vocab_size": None},
    fixed={
        "norm_first": False,
        "positions": "sinusoidal",
        "attention_bias": True,
        "epsilon": 1e-5,
        "shared_vocabulary": True,
        "output_bias": True,
    },
    rows=(
        Row("model.shared.weight", "source_embedding.embeddings"),
        *_side("encoder"),
        *_side("decoder"),
        Row("final_logits_bias", "output_bias.bias", FIRST),
    ),
    tied={
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    },
    ignored=(r"\.embed_positions\.weight$",),  # sines, computed here
)
