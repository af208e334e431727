"""How a search chooses: greedily, with a beam, or by chance.

A strategy sees the log-probabilities of every continuation and proposes which hypotheses go on and
which end here. It knows no model and no tokenizer; `decode.py` runs the loop.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from keras import ops

NEVER = -1e9  # a log-probability that nothing real reaches, and that float32 can add up


class Proposal(NamedTuple):
    """What one step chose, for each of B rows: K hypotheses that go on and C that may end here.

    A hypothesis that does not exist has a log-probability of `NEVER` or less.
    """

    parents: Any  # (B, K) which beam each open hypothesis extends
    tokens: Any  # (B, K) by which token
    log_probs: Any  # (B, K) its total log-probability
    ended_parents: Any  # (B, C) which beam each ended hypothesis extends, by the end token
    ended_log_probs: Any  # (B, C) its total log-probability


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """What every strategy can be asked for.

    Args:
        max_length: the most tokens of an answer; None lets the model decide.
        min_length: the fewest tokens before the end token, not counting a forced prefix.
        no_repeat_ngram: no n-gram of this length occurs twice in an answer; 0 allows all.
        suppress: ids of tokens that are never written.
        seed: where chance begins; only `Sampling` uses it.

    Raises:
        ValueError: a negative length, a minimum over the maximum, or a seed outside 0 to 2^32 - 1.
    """

    max_length: int | None = None
    min_length: int = 0
    no_repeat_ngram: int = 0
    suppress: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_length", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected 0 or more.")
        if self.max_length is not None and self.max_length <= max(self.min_length, 0):
            raise ValueError(f"`max_length` is {self.max_length}; expected more than `min_length`, {self.min_length}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` is {self.seed}; expected 0 to {2**32 - 1}.")
        object.__setattr__(self, "suppress", tuple(self.suppress))

    @property
    def beams(self) -> int:
        """K, the hypotheses that are open at once."""
        return 1

    @property
    def answers(self) -> int:
        """N, the hypotheses that are returned."""
        return 1

    @property
    def initial_log_probs(self) -> tuple[float, ...]:
        """Where the K hypotheses begin: 0, or `NEVER` for a beam that is not yet one."""
        return (0.0,) * self.beams

    def final_score(self, log_probs, length, coverage=None):
        """Rank ended hypotheses; here by their log-probability."""
        return log_probs

    def propose(self, totals, end_id, uniform) -> Proposal:
        """Choose among the continuations of each hypothesis.

        Args:
            totals: (B, K, V) float32, the total log-probability of each continuation.
            end_id: (B, 1), the token that ends a text, or -1 where none does.
            uniform: (B, K) float32 in [0, 1), this step's chance.

        Returns:
            a `Proposal`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `propose`.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(Strategy):
    """Take the likeliest token at each step: y_t = argmax p(y | y_<t, x).

    Args: those of `Strategy`.

    Example:
        >>> Greedy(max_length=7).beams
        1
    """

    def propose(self, totals, end_id, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        return _follow(totals, ops.argmax(totals, axis=-1), end_id)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Strategy):
    """Draw each token from softmax(logits / temperature), cut to the likeliest.

    One number in [0, 1) per step decides, by inverting the cumulative distribution over the tokens
    in order of probability. It is a hash of the seed and the step, so the same seed gives the same
    text on every backend, and in any batch.

    Args:
        temperature: below 1 sharpens, above 1 flattens.
        top_k: keep only the k likeliest tokens; 0 keeps all.
        top_p: keep the fewest likeliest tokens whose probabilities reach p; 1.0 keeps all.
        samples: N, how many independent texts to draw for each input.

    Raises:
        ValueError: a temperature that is not positive, or `top_p` outside (0, 1].

    Example:
        >>> Sampling(temperature=0.7, top_k=5, seed=3).temperature
        0.7

    Reference: Holtzman et al., 2020, https://arxiv.org/abs/1904.09751 (top-p).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    samples: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:  # nor NaN
            raise ValueError(
                f"`temperature` is {self.temperature}; expected more than 0. `Greedy()` (--beam 1) is its limit."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` is {self.top_p}; expected a number in (0, 1].")
        if self.top_k < 0 or self.samples < 1:
            raise ValueError(f"`top_k` is {self.top_k} and `samples` {self.samples}; expected >= 0 and >= 1.")

    @property
    def beams(self) -> int:
        """K, the hypotheses that are open at once."""
        return self.samples

    @property
    def answers(self) -> int:
        """N, the hypotheses that are returned."""
        return self.samples

    def propose(self, totals, end_id, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        return _follow(totals, self._draw(totals, uniform), end_id)

    def _draw(self, totals, uniform):
        """Return (B, K) tokens drawn with the chance (B, K)."""
        count = min(self.top_k or totals.shape[-1], totals.shape[-1])
        values, tokens = ops.top_k(totals, count)
        probabilities = ops.softmax((values - values[..., :1]) / self.temperature, axis=-1)
        cumulative = ops.cumsum(probabilities, axis=-1)
        likeliest = ops.logical_and(cumulative - probabilities < self.top_p, probabilities > 0)
        kept = ops.cast(likeliest, "float32")
        mass = ops.max(cumulative * kept, axis=-1)
        reached = ops.cast(cumulative <= ops.expand_dims(uniform * mass, -1), "int32")
        chosen = ops.minimum(ops.sum(reached, axis=-1), ops.cast(ops.sum(kept, axis=-1), "int32") - 1)
        return _pick(tokens, chosen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch(Strategy):
    """Keep the K likeliest open hypotheses at each step, and the N best that have ended.

    An ended hypothesis leaves the beam and is frozen with the score

        s(y) = log p(y | x) / ((5 + |y|) / 6)^a  +  b sum_i log min(sum_t attention[t, i], 1)

    with a the length penalty and b the coverage penalty. |y| counts the end token, and not what was forced.
    The search ends as soon as no open hypothesis could still enter the N best.

    Args:
        width: K.
        length_penalty: a; 0 compares bare log-probabilities, more favours longer texts.
        coverage_penalty: b; needs a model with attention.
        n_best: N, at most `width`.

    Raises:
        ValueError: a width below 1, `n_best` outside 1 to `width`, or a penalty that is negative or not finite.

    Example:
        >>> BeamSearch(width=5, length_penalty=1.0).beams
        5

    Reference: Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 7.
    """

    width: int = 4
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0
    n_best: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or not 1 <= self.n_best <= self.width:
            raise ValueError(f"`width` is {self.width} and `n_best` {self.n_best}; expected 1 <= n_best <= width.")
        if not (0 <= self.length_penalty < math.inf and 0 <= self.coverage_penalty < math.inf):
            raise ValueError(
                f"`length_penalty` is {self.length_penalty} and `coverage_penalty` {self.coverage_penalty}; expected "
                "finite numbers, 0 or more."
            )

    @property
    def beams(self) -> int:
        """K, the hypotheses that are open at once."""
        return self.width

    @property
    def answers(self) -> int:
        """N, the hypotheses that are returned."""
        return self.n_best

    @property
    def initial_log_probs(self) -> tuple[float, ...]:
        """Where the K hypotheses begin: one is real."""
        return (0.0,) + (NEVER,) * (self.width - 1)

    def final_score(self, log_probs, length, coverage=None):
        """Return s(y); an upper bound for all continuations when `length` is the longest possible.

        Args:
            log_probs: (B, C) total log-probabilities.
            length: tokens including the end, broadcastable to (B, C).
            coverage: (B, C, S) attention summed over time, 1 at padding; None counts as complete.
        """
        score = log_probs / ((5.0 + ops.cast(length, "float32")) / 6.0) ** self.length_penalty
        if not self.coverage_penalty or coverage is None:
            return score
        covered = ops.log(ops.clip(coverage, 1e-6, 1.0))
        return score + self.coverage_penalty * ops.sum(covered, axis=-1)

    def propose(self, totals, end_id, uniform):
        """Choose among the continuations; see `Strategy.propose`."""
        beams, vocabulary = totals.shape[1:]
        flat = ops.reshape(totals, (-1, beams * vocabulary))
        values, indices = ops.top_k(flat, min(2 * beams, beams * vocabulary))  # best first
        parents, tokens = indices // vocabulary, indices % vocabulary
        ends = ops.equal(tokens, end_id)
        in_beam = ops.arange(values.shape[1]) < beams
        ended = ops.where(ops.logical_and(ends, in_beam), values, NEVER)[:, :beams]
        open_values, order = ops.top_k(ops.where(ends, 2 * NEVER, values), beams)
        return Proposal(_take(parents, order), _take(tokens, order), open_values, parents[:, :beams], ended)


def _follow(totals, tokens, end_id) -> Proposal:
    """Let every hypothesis go on by its own token; the one that wrote the end token ends."""
    values = _pick(totals, tokens)
    ends = ops.equal(tokens, end_id)
    parents = ops.zeros_like(tokens) + ops.arange(totals.shape[1], dtype=tokens.dtype)
    return Proposal(parents, tokens, ops.where(ends, NEVER, values), parents, ops.where(ends, values, NEVER))


def _pick(values, indices):
    """(B, K, V) at (B, K) -> (B, K)."""
    return ops.squeeze(ops.take_along_axis(values, ops.expand_dims(indices, -1), axis=-1), -1)


def _take(values, indices):
    """(B, C) at (B, K) -> (B, K)."""
    return ops.take_along_axis(values, indices, axis=1)
