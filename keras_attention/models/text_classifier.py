"""`TextClassifier`: a text in, a label out, and the pieces that decided it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.batches import text_arrays
from keras_attention.data.tokenizers import (
    WHITE_SPACE,
    apply_template,
    encode_texts,
    ids_to_pieces,
    pad_ids,
    special_ids,
)
from keras_attention.models.build import (
    make_attention,
    make_embedding,
    make_encoder,
    make_pooler,
    pool_sequence,
    read_text,
)
from keras_attention.models.task import (
    Forward,
    Task,
    check_labels,
    check_texts,
    length_sorted_batches,
    text_inputs,
    with_vocabulary,
)


@dataclasses.dataclass(frozen=True)
class Classification:
    """One answer: the label of a text, how sure, and where the model looked.

    Attributes:
        text: what was read.
        label: the likeliest label.
        score: its probability.
        pieces: the S pieces that the model read.
        attention: (S,) weights, float32; None for a model without attention.
    """

    text: str
    label: str
    score: float
    pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None


@keras.saving.register_keras_serializable("keras_attention")
class TextClassifier(Task):
    """Many to one: an encoder and one label for a summary of what it read.

    p(label | x) = softmax(W summary). Of a recurrent encoder the summary is [h; c], the final state h of both
    directions and the context c that h attends to over all positions (absent without attention). Of a
    Transformer it is tanh(V x_0 + b) at the start token (`<cls>`; the end token, where there is no start).

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`, with `labels`.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True = a real token, and, where the
            family has them, `segment_ids` (B, S) int.

    Output:
        logits (B, classes).

    Raises:
        TypeError: the tokenizer is missing.
        ValueError: fewer than two labels, or one of them twice.

    Example:
        >>> tokenizer = ka.train_tokenizer(["a fine film", "a dull film"], "characters")
        >>> model = ka.TextClassifier.from_preset(
        ...     "rnn_classifier", tokenizer=tokenizer, labels=("bad", "good"))
        >>> model.classify(["a fine film"])[0].label in ("bad", "good")
        True

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473 (the attention); Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805.
    """

    def __init__(self, config: RecurrentConfig | TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        check_labels(config.labels)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.attention = self.pooler = None
        if isinstance(config, RecurrentConfig):
            self.attention, summarize = make_attention(config), self._summarize_states
        else:
            self.pooler, summarize = make_pooler(config), self._pool
        inputs = text_inputs(config)
        self.pool_sequence = functools.partial(pool_sequence, getattr(config, "template", "end"))
        summary, _ = summarize(inputs)
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.head = keras.layers.Dense(len(config.labels), name="logits")
        super().__init__(config, {"tokenizer": tokenizer}, inputs, self.head(dropout(summary)), **kwargs)
        self.forward = Forward(self, self._show)

    def _show(self, inputs: dict) -> dict:
        """Return `logits` (B, classes) and, where there is any, `attention` (B, S)."""
        summarize = self._summarize_states if self.pooler is None else self._pool
        summary, weights = summarize(inputs, return_attention_scores=True)
        return {"logits": self.head(summary)} | ({} if weights is None else {"attention": weights})

    def _summarize_states(self, inputs: dict, return_attention_scores: bool = False):
        """Return the summary of a recurrent encoder, and its weights (B, S) or None."""
        mask = inputs["padding_mask"]
        memory, state, *_ = self.encoder(self.embedding(inputs["token_ids"]), mask=mask)
        if self.attention is None:
            return state, None
        query = ops.expand_dims(state, 1)
        context, weights = self.attention(query, memory, value_mask=mask, return_attention_scores=True)
        return ops.concatenate([state, ops.squeeze(context, 1)], -1), ops.squeeze(weights, 1)

    def _pool(self, inputs: dict, return_attention_scores: bool = False):
        """Return the summary of a Transformer, and the last block's weights (B, S), the mean of its heads."""
        mask = inputs["padding_mask"]
        outputs, weights = read_text(self, inputs, return_attention_scores)
        summary = self.pooler(self.pool_sequence(outputs, mask))
        return summary, self.pool_sequence(ops.mean(weights[-1], axis=1), mask) if return_attention_scores else None

    def backbone(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose parameters a paper counts."""
        return tuple(x for x in (self.embedding, self.encoder, self.pooler) if x is not None)

    def classify(self, texts: Iterable[str], batch_size: int = 32) -> list[Classification]:
        """Label texts.

        Args:
            texts: strings. An empty one gets an empty label; one longer than `config.max_length` pieces
                is cut there, with one warning that counts them.
            batch_size: how many are read at once; it does not change an answer.

        Returns:
            one `Classification` per text, in order.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
        """
        texts, special = check_texts(texts), special_ids(self.tokenizer)
        rows = encode_texts(
            self.tokenizer, texts, self.config.max_length, *apply_template(self.tokenizer, self.template)
        )
        answers: list[Any] = [None] * len(texts)
        for batch in length_sorted_batches([len(row) for row in rows], batch_size):
            token_ids, mask = pad_ids([rows[i] for i in batch], special.pad, multiple=8)
            found = self.forward(text_arrays(self.config, token_ids, mask))
            for row, index in enumerate(batch):
                answers[index] = self._answer(texts[index], rows[index], found, row)
        return answers

    def _answer(self, text: str, ids: list[int], found: dict, row: int) -> Classification:
        if not text.strip(WHITE_SPACE):
            return Classification(text, "", 0.0)
        logits = found["logits"][row].astype("float64")
        best = int(logits.argmax())
        score = 1.0 / np.exp(logits - logits[best]).sum()
        attention = found["attention"][row, : len(ids)] if "attention" in found else None
        pieces = tuple(ids_to_pieces(self.tokenizer, ids))
        return Classification(text, self.config.labels[best], float(score), pieces, attention)
