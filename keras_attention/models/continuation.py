"""Texts that go on: what every model that writes from left to right does with its prompts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.data.tokenizers import decode_ids, encode_texts, ids_to_pieces, pad_ids, special_ids
from keras_attention.generation import Hypotheses, Strategy
from keras_attention.models.task import check_texts, length_sorted_batches


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer: a prompt and the text that goes on from it.

    Attributes:
        prompt: how the text begins.
        text: the prompt and its continuation.
        score: the log-probability of the continuation, in nats.
        pieces: the pieces of the continuation.
        alternatives: the other texts, when several were asked for.
    """

    prompt: str
    text: str
    score: float
    pieces: tuple[str, ...] = ()
    alternatives: tuple[Completion, ...] = ()


def complete_texts(model: Any, prompts: Iterable[str], strategy: Strategy, batch_size: int) -> list[Completion]:
    """Continue texts; see `CausalLM.complete`.

    Args:
        model: has `tokenizer`, `config.max_length`, `frame`, `length_limits` and `searches`.
        prompts: strings.
        strategy: how to choose.
        batch_size: how many are written at once.

    Returns:
        one `Completion` per prompt, in order.
    """
    prompts = check_texts(prompts)
    rows = encode_texts(model.tokenizer, prompts, model.config.max_length - 1, keep_last=True)
    rows = [[*_first(model, row), *row] for row in rows]
    answers: list[Any] = [None] * len(prompts)
    for batch in length_sorted_batches([len(row) for row in rows], batch_size):
        found = _search(model, [rows[i] for i in batch], batch, strategy)
        for row, index in enumerate(batch):
            answers[index] = _completion(model.tokenizer, prompts[index], rows[index], found, row)
    return answers


def begins_with_start(model: Any) -> bool:
    """Whether a start token stands before a text: not where it ends texts (GPT-2), or stands after them (XLNet)."""
    special = special_ids(model.tokenizer)
    return special.start != special.end and model.frame != "end_start"


def length_limits(model: Any, prompt_lengths, strategy: Strategy):
    """Return how many tokens prompt and answer may have together, (B,); of learned positions there are no more."""
    longest = prompt_lengths * 0 + model.config.max_length
    if strategy.max_length is None:
        return longest
    wanted = prompt_lengths + strategy.max_length
    return ops.minimum(wanted, longest) if getattr(model.config, "positions", None) == "learned" else wanted


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
    answers, before = [], len(decode_ids(tokenizer, ids))
    for written, score, _ in found.of_row(row):
        text = decode_ids(tokenizer, [ids[0], *written])
        new = tuple(ids_to_pieces(tokenizer, written[len(ids) - 1 :]))
        answers.append(Completion(prompt, prompt + text[before:], score, new))
    if not answers:  # the constraints left nothing
        return Completion(prompt, prompt, -math.inf)
    return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))
