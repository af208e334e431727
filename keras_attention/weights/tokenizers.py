"""Read and write the tokenizer files of a Hugging Face directory, as KerasHub tokenizers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

from keras_attention.data.tokenization.special_tokens import set_special_tokens, special_tokens_of
from keras_attention.data.tokenization.tokenizer_rules import is_byte_pair, is_word_piece
from keras_attention.weights.files import optional_json, read_json
from keras_attention.weights.token_files import SpecialTokenRole, read_special_tokens

BERT_ROLES = (
    SpecialTokenRole("unk_token", "unknown", "[UNK]"),
    SpecialTokenRole("sep_token", "end", "[SEP]"),
    SpecialTokenRole("pad_token", "pad", "[PAD]"),
    SpecialTokenRole("cls_token", "start", "[CLS]"),
    SpecialTokenRole("mask_token", "mask", "[MASK]"),
)
ROBERTA_ROLES = (
    SpecialTokenRole("bos_token", None, "<s>"),
    SpecialTokenRole("eos_token", None, "</s>"),
    SpecialTokenRole("unk_token", "unknown", "<unk>"),
    SpecialTokenRole("sep_token", "end", "</s>"),
    SpecialTokenRole("pad_token", "pad", "<pad>"),
    SpecialTokenRole("cls_token", "start", "<s>"),
    SpecialTokenRole("mask_token", "mask", "<mask>"),
)
GPT2_ROLES = (
    SpecialTokenRole("bos_token", "start", "<|endoftext|>"),
    SpecialTokenRole("eos_token", "end", "<|endoftext|>"),
    SpecialTokenRole("unk_token", "unknown", "<|endoftext|>"),
    SpecialTokenRole("sep_token", None, None),
    SpecialTokenRole("pad_token", "pad", None),
    SpecialTokenRole("cls_token", None, None),
    SpecialTokenRole("mask_token", "mask", None),
)


def read_word_piece(path: pathlib.Path) -> dict[str, Any]:
    """Return {"tokenizer": ...} for BERT from `vocab.txt` or `tokenizer.json`, or {} without these files.

    As in transformers, texts are converted to lower case unless `tokenizer_config.json` has `do_lower_case = false`.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer, or two files disagree.
    """
    if (path / "vocab.txt").exists():
        text = (path / "vocab.txt").read_text(encoding="utf-8")
        pieces = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
    elif (path / "tokenizer.json").exists():
        content = _fast_tokenizer(path, "WordPiece")
        kind = (content.get("normalizer") or {}).get("type")
        if kind != "BertNormalizer":
            raise ValueError(
                f"tokenizer.json has the normalizer {kind!r}; expected 'BertNormalizer'. Pass tokenizer=None to load "
                "no tokenizer."
            )
        vocabulary = content["model"]["vocab"]
    else:
        return {}
    lowercase, strip_accents, split_on_cjk = _normalizer_options(path, order_by_id(vocabulary))
    ids, special = read_special_tokens(path, BERT_ROLES, vocabulary, "start_end", lowercase)
    pieces = order_by_id(ids)
    import keras_hub

    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=pieces,
        lowercase=lowercase,
        strip_accents=lowercase if strip_accents is None else strip_accents,
        split_on_cjk=split_on_cjk,
        oov_token=pieces[special.unknown],
        special_tokens=[token.content for token in special.added_tokens],
        special_tokens_in_strings=True,
    )
    return {"tokenizer": set_special_tokens(tokenizer, special)}


def _normalizer_options(path: pathlib.Path, pieces: list[str]) -> tuple[bool, bool | None, bool]:
    """Return `lowercase`, `strip_accents` and `split_on_cjk`.

    Raises:
        ValueError: `tokenizer_config.json` and the normalizer of `tokenizer.json` disagree.
    """
    tokenizer_config = optional_json(path / "tokenizer_config.json")
    fast = optional_json(path / "tokenizer.json").get("normalizer") or {}
    lowercase = tokenizer_config.get("do_lower_case", True)
    options = lowercase, tokenizer_config.get("strip_accents"), tokenizer_config.get("tokenize_chinese_chars", True)
    names = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
    for (name, fast_name), value in zip(names.items(), options[::2], strict=True):
        if name in tokenizer_config and fast.get(fast_name, value) != value:
            raise ValueError(
                f"tokenizer_config.json has {name} = {value}, but the normalizer of tokenizer.json has {fast_name} = "
                f"{fast[fast_name]}; expected the same value. Correct one of the two files."
            )
    cased = any(piece != piece.lower() for piece in pieces if not re.fullmatch(r"\[.*\]", piece))
    if "do_lower_case" not in tokenizer_config and (cased or not fast.get("lowercase", True)):
        warnings.warn(
            f"{str(path)!r} has no do_lower_case, so texts are converted to lower case, as in transformers; but its "
            "files are for texts with capital letters. Set do_lower_case in tokenizer_config.json.",
            stacklevel=2,
        )
    return options


def read_byte_pair(path: pathlib.Path, roles: tuple[SpecialTokenRole, ...], template: str) -> dict[str, Any]:
    """Return {"tokenizer": ...} for GPT-2 or RoBERTa, or {} without tokenizer files.

    The files are `vocab.json` and `merges.txt`, or `tokenizer.json`.

    Args:
        path: the directory.
        roles: the special tokens of the family.
        template: the special-token template of the family.

    Raises:
        ValueError: `tokenizer.json` has another kind of tokenizer, or one that normalizes or splits texts differently;
            two files disagree; ids are missing; or there are no merges.
    """
    if (path / "vocab.json").exists() and (path / "merges.txt").exists():
        tokenizer_config = optional_json(path / "tokenizer_config.json")
        lines = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
        vocabulary, prefix_space = read_json(path / "vocab.json"), tokenizer_config.get("add_prefix_space")
    elif (path / "tokenizer.json").exists():
        content = _fast_tokenizer(path, "BPE")
        merges = [rule if isinstance(rule, str) else " ".join(rule) for rule in content["model"]["merges"]]
        vocabulary, prefix_space = content["model"]["vocab"], _prefix_space(content)
    else:
        return {}
    ids, special = read_special_tokens(path, roles, vocabulary, template)
    if not merges:
        raise ValueError("There are no merges; expected pairs of pieces, one pair per line, in merges.txt.")
    import keras_hub

    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        {piece: i for i, piece in enumerate(order_by_id(ids))},
        merges,
        add_prefix_space=bool(prefix_space),
        unsplittable_tokens=[token.content for token in special.added_tokens],
    )
    return {"tokenizer": set_special_tokens(tokenizer, special)}


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


def write_tokenizer(tokenizer: Any, path: pathlib.Path, roles: tuple[SpecialTokenRole, ...]) -> None:
    """Write a WordPiece or byte-pair tokenizer as transformers reads it. Other kinds are not written.

    Args:
        tokenizer: a KerasHub tokenizer, or None.
        path: the directory.
        roles: the special tokens of the family.
    """
    if is_byte_pair(tokenizer):
        _write_json(path / "vocab.json", dict(tokenizer.vocabulary))
        (path / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges]) + "\n", encoding="utf-8")
        tokenizer_config: dict[str, Any] = {"add_prefix_space": tokenizer.add_prefix_space}
    elif is_word_piece(tokenizer):
        (path / "vocab.txt").write_text("\n".join(tokenizer.get_vocabulary()) + "\n", encoding="utf-8")
        tokenizer_config = {
            "do_lower_case": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "tokenize_chinese_chars": tokenizer.split_on_cjk,
        }
    else:
        return
    _write_json(path / "tokenizer_config.json", {**tokenizer_config, **_special_tokens_config(tokenizer, roles)})


def _special_tokens_config(tokenizer: Any, roles: tuple[SpecialTokenRole, ...]) -> dict[str, Any]:
    """Return the entries of `tokenizer_config.json` for the special tokens."""
    special, vocabulary = special_tokens_of(tokenizer), list(tokenizer.get_vocabulary())
    kinds = {"bos_token": "start", "eos_token": "end"}  # roles of RoBERTa
    ids = {role.name: getattr(special, role.kind or kinds.get(role.name, ""), None) for role in roles}
    if special.pad in (special.end, special.start):  # there is none
        ids.pop("pad_token", None)
    named = {name: vocabulary[index] for name, index in ids.items() if index is not None}
    decoder = {}
    for token in special.added_tokens:
        index, flags = tokenizer.token_to_id(token.content), dataclasses.asdict(token)
        flags.pop("at_start")
        decoder[index] = {**flags, "special": index in special.special_ids}
    bos = {"add_bos_token": True} if roles is GPT2_ROLES and special.add_start_token else {}
    return {**named, **bos, "added_tokens_decoder": decoder}


def order_by_id(ids: Mapping[str, int]) -> list[str]:
    """Return the pieces of a vocabulary in the order of their ids.

    Raises:
        ValueError: an id is missing.
    """
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


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
