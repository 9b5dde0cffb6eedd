"""How good win probabilities were, on records their heads had not seen. Nothing here is weighted."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

N_BINS = 10
Z_95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""
SMALLEST = 1e-15
"""A forecast of exactly 0 or 1 that fails would cost infinitely much."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One tenth of the calibration curve: mean forecast, win rate, and its 95 % Wilson bounds, all in [0, 1]."""

    low: float
    high: float
    n: int
    mean_probability: float
    win_rate: float
    win_rate_low: float
    win_rate_high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of one set of forecasts. ``auc`` is none while only one class is there.

    ``brier_skill`` is 1 − Brier / Brier of the base rate; ``reliability`` the debiased squared distance between
    forecasts and win rates over the bins (it can be slightly negative). All unitless.
    """

    n: int
    wins: int
    base_rate: float
    brier: float
    brier_skill: float
    log_loss: float
    base_log_loss: float
    auc: float | None
    reliability: float
    curve: tuple[Bin, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "curve": [asdict(entry) for entry in self.curve]}


def measure(probability: FloatArray, won: BoolArray) -> Metrics:
    """All figures of a set of forecasts.

    Parameters
    ----------
    probability : ndarray of shape (n,), win probabilities in [0, 1]
    won : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError : if the shapes differ or are empty, or a forecast is not in [0, 1]

    Source: Brier (1950), Monthly Weather Review 78(1), 1-3; STATISTICS 6.
    """
    if probability.shape != won.shape or probability.ndim != 1 or len(won) == 0:
        raise ValueError("one forecast for each outcome, at least one")
    if not np.all((probability >= 0.0) & (probability <= 1.0)):
        raise ValueError("forecasts must lie in [0, 1]")
    base = float(won.mean())
    brier = float(np.mean((probability - won) ** 2))
    # With one class the base rate is never wrong, and skill against it is undefined: none is claimed.
    base_brier = base * (1.0 - base)
    curve = calibration_curve(probability, won)
    return Metrics(
        n=len(won),
        wins=int(won.sum()),
        base_rate=base,
        brier=brier,
        brier_skill=1.0 - brier / base_brier if base_brier > 0.0 else 0.0,
        log_loss=log_loss(probability, won),
        base_log_loss=log_loss(np.full(len(won), base), won),
        auc=auc(probability, won),
        reliability=_reliability(curve, len(won)),
        curve=curve,
    )


def log_loss(probability: FloatArray, won: BoolArray) -> float:
    """Mean negative log-likelihood in nats: 0 perfect, 0.693 a coin.

    Parameters
    ----------
    probability : ndarray of shape (n,), in [0, 1]; kept 1e-15 away from 0 and 1
    won : ndarray of bool, shape (n,)
    """
    inside = np.clip(probability, SMALLEST, 1.0 - SMALLEST)
    return float(-np.mean(np.where(won, np.log(inside), np.log1p(-inside))))


def auc(probability: FloatArray, won: BoolArray) -> float | None:
    """Probability that a win was rated above a loss, ties counting half; none without both classes.

    Parameters
    ----------
    probability : ndarray of shape (n,)
    won : ndarray of bool, shape (n,)

    Source: Mann and Whitney (1947), Annals of Mathematical Statistics 18(1), 50-60.
    """
    wins, losses = int(won.sum()), int((~won).sum())
    if wins == 0 or losses == 0:
        return None
    _, group, counts = np.unique(probability, return_inverse=True, return_counts=True)
    # The mean rank of each tied group, counted from 1.
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[group]
    return float((ranks[won].sum() - wins * (wins + 1) / 2.0) / (wins * losses))


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Bounds of a share that stay inside [0, 1] and make sense for few trials.

    Parameters
    ----------
    successes, n : counts, 0 <= successes <= n, n >= 1
    z : normal quantile, two-sided; 1.96 for 95 %

    Source: Wilson (1927), Journal of the American Statistical Association 22(158), 209-212.
    """
    share, spread = successes / n, z * z / n
    centre = share + spread / 2.0
    reach = z * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n))
    # Where a bound is exactly 0 or 1 it equals the share, and rounding can put it a hair to either side.
    return max(0.0, min(share, (centre - reach) / (1.0 + spread))), min(
        1.0, max(share, (centre + reach) / (1.0 + spread))
    )


def calibration_curve(probability: FloatArray, won: BoolArray) -> tuple[Bin, ...]:
    """Ten bins of equal width; empty ones are left out.

    Parameters
    ----------
    probability : ndarray of shape (n,), in [0, 1]
    won : ndarray of bool, shape (n,)
    """
    place = np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)
    found = []
    for number in range(N_BINS):
        inside = place == number
        n, wins = int(inside.sum()), int(won[inside].sum())
        if n > 0:
            low, high = wilson(wins, n)
            mean = float(probability[inside].mean())
            found.append(Bin(number / N_BINS, (number + 1) / N_BINS, n, mean, wins / n, low, high))
    return tuple(found)


def _reliability(curve: tuple[Bin, ...], n: int) -> float:
    # A bin with one record has no variance to correct by, so it says nothing.
    return sum(
        entry.n
        / n
        * ((entry.win_rate - entry.mean_probability) ** 2 - entry.win_rate * (1.0 - entry.win_rate) / (entry.n - 1))
        for entry in curve
        if entry.n > 1
    )
