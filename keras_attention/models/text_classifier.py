"""`TextClassifier`: from a text, or a pair of texts, to its label and attention."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_attention.config import MULTI_LABEL, SINGLE_LABEL, RecurrentConfig, TransformerConfig
from keras_attention.data.batches import text_model_inputs
from keras_attention.data.batching.text_batches import classification_batches
from keras_attention.data.tokenization.text_reader import Text, TextReader
from keras_attention.layers import BagOfNGrams
from keras_attention.layers.task_heads import probabilities
from keras_attention.models.network.config_checks import check_labels, known_vocabulary, with_vocabulary
from keras_attention.models.network.layers_from_config import (
    make_attention,
    make_embedding,
    make_encoder,
    make_pooler,
    text_input_tensors,
)
from keras_attention.models.task import Task
from keras_attention.models.task_data.label_data import ClassificationData
from keras_attention.outputs import Classification
from keras_attention.prediction.encoded_inputs import EncodedTexts, check_texts
from keras_attention.prediction.encoder_outputs import encode_text, pool_sequence
from keras_attention.prediction.run_batches import predict_outputs
from keras_attention.task_specs import TASK_SPECS


def _pieces(tokenizer: Any) -> list[str] | None:
    """Return the characters of each token, "" for special tokens such as `<s>` and `[UNK]`; None without a vocabulary.

    The end token `</s>` keeps its characters, because n-grams use it as the end of a text. `##` is removed.
    """
    pieces = known_vocabulary(tokenizer)
    return None if pieces is None else [re.sub(r"^(<\w+>|\[\w+\])$|^##(?=.)", "", piece) for piece in pieces]


@keras.saving.register_keras_serializable("keras_attention")
class TextClassifier(Task):
    """Compute the label of a text, or of a pair of texts, from a recurrent or Transformer encoder.

    p(label | x) = softmax(W s), where s is a vector of the text. `config.problem_type` can replace the softmax.

        recurrent encoder           s = [h; c]: h is the final state of both directions, and c the context of an
                                    attention with the query h over all positions; without attention s = h
        Transformer encoder         s = tanh(U x_0 + b), where x_0 is the output at the start token
        with `pooling="mean"`       s is the mean of the Transformer's outputs

    With `hash_buckets`, a recurrent classifier adds weights of tokens, of pairs of tokens and of short strings to W s;
    see `layers.BagOfNGrams`.

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`, with `labels`.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True for real tokens, and, if the config
            has segments, `segment_ids` (B, S) int.

    Output:
        logits (B, classes).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.
        ValueError: there are fewer than two labels, or equal ones.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["a fine film", "a dull film"], "characters")
        >>> model = ka.TextClassifier.from_preset(
        ...     "rnn_classifier", tokenizer=tokenizer, labels=("bad", "good"))
        >>> model.classify(["a fine film"])[0].label in ("bad", "good")
        True

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473 (the attention); Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805.
    """

    spec = TASK_SPECS["classifier"]
    data = ClassificationData(classification_batches)

    def __init__(self, config: RecurrentConfig | TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        self.config = config = with_vocabulary(config, "vocabulary_size", tokenizer)
        check_labels(config.labels, at_least=2 if config.problem_type == SINGLE_LABEL else 1)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.attention = self.pooler = self.ngrams = None
        inputs = text_input_tensors(config)
        if isinstance(config, RecurrentConfig):
            self.attention = make_attention(config)
            pooled, _ = self._pool_states(inputs)
        else:
            self.pooler = make_pooler(config)
            pooled, _ = self._pool(inputs)
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.head = keras.layers.Dense(len(config.labels), name="logits")
        if config.hash_buckets:
            self.ngrams = BagOfNGrams(
                config.vocabulary_size,
                len(config.labels),
                config.hash_buckets,
                pieces=_pieces(tokenizer),
                name="ngrams",
            )
        super().__init__(config, {"tokenizer": tokenizer}, inputs, self._logits(inputs, dropout(pooled)), **kwargs)

    def _logits(self, inputs: dict, pooled):
        """Return the logits (B, classes) of pooled vectors (B, M) and of the n-grams of the texts."""
        logits = self.head(pooled)
        if self.ngrams is None:
            return logits
        return logits + self.ngrams(inputs["token_ids"], mask=inputs["padding_mask"])

    def _pool_states(self, inputs: dict, return_attention_scores: bool = False):
        """Return the pooled vector of a recurrent encoder, and its attention scores (B, S) or None."""
        mask = inputs["padding_mask"]
        memory, state, *_ = self.encoder(self.embedding(inputs["token_ids"]), mask=mask)  # (B, S, M), (B, M)
        if self.attention is None:
            return state, None
        query = ops.expand_dims(state, 1)  # (B, 1, M)
        context, scores = self.attention(query, memory, value_mask=mask, return_attention_scores=True)
        return ops.concatenate([state, ops.squeeze(context, 1)], -1), ops.squeeze(scores, 1)  # (B, 2 M), (B, S)

    def _pool(self, inputs: dict, return_attention_scores: bool = False):
        """Return the pooled vector of a Transformer, and the scores (B, S) of the last block, averaged over heads."""
        mask = inputs["padding_mask"]
        outputs, scores = encode_text(self, inputs, return_attention_scores)  # (B, S, M), (B, H, S, S) of each block
        pooled = pool_sequence(self.config, outputs, mask)  # (B, M)
        pooled = pooled if self.pooler is None else self.pooler(pooled)
        if not return_attention_scores:
            return pooled, None
        return pooled, pool_sequence(self.config, ops.mean(scores[-1], axis=1), mask)

    @property
    def text_reader(self) -> TextReader:
        """The reader of texts and of pairs of texts."""
        config = self.config
        num_separators = 2 if config.template == "start_end" and config.num_segments == 1 else 1  # as in RoBERTa
        return TextReader.from_template(self.tokenizer, config.template, config.max_length, num_separators)

    @property
    def input_reader(self) -> TextReader:
        """The reader of texts and of pairs of texts."""
        return self.text_reader

    def classify(self, texts: Iterable[Text], batch_size: int = 32) -> list[Classification]:
        """Label texts, or pairs of texts.

        Args:
            texts: strings, or pairs of strings (text, text pair). An empty text gets an empty label. A text with more
                than `config.max_length` tokens is truncated, and a pair loses tokens of its longer text first; one
                warning counts such texts.
            batch_size: number of texts in a batch; it does not change the result.

        Returns:
            one `Classification` per text, in order.

        Raises:
            TypeError: `texts` is one string, or contains other types than strings and pairs of strings.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["is it red", "yes it is"], "characters")
            >>> model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"))
            >>> model.classify([("is it red", "it is")])[0].text
            ('is it red', 'it is')
        """
        texts = check_texts(texts, pairs=True)
        return predict_outputs(self, EncodedTexts.encode(self.input_reader, texts), texts, batch_size)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return the call arguments and `valid` (B,), False for texts without words."""
        return {**text_model_inputs(self.config, *batch.arrays(), batch.pair_mask()), "valid": batch.valid()}

    def _compute(self, inputs: dict) -> dict:
        """Compute the probabilities of the labels or, for a regression, the predicted values.

        Args:
            inputs: dict of the call arguments and `valid` (B,) bool, False for texts without words.

        Returns:
            dict of `probabilities` (B, classes); `label_ids` and `score` (B,), the most probable label and its
            probability; and, if the model has attention, `attention` (B, S). All are 0 for empty
            texts.
        """
        inputs = dict(inputs)
        valid = ops.expand_dims(inputs.pop("valid"), 1)
        compute_pooled = self._pool if self.encoder.blocks else self._pool_states
        pooled, attention = compute_pooled(inputs, return_attention_scores=True)
        computed = ops.where(valid, self._activate(self._logits(inputs, pooled)), 0.0)
        result = {
            "probabilities": computed,
            "label_ids": ops.argmax(computed, axis=-1),
            "score": ops.max(computed, axis=-1),
        }
        if attention is not None:
            result["attention"] = ops.where(valid, ops.cast(attention, "float32"), 0.0)
        return result

    def _activate(self, logits):
        """Return probabilities (B, classes) or, for a regression, the outputs, in float32."""
        if self.config.problem_type == SINGLE_LABEL:
            return probabilities(logits)
        logits = ops.cast(logits, "float32")
        return ops.sigmoid(logits) if self.config.problem_type == MULTI_LABEL else logits

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `label` and `score` (B,), `probabilities` (B, classes), `pieces` and `attention` (B, S)."""
        detokenizer, computed, valid = detokenizers["tokenizer"], dict(computed), inputs["valid"]
        return {
            "label": detokenizer.names(self.config.labels, computed.pop("label_ids"), valid),
            **computed,
            "pieces": detokenizer.pieces(inputs["token_ids"], inputs["padding_mask"] & valid[:, None]),
        }
