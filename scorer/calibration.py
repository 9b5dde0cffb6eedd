"""From what the heads say to a win probability: monotone maps that a bundle can carry as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MAX_KNOTS = 100_000
INSIDE = 1e-6
"""How near to 0 and 1 a probability may come, before its logarithm is taken and after the map."""


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """A non-decreasing line through knots, flat outside them.

    ``raw``: shape (n_knots,), strictly ascending in [0, 1]. ``calibrated``: shape (n_knots,), non-decreasing in [0, 1].

    Raises
    ------
    ValueError : if the knots break one of these rules
    """

    raw: FloatArray
    calibrated: FloatArray

    def __post_init__(self) -> None:
        x, y = self.raw, self.calibrated
        if x.ndim != 1 or x.shape != y.shape or not 1 <= len(x) <= MAX_KNOTS:
            raise ValueError("knots must be two equal columns")
        # A NaN fails every comparison, so the rules are written as what must hold.
        if not (np.all(np.diff(x) > 0.0) and x[0] >= 0.0 and x[-1] <= 1.0):
            raise ValueError("raw knots must ascend inside [0, 1]")
        if not (np.all(np.diff(y) >= 0.0) and y[0] >= 0.0 and y[-1] <= 1.0):
            raise ValueError("calibrated knots must not fall and stay inside [0, 1]")

    def apply(self, probability: FloatArray) -> FloatArray:
        """Calibrate, element by element; NaN stays NaN.

        Parameters
        ----------
        probability : ndarray in [0, 1], any shape
        """
        return np.interp(probability, self.raw, self.calibrated)


@dataclass(frozen=True, slots=True)
class Beta:
    """``sigmoid(rise·ln p − fall·ln(1 − p) + shift)``: three numbers, for few records.

    ``rise`` and ``fall`` are >= 0, which makes the map monotone. Equal, they are Platt's map on log-odds.

    Raises
    ------
    ValueError : if a coefficient is negative or not finite

    Source: Kull, Silva Filho, Flach (2017), Electronic Journal of Statistics 11(2), 5052-5080.
    """

    rise: float
    fall: float
    shift: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.rise < math.inf and 0.0 <= self.fall < math.inf and math.isfinite(self.shift)):
            raise ValueError("coefficients must be finite, rise and fall not negative")

    def apply(self, probability: FloatArray) -> FloatArray:
        """Calibrate, element by element; NaN stays NaN.

        Parameters
        ----------
        probability : ndarray in [0, 1], any shape
        """
        inside = np.clip(probability, INSIDE, 1.0 - INSIDE)
        said = logistic(self.rise * np.log(inside) - self.fall * np.log1p(-inside) + self.shift)
        return np.clip(said, INSIDE, 1.0 - INSIDE)


Calibrator = Isotonic | Beta


def logistic(log_odds: FloatArray) -> FloatArray:
    """1/(1 + exp(−x)) without overflow, element by element.

    Parameters
    ----------
    log_odds : ndarray of any shape
    """
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(log_odds))), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class VennAbers:
    """Two probabilities for every forecast, one as if it were about to lose and one as if to win; shown, never used.

    ``edges``: shape (n_cells − 1,), ascending in (0, 1): forecasts from one edge up to the next share a cell. ``low``
    and ``high``: shape (n_cells,), non-decreasing in (0, 1), low <= high. Their distance is what the calibrating rows
    leave open at that forecast.

    Raises
    ------
    ValueError : if shapes or ranges are others

    Source: Vovk and Petej (2014), UAI, 829-838.
    """

    edges: FloatArray
    low: FloatArray
    high: FloatArray

    def __post_init__(self) -> None:
        if self.low.ndim != 1 or self.low.shape != self.high.shape or not 1 <= len(self.low) <= MAX_KNOTS:
            raise ValueError("venn-abers: two equal columns")
        if self.edges.shape != (len(self.low) - 1,):
            raise ValueError("venn-abers: one edge between two cells")
        # A NaN fails every comparison, so the rules are written as what must hold.
        if not (np.all(np.diff(self.edges) > 0.0) and np.all((self.edges > 0.0) & (self.edges < 1.0))):
            raise ValueError("venn-abers: edges ascend inside (0, 1)")
        if not (
            np.all(np.diff(self.low) >= 0.0)
            and np.all(np.diff(self.high) >= 0.0)
            and np.all((self.low > 0.0) & (self.low <= self.high) & (self.high < 1.0))
        ):
            raise ValueError("venn-abers: bounds rise inside (0, 1), the low one below")

    def bounds(self, probability: float) -> tuple[float, float]:
        """The two probabilities at a forecast.

        Parameters
        ----------
        probability : float in [0, 1]
        """
        place = int(np.searchsorted(self.edges, probability, side="right"))
        return float(self.low[place]), float(self.high[place])
