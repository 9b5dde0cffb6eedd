"""Intervals and tests beside every count: rates, their differences, and what a cell of four numbers can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CONFIDENCE: Final = 0.95
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bounds; both NaN where the data give none."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether it lies on one side of 0; an unknown one does not."""
        return self.low > 0.0 or self.high < 0.0


UNKNOWN: Final = Interval(math.nan, math.nan)


def z_of(confidence: float) -> float:
    """Two-sided quantile of the standard normal distribution.

    Parameters
    ----------
    confidence : float in (0, 1)
    """
    return _NORMAL.inv_cdf(0.5 + confidence / 2.0)


def wilson(wins: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a rate, both bounds in [0, 1]; unknown without trials.

    Parameters
    ----------
    wins, n : counts, 0 <= wins <= n
    confidence : float in (0, 1)

    Raises
    ------
    ValueError : if wins are negative or more than n

    Source: Wilson (1927), JASA 22, 209-212.
    """
    if not 0 <= wins <= n:
        raise ValueError(f"expected 0 <= wins <= n, got {wins} of {n}")
    if n == 0:
        return UNKNOWN
    z2, rate = z_of(confidence) ** 2, wins / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(0.0 if wins == 0 else centre - reach, 1.0 if wins == n else centre + reach)


def newcombe(wins: int, n: int, other_wins: int, other_n: int, confidence: float = CONFIDENCE) -> Interval:
    """Interval of the difference of two independent rates, in [−1, 1]; unknown when either side is empty.

    Parameters
    ----------
    wins, n : counts of the first side
    other_wins, other_n : counts of the side that is subtracted
    confidence : float in (0, 1)

    Source: Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.
    """
    if n == 0 or other_n == 0:
        return UNKNOWN
    one, other = wilson(wins, n, confidence), wilson(other_wins, other_n, confidence)
    p, q = wins / n, other_wins / other_n
    return Interval(
        p - q - math.hypot(p - one.low, other.high - q),
        p - q + math.hypot(one.high - p, q - other.low),
    )


def pooled_z(wins: IntArray, n: IntArray, other_wins: IntArray, other_n: IntArray) -> FloatArray:
    """Difference of two rates over its standard error if both were one, element by element; NaN where undefined.

    Parameters
    ----------
    wins, n, other_wins, other_n : counts, ndarrays of one shape

    Source: the score test of two proportions.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (wins + other_wins) / (n + other_n)
        error = np.sqrt(rate * (1.0 - rate) * (1.0 / n + 1.0 / other_n))
        found = (wins / n - other_wins / other_n) / error
    return np.asarray(np.where(error > 0.0, found, np.nan), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactTest:
    """Two-sided p-values of a table of four counts: ``exact`` never too small, ``mid`` (for display) less wasteful."""

    exact: float
    mid: float


def fisher(wins: int, n: int, other_wins: int, other_n: int) -> ExactTest:
    """Fisher's exact test of two rates, with its mid-p twin.

    Parameters
    ----------
    wins, n, other_wins, other_n : counts

    Raises
    ------
    ValueError : if wins are negative or more than the trials

    Source: Fisher (1935), JRSS 98, 39-82; Lancaster (1961), JASA 56, 223-234 for mid-p.
    """
    if not (0 <= wins <= n and 0 <= other_wins <= other_n):
        raise ValueError("expected 0 <= wins <= n on both sides")
    total = wins + other_wins
    possible = np.arange(max(0, total - other_n), min(n, total) + 1)
    chance = np.exp(_log_choose(n, possible) + _log_choose(other_n, total - possible) - _log_choose(n + other_n, total))
    here = float(chance[wins - int(possible[0])])
    # Tables as likely as this one on paper differ in their last digits.
    as_likely = np.isclose(chance, here, rtol=1e-9, atol=0.0)
    less = float(chance[(chance < here) & ~as_likely].sum())
    same = float(chance[as_likely].sum())
    return ExactTest(exact=min(1.0, less + same), mid=min(1.0, less + same / 2.0))


def _log_choose(n: int, k: npt.ArrayLike) -> FloatArray:
    places = np.atleast_1d(np.asarray(k))
    told = [math.lgamma(n + 1) - math.lgamma(one + 1) - math.lgamma(n - one + 1) for one in places.tolist()]
    return np.asarray(told, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What two variables do together beyond what each does alone.

    ``log_odds`` on the log-odds scale, ``additive`` in points of win rate, each with its standard error and z. None of
    it is there for nested pairs or when one of the four cells is too small.
    """

    log_odds: float
    log_odds_se: float
    additive: float
    additive_se: float

    @property
    def log_odds_z(self) -> float:
        """Standard errors from none."""
        return self.log_odds / self.log_odds_se

    @property
    def additive_z(self) -> float:
        """Standard errors from none."""
        return self.additive / self.additive_se


def interaction(wins: IntArray, n: IntArray) -> Interaction:
    """The highest-order contrast of the cells of two or three variables.

    Parameters
    ----------
    wins, n : counts, shape (2, 2) or (2, 2, 2); index 1 where a variable passes

    Raises
    ------
    ValueError : if the shapes are others or a cell is empty

    Source: STATISTICS 3, point 5; Haldane (1956) and Anscombe (1956) for the half added to every cell.
    """
    if wins.shape != n.shape or any(side != 2 for side in n.shape) or n.ndim not in (2, 3) or bool(np.any(n <= 0)):
        raise ValueError("expected four or eight cells, none of them empty")
    # The sign of a cell: + where an even number of variables fails.
    fails = sum(np.indices(n.shape) == 0)
    sign = np.where(np.asarray(fails) % 2 == 0, 1.0, -1.0)
    rate = wins / n
    smooth = (wins + 0.5) / (n + 1.0)
    # At 0 or 1 the plain estimate of a variance is 0, which would make one lucky cell decide.
    spread = smooth * (1.0 - smooth)
    return Interaction(
        log_odds=float(np.sum(sign * (np.log(smooth) - np.log1p(-smooth)))),
        log_odds_se=float(np.sqrt(np.sum(1.0 / ((n + 1.0) * spread)))),
        additive=float(np.sum(sign * rate)),
        additive_se=float(np.sqrt(np.sum(spread / n))),
    )


def shrunk(delta: FloatArray, se: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Deltas drawn towards 0 by how much of their spread is noise, with what is left of their standard errors.

    Parameters
    ----------
    delta, se : ndarrays of shape (n,), NaN where unknown

    Returns
    -------
    shrunk_delta, shrunk_se : ndarrays of shape (n,)

    Source: normal-normal empirical Bayes around 0, the spread by moments: τ² = max(0, mean(δ² − se²)).
    """
    known = np.isfinite(delta) & np.isfinite(se) & (se > 0.0)
    if not known.any():
        return np.full_like(delta, np.nan), np.full_like(se, np.nan)
    tau2 = max(0.0, float(np.mean(delta[known] ** 2 - se[known] ** 2)))
    kept = np.where(known, tau2 / (tau2 + np.where(known, se, 1.0) ** 2), np.nan)
    return np.asarray(kept * delta), np.asarray(np.sqrt(kept) * se)
