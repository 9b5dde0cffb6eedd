"""How far apart win probabilities may lie at a forecast, by the rows that calibrate it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from learning.rungs import check_rows
from scorer.calibration import INSIDE, VennAbers

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CELLS = 200
"""Forecasts are told apart this finely, in equal shares of the rows: finer says nothing and costs time."""


def fit_venn_abers(raw: FloatArray, won: BoolArray) -> VennAbers:
    """Fit the rows with one more at each forecast, first as a loss and then as a win.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1]
    won : ndarray of bool, shape (n,), both classes

    Returns
    -------
    VennAbers

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: Vovk and Petej (2014), UAI, 829-838, on forecasts grouped into cells.
    """
    check_rows(raw, won)
    ends = np.unique(np.quantile(raw, np.linspace(0.0, 1.0, CELLS + 1)[1:-1]))
    edges = ends[(ends > 0.0) & (ends < 1.0)]
    place = np.searchsorted(edges, raw, side="right")
    n_cells = len(edges) + 1
    n = np.bincount(place, minlength=n_cells).astype(np.float64)
    wins = np.bincount(place[won], minlength=n_cells).astype(np.float64)
    low, high = (np.array([_with_one_more(n, wins, at, more) for at in range(n_cells)]) for more in (0.0, 1.0))
    # Both rise with the forecast by theory; rounding must not say otherwise.
    low, high = np.maximum.accumulate(low), np.maximum.accumulate(high)
    return VennAbers(edges, np.clip(low, INSIDE, 1.0 - INSIDE), np.clip(np.maximum(low, high), INSIDE, 1.0 - INSIDE))


def _with_one_more(n: FloatArray, wins: FloatArray, at: int, more: float) -> float:
    size, won = n.copy(), wins.copy()
    size[at] += 1.0
    won[at] += more
    there = np.flatnonzero(size > 0.0)
    fitted = isotonic_regression(won[there] / size[there], weights=size[there])
    return float(fitted.x[np.searchsorted(there, at)])
