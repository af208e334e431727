"""`PermutationLM`: predicts tokens in any order, each from the tokens before it in that order."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_attention.config import TransformerConfig
from keras_attention.data.batching.permutation import permutation_batches
from keras_attention.layers import MaskEmbedding, OutputBias
from keras_attention.models.autoregressive import AutoregressiveLM
from keras_attention.models.network.config_checks import with_vocabulary
from keras_attention.models.network.layers_from_config import (
    initializer,
    make_embedding,
    make_encoder,
    text_input_tensors,
)
from keras_attention.models.task import Task
from keras_attention.models.task_data.text_data import TextData, permutation_metrics
from keras_attention.prediction.run_batches import compiled_function
from keras_attention.task_specs import TASK_SPECS


@keras.saving.register_keras_serializable("keras_attention")
class PermutationLM(AutoregressiveLM, Task):
    """Permutation language model (XLNet): p(x) = prod_t softmax(W g(x_z[<t], z_t) + b)[x_z[t]], for any order z.

    g is the query stream of Transformer blocks with relative attention. Its inputs are the position of the
    predicted token and the earlier tokens of the order, but not the predicted token. W is the token embedding (tied).
    `complete` uses the order from left to right.

    Args:
        config: a `TransformerConfig` with `positions="relative"`; the vocabulary size is taken from the tokenizer.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int; `padding_mask` (B, S) bool, True for real tokens; if the config has
            segments, `segment_ids` (B, S) int; `permutation_mask` (B, S, S) bool, True if token i may attend to token
            j; and `target_mapping` (B, P, S) float32, the one-hot positions of the tokens to predict.
            `permutation_batches` makes them.

    Output:
        logits (B, P, V).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.
        ValueError: `config.positions` is not "relative".

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "we drink water"], vocabulary_size=60)
        >>> model = ka.PermutationLM.from_preset("xlnet_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> model.complete(["we eat"], ka.Greedy(max_new_tokens=3))[0].text.startswith("we eat")
        True

    Reference: Yang et al., 2019, https://arxiv.org/abs/1906.08237.
    """

    spec = TASK_SPECS["plm"]
    data = TextData(permutation_batches, permutation_metrics)
    _reads_padding = False

    def __init__(self, config: TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        if config.positions != "relative":
            raise ValueError(
                f"`positions` is {config.positions!r}, but a PermutationLM uses relative attention; "
                'expected "relative".'
            )
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.mask_embedding = MaskEmbedding(config.width, initializer(config), name="mask_embedding")
        self.output_bias = OutputBias(name="output_bias")
        inputs = {
            **text_input_tensors(config),
            "permutation_mask": keras.Input((None, None), dtype="bool", name="permutation_mask"),
            "target_mapping": keras.Input((None, None), dtype="float32", name="target_mapping"),
        }
        outputs = self._predict(inputs)
        super().__init__(config, {"tokenizer": tokenizer}, inputs, self._to_logits(outputs), **kwargs)

    def _predict(self, inputs: dict):
        """Return the query stream (B, P, M)."""
        return self.encoder(
            self.embedding(inputs["token_ids"]),
            mask=inputs["padding_mask"],
            segment_ids=inputs.get("segment_ids"),
            permutation_mask=inputs["permutation_mask"],
            queries=self.mask_embedding(inputs["target_mapping"]),
            target_mapping=inputs["target_mapping"],
        )

    def _to_logits(self, outputs):
        return self.output_bias(self.embedding(outputs, reverse=True))

    def _encode_part(self, inputs: dict, memory_length: int | None) -> dict:
        """Return `outputs` (B, S, M) of the content stream, and the memories; see `RelativeTransformer.encode_part`."""
        outputs, memories = self.encoder.encode_part(
            self.embedding(inputs["token_ids"]),
            inputs["padding_mask"],
            inputs.get("segment_ids"),
            memories=inputs.get("memories"),
            memory_length=memory_length,
        )
        return {"outputs": outputs, **memories}

    def encode_part(
        self,
        inputs: dict[str, np.ndarray],
        memories: dict[str, np.ndarray] | None = None,
        memory_length: int | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Encode one part of a text, with the memories of the previous parts.

        Args:
            inputs: dict of `token_ids` (B, S), `padding_mask` (B, S) and, optionally, `segment_ids` (B, S).
            memories: the memories that this method returned for the previous part; None for the first one.
            memory_length: m, the number of last tokens in the new memories; None for all tokens.

        Returns:
            outputs (B, S, M), for which each token attends to the part and the memories; and the memories for the
            next part, a dict of `block_0`, ... (B, m, M) and `mask` (B, m).

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
            >>> model = ka.PermutationLM.from_preset(
            ...     "xlnet_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
            >>> part = {"token_ids": np.array([[5, 7, 6]]), "padding_mask": np.ones((1, 3), bool)}
            >>> _, memories = model.encode_part(part)
            >>> outputs, _ = model.encode_part(part, memories)
            >>> outputs.shape, memories["block_0"].shape
            ((1, 3, 8), (1, 3, 8))

        Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860, section 3.2.
        """
        arrays = {name: inputs[name] for name in ("token_ids", "padding_mask", "segment_ids") if name in inputs}
        arrays |= {} if memories is None else {"memories": memories}
        encoded = compiled_function(self, type(self)._encode_part)(arrays, memory_length=memory_length)
        return encoded.pop("outputs"), encoded

    def start(self, inputs: dict, length: int | None = None) -> dict:
        """Read `token_ids` (B, L), and return the state before the next token; see `RelativeTransformer.start`."""
        length = self.config.max_length if length is None else length
        return self.encoder.start(self.embedding(inputs["token_ids"]), length)

    def step(self, tokens, state: dict):
        """Read one token per beam, (B, K), and return logits (B, K, V) of the next one, the new state, and None."""
        embedded = self.embedding(tokens)
        outputs, state, scores = self.encoder.step(embedded, state, self.mask_embedding(embedded))
        return self._to_logits(outputs), state, scores
