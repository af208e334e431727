"""Text generation: one decoding loop, with greedy search, beam search and sampling as strategies."""

from keras_attention.generation.compiled import CompiledFunction
from keras_attention.generation.decode import best_hypotheses, decode, search_inputs
from keras_attention.generation.strategies import BeamSearch, Greedy, Sampling, Strategy

__all__ = [
    "BeamSearch",
    "CompiledFunction",
    "Greedy",
    "Sampling",
    "Strategy",
    "best_hypotheses",
    "decode",
    "search_inputs",
]
