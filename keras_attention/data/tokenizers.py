"""KerasHub tokenizers: train them on texts, encode strings to ids, decode ids to strings.

The functions take any KerasHub tokenizer. They recognise special tokens by their usual names, such as `[CLS]` or `<s>`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import io
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_attention.data.tokenizer_rules import rewrite_texts, split_like_gpt2

KINDS = ("sentencepiece", "bpe", "wordpiece", "words", "characters")
_SENTENCEPIECE_TYPES = {"sentencepiece": "unigram", "bpe": "bpe", "words": "word", "characters": "char"}
_MAX_LINE_LENGTH = 1 << 18  # maximum number of characters in a line for SentencePiece's trainer
_SPECIAL_PIECES = 6  # padding, unknown, start, end, mask, and the mask as a word
_NAMES = {
    "pad": ("<pad>", "[PAD]"),
    "unknown": ("<unk>", "[UNK]"),
    "start": ("<cls>", "<s>", "[START]", "[CLS]", "<bos>"),  # XLNet has both <cls> and <s>, and never uses <s>
    "end": ("<sep>", "</s>", "[END]", "[SEP]", "<eos>", "<|endoftext|>"),
}
# Pieces that are not part of a text.
NOT_TEXT = tuple(name for kind in ("pad", "start", "end") for name in _NAMES[kind])


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """The ids of the special tokens.

    Attributes:
        pad: the id of padding.
        unknown: the id of the unknown token.
        start: the id of the token before a text.
        end: the id of the token after a text.
    """

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
        kind: `"sentencepiece"` (unigram model), `"bpe"` (SentencePiece's byte-pair encoding), `"wordpiece"`, `"words"`
            (words between spaces that occur at least twice), or `"characters"`, which preserves line breaks and every
            space.
        vocabulary_size: maximum number of pieces, special tokens included; a small corpus gives fewer.
        lowercase: convert texts to lower case inside the tokenizer, also in an exported model.

    Returns:
        a `keras_hub.tokenizers.SentencePieceTokenizer` or `WordPieceTokenizer`.

    Raises:
        TypeError: `texts` is one string.
        ValueError: the kind is unknown, all texts are empty, or the vocabulary size is below the number of characters
            and special tokens.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread", "we drink water"], "characters")
        >>> decode_ids(tokenizer, encode_texts(tokenizer, ["we eat"])[0])
        'we eat'

    Reference: Kudo, 2018, https://arxiv.org/abs/1804.10959; Sennrich et al., 2016,
    https://arxiv.org/abs/1508.07909; Schuster and Nakajima, 2012.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}; expected one of {', '.join(KINDS)}.")
    if isinstance(texts, str):
        raise TypeError("Expected texts, such as a list of strings; received one string. Wrap it: [text].")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError("There is no text to train a tokenizer on: every line is empty. Expected at least one word.")
    if kind == "wordpiece":
        return _train_wordpiece(texts, vocabulary_size, lowercase)
    if kind == "words":
        repeated = _repeated_words(texts, lowercase)
        if not repeated:
            warnings.warn("No word of these texts occurs twice, so each becomes the unknown token.", stacklevel=2)
        vocabulary_size = min(vocabulary_size, _SPECIAL_PIECES + repeated)
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
    # SentencePiece skips lines of more than `max_sentence_length` bytes without a warning.
    texts = [line[i : i + _MAX_LINE_LENGTH] for line in lines for i in range(0, len(line), _MAX_LINE_LENGTH)]
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
            f"`vocabulary_size` is {vocabulary_size}, too small; expected at least {_SPECIAL_PIECES} special tokens "
            "and, except for the kind 'words', each character of these texts. Increase `vocabulary_size`."
        ) from error


@contextlib.contextmanager
def _lowercase_rules(active: bool, keep_spaces: bool) -> Iterator[dict[str, str]]:
    """Yield options for SentencePiece's trainer: a file of rules for NFKC and lower case; none unless `active`."""
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

    If the tokenizer has no start token, `start` is the id of padding, as in Marian. If it has no padding or unknown
    token, the id is that of the end token.

    Args:
        tokenizer: a KerasHub tokenizer.

    Raises:
        ValueError: `tokenizer` is None, or its vocabulary has no end token with one of the usual names.

    Example:
        >>> special_ids(train_tokenizer(["we eat bread"], "characters"))
        SpecialIds(pad=0, unknown=1, start=2, end=3)
    """
    if tokenizer is None:
        raise ValueError(
            "This model lacks a tokenizer, so it only takes token ids; expected a KerasHub tokenizer. Make the model "
            "with `tokenizer=...`, or import it from a directory that has the tokenizer's files."
        )
    ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
    special = {kind: next((ids[name] for name in names if name in ids), None) for kind, names in _NAMES.items()}
    if special["end"] is None:
        raise ValueError(
            f"The tokenizer has no end token; expected one of {', '.join(_NAMES['end'])} in its vocabulary."
        )
    special["start"] = special["pad"] if special["start"] is None else special["start"]
    return SpecialIds(**{kind: special["end"] if index is None else index for kind, index in special.items()})


@functools.lru_cache(maxsize=32)
def mask_id(tokenizer: Any) -> int:
    """Return the id of the mask token.

    Args:
        tokenizer: a KerasHub tokenizer.

    Raises:
        ValueError: the tokenizer has no mask token.

    Example:
        >>> mask_id(train_tokenizer(["we eat bread"], "characters"))
        4
    """
    ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
    index = next((ids[name] for name in ("[MASK]", "<mask>") if name in ids), None)
    if index is None:
        raise ValueError("The tokenizer has no mask token; expected [MASK] or <mask> in its vocabulary.")
    return index


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Turn texts into ids, one list per text, without special tokens; see `TextReader` for those.

    Args:
        tokenizer: a KerasHub tokenizer.
        texts: strings.

    Returns:
        One list of ids per text.

    Raises:
        ValueError: see `special_ids`.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread"], "characters")
        >>> [len(ids) for ids in encode_texts(tokenizer, ["we eat", "we"])]
        [6, 2]
    """
    if not texts:
        return []
    special_ids(tokenizer)  # raises an error if there is no usable tokenizer
    rows = split_like_gpt2(tokenizer).tokenize(rewrite_texts(tokenizer, texts))
    return [list(map(int, row)) for row in (rows.to_list() if hasattr(rows, "to_list") else rows)]


def decode_ids(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of ids. Padding, start and end tokens, and ids beyond the vocabulary are removed.

    Args:
        tokenizer: a KerasHub tokenizer.
        ids: the ids of one text.

    Example:
        >>> tokenizer = train_tokenizer(["we eat bread"], "characters")
        >>> decode_ids(tokenizer, [2, *encode_texts(tokenizer, ["eat"])[0], 3, 0, 997])
        'eat'
    """
    special, size = special_ids(tokenizer), tokenizer.vocabulary_size()
    text_ids = [i for i in ids if i not in (special.pad, special.start, special.end) and i < size]
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
    size = tokenizer.vocabulary_size()
    return [tokenizer.id_to_token(int(i)) if i < size else "" for i in ids]
