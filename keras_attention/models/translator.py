"""`Translator`: a sentence in, a sentence and its alignment out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.tokenizers import WHITE_SPACE, decode_ids, encode_texts, ids_to_pieces, pad_ids, special_ids
from keras_attention.generation import Greedy, Hypotheses, SearchCache, Strategy
from keras_attention.layers import OutputBias, RecurrentDecoder, logits_of_step
from keras_attention.models.build import make_decoder, make_embedding, make_encoder
from keras_attention.models.task import (
    Task,
    check_texts,
    length_sorted_batches,
    with_vocabulary,
)


@dataclasses.dataclass(frozen=True)
class Translation:
    """One answer: what was read, what was written, how sure, and where the model looked.

    Attributes:
        source: the text that was translated.
        text: the translation.
        score: its log-probability, in nats, after length and coverage penalties.
        source_pieces: the S pieces that the model read.
        target_pieces: the T pieces that it wrote.
        attention: (T, S) weights, float32; None for a model without attention.
        alternatives: the other hypotheses of an n-best search, best first.
    """

    source: str
    text: str
    score: float
    source_pieces: tuple[str, ...] = ()
    target_pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None
    alternatives: tuple[Translation, ...] = ()


@keras.saving.register_keras_serializable("keras_attention")
class Translator(Task):
    """Encoder and decoder from text to text: recurrent, with any attention or none, or a Transformer.

    p(y | x) = prod_t softmax(E f_t)[y_t], where f_t is the decoder's output after reading y_<t and
    the encoded source, and E is the target embedding (tied). In a recurrent network without attention the
    final encoder state is all the decoder gets; with attention it also looks back at every source position.

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`; the vocabulary sizes are
            taken from the tokenizers.
        source_tokenizer: KerasHub tokenizer of the source language.
        target_tokenizer: KerasHub tokenizer of the target language.

    Call arguments:
        inputs: dict of `source_ids` (B, S) int, `source_mask` (B, S) bool, `target_ids` (B, T)
            int, the target shifted right to begin with the start token.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: a tokenizer is missing.
        ValueError: one vocabulary is to be shared, and the tokenizers have two.

    Example:
        >>> tokenizer = ka.train_tokenizer(["we eat bread", "comemos pan"], "characters")
        >>> model = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer)
        >>> len(model.translate(["we eat"], ka.Greedy(max_new_tokens=3)))
        1

    Reference: Sutskever et al., 2014, https://arxiv.org/abs/1409.3215; Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473; Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    tokenizer_names = ("source_tokenizer", "target_tokenizer")

    def __init__(
        self,
        config: RecurrentConfig | TransformerConfig,
        source_tokenizer: Any = None,
        target_tokenizer: Any = None,
        **kwargs,
    ) -> None:
        config = with_vocabulary(config, "source_vocabulary_size", source_tokenizer, "source_tokenizer")
        config = with_vocabulary(config, "target_vocabulary_size", target_tokenizer, "target_tokenizer")
        if getattr(config, "shared_vocabulary", False):
            check_shared(config, source_tokenizer, target_tokenizer)
            self.source_embedding = self.target_embedding = make_embedding(
                config, config.source_vocabulary_size, "embedding"
            )
        else:
            self.source_embedding = make_embedding(config, config.source_vocabulary_size, "source_embedding")
            self.target_embedding = make_embedding(config, config.target_vocabulary_size, "target_embedding")
        self.encoder, self.decoder = make_encoder(config), make_decoder(config, memory=True)
        self.output_bias = OutputBias(name="output_bias") if getattr(config, "output_bias", False) else None
        inputs = {
            "source_ids": keras.Input((None,), dtype="int32", name="source_ids"),
            "source_mask": keras.Input((None,), dtype="bool", name="source_mask"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        tokenizers = {"source_tokenizer": source_tokenizer, "target_tokenizer": target_tokenizer}
        super().__init__(config, tokenizers, inputs, self._logits(inputs), **kwargs)
        self.searches = SearchCache(self)

    def _logits(self, inputs):
        outputs = self.decoder(self.target_embedding(inputs["target_ids"]), **self._encode(inputs))
        return self._add_bias(self.target_embedding(outputs, reverse=True))

    def _add_bias(self, logits):
        return logits if self.output_bias is None else self.output_bias(logits)

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to the source."""
        return self.decoder.has_memory

    def _encode(self, inputs) -> dict:
        """Return what the decoder takes from the encoder: its outputs and their mask, and its final states."""
        mask = inputs["source_mask"]
        encoded = self.encoder(self.source_embedding(inputs["source_ids"]), mask=mask)
        if not isinstance(self.decoder, RecurrentDecoder):
            return {"memory": encoded, "memory_mask": mask}
        memory, *states = encoded
        return {"initial_state": states} | ({"memory": memory, "memory_mask": mask} if self.has_attention else {})

    def start(self, inputs: dict, length=None) -> dict:
        """Encode the source and return the state before the first token.

        Args:
            inputs: dict of `source_ids` (B, S) int and `source_mask` (B, S) bool.
            length: the most tokens that will be read, `config.max_length` when absent.

        Returns:
            dict of `constants` (what no step changes, tensors of the source first by batch) and `carry`
            (tensors (B, 1, ...), changed by every step).
        """
        nothing = self.target_embedding(inputs["source_ids"][:, :0])
        length = self.config.max_length if length is None else length
        constants, carry = self.decoder.start(nothing, length, **self._encode(inputs))
        return {"constants": constants, "carry": carry}

    def step(self, tokens, state: dict):
        """Read one token per beam and answer what may come next.

        Args:
            tokens: (B, K) int, the tokens written last (at first the start token).
            state: from `start` or the last step; `carry` tensors are (B, K, ...).

        Returns:
            logits (B, K, V), the new state, and attention weights (B, K, S) or None.
        """
        outputs, carry, weights = self.decoder.step(self.target_embedding(tokens), state["constants"], state["carry"])
        logits = self._add_bias(logits_of_step(self.target_embedding, outputs))
        return logits, {"constants": state["constants"], "carry": carry}, weights

    def length_limits(self, source_lengths, strategy: Strategy):
        """Return how many tokens each answer may have, (B,): 2 S + 8 unless the strategy says."""
        if strategy.max_new_tokens is not None:
            wanted = source_lengths * 0 + strategy.max_new_tokens
        else:
            usual = ops.minimum(source_lengths * 2 + 8, self.config.max_length)
            wanted = ops.maximum(usual, strategy.min_new_tokens + 1)
        return ops.minimum(wanted, self.config.max_length) if self._learned_positions else wanted

    @property
    def _learned_positions(self) -> bool:
        """Whether there are no more than `config.max_length` positions."""
        return getattr(self.config, "positions", None) == "learned"

    def search_strategy(self, strategy: Strategy) -> Strategy:
        """Return the strategy; it never writes the padding where that is what begins a text (Marian)."""
        special = special_ids(self.target_tokenizer)
        if special.start != special.pad or special.pad == special.end:
            return strategy
        return dataclasses.replace(strategy, suppress_tokens=(*strategy.suppress_tokens, special.pad))

    def translate(
        self,
        texts: Iterable[str],
        strategy: Strategy | None = None,
        batch_size: int = 32,
        prefixes: Iterable[str] | None = None,
    ) -> list[Translation]:
        """Translate texts.

        Args:
            texts: strings. An empty one stays empty; one longer than `config.max_length` pieces is
                cut there, with one warning that counts them.
            strategy: `Greedy()` (default), `BeamSearch(...)` or `Sampling(...)`.
            batch_size: how many are decoded at once; it does not change an answer.
            prefixes: for each text, how its translation has to begin. It is kept whole, whatever the strategy's
                longest length, up to `config.max_length` pieces; an empty text stays empty all the same.

        Returns:
            one `Translation` per text, in order.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
        """
        texts, strategy = check_texts(texts), strategy or Greedy()
        prefixes = check_texts(prefixes) if prefixes is not None else [""] * len(texts)
        if len(prefixes) != len(texts):
            raise ValueError(f"There are {len(prefixes)} prefixes for {len(texts)} texts; expected one each.")
        end = special_ids(self.source_tokenizer).end
        sources = encode_texts(self.source_tokenizer, texts, self.config.max_length, after=(end,))
        room = self.config.max_length - self._learned_positions  # one more token is written
        encoded = encode_texts(self.target_tokenizer, prefixes, room)
        forced = [ids if text else [] for ids, text in zip(encoded, prefixes, strict=True)]
        answers: list[Translation | None] = [None] * len(texts)
        for batch in length_sorted_batches([len(ids) for ids in sources], batch_size):
            found = self._search([sources[i] for i in batch], [forced[i] for i in batch], batch, strategy)
            for row, index in enumerate(batch):
                answers[index] = self._translation(texts[index], sources[index], found, row)
        return answers

    def _search(self, sources, forced, indices, strategy: Strategy) -> Hypotheses:
        source_ids, source_mask = pad_ids(sources, special_ids(self.source_tokenizer).pad, multiple=8)
        prefix_ids, prefix_mask = pad_ids(forced, special_ids(self.target_tokenizer).pad)
        special = special_ids(self.target_tokenizer)
        limits = np.asarray(self.length_limits(source_mask.sum(1).astype("int32"), strategy))
        limits = np.maximum(limits, prefix_mask.sum(1) + 1)
        return self.searches.run(
            self.search_strategy(strategy),
            {"source_ids": source_ids, "source_mask": source_mask},
            limits=limits,
            prefix=(prefix_ids, prefix_mask),
            seeds=np.asarray(indices) + strategy.seed,
            start_ids=np.full(len(indices), special.start),
            end_id=special.end,
        )

    def _translation(self, text: str, source: list[int], found: Hypotheses, row: int) -> Translation:
        if not text.strip(WHITE_SPACE):
            return Translation(text, "", 0.0)
        source_pieces = tuple(ids_to_pieces(self.source_tokenizer, source))
        answers = []
        for ids, score, attention in found.of_row(row):
            if attention is not None:
                attention = attention[:, : len(source)]
            written = decode_ids(self.target_tokenizer, ids)
            pieces = tuple(ids_to_pieces(self.target_tokenizer, ids))
            answers.append(Translation(text, written, score, source_pieces, pieces, attention))
        if not answers:  # the constraints left nothing
            return Translation(text, "", -math.inf, source_pieces)
        return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))


def check_shared(config: TransformerConfig, source_tokenizer: Any, target_tokenizer: Any) -> None:
    """Raise ValueError unless both tokenizers have the same pieces."""
    same = config.source_vocabulary_size == config.target_vocabulary_size
    try:
        if same and source_tokenizer is not target_tokenizer:
            same = source_tokenizer.get_vocabulary() == target_tokenizer.get_vocabulary()
    except ValueError:  # they are being loaded, and get their vocabularies later
        return
    if not same:
        raise ValueError(
            "Source and target share one embedding, but the two tokenizers have different pieces. Train one tokenizer "
            "on both languages and pass it twice, or pass shared_vocabulary=False."
        )
