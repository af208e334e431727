"""What all language models that write from left to right share: the methods that continue prompts.

`CausalLM` and `PermutationLM` have these functions as their methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.data.text_reader import TextReader
from keras_attention.data.tokenizers import special_ids
from keras_attention.generation import Sampling, Strategy, decode, search_inputs
from keras_attention.models.arguments import has_learned_positions
from keras_attention.models.inference import check_texts, run_batches, text_row
from keras_attention.outputs import Completion


def complete(
    self: Any, prompts: Iterable[str], strategy: Strategy | None = None, batch_size: int = 32
) -> list[Completion]:
    """Continue texts, from left to right.

    Args:
        prompts: strings. Before an empty one the model reads its start token. Of a prompt that has more than
            `config.max_length` - 1 tokens the model reads the last ones; one warning counts such prompts.
        strategy: `Sampling()` (default), `Greedy()` or `BeamSearch(...)`. Its `max_new_tokens` counts the tokens after
            the prompt; by default a text fills `config.max_length`. Prompt i has the seed `strategy.seed + i`.
        batch_size: how many prompts are continued at once; it does not change the result.

    Returns:
        one `Completion` per prompt, in order.

    Raises:
        TypeError: `prompts` is one string, or has elements that are not strings.
    """
    prompts, strategy = check_texts(prompts), strategy or Sampling()
    reader = prompt_reader(self)
    rows = reader.ids(prompts)

    def compute(indices: np.ndarray) -> dict[str, Any]:
        ids, mask = reader.pad([rows[i] for i in indices])
        inputs = {"token_ids": ids, "padding_mask": mask, "seeds": strategy.seeds(indices)}
        return self.compute_row([prompts[i] for i in indices], inputs, strategy=strategy)

    found = run_batches([len(row) for row in rows], batch_size, compute)
    return [Completion.from_row(row, prompt) for row, prompt in zip(found, prompts, strict=True)]


def prompt_reader(self: Any) -> TextReader:
    """The reader of prompts."""
    return TextReader.for_prompts(self.tokenizer, self.config.max_length, self.template)


def length_limits(self: Any, prompt_lengths, strategy: Strategy):
    """Return the most tokens of prompt and continuation together, (B,); learned positions have no more."""
    longest = prompt_lengths * 0 + self.config.max_length
    if strategy.max_new_tokens is None:
        return longest
    wanted = prompt_lengths + strategy.max_new_tokens
    return ops.minimum(wanted, longest) if has_learned_positions(self.config) else wanted


def prepare(self: Any, inputs: dict, strategy: Strategy) -> dict:
    """Split prompts into what the network reads at once and what the search forces, and add the limits of the search.

    Args:
        inputs: dict of `token_ids` (B, S) int, prompts with the token before the first; `padding_mask` (B, S) bool; and
            `seeds` (B,) int.
        strategy: how to search.

    Returns:
        dict of the inputs of `compute`.
    """
    ids, mask = inputs["token_ids"], inputs["padding_mask"]
    lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
    num_read = ops.maximum(ops.min(lengths) - 1, 0)  # tokens before the last one that all prompts have
    if keras.backend.backend() == "jax":
        num_read = int(num_read) // 8 * 8  # JAX compiles each shape
    limits = self.length_limits(lengths - 1, strategy)
    search = search_inputs(limits, inputs["seeds"], ids[:, 1:], mask[:, 1:])
    return {"token_ids": ids[:, :num_read], "start_ids": ids[:, 0], **search}


def compute(self: Any, inputs: dict, strategy: Strategy) -> dict:
    """Search for continuations.

    Args:
        inputs: dict of tensors, from `prepare`.
        strategy: how to search.

    Returns:
        dict of `tokens` (B, N, T), which are the prompt after its first token and the continuation, `lengths` and
        `scores` (B, N), best first; and of the best `new_tokens` (B, T), the continuation, with `is_written` (B, T).
    """
    searched = dict(inputs)
    prompts = {"token_ids": searched.pop("token_ids")}
    found = decode(self, prompts, strategy, end_id=special_ids(self.tokenizer).end, **searched)
    steps = ops.arange(ops.shape(found["tokens"])[2])
    forced = ops.sum(ops.cast(inputs["prefix_mask"], "int32"), axis=1, keepdims=True)
    places = ops.minimum(steps + forced, ops.maximum(ops.shape(steps)[0] - 1, 0))
    new_tokens = ops.take_along_axis(found["tokens"][:, 0], places, axis=1)
    return {**found, "new_tokens": new_tokens, "is_written": steps < found["lengths"][:, :1] - forced}


def to_row(self: Any, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
    """Return `text` and `score` (B,), and `pieces` (B, T) of the continuation.

    With several hypotheses also `alternatives` and `alternative_scores` (B, N), best first.
    """
    detokenizer, tokens = detokenizers["tokenizer"], computed["tokens"]
    texts = detokenizer.continuations(strings, inputs, tokens, computed["lengths"])
    pieces = detokenizer.pieces(computed["new_tokens"], computed["is_written"])
    return {**text_row(texts, computed["scores"]), "pieces": pieces}
