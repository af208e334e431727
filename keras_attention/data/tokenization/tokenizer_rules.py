"""The rules of each kind of tokenizer, and the rule that splits a text into words.

The rules are data or functions of strings, so that Python and an exported graph apply the same ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from keras_attention.data.tokenization.special_tokens import AddedToken, added_pattern, special_tokens_of, vocabulary

MAX_WORD_LENGTH = 100  # characters; BERT's tokenizer turns a longer word into the unknown token
WORD_MARK = "\u2581"  # SentencePiece's mark of the beginning of a word
WHITE_SPACE = " \t\n\v\f\r"  # separates words, in Python and in an exported graph


def is_empty(text: str) -> bool:
    """Return whether a text has no words: it is "" or ASCII white space. `tf.strings.strip` has the same rule.

    Example:
        >>> is_empty(" \\n"), is_empty("a")
        (True, False)
    """
    return not text.strip(WHITE_SPACE)


def split_words(text: str) -> list[str]:
    """Return the words of a text, split at ASCII white space.

    Example:
        >>> split_words(" we  eat\\n")
        ['we', 'eat']
    """
    return [word for word in re.split(f"[{WHITE_SPACE}]+", text) if word]


def add_spaces(tokenizer: Any, words: Sequence[str]) -> list[str]:
    """Return the words of a sentence as strings, to tokenize them one by one.

    For GPT-2's byte-pair tokenizer, a space is put before each word except the first, because a word has different
    tokens after a space and at the beginning of a text.

    Example:
        >>> add_spaces(ka.data.train_tokenizer(["we eat bread"], "characters"), ["we", "eat"])
        ['we', 'eat']
    """
    return [" " * (i > 0 and marks_spaces(tokenizer)) + word for i, word in enumerate(words)]


def marks_spaces(tokenizer: Any) -> bool:
    """Return whether the tokens of a word depend on a space before it, as in GPT-2."""
    return is_byte_pair(tokenizer) and not tokenizer.add_prefix_space


def is_byte_pair(tokenizer: Any) -> bool:
    """Return whether a tokenizer has byte pairs and splits words as GPT-2 does."""
    return type(tokenizer).__name__ == "BytePairTokenizer"


def is_word_piece(tokenizer: Any) -> bool:
    """Return whether a tokenizer has word pieces and splits words as BERT does."""
    return type(tokenizer).__name__ == "WordPieceTokenizer" and tokenizer.split


def pieces_to_bytes(tokenizer: Any) -> list[bytes]:
    """Return the bytes that each piece adds to a text.

    Args:
        tokenizer: a KerasHub tokenizer.

    Example:
        >>> sorted(pieces_to_bytes(ka.data.train_tokenizer(["we eat"], "characters")))[1]
        b' '
    """
    pieces, kind = vocabulary(tokenizer), type(tokenizer).__name__
    if kind == "BytePairTokenizer":
        codes = {character: byte for byte, character in byte_characters().items()}
        return [bytes(codes[c] for c in piece) if codes.keys() >= set(piece) else piece.encode() for piece in pieces]
    if kind == "WordPieceTokenizer":
        suffix = tokenizer.suffix_indicator
        return [(p.removeprefix(suffix) if p.startswith(suffix) else f" {p}").encode() for p in pieces]
    return [
        bytes([int(piece[3:5], 16)])
        if re.fullmatch("<0x[0-9A-F]{2}>", piece)
        else piece.replace("\u2581", " ").encode()
        for piece in pieces
    ]


def byte_characters() -> dict[int, str]:
    """Return the character with which the pieces of GPT-2 write each byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@functools.lru_cache(maxsize=32)
def exact_tokenizer(tokenizer: Any) -> Any:
    """Return the `tokenizers.Tokenizer` that splits texts as transformers does; None for SentencePiece.

    KerasHub's own Python code splits byte pairs as Llama 3 does, and normalizes word pieces with NFKC.

    Args:
        tokenizer: a KerasHub tokenizer.
    """
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    if is_byte_pair(tokenizer) and hasattr(tokenizer, "merges"):
        merges = [tuple(merge.split(" ")) for merge in tokenizer.merges if not merge.startswith("#version")]
        exact = tokenizers.Tokenizer(models.BPE(dict(tokenizer.vocabulary), merges))
        exact.pre_tokenizer = pre_tokenizers.ByteLevel(tokenizer.add_prefix_space, use_regex=True)
    elif is_word_piece(tokenizer):
        ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
        options = {"unk_token": tokenizer.oov_token, "continuing_subword_prefix": tokenizer.suffix_indicator}
        exact = tokenizers.Tokenizer(models.WordPiece(ids, max_input_chars_per_word=MAX_WORD_LENGTH, **options))
        exact.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=tokenizer.split_on_cjk,
            strip_accents=tokenizer.strip_accents,
            lowercase=tokenizer.lowercase,
        )
        exact.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        return None
    exact.add_tokens([_to_tokenizers(token) for token in special_tokens_of(tokenizer).added_tokens])
    return exact


def _to_tokenizers(token: AddedToken) -> Any:
    import tokenizers

    flags = {name: getattr(token, name) for name in ("lstrip", "rstrip", "single_word", "normalized")}
    return tokenizers.AddedToken(token.content, **flags)


def split_added(tokenizer: Any, text: str) -> list[str | int]:
    """Split a text at the pieces that are never split; return strings, and the id of each of these pieces.

    Example:
        >>> split_added(ka.data.train_tokenizer(["we eat bread"], "characters"), "we eat")
        ['we eat']
    """
    special = special_tokens_of(tokenizer)
    if not special.added_tokens:
        return [text]
    fold = str.lower if special.lowercase else str
    ids = {fold(token.content): tokenizer.token_to_id(token.content) for token in special.added_tokens}
    pattern = re.sub(r"\\x\{(\w+)\}", lambda code: re.escape(chr(int(code[1], 16))), added_pattern(special))
    parts = re.split(f"({pattern})", text)
    return [ids[fold(part.strip())] if i % 2 else part for i, part in enumerate(parts) if part]
