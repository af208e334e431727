"""KerasHub tokenizers: train them on texts, encode strings as ids, decode ids to strings."""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_attention.argument_checks import require_one_of
from keras_attention.choices import NORMALIZATIONS, TOKENIZER_KINDS
from keras_attention.data.lines import counted
from keras_attention.data.tokenization.special_tokens import (
    AddedToken,
    SpecialTokens,
    set_special_tokens,
    special_tokens_of,
    vocabulary,
)
from keras_attention.data.tokenization.tokenizer_rules import exact_tokenizer, split_added

_SENTENCEPIECE_TYPES = {"sentencepiece": "unigram", "bpe": "bpe", "words": "word", "characters": "char"}
_MAX_LINE_LENGTH = 1 << 18  # maximum number of characters in a line for SentencePiece's trainer
_SPECIAL_PIECES = 6  # padding, unknown, start, end, mask, and a line break or the mask as a word


def train_tokenizer(
    texts: Iterable[str],
    kind: str = "sentencepiece",
    vocabulary_size: int = 8000,
    lowercase: bool = False,
    normalization: str = "identity",
    min_count: int = 2,
) -> Any:
    """Train a KerasHub tokenizer on texts.

    Args:
        texts: strings.
        kind: `"sentencepiece"` (unigram model), `"bpe"` (SentencePiece's byte-pair encoding), `"wordpiece"`, `"words"`
            (words between spaces, see `min_count`), or `"characters"`, which preserves every space. All kinds
            except `"wordpiece"` and `"words"` preserve line breaks.
        vocabulary_size: maximum number of pieces, including special tokens; few texts give fewer pieces.
        lowercase: convert texts to lower case inside the tokenizer, also in an exported model.
        normalization: `"identity"` keeps the characters of a text, but replaces tabs, and other white space that
            `texts` do not contain, by spaces. `"nfkc"` replaces compatibility characters: `³` by `3`, full-width
            letters by normal ones; not for the kinds `"wordpiece"` and `"characters"`.
        min_count: for the kind `"words"`, the number of times that a word must occur to be in the vocabulary.

    Returns:
        a `keras_hub.tokenizers.SentencePieceTokenizer` or `WordPieceTokenizer`.

    Raises:
        TypeError: `texts` is one string.
        ValueError: the kind or the normalization is unknown, all texts are empty, or the vocabulary size is below the
            number of characters and special tokens.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> decode_ids(tokenizer, encode_texts(tokenizer, ["we eat"])[0])
        'we eat'

    Reference: Kudo, 2018, https://arxiv.org/abs/1804.10959; Sennrich et al., 2016,
    https://arxiv.org/abs/1508.07909; Schuster and Nakajima, 2012.
    """
    require_one_of("kind", kind, TOKENIZER_KINDS)
    if isinstance(texts, str):
        raise TypeError("Expected texts, such as a list of strings; received one string. Wrap it: [text].")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError("There is no text to train a tokenizer on: every line is empty. Expected at least one word.")
    _check_normalization(normalization, kind)
    if kind == "wordpiece":
        return _train_wordpiece(texts, vocabulary_size, lowercase)
    if kind == "words":
        words = _count_words(texts, lowercase, min_count)
        if not words:
            warnings.warn(
                f"No word of these texts occurs {counted(min_count, 'time')}, so each becomes the unknown token. Add "
                "texts, or lower `min_count`.",
                stacklevel=2,
            )
        vocabulary_size = min(vocabulary_size, _SPECIAL_PIECES + words)
    tokenizer = _train_sentencepiece(texts, kind, vocabulary_size, lowercase, normalization)
    return set_special_tokens(tokenizer, SpecialTokens(0, 1, 2, 3, mask=tokenizer.token_to_id("<mask>")))


def _check_normalization(normalization: str, kind: str) -> None:
    require_one_of("normalization", normalization, NORMALIZATIONS)
    if normalization != "identity" and kind in ("wordpiece", "characters"):
        raise ValueError(
            f"`normalization` is {normalization!r}, but the kind {kind!r} keeps the text; expected 'identity'."
        )


def _count_words(texts: list[str], lowercase: bool, min_count: int) -> int:
    """Return the number of different words that occur at least `min_count` times."""
    counts = collections.Counter(word for text in texts for word in (text.lower() if lowercase else text).split())
    return sum(count >= min_count for count in counts.values())


def _train_sentencepiece(texts: list[str], kind: str, vocabulary_size: int, lowercase: bool, normalization: str) -> Any:
    import keras_hub
    import sentencepiece

    table = _normalization_table(kind, lowercase, normalization, seen=set().union(*texts))
    options: dict[str, Any] = {"user_defined_symbols": ["<mask>"] if kind == "words" else ["<mask>", "\n"]}
    if kind == "characters":
        options |= {"remove_extra_whitespaces": False, "add_dummy_prefix": False}
    lines = (line for text in texts for line in text.split("\n") if line.strip())
    # SentencePiece skips lines of more than `max_sentence_length` bytes without a warning.
    texts = [line[i : i + _MAX_LINE_LENGTH] for line in lines for i in range(0, len(line), _MAX_LINE_LENGTH)]
    model = io.BytesIO()
    with _normalization_options(table) as rules, _vocabulary_errors(vocabulary_size):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=_SENTENCEPIECE_TYPES[kind],
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            max_sentence_length=4 * _MAX_LINE_LENGTH,
            num_threads=1,  # the pieces must not depend on the number of cores
            minloglevel=2,
            **{**options, **rules},
        )
    return keras_hub.tokenizers.SentencePieceTokenizer(proto=model.getvalue())


@contextlib.contextmanager
def _vocabulary_errors(vocabulary_size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("ocabulary", "vocab_size", "insert_id")):
            raise
        raise ValueError(
            f"`vocabulary_size` is {vocabulary_size}; expected at least {_SPECIAL_PIECES}, for the special tokens, and "
            "one more for each different character of these texts (except for the kind 'words'). Increase it."
        ) from error


@contextlib.contextmanager
def _normalization_options(table: Iterable[tuple[str, str]] | None) -> Iterator[dict[str, str]]:
    """Yield the options of SentencePiece's trainer for a table of replacements; None for its NFKC rules."""
    if table is None:
        yield {"normalization_rule_name": "nmt_nfkc"}
        return
    if not table:
        yield {"normalization_rule_name": "identity"}
        return
    with _rules_file(table) as name:
        yield {"normalization_rule_tsv": name, "normalization_rule_name": "keras_attention"}


@contextlib.contextmanager
def _rules_file(table: Iterable[tuple[str, str]]) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="ascii") as file:
        file.write("".join(f"{_hex(old)}\t{_hex(new)}\n" for old, new in table))
        file.flush()
        yield file.name


def compile_rules(table: Iterable[tuple[str, str]]) -> bytes:
    """Return SentencePiece's `precompiled_charsmap` for (string, replacement) rules."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    with _rules_file(table) as name:  # only the trainer can compile rules
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
    """Yield every character that Unicode assigns."""
    characters = map(chr, range(sys.maxunicode + 1))
    return (character for character in characters if unicodedata.category(character) not in ("Cs", "Cn"))


@functools.cache
def _other_spaces() -> tuple[str, ...]:
    """Return every white-space character except the space."""
    return tuple(character for character in assigned_characters() if character.isspace() and character != " ")


@functools.cache
def _lowercase_rules() -> tuple[tuple[str, str], ...]:
    """Return (character, lower case) of every character that is not in lower case."""
    return tuple((old, old.lower()) for old in assigned_characters() if old != old.lower())


def _normalization_table(
    kind: str, lowercase: bool, normalization: str, seen: set[str]
) -> Iterable[tuple[str, str]] | None:
    """Return (string, replacement) rules; None for SentencePiece's own NFKC rules.

    Args:
        kind: the kind of tokenizer. Words are separated by every space; characters keep every space.
        lowercase: convert to lower case.
        normalization: "identity" or "nfkc".
        seen: the characters of the texts.
    """
    if normalization == "nfkc":
        return _nfkc_lowercase() if lowercase else None
    rules = dict(_lowercase_rules()) if lowercase else {}
    if kind == "characters":
        return rules.items()
    rules |= {old: " " for old in _other_spaces() if old not in seen or old in "\t\v\f" or kind == "words"}
    if kind != "words":
        rules.pop("\n", None)
        rules |= {"\r\n": "\n", "\r": "\n"}
    return rules.items()


def _nfkc_lowercase() -> Iterator[tuple[str, str]]:
    """Yield the rules of NFKC and lower case, also for decomposed characters."""
    for old in assigned_characters():
        new = " " if old.isspace() else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", old).lower())
        decomposed = unicodedata.normalize("NFD", old)
        yield from ((form, new) for form in {old, decomposed} if form != new)


def _hex(text: str) -> str:
    return " ".join(f"{ord(char):X}" for char in text)


def _train_wordpiece(texts: list[str], vocabulary_size: int, lowercase: bool) -> Any:
    import keras_hub
    import tensorflow as tf
    from tokenizers.normalizers import BertNormalizer

    special = ["[PAD]", "[UNK]", "[START]", "[END]", "[MASK]"]
    normalizer = BertNormalizer(lowercase=lowercase, strip_accents=False)
    vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices([normalizer.normalize_str(text) for text in texts]),
        vocabulary_size=vocabulary_size,
        reserved_tokens=special,
    )
    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=vocabulary,
        lowercase=lowercase,
        oov_token="[UNK]",
        special_tokens=special,
        special_tokens_in_strings=True,
    )
    return set_special_tokens(
        tokenizer, SpecialTokens(0, 1, 2, 3, mask=4, added_tokens=tuple(map(AddedToken, special)))
    )


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Encode texts as ids, one list per text, without special tokens; `TextReader` adds them.

    Args:
        tokenizer: a KerasHub tokenizer.
        texts: strings.

    Returns:
        One list of ids per text.

    Raises:
        ValueError: see `special_tokens_of`.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread"], "characters")
        >>> [len(ids) for ids in encode_texts(tokenizer, ["we eat", "we"])]
        [6, 2]
    """
    special_tokens_of(tokenizer)  # raises an error if there is no usable tokenizer
    if not texts:
        return []
    exact = exact_tokenizer(tokenizer)
    if exact is not None:
        return [encoding.ids for encoding in exact.encode_batch(list(texts), add_special_tokens=False)]
    parts = [split_added(tokenizer, text) for text in texts]
    strings = [part for parts_of_text in parts for part in parts_of_text if isinstance(part, str)]
    sequences = iter(_tokenize(tokenizer, strings))
    return [
        [i for part in parts_of_text for i in ([part] if isinstance(part, int) else next(sequences))]
        for parts_of_text in parts
    ]


def _tokenize(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    sequences, special = tokenizer.tokenize(texts), special_tokens_of(tokenizer)
    sequences = [list(map(int, ids)) for ids in (sequences.to_list() if hasattr(sequences, "to_list") else sequences)]
    if special.vocabulary_size:
        sequences = [[i if i < special.vocabulary_size else special.unknown for i in ids] for ids in sequences]
    return sequences


def decode_ids(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of ids. Special tokens, such as padding, and ids beyond the vocabulary are removed.

    Args:
        tokenizer: a KerasHub tokenizer.
        ids: the ids of one text.

    Returns:
        a string; empty if no id is left.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread"], "characters")
        >>> decode_ids(tokenizer, [2, *encode_texts(tokenizer, ["eat"])[0], 3, 0, 997])
        'eat'
    """
    special_ids, size = special_tokens_of(tokenizer).special_ids, len(vocabulary(tokenizer))
    text_ids = [i for i in ids if i not in special_ids and i < size]
    if not text_ids:
        return ""
    text = tokenizer.detokenize([text_ids])[0]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def ids_to_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the piece of each id, or "" for an id beyond the vocabulary.

    A model may have more ids than its tokenizer.

    Args:
        tokenizer: a KerasHub tokenizer.
        ids: ids of tokens.

    Example:
        >>> ids_to_pieces(train_tokenizer(["we eat bread"], "characters"), [2, 3, 997])
        ['<s>', '</s>', '']
    """
    size = len(vocabulary(tokenizer))
    return [tokenizer.id_to_token(int(i)) if i < size else "" for i in ids]
