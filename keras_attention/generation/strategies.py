"""Search strategies: greedy, beam search and sampling.

A strategy chooses, from the log-probabilities of all continuations, which hypotheses stay active and which finish. It
uses neither the model nor the tokenizer; `decode.py` runs the loop.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_attention.argument_checks import require_fraction
from keras_attention.generation.option_types import convert_options
from keras_attention.generation.proposals import BELOW_NEVER, NEVER, Ends, Proposal, is_possible
from keras_attention.lazy import LazyModule

_TOP_K_LIMITS = (128, 2048)  # a compiled search ranks that many tokens, or all

ops = LazyModule("keras.ops")  # the options of the command line are read from here, without Keras
cache = LazyModule("keras_attention.layers.decoding.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """The base class of strategies, with their common options.

    The repetition penalty divides the positive logits of tokens that are already in the prompt or output, and
    multiplies the negative ones (Keskar et al.). A prefix does not count as new tokens. Special tokens are
    always suppressed. An output ends before its first stop string, but its `pieces` still contain the stop
    string. Without `replace_unknown`, no unknown token is generated.

    Args:
        max_new_tokens: maximum number of new tokens; None for 2 S + 8 in a translation of S source tokens, and for as
            many as the model reads in other texts.
        min_new_tokens: minimum number of new tokens.
        no_repeat_ngram_size: forbid repeated n-grams of this size; 0 = off.
        repetition_penalty: repetition penalty for tokens already in the prompt or output; 1 = off.
        suppress_tokens: token ids that are never generated.
        replace_unknown: replace each unknown token by the source word with the highest attention score.
        stop: stop at one of these strings; the output does not include it.
        num_return_sequences: number of outputs per input (n-best list), without duplicates, N.
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
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected 0 or more.")
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
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` is {self.seed}; expected 0 to {2**32 - 1}.")

    def _check_num_return_sequences(self) -> None:
        if self.num_return_sequences < 1:
            raise ValueError(f"`num_return_sequences` is {self.num_return_sequences}; expected 1 or more.")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the options whose values are inputs of a compiled search, so that new values compile nothing.

        Without a penalty, or without suppressed tokens, the option is left out, which compiles a faster search.
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

    def with_arrays(self, arrays: dict[str, Any]) -> Strategy:
        """Return a copy with these fields, which may be tensors."""
        strategy = copy.copy(self)
        for name, value in arrays.items():
            object.__setattr__(strategy, name, value)
        return strategy

    def suppressing(self, tokens: Sequence[int]) -> Strategy:
        """Return a copy that also suppresses these tokens."""
        own, tokens = self.suppress_tokens, tuple(tokens)
        both = (*own, *tokens) if isinstance(own, tuple) else ops.concatenate([own, np.array(tokens, "int32")])
        return self.with_arrays({"suppress_tokens": both})

    @property
    def penalizes_repetition(self) -> bool:
        """Whether there is a repetition penalty."""
        return not _is_number(self.repetition_penalty, 1)

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
        raise NotImplementedError(f"{type(self).__name__} does not define `propose`.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(Strategy):
    """Greedy search: choose the most probable token at each step, y_t = argmax p(y | y_<t, x).

    The options are those of `Strategy`; `num_return_sequences` must be 1.

    Raises:
        ValueError: see `Strategy`.

    Example:
        >>> Greedy(max_new_tokens=7).num_beams
        1
    """

    def _check_num_return_sequences(self) -> None:
        if self.num_return_sequences != 1:
            raise ValueError(
                f"`num_return_sequences` is {self.num_return_sequences}; expected 1 for greedy search. "
                "`Sampling`, and `BeamSearch` with as many `num_beams`, can return more."
            )

    def propose(self, totals, tokens, ends: Ends, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        return _follow(totals[..., 0], tokens[..., 0], ends)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Strategy):
    """Sample each token from softmax(logits / temperature), restricted by `top_k` and `top_p`.

    The token is chosen by inverting the cumulative distribution over the tokens, most probable first, at a uniform
    random number. This number is a hash of the seed, the step and the beam, so that a seed gives the same text on every
    backend and in any batch. The `num_return_sequences` texts of an input are sampled independently, and a text that is
    sampled twice is returned once. The other options are those of `Strategy`.

    Args:
        temperature: sampling temperature; lower values give less random outputs.
        top_k: sample from the k most probable tokens; 0 = off.
        top_p: sample from the smallest set of tokens whose probabilities sum to at least p; 1 = off.

    Raises:
        ValueError: `temperature` is not positive, `top_k` is negative, or `top_p` is outside (0, 1]; see also
            `Strategy`.

    Example:
        >>> Sampling(temperature=0.7, top_k=5, seed=3).temperature
        0.7

    Reference: Holtzman et al., 2020, https://arxiv.org/abs/1904.09751 (top-p).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    _inputs: ClassVar[tuple[str, ...]] = (*Strategy._inputs, "temperature", "top_p")
    _num_kept: ClassVar[Any] = None  # the `top_k` of a compiled search, an input; its field is only an upper limit

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:  # also rejects NaN
            raise ValueError(
                f"`temperature` is {self.temperature}; expected a finite number over 0. For the most probable token at "
                "each step, use `Greedy()` (`--num-beams 1` on the command line)."
            )
        require_fraction("top_p", self.top_p)
        if self.top_k < 0:
            raise ValueError(f"`top_k` is {self.top_k}; expected 0 or more.")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the options that are inputs; see `Strategy.arrays`. `top_k` is one of them if it is not 0."""
        return super().arrays() | ({"_num_kept": np.asarray(self.top_k, "int32")} if self.top_k else {})

    def constants(self) -> Strategy:
        """Return the options that a search contains; see `Strategy.constants`. `top_k` is rounded up to few values."""
        limits = [limit for limit in _TOP_K_LIMITS if limit >= self.top_k]
        return dataclasses.replace(super().constants(), top_k=min(limits, default=0) if self.top_k else 0)

    def num_candidates(self, vocabulary_size: int) -> int:
        """Return J; see `Strategy.num_candidates`."""
        return min(self.top_k or vocabulary_size, vocabulary_size)

    def propose(self, totals, tokens, ends: Ends, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        sampled = self._sample(totals, uniform())
        return _follow(_pick(totals, sampled), _pick(tokens, sampled), ends)

    def _sample(self, totals, uniform):
        """Return the index of one sampled candidate per hypothesis, (B, K)."""
        logits = ops.where(is_possible(totals), (totals - totals[..., :1]) / self.temperature, NEVER)
        if self._num_kept is not None:
            logits = ops.where(np.arange(logits.shape[-1]) < self._num_kept, logits, NEVER)
        probabilities = ops.softmax(logits, axis=-1)
        cumulative = ops.cumsum(probabilities, axis=-1)
        in_top_p = ops.logical_and(cumulative - probabilities < self.top_p, probabilities > 0)
        in_top_p = ops.cast(in_top_p, "float32")
        mass = ops.max(cumulative * in_top_p, axis=-1)
        passed = ops.cast(cumulative <= ops.expand_dims(uniform * mass, -1), "int32")
        return ops.minimum(ops.sum(passed, axis=-1), ops.cast(ops.sum(in_top_p, axis=-1), "int32") - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch(Strategy):
    """Beam search: keep the K most probable active hypotheses at each step, and the N best finished hypotheses.

    A finished hypothesis leaves the beam. Its final score is

        s(y) = log p(y | x) / ((5 + |y|) / 6)^a  +  b sum_i log min(sum_t attention[t, i], 1)

    with the length penalty a and the coverage penalty b. |y| includes the end token, but not the prefix. The search
    ends when no active hypothesis can become one of the N best. The other options are those of `Strategy`.

    Args:
        num_beams: number of beams, K.
        length_penalty: length penalty, a; 0 = off, larger favours longer outputs.
        coverage_penalty: coverage penalty, b; 0 = off. It needs a model with attention.

    Raises:
        ValueError: `num_beams` is below 1, `num_return_sequences` is outside 1 to `num_beams`, or a penalty is negative
            or not finite; see also `Strategy`.

    Example:
        >>> BeamSearch(num_beams=5, length_penalty=1.0).num_beams
        5

    Reference: Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 7.
    """

    num_beams: int = 4
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0

    _inputs: ClassVar[tuple[str, ...]] = (*Strategy._inputs, "length_penalty", "coverage_penalty")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.length_penalty < math.inf and 0 <= self.coverage_penalty < math.inf):
            raise ValueError(
                f"`length_penalty` is {self.length_penalty} and `coverage_penalty` {self.coverage_penalty}; expected "
                "finite numbers, 0 or more."
            )

    def _check_num_return_sequences(self) -> None:
        if self.num_beams < 1 or not 1 <= self.num_return_sequences <= self.num_beams:
            raise ValueError(
                f"`num_beams` is {self.num_beams} and `num_return_sequences` {self.num_return_sequences}; "
                "expected 1 <= num_return_sequences <= num_beams."
            )

    @property
    def initial_log_probs(self) -> tuple[float, ...]:
        """The initial log-probabilities of the K hypotheses; `NEVER` for all beams but the first."""
        return (0.0,) + (NEVER,) * (self.num_beams - 1)

    def final_score(self, log_probs, length, coverage=None):
        """Return the final score s(y).

        With the maximum `length` and no `coverage`, it is an upper bound of the final scores of all continuations.

        Args:
            log_probs: (B, J) total log-probabilities.
            length: number of tokens including the end token, broadcastable to (B, J).
            coverage: (B, J, S), for each source position the sum of its attention scores over the steps; 1 at padding,
                so that padding has no penalty. None without attention.

        Returns:
            (B, J) float32.
        """
        score = log_probs / ((5.0 + ops.cast(length, "float32")) / 6.0) ** self.length_penalty
        if coverage is None:
            return score
        return score + self.coverage_penalty * ops.sum(ops.log(ops.clip(coverage, 1e-6, 1.0)), axis=-1)

    @property
    def penalizes_coverage(self) -> bool:
        """Whether there is a coverage penalty."""
        return not _is_number(self.coverage_penalty, 0)

    def num_candidates(self, vocabulary_size: int) -> int:
        """Return J; see `Strategy.num_candidates`. Of 2 K candidates, at least K do not end."""
        return min(2 * self.num_beams, vocabulary_size)

    def propose(self, totals, tokens, ends: Ends, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        num_beams, count = totals.shape[1:]
        totals, tokens = (ops.reshape(x, (-1, num_beams * count)) for x in (totals, tokens))
        values, indices = ops.top_k(totals, min(2 * num_beams, num_beams * count))  # best first
        parents, tokens = indices // count, cache.gather_beams(tokens, indices)
        is_end = ends(parents, tokens)
        active_values, order = ops.top_k(ops.where(is_end, BELOW_NEVER, values), num_beams)
        finished = [array[:, :num_beams] for array in (parents, tokens, ops.where(is_end, values, NEVER))]
        return Proposal(cache.gather_beams(parents, order), cache.gather_beams(tokens, order), active_values, *finished)


def _follow(totals, tokens, ends: Ends) -> Proposal:
    """Extend each hypothesis by its token; a hypothesis whose token ends it leaves the search."""
    parents = ops.zeros_like(tokens) + np.arange(totals.shape[1], dtype="int32")
    is_end = ends(parents, tokens)
    active, finished = ops.where(is_end, NEVER, totals), ops.where(is_end, totals, NEVER)
    return Proposal(parents, tokens, active, parents, tokens, finished)


def _pick(values, indices):
    """Index the last axis: values (B, K, J) at indices (B, K) -> (B, K)."""
    beams, count = values.shape[1:]
    offsets = count * np.arange(beams, dtype="int32")
    return cache.gather_beams(ops.reshape(values, (-1, beams * count)), indices + offsets)


def _is_number(value, number: float) -> bool:
    """Return whether an option is this number, and not a tensor."""
    return isinstance(value, (int, float)) and value == number
