"""Mean results with intervals from resampled days: trades of one day rise and fall together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gates.intervals import UNKNOWN, Interval

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

RESAMPLES: Final = 1_000
CONFIDENCE: Final = 0.95
FEWEST_DAYS: Final = 5
"""Fewer days than this, resampled, give the same few sums again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanR:
    """Mean net result in R of the signals that pass, and above those that do not, each with an interval by days."""

    mean: float
    interval: Interval
    above_failing: float
    above_failing_interval: Interval
    n_days: int


class DayResampler:
    """Draws days with replacement once, for all cells of a report: they are compared on the same draws.

    Parameters
    ----------
    day : ndarray of int64, shape (n,), day of each signal
    net_r : ndarray of shape (n,), in R
    rng : draws the days
    resamples : how many draws
    """

    def __init__(
        self, day: IntArray, net_r: FloatArray, *, rng: np.random.Generator, resamples: int = RESAMPLES
    ) -> None:
        self._days, self._place = np.unique(day, return_inverse=True)
        self._net_r = net_r
        n_days = len(self._days)
        # How often each day is drawn: sums over days are then one product of matrices.
        self._times = (
            rng.multinomial(n_days, np.full(n_days, 1.0 / n_days), size=resamples).astype(np.float64)
            if n_days > 0
            else np.empty((resamples, 0))
        )

    def of(self, passed: BoolArray, known: BoolArray) -> MeanR:
        """The mean result of the signals that pass, beside those that are known not to.

        Parameters
        ----------
        passed, known : ndarrays of bool, shape (n,)
        """
        failing = known & ~passed
        sums = np.stack([self._sum(passed), self._sum(failing)])
        sizes = np.stack([self._count(passed), self._count(failing)])
        n_days = int(np.count_nonzero(sizes[0]))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum(axis=1) / sizes.sum(axis=1)
            drawn = (self._times @ sums.T) / (self._times @ sizes.T)
        return MeanR(
            mean=float(mean[0]),
            interval=_percentiles(drawn[:, 0], n_days),
            above_failing=float(mean[0] - mean[1]),
            above_failing_interval=_percentiles(drawn[:, 0] - drawn[:, 1], n_days),
            n_days=n_days,
        )

    def _sum(self, chosen: BoolArray) -> FloatArray:
        return np.bincount(self._place[chosen], self._net_r[chosen], minlength=len(self._days)).astype(np.float64)

    def _count(self, chosen: BoolArray) -> FloatArray:
        return np.bincount(self._place[chosen], minlength=len(self._days)).astype(np.float64)


def _percentiles(drawn: FloatArray, n_days: int) -> Interval:
    known = drawn[np.isfinite(drawn)]
    # A draw without any of the signals has no mean; when that is common the rest are no picture of chance.
    if n_days < FEWEST_DAYS or len(known) < 0.9 * len(drawn):
        return UNKNOWN
    low, high = np.quantile(known, ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0))
    # The percentile interval of a mean is too narrow by √(days/(days − 1)): put it back around the middle.
    middle, wider = float(known.mean()), math.sqrt(n_days / (n_days - 1))
    return Interval(middle + (float(low) - middle) * wider, middle + (float(high) - middle) * wider)
