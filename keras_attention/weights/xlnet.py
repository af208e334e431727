"""XLNet: the names of its arrays and attributes in transformers.

All projections have the shape (M, H, D), also the output projection. The only attention biases are u, v and w.

Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237.
"""

from __future__ import annotations

import pathlib
import unicodedata
from collections.abc import Iterable
from typing import Any

from keras_attention.config import TransformerConfig
from keras_attention.data.tokenization.special_tokens import set_special_tokens
from keras_attention.data.tokenization.tokenizers import assigned_characters, compile_rules
from keras_attention.weights.attributes import activation
from keras_attention.weights.convert import SQUEEZE_FIRST, TRANSPOSED, Attribute, Family, Row, Transform, dense, norm
from keras_attention.weights.files import optional_json
from keras_attention.weights.token_files import SpecialTokenRole, read_special_tokens
from keras_attention.weights.tokenizers import order_by_id

# (M, H, D) <-> our kernel (M, H D); for the output projection <-> (H D, M)
_HEADS_LAST = Transform(
    lambda array, heads: [array.reshape(len(array), -1)],
    lambda arrays, heads: arrays[0].reshape(len(arrays[0]), heads, -1),
)
_HEADS_FIRST = _HEADS_LAST.then(TRANSPOSED)


XLNET_ROLES = (
    SpecialTokenRole("bos_token", None, "<s>"),
    SpecialTokenRole("eos_token", None, "</s>"),
    SpecialTokenRole("unk_token", "unknown", "<unk>"),
    SpecialTokenRole("sep_token", "end", "<sep>"),
    SpecialTokenRole("pad_token", "pad", "<pad>"),
    SpecialTokenRole("cls_token", "start", "<cls>"),
    SpecialTokenRole("mask_token", "mask", "<mask>", lstrip=True),
    SpecialTokenRole("eop_token", None, "<eop>"),  # additional special tokens of transformers' class
    SpecialTokenRole("eod_token", None, "<eod>"),
)


def read_xlnet_tokenizer(path: pathlib.Path) -> dict[str, Any]:
    """Return {"tokenizer": ...} from `spiece.model` and `tokenizer_config.json`, or {} without tokenizer files.

    Raises:
        ValueError: there is a `tokenizer.json`, but no `spiece.model`.
    """
    if (path / "spiece.model").exists():
        from sentencepiece import sentencepiece_model_pb2

        tokenizer_config = optional_json(path / "tokenizer_config.json")
        model = (path / "spiece.model").read_bytes()
        normalization = tokenizer_config.get("do_lower_case", False), tokenizer_config.get("keep_accents", False)
        proto = sentencepiece_model_pb2.ModelProto.FromString(model)
        vocabulary = {piece.piece: i for i, piece in enumerate(proto.pieces)}
        ids, special = read_special_tokens(path, XLNET_ROLES, vocabulary, "end_start", lowercase=normalization[0])
        added = order_by_id(ids)[len(vocabulary) :]
        return {"tokenizer": set_special_tokens(xlnet_pieces(model, *normalization, added), special)}
    if (path / "tokenizer.json").exists():
        raise ValueError(
            f"{str(path)!r} lacks spiece.model; add the file, or pass tokenizer=None to load only weights."
        )
    return {}


def xlnet_pieces(model: bytes, lowercase: bool = False, keep_accents: bool = False, added: Iterable[str] = ()) -> Any:
    """Return a KerasHub tokenizer whose SentencePiece model normalizes texts as XLNet does.

    Before the model's own rules, `` and '' become a quotation mark, characters are decomposed (NFKD), and accents are
    removed.

    Args:
        model: a serialized SentencePiece model.
        lowercase: convert to lower case.
        keep_accents: do not remove accents.
        added: pieces after those of the model, which only `split_added` finds in a text.
    """
    import keras_hub
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    normalizer = sentencepiece.SentencePieceNormalizer(
        model_proto=model, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )

    def normalize(text: str) -> str:
        if text in "\x85\u2028\u2029":
            return " "
        if not keep_accents:
            text = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c)[0] != "M")
        return normalizer.normalize(text.lower() if lowercase else text)

    characters = list(assigned_characters())
    syllables = (chr(code) for code in range(0xAC00, 0xD7A4))  # Hangul, which may be decomposed
    table = {"``": '"', "''": '"', **{unicodedata.normalize("NFD", syllable): syllable for syllable in syllables}}
    table |= {old: new for old in characters if (new := normalize(old)) != old}
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    proto.normalizer_spec.precompiled_charsmap = compile_rules(table.items())
    for piece in added:
        proto.pieces.add(piece=piece, score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.CONTROL)
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=proto.SerializeToString())


_HF_BLOCK, _BLOCK = "transformer.layer.{i}", "encoder.blocks.{i}"
_ATTENTION = f"{_BLOCK}.attention"
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
    Row("transformer.mask_emb", "mask_embedding.vector", SQUEEZE_FIRST),
    *(
        Row(f"{_HF_BLOCK}.rel_attn.{name[0]}", f"{_ATTENTION}.{name}_projection.kernel", _HEADS_LAST)
        for name in ("query", "key", "value")
    ),
    Row(f"{_HF_BLOCK}.rel_attn.r", f"{_ATTENTION}.distance_projection.kernel", _HEADS_LAST),
    Row(f"{_HF_BLOCK}.rel_attn.o", f"{_ATTENTION}.output_projection.kernel", _HEADS_FIRST),
    *norm(f"{_HF_BLOCK}.rel_attn.layer_norm", f"{_BLOCK}.attention_norm"),
    *dense(f"{_HF_BLOCK}.ff.layer_1", f"{_BLOCK}.hidden"),
    *dense(f"{_HF_BLOCK}.ff.layer_2", f"{_BLOCK}.output_projection"),
    *norm(f"{_HF_BLOCK}.ff.layer_norm", f"{_BLOCK}.feed_forward_norm"),
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
    read_tokenizers=read_xlnet_tokenizer,
    roles=XLNET_ROLES,
    token_ids={"pad_token_id": "pad"},
    default_token_ids=(-1, -1, -1),
    supported_values={
        "attn_type": ("bi",),
        "bi_data": (False,),
        "clamp_len": (-1, 0, None),
        "same_length": (False,),
        "summary_activation": ("tanh",),
        "summary_type": ("last",),
        "summary_use_proj": (True,),
    },
    # The length of the memory is an argument of `PermutationLM.encode_part`; the others are of other heads.
    ignored_attributes=frozenset(
        {"end_n_top", "mem_len", "reuse_len", "start_n_top", "summary_last_dropout", "untie_r"}
        | {"use_mems_eval", "use_mems_train"}
    ),
    defaults={"ff_activation": "gelu", "dropout": 0.1, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    family_defaults={
        "norm_first": False,
        "positions": "relative",
        "attention_bias": False,
        "num_segments": 3,
        "position_offset": 0,
        "embedding_norm": False,
        "pooling": "start",
        "template": "end_start",
        "next_sentence": False,
    },
    rows=(
        *_BODY,
        *(Row(f"{_HF_BLOCK}.rel_attn.{hf_name}", f"{_ATTENTION}.{path}") for hf_name, path in _VECTORS.items()),
        *_HEADS,
    ),
    tied_arrays={"lm_loss.weight": "transformer.word_embedding.weight"},
    ignored=(r"\.mask_emb$",),  # a classifier does not predict tokens
    heads=(r"^lm_loss\.", r"^sequence_summary\.", r"^logits_proj\.", r"^classifier\."),
    prefix="transformer.",
)
