"""`TextClassifier`: a text in, a label out, and the pieces that decided it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import ClassifierConfig
from keras_attention.data.tokenizers import WHITE_SPACE, encode_texts, ids_to_pieces, pad_ids, special_ids
from keras_attention.layers import RecurrentEncoder
from keras_attention.models.task import (
    Forward,
    Task,
    check_labels,
    check_texts,
    embedding_initializer,
    length_sorted_batches,
    make_attention,
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
    """Recurrent many-to-one network: a bidirectional encoder and one label for its final state.

    p(label | x) = softmax(W [h; c]), with h the final state of both directions and c the context
    that h attends to over all positions (absent without attention).

    Args:
        config: sizes and `labels`.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int and `padding_mask` (B, S) bool, True = a real token.

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

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473 (the attention).
    """

    config_class = ClassifierConfig

    def __init__(self, config: ClassifierConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        check_labels(config.labels)
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
        }
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        embedded = keras.layers.Embedding(
            config.vocabulary_size, config.embedding_dim, embedding_initializer(config), name="embedding"
        )(inputs["token_ids"])
        encoder = RecurrentEncoder(config.units, config.num_layers, config.cell, dropout=config.dropout, name="encoder")
        memory, states = encoder(dropout(embedded), mask=inputs["padding_mask"])
        summary, answers, attention = states[0], {}, make_attention(config)
        if attention is not None:
            query = ops.expand_dims(summary, 1)
            context, weights = attention(query, memory, mask=inputs["padding_mask"])
            summary = ops.concatenate([summary, ops.squeeze(context, 1)], -1)
            answers["attention"] = ops.squeeze(weights, 1)
        logits = keras.layers.Dense(len(config.labels), name="logits")(dropout(summary))
        super().__init__(config, {"tokenizer": tokenizer}, inputs, logits, **kwargs)
        self.forward = Forward(keras.Model(inputs, {"logits": logits, **answers}))

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
        rows = encode_texts(self.tokenizer, texts, self.config.max_length, end=special.end)
        answers: list[Any] = [None] * len(texts)
        for batch in length_sorted_batches([len(row) for row in rows], batch_size):
            token_ids, mask = pad_ids([rows[i] for i in batch], special.pad, multiple=8)
            found = self.forward({"token_ids": token_ids, "padding_mask": mask})
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
