"""XLNet: names of its arrays and attributes, as transformers writes them and as its authors did.

Both keep the projections of the heads as (M, H, D), the answer's included, and no attention biases but u, v and w.

Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237.
"""

from __future__ import annotations

import dataclasses
import pathlib
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_attention.config import TransformerConfig
from keras_attention.data.tokenizers import assigned_characters, compile_rules
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import FIRST, SAME, TRANSPOSED, Attribute, Family, Row, Transform, dense, norm
from keras_attention.weights.files import optional_json

# (M, H, D) <-> (M, H D), and of the answer <-> (H D, M)
INWARD = Transform(
    lambda array, heads: [array.reshape(len(array), -1)],
    lambda arrays, heads: arrays[0].reshape(len(arrays[0]), heads, -1),
)
OUTWARD = INWARD.then(TRANSPOSED)

_THEIRS, _OURS = "transformer.layer.{i}", "encoder.blocks.{i}"
_ATTENTION = f"{_OURS}.attention"
_VECTORS = {
    "r_w_bias": "content_bias",
    "r_r_bias": "distance_bias",
    "r_s_bias": "segment_bias",
    "seg_embed": "segments",
}
_HEADS = (
    Row("lm_loss.bias", "output_bias.bias"),
    *dense("sequence_summary.summary", "pooler"),
    *dense("logits_proj", "head", task="TextClassifier"),
    *dense("classifier", "head", task="TextTagger"),
)
_BODY = (
    Row("transformer.word_embedding.weight", "embedding.embeddings"),
    Row("transformer.mask_emb", "mask_embedding.vector", FIRST),
    *(
        Row(f"{_THEIRS}.rel_attn.{name[0]}", f"{_ATTENTION}.{name}_projection.kernel", INWARD)
        for name in ("query", "key", "value")
    ),
    Row(f"{_THEIRS}.rel_attn.r", f"{_ATTENTION}.distance_projection.kernel", INWARD),
    Row(f"{_THEIRS}.rel_attn.o", f"{_ATTENTION}.output_projection.kernel", OUTWARD),
    *norm(f"{_THEIRS}.rel_attn.layer_norm", f"{_OURS}.attention_norm"),
    *dense(f"{_THEIRS}.ff.layer_1", f"{_OURS}.hidden"),
    *dense(f"{_THEIRS}.ff.layer_2", f"{_OURS}.output_projection"),
    *norm(f"{_THEIRS}.ff.layer_norm", f"{_OURS}.feed_forward_norm"),
)

XLNET = Family(
    name="xlnet",
    config=TransformerConfig,
    architectures={
        "XLNetLMHeadModel": "PermutationLM",
        "XLNetForSequenceClassification": "TextClassifier",
        "XLNetForTokenClassification": "TextTagger",
        "XLNetModel": "",
    },
    attributes=(
        Attribute("d_model", "width"),
        Attribute("n_layer", "num_layers"),
        Attribute("n_head", "num_heads"),
        Attribute(
            "d_head",
            "num_heads",
            lambda value, attributes: attributes["d_model"] / value,
            lambda value, config: config.width // value,
        ),
        Attribute("d_inner", "intermediate_dim"),
        activation("ff_activation"),
        Attribute("dropout", "attention_dropout"),
        Attribute("dropout", "dropout"),
        Attribute("layer_norm_eps", "epsilon"),
        Attribute("initializer_range", "initializer_range"),
        Attribute("vocab_size", "vocabulary_size"),
    ),
    required={
        "attn_type": ("bi",),
        "bi_data": (False,),
        "clamp_len": (-1, 0, None),
        "same_length": (False,),
        "summary_activation": ("tanh",),
        "summary_type": ("last",),
        "summary_use_proj": (True,),
    },
    # How long a memory is kept is said when a text is read; the rest is dropout and the answering of questions.
    ignored_attributes=frozenset(
        {"end_n_top", "mem_len", "reuse_len", "start_n_top", "summary_last_dropout", "untie_r"}
        | {"use_mems_eval", "use_mems_train"}
    ),
    defaults={"ff_activation": "gelu", "dropout": 0.1, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    fixed={
        "norm_first": False,
        "positions": "relative",
        "attention_bias": False,
        "num_segments": 3,
        "position_offset": 0,
        "embedding_norm": False,
        "template": "end_start",
        "next_sentence": False,
    },
    rows=(
        *_BODY,
        *(Row(f"{_THEIRS}.rel_attn.{theirs}", f"{_ATTENTION}.{ours}") for theirs, ours in _VECTORS.items()),
        *_HEADS,
    ),
    tied={"lm_loss.weight": "transformer.word_embedding.weight"},
    ignored=(r"\.mask_emb$",),  # a classifier predicts no token
    heads=(r"^lm_loss\.", r"^sequence_summary\.", r"^logits_proj\.", r"^classifier\."),
    prefix="transformer.",
)


# From the spelling of TensorFlow to that of transformers.
_ORIGINAL_NAMES = (
    (r"/", "."),
    (r"^model\.", ""),
    (r"\.layer_(\d+)\.(rel_attn|ff)\.", r".layer.\1.\2."),
    (r"(\.rel_attn\.[qkvor])\.kernel$", r"\1"),
    (r"\.LayerNorm\.", ".layer_norm."),
    (r"\.(gamma|kernel|lookup_table)$", ".weight"),
    (r"(layer_norm)\.beta$", r"\1.bias"),
    (r"\.mask_emb\.mask_emb$", ".mask_emb"),
)


def original_xlnet(attributes: Mapping[str, Any]) -> Family:
    """Return the tables for a checkpoint of its authors, which keeps u, v, w and e of all layers in one array each.

    With `untie_r` false there is one u, v and w for all layers, of which each of ours gets a copy. Their "gelu" is the
    approximation by tanh.

    Raises:
        ValueError: the number of layers is not among the attributes.
    """
    if "n_layer" not in attributes:
        raise ValueError("The configuration lacks n_layer; expected every size of the network.")
    layers = attributes["n_layer"]
    stacked = Transform(lambda array, heads: _split(array, layers), lambda arrays, heads: np.stack(arrays))
    shared = Transform(lambda array, heads: [array] * layers, lambda arrays, heads: arrays[0])
    return dataclasses.replace(
        XLNET,
        attributes=tuple(_original_attribute(row) for row in XLNET.attributes),
        ignored_attributes=XLNET.ignored_attributes | {"tie_weight"},
        rows=(
            *(row._replace(form=SAME) if row.form is TRANSPOSED else row for row in _BODY),
            *(
                Row(
                    f"transformer.{theirs}",
                    tuple(f"{_ATTENTION}.{ours}".replace("{i}", str(i)) for i in range(layers)),
                    stacked if theirs == "seg_embed" or attributes.get("untie_r") else shared,
                )
                for theirs, ours in _VECTORS.items()
            ),
            *_HEADS,
        ),
        tied={},
        ignored=(*XLNET.ignored, r"\.Adam(_\d)?$", r"^global_step$", r"^(beta\d_power)$"),
        renamed=_ORIGINAL_NAMES,
    )


def _split(array: np.ndarray, layers: int) -> list[np.ndarray]:
    if len(array) != layers:
        raise ValueError(f"An array of the shape {array.shape} was given for {layers} layers.")
    return list(array)


def _original_attribute(row: Attribute) -> Attribute:
    if row.theirs == "vocab_size":
        return row._replace(theirs="n_token")
    if row.theirs == "ff_activation":
        return activation("ff_activation")._replace(read=lambda value, _: {"gelu": "gelu_tanh"}.get(value, value))
    return row


def read_piece_model(path: pathlib.Path) -> Any:
    """Return the tokenizer of `spiece.model` and `tokenizer_config.json`; None without them.

    Raises:
        ValueError: there is only a `tokenizer.json`.
    """
    if (path / "spiece.model").exists():
        settings = optional_json(path / "tokenizer_config.json")
        model = (path / "spiece.model").read_bytes()
        return xlnet_pieces(model, settings.get("do_lower_case", False), settings.get("keep_accents", False))
    if (path / "tokenizer.json").exists():
        raise ValueError(f"{str(path)!r} lacks spiece.model; expected it, or tokenizer=None to load the weights alone.")
    return None


def xlnet_pieces(model: bytes, lowercase: bool = False, keep_accents: bool = False) -> Any:
    """Return a KerasHub tokenizer that prepares texts as XLNet does, in the SentencePiece model itself.

    Before the model's own rules, `` and '' become a quotation mark, characters are decomposed (NFKD) and lose their
    accents.

    Args:
        model: a serialised SentencePiece model.
        lowercase: fold to lower case.
        keep_accents: take no accents away.
    """
    import keras_hub
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    own = sentencepiece.SentencePieceNormalizer(
        model_proto=model, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )

    def prepared(text: str) -> str:
        if not keep_accents:
            text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        return own.normalize(text.lower() if lowercase else text)

    characters = list(assigned_characters())
    syllables = (chr(code) for code in range(0xAC00, 0xD7A4))  # of Hangul, which may come in parts
    table = {"``": '"', "''": '"', **{unicodedata.normalize("NFD", syllable): syllable for syllable in syllables}}
    table |= {old: new for old in characters if (new := prepared(old)) != old}
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    proto.normalizer_spec.precompiled_charsmap = compile_rules(table.items())
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=proto.SerializeToString())
