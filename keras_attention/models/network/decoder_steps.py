"""`DecoderSteps`: one step of a decoder at a time."""

from __future__ import annotations

from typing import Any

import keras

from keras_attention.argument_checks import missing_method
from keras_attention.layers.decoding.merged_dense import logits_of_step


class DecoderSteps:
    """Mixin of `Translator`, `Captioner` and `CausalLM`; reads `self.config` of `Task`, and the layers of the subclass.

    It has the logits of their decoder, and its steps for a search. A subclass defines `_encode_start`.
    """

    embedding: keras.layers.Layer
    decoder: keras.layers.Layer
    output_bias: keras.layers.Layer | None = None

    @property
    def _output_embedding(self) -> keras.layers.Layer:
        """The embedding of the generated tokens, which also computes the logits."""
        return self.embedding

    def _encode_start(self, inputs: dict) -> tuple[Any, dict]:
        """Return the embeddings of the prompt tokens (B, L, M), and the other arguments of `decoder.start`."""
        raise missing_method(self, "_encode_start")

    def start(self, inputs: dict, length: int | None = None) -> dict:
        """Encode the inputs, and return the state before the first new token.

        Args:
            inputs: dict of a translator's `source_ids` (B, S) int and `source_mask` (B, S) bool; of a captioner's
                `images` (B, size, size, 3) or `regions` (B, R, C); or of a language model's `token_ids` and
                `padding_mask` (B, L), prompt tokens that are read in one call, where L may be 0.
            length: the maximum number of tokens; `config.max_length` if None.

        Returns:
            dict of `constants`, `carry` and, with Transformer blocks, `weights` and `cache`;
            `layers/decoding/cache.py` describes them.
        """
        embedded, encoded = self._encode_start(inputs)
        return self.decoder.start(embedded, self.config.max_length if length is None else length, **encoded)

    def step(self, tokens, state: dict):
        """Read one token per beam, and return the logits of the next one.

        Args:
            tokens: (B, K) int, the last tokens (at first the start token).
            state: from `start` or the previous step, for K beams.

        Returns:
            logits (B, K, V), the new state, and attention scores (B, K, S) or None.
        """
        embedding = self._output_embedding
        outputs, state, scores = self.decoder.step(embedding(tokens), state)  # outputs (B, K, M)
        return self._add_bias(logits_of_step(embedding, outputs)), state, scores

    def _logits_of(self, outputs):
        """Return the logits (B, T, V) of the outputs of the decoder (B, T, M)."""
        return self._add_bias(self._output_embedding(outputs, reverse=True))

    def _add_bias(self, logits):
        """Add the output bias to logits (..., V), if the model has one."""
        return logits if self.output_bias is None else self.output_bias(logits)
