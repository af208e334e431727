"""What each kind of tokenizer does differently, and how a text is split into words.

The rules are data or work on strings, so that Python and an exported graph apply the same ones.
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
    """Return the words of a sentence as strings that are tokenized one by one.

    For a byte-pair tokenizer of GPT-2's kind each word but the first gets a space before it, because its tokens after
    a space differ from those at the beginning of a text.
    """
    return [" " * (i > 0 and marks_spaces(tokenizer)) + word for i, word in enumerate(words)]


def marks_spaces(tokenizer: Any) -> bool:
    """Return whether a word has other tokens after a space than at the beginning of a text."""
    return type(tokenizer).__name__ == "BytePairTokenizer" and not tokenizer.add_prefix_space


def split_like_gpt2(tokenizer: Any) -> Any:
    """Make a byte-pair tokenizer split words in Python as it does in a TensorFlow graph, and return it.

    KerasHub's Python implementation splits as Llama 3 does, for example at every three digits, and its saved files
    do not keep another rule. Tokenizers of other kinds are not changed.
    """
    own = getattr(tokenizer, "_tokenizer", None)
    if own is not None and type(tokenizer).__name__ == "BytePairTokenizer":
        import tokenizers

        own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(tokenizer.add_prefix_space, use_regex=True)
    return tokenizer


def rewrites(tokenizer: Any, in_graph: bool = False) -> tuple[tuple[str, str], ...]:
    """Return the replacements in a text that make a KerasHub tokenizer split it as the model's authors did.

    RoBERTa's `<mask>` includes the space before it. In a graph GPT-2's tokenizer needs a mark where it splits a run of
    line breaks. BERT's drops control characters and treats every kind of space as one. Most tokenizers need nothing.

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
        if in_graph:  # KerasHub splits at this character and drops it
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
