"""The special tokens of a tokenizer: their ids, and the pieces that are never split in a text.

The files of a checkpoint, or the training of a tokenizer, declare them. `set_special_tokens` stores them on the
tokenizer, and `Task.save` saves them. For other KerasHub tokenizers, they are detected from attributes or common names.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from keras_attention.argument_checks import one_of

_NAMES = {
    "pad": ("<pad>", "[PAD]"),
    "unknown": ("<unk>", "[UNK]"),
    "start": ("<cls>", "<s>", "[START]", "[CLS]", "<bos>"),  # XLNet has both <cls> and <s>, and never uses <s>
    "end": ("<sep>", "</s>", "[END]", "[SEP]", "<eos>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}
_ATTRIBUTES = {  # attributes of KerasHub's tokenizers
    "pad": ("pad_token_id",),
    "unknown": ("unk_token_id",),
    "start": ("cls_token_id", "start_token_id"),
    "end": ("sep_token_id", "end_token_id"),
    "mask": ("mask_token_id",),
}
# Pieces that are not part of a text.
NOT_TEXT = tuple(name for kind in ("pad", "start", "end") for name in _NAMES[kind])
SPACES = r"\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"  # Unicode's, for RE2


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A piece that is never split in a text.

    Attributes:
        content: the piece.
        lstrip: whether it includes the spaces before it.
        rstrip: whether it includes the spaces after it.
        single_word: whether it is only recognized as a whole word.
        normalized: whether it is recognized after normalization; then upper and lower case are equal if texts are
            converted to lower case.
        at_start: whether it is only recognized at the beginning of a text.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    at_start: bool = False


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a tokenizer.

    Attributes:
        pad: the id of padding.
        unknown: the id of the unknown token.
        start: the id of the token before a text.
        end: the id of the token after a text.
        mask: the id of the mask token; None if there is none.
        special_ids: ids of all special tokens; decoding removes them.
        added_tokens: the pieces that are never split in a text.
        add_start_token: whether a prompt begins with the start token.
        lowercase: whether texts are converted to lower case.
        suppress_tokens: ids that a search never generates; by default all special tokens except the end token.
        vocabulary_size: number of ids in the model; larger ids become the unknown token. 0 = that of the tokenizer.
    """

    pad: int
    unknown: int
    start: int
    end: int
    mask: int | None = None
    special_ids: tuple[int, ...] = ()
    added_tokens: tuple[AddedToken, ...] = ()
    add_start_token: bool = True
    lowercase: bool = False
    suppress_tokens: tuple[int, ...] | None = None
    vocabulary_size: int = 0

    def __post_init__(self) -> None:
        known = {self.pad, self.unknown, self.start, self.end, *({self.mask} - {None}), *self.special_ids}
        object.__setattr__(self, "special_ids", tuple(sorted(known)))
        suppressed = self.suppress_tokens
        if suppressed is None:
            suppressed = [i for i in self.special_ids if i != self.end]
        object.__setattr__(self, "suppress_tokens", tuple(suppressed))
        added = (AddedToken(**token) if isinstance(token, Mapping) else token for token in self.added_tokens)
        object.__setattr__(self, "added_tokens", tuple(added))


def set_special_tokens(tokenizer: Any, special: SpecialTokens) -> Any:
    """Store the special tokens of a tokenizer on it, and return it."""
    tokenizer.declared_tokens = special
    return tokenizer


def special_tokens_of(tokenizer: Any) -> SpecialTokens:
    """Return the special tokens of a tokenizer.

    They are those that the training or the files of the tokenizer declared. For other KerasHub tokenizers, they are
    detected from attributes or common names. Without a start token, `start` is the id of padding, as in Marian.
    Without a padding or unknown token, the id is that of the end token.

    Args:
        tokenizer: a KerasHub tokenizer.

    Returns:
        a `SpecialTokens`, with their ids.

    Raises:
        ValueError: `tokenizer` is None, or its vocabulary has no end token with a common name.

    Example:
        >>> special = special_tokens_of(ka.data.train_tokenizer(["we eat bread"], "characters"))
        >>> special.pad, special.unknown, special.start, special.end, special.mask
        (0, 1, 2, 3, 4)
    """
    if tokenizer is None:
        raise ValueError(
            "This model lacks a tokenizer, so it only takes token ids; expected a KerasHub tokenizer. Make the model "
            "with `tokenizer=...`, or import it from a directory that has the tokenizer's files."
        )
    return getattr(tokenizer, "declared_tokens", None) or _recognized(tokenizer)


@functools.lru_cache(maxsize=32)
def _recognized(tokenizer: Any) -> SpecialTokens:
    ids = {piece: i for i, piece in enumerate(tokenizer.get_vocabulary())}
    special: dict[str, Any] = {}
    for kind, names in _NAMES.items():
        values = [getattr(tokenizer, name, None) for name in _ATTRIBUTES[kind]] + [ids.get(name) for name in names]
        special[kind] = next((value for value in values if isinstance(value, int)), None)
    if special["end"] is None:
        raise ValueError(
            f"The tokenizer has no end token; expected {one_of(_NAMES['end'])} in its vocabulary. Add it, or train "
            "a tokenizer with `keras_attention.data.train_tokenizer`, which adds </s>."
        )
    ids_of_kinds = fill_missing_ids(special)
    return SpecialTokens(
        **ids_of_kinds,
        added_tokens=_unsplit(tokenizer),
        add_start_token=ids_of_kinds["start"] != ids_of_kinds["end"],
        lowercase=getattr(tokenizer, "lowercase", False),
    )


def fill_missing_ids(ids: Mapping[str, int | None]) -> dict[str, Any]:
    """Return the ids with substitutes for missing ones: padding for start, the end token for padding and unknown."""
    end = ids["end"]
    pad = end if ids.get("pad") is None else ids["pad"]
    unknown = end if ids.get("unknown") is None else ids["unknown"]
    start = pad if ids.get("start") is None else ids["start"]
    return {"pad": pad, "unknown": unknown, "start": start, "end": end, "mask": ids.get("mask")}


def _unsplit(tokenizer: Any) -> tuple[AddedToken, ...]:
    """Return the pieces that a KerasHub tokenizer never splits; RoBERTa's <mask> includes the space before it."""
    pieces = [*(getattr(tokenizer, "special_tokens", ()) or ()), *(getattr(tokenizer, "unsplittable_tokens", ()) or ())]
    if getattr(tokenizer, "special_tokens_in_strings", False):
        pieces += getattr(tokenizer, "_init_special_tokens", ()) or ()
    is_byte_pair = hasattr(tokenizer, "merges")
    return tuple(AddedToken(piece, lstrip=is_byte_pair and piece == "<mask>") for piece in dict.fromkeys(pieces))


def mask_id(tokenizer: Any) -> int:
    """Return the id of the mask token.

    Args:
        tokenizer: a KerasHub tokenizer.

    Raises:
        ValueError: the tokenizer has no mask token.

    Example:
        >>> mask_id(ka.data.train_tokenizer(["we eat bread"], "characters"))
        4
    """
    index = special_tokens_of(tokenizer).mask
    if index is None:
        raise ValueError(
            f"The tokenizer has no mask token; expected {one_of(_NAMES['mask'])} in its vocabulary. Add it, or train a "
            "tokenizer with `keras_attention.data.train_tokenizer`, which adds <mask>."
        )
    return index


def vocabulary(tokenizer: Any) -> list[str]:
    """Return the pieces of a tokenizer in the order of their ids; only pieces whose id the model has.

    Example:
        >>> vocabulary(ka.data.train_tokenizer(["we eat bread"], "characters"))[:4]
        ['<pad>', '<unk>', '<s>', '</s>']
    """
    declared = getattr(tokenizer, "declared_tokens", None)
    return list(tokenizer.get_vocabulary())[: declared.vocabulary_size or None if declared else None]


def added_pattern(special: SpecialTokens) -> str:
    """Return the regular expression, for RE2, of the pieces that are never split; "" if there are none."""
    branches = []
    for token in sorted(special.added_tokens, key=lambda token: -len(token.content)):  # the longest match
        piece = re.escape(token.content)
        piece = f"(?i:{piece})" if special.lowercase and token.normalized else piece
        piece = rf"\b{piece}\b" if token.single_word else piece
        piece = f"^{piece}" if token.at_start else piece
        branches.append(f"[{SPACES}]*" * token.lstrip + piece + f"[{SPACES}]*" * token.rstrip)
    return "|".join(branches)
