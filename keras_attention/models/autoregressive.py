"""Texts that go on: what every model that writes from left to right does with its prompts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.data.tokenizers import (
    WHITE_SPACE,
    decode_ids,
    encode_texts,
    ids_to_pieces,
    pad_ids,
    special_ids,
)
from keras_attention.generation import Hypotheses, Sampling, Strategy
from keras_attention.models.task import Task, check_texts, length_sorted_batches


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer: a prompt and the text that goes on from it.

    Attributes:
        prompt: how the text begins.
        text: the prompt and its continuation.
        score: the log-probability of the continuation, in nats; of a beam search after its penalties.
        pieces: the pieces of the continuation.
        alternatives: the other texts, when several were asked for.
    """

    prompt: str
    text: str
    score: float
    pieces: tuple[str, ...] = ()
    alternatives: tuple[Completion, ...] = ()


class AutoregressiveLM(Task):
    """A task that continues texts: it has `start`, `step`, `searches` and one tokenizer."""

    def complete(
        self, prompts: Iterable[str], strategy: Strategy | None = None, batch_size: int = 32
    ) -> list[Completion]:
        """Continue texts, from left to right.

        Args:
            prompts: strings; before an empty one the model reads its start token. Of one that is longer than
                `config.max_length` pieces the model reads the end.
            strategy: `Sampling()` (default), `Greedy()` or `BeamSearch(...)`. Its `max_length` counts
                the tokens after the prompt; by default a text fills `config.max_length`. Prompt i
                is continued with the seed `strategy.seed + i`.
            batch_size: how many are written at once; it does not change an answer.

        Returns:
            one `Completion` per prompt, in order.

        Raises:
            TypeError: `prompts` is one string, or holds something else than strings.
        """
        prompts, strategy = check_texts(prompts), strategy or Sampling()
        rows = encode_texts(self.tokenizer, prompts, self.config.max_length - 1, keep_last=True)
        rows = [[*_first(self, row), *row] for row in rows]
        answers: list[Any] = [None] * len(prompts)
        for batch in length_sorted_batches([len(row) for row in rows], batch_size):
            found = _search(self, [rows[i] for i in batch], batch, strategy)
            for row, index in enumerate(batch):
                answers[index] = _completion(self.tokenizer, prompts[index], rows[index], found, row)
        return answers

    def length_limits(self, prompt_lengths, strategy: Strategy):
        """Return how many tokens prompt and answer may have together, (B,); of learned positions there are no more."""
        longest = prompt_lengths * 0 + self.config.max_length
        if strategy.max_new_tokens is None:
            return longest
        wanted = prompt_lengths + strategy.max_new_tokens
        return ops.minimum(wanted, longest) if getattr(self.config, "positions", None) == "learned" else wanted


def begins_with_start(model: Any) -> bool:
    """Whether a start token stands before a text: not where it ends texts (GPT-2), or stands after them (XLNet)."""
    special = special_ids(model.tokenizer)
    return special.start != special.end and model.template != "end_start"


def _first(model: Any, row: list[int]) -> list[int]:
    """What the model reads before a prompt; before an empty one always the start token."""
    return [special_ids(model.tokenizer).start] if not row or begins_with_start(model) else []


def _search(model: Any, rows: list[list[int]], indices: list[int], strategy: Strategy) -> Hypotheses:
    special = special_ids(model.tokenizer)
    ids, mask = pad_ids(rows, special.pad)
    step = 8 if keras.backend.backend() == "jax" else 1  # JAX compiles each shape anew
    read = (min(len(row) for row in rows) - 1) // step * step
    return model.searches.run(
        strategy,
        {"token_ids": ids[:, :read]},
        limits=np.asarray(model.length_limits(mask.sum(1).astype("int32") - 1, strategy)),
        prefix=(ids[:, 1:], mask[:, 1:]),
        seeds=np.asarray(indices) + strategy.seed,
        start_ids=ids[:, 0],
        end_id=special.end,
    )


def _completion(tokenizer: Any, prompt: str, ids: list[int], found: Hypotheses, row: int) -> Completion:
    answers, read = [], decode_ids(tokenizer, ids)
    lost_space = _ends_in_space(prompt) and not _ends_in_space(read)  # a tokenizer reads none at the end
    for written, score, _ in found.of_row(row):
        new = decode_ids(tokenizer, [ids[0], *written])[len(read) :]
        new = new.removeprefix(" ") if lost_space else new
        pieces = tuple(ids_to_pieces(tokenizer, written[len(ids) - 1 :]))
        answers.append(Completion(prompt, prompt + new, score, pieces))
    if not answers:  # the constraints left nothing
        return Completion(prompt, prompt, -math.inf)
    return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))


def _ends_in_space(text: str) -> bool:
    return text.endswith(tuple(WHITE_SPACE))
