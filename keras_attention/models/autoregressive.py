"""`AutoregressiveLM`: continue prompts from left to right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.generation import Strategy
from keras_attention.outputs import Completion
from keras_attention.prediction.detokenizer import hypothesis_outputs
from keras_attention.prediction.encoded_inputs import EncodedTexts, check_texts
from keras_attention.prediction.run_batches import predict_outputs
from keras_attention.prediction.run_search import (
    check_strategy,
    input_reader_for,
    limit_lengths,
    run_search,
    search_inputs,
)


class AutoregressiveLM:
    """Mixin of `CausalLM` and `PermutationLM`; reads `self.spec`, `self.config` and `self.tokenizer` of `Task`.

    It continues prompts from left to right. A subclass has the methods `start` and `step`; see `DecoderSteps`.
    """

    tokenizer: Any
    config: RecurrentConfig | TransformerConfig
    _reads_padding = True  # whether `start` takes prompts of different lengths

    def complete(
        self, prompts: Iterable[str], strategy: Strategy | None = None, batch_size: int = 32
    ) -> list[Completion]:
        """Continue texts, from left to right.

        Args:
            prompts: strings. For an empty prompt, the model reads only the start token. A prompt may have
                `config.max_length` - 1 tokens; with learned positions, `config.max_length` - `max_new_tokens`. A longer
                prompt loses its first tokens, and one warning counts such prompts.
            strategy: `Sampling()` (default), `Greedy()` or `BeamSearch(...)`. Its `max_new_tokens` limits the tokens
                after the prompt; by default, prompt and continuation together have at most `config.max_length` tokens.
                Prompt i uses the seed `strategy.seed + i`.
            batch_size: number of prompts in a batch; it does not change the result.

        Returns:
            one `Completion` per prompt, in order.

        Raises:
            TypeError: `prompts` is one string, or contains other types than strings.
            ValueError: the positions are learned, and the new tokens leave no room for a prompt.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
            >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
            >>> model.complete(["to "], ka.Greedy(max_new_tokens=5))[0].text.startswith("to ")
            True
        """
        prompts, strategy = check_texts(prompts), check_strategy(strategy, self.spec.default_strategy)
        inputs = EncodedTexts.encode(input_reader_for(self, strategy), prompts, multiple=1)
        return predict_outputs(self, inputs, prompts, batch_size, strategy=strategy)

    @property
    def input_reader(self) -> TextReader:
        """The `TextReader` of prompts. It keeps one position free for the first new token."""
        return TextReader.for_prompts(self.tokenizer, self.config.max_length, self.config.template)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return `token_ids` and `padding_mask` (B, S) of the prompts."""
        ids, mask = batch.arrays()
        return {"token_ids": ids, "padding_mask": mask}

    def _length_limits(self, prompt_lengths, strategy: Strategy):
        """Return the maximum number of tokens of prompt and continuation together, (B,)."""
        max_length = self.config.max_length
        limit = max_length if self.config.positions == "learned" else None
        return limit_lengths(ops.zeros_like(prompt_lengths) + max_length, strategy, limit, prompt_lengths)

    def _prepare(self, inputs: dict, strategy: Strategy) -> dict:
        """Split each prompt into tokens that the network reads in one call and tokens that the search forces.

        Args:
            inputs: dict of `token_ids` (B, S) int, the prompts; `padding_mask` (B, S) bool; and `seeds` (B,) int.
            strategy: the search strategy.

        Returns:
            dict of the inputs of `_compute`, with the length limits of the search.
        """
        ids, mask = inputs["token_ids"], inputs["padding_mask"]
        lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        padded = self._reads_padding and keras.backend.backend() == "tensorflow"
        num_read = ops.maximum((ops.max(lengths) if padded else ops.min(lengths)) - 1, 0)  # without the last token
        if keras.backend.backend() == "jax":
            num_read = int(num_read) // 8 * 8  # JAX compiles each shape
        limits = self._length_limits(lengths - 1, strategy)
        vocabulary_size, seeds, prefix = self.config.vocabulary_size, inputs["seeds"], (ids[:, 1:], mask[:, 1:])
        search = search_inputs(strategy, self.tokenizer, vocabulary_size, limits, seeds, *prefix)
        read = {"token_ids": ids[:, :num_read], "padding_mask": mask[:, 1 : num_read + 1]}
        return {**read, "start_ids": ids[:, 0], **search}

    def _compute(self, inputs: dict, strategy: Strategy) -> dict:
        """Search for continuations.

        Args:
            inputs: dict of tensors, from `_prepare`.
            strategy: the search strategy.

        Returns:
            dict of `tokens` (B, N, T), the prompt without its first token and the continuation; `lengths` and
            `final_scores` (B, N), best first; `new_tokens` (B, N, T), the continuation, and its mask `is_written`.
        """
        hypotheses = run_search(self, inputs, strategy, self.tokenizer)
        steps = ops.arange(ops.shape(hypotheses["tokens"])[2])
        prefix_lengths = ops.reshape(ops.sum(ops.cast(inputs["prefix_mask"], "int32"), axis=1), (-1, 1, 1))
        positions = ops.minimum(steps + prefix_lengths, ops.maximum(ops.shape(steps)[0] - 1, 0))
        new_tokens = ops.take_along_axis(hypotheses["tokens"], positions, axis=2)
        is_written = steps < ops.expand_dims(hypotheses["lengths"], -1) - prefix_lengths
        return {**hypotheses, "new_tokens": new_tokens, "is_written": is_written}

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `text` and `score` (B,), and `pieces` (B, T) of the continuation; see `hypothesis_outputs`."""
        detokenizer, tokens = detokenizers["tokenizer"], computed["tokens"]
        texts = detokenizer.continuations(strings, inputs, tokens, computed["lengths"])
        pieces = detokenizer.pieces(computed["new_tokens"], computed["is_written"])
        return hypothesis_outputs(detokenizer, texts, pieces, computed)
