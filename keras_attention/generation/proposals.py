"""The proposal of a strategy at a step: the next active hypotheses, and those that finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

NEVER = -1e9  # log-probability of a forbidden token; sums of it remain finite in float32
BELOW_NEVER = 2 * NEVER  # lower than a continuation with one forbidden token
NO_HYPOTHESIS = 3 * NEVER  # final score of an unused entry, lower than every other one


def is_possible(log_probs):
    """Return whether each hypothesis has no forbidden token.

    Args:
        log_probs: total log-probabilities, of any shape; `NEVER` is added for each forbidden token.

    Returns:
        booleans of the same shape.

    Example:
        >>> is_possible(np.array([-7.0, NEVER - 7.0])).tolist()
        [True, False]
    """
    return log_probs > NEVER / 2


Ends = Callable[[Any, Any], Any]


class Proposal(NamedTuple):
    """The choice of one step for each of B inputs: K active hypotheses, and J hypotheses that finish.

    Unused entries have a log-probability of `NEVER` or less.
    """

    parents: Any  # (B, K) the beam that each active hypothesis extends
    tokens: Any  # (B, K) its new token
    log_probs: Any  # (B, K) its total log-probability
    finished_parents: Any  # (B, J) the beam that each finished hypothesis extends
    finished_tokens: Any  # (B, J) its last token
    finished_log_probs: Any  # (B, J) its total log-probability
