"""Do forecasts come true as often as they say: what a few hundred outcomes can show of it, for any yes-or-no head."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.metrics import N_BINS, Z_95, Bin, calibration_curve
from qscore.isotonic import rising_means

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NULL_DRAWS = 200
FEWEST = 2
"""Outcomes in a bin from which on its win rate has a variance to correct by."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How forecasts and outcomes agree. Unitless; every figure is of rows the forecaster had not seen, or says so.

    ``ece`` and ``mce`` are the plain binned calibration errors, mean and largest; ``ece_null`` and ``mce_null`` what
    their median would be if every forecast were exactly right, which is far from 0. ``squared_error`` is the debiased
    squared calibration error with a 95 % interval, about 0 for a perfect forecaster, and ``debiased_ece`` its root with
    its sign. ``miscalibration`` − ``discrimination`` + ``uncertainty`` is the Brier score. ``spiegelhalter_z`` is about
    standard normal for a perfect forecaster, ``spiegelhalter_p`` its two-sided p-value.
    """

    n: int
    wins: int
    brier: float
    ece: float
    ece_null: float
    mce: float
    mce_null: float
    squared_error: float
    squared_error_low: float
    squared_error_high: float
    miscalibration: float
    discrimination: float
    uncertainty: float
    spiegelhalter_z: float
    spiegelhalter_p: float
    curve: tuple[Bin, ...]

    @property
    def debiased_ece(self) -> float:
        """Root of the debiased squared error, negative where chance alone would have given more."""
        return math.copysign(math.sqrt(abs(self.squared_error)), self.squared_error)

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        plain = {**asdict(self), "curve": [asdict(entry) for entry in self.curve], "debiased_ece": self.debiased_ece}
        # A forecaster that is certain throughout has no Z: JSON has no word for it but null.
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in plain.items()
        }


def reliability(probability: FloatArray, happened: BoolArray, *, seed: int = 0) -> Reliability:
    """Evaluate one head.

    Parameters
    ----------
    probability : ndarray of shape (n,), in [0, 1]
    happened : ndarray of bool, shape (n,)
    seed : of the draws behind the two null medians

    Raises
    ------
    ValueError : if the shapes differ or are empty, or a forecast is not in [0, 1]

    Source: STATISTICS 6; Dimitriadis, Gneiting, Jordan (2021), PNAS 118(8) for the decomposition; Spiegelhalter (1986),
    Statistics in Medicine 5, 421-433.
    """
    if probability.shape != happened.shape or probability.ndim != 1 or len(happened) == 0:
        raise ValueError("one forecast for each outcome, at least one")
    if not np.all((probability >= 0.0) & (probability <= 1.0)):
        raise ValueError("forecasts must lie in [0, 1]")
    ece, mce = _binned(probability, happened)
    rng = np.random.default_rng(seed)
    null = np.array([_binned(probability, rng.random(len(probability)) < probability) for _ in range(NULL_DRAWS)])
    squared, error = _debiased(probability, happened)
    brier = float(np.mean((probability - happened) ** 2))
    base = float(happened.mean())
    recalibrated = _corp(probability, happened)
    best = float(np.mean((recalibrated - happened) ** 2))
    z = _spiegelhalter(probability, happened)
    return Reliability(
        n=len(happened),
        wins=int(happened.sum()),
        brier=brier,
        ece=ece,
        ece_null=float(np.median(null[:, 0])),
        mce=mce,
        mce_null=float(np.median(null[:, 1])),
        squared_error=squared,
        squared_error_low=squared - Z_95 * error,
        squared_error_high=squared + Z_95 * error,
        miscalibration=brier - best,
        discrimination=base * (1.0 - base) - best,
        uncertainty=base * (1.0 - base),
        spiegelhalter_z=z,
        spiegelhalter_p=2.0 * (1.0 - _NORMAL.cdf(abs(z))) if math.isfinite(z) else math.nan,
        curve=calibration_curve(probability, happened),
    )


def _unknown(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def corp_curve(probability: FloatArray, happened: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The reliability curve that needs no bins: isotonic win rate at each forecast, in the order of forecasts.

    Parameters
    ----------
    probability : ndarray of shape (n,), in [0, 1]
    happened : ndarray of bool, shape (n,)

    Returns
    -------
    forecast, win_rate : ndarrays of shape (n_distinct,), both not descending

    Source: Dimitriadis, Gneiting, Jordan (2021), PNAS 118(8).
    """
    forecast, first = np.unique(probability, return_index=True)
    return forecast, _corp(probability, happened)[first]


def _corp(probability: FloatArray, happened: BoolArray) -> FloatArray:
    _, place, n = np.unique(probability, return_inverse=True, return_counts=True)
    return rising_means(np.bincount(place[happened], minlength=len(n)), n)[place]


def _places(probability: FloatArray) -> npt.NDArray[np.int64]:
    return np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)


def _binned(probability: FloatArray, happened: BoolArray) -> tuple[float, float]:
    """Plain calibration errors over ten bins of equal width: mean weighted by count, and largest."""
    n, said, won = _sums(probability, happened)
    there = n > 0
    off = np.abs(said[there] - won[there]) / n[there]
    return float(n[there] @ off / len(probability)), float(off.max())


def _debiased(probability: FloatArray, happened: BoolArray) -> tuple[float, float]:
    """Squared calibration error without the part chance puts in, and its standard error.

    A bin's squared gap is too large by the variance of its win rate, which is taken off; the variance of what is left
    is 2s⁴ + 4d²s² for a gap d and a win rate with variance s².
    """
    n, said, won = _sums(probability, happened)
    enough = n >= FEWEST
    if not enough.any():
        return 0.0, math.inf
    size, rate = n[enough], won[enough] / n[enough]
    gap, variance = said[enough] / size - rate, rate * (1.0 - rate) / (size - 1.0)
    share = size / len(probability)
    squared = float(share @ (gap**2 - variance))
    # A bin that won always or never shows no variance of its own; what was forecast there stands in for it.
    told = np.maximum(variance, _expected_variance(probability, enough, size))
    return squared, float(np.sqrt((share**2) @ (2.0 * told**2 + 4.0 * gap**2 * told)))


def _expected_variance(probability: FloatArray, enough: BoolArray, size: FloatArray) -> FloatArray:
    spread = np.bincount(_places(probability), probability * (1.0 - probability), minlength=N_BINS)
    return np.asarray(spread[enough] / size / size, dtype=np.float64)


def _sums(probability: FloatArray, happened: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    place = _places(probability)
    n = np.bincount(place, minlength=N_BINS).astype(np.float64)
    said = np.bincount(place, probability, minlength=N_BINS).astype(np.float64)
    won = np.bincount(place[happened], minlength=N_BINS).astype(np.float64)
    return n, said, won


def _spiegelhalter(probability: FloatArray, happened: BoolArray) -> float:
    spread = float(np.sum((1.0 - 2.0 * probability) ** 2 * probability * (1.0 - probability)))
    if spread <= 0.0:
        return math.nan
    return float(np.sum((happened - probability) * (1.0 - 2.0 * probability))) / math.sqrt(spread)
