"""`run_search`: search for texts with a model; its strategy, suppressed tokens, stop strings and length limits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_attention.data.tokenization.special_tokens import special_tokens_of
from keras_attention.data.tokenization.stop_strings import stop_table
from keras_attention.generation import Strategy
from keras_attention.generation.option_types import replace_options
from keras_attention.generation.search import SearchInputs, generate, search_fields


def check_strategy(strategy: Any, default: type) -> Any:
    """Return a strategy; `default()` if it is None.

    Args:
        strategy: an object of a subclass of `Strategy`, or None.
        default: the class of the default strategy.

    Raises:
        TypeError: `strategy` is something else, such as a class or a name.

    Example:
        >>> check_strategy(None, ka.Greedy) == ka.Greedy()
        True
    """
    if strategy is not None and not isinstance(strategy, Strategy):
        shown = strategy.__name__ if isinstance(strategy, type) else repr(strategy)
        raise TypeError(f"`strategy` is {shown}; expected an object, such as ka.{default.__name__}().")
    return default() if strategy is None else strategy


def input_reader_for(model: Any, strategy: Strategy | None) -> Any:
    """Return the `input_reader` of a model; a language model with learned positions leaves room for the new tokens.

    These are the `max_new_tokens` of the strategy, or else its `min_new_tokens`.

    Raises:
        ValueError: the new tokens leave no room for a prompt.
    """
    reader, max_length = model.input_reader, model.config.max_length
    if strategy is None or "target_ids" in model.input or model.config.positions != "learned":
        return reader
    new_tokens = strategy.max_new_tokens or strategy.min_new_tokens + 1
    if new_tokens >= max_length:
        name, limit = ("min", max_length - 2) if strategy.max_new_tokens is None else ("max", max_length - 1)
        raise ValueError(
            f"`{name}_new_tokens` is {getattr(strategy, f'{name}_new_tokens')}, but this model reads at most "
            f"{max_length} tokens, including the prompt; expected at most {limit}."
        )
    return dataclasses.replace(reader, max_length=reader.max_length - new_tokens + 1)


def suppress_special(strategy: Strategy, tokenizer: Any) -> Strategy:
    """Return a strategy that also suppresses special tokens; see `SpecialTokens.suppress_tokens`.

    With `replace_unknown`, the unknown token is allowed, because a translator replaces it.
    """
    special = special_tokens_of(tokenizer)
    ids = [i for i in special.suppress_tokens if not (strategy.replace_unknown and i == special.unknown)]
    tokens = strategy.suppress_tokens  # a tensor in a compiled search, if there are some
    both = (*tokens, *ids) if isinstance(tokens, tuple) else ops.concatenate([tokens, np.array(ids, "int32")])
    return replace_options(strategy, {"suppress_tokens": both})


def search_inputs(
    strategy: Strategy, tokenizer: Any, vocabulary_size: int, limits, seeds, prefix_ids=None, prefix_mask=None
) -> dict:
    """Return the fields of `SearchInputs`, without `start_ids`.

    Args:
        strategy: the search strategy.
        tokenizer: the tokenizer of the generated texts.
        vocabulary_size: V, the number of logits.
        limits: (B,) int, from `limit_lengths`.
        seeds: (B,) int.
        prefix_ids, prefix_mask: (B, L), the tokens with which the texts begin; None for none.

    Returns:
        dict of the arguments of `search_fields`, with (B, T) prefixes, and of `stop_table` if there are stop strings.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["to be"], "characters")
        >>> inputs = search_inputs(ka.Greedy(stop=["."]), tokenizer, 11, limits=np.array([3]), seeds=np.array([0]))
        >>> sorted(inputs)
        ['limits', 'prefix_ids', 'prefix_mask', 'seeds', 'stop_table']
    """
    if prefix_ids is None:
        prefix_ids = prefix_mask = ops.expand_dims(seeds, 1)[:, :0]
    fields = search_fields(limits, seeds, prefix_ids, prefix_mask)
    return {**fields, "stop_table": stop_table(tokenizer, strategy.stop, vocabulary_size)} if strategy.stop else fields


def limit_lengths(default, strategy: Strategy, max_length: int | None, prompt_lengths=0):
    """Return the maximum number of tokens of each text, (B,).

    Args:
        default: (B,) int, the limits without `max_new_tokens`; `min_new_tokens` may increase them.
        strategy: the search strategy.
        max_length: the number of tokens that the model can read; None if it has no limit.
        prompt_lengths: (B,) int, the number of tokens of each prompt, which the limits count too.

    Example:
        >>> strategy, prompt_lengths = ka.Greedy(max_new_tokens=4), np.array([2, 5])
        >>> limits = limit_lengths(np.array([7, 7]), strategy, max_length=7, prompt_lengths=prompt_lengths)
        >>> keras.ops.convert_to_numpy(limits).tolist()
        [6, 7]
    """
    if strategy.max_new_tokens is None:
        limits = ops.maximum(default, prompt_lengths + strategy.min_new_tokens + 1)
    else:
        limits = ops.zeros_like(default) + prompt_lengths + strategy.max_new_tokens
    return limits if max_length is None else ops.minimum(limits, max_length)


def run_search(model: Any, inputs: dict, strategy: Strategy, tokenizer: Any) -> dict:
    """Search for the best texts of a model, which contain no special tokens.

    Args:
        model: see `generate`.
        inputs: dict of the fields of `SearchInputs` and of tensors for `model.start`. Without `start_ids`, a text
            begins after the start token.
        strategy: the search strategy.
        tokenizer: the tokenizer of the texts.

    Returns:
        the results of `generate`.
    """
    special = special_tokens_of(tokenizer)
    fields = {name: inputs[name] for name in SearchInputs._fields if name in inputs}
    fields.setdefault("start_ids", ops.zeros_like(inputs["limits"]) + special.start)
    encoder_inputs = {name: value for name, value in inputs.items() if name not in fields}
    strategy = suppress_special(strategy, tokenizer)
    return generate(model, encoder_inputs, strategy, SearchInputs(**fields), special.end)
