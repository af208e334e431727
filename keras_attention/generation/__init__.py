"""One search over `step`: greedy, beam and sampling are strategies of one loop."""

from keras_attention.generation.compiled import Hypotheses, Program, SearchCache
from keras_attention.generation.decode import decode
from keras_attention.generation.strategies import BeamSearch, Greedy, Sampling, Strategy

__all__ = ["BeamSearch", "Greedy", "Hypotheses", "Program", "Sampling", "SearchCache", "Strategy", "decode"]
