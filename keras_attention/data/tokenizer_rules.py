"""Rules for each kind of tokenizer, and the rule that splits a text into words.

The rules are data or functions of strings, so Python and an exported graph apply the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

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
    return type(tokenizer).__name__ == "BytePairTokenizer" and not tokenizer.add_prefix_space


def split_like_gpt2(tokenizer: Any) -> Any:
    """Change a byte-pair tokenizer so that Python splits words as a TensorFlow graph does, and return it.

    KerasHub's Python implementation splits as Llama 3 does, for example after every three digits, and its saved files
    do not store the rule. Other kinds of tokenizers are not changed.
    """
    python_tokenizer = getattr(tokenizer, "_tokenizer", None)
    if python_tokenizer is not None and type(tokenizer).__name__ == "BytePairTokenizer":
        import tokenizers

        rule = tokenizers.pre_tokenizers.ByteLevel(tokenizer.add_prefix_space, use_regex=True)
        python_tokenizer.pre_tokenizer = rule
    return tokenizer


def pieces_to_bytes(tokenizer: Any) -> list[bytes]:
    """Return the bytes that each piece adds to a text.

    Args:
        tokenizer: a KerasHub tokenizer.

    Example:
        >>> sorted(pieces_to_bytes(ka.data.train_tokenizer(["we eat"], "characters")))[1]
        b' '
    """
    pieces, kind = tokenizer.get_vocabulary(), type(tokenizer).__name__
    if kind == "BytePairTokenizer":
        codes = {character: byte for byte, character in _byte_characters().items()}
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


def _byte_characters() -> dict[int, str]:
    """Return the character with which the pieces of GPT-2 write each byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def rewrites(tokenizer: Any, in_graph: bool = False) -> tuple[tuple[str, str], ...]:
    """Return the replacements in a text with which a KerasHub tokenizer splits it as the original tokenizer does.

    RoBERTa's `<mask>` includes the space before it. In a graph, GPT-2's tokenizer needs a marker to split several line
    breaks. BERT's tokenizer removes control characters and replaces every kind of space by an ASCII space. Most
    tokenizers need no replacements.

    Args:
        tokenizer: a KerasHub tokenizer.
        in_graph: return patterns for `tf.strings.regex_replace`, not for the package `regex`.

    Returns:
        (pattern, replacement) pairs, to be applied in order.
    """
    kind, rules = type(tokenizer).__name__, []
    if kind == "BytePairTokenizer":
        if "<mask>" in (tokenizer.unsplittable_tokens or ()):
            rules.append((r"\s+<mask>", "<mask>"))
        if in_graph:  # KerasHub splits at this character and removes it
            rules.append((r"(\s)([\n\r\t\f\v])(\S)", r"\1६\2६\3"))
    elif kind == "WordPieceTokenizer" and tokenizer.special_tokens_in_strings:
        rules.append((r"[\p{Cf}\p{Co}\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\x{fffd}]", ""))
        rules.append((r"[\p{Zs}\x{2028}\x{2029}]", " "))
        if not in_graph:
            rules = [(re.sub(r"\\x\{(\w+)\}", r"\\u\1", pattern), new) for pattern, new in rules]
    return tuple(rules)


def rewrite_texts(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """Return texts after the replacements of `rewrites`."""
    texts, rules = list(texts), rewrites(tokenizer)
    if rules:
        import regex  # supports classes such as \p{Zs}

        for pattern, replacement in rules:
            texts = [regex.sub(pattern, replacement, text) for text in texts]
    return texts
