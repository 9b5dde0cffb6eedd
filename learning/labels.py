"""What an outcome counts as, and for how much: labels on the scale of a win probability, cohorts, weights.

The seed label knows a win and a loss and nothing else. A position that its deadline ended is worth what the market
would have paid for it, and an outcome that shares its time with nine others is not ten outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qscore.estimate import break_even

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

DAY_MS = 86_400_000
LEAST_WEIGHT = 1e-6
ENOUGH_OF_EACH = 5
"""Wins and losses a market situation needs before W and L are its own (STATISTICS 1.2)."""


@dataclass(frozen=True, slots=True)
class Payoff:
    """What a win brings and a loss costs on average: ``win_r`` and ``loss_r`` in R, net, both positive.

    Raises
    ------
    ValueError : if their sum is not positive and finite
    """

    win_r: float
    loss_r: float

    def __post_init__(self) -> None:
        if not 0.0 < self.win_r + self.loss_r < math.inf:
            raise ValueError("a win must bring more than a loss does")

    @property
    def break_even(self) -> float:
        """Win probability at which both pay for each other, in [0, 1]."""
        return break_even(self.win_r, self.loss_r)

    def label(self, net_r: FloatArray) -> FloatArray:
        """Results on the scale of a win probability: u = (R + L) / (W + L), unclipped.

        Parameters
        ----------
        net_r : ndarray of shape (n,), in R after costs; of a timeout that of its mark price

        Returns
        -------
        ndarray of shape (n,), unitless: 1 for a win of size W, 0 for a loss of size L, p_min for a result of 0.
        Mean u >= p_min exactly when mean R >= 0; clipping would break that as soon as payoffs vary.

        Source: STATISTICS 8.3.
        """
        return (net_r + self.loss_r) / (self.win_r + self.loss_r)


def payoff_of(net_r: FloatArray, won: BoolArray, decisive: BoolArray, *, enough: int = 1) -> Payoff | None:
    """W and L of decisive outcomes as SPEC 7 defines them; none when they cannot be told.

    Parameters
    ----------
    net_r : ndarray of shape (n,), in R after costs
    won, decisive : ndarray of bool, shape (n,)
    enough : wins and losses needed of each

    Raises
    ------
    ValueError : if the shapes differ
    """
    if not net_r.shape == won.shape == decisive.shape:
        raise ValueError("one result, one outcome and one kind of ending for each record")
    wins, losses = net_r[decisive & won], net_r[decisive & ~won]
    if min(len(wins), len(losses)) < enough:
        return None
    # Exactly rounded sums, as in the threshold rule: the order of the records must not move a label.
    win, loss = math.fsum(wins.tolist()) / len(wins), -math.fsum(losses.tolist()) / len(losses)
    return Payoff(win, loss) if win > 0.0 and loss > 0.0 else None


def honest_labels(
    net_r: FloatArray,
    won: BoolArray,
    decisive: BoolArray,
    buckets: Sequence[str | None],
    *,
    enough: int = ENOUGH_OF_EACH,
) -> FloatArray | None:
    """Labels u of decisive outcomes and timeouts, W and L per market situation, over all where it has too few.

    Parameters
    ----------
    net_r : ndarray of shape (n,), in R after costs; of a timeout that of its mark price
    won, decisive : ndarray of bool, shape (n,)
    buckets : sequence of length n, ``session|volatility`` or none
    enough : wins and losses a situation needs of each for W and L of its own

    Returns
    -------
    ndarray of shape (n,), unitless and unclipped; none when not even all records together tell W and L

    Raises
    ------
    ValueError : if the shapes differ

    Source: STATISTICS 1.2 and 8.3.
    """
    if len(buckets) != len(net_r):
        raise ValueError("one bucket for each record")
    whole = payoff_of(net_r, won, decisive)
    if whole is None:
        return None
    label = whole.label(net_r)
    names = np.array(["" if name is None else name for name in buckets], dtype=np.str_)
    for name in np.unique(names[names != ""]):
        inside = names == name
        own = payoff_of(net_r[inside], won[inside], decisive[inside], enough=enough)
        if own is not None:
            label[inside] = own.label(net_r[inside])
    return label


@dataclass(frozen=True, slots=True)
class Bounds:
    """Mean net R if every ambiguous candle went to the stop first, and if to the target first."""

    stop_first_r: float
    target_first_r: float

    def holds(self, value_r: float) -> bool:
        """Whether a value lies between the two, a rounding error aside."""
        slack = 1e-9 * max(1.0, abs(self.stop_first_r), abs(self.target_first_r))
        return self.stop_first_r - slack <= value_r <= self.target_first_r + slack


def ambiguity_bounds(stop_first_r: FloatArray, target_first_r: FloatArray, ambiguous: BoolArray) -> Bounds:
    """What the unknown order of stop and target inside one candle can change of a mean.

    Parameters
    ----------
    stop_first_r : ndarray of shape (n,), results in R as recorded: an ambiguous candle is a loss
    target_first_r : ndarray of shape (n,), what each would have made at its target; read where ``ambiguous``
    ambiguous : ndarray of bool, shape (n,), whether one candle held both and nothing finer told them apart

    Returns
    -------
    Bounds, both NaN without records

    Raises
    ------
    ValueError : if the shapes differ, or a target lies below its stop

    Source: STATISTICS 8.4.
    """
    if not stop_first_r.shape == target_first_r.shape == ambiguous.shape:
        raise ValueError("two results and one flag for each record")
    if np.any(target_first_r[ambiguous] < stop_first_r[ambiguous]):
        raise ValueError("a target is worth more than its stop")
    if len(ambiguous) == 0:
        return Bounds(math.nan, math.nan)
    other = np.where(ambiguous, target_first_r, stop_first_r)
    return Bounds(float(np.mean(stop_first_r)), float(np.mean(other)))


def mature(entry_ms: IntArray, *, horizon_ms: int, now_ms: int) -> BoolArray:
    """Which records belong to cohorts whose every member must have ended: fast losers come first, slow winners later.

    Parameters
    ----------
    entry_ms : ndarray of int, shape (n,), epoch ms
    horizon_ms : the longest life a position can have, deadline and grace included
    now_ms : the moment of training

    Source: STATISTICS 8.10.
    """
    return entry_ms <= now_ms - horizon_ms


def censoring_weights(entry_ms: IntArray, exit_ms: IntArray, open_entry_ms: IntArray, *, now_ms: int) -> FloatArray:
    """Inverse probability of having been seen to its end: 1/G(T−), so that slow outcomes count for their missing like.

    Whoever entered at ``e`` is watched for ``now − e``, whatever it does; G is the Kaplan–Meier estimate of that
    censoring over closed and open positions.

    Parameters
    ----------
    entry_ms, exit_ms : ndarray of int, shape (n,), of closed positions
    open_entry_ms : ndarray of int, shape (m,), of those still open
    now_ms : the moment of training, not before any entry or exit

    Returns
    -------
    ndarray of shape (n,), >= 1

    Raises
    ------
    ValueError : if the shapes differ, or a life has no length or ends in the future

    Source: Robins & Rotnitzky (1992), AIDS Epidemiology, 297-331; STATISTICS 8.10.
    """
    if entry_ms.shape != exit_ms.shape:
        raise ValueError("one entry and one exit for each record")
    life, watched = exit_ms - entry_ms, now_ms - open_entry_ms
    if np.any(life < 0) or np.any(exit_ms > now_ms) or np.any(watched < 0):
        raise ValueError("a life ends after it begins, and not in the future")
    if len(life) == 0:
        return np.zeros(0)
    # Those under observation just when one is censored; of equal times the outcomes come first.
    ends, left = np.sort(life), np.sort(watched)
    times, lost = np.unique(left, return_counts=True)
    at_risk = (len(ends) - np.searchsorted(ends, times, side="right")) + (len(left) - np.searchsorted(left, times))
    kept = np.concatenate(([1.0], np.cumprod(1.0 - lost / at_risk)))
    # Only censorings strictly before an outcome can have kept its like from being seen.
    seen = kept[np.searchsorted(times, life, side="left")]
    return 1.0 / seen


def uniqueness(entry_ms: IntArray, exit_ms: IntArray) -> FloatArray:
    """Mean over a label's life of one over the number of labels alive: what it tells that no other does.

    Parameters
    ----------
    entry_ms, exit_ms : ndarray of int, shape (n,), epoch ms; a label lives on [entry, exit]. One without a length
        shares its moment with all that are alive then.

    Returns
    -------
    ndarray of shape (n,), in (0, 1]; O(n log n)

    Raises
    ------
    ValueError : if the shapes differ or a label ends before it begins

    Source: López de Prado (2018), Advances in Financial Machine Learning, chapter 4; STATISTICS 5.
    """
    if entry_ms.shape != exit_ms.shape or np.any(exit_ms < entry_ms):
        raise ValueError("one entry and one later exit for each label")
    if len(entry_ms) == 0:
        return np.zeros(0)
    begins, ends = np.sort(entry_ms), np.sort(exit_ms)
    moments = np.unique(np.concatenate((begins, ends)))
    alive = np.searchsorted(begins, moments[:-1], side="right") - np.searchsorted(ends, moments[:-1], side="right")
    # A stretch nobody lives through lies in no life either.
    shares = np.divide(np.diff(moments), alive, out=np.zeros(len(alive)), where=alive > 0)
    run = np.concatenate(([0.0], np.cumsum(shares)))
    first, last = np.searchsorted(moments, entry_ms), np.searchsorted(moments, exit_ms)
    life = (exit_ms - entry_ms).astype(np.float64)
    there = np.searchsorted(begins, entry_ms, side="right") - np.searchsorted(ends, entry_ms, side="left")
    return np.where(life > 0.0, (run[last] - run[first]) / np.maximum(life, 1.0), 1.0 / there)


def time_decay(entry_ms: IntArray, *, now_ms: int, half_life_days: float) -> FloatArray:
    """Halve a record's weight with every half-life of age: 2^(−age/H).

    Parameters
    ----------
    entry_ms : ndarray of int, shape (n,), epoch ms
    now_ms : the moment of training; younger records count as of that moment
    half_life_days : H in days, > 0; infinite for no decay

    Returns
    -------
    ndarray of shape (n,), in [0, 1]

    Raises
    ------
    ValueError : if H is not positive

    Source: STATISTICS 5.
    """
    if not half_life_days > 0.0:
        raise ValueError("a half-life is positive")
    age_days = np.maximum(now_ms - entry_ms, 0) / DAY_MS
    return np.exp2(-age_days / half_life_days)


def magnitude(net_r: FloatArray, kappa: float) -> FloatArray:
    """Weight by the size of the result, |R|^κ; κ = 0 weighs all alike.

    Parameters
    ----------
    net_r : ndarray of shape (n,), in R
    kappa : unitless, >= 0

    Raises
    ------
    ValueError : if κ is negative

    Source: López de Prado (2018), chapter 4; STATISTICS 5.
    """
    if not kappa >= 0.0:
        raise ValueError("the exponent of the size is not negative")
    # 0 ** 0 is 1, which is what "all alike" means.
    return np.power(np.abs(net_r), kappa)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """What a record counts for: uniqueness x age x size, each of which can be left out; mean 1."""

    uniqueness: bool = True
    half_life_days: float = 90.0
    size_exponent: float = 0.0

    def weights(self, entry_ms: IntArray, exit_ms: IntArray, net_r: FloatArray) -> FloatArray:
        """Weights of a set of records.

        Parameters
        ----------
        entry_ms, exit_ms : ndarray of int, shape (n,), epoch ms
        net_r : ndarray of shape (n,), in R

        Returns
        -------
        ndarray of shape (n,), > 0, mean 1 up to the least weight

        Source: STATISTICS 5.
        """
        if len(entry_ms) == 0:
            return np.zeros(0)
        found = np.ones(len(entry_ms))
        if self.uniqueness:
            found *= uniqueness(entry_ms, exit_ms)
        if self.half_life_days > 0.0:
            # Against the newest: what is divided by the mean does not depend on the moment it is counted from.
            found *= time_decay(entry_ms, now_ms=int(entry_ms.max()), half_life_days=self.half_life_days)
        if self.size_exponent > 0.0:
            found *= magnitude(net_r, self.size_exponent)
        mean = float(np.mean(found))
        # A weight of 0 is no weight: a record that counts for nothing is still a record.
        return np.maximum(found / mean, LEAST_WEIGHT) if mean > 0.0 else np.ones(len(found))


def effective_size(weight: FloatArray) -> float:
    """How many equally weighted records these are worth: (Σw)² / Σw².

    Parameters
    ----------
    weight : ndarray of shape (n,), >= 0

    Returns
    -------
    float in [0, n]; 0 without any weight

    Source: Kish (1965), Survey Sampling, 11.7; STATISTICS 5.
    """
    squares = float(np.sum(weight**2))
    return float(np.sum(weight)) ** 2 / squares if squares > 0.0 else 0.0
