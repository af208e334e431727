"""The base class of search strategies, with their common options.

A strategy chooses, from the log-probabilities of all continuations, which hypotheses stay active and which finish. It
uses neither the model nor the tokenizer; `search_loop.py` runs the loop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from keras_attention.argument_checks import missing_method, require, require_seed
from keras_attention.generation.option_types import convert_options, is_number
from keras_attention.generation.proposals import Ends, Proposal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """The base class of strategies, with their common options.

    The repetition penalty divides the positive logits of tokens that are already in the prompt or output, and
    multiplies the negative ones (Keskar et al.). A prefix does not count as new tokens. Special tokens are
    always suppressed. An output ends before its first stop string, but its `pieces` still contain the stop
    string. Without `replace_unknown`, no unknown token is generated.

    Args:
        max_new_tokens: maximum number of new tokens; None for the limit of the task, `Task.spec.default_limit_text`.
        min_new_tokens: minimum number of new tokens.
        no_repeat_ngram_size: forbid repeated n-grams of this size; 0 = off.
        repetition_penalty: repetition penalty for tokens that are in the prompt or output; 1 = off.
        suppress_tokens: token ids that are never generated.
        replace_unknown: replace each unknown token by the source word with the highest attention score.
        stop: end the output before the first occurrence of one of these strings.
        num_return_sequences: number of outputs per input (n-best list), N; outputs with equal texts are returned once.
        seed: seed of the random numbers; only `Sampling` uses it.

    Raises:
        TypeError: `stop` is one string, or an option has another type, such as 1.5 for a number of tokens.
        ValueError: `min_new_tokens` or `no_repeat_ngram_size` is negative, `max_new_tokens` is not over
            `min_new_tokens`, `repetition_penalty` is not positive or not finite, a string of `stop` is empty,
            `num_return_sequences` is below 1, or `seed` is outside 0 to 2^32 - 1.

    Example:
        >>> ka.BeamSearch(stop=["."]).stop  # BeamSearch is a Strategy
        ('.',)

    Reference: Keskar et al., 2019, https://arxiv.org/abs/1909.05858, section 4.1 (the repetition penalty).
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    suppress_tokens: tuple[int, ...] = ()
    replace_unknown: bool = False
    stop: tuple[str, ...] = ()
    num_return_sequences: int = 1
    seed: int = 0

    _inputs: ClassVar[tuple[str, ...]] = ("min_new_tokens", "repetition_penalty", "suppress_tokens")

    def __post_init__(self) -> None:
        convert_options(self)
        for name in ("min_new_tokens", "no_repeat_ngram_size"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        if self.max_new_tokens is not None and self.max_new_tokens <= max(self.min_new_tokens, 0):
            raise ValueError(
                f"`max_new_tokens` is {self.max_new_tokens}; expected more than {self.min_new_tokens} "
                "(`min_new_tokens`)."
            )
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"`repetition_penalty` is {self.repetition_penalty}; expected a finite number over 0, such as 1.2."
            )
        if not all(self.stop):
            raise ValueError(f"`stop` is {self.stop!r}; expected strings that are not empty.")
        self._check_num_return_sequences()
        require_seed(self.seed)

    def _check_num_return_sequences(self) -> None:
        require(self.num_return_sequences >= 1, "num_return_sequences", self.num_return_sequences, "1 or more")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the options whose values are inputs of a compiled search; a new value does not compile it again.

        A penalty that is off, and an empty `suppress_tokens`, are left out: the search is then compiled without them,
        and is faster.
        """
        defaults = self._defaults()
        kinds = {name: "float32" if isinstance(defaults[name], float) else "int32" for name in self._inputs}
        arrays = {name: np.asarray(getattr(self, name), kind) for name, kind in kinds.items()}
        tokens = arrays.pop("suppress_tokens")
        if len(tokens):
            arrays["suppress_tokens"] = np.resize(tokens, -(-len(tokens) // 8) * 8)  # repeats: JAX compiles each length
        if not self.penalizes_repetition:
            del arrays["repetition_penalty"]
        if not self.penalizes_coverage:
            arrays.pop("coverage_penalty", None)
        return arrays

    def constants(self) -> Strategy:
        """Return the options that a compiled search contains; the others have their defaults."""
        defaults, names = self._defaults(), (*self._inputs, "max_new_tokens", "stop", "seed")
        return dataclasses.replace(self, **{name: defaults[name] for name in names})

    def _defaults(self) -> dict[str, Any]:
        return {field.name: field.default for field in dataclasses.fields(self)}

    @property
    def penalizes_repetition(self) -> bool:
        """Whether there is a repetition penalty."""
        return not is_number(self.repetition_penalty, 1)

    @property
    def penalizes_coverage(self) -> bool:
        """Whether there is a coverage penalty."""
        return False

    @property
    def suppresses_tokens(self) -> bool:
        """Whether there are suppressed tokens."""
        return not (isinstance(self.suppress_tokens, tuple) and not self.suppress_tokens)

    @property
    def num_beams(self) -> int:
        """K, the number of active hypotheses."""
        return self.num_return_sequences

    @property
    def initial_log_probs(self) -> tuple[float, ...]:
        """The initial log-probabilities of the K hypotheses; `NEVER` for an unused beam."""
        return (0.0,) * self.num_beams

    def seeds(self, indices: Any) -> np.ndarray:
        """Return the seed of each text, (B,) int32: `seed` + the index of its input."""
        return (np.asarray(indices, "int64") + self.seed).astype("int32")

    def final_score(self, log_probs, length, coverage=None):
        """Return the final score, which ranks finished hypotheses; here, the log-probability."""
        return log_probs

    def num_candidates(self, vocabulary_size: int) -> int:
        """Return J, the number of the most probable tokens of each hypothesis from which `propose` chooses."""
        return 1

    def propose(self, totals, tokens, ends: Ends, uniform: Callable[[], Any]) -> Proposal:
        """Choose among the continuations of the hypotheses.

        Args:
            totals: (B, K, J) float32, the total log-probabilities of the J best continuations, best first.
            tokens: (B, K, J) int, their tokens.
            ends: a function from beams (B, J) and their new tokens (B, J) to (B, J) bool, True for a token that ends
                its hypothesis.
            uniform: a function that returns the random numbers of this step, (B, K) float32 in [0, 1).

        Returns:
            a `Proposal`.
        """
        raise missing_method(self, "propose")
