"""Estimates with intervals that know trades of one day fall together.

Every draw comes from a ``numpy.random.Generator`` handed in by the caller. Days are whole numbers (UTC days since
1970), resampled across all symbols: markets move together, so a day, not a trade, is the independent observation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CONFIDENCE = 0.95
RESAMPLES = 2_000
CHUNK = 1 << 15  # elements drawn at once: what fits a core's cache, whatever the number of days
TIE = 1e-12  # permuted sums add in another order, so equal statistics differ in the last bits
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bounds; both NaN when the data cannot give any."""

    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def holds(self, value: float) -> bool:
        """Whether the value lies inside; an unknown interval excludes nothing."""
        return not self.known or self.low <= value <= self.high


UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its interval from resampled days and, for comparison, the one that takes trades as independent."""

    value: float
    day: Interval
    iid: Interval
    n: int
    n_days: int


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t, unitless.

    Parameters
    ----------
    probability : float in (0, 1)
    degrees : int >= 1; 1 and 2 are exact, from 3 on the error at 0.975 is below 0.004

    Raises
    ------
    ValueError : if the probability or the degrees are out of range

    Source: Abramowitz & Stegun (1964), 26.7.5 (expansion in 1/degrees).
    """
    if not 0.0 < probability < 1.0 or degrees < 1:
        raise ValueError("expected a probability in (0, 1) and at least 1 degree of freedom")
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2.0 * probability - 1.0) * math.sqrt(0.5 / (probability * (1.0 - probability)))
    z = _NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))


def wilson_interval(wins: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a rate from independent trials, both bounds in [0, 1].

    Parameters
    ----------
    wins, n : int, 0 <= wins <= n; with n = 0 the interval is unknown
    confidence : float in (0, 1)

    Raises
    ------
    ValueError : if wins is negative or above n

    Source: Wilson (1927), JASA 22, 209-212.
    """
    if not 0 <= wins <= n:
        raise ValueError(f"expected 0 <= wins <= n, got {wins} of {n}")
    if n == 0:
        return UNKNOWN
    z2 = _NORMAL.inv_cdf(0.5 + confidence / 2.0) ** 2
    rate = wins / n
    centre = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = math.sqrt(z2 * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n))) / (1.0 + z2 / n)
    # At the ends the formula gives 0 and 1 exactly, but only up to rounding.
    return Interval(0.0 if wins == 0 else centre - half, 1.0 if wins == n else centre + half)


def iid_mean_interval(values: FloatArray, confidence: float = CONFIDENCE) -> Interval:
    """Student-t interval of a mean, in the unit of the values, as if all were independent: shown for comparison only.

    Parameters
    ----------
    values : ndarray of shape (n_trades,); fewer than 2, or all equal, give an unknown interval
    confidence : float in (0, 1)

    Source: Student (1908), Biometrika 6(1), 1-25.
    """
    n = len(values)
    if n < 2:
        return UNKNOWN
    deviation = float(np.std(values, ddof=1))
    if deviation <= TIE * max(1.0, float(np.abs(values).max())):
        return UNKNOWN
    mean, half = float(np.mean(values)), t_quantile(0.5 + confidence / 2.0, n - 1) * deviation / math.sqrt(n)
    return Interval(mean - half, mean + half)


def resample_days(
    day: IntArray, columns: FloatArray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[FloatArray, int]:
    """Totals of columns over days drawn with replacement: the raw material of every day interval.

    Parameters
    ----------
    day : ndarray of int, shape (n_trades,), the UTC day of each trade over all symbols
    columns : ndarray of shape (n_trades, n_columns), any unit
    rng : seeded generator
    resamples : int >= 1

    Returns
    -------
    totals : ndarray of shape (resamples, n_columns), in the units of the columns
    n_days : int, distinct days; with 0 days the totals are NaN

    Raises
    ------
    ValueError : if the shapes differ or resamples is below 1

    Source: cluster bootstrap, Davison & Hinkley (1997), Bootstrap Methods and their Application, 3.8.
    """
    if columns.ndim != 2 or len(day) != len(columns) or resamples < 1:
        raise ValueError("expected one row of columns per day entry and at least 1 resample")
    days, position = np.unique(day, return_inverse=True)
    n_days = len(days)
    if n_days == 0:
        return np.full((resamples, columns.shape[1]), math.nan), 0
    sums = np.stack([np.bincount(position, weights=column, minlength=n_days) for column in columns.T], axis=1)
    totals = np.empty((resamples, columns.shape[1]))
    step = max(1, CHUNK // n_days)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n_days, size=(rows, n_days)) + np.arange(rows)[:, None] * n_days
        times = np.bincount(drawn.ravel(), minlength=rows * n_days).reshape(rows, n_days)
        totals[start : start + rows] = times.astype(np.float64) @ sums
    return totals, n_days


def percentile_interval(draws: FloatArray, n_days: int, confidence: float = CONFIDENCE) -> Interval:
    """Bounds of a resampled figure, in its unit, widened for the small number of days.

    Plain percentiles of a bootstrap behave like a normal interval with the n-denominator variance and are too narrow
    with few clusters; the tail is therefore taken at Phi(-sqrt(d / (d - 1)) t_{d-1}).

    Parameters
    ----------
    draws : ndarray of shape (resamples,); draws that are not finite (an empty denominator) are left out
    n_days : int, distinct days behind the draws; below 2 the interval is unknown
    confidence : float in (0, 1)

    Notes
    -----
    Draws without any spread give an unknown interval: a width of zero would speak for what has not happened yet.

    Source: Hesterberg (2015), The American Statistician 69(4), 371-386, section on expanded percentiles.
    """
    finite = draws[np.isfinite(draws)]
    if n_days < 2 or len(finite) < max(2, len(draws) // 2):
        return UNKNOWN
    if float(np.ptp(finite)) <= TIE * max(1.0, float(np.abs(finite).max())):
        return UNKNOWN
    reach = math.sqrt(n_days / (n_days - 1)) * t_quantile(0.5 + confidence / 2.0, n_days - 1)
    tail = _NORMAL.cdf(-reach)
    low, high = np.quantile(finite, (tail, 1.0 - tail))
    return Interval(float(low), float(high))


def estimate_mean(
    day: IntArray, values: FloatArray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Estimate:
    """Mean per trade, in the unit of the values, as a ratio of day sums (a busy day counts by its trades).

    Parameters
    ----------
    day : ndarray of int, shape (n_trades,)
    values : ndarray of shape (n_trades,), usually R
    rng : seeded generator
    resamples : int >= 1

    Returns
    -------
    Estimate : NaN for no trades; the day interval is unknown below 2 days

    Raises
    ------
    ValueError : if the shapes differ

    Source: Davison & Hinkley (1997), 3.8; ratio estimator, Cochran (1977), Sampling Techniques, 6.
    """
    totals, n_days = resample_days(day, np.stack([values, np.ones(len(values))], axis=1), rng=rng, resamples=resamples)
    value = float(np.mean(values)) if len(values) > 0 else math.nan
    interval = percentile_interval(totals[:, 0] / totals[:, 1], n_days)
    return Estimate(value, interval, iid_mean_interval(values), len(values), n_days)


def estimate_rate(day: IntArray, won: BoolArray, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Share of trades won, in [0, 1]; Wilson's interval stands for independent trades.

    Parameters
    ----------
    day : ndarray of int, shape (n_trades,)
    won : ndarray of bool, shape (n_trades,)
    rng : seeded generator
    resamples : int >= 1

    Raises
    ------
    ValueError : if the shapes differ

    Source: as ``estimate_mean`` and ``wilson_interval``.
    """
    columns = np.stack([won.astype(np.float64), np.ones(len(won))], axis=1)
    totals, n_days = resample_days(day, columns, rng=rng, resamples=resamples)
    return rate_from_totals(int(np.count_nonzero(won)), len(won), totals[:, 0] / totals[:, 1], n_days)


def rate_from_totals(wins: int, n: int, draws: FloatArray, n_days: int) -> Estimate:
    """Rate with both intervals from draws already at hand.

    Parameters
    ----------
    wins, n : int, 0 <= wins <= n
    draws : ndarray of shape (resamples,), resampled rates in [0, 1]
    n_days : int

    Notes
    -----
    A rate of exactly 0 or 1 has no spread to resample. Wilson's interval with one trial per day then stands in: the
    safe side, as if each day's trades shared one fate.
    """
    value = wins / n if n > 0 else math.nan
    interval = percentile_interval(draws, n_days)
    if n_days >= 2 and wins in (0, n):
        interval = wilson_interval(0 if wins == 0 else n_days, n_days)
    return Estimate(value, interval, wilson_interval(wins, n), n, n_days)


def estimate_lift(
    day: IntArray, values: FloatArray, accepted: BoolArray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Estimate:
    """Mean of the accepted minus mean of all, in the unit of the values, with an interval from resampled days.

    Parameters
    ----------
    day : ndarray of int, shape (n_trades,)
    values : ndarray of shape (n_trades,), usually R
    accepted : ndarray of bool, shape (n_trades,)
    rng : seeded generator
    resamples : int >= 1

    Returns
    -------
    Estimate : NaN when none is accepted; n counts the accepted; the iid interval is left unknown

    Raises
    ------
    ValueError : if the shapes differ
    """
    taken = accepted.astype(np.float64)
    totals, n_days = resample_days(
        day, np.stack([values * taken, taken, values, np.ones(len(values))], axis=1), rng=rng, resamples=resamples
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = totals[:, 0] / totals[:, 1] - totals[:, 2] / totals[:, 3]
    n = int(np.count_nonzero(accepted))
    value = float(np.mean(values[accepted]) - np.mean(values)) if n > 0 else math.nan
    return Estimate(value, percentile_interval(draws, n_days) if n > 0 else UNKNOWN, UNKNOWN, n, n_days)


def break_even_rate(net_r: FloatArray, won: BoolArray) -> float:
    """Win rate in [0, 1] at which mean net R is zero: p = L / (W + L).

    Parameters
    ----------
    net_r : ndarray of shape (n_trades,), R after costs
    won : ndarray of bool, shape (n_trades,)

    Returns
    -------
    float : NaN when wins or losses are missing, 1 when wins do not pay (W <= 0), 0 when losses cost nothing (L <= 0)

    Raises
    ------
    ValueError : if the shapes differ
    """
    if net_r.shape != won.shape:
        raise ValueError("expected one result per trade")
    if bool(won.all()) or not bool(won.any()):
        return math.nan
    gain, loss = float(np.mean(net_r[won])), -float(np.mean(net_r[~won]))
    if gain <= 0.0:
        return 1.0
    return loss / (gain + loss) if loss > 0.0 else 0.0


def break_even_cost_bps(gross_r: FloatArray, cost_r_per_bp: FloatArray) -> float:
    """Round-trip cost in basis points that turns mean R into zero; negative when trades lose before costs.

    Parameters
    ----------
    gross_r : ndarray of shape (n_trades,), R before costs
    cost_r_per_bp : ndarray of shape (n_trades,), R lost to one basis point, > 0

    Returns
    -------
    float : NaN for no trades

    Raises
    ------
    ValueError : if the shapes differ
    """
    if gross_r.shape != cost_r_per_bp.shape:
        raise ValueError("expected one cost per trade")
    return float(np.sum(gross_r) / np.sum(cost_r_per_bp)) if len(gross_r) > 0 else math.nan


def max_drawdown(r: FloatArray) -> float:
    """Deepest fall of the running sum from its high water, in R, >= 0; the start counts as a high water.

    Parameters
    ----------
    r : ndarray of shape (n_trades,), R per trade in order of exit
    """
    if len(r) == 0:
        return 0.0
    equity = np.concatenate([[0.0], np.cumsum(r)])
    return float(np.max(np.maximum.accumulate(equity) - equity))
