"""`MaskedLM`: fills the masks of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_attention.argument_checks import require_positive_integer
from keras_attention.config import TransformerConfig
from keras_attention.data.batches import text_model_inputs
from keras_attention.data.batching.masking import masked_batches
from keras_attention.data.tokenization.special_tokens import mask_id
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.layers import MaskedLMHead, OutputBias
from keras_attention.layers.task_heads import probabilities
from keras_attention.models.network.config_checks import with_vocabulary
from keras_attention.models.network.layers_from_config import (
    ACTIVATIONS,
    initializer,
    make_embedding,
    make_encoder,
    make_pooler,
    text_input_tensors,
)
from keras_attention.models.task import Task
from keras_attention.models.task_data.text_data import TextData, masked_metrics
from keras_attention.outputs import FilledMask
from keras_attention.prediction.encoded_inputs import EncodedTexts, check_texts
from keras_attention.prediction.encoder_outputs import encode_text
from keras_attention.prediction.run_batches import predict_outputs
from keras_attention.task_specs import TASK_SPECS


@keras.saving.register_keras_serializable("keras_attention")
class MaskedLM(Task):
    """Masked language model: p(x_i | the rest) = softmax(W g(h_i) + b)[x_i], at positions that are masked.

    h_i are the outputs of a Transformer encoder, g is a dense layer with layer normalization, and W is the token
    embedding (tied). With `config.next_sentence`, the model also predicts whether the second segment follows the first
    (class 0) or is a random one (class 1).

    Args:
        config: a `TransformerConfig`; the vocabulary size is taken from the tokenizer.
        tokenizer: KerasHub tokenizer with a mask token (`[MASK]` or `<mask>`).

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True for real tokens, and, if the config
            has segments, `segment_ids` (B, S) int.

    Output:
        logits (B, S, V); with `next_sentence`, a dict of `logits` and `next_sentence` (B, 2).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], vocabulary_size=60)
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> sorted(model.input)
        ['padding_mask', 'segment_ids', 'token_ids']

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; Liu et al., 2019,
    https://arxiv.org/abs/1907.11692 (RoBERTa).
    """

    spec = TASK_SPECS["mlm"]
    data = TextData(masked_batches, masked_metrics)

    def __init__(self, config: TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.head = MaskedLMHead(ACTIVATIONS[config.activation], config.epsilon, initializer(config), name="head")
        self.output_bias = OutputBias(name="output_bias")
        inputs = text_input_tensors(config)
        outputs, _ = encode_text(self, inputs)
        result = logits = self._to_logits(outputs)
        self.pooler = self.next_sentence_head = None
        if config.next_sentence:
            self.pooler = make_pooler(config)
            self.next_sentence_head = keras.layers.Dense(
                2, kernel_initializer=initializer(config), name="next_sentence"
            )
            result = {"logits": logits, "next_sentence": self.next_sentence_head(self.pooler(outputs[:, 0]))}
        super().__init__(config, {"tokenizer": tokenizer}, inputs, result, **kwargs)

    def _to_logits(self, outputs):
        return self.output_bias(self.embedding(self.head(outputs), reverse=True))

    @property
    def input_reader(self) -> TextReader:
        """The `TextReader` of texts with masks."""
        return self.text_reader

    @property
    def mask_token(self) -> str:
        """The mask in a text, such as `<mask>`: the string for a token to predict."""
        return self.tokenizer.id_to_token(mask_id(self.tokenizer))

    def fill(self, texts: Iterable[str], candidates: int = 5, batch_size: int = 32) -> list[FilledMask]:
        """Fill the masks of texts.

        Args:
            texts: strings with a mask token, `<mask>` or `[MASK]`, for each token to predict. A text with more than
                `config.max_length` tokens is truncated, and so is the result; one warning counts such texts.
            candidates: number of pieces to return for each mask.
            batch_size: number of texts in a batch; it does not change the result.

        Returns:
            one `FilledMask` per text, in order; a text without a mask does not change.

        Raises:
            TypeError: `texts` is one string, or contains other types than strings.
            ValueError: `candidates` or `batch_size` is not positive.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], vocabulary_size=60)
            >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
            >>> len(model.fill(["we <mask> bread"])[0].candidates)
            1
        """
        require_positive_integer("candidates", candidates)
        texts = check_texts(texts)
        inputs = EncodedTexts.encode(self.input_reader, texts)
        return predict_outputs(self, inputs, texts, batch_size, candidates=candidates)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return the call arguments and `mask_positions` (B, G), the positions of the masks, padded with -1."""
        positions = batch.positions(mask_id(self.tokenizer))
        return {**text_model_inputs(self.config, *batch.arrays()), "mask_positions": positions}

    def _compute(self, inputs: dict, candidates: int = 5) -> dict:
        """Predict the tokens at the masks.

        Args:
            inputs: dict of the call arguments and `mask_positions` (B, G) int, the positions of the masks, padded
                with -1.
            candidates: J, the number of tokens to return for each mask.

        Returns:
            dict of `candidates` (B, G, J), token ids, best first; `candidate_scores` (B, G, J), their probabilities,
            padded with 0; `token_ids` (B, S), the text in which the best token replaces each mask; and `lengths` (B,).
        """
        inputs = dict(inputs)
        positions = inputs.pop("mask_positions")
        is_mask = ops.expand_dims(positions >= 0, -1)  # (B, G, 1)
        outputs, _ = encode_text(self, inputs)  # (B, S, M)
        outputs = ops.take_along_axis(outputs, ops.expand_dims(ops.maximum(positions, 0), -1), axis=1)  # (B, G, M)
        scores = probabilities(self._to_logits(outputs))  # (B, G, V)
        scores, tokens = ops.top_k(scores, min(candidates, scores.shape[-1]))  # (B, G, J) each
        ids = inputs["token_ids"]
        text_positions = ops.expand_dims(ops.arange(ops.shape(ids)[1]), 1)  # (S, 1)
        at_masks = ops.equal(text_positions, ops.expand_dims(positions, 1))  # (B, S, G)
        best = ops.sum(ops.where(at_masks, ops.expand_dims(tokens[:, :, 0], 1), 0), axis=-1)  # (B, S)
        return {
            "candidates": tokens,
            "candidate_scores": ops.where(is_mask, scores, 0.0),
            "token_ids": ops.where(ops.any(at_masks, axis=-1), best, ids),
            "lengths": ops.sum(ops.cast(inputs["padding_mask"], "int32"), axis=1),
        }

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `text` (B,); `candidates` and `candidate_scores` (B, G, J), padded with "" and 0."""
        detokenizer, is_mask = detokenizers["tokenizer"], inputs["mask_positions"] >= 0
        filled = detokenizer.decode(computed["token_ids"], computed["lengths"])
        is_candidate = is_mask[:, :, None] & (computed["candidates"] >= 0)
        return {
            "text": detokenizer.where(is_mask[:, 0], filled, strings),
            "candidates": detokenizer.pieces(computed["candidates"], is_candidate),
            "candidate_scores": computed["candidate_scores"],
        }
