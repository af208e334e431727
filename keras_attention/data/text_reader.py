"""`TextReader` and `WordReader`: strings to token ids, with special tokens, truncation and padding.

A reader is an immutable encoding rule. Batches, prediction methods (such as `translate`) and the exported graph use the
same reader, so a network always receives the same ids. Python calls `ids`; the graph is built from the fields.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.data.batches import pad_ids, shift_right
from keras_attention.data.special_tokens import SpecialTokens, special_ids
from keras_attention.data.tokenizer_rules import add_spaces, is_empty, split_words
from keras_attention.data.tokenizers import encode_texts

TEMPLATES = {  # name: the special tokens before a text, and those after it
    "none": ((), ()),
    "start": (("start",), ()),
    "end": ((), ("end",)),
    "start_end": (("start",), ("end",)),  # BERT, RoBERTa
    "end_start": ((), ("end", "start")),  # XLNet
}
TRUNCATION_SIDES = ("right", "left")


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Turns texts into rows of token ids: `before`, the tokens of the text, `after`.

    | text | reader |
    |---|---|
    | source, target or caption; a text that is scored | `from_template(tokenizer, "end", max_length)` |
    | text of an encoder (BERT, RoBERTa, XLNet, a classifier) | `from_template(tokenizer, template, max_length)` |
    | text that a Transformer decoder embeds | `for_decoder(tokenizer, max_length)` |
    | prompt of a language model | `for_prompts(tokenizer, max_length, template)` |
    | prefix of a translation | `from_template(tokenizer, "none", max_length)` |
    | words of a tagger | `WordReader` |

    Args:
        tokenizer: a KerasHub tokenizer.
        before: ids before the text.
        after: ids after the text.
        max_length: maximum number of ids in a row, `before` and `after` included; None for no limit. A longer
            text is truncated.
        truncation_side: `"right"` removes the end of a text that is too long, `"left"` its beginning.
        before_empty: ids before a text without tokens; None for `before`.

    Raises:
        ValueError: `tokenizer` is None, or the truncation side is unknown.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> reader = TextReader.from_template(tokenizer, "start_end", max_length=5)
        >>> special = reader.special
        >>> [row[0] == special.start and row[-1] == special.end for row in reader.ids(["we", ""])]
        [True, True]
    """

    tokenizer: Any
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    max_length: int | None = None
    truncation_side: str = "right"
    before_empty: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        special_ids(self.tokenizer)
        if self.truncation_side not in TRUNCATION_SIDES:
            raise ValueError(
                f"`truncation_side` is {self.truncation_side!r}; expected one of {', '.join(TRUNCATION_SIDES)}."
            )

    @classmethod
    def from_template(cls, tokenizer: Any, template: str = "end", max_length: int | None = None) -> TextReader:
        """Return the reader with a special-token template, a name in `TEMPLATES`.

        Raises:
            ValueError: the template is unknown.
        """
        if template not in TEMPLATES:
            raise ValueError(f"`template` is {template!r}; expected one of {', '.join(TEMPLATES)}.")
        special = special_ids(tokenizer)
        before, after = (tuple(getattr(special, name) for name in names) for names in TEMPLATES[template])
        return cls(tokenizer, before, after, max_length)

    @classmethod
    def for_decoder(cls, tokenizer: Any, max_length: int | None = None) -> TextReader:
        """Return the reader of a text that a decoder encodes.

        The start token is put before the text, unless the tokenizer's files say otherwise, as in GPT-2.
        """
        return cls.from_template(tokenizer, "start" if special_ids(tokenizer).starts_texts else "none", max_length)

    @classmethod
    def for_prompts(cls, tokenizer: Any, max_length: int, template: str = "end") -> TextReader:
        """Return the reader of prompts, which truncates a prompt to its last `max_length` - 1 tokens.

        The start token is put before the prompt. If the tokenizer's files say otherwise (GPT-2), or if the template
        puts it after a text (XLNet), only an empty prompt gets it.
        """
        special = special_ids(tokenizer)
        before = (special.start,) if special.starts_texts and template != "end_start" else ()
        return cls(tokenizer, before, (), max_length - 1 + len(before), "left", before_empty=(special.start,))

    @property
    def special(self) -> SpecialTokens:
        """The ids of the special tokens."""
        return special_ids(self.tokenizer)

    @property
    def limit(self) -> int | None:
        """The most tokens of a text after truncation, without `before` and `after`; None for no limit."""
        if self.max_length is None:
            return None
        return max(self.max_length - len(self.before) - len(self.after), 0)

    @staticmethod
    def is_empty(text: str) -> bool:
        """Return whether a text has no words: it is "" or ASCII white space."""
        return is_empty(text)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return one list of ids per text; one warning gives the number of truncated texts."""
        rows, limit = encode_texts(self.tokenizer, texts), self.limit
        long = sum(limit is not None and len(row) > limit for row in rows)
        if long:
            warnings.warn(
                f"{long} of {len(rows)} texts have more than {self.max_length} tokens, special ones included, and were "
                f"truncated on the {self.truncation_side}.",
                stacklevel=2,
            )
        return [self.add_template(row) for row in rows]

    def add_template(self, ids: Sequence[int]) -> list[int]:
        """Return the ids of a text, truncated, between `before` and `after`."""
        surplus = 0 if self.limit is None else max(len(ids) - self.limit, 0)
        text_ids = ids[surplus:] if self.truncation_side == "left" else ids[: len(ids) - surplus]
        before = self.before if text_ids or self.before_empty is None else self.before_empty
        return [*before, *text_ids, *self.after]

    def pad(
        self, rows: Sequence[Sequence[int]], multiple: int = 1, extra: int = 0, min_length: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of ids as token_ids (B, T) int32 and mask (B, T) bool, True = a real token; see `pad_ids`."""
        return pad_ids(rows, self.special.pad, multiple, extra, min_length)

    def arrays(self, texts: Sequence[str], multiple: int = 1, extra: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return texts as token_ids (B, T) int32 and mask (B, T) bool, True = a real token."""
        return self.pad(self.ids(texts), multiple, extra)

    def shift_right(self, ids: np.ndarray) -> np.ndarray:
        """Return the decoder's input (B, T) for the labels `ids` (B, T): the start token, then all ids but the last."""
        return shift_right(ids, self.special.start)


@dataclasses.dataclass(frozen=True)
class EncodedWords:
    """The words of a sentence as token ids.

    Attributes:
        ids: the tokens of all words, with special tokens.
        starts: the index in `ids` of the first token of each word.
        characters: the ids of the characters of each word; empty without a character tokenizer.
    """

    ids: list[int]
    starts: list[int]
    characters: list[list[int]]


@dataclasses.dataclass(frozen=True)
class WordReader:
    """Turns words into token ids. Each word is tokenized separately, so every word has a first token.

    A word without tokens becomes the unknown token. A sentence with more tokens than `text.limit` loses its last
    words; a word with more characters than `characters.limit` loses its last characters.

    Args:
        text: the reader of a sentence: tokenizer, special tokens and `max_length`.
        characters: the reader of the characters of a word; None for a model without character input.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> reader = WordReader(TextReader.from_template(tokenizer, "start_end"))
        >>> reader.ids([["we", "eat"]])[0].starts
        [1, 3]
    """

    text: TextReader
    characters: TextReader | None = None

    @staticmethod
    def split(text: str) -> list[str]:
        """Return the words of a text, split at ASCII white space."""
        return split_words(text)

    def ids(self, sentences: Sequence[Sequence[str]]) -> list[EncodedWords]:
        """Return one `EncodedWords` per sentence; one warning gives the number of truncated sentences.

        Args:
            sentences: sequences of words.
        """
        tokenizer, unknown = self.text.tokenizer, self.text.special.unknown
        tokens = iter(encode_texts(tokenizer, [w for words in sentences for w in add_spaces(tokenizer, words)]))
        characters = iter(self._character_ids([word for words in sentences for word in words]))
        rows, long = [], 0
        for words in sentences:
            tokens_of_words = [ids or [unknown] for ids in itertools.islice(tokens, len(words))]
            row = self._join(tokens_of_words, list(itertools.islice(characters, len(words))))
            long += len(row.ids) < sum(map(len, (self.text.before, *tokens_of_words, self.text.after)))
            rows.append(row)
        if long:
            warnings.warn(
                f"{long} of {len(rows)} sentences have more than {self.text.max_length} tokens, special ones included, "
                "and lost their last words.",
                stacklevel=2,
            )
        return rows

    def _join(self, tokens: list[list[int]], characters: list[list[int]]) -> EncodedWords:
        """Return a sentence from the tokens and the characters of each word."""
        starts = list(itertools.accumulate(map(len, tokens), initial=0))[:-1]
        limit, shift = self.text.limit, len(self.text.before)
        starts = [start + shift for start in starts if limit is None or start < limit]
        ids = self.text.add_template(list(itertools.chain(*tokens)))
        return EncodedWords(ids, starts, characters[: len(starts)])

    def _character_ids(self, words: list[str]) -> list[list[int]]:
        if self.characters is None:
            return []
        reader, unknown = self.characters, self.characters.special.unknown
        return [reader.add_template(ids) or [unknown] for ids in encode_texts(reader.tokenizer, words)]

    def arrays(self, rows: Sequence[EncodedWords], multiple: int = 8, extra: int = 0) -> dict[str, np.ndarray]:
        """Return sentences as padded arrays.

        Args:
            rows: B sentences, from `ids`.
            multiple: lengths are rounded up to a multiple of this, so that fewer shapes occur.
            extra: columns of padding that are added after rounding.

        Returns:
            `token_ids` (B, S) int32, `padding_mask` (B, S) bool and, with a reader of characters, `character_ids`
            (B, S, P) int32 and `character_mask` (B, S, P) bool, True for the characters of a word, at its first token.
        """
        ids, mask = self.text.pad([row.ids for row in rows], multiple, extra, min_length=1)
        arrays = {"token_ids": ids, "padding_mask": mask}
        if self.characters is None:
            return arrays
        words = [characters for row in rows for characters in row.characters]
        row_ids = [i for i, row in enumerate(rows) for _ in row.starts]
        starts = [start for row in rows for start in row.starts]
        character_arrays = self.characters.pad(words, multiple, extra, min_length=1)
        for name, values in zip(("character_ids", "character_mask"), character_arrays, strict=True):
            arrays[name] = np.zeros((*ids.shape, values.shape[1]), values.dtype)
            arrays[name][row_ids, starts] = values
        return arrays
