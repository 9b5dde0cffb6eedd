"""Estimates whose rows share a day: linear ones, with the variance of day sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.statistics import CONFIDENCE, UNKNOWN, FloatArray, IntArray, Interval, t_quantile


@dataclass(frozen=True, slots=True)
class Clustered:
    """A figure with the standard error of its day sums, and the t interval of so many days."""

    value: float
    se: float
    interval: Interval
    n: int
    n_days: int

    @property
    def stands_out(self) -> bool:
        """Whether it lies more than two standard errors from 0."""
        return self.se > 0.0 and abs(self.value) > 2.0 * self.se


def clustered(
    value: float, day: IntArray, influence: FloatArray, n_days: int, *, n: int, confidence: float = CONFIDENCE
) -> Clustered:
    """A figure from the influence of each row on it, in its unit.

    Parameters
    ----------
    value : float
    day : ndarray of int, shape (n_rows,)
    influence : ndarray of shape (n_rows,), adding up to 0 over all rows
    n_days : int, days that count as observations; below 2 the interval is unknown
    n : int, rows it is an estimate from
    confidence : float in (0, 1)

    Raises
    ------
    ValueError : if the shapes differ

    Source: Liang & Zeger (1986), Biometrika 73(1), 13-22, with the correction d / (d - 1).
    """
    if day.shape != influence.shape:
        raise ValueError("expected one influence per day entry")
    if n_days < 2:
        return Clustered(value, math.nan, UNKNOWN, n, n_days)
    _, position = np.unique(day, return_inverse=True)
    sums = np.bincount(position, weights=influence)
    se = math.sqrt(n_days / (n_days - 1) * float(np.sum(sums**2)))
    # No spread at all would speak for what has not happened yet.
    half = t_quantile(0.5 + confidence / 2.0, n_days - 1) * se
    return Clustered(value, se, Interval(value - half, value + half) if se > 0.0 else UNKNOWN, n, n_days)


def clustered_mean(day: IntArray, values: FloatArray, *, confidence: float = CONFIDENCE) -> Clustered:
    """Mean per row, in the unit of the values, NaN without rows.

    Parameters
    ----------
    day : ndarray of int, shape (n_rows,)
    values : ndarray of shape (n_rows,)
    confidence : float in (0, 1)

    Source: ratio of day sums, Cochran (1977), Sampling Techniques, 6.
    """
    n = len(values)
    if n == 0:
        return Clustered(math.nan, math.nan, UNKNOWN, 0, 0)
    mean = float(np.mean(values))
    return clustered(mean, day, (values - mean) / n, len(np.unique(day)), n=n, confidence=confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """Least squares with day-clustered errors: a coefficient for each name."""

    names: tuple[str, ...]
    coefficients: tuple[Clustered, ...]

    def predict(self, design: FloatArray) -> FloatArray:
        """Fitted values, shape (n_rows,), of a design of shape (n_rows, n_names)."""
        fitted: FloatArray = design @ np.array([found.value for found in self.coefficients])
        return fitted


def regress(
    day: IntArray, values: FloatArray, design: FloatArray, names: tuple[str, ...], *, confidence: float = CONFIDENCE
) -> Regression | None:
    """Least squares, or none where the design does not tell its columns apart.

    Parameters
    ----------
    day : ndarray of int, shape (n_rows,)
    values : ndarray of shape (n_rows,)
    design : ndarray of shape (n_rows, n_names), a column of ones included
    names : of the columns
    confidence : float in (0, 1)

    Raises
    ------
    ValueError : if the shapes differ

    Source: CR1 of Cameron & Miller (2015), Journal of Human Resources 50(2), 317-372.
    """
    n, width = design.shape
    if len(values) != n or len(day) != n or len(names) != width:
        raise ValueError("expected one value, one day and one row of the design each")
    n_days = len(np.unique(day))
    if n <= width or n_days <= width or np.linalg.matrix_rank(design) < width:
        return None
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ values
    # Small samples: the errors of the fit are smaller than those of the truth.
    share = math.sqrt((n - 1) / (n - width))
    influence = (design * (values - design @ beta)[:, None]) @ bread * share
    found = (
        clustered(float(beta[place]), day, influence[:, place], n_days, n=n, confidence=confidence)
        for place in range(width)
    )
    return Regression(names, tuple(found))
