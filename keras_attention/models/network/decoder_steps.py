"""One step of a decoder at a time.

`Translator`, `Captioner` and `CausalLM` call `start` and `step` in their methods. Such a model has a `decoder`, an
`output_bias` or None, and a method `_encode_start`.
"""

from __future__ import annotations

from typing import Any

from keras_attention.layers.decoding.merged_dense import logits_of_step


def start(model: Any, inputs: dict, length=None) -> dict:
    """Encode the inputs and return the state before the first token.

    Args:
        inputs: dict of a translator's `source_ids` (B, S) int and `source_mask` (B, S) bool; of a captioner's `images`
            (B, size, size, 3) or `regions` (B, R, C); or of a language model's `token_ids` and `padding_mask` (B, L),
            prompt tokens that are read in one call, where L may be 0.
        length: the maximum number of tokens; `config.max_length` if None.

    Returns:
        dict of `constants`, `carry` and, with Transformer blocks, `cache`; `layers/decoding/cache.py` describes them.
    """
    embedded, encoded = model._encode_start(inputs)
    length = model.config.max_length if length is None else length
    return model.decoder.start(embedded, length, **encoded)


def step(model: Any, tokens, state: dict):
    """Read one token per beam and return the logits of the next one.

    Args:
        tokens: (B, K) int, the last tokens (at first the start token).
        state: from `start` or the previous step, for K beams.

    Returns:
        logits (B, K, V), the new state, and attention scores (B, K, S) or None.
    """
    embedding = model.embeddings[-1]
    outputs, state, scores = model.decoder.step(embedding(tokens), state)
    return add_bias(model, logits_of_step(embedding, outputs)), state, scores


def add_bias(model: Any, logits):
    """Add the output bias to logits (..., V), if the model has one."""
    return logits if model.output_bias is None else model.output_bias(logits)
