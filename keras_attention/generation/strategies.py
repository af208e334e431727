"""Search strategies: greedy search, sampling and beam search."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from keras_attention.argument_checks import require, require_fraction
from keras_attention.generation.base_strategy import Strategy
from keras_attention.generation.option_types import is_number
from keras_attention.generation.proposals import BELOW_NEVER, NEVER, Ends, Proposal, is_possible
from keras_attention.lazy import LazyModule

_TOP_K_LIMITS = (128, 2048)  # a compiled search ranks this number of tokens, or all

ops = LazyModule("keras.ops")  # the options of the command line are read from here, without Keras
cache = LazyModule("keras_attention.layers.decoding.cache")


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

    Of the allowed tokens, sorted by probability, the first one is sampled whose cumulative probability is above u times
    their total probability. The random number u in [0, 1) is a hash of the seed, the step and the beam, so a seed gives
    the same text on every backend and in any batch. The `num_return_sequences` texts of an input are sampled
    independently; equal texts are returned once. The other options are those of `Strategy`.

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
    _num_kept: ClassVar[Any] = None  # in a compiled search, the value of `top_k`; the field is then an upper limit

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:  # also rejects NaN
            raise ValueError(
                f"`temperature` is {self.temperature}; expected a finite number over 0. For the most probable token at "
                "each step, use `Greedy()` (`--num-beams 1` on the command line)."
            )
        require_fraction("top_p", self.top_p)
        require(self.top_k >= 0, "top_k", self.top_k, "0 or more")

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
        logits = ops.where(is_possible(totals), (totals - totals[..., :1]) / self.temperature, NEVER)  # (B, K, J)
        if self._num_kept is not None:
            logits = ops.where(np.arange(logits.shape[-1]) < self._num_kept, logits, NEVER)
        probabilities = ops.softmax(logits, axis=-1)
        cumulative = ops.cumsum(probabilities, axis=-1)
        in_top_p = ops.logical_and(cumulative - probabilities < self.top_p, probabilities > 0)
        in_top_p = ops.cast(in_top_p, "float32")
        mass = ops.max(cumulative * in_top_p, axis=-1)  # the total probability of the allowed tokens, (B, K)
        passed = ops.cast(cumulative <= ops.expand_dims(uniform * mass, -1), "int32")  # 1 before the sampled token
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
        length_penalty: length penalty, a; 0 = off, larger values favour longer outputs.
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
        return not is_number(self.coverage_penalty, 0)

    def num_candidates(self, vocabulary_size: int) -> int:
        """Return J; see `Strategy.num_candidates`. Of 2 K candidates, at least K do not end."""
        return min(2 * self.num_beams, vocabulary_size)

    def propose(self, totals, tokens, ends: Ends, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        num_beams, count = totals.shape[1:]
        totals, tokens = (ops.reshape(x, (-1, num_beams * count)) for x in (totals, tokens))  # (B, K J)
        values, indices = ops.top_k(totals, min(2 * num_beams, num_beams * count))  # (B, 2 K), best first
        parents, tokens = indices // count, cache.gather_beams(tokens, indices)  # (B, 2 K)
        is_end = ends(parents, tokens)
        active_values, order = ops.top_k(ops.where(is_end, BELOW_NEVER, values), num_beams)
        finished = [array[:, :num_beams] for array in (parents, tokens, ops.where(is_end, values, NEVER))]
        return Proposal(cache.gather_beams(parents, order), cache.gather_beams(tokens, order), active_values, *finished)


def _follow(totals, tokens, ends: Ends) -> Proposal:
    """Extend each hypothesis by its token (B, K); a hypothesis whose token ends it leaves the search."""
    parents = ops.zeros_like(tokens) + np.arange(totals.shape[1], dtype="int32")
    is_end = ends(parents, tokens)
    active, finished = ops.where(is_end, NEVER, totals), ops.where(is_end, totals, NEVER)
    return Proposal(parents, tokens, active, parents, tokens, finished)


def _pick(values, indices):
    """Index the last axis: values (B, K, J) at indices (B, K) -> (B, K)."""
    beams, count = values.shape[1:]
    indices = indices + count * np.arange(beams, dtype="int32")
    return cache.gather_beams(ops.reshape(values, (-1, beams * count)), indices)
