"""From which score on it is shown, and not only estimated, that wins are frequent enough to pay."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GRID: Final = (40, 50, 60, 70, 80)
"""Scores at which the claim is tested."""
ERROR_RATE: Final = 0.10
"""Chance that a situation gets a badge that is wrong at any of the tested scores."""


def certified_from(
    scores: FloatArray, won: BoolArray, weight: FloatArray, p_min: float, *, error_rate: float = ERROR_RATE
) -> int | None:
    """The lowest tested score above which the win rate is shown to exceed break-even: Learn Then Test.

    At each score of ``GRID`` the hypothesis "the win rate at or above it is p_min at most" is tested by the exact
    binomial tail; Holm's procedure keeps the chance of any false rejection at ``error_rate``. What is not decisive
    counts as not won. Weighted records count as their effective number, (Σw)²/Σw², with their weighted win rate. That
    p_min was estimated from the same records is not part of the claim.

    Parameters
    ----------
    scores : ndarray of shape (n,), in [0, 100]
    won : ndarray of bool, shape (n,)
    weight : ndarray of shape (n,), > 0
    p_min : win probability that breaks even, in [0, 1]
    error_rate : in (0, 1)

    Returns
    -------
    int or None: a score of the grid; none when nothing is shown

    Source: Angelopoulos et al. (2025), Annals of Applied Statistics 19(2), 1641-1662; Holm (1979); STATISTICS 1.2.
    """
    values = [_p_value(won[scores >= start], weight[scores >= start], p_min) for start in GRID]
    shown = [start for start, rejected in zip(GRID, holm(values, error_rate), strict=True) if rejected]
    return min(shown, default=None)


def holm(p_values: list[float], error_rate: float) -> list[bool]:
    """Which hypotheses are rejected when the chance of any false rejection is held down.

    Parameters
    ----------
    p_values : in [0, 1]
    error_rate : in (0, 1)

    Source: Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70.
    """
    rejected = [False] * len(p_values)
    for left, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] > error_rate / (len(p_values) - left):
            break
        rejected[place] = True
    return rejected


def binomial_tail(hits: int, n: int, p: float) -> float:
    """Chance of at least so many hits in n trials, exact to rounding.

    Parameters
    ----------
    hits : 0..n
    n : number of trials
    p : chance of each, in [0, 1]

    Raises
    ------
    ValueError : if a value leaves its range
    """
    if not (0 <= hits <= n and 0.0 <= p <= 1.0):
        raise ValueError("expected hits in 0..n and a probability")
    if hits == 0 or p == 1.0:
        return 1.0
    if p == 0.0:
        return 0.0
    whole = math.lgamma(n + 1)
    odds, rest = math.log(p), math.log1p(-p)
    terms = [
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * odds + (n - k) * rest)
        for k in range(hits, n + 1)
    ]
    return min(1.0, math.fsum(terms))


def _p_value(won: BoolArray, weight: FloatArray, p_min: float) -> float:
    if len(won) == 0:
        return 1.0
    total, squares = float(np.sum(weight)), float(np.sum(weight**2))
    n = math.floor(total**2 / squares + 1e-9)
    # Rounded against the claim on both sides.
    hits = math.floor(n * float(np.sum(weight[won])) / total + 1e-9)
    return binomial_tail(min(hits, n), n, p_min)
