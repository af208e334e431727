"""`CausalLM`: the beginning of a text in, its continuation out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import LanguageModelConfig
from keras_attention.data.tokenizers import decode_ids, encode_texts, ids_to_pieces, pad_ids, special_ids
from keras_attention.generation import Hypotheses, Sampling, SearchCache, Strategy
from keras_attention.layers import RecurrentDecoder
from keras_attention.models.task import (
    Task,
    check_texts,
    embedding_initializer,
    length_sorted_batches,
    with_vocabulary,
    without_attention,
)


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


@keras.saving.register_keras_serializable("keras_attention")
class CausalLM(Task):
    """Recurrent language model: p(x) = prod_t softmax(W f(x_<t))[x_t].

    Args:
        config: sizes; the vocabulary size is taken from the tokenizer.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, T) int, beginning with the start token, and `padding_mask`
            (B, T) bool, True = a real token.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: the tokenizer is missing.

    Example:
        >>> tokenizer = ka.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer)
        >>> model.complete(["to "], ka.Greedy(max_length=5))[0].text.startswith("to ")
        True

    Reference: Graves, 2013, https://arxiv.org/abs/1308.0850.
    """

    config_class = LanguageModelConfig

    def __init__(self, config: LanguageModelConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(without_attention(config, "language model"), "vocabulary_size", tokenizer)
        self.embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.embedding_dim,
            embeddings_initializer=embedding_initializer(config),
            name="embedding",
        )
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.decoder = RecurrentDecoder(
            config.units, config.embedding_dim, config.num_layers, config.cell, name="decoder"
        )
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
        }
        embedded = self.embedding(inputs["token_ids"])
        embedded *= ops.cast(ops.expand_dims(inputs["padding_mask"], -1), embedded.dtype)
        outputs = self.decoder(self.dropout(embedded))
        logits = self.embedding(self.dropout(outputs), reverse=True)
        super().__init__(config, {"tokenizer": tokenizer}, inputs, logits, **kwargs)
        self.searches = SearchCache(self)

    def start(self, inputs: dict) -> dict:
        """Return the state before the first token.

        Args:
            inputs: dict of `token_ids` (B, any), read only for the size of the batch; prompts are
                forced prefixes of the search.

        Returns:
            dict of `constants` (empty) and `carry` (tensors (B, 1, ...)).
        """
        constants, carry = self.decoder.start(ops.shape(inputs["token_ids"])[0])
        return {"constants": constants, "carry": carry}

    def step(self, tokens, state: dict):
        """Read one token per beam, (B, K), and answer logits (B, K, V), the new state, and None."""
        outputs, carry, _ = self.decoder.step(self.embedding(tokens), state["constants"], state["carry"])
        return self.embedding(outputs, reverse=True), {"constants": {}, "carry": carry}, None

    def complete(
        self, prompts: Iterable[str], strategy: Strategy | None = None, batch_size: int = 32
    ) -> list[Completion]:
        """Continue texts.

        Args:
            prompts: strings; an empty one lets the model begin. Of one that is longer than
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
        answers: list[Any] = [None] * len(prompts)
        for batch in length_sorted_batches([len(row) for row in rows], batch_size):
            found = self._search([rows[i] for i in batch], batch, strategy)
            for row, index in enumerate(batch):
                answers[index] = self._completion(prompts[index], rows[index], found, row)
        return answers

    def length_limits(self, prompt_lengths, strategy: Strategy):
        """Return how many tokens prompt and answer may have together, (B,)."""
        if strategy.max_length is None:
            return prompt_lengths * 0 + self.config.max_length
        return prompt_lengths + strategy.max_length

    def _search(self, rows: list[list[int]], indices: list[int], strategy: Strategy) -> Hypotheses:
        special = special_ids(self.tokenizer)
        ids, mask = pad_ids(rows, special.pad)
        return self.searches.run(
            strategy,
            {"token_ids": np.zeros((len(rows), 1), "int32")},
            limits=self.length_limits(mask.sum(1).astype("int32"), strategy),
            prefix=(ids, mask),
            seeds=np.asarray(indices) + strategy.seed,
            special=special,
        )

    def _completion(self, prompt: str, ids: list[int], found: Hypotheses, row: int) -> Completion:
        answers = []
        for written, score, _ in found.of_row(row):
            text = decode_ids(self.tokenizer, written)
            before = decode_ids(self.tokenizer, ids)
            new = tuple(ids_to_pieces(self.tokenizer, written[len(ids) :]))
            answers.append(Completion(prompt, prompt + text[len(before) :], score, new))
        if not answers:  # the constraints left nothing
            return Completion(prompt, prompt, -math.inf)
        return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))
