"""Days drawn in blocks: intervals for what is no mean, and bands that hold for a whole curve at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lab.fixed_b import FEWEST_DAYS, Days, bandwidth, bartlett_variance
from lab.statistics import TIE, UNKNOWN, FloatArray, IntArray, Interval

RESAMPLES = 1_000
ELEMENTS = 1 << 21
"""Day sums held at once while resampling."""


def block_length(series: FloatArray) -> int:
    """Block length, in days, for a circular block bootstrap of a series' mean.

    Parameters
    ----------
    series : ndarray of shape (n_days,)

    Returns
    -------
    int in [1, n_days // 3], 1 for fewer than 10 days or a series without spread

    Source: Politis & White (2004), Econometric Reviews 23(1), 53-70, with the correction of Patton, Politis & White
    (2009), Econometric Reviews 28(4), 372-375.
    """
    n = len(series)
    centred = series - series.mean()
    if n < FEWEST_DAYS or float(np.mean(centred**2)) <= TIE * TIE:
        return 1
    run = max(5, math.ceil(math.sqrt(math.log10(n))))
    most = math.ceil(math.sqrt(n)) + run
    covariance = np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(min(most, n - 1) + 1)])
    small = np.abs(covariance / covariance[0]) < 2.0 * math.sqrt(math.log10(n) / n)
    # The first lag after which a run of autocorrelations is not to be told from zero.
    quiet = next((lag for lag in range(1, len(small) - run) if bool(small[lag : lag + run].all())), len(small) - run)
    reach = min(2 * max(quiet - 1, 1), len(covariance) - 1)
    lags = np.arange(-reach, reach + 1)
    taper = np.minimum(1.0, 2.0 * (1.0 - np.abs(lags) / reach))
    weighted = taper * covariance[np.abs(lags)]
    spectrum, slope = float(weighted.sum()), float((np.abs(lags) * weighted).sum())
    if spectrum <= 0.0:
        return 1
    wanted = (2.0 * slope**2 / (4.0 / 3.0 * spectrum**2)) ** (1.0 / 3.0) * n ** (1.0 / 3.0)
    return int(np.clip(round(wanted), 1, max(1, n // 3)))


def drawn_days(n_days: int, length: int, rng: np.random.Generator, resamples: int, most: int) -> Iterator[IntArray]:
    """Places of days drawn in circular blocks, at most ``most`` resamples at a time, shape (some, n_days).

    Source: Politis & Romano (1992), A circular block-resampling procedure, in Exploring the Limits of Bootstrap.
    """
    blocks = math.ceil(n_days / length)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        first = rng.integers(0, n_days, size=(rows, blocks, 1))
        yield ((first + np.arange(length)) % n_days).reshape(rows, -1)[:, :n_days]


def resampled(
    days: Days, *, length: int, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[FloatArray, FloatArray]:
    """Totals of the sums, shape (resamples, n_series), and of the counts, (resamples,), over days drawn in blocks.

    Parameters
    ----------
    days : Days
    length : int >= 1, of a block in days
    rng : seeded generator
    """
    sums, counts = [], []
    most = max(1, ELEMENTS // (len(days) * days.sums.shape[1]))
    for places in drawn_days(len(days), length, rng, resamples, most):
        sums.append(days.sums[places].sum(axis=1))
        counts.append(days.counts[places].sum(axis=1))
    return np.concatenate(sums), np.concatenate(counts)


def middle(draws: FloatArray, confidence: float = 0.95) -> Interval:
    """Percentile interval of resampled figures; unknown when fewer than half are finite or nothing varies."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < max(2, len(draws) // 2) or float(np.ptp(finite)) <= TIE * max(1.0, float(np.abs(finite).max())):
        return UNKNOWN
    low, high = np.quantile(finite, (0.5 - confidence / 2.0, 0.5 + confidence / 2.0))
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Means of several series with bounds that hold all of them at once; NaN where a series never varies.

    ``multiple`` is how many standard errors they reach to each side, ``block_days`` how long the drawn blocks were.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    multiple: float
    block_days: int
    confidence: float

    def holds(self, truth: FloatArray) -> bool:
        """Whether the band contains every true mean; what is unknown excludes nothing."""
        return bool(np.all(~np.isfinite(self.low) | ((self.low <= truth) & (truth <= self.high))))

    def at(self, place: int) -> Interval:
        """The bounds of one series."""
        low, high = float(self.low[place]), float(self.high[place])
        return Interval(low, high) if math.isfinite(low) else UNKNOWN


def simultaneous_band(
    days: Days, *, rng: np.random.Generator, confidence: float = 0.95, resamples: int = RESAMPLES
) -> Band:
    """A band around the means of all series that contains every true mean with the stated confidence.

    Parameters
    ----------
    days : Days of shape (n_days, n_series), the series on one clock: a curve over thresholds, or several policies
    rng : seeded generator
    confidence : float in (0, 1), of the whole band
    resamples : int >= 1

    Returns
    -------
    Band : without bounds below 10 days

    Notes
    -----
    The largest of all t statistics is resampled, each with the HAC standard error of its own resample: the naive block
    bootstrap of a HAC statistic, which carries the noise of the variance estimate as the fixed-b value does.

    Source: Goncalves & Vogelsang (2011), Econometric Theory 27(4), 745-791; sup-t band, Montiel Olea &
    Plagborg-Moller (2019), Journal of Applied Econometrics 34(1), 1-17.
    """
    n_days, n_series = days.sums.shape
    value, deviations = days.means, days.deviations
    lags = bandwidth(n_days)
    variance = bartlett_variance(deviations, lags)
    # Series that never vary have nothing to say about the largest error.
    moving = variance > TIE * TIE
    nothing = np.full(n_series, math.nan)
    if n_days < FEWEST_DAYS or not bool(moving.any()):
        return Band(value=value, low=nothing, high=nothing, multiple=math.nan, block_days=1, confidence=confidence)
    length = max(block_length(deviations[:, place]) for place in np.flatnonzero(moving))
    largest = []
    kept = int(np.count_nonzero(moving))
    for places in drawn_days(n_days, length, rng, resamples, max(1, ELEMENTS // (4 * n_days * kept))):
        sums, counts = days.sums[:, moving][places], days.counts[places]
        total = counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum(axis=1) / total[:, None]
            errors = (sums - counts[..., None] * mean[:, None, :]) / (total[:, None, None] / n_days)
            spread = np.sqrt(bartlett_variance(errors, lags) / n_days)
            ratio = np.abs(mean - value[moving]) / spread
        # A series that happens to stand still in a resample says nothing there.
        largest.append(np.max(np.where(np.isfinite(ratio), ratio, 0.0), axis=1))
    multiple = float(np.quantile(np.concatenate(largest), confidence))
    reach = np.where(moving, multiple * np.sqrt(variance / n_days), math.nan)
    return Band(
        value=value,
        low=value - reach,
        high=value + reach,
        multiple=multiple,
        block_days=length,
        confidence=confidence,
    )
