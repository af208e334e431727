"""One search over `step`: greedy, beam and sampling are strategies of one loop."""

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
