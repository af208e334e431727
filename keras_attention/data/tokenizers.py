"""KerasHub tokenizers: trained from the user's text, and used from strings to padded ids and back.

The functions take any KerasHub tokenizer. Its special tokens are found by the names that the
common families give them.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import io
import re
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

WHITE_SPACE = " \t\n\v\f\r"  # what separates words, here and in an exported graph
KINDS = ("sentencepiece", "bpe", "wordpiece", "words", "characters")
_SENTENCEPIECE_TYPES = {"sentencepiece": "unigram", "bpe": "bpe", "words": "word", "characters": "char"}
_LONGEST = 1 << 18  # characters in a line of SentencePiece
_OTHER_PIECES = 6  # padding, unknown, start, end, gap, and the gap as a word
_NAMES = {
    "pad": ("<pad>", "[PAD]"),
    "unknown": ("<unk>", "[UNK]"),
    "start": ("<cls>", "<s>", "[START]", "[CLS]", "<bos>"),  # XLNet has both <cls> and <s>, and never uses <s>
    "end": ("<sep>", "</s>", "[END]", "[SEP]", "<eos>", "<|endoftext|>"),
}
NOT_TEXT = tuple(name for kind in ("pad", "start", "end") for name in _NAMES[kind])  # pieces that stand beside a text


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """The ids of the pieces that are no text."""

    pad: int
    unknown: int
    start: int
    end: int


def train_tokenizer(
    texts: Iterable[str],
    kind: str = "sentencepiece",
    vocabulary_size: int = 8000,
    lowercase: bool = False,
) -> Any:
    """Train a KerasHub tokenizer on texts.

    Args:
        texts: strings.
        kind: `"sentencepiece"` (unigram model), `"bpe"` (byte-pair encoding, as SentencePiece
            does it), `"wordpiece"`, `"words"` (whole words between spaces, those that occur at least twice), or
            `"characters"`, which also keeps line breaks and every space.
        vocabulary_size: the most pieces to make, special ones included; a small corpus gives fewer.
        lowercase: fold to lower case inside the tokenizer, so that it also happens where it serves.

    Returns:
        a `keras_hub.tokenizers.SentencePieceTokenizer` or `WordPieceTokenizer`.

    Raises:
        TypeError: `texts` is one string.
        ValueError: an unknown kind, or no text.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> decode_ids(tokenizer, encode_texts(tokenizer, ["we eat"])[0])
        'we eat'

    Reference: Kudo, 2018, https://arxiv.org/abs/1804.10959; Sennrich et al., 2016,
    https://arxiv.org/abs/1508.07909; Schuster and Nakajima, 2012.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no tokenizer {kind!r}; expected one of {', '.join(KINDS)}.")
    if isinstance(texts, str):
        raise TypeError("Expected texts, such as a list of strings; received one string. Wrap it: [text].")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError("There is no text to train a tokenizer on; every line is empty.")
    if kind == "wordpiece":
        return _train_wordpiece(texts, vocabulary_size, lowercase)
    if kind == "words":
        repeated = _repeated_words(texts, lowercase)
        if not repeated:
            warnings.warn("No word of these texts occurs twice; each will be the unknown.", stacklevel=2)
        vocabulary_size = min(vocabulary_size, _OTHER_PIECES + repeated)
    return _train_sentencepiece(texts, _SENTENCEPIECE_TYPES[kind], vocabulary_size, lowercase)


def _repeated_words(texts: list[str], lowercase: bool) -> int:
    counts = collections.Counter(word for text in texts for word in (text.lower() if lowercase else text).split())
    return sum(count > 1 for count in counts.values())


def _train_sentencepiece(texts: list[str], model_type: str, vocabulary_size: int, lowercase: bool) -> Any:
    import keras_hub
    import sentencepiece

    options: dict[str, Any] = {"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": ["<mask>"]}
    if model_type == "char":
        options = {
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "user_defined_symbols": ["<mask>", "\n"],
        }
    lines = (line for text in texts for line in text.split("\n") if line.strip())
    # SentencePiece leaves out what is longer than `max_sentence_length` bytes, and says nothing.
    texts = [line[i : i + _LONGEST] for line in lines for i in range(0, len(line), _LONGEST)]
    model = io.BytesIO()
    with _lowercase_rules(lowercase, keep_spaces=model_type == "char") as rules, _vocabulary_errors(vocabulary_size):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            max_sentence_length=4 * _LONGEST,
            num_threads=1,  # the pieces do not depend on how many cores there are
            minloglevel=2,
            **{**options, **rules},
        )
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=model.getvalue())


@contextlib.contextmanager
def _vocabulary_errors(vocabulary_size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ("ocabulary", "vocab_size", "insert_id")):
            raise
        raise ValueError(
            f"`vocabulary_size` is {vocabulary_size}, too few: it has to hold six pieces that are no text and, but for "
            "the kind 'words', one for each character of this text."
        ) from error


@contextlib.contextmanager
def _lowercase_rules(active: bool, keep_spaces: bool) -> Iterator[dict[str, str]]:
    """Give SentencePiece's trainer a file of rules, NFKC then lower case, for as long as it trains."""
    if not active:
        yield {}
        return
    with _rules_file(_lowercase_table(keep_spaces)) as name:
        yield {"normalization_rule_tsv": name, "normalization_rule_name": "lower_case"}


@contextlib.contextmanager
def _rules_file(table: Iterable[tuple[str, str]]) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="ascii") as file:
        file.write("".join(f"{_hex(old)}\t{_hex(new)}\n" for old, new in table))
        file.flush()
        yield file.name


def compile_rules(table: Iterable[tuple[str, str]]) -> bytes:
    """Return SentencePiece's `precompiled_charsmap` for rules (what stands in a text, what it becomes)."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    with _rules_file(table) as name:  # the trainer alone compiles them
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a"]),
            model_writer=model,
            model_type="char",
            vocab_size=5,
            hard_vocab_limit=False,
            normalization_rule_tsv=name,
            minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def assigned_characters() -> Iterator[str]:
    """Every character that Unicode gives a meaning."""
    characters = map(chr, range(sys.maxunicode + 1))
    return (character for character in characters if unicodedata.category(character) not in ("Cs", "Cn"))


def _lowercase_table(keep_spaces: bool) -> Iterator[tuple[str, str]]:
    for old in assigned_characters():
        if keep_spaces and old.isspace():
            continue
        new = " " if old.isspace() else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", old).lower())
        decomposed = unicodedata.normalize("NFD", old)
        yield from ((form, new) for form in {old, decomposed} if form != new)


def _hex(text: str) -> str:
    return " ".join(f"{ord(char):X}" for char in text)


def _train_wordpiece(texts: list[str], vocabulary_size: int, lowercase: bool) -> Any:
    import keras_hub
    import tensorflow as tf

    special = ["[PAD]", "[UNK]", "[START]", "[END]", "[MASK]"]
    vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices(texts),
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
        reserved_tokens=special,
    )
    return keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=vocabulary,
        lowercase=lowercase,
        oov_token="[UNK]",
        special_tokens=special,
        special_tokens_in_strings=True,
    )


@functools.lru_cache(maxsize=32)
def special_ids(tokenizer: Any) -> SpecialIds:
    """Return the ids of padding, unknown, start and end.

    A missing start is the padding's, with which Marian begins a text; a missing one of another kind is the end's.

    Raises:
        ValueError: the tokenizer has no end piece under any of the usual names.
    """
    if tokenizer is None:
        raise ValueError(
            "This model has no tokenizer, or not all of them, so it works on ids alone. Make it again with "
            "`tokenizer=...`, or import it from a directory that holds the tokenizer's files."
        )
    ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
    found = {kind: next((ids[name] for name in names if name in ids), None) for kind, names in _NAMES.items()}
    if found["end"] is None:
        raise ValueError(
            f"The tokenizer has no end-of-text piece; expected one of {', '.join(_NAMES['end'])} in its vocabulary."
        )
    found["start"] = found["pad"] if found["start"] is None else found["start"]
    return SpecialIds(**{kind: found["end"] if index is None else index for kind, index in found.items()})


@functools.lru_cache(maxsize=32)
def mask_id(tokenizer: Any) -> int:
    """Return the id of the piece that stands for a gap.

    Raises:
        ValueError: the tokenizer has none.
    """
    ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
    found = next((ids[name] for name in ("[MASK]", "<mask>") if name in ids), None)
    if found is None:
        raise ValueError("The tokenizer has no piece for a gap; expected [MASK] or <mask> in its vocabulary.")
    return found


def encode_texts(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int | None = None,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    keep_last: bool = False,
) -> list[list[int]]:
    """Turn texts into ids.

    Args:
        tokenizer: a KerasHub tokenizer.
        texts: strings.
        max_length: the most ids to keep of a text, what stands around it included; more are cut off,
            with one warning that counts the texts.
        before: ids to put before each text.
        after: ids to put after it.
        keep_last: cut off the beginning of a text that is too long, not its end.

    Returns:
        one list of ids per text.
    """
    if not texts:
        return []
    special_ids(tokenizer)  # says what is wrong where there is none
    rows = split_like_gpt2(tokenizer).tokenize(_rewrite(tokenizer, texts))
    rows = [list(map(int, row)) for row in (rows.to_list() if hasattr(rows, "to_list") else rows)]
    room = None if max_length is None else max(max_length - len(before) - len(after), 0)
    too_long = sum(room is not None and len(row) > room for row in rows)
    if too_long:
        warnings.warn(
            f"{too_long} of {len(rows)} texts are longer than {max_length} pieces and were cut there.",
            stacklevel=2,
        )
    first = -room if keep_last and room else None
    return [[*before, *(row[first:] if keep_last else row[:room]), *after] for row in rows]


def split_words(text: str) -> list[str]:
    """Return the words of a text, which stand between ASCII white space."""
    return [word for word in re.split(f"[{WHITE_SPACE}]+", text) if word]


def split_like_gpt2(tokenizer: Any) -> Any:
    """Return the tokenizer; one of byte pairs then splits words in Python as it does in a TensorFlow graph.

    KerasHub's splits there as Llama 3's does, at every three digits among others, and its files do not keep a rule of
    one's own. Other tokenizers are left as they are.
    """
    own = getattr(tokenizer, "_tokenizer", None)
    if own is not None and type(tokenizer).__name__ == "BytePairTokenizer":
        import tokenizers

        own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(tokenizer.add_prefix_space, use_regex=True)
    return tokenizer


def in_sentence(tokenizer: Any, words: Sequence[str]) -> list[str]:
    """Return the words of a sentence as their tokenizer should be given each alone.

    To one of byte pairs a word is another after a space than at the beginning of a text.
    """
    return [" " * (i > 0 and marks_spaces(tokenizer)) + word for i, word in enumerate(words)]


def marks_spaces(tokenizer: Any) -> bool:
    """Return whether a word has other pieces after a space than at the beginning of a text."""
    return type(tokenizer).__name__ == "BytePairTokenizer" and not tokenizer.add_prefix_space


def rewrites(tokenizer: Any, in_graph: bool = False) -> tuple[tuple[str, str], ...]:
    """Return what to replace in a text before a KerasHub tokenizer splits it as its model's authors did.

    RoBERTa's `<mask>` takes the space before it; a graph needs to be told where GPT-2 cuts a run of line breaks;
    and BERT drops control characters and takes every kind of space for one. Most tokenizers need nothing.

    Args:
        tokenizer: a KerasHub tokenizer.
        in_graph: it is for `tf.strings.regex_replace`, not Python's.

    Returns:
        (pattern, replacement) pairs, to be applied in order.
    """
    kind, rules = type(tokenizer).__name__, []
    if kind == "BytePairTokenizer":
        if "<mask>" in (tokenizer.unsplittable_tokens or ()):
            rules.append((r"\s+<mask>", "<mask>"))
        if in_graph:  # KerasHub cuts at its own mark, and takes the mark away
            rules.append((r"(\s)([\n\r\t\f\v])(\S)", r"\1६\2६\3"))
    elif kind == "WordPieceTokenizer" and tokenizer.special_tokens_in_strings:
        rules.append((r"[\p{Cf}\p{Co}\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\x{fffd}]", ""))
        rules.append((r"[\p{Zs}\x{2028}\x{2029}]", " "))
        if not in_graph:
            rules = [(re.sub(r"\\x\{(\w+)\}", r"\\u\1", pattern), new) for pattern, new in rules]
    return tuple(rules)


def _rewrite(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    texts, rules = list(texts), rewrites(tokenizer)
    if rules:
        import regex  # it knows classes such as \p{Zs}

        for pattern, replacement in rules:
            texts = [regex.sub(pattern, replacement, text) for text in texts]
    return texts


def apply_template(tokenizer: Any, template: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that stand before and after each text.

    Args:
        tokenizer: a KerasHub tokenizer.
        template: `"end"`, `"start_end"` or `"end_start"`; see `TransformerConfig`.
    """
    special = special_ids(tokenizer)
    return {
        "end": ((), (special.end,)),
        "start_end": ((special.start,), (special.end,)),
        "end_start": ((), (special.end, special.start)),
    }[template]


def decode_ids(tokenizer: Any, ids: Sequence[int]) -> str:
    """Turn ids back into text, leaving out padding, start, end, and what is beyond the vocabulary."""
    special, size = special_ids(tokenizer), tokenizer.vocabulary_size()
    kept = [i for i in ids if i not in (special.pad, special.start, special.end) and i < size]
    if not kept:
        return ""
    text = tokenizer.detokenize([kept])[0]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def ids_to_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the piece behind each id, "" beyond the vocabulary: a model may know more ids than its tokenizer."""
    size = tokenizer.vocabulary_size()
    return [tokenizer.id_to_token(int(i)) if i < size else "" for i in ids]


def pad_ids(
    rows: Sequence[Sequence[int]], pad: int, multiple: int = 1, extra: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows of ids on the right to one length.

    Args:
        rows: B lists of ids.
        pad: the id to fill up with.
        multiple: the common length is rounded up to a multiple of this, so that fewer shapes occur.
        extra: columns of padding beyond that.

    Returns:
        ids (B, T) int32 and mask (B, T) bool, True = a real token.

    Example:
        >>> pad_ids([[5, 7], [11]], pad=0)[0].tolist()
        [[5, 7], [11, 0]]
    """
    longest = max((len(row) for row in rows), default=0)
    length = -(-longest // multiple) * multiple + extra
    ids = np.full((len(rows), length), pad, "int32")
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
