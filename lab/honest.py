"""The founding threshold rule on any labels: what timeouts change with everything else the same."""

from __future__ import annotations

import numpy as np

from lab.trade import BoolArray, FloatArray
from learning.labels import Payoff, payoff_of
from qscore.estimate import TOLERANCE
from qscore.isotonic import rising_means
from qscore.outcomes import TOP


def lowest_paying(scores: FloatArray, label: FloatArray, break_even: float) -> int:
    """Smallest whole score whose isotonic mean label reaches break-even; 100 when none does.

    Parameters
    ----------
    scores : ndarray of shape (n,), n >= 1, in [0, 100]
    label : ndarray of shape (n,), 0 and 1, or u on the same scale
    break_even : p_min, in [0, 1]

    Source: SPEC 7, with labels as STATISTICS 8.3 has them.
    """
    whole = np.floor(scores).astype(np.int64)
    counts = np.bincount(whole, minlength=TOP + 1)
    sums = np.bincount(whole, weights=label, minlength=TOP + 1)
    cells = np.flatnonzero(counts)
    curve = np.interp(np.arange(TOP + 1), cells, rising_means(sums[cells], counts[cells]))
    reached = np.flatnonzero(curve >= break_even - TOLERANCE)
    return int(reached[0]) if len(reached) > 0 else TOP


def specified_threshold(scores: FloatArray, won: BoolArray, decisive: BoolArray, net_r: FloatArray) -> int | None:
    """Threshold of the rule on wins and losses alone; none where W and L cannot be told."""
    payoff = payoff_of(net_r, won, decisive)
    if payoff is None:
        return None
    return lowest_paying(scores[decisive], won[decisive].astype(np.float64), payoff.break_even)


def honest_threshold(scores: FloatArray, won: BoolArray, decisive: BoolArray, net_r: FloatArray) -> int | None:
    """Threshold of the same rule on u, timeouts at their marks among the records."""
    payoff: Payoff | None = payoff_of(net_r, won, decisive)
    return None if payoff is None else lowest_paying(scores, payoff.label(net_r), payoff.break_even)
