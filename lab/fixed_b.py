"""The published interval of a mean over days that lean on each other: HAC standard error, fixed-b critical value.

A day is the unit: results of a day are added up over all symbols, days without signals count as zero. The Bartlett
long-run variance uses a fixed share ``b`` of the days as its bandwidth, and the critical value knows that share, so
that the noise of the variance estimate is in the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lab.statistics import TIE, UNKNOWN, FloatArray, IntArray, Interval

SHARE = 0.1
"""Bandwidth as a share of the days; .1 covered best of the shares compared in STATISTICS 2.3."""
FEWEST_DAYS = 10
POWER = 0.8
POLYNOMIALS = {
    0.90: (1.2816, 1.3040, 0.5135, -0.3386),
    0.95: (1.6449, 2.1859, 0.3142, -0.3427),
    0.975: (1.9600, 2.9694, 0.4160, -0.5324),
    0.99: (2.3263, 4.1618, 0.5368, -0.9060),
}
"""Critical values of the Bartlett fixed-b t statistic by one-sided probability, as cubics in b."""


def critical_value(probability: float, share: float) -> float:
    """Quantile of the fixed-b t statistic with the Bartlett kernel, unitless.

    Parameters
    ----------
    probability : one of .90, .95, .975, .99 (one-sided)
    share : float in (0, 1], bandwidth over sample size

    Raises
    ------
    ValueError : for another probability or share

    Source: Kiefer & Vogelsang (2005), Econometric Theory 21(6), 1130-1164, table 1.
    """
    if probability not in POLYNOMIALS or not 0.0 < share <= 1.0:
        raise ValueError(f"expected one of {', '.join(map(str, POLYNOMIALS))} and a share in (0, 1]")
    return float(np.polynomial.polynomial.polyval(share, POLYNOMIALS[probability]))


def bandwidth(n_days: int) -> int:
    """Lags the kernel reaches over, in days, for so many days."""
    return max(1, math.ceil(SHARE * n_days))


def bartlett_variance(centred: FloatArray, lags: int) -> FloatArray:
    """Long-run variance of each series, in squared units of the values; never negative.

    Parameters
    ----------
    centred : ndarray of shape (..., n_days, n_series), each series with mean zero
    lags : int >= 1, the bandwidth: autocovariances up to ``lags - 1`` count, weighted by ``1 - lag / lags``

    Returns
    -------
    ndarray of shape (..., n_series)

    Notes
    -----
    The Bartlett estimate equals the mean square of all moving sums of ``lags`` days, partial ones at the ends
    included, over ``lags``: no loop over lags.

    Source: Newey & West (1987), Econometrica 55(3), 703-708.
    """
    n_days = centred.shape[-2]
    padding = np.zeros((*centred.shape[:-2], 1, centred.shape[-1]))
    total = np.concatenate([padding, np.cumsum(centred, axis=-2)], axis=-2)
    upper = np.minimum(np.arange(1, n_days + lags), n_days)
    lower = np.maximum(np.arange(1, n_days + lags) - lags, 0)
    moving = total[..., upper, :] - total[..., lower, :]
    variance: FloatArray = np.einsum("...ts,...ts->...s", moving, moving) / (lags * n_days)
    return variance


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Sums of each UTC day from the first to the last, empty days included.

    ``sums`` has shape (n_days, n_series), ``counts`` (n_days,) is what a series is divided by (usually signals).
    """

    first: int
    sums: FloatArray
    counts: FloatArray

    @classmethod
    def of(cls, day: IntArray, values: FloatArray, weight: FloatArray | None = None) -> Days:
        """Add values up by day.

        Parameters
        ----------
        day : ndarray of int, shape (n,), UTC days since 1970
        values : ndarray of shape (n,) or (n, n_series), usually R
        weight : ndarray of shape (n,), what each row counts for in the denominator; 1 by default

        Raises
        ------
        ValueError : if there are no rows or the shapes differ
        """
        columns = values[:, None] if values.ndim == 1 else values
        weights = np.ones(len(day)) if weight is None else weight
        if len(day) == 0 or len(day) != len(columns) or len(day) != len(weights):
            raise ValueError("expected one row of values for each of at least one day entry")
        first = int(day.min())
        place = day - first
        n_days = int(place.max()) + 1
        sums = np.stack([np.bincount(place, weights=column, minlength=n_days) for column in columns.T], axis=1)
        counts = np.bincount(place, weights=weights, minlength=n_days)
        return cls(first, sums.astype(np.float64), counts.astype(np.float64))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def means(self) -> FloatArray:
        """Mean of each series per unit of the denominator, shape (n_series,)."""
        return np.asarray(self.sums.sum(axis=0) / self.counts.sum())

    @property
    def deviations(self) -> FloatArray:
        """What each day adds to each mean's error, shape (n_days, n_series); every column sums to zero."""
        return np.asarray((self.sums - self.counts[:, None] * self.means) / self.counts.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMean:
    """A mean with what its days can say of it, in the unit of the values.

    ``se`` is the HAC standard error; ``effective_days`` how many independent days, and ``effective_n`` how many
    independent rows, would leave the mean as uncertain; ``least_detectable`` the mean that a two-sided test at 5 %
    would find four times in five.
    """

    value: float
    se: float
    fan: Interval
    interval: Interval
    interval_90: Interval
    n: int
    n_days: int
    effective_days: float
    effective_n: float
    least_detectable: float


def day_mean(day: IntArray, values: FloatArray, weight: FloatArray | None = None) -> DayMean:
    """Mean of values per unit of weight with 80, 90 and 95 % intervals from day sums.

    Parameters
    ----------
    day : ndarray of int, shape (n,), UTC day of each row over all symbols
    values : ndarray of shape (n,), usually R; a weighted row must already carry its weight
    weight : ndarray of shape (n,), >= 0; 1 by default. Acceptance as weight gives the mean of the accepted.

    Returns
    -------
    DayMean : all NaN without weight; intervals unknown below 10 days or without spread

    Raises
    ------
    ValueError : if the shapes differ

    Source: Kiefer & Vogelsang (2005); ratio estimator, Cochran (1977), Sampling Techniques, 6.
    """
    weights = np.ones(len(day)) if weight is None else weight
    n = int(np.count_nonzero(weights))
    if n == 0:
        nan = math.nan
        return DayMean(
            value=nan, se=nan, fan=UNKNOWN, interval=UNKNOWN, interval_90=UNKNOWN, n=0, n_days=0,
            effective_days=nan, effective_n=nan, least_detectable=nan,
        )  # fmt: skip
    days = Days.of(day, values, weights)
    value, n_days, deviations = float(days.means[0]), len(days), days.deviations
    lags = bandwidth(n_days)
    long_run = float(bartlett_variance(deviations, lags)[0])
    own = float(np.mean(deviations**2))
    known = n_days >= FEWEST_DAYS and long_run > TIE * TIE
    se = math.sqrt(long_run / n_days) if known else math.nan
    share = lags / n_days

    def around(probability: float) -> Interval:
        reach = critical_value(probability, share) * se
        return Interval(value - reach, value + reach) if known else UNKNOWN

    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.where(weights > 0.0, values / weights, 0.0)
    spread = float(np.sum(weights * (rows - value) ** 2) / np.sum(weights))
    needed = critical_value(0.975, share) + NormalDist().inv_cdf(POWER) if known else math.nan
    return DayMean(
        value=value,
        se=se,
        fan=around(0.90),
        interval=around(0.975),
        interval_90=around(0.95),
        n=n,
        n_days=n_days,
        effective_days=min(float(n_days), n_days * own / long_run) if known else math.nan,
        effective_n=min(float(n), spread / (se * se)) if known else math.nan,
        least_detectable=needed * se,
    )
