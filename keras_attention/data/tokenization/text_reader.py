"""`TextReader`: encode strings as token ids, with special tokens, truncation and padding; see `WordReader` for words.

Batches, prediction methods (such as `translate`) and the exported graph use the same reader, so a network always gets
the same ids. Python calls `ids`; an exported graph is built from the fields.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_attention.argument_checks import require_one_of
from keras_attention.data.batches import pad_ids, shift_right
from keras_attention.data.lines import counted
from keras_attention.data.tokenization.special_tokens import SpecialTokens, special_tokens_of
from keras_attention.data.tokenization.tokenizer_rules import is_empty
from keras_attention.data.tokenization.tokenizers import encode_texts

TEMPLATES = {  # name: the special tokens before a text, and those after it
    "none": ((), ()),
    "start": (("start",), ()),
    "end": ((), ("end",)),
    "start_end": (("start",), ("end",)),  # BERT, RoBERTa
    "end_start": ((), ("end", "start")),  # XLNet
}
TRUNCATION_SIDES = ("right", "left")
Text: TypeAlias = "str | tuple[str, str]"  # a text, or a text and its pair


def as_tuple(text: Text) -> tuple[str, ...]:
    """Return a text or a pair of texts as a tuple.

    Example:
        >>> as_tuple("we eat"), as_tuple(("we eat", "we drink"))
        (('we eat',), ('we eat', 'we drink'))
    """
    return (text,) if isinstance(text, str) else tuple(text)


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Encode texts as sequences of token ids: `before`, the tokens of the text, `after`.

    | text | reader |
    |---|---|
    | source, target or caption; a text that is scored | `from_template(tokenizer, "end", max_length)` |
    | text, or pair of texts, of an encoder (BERT, RoBERTa, XLNet) | `from_template(tokenizer, template, max_length)` |
    | text that a Transformer decoder embeds | `for_decoder(tokenizer, max_length)` |
    | prompt of a language model | `for_prompts(tokenizer, max_length, template)` |
    | prefix of a translation | `from_template(tokenizer, "none", max_length)` |
    | words of a tagger | `WordReader` |

    Args:
        tokenizer: a KerasHub tokenizer.
        before: ids before the text.
        after: ids after the text.
        max_length: maximum number of ids in a sequence, including `before` and `after`; None for no maximum. A longer
            text is truncated.
        truncation_side: `"right"` removes the end of a text that is too long, `"left"` its beginning.
        before_empty: ids before a text without tokens; None for `before`.
        between: ids between the texts of a pair.

    Raises:
        ValueError: `tokenizer` is None, or the truncation side is unknown.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> reader = TextReader.from_template(tokenizer, "start_end", max_length=5)
        >>> special = reader.special
        >>> [ids[0] == special.start and ids[-1] == special.end for ids in reader.ids(["we", ""])]
        [True, True]
    """

    tokenizer: Any
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    max_length: int | None = None
    truncation_side: str = "right"
    before_empty: tuple[int, ...] | None = None
    between: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        special_tokens_of(self.tokenizer)
        require_one_of("truncation_side", self.truncation_side, TRUNCATION_SIDES)

    @classmethod
    def from_template(
        cls, tokenizer: Any, template: str = "end", max_length: int | None = None, num_separators: int = 1
    ) -> TextReader:
        """Return the reader with a special-token template, a name in `TEMPLATES`.

        Between the texts of a pair are `num_separators` end tokens: 2 in RoBERTa, which has no segments.

        Raises:
            ValueError: the template is unknown.
        """
        require_one_of("template", template, TEMPLATES)
        special = special_tokens_of(tokenizer)
        before, after = (tuple(getattr(special, name) for name in names) for names in TEMPLATES[template])
        return cls(tokenizer, before, after, max_length, between=(special.end,) * num_separators)

    @classmethod
    def for_decoder(cls, tokenizer: Any, max_length: int | None = None) -> TextReader:
        """Return the reader of a text that a decoder encodes.

        The start token is put before the text, unless the tokenizer's files say otherwise, as in GPT-2.
        """
        return cls.from_template(
            tokenizer, "start" if special_tokens_of(tokenizer).add_start_token else "none", max_length
        )

    @classmethod
    def for_prompts(cls, tokenizer: Any, max_length: int, template: str = "end") -> TextReader:
        """Return the reader of prompts, which truncates a prompt to its last `max_length` - 1 tokens.

        The start token is put before the prompt. If the tokenizer's files say otherwise (GPT-2), or if the template
        puts it after a text (XLNet), only an empty prompt gets it.
        """
        special = special_tokens_of(tokenizer)
        before = (special.start,) if special.add_start_token and template != "end_start" else ()
        return cls(tokenizer, before, (), max_length - 1 + len(before), "left", before_empty=(special.start,))

    @property
    def special(self) -> SpecialTokens:
        """The ids of the special tokens."""
        return special_tokens_of(self.tokenizer)

    @property
    def limit(self) -> int | None:
        """The maximum number of tokens of a text, without `before` and `after`; None without a maximum."""
        if self.max_length is None:
            return None
        return max(self.max_length - len(self.before) - len(self.after), 0)

    @property
    def pair_limit(self) -> int | None:
        """The maximum number of tokens of both texts of a pair, without special tokens; None without a maximum."""
        return None if self.limit is None else max(self.limit - len(self.between), 0)

    @staticmethod
    def is_empty(text: Text) -> bool:
        """Return whether a text, or both texts of a pair, have no words: they are "" or ASCII white space."""
        return all(map(is_empty, as_tuple(text)))

    def ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Return one list of ids per text or pair; one warning gives the number of truncated ones."""
        return [ids for ids, _ in self.ids_and_pair_starts(texts)]

    def ids_and_pair_starts(self, texts: Sequence[Text]) -> list[tuple[list[int], int]]:
        """Return the ids of each text or pair, and the index of the second text: len(ids) for a single text."""
        parts = [as_tuple(text) for text in texts]
        tokens = iter(encode_texts(self.tokenizer, [text for texts in parts for text in texts]))
        encoded = [list(itertools.islice(tokens, len(texts))) for texts in parts]
        limits = [self.limit if len(each) == 1 else self.pair_limit for each in encoded]
        long = sum(n is not None and sum(map(len, each)) > n for each, n in zip(encoded, limits, strict=True))
        if long:
            warnings.warn(
                f"Truncated {long} of {counted(len(encoded), 'text')} on the {self.truncation_side} to "
                f"{counted(self.max_length, 'token')}, including special tokens. To read the whole texts, split them, "
                "or make the model with a larger `max_length`.",
                stacklevel=2,
            )
        joined = (self.join_pair(*each) if len(each) == 2 else (self.add_template(*each), None) for each in encoded)
        return [(ids, len(ids) if start is None else start) for ids, start in joined]

    def join_pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Return the ids of a pair, and the index of its second text: `before`, text, `between`, text, `after`.

        A pair that is too long loses tokens of its longer text until both have the same length, and then of both.
        """
        short, long = sorted((len(first), len(second)))
        if self.pair_limit is not None and short + long > self.pair_limit:
            long = max(short, self.pair_limit - short)
            if short + long > self.pair_limit:
                short, long = self.pair_limit // 2, -(-self.pair_limit // 2)
        a, b = (long, short) if len(first) > len(second) else (short, long)
        begin = [*self.before, *first[:a], *self.between]
        return [*begin, *second[:b], *self.after], len(begin)

    def add_template(self, ids: Sequence[int]) -> list[int]:
        """Return the ids of a text, truncated, between `before` and `after`."""
        surplus = 0 if self.limit is None else max(len(ids) - self.limit, 0)
        text_ids = ids[surplus:] if self.truncation_side == "left" else ids[: len(ids) - surplus]
        before = self.before if text_ids or self.before_empty is None else self.before_empty
        return [*before, *text_ids, *self.after]

    def pad(
        self, sequences: Sequence[Sequence[int]], multiple: int = 1, extra: int = 0, min_length: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return sequences as token_ids (B, T) int32 and mask (B, T) bool, True = a real token; see `pad_ids`."""
        return pad_ids(sequences, self.special.pad, multiple, extra, min_length)

    def arrays(self, texts: Sequence[str], multiple: int = 1, extra: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return texts as token_ids (B, T) int32 and mask (B, T) bool, True = a real token."""
        return self.pad(self.ids(texts), multiple, extra)

    @staticmethod
    def pair_mask(starts: Sequence[int], mask: np.ndarray) -> np.ndarray:
        """Return (B, T) bool, True from the index of the second text on; `mask` (B, T) is True for real tokens."""
        return mask & (np.arange(mask.shape[1]) >= np.reshape(starts, (-1, 1)))

    def shift_right(self, ids: np.ndarray) -> np.ndarray:
        """Return the decoder's input (B, T) for the labels `ids` (B, T): the start token, then all ids but the last."""
        return shift_right(ids, self.special.start)
