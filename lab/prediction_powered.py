"""What refused signals would have earned in the market: from the few that were tried and the phantoms of all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.clustered import Clustered, clustered
from lab.statistics import CONFIDENCE, UNKNOWN, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """Signals that were traded at random: live and simulated result in R, and how probable the trade was.

    Arrays of shape ``(n,)``; ``propensity`` in (0, 1).
    """

    day: IntArray
    live_r: FloatArray
    phantom_r: FloatArray
    propensity: FloatArray

    def __post_init__(self) -> None:
        if not self.day.shape == self.live_r.shape == self.phantom_r.shape == self.propensity.shape:
            raise ValueError("expected a day, both results and a propensity for each signal")
        if not bool(np.all((self.propensity > 0.0) & (self.propensity < 1.0))):
            raise ValueError("a propensity lies inside (0, 1)")


@dataclass(frozen=True, slots=True, eq=False)
class Untried:
    """Signals that could have been traded at random and were not: simulated result in R. Arrays of shape ``(N,)``."""

    day: IntArray
    phantom_r: FloatArray
    propensity: FloatArray

    def __post_init__(self) -> None:
        if not self.day.shape == self.phantom_r.shape == self.propensity.shape:
            raise ValueError("expected a day, a result and a propensity for each signal")
        if not bool(np.all((self.propensity > 0.0) & (self.propensity < 1.0))):
            raise ValueError("a propensity lies inside (0, 1)")


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """Mean live R of the signals that could have been tried, three ways.

    ``corrected`` leans on the phantoms by ``tuning`` in [0, 1] and is unbiased whatever they are worth; ``live_only``
    takes the tried alone, ``phantom_only`` believes the simulation.
    """

    corrected: Clustered
    live_only: Clustered
    phantom_only: Clustered
    tuning: float


def prediction_powered(tried: Tried, untried: Untried, *, confidence: float = CONFIDENCE) -> PredictionPowered:
    """Correct the phantoms' mean by what those that were traded at random show.

    V = tuning · mean(phantom, untried) + mean(live - tuning · phantom, tried), each row weighted by the inverse of the
    probability of its side; tuning = Cov(live, phantom) / (Var(phantom) (1 + n / N)), held to [0, 1].

    Parameters
    ----------
    tried : Tried, of n signals
    untried : Untried, of N signals
    confidence : float in (0, 1)

    Returns
    -------
    PredictionPowered : NaN where nothing was tried, or no phantom is at hand; the days of the tried count

    Source: PPI++, Angelopoulos, Duchi & Zrnic (2023), arXiv:2311.01453; weights, Hajek (1971); day-clustered.
    """
    n, others = len(tried.day), len(untried.day)
    n_days = len(np.unique(tried.day))
    unknown = Clustered(math.nan, math.nan, UNKNOWN, n, n_days)
    phantoms, phantom_days = (
        np.concatenate([tried.phantom_r, untried.phantom_r]),
        np.concatenate([tried.day, untried.day]),
    )
    # The twins of the tried are phantoms as well: all of them together are the mean of everything that was refused.
    plain = _mean(phantom_days, phantoms, np.ones(n + others), len(np.unique(phantom_days)), confidence)
    if n == 0:
        return PredictionPowered(unknown, unknown, plain, math.nan)
    weight = 1.0 / tried.propensity
    live = _mean(tried.day, tried.live_r, weight, n_days, confidence)
    if others == 0:
        return PredictionPowered(live, live, plain, 0.0)
    tuning = _tuning(tried, phantoms, weight, n / others)
    left = _mean(tried.day, tried.live_r - tuning * tried.phantom_r, weight, n_days, confidence)
    rest = 1.0 / (1.0 - untried.propensity)
    believed = float(np.average(untried.phantom_r, weights=rest))
    influence = np.concatenate(
        [
            weight * (tried.live_r - tuning * tried.phantom_r - left.value) / weight.sum(),
            tuning * rest * (untried.phantom_r - believed) / rest.sum(),
        ]
    )
    corrected = clustered(tuning * believed + left.value, phantom_days, influence, n_days, n=n, confidence=confidence)
    return PredictionPowered(corrected, live, plain, tuning)


def _tuning(tried: Tried, phantoms: FloatArray, weight: FloatArray, ratio: float) -> float:
    spread = float(np.var(phantoms))
    if spread <= 0.0:
        return 0.0
    live = tried.live_r - np.average(tried.live_r, weights=weight)
    phantom = tried.phantom_r - np.average(tried.phantom_r, weights=weight)
    together = float(np.average(live * phantom, weights=weight))
    return min(1.0, max(0.0, together / (spread * (1.0 + ratio))))


def _mean(day: IntArray, values: FloatArray, weight: FloatArray, n_days: int, confidence: float) -> Clustered:
    if len(values) == 0:
        return Clustered(math.nan, math.nan, UNKNOWN, 0, 0)
    mean = float(np.average(values, weights=weight))
    return clustered(mean, day, weight * (values - mean) / weight.sum(), n_days, n=len(values), confidence=confidence)
