"""The outputs of an encoder or decoder for texts, and one vector of each text."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_attention.config import MEAN, TransformerConfig


def encode_text(model: Any, inputs: dict, return_attention_scores: bool = False) -> tuple[Any, list]:
    """Return the outputs (B, S, M) of a model's encoder or decoder for texts, and the scores of each block.

    Args:
        model: has `embedding`, and `encoder` or `decoder`; a tagger that reads characters has `character_encoder`.
        inputs: dict of tensors, from `text_model_inputs` or a tagger's `word_arrays`.
        return_attention_scores: return a list of the scores (B, H, S, S) of each block; otherwise it is empty.
    """
    embedded, mask = model.embedding(inputs["token_ids"]), inputs["padding_mask"]
    if "character_ids" in inputs:
        words = model.character_encoder(inputs["character_ids"], mask=inputs["character_mask"])  # (B, S, any)
        embedded = ops.concatenate([embedded, words], axis=-1)
    stack = model.decoder if model.encoder is None else model.encoder
    if not stack.blocks:
        return stack(embedded, mask=mask)[0], []
    options = {"segment_ids": inputs["segment_ids"]} if "segment_ids" in inputs else {}
    if return_attention_scores:
        return stack(embedded, mask=mask, return_attention_scores=True, **options)
    return stack(embedded, mask=mask, **options), []


def mean_sequence(values, mask):
    """Return (B, M), the mean of `values` (B, S, M) over the real tokens."""
    mask = ops.expand_dims(ops.cast(mask, values.dtype), -1)  # (B, S, 1)
    return ops.sum(values * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)


def pool_sequence(config: TransformerConfig, values, mask):
    """Reduce `values` (B, S, ...) to (B, ...): their mean, or the values at the start token, as `config.pooling` says.

    The start token is the first token or, if the template puts it at the end, the last real one.
    """
    if config.pooling == MEAN:
        return mean_sequence(values, mask)
    if config.template == "start_end":
        return values[:, 0]
    mask = ops.cast(mask, values.dtype)
    following = ops.concatenate([mask[:, 1:], ops.zeros_like(mask[:, :1])], axis=1)  # (B, S), 1 before a real token
    last = ops.expand_dims(mask * (1.0 - following), 1)  # (B, 1, S), one-hot
    return ops.squeeze(ops.matmul(last, values), 1)
