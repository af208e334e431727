"""Text generation: one decoding loop, with greedy search, beam search and sampling as strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_attention.lazy import lazy_names

if TYPE_CHECKING:
    from keras_attention.generation.base_strategy import Strategy
    from keras_attention.generation.compiled_function import CompiledFunction
    from keras_attention.generation.strategies import BeamSearch, Greedy, Sampling

__getattr__ = lazy_names(
    __name__,
    {
        "compiled_function": "CompiledFunction",
        "search": "",
        "strategies": "BeamSearch Greedy Sampling",
        "base_strategy": "Strategy",
    },
)

__all__ = ["BeamSearch", "CompiledFunction", "Greedy", "Sampling", "Strategy"]
