"""Text generation: one decoding loop, with greedy search, beam search and sampling as strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_attention.lazy import lazy_names

if TYPE_CHECKING:
    from keras_attention.generation.compiled import CompiledFunction
    from keras_attention.generation.strategies import BeamSearch, Greedy, Sampling
    from keras_attention.generation.strategy import Strategy

__getattr__ = lazy_names(
    __name__,
    {
        "compiled": "CompiledFunction",
        "decode": "",
        "strategies": "BeamSearch Greedy Sampling",
        "strategy": "Strategy",
    },
)

__all__ = ["BeamSearch", "CompiledFunction", "Greedy", "Sampling", "Strategy"]
