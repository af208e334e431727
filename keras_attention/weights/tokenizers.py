"""Tokenizers from the files beside foreign weights, as KerasHub tokenizers, which save and export with a model."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_attention.data.tokenizers import special_ids, split_like_gpt2
from keras_attention.weights.convert import Family
from keras_attention.weights.files import optional_json, read_json
from keras_attention.weights.xlnet import read_piece_model

_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BYTE_SPECIAL = ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>")


def read_tokenizers(path: pathlib.Path, family: str) -> dict[str, Any]:
    """Return name -> tokenizer of a directory that transformers wrote; empty where it has no tokenizer's files.

    Raises:
        ValueError: the files are not those of the family.
    """
    if family == "marian":
        return _marian_from_files(path)
    reader = {"bert": word_piece_from_files, "xlnet": read_piece_model}.get(family, byte_pair_from_files)
    tokenizer = reader(path)
    return {} if tokenizer is None else {"tokenizer": tokenizer}


def word_piece_from_files(path: pathlib.Path) -> Any:
    """Return BERT's tokenizer from `tokenizer.json`, or `vocab.txt` and `tokenizer_config.json`; None without them.

    Where no file says whether it folds case, it does so unless the vocabulary has capitals.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer.
    """
    added, settings = _added_pieces(path), optional_json(path / "tokenizer_config.json")
    if (path / "vocab.txt").exists():
        text = (path / "vocab.txt").read_text(encoding="utf-8")
        pieces = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
        cased = any(piece != piece.lower() for piece in pieces if not re.fullmatch(r"\[.*\]", piece))
        fast = optional_json(path / "tokenizer.json").get("normalizer") or {}
        rules = {
            "lowercase": settings.get("do_lower_case", fast.get("lowercase", not cased)),
            "strip_accents": settings.get("strip_accents", fast.get("strip_accents")),
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", fast.get("handle_chinese_chars", True)),
        }
        pieces = _in_order({piece: i for i, piece in enumerate(pieces)}, added) if added else pieces
    elif (path / "tokenizer.json").exists():
        whole = _fast_tokenizer(path, "WordPiece")
        rules = whole.get("normalizer") or {}
        if rules.get("type") != "BertNormalizer":
            raise ValueError(f"tokenizer.json normalises with {rules.get('type')!r}; expected 'BertNormalizer'.")
        pieces = _in_order(whole["model"]["vocab"], added)
    else:
        return None
    return word_piece(pieces, rules["lowercase"], rules["strip_accents"], rules["handle_chinese_chars"], added)


def word_piece(
    pieces: Iterable[str],
    lowercase: bool,
    strip_accents: bool | None = None,
    split_on_cjk: bool = True,
    added: Iterable[str] = (),
) -> Any:
    """Return a KerasHub tokenizer that splits as BERT does.

    Args:
        pieces: in the order of their ids.
        lowercase: fold to lower case.
        strip_accents: take accents away; None does as `lowercase` says.
        split_on_cjk: each Chinese character is a word.
        added: those of the pieces that stand for themselves, wherever they are found.
    """
    import keras_hub

    pieces = list(pieces)
    return keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=pieces,
        lowercase=lowercase,
        strip_accents=lowercase if strip_accents is None else strip_accents,
        split_on_cjk=split_on_cjk,
        special_tokens=[piece for piece in dict.fromkeys((*_BERT_SPECIAL, *added)) if piece in pieces],
        special_tokens_in_strings=True,
    )


def byte_pair_from_files(path: pathlib.Path) -> Any:
    """Return GPT-2's or RoBERTa's tokenizer; None without its files.

    They are `vocab.json` and `merges.txt`, as its authors called them `encoder.json` and `vocab.bpe`, or
    `tokenizer.json`.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer, or one that prepares texts in another way; the ids
            have gaps; or there is nothing to merge.
    """
    added = _added_pieces(path)
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if (path / vocabulary).exists() and (path / merges).exists():
            settings = optional_json(path / "tokenizer_config.json")
            lines = (path / merges).read_text(encoding="utf-8").split("\n")
            rules = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
            pieces = _in_order(read_json(path / vocabulary), added)
            return byte_pair(pieces, rules, settings.get("add_prefix_space", False), added)
    if not (path / "tokenizer.json").exists():
        return None
    whole = _fast_tokenizer(path, "BPE")
    rules = [rule if isinstance(rule, str) else " ".join(rule) for rule in whole["model"]["merges"]]
    splitting = whole.get("pre_tokenizer") or {}
    plain = splitting.get("type") == "ByteLevel" and splitting.get("use_regex", True)
    if whole.get("normalizer") is not None or not plain:
        raise ValueError(
            f"tokenizer.json prepares texts with {whole.get('normalizer')} and {splitting}; expected no normalizer and "
            "ByteLevel, as GPT-2 has it, or tokenizer=None for none."
        )
    return byte_pair(_in_order(whole["model"]["vocab"], added), rules, splitting.get("add_prefix_space", False), added)


def byte_pair(
    pieces: Iterable[str], merges: Iterable[str], add_prefix_space: bool = False, added: Iterable[str] = ()
) -> Any:
    """Return a KerasHub tokenizer that splits as GPT-2 and RoBERTa do.

    Args:
        pieces: in the order of their ids, bytes written as printable characters.
        merges: pairs, the first to be merged first.
        add_prefix_space: treat the first word like those that follow a space.
        added: those of the pieces that stand for themselves, wherever they are found.

    Raises:
        ValueError: there is nothing to merge.
    """
    import keras_hub

    vocabulary, merges = {piece: i for i, piece in enumerate(pieces)}, list(merges)
    if not merges:
        raise ValueError("There are no merges; expected pairs of pieces, a line each, in merges.txt.")
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        vocabulary,
        merges,
        add_prefix_space=add_prefix_space,
        unsplittable_tokens=[piece for piece in dict.fromkeys((*_BYTE_SPECIAL, *added)) if piece in vocabulary],
    )
    return split_like_gpt2(tokenizer)


def _marian_from_files(path: pathlib.Path) -> dict[str, Any]:
    names = ("vocab.json", "source.spm", "target.spm")
    absent = [name for name in names if not (path / name).exists()]
    if len(absent) == len(names):
        return {}
    if absent:
        raise ValueError(f"{str(path)!r} lacks {', '.join(absent)} of a Marian tokenizer; expected {', '.join(names)}.")
    pieces = _in_order(read_json(path / "vocab.json"))
    return {
        f"{side}_tokenizer": sentence_piece((path / f"{side}.spm").read_bytes(), pieces)
        for side in ("source", "target")
    }


def sentence_piece(model: bytes, pieces: list[str]) -> Any:
    """Return a KerasHub tokenizer with the pieces of a SentencePiece model in another order.

    Pieces that the model does not have are never used, but for single characters, which stand where the model itself
    would know none. A language code such as `>>fra<<` is found at the beginning of a text, and stands for itself.

    Args:
        model: a serialised SentencePiece model.
        pieces: in the order of their ids; one is `<unk>`, one `</s>`.
    """
    import keras_hub
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type
    known = {piece.piece: (piece.piece, piece.score, piece.type) for piece in proto.pieces}
    usable = {name: row for name, row in known.items() if row[2] in (kinds.NORMAL, kinds.USER_DEFINED)}
    unlikely = min((score for _, score, _ in usable.values()), default=0.0) - 10.0  # what SentencePiece gives `<unk>`
    del proto.pieces[:]
    for piece in pieces:
        if piece in ("<unk>", "</s>", "<pad>", "<s>"):
            row = (piece, 0.0, kinds.UNKNOWN if piece == "<unk>" else kinds.CONTROL)
        elif re.fullmatch(r">>.+<<", piece):
            row = (f"▁{piece}", 0.0, kinds.USER_DEFINED)  # after the space that every text begins with
        else:
            row = usable.get(piece, (piece, unlikely, kinds.NORMAL if len(piece) == 1 else kinds.UNUSED))
        proto.pieces.add(piece=row[0], score=row[1], type=row[2])
    for kind, piece in (("unk", "<unk>"), ("eos", "</s>"), ("pad", "<pad>"), ("bos", "<s>")):
        setattr(proto.trainer_spec, f"{kind}_id", pieces.index(piece) if piece in pieces else -1)
    proto.trainer_spec.vocab_size = len(pieces)
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=proto.SerializeToString())


def write_tokenizers(model: Any, path: pathlib.Path) -> None:
    """Write the tokenizer of a model as transformers reads it, if it is a word-piece or byte-pair one."""
    tokenizer = getattr(model, "tokenizer", None)
    if hasattr(tokenizer, "merges"):
        _write_json(path / "vocab.json", dict(tokenizer.vocabulary))
        (path / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges]) + "\n", encoding="utf-8")
        settings = {"add_prefix_space": tokenizer.add_prefix_space}
        added = [piece for piece in tokenizer.unsplittable_tokens or () if piece not in _BYTE_SPECIAL]
    elif hasattr(tokenizer, "suffix_indicator"):
        (path / "vocab.txt").write_text("\n".join(tokenizer.get_vocabulary()) + "\n", encoding="utf-8")
        names = {
            "do_lower_case": "lowercase",
            "strip_accents": "strip_accents",
            "tokenize_chinese_chars": "split_on_cjk",
        }
        special = dataclasses.astuple(special_ids(tokenizer))
        pieces = zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True)
        settings = {theirs: getattr(tokenizer, ours) for theirs, ours in names.items()}
        settings |= {name: tokenizer.id_to_token(index) for name, index in pieces} | {"mask_token": "[MASK]"}
        added = [piece for piece in tokenizer.special_tokens or () if piece not in _BERT_SPECIAL]
    else:
        return
    if added:  # those that stand for themselves wherever they are found
        plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)
        settings["added_tokens_decoder"] = {
            tokenizer.token_to_id(piece): {"content": piece, **plain} for piece in added
        }
    _write_json(path / "tokenizer_config.json", settings)


def token_ids_for(family: Family, model: Any) -> dict[str, int]:
    """Return the `*_token_id` attributes of a model; without a tokenizer, the family's habits."""
    tokenizer = getattr(model, "tokenizer", None) or getattr(model, "target_tokenizer", None)
    if tokenizer is not None:
        special = special_ids(tokenizer)
        pad, start, end = special.pad, special.start, special.end
        if family.name == "roberta" and pad + 1 != model.config.position_offset:
            raise ValueError(
                f"transformers counts RoBERTa's positions from the id of padding, which is {pad} here, and "
                f"`position_offset` is {model.config.position_offset}; expected {pad + 1}. Make the model with "
                f"position_offset={pad + 1}."
            )
    else:
        sizes = model.config
        last = getattr(sizes, "vocabulary_size", 0) or getattr(sizes, "target_vocabulary_size", 0)
        pad, start, end = {"bert": (0, 0, 0), "roberta": (1, 0, 2), "marian": (last - 1, last - 1, 0)}.get(
            family.name, (last - 1,) * 3
        )
    if family.name == "marian":
        return {"pad_token_id": pad, "decoder_start_token_id": start, "eos_token_id": end, "forced_eos_token_id": end}
    if family.name in ("gpt2", "roberta"):
        return {"bos_token_id": start, "eos_token_id": end}
    return {"pad_token_id": pad}


def _fast_tokenizer(path: pathlib.Path, kind: str) -> Mapping[str, Any]:
    whole = read_json(path / "tokenizer.json")
    found = whole.get("model", {}).get("type")
    if found != kind:
        raise ValueError(f"tokenizer.json holds a {found!r} tokenizer; expected {kind!r}, or tokenizer=None for none.")
    return whole


def _added_pieces(path: pathlib.Path) -> dict[str, int]:
    """The pieces that were added to a tokenizer after it was trained, or that stand for themselves, and their ids."""
    listed = optional_json(path / "tokenizer.json").get("added_tokens", ())
    decoder = optional_json(path / "tokenizer_config.json").get("added_tokens_decoder", {})
    return {
        **{token["content"]: token["id"] for token in listed},
        **{token["content"]: int(index) for index, token in decoder.items()},
        **optional_json(path / "added_tokens.json"),
    }


def _in_order(vocabulary: Mapping[str, int], added: Mapping[str, int] | None = None) -> list[str]:
    """The pieces in the order of their ids, with those that were added later."""
    ids = {**vocabulary, **(added or {})}
    pieces = sorted(ids, key=ids.__getitem__)
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError(
            f"The tokenizer has {len(pieces)} pieces, but ids up to {max(ids.values())}; expected every id from 0. "
            "Pass tokenizer=None to load the weights alone."
        )
    return pieces


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
