"""Read and write the tokenizer files of a Hugging Face directory, as KerasHub tokenizers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_attention.data.tokenizer_rules import split_like_gpt2
from keras_attention.data.tokenizers import special_ids
from keras_attention.weights.files import optional_json, read_json

_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BYTE_SPECIAL = ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>")


def read_word_piece(path: pathlib.Path) -> dict[str, Any]:
    """Return {"tokenizer": ...} for BERT from `vocab.txt` or `tokenizer.json`, or {} without these files.

    If neither `tokenizer_config.json` nor `tokenizer.json` has the setting, the tokenizer converts texts to lower case,
    unless the vocabulary has capital letters.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer.
    """
    added = _added_pieces(path)
    if (path / "vocab.txt").exists():
        pieces, rules = _read_vocabulary(path)
        pieces = order_by_id({piece: i for i, piece in enumerate(pieces)}, added) if added else pieces
    elif (path / "tokenizer.json").exists():
        content = _fast_tokenizer(path, "WordPiece")
        rules = content.get("normalizer") or {}
        if rules.get("type") != "BertNormalizer":
            raise ValueError(f"tokenizer.json normalises with {rules.get('type')!r}; expected 'BertNormalizer'.")
        pieces = order_by_id(content["model"]["vocab"], added)
    else:
        return {}
    options = rules["lowercase"], rules["strip_accents"], rules["handle_chinese_chars"]
    return {"tokenizer": word_piece(pieces, *options, added)}


def _read_vocabulary(path: pathlib.Path) -> tuple[list[str], dict[str, bool | None]]:
    """Return the pieces of `vocab.txt`, and the options of the normalizer."""
    text = (path / "vocab.txt").read_text(encoding="utf-8")
    pieces = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    cased = any(piece != piece.lower() for piece in pieces if not re.fullmatch(r"\[.*\]", piece))
    settings = optional_json(path / "tokenizer_config.json")
    fast = optional_json(path / "tokenizer.json").get("normalizer") or {}
    return pieces, {
        "lowercase": settings.get("do_lower_case", fast.get("lowercase", not cased)),
        "strip_accents": settings.get("strip_accents", fast.get("strip_accents")),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", fast.get("handle_chinese_chars", True)),
    }


def word_piece(
    pieces: Iterable[str],
    lowercase: bool,
    strip_accents: bool | None = None,
    split_on_cjk: bool = True,
    added: Iterable[str] = (),
) -> Any:
    """Return a KerasHub tokenizer that splits texts as BERT does.

    Args:
        pieces: the pieces in the order of their ids.
        lowercase: convert to lower case.
        strip_accents: remove accents; None for the value of `lowercase`.
        split_on_cjk: treat each Chinese character as a word.
        added: pieces that are never split in a text.
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


def read_byte_pair(path: pathlib.Path) -> dict[str, Any]:
    """Return {"tokenizer": ...} for GPT-2 or RoBERTa, or {} without tokenizer files.

    The files are `vocab.json` and `merges.txt`, or `tokenizer.json`.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer, or one that normalizes or splits texts differently;
            ids are missing; or there are no merges.
    """
    added = _added_pieces(path)
    if (path / "vocab.json").exists() and (path / "merges.txt").exists():
        settings = optional_json(path / "tokenizer_config.json")
        lines = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
        pieces, prefix_space = order_by_id(read_json(path / "vocab.json"), added), settings.get("add_prefix_space")
    elif (path / "tokenizer.json").exists():
        content = _fast_tokenizer(path, "BPE")
        merges = [rule if isinstance(rule, str) else " ".join(rule) for rule in content["model"]["merges"]]
        pieces, prefix_space = order_by_id(content["model"]["vocab"], added), _prefix_space(content)
    else:
        return {}
    return {"tokenizer": byte_pair(pieces, merges, bool(prefix_space), added)}


def _prefix_space(content: Mapping[str, Any]) -> bool:
    """Return whether a space is put before a text; raise a ValueError if texts are not split as in GPT-2."""
    splitting = content.get("pre_tokenizer") or {}
    plain = splitting.get("type") == "ByteLevel" and splitting.get("use_regex", True)
    if content.get("normalizer") is not None or not plain:
        raise ValueError(
            f"tokenizer.json has the normalizer {content.get('normalizer')} and the pre-tokenizer {splitting}; "
            "expected no normalizer and ByteLevel, as in GPT-2. Pass tokenizer=None to load no tokenizer."
        )
    return splitting.get("add_prefix_space", False)


def byte_pair(
    pieces: Iterable[str], merges: Iterable[str], add_prefix_space: bool = False, added: Iterable[str] = ()
) -> Any:
    """Return a KerasHub tokenizer that splits texts as GPT-2 and RoBERTa do.

    Args:
        pieces: the pieces in the order of their ids, with bytes as printable characters.
        merges: pairs of pieces in the order of merging.
        add_prefix_space: put a space before the first word.
        added: pieces that are never split in a text.

    Raises:
        ValueError: there are no merges.
    """
    import keras_hub

    vocabulary, merges = {piece: i for i, piece in enumerate(pieces)}, list(merges)
    if not merges:
        raise ValueError("There are no merges; expected pairs of pieces, one pair per line, in merges.txt.")
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        vocabulary,
        merges,
        add_prefix_space=add_prefix_space,
        unsplittable_tokens=[piece for piece in dict.fromkeys((*_BYTE_SPECIAL, *added)) if piece in vocabulary],
    )
    return split_like_gpt2(tokenizer)


def write_tokenizer(tokenizer: Any, path: pathlib.Path) -> None:
    """Write a WordPiece or byte-pair tokenizer as transformers reads it. Other kinds are not written.

    Args:
        tokenizer: a KerasHub tokenizer, or None.
        path: the directory.
    """
    if hasattr(tokenizer, "merges"):
        settings, added = _write_byte_pair(tokenizer, path)
    elif hasattr(tokenizer, "suffix_indicator"):
        settings, added = _write_word_piece(tokenizer, path)
    else:
        return
    if added:
        plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)
        settings["added_tokens_decoder"] = {
            tokenizer.token_to_id(piece): {"content": piece, **plain} for piece in added
        }
    _write_json(path / "tokenizer_config.json", settings)


def _write_byte_pair(tokenizer: Any, path: pathlib.Path) -> tuple[dict[str, Any], list[str]]:
    """Write the vocabulary; return the settings, and the pieces that are never split."""
    _write_json(path / "vocab.json", dict(tokenizer.vocabulary))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges]) + "\n", encoding="utf-8")
    added = [piece for piece in tokenizer.unsplittable_tokens or () if piece not in _BYTE_SPECIAL]
    return {"add_prefix_space": tokenizer.add_prefix_space}, added


def _write_word_piece(tokenizer: Any, path: pathlib.Path) -> tuple[dict[str, Any], list[str]]:
    """Write the vocabulary; return the settings, and the pieces that are never split."""
    (path / "vocab.txt").write_text("\n".join(tokenizer.get_vocabulary()) + "\n", encoding="utf-8")
    pieces = zip(
        ("pad_token", "unk_token", "cls_token", "sep_token"), dataclasses.astuple(special_ids(tokenizer)), strict=True
    )
    settings = {
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.split_on_cjk,
        **{name: tokenizer.id_to_token(index) for name, index in pieces},
        "mask_token": "[MASK]",
    }
    return settings, [piece for piece in tokenizer.special_tokens or () if piece not in _BERT_SPECIAL]


def order_by_id(vocabulary: Mapping[str, int], added: Mapping[str, int] | None = None) -> list[str]:
    """Return the pieces of a vocabulary and the added pieces, in the order of their ids.

    Raises:
        ValueError: an id is missing.
    """
    ids = {**vocabulary, **(added or {})}
    pieces = sorted(ids, key=ids.__getitem__)
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError(
            f"The tokenizer has {len(pieces)} pieces, but ids up to {max(ids.values())}; expected every id from 0. "
            "Pass tokenizer=None to load only the weights."
        )
    return pieces


def _fast_tokenizer(path: pathlib.Path, kind: str) -> Mapping[str, Any]:
    content = read_json(path / "tokenizer.json")
    stored_kind = content.get("model", {}).get("type")
    if stored_kind != kind:
        raise ValueError(
            f"tokenizer.json has a {stored_kind!r} tokenizer; expected {kind!r}. Pass tokenizer=None to load no "
            "tokenizer."
        )
    return content


def _added_pieces(path: pathlib.Path) -> dict[str, int]:
    """Return {piece: id} of the pieces that are never split: special tokens, and pieces added after training."""
    listed = optional_json(path / "tokenizer.json").get("added_tokens", ())
    decoder = optional_json(path / "tokenizer_config.json").get("added_tokens_decoder", {})
    return {
        **{token["content"]: token["id"] for token in listed},
        **{token["content"]: int(index) for index, token in decoder.items()},
        **optional_json(path / "added_tokens.json"),
    }


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
