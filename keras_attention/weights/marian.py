"""Marian (OPUS-MT): a Transformer translator, usually with one embedding for source, target and output.

Reference: Junczys-Dowmunt et al., 2018, https://arxiv.org/abs/1804.00344; Vaswani et al., 2017,
https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from keras_attention.config import TransformerConfig
from keras_attention.data.tokenization.special_tokens import AddedToken, set_special_tokens
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import SQUEEZE_FIRST, TRANSPOSED, Attribute, Family, Row, dense, norm
from keras_attention.weights.files import optional_json, read_json
from keras_attention.weights.token_files import SpecialTokenRole, read_special_tokens
from keras_attention.weights.tokenizers import order_by_id

# Kinds of dropout that this library does not have, and duplicates that old versions of transformers wrote.
_IGNORED = """
    activation_dropout classif_dropout classifier_dropout decoder_layerdrop encoder_layerdrop extra_pos_embeddings
    num_hidden_layers
"""


_SHARED = "model.shared.weight"


def _attention(hf_name: str, path: str) -> tuple[Row, ...]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    return tuple(row for old, new in names.items() for row in dense(f"{hf_name}.{old}", f"{path}.{new}_projection"))


def _side(side: str) -> tuple[Row, ...]:
    hf_name, path = f"model.{side}.layers.{{i}}", f"{side}.blocks.{{i}}"
    return (
        *_attention(f"{hf_name}.self_attn", f"{path}.attention"),
        *norm(f"{hf_name}.self_attn_layer_norm", f"{path}.attention_norm"),
        *_attention(f"{hf_name}.encoder_attn", f"{path}.cross_attention"),
        *norm(f"{hf_name}.encoder_attn_layer_norm", f"{path}.cross_norm"),
        *dense(f"{hf_name}.fc1", f"{path}.hidden"),
        *dense(f"{hf_name}.fc2", f"{path}.output_projection"),
        *norm(f"{hf_name}.final_layer_norm", f"{path}.feed_forward_norm"),
    )


MARIAN_ROLES = (
    SpecialTokenRole("unk_token", "unknown", "<unk>"),
    SpecialTokenRole("eos_token", "end", "</s>"),
    SpecialTokenRole("pad_token", "pad", "<pad>"),
)


def read_marian_tokenizers(path: pathlib.Path) -> dict[str, Any]:
    """Return the source and target tokenizers from `vocab.json`, `source.spm` and `target.spm`, or {} without them.

    A target vocabulary of its own is in `target_vocab.json`.

    Raises:
        ValueError: only some of the files exist.
    """
    names = ("vocab.json", "source.spm", "target.spm")
    missing = [name for name in names if not (path / name).exists()]
    if len(missing) == len(names):
        return {}
    if missing:
        raise ValueError(
            f"{str(path)!r} lacks {', '.join(missing)} of a Marian tokenizer; expected {', '.join(names)}. Download "
            "the missing files."
        )
    config, tokenizers = optional_json(path / "config.json"), {}
    for side in ("source", "target"):
        separate = side == "target" and (path / "target_vocab.json").exists()
        vocabulary = read_json(path / ("target_vocab.json" if separate else "vocab.json"))
        ids, special = read_special_tokens(path, MARIAN_ROLES, vocabulary, "end")
        pieces = order_by_id(ids)
        codes = tuple(AddedToken(piece, at_start=True) for piece in pieces if re.fullmatch(r">>.+<<", piece))
        start = config.get("decoder_start_token_id", special.start)
        special = dataclasses.replace(
            special,
            start=start,
            added_tokens=(*special.added_tokens, *codes),
            suppress_tokens=tuple({*special.suppress_tokens, start} - {special.end}),
            vocabulary_size=len(pieces),
        )
        tokenizer = sentence_piece((path / f"{side}.spm").read_bytes(), pieces)
        tokenizers[f"{side}_tokenizer"] = set_special_tokens(tokenizer, special)
    return tokenizers


def sentence_piece(model: bytes, pieces: list[str]) -> Any:
    """Return a KerasHub tokenizer with the pieces of a SentencePiece model in another order.

    A piece that the SentencePiece model lacks is never used, unless it is a single character; such a character is used
    if no other piece matches. The pieces that only the SentencePiece model has follow after `pieces`; see
    `SpecialTokens.vocabulary_size`. A language code such as `>>fra<<` is one piece at the beginning of a text.

    Args:
        model: a serialized SentencePiece model.
        pieces: in the order of their ids, with `<unk>` and `</s>`.
    """
    import keras_hub
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type
    known = {piece.piece: (piece.piece, piece.score, piece.type) for piece in proto.pieces}
    usable = {name: row for name, row in known.items() if row[2] in (kinds.NORMAL, kinds.USER_DEFINED)}
    lowest = min((score for _, score, _ in usable.values()), default=0.0) - 10.0  # as SentencePiece scores `<unk>`
    del proto.pieces[:]
    for piece in (*pieces, *sorted(usable.keys() - {*pieces})):
        if piece in ("<unk>", "</s>", "<pad>", "<s>"):
            row = (piece, 0.0, kinds.UNKNOWN if piece == "<unk>" else kinds.CONTROL)
        elif re.fullmatch(r">>.+<<", piece):
            row = (piece, 0.0, kinds.CONTROL)  # `split_added` finds it in a text
        else:
            row = usable.get(piece, (piece, lowest, kinds.NORMAL if len(piece) == 1 else kinds.UNUSED))
        proto.pieces.add(piece=row[0], score=row[1], type=row[2])
    for kind, piece in (("unk", "<unk>"), ("eos", "</s>"), ("pad", "<pad>"), ("bos", "<s>")):
        setattr(proto.trainer_spec, f"{kind}_id", pieces.index(piece) if piece in pieces else -1)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=proto.SerializeToString())


_ATTRIBUTES = (
    Attribute("d_model", "width"),
    Attribute("encoder_layers", "num_layers"),
    Attribute(
        "decoder_layers",
        "decoder_layers",
        lambda value, attributes: value if value != attributes["encoder_layers"] else 0,
        lambda value, config: value or config.num_layers,
    ),
    Attribute("normalize_before", "norm_first"),
    Attribute("add_final_layer_norm", "norm_first"),
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
        "decoder_vocab_size", "target_vocabulary_size", lambda value, attributes: value or attributes["vocab_size"]
    ),
)
_DEFAULTS = {
    "scale_embedding": False,
    "decoder_vocab_size": None,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
}
_TOKEN_IDS = {
    "pad_token_id": "pad",
    "decoder_start_token_id": "start",
    "eos_token_id": "end",
    "forced_eos_token_id": "end",
}
_SUPPORTED = {
    "is_encoder_decoder": (True,),
    "scale_embedding": (True,),
    "static_position_embeddings": (True,),
    "normalize_embedding": (False,),
    "add_bias_logits": (False,),
}
_CONFIG = {
    "norm_first": False,  # transformers computes no other
    "positions": "sinusoidal",
    "attention_bias": True,
    "epsilon": 1e-5,
    "output_bias": True,
}


def _marian(shared: bool, tied: bool) -> Family:
    """Return the tables for one or two vocabularies, and for an output matrix that is or is not the embedding."""
    source, target = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    embeddings = [Row(source, "source_embedding.embeddings"), Row(target, "target_embedding.embeddings")]
    copies = {}
    if shared:
        embeddings, copies = [Row(_SHARED, "source_embedding.embeddings")], {source: _SHARED, target: _SHARED}
    if tied:
        copies["lm_head.weight"] = _SHARED if shared else target
    else:
        embeddings.append(Row("lm_head.weight", "target_embedding.reverse_embeddings", TRANSPOSED))
    return Family(
        name="marian",
        config=TransformerConfig,
        architectures={"MarianMTModel": "Translator"},
        attributes=_ATTRIBUTES,
        read_tokenizers=read_marian_tokenizers,
        roles=MARIAN_ROLES,
        token_ids=_TOKEN_IDS,
        default_token_ids=(-1, -1, 0),
        supported_values=_SUPPORTED | {"share_encoder_decoder_embeddings": (shared,), "tie_word_embeddings": (tied,)},
        ignored_attributes=frozenset(_IGNORED.split()),
        defaults=_DEFAULTS,
        family_defaults=_CONFIG | {"shared_vocabulary": shared, "tie_weights": tied},
        rows=(
            *embeddings,
            *norm("model.encoder.layer_norm", "encoder.norm"),
            *norm("model.decoder.layer_norm", "decoder.norm"),
            *_side("encoder"),
            *_side("decoder"),
            Row("final_logits_bias", "output_bias.bias", SQUEEZE_FIRST),
        ),
        tied_arrays=copies,
        ignored=(r"\.embed_positions\.weight$",),  # sinusoidal, computed here
    )


MARIANS = tuple(_marian(shared, tied) for shared in (True, False) for tied in (True, False))
