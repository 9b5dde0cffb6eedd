"""Whether forecasts beat the base rate: Brier skill walking forward, with bounds that hold at every look."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DAY_MS = 86_400_000
CONFIDENCE = 0.8
"""Of each bound, one-sided (STATISTICS 9 (5))."""
DECISION_EXPECTED = 1_000
"""Independent forecasts at which the bounds are tightest."""
FEWEST_SPANS = 10
"""With fewer spans of time their spread, and so the bound, is a guess: no skill is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """Brier skill over the base rate that was known before each forecast, unitless, and its bounds.

    ``independent`` is how many independent forecasts the ``n`` are worth; ``spans`` how many stretches of time, days
    or as long as the longest label, they lie in. ``low`` and ``high`` each hold at all looks at once with
    ``confidence``; they are −inf and inf where the spans are too few.
    """

    n: int
    independent: float
    spans: int
    skill: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    @property
    def shown(self) -> bool:
        """Whether there is skill as far as the bound says."""
        return self.low > 0.0

    @property
    def absent(self) -> bool:
        """Whether there is none, as far as the other bound says."""
        return self.high <= 0.0

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values: a bound that is not finite is none."""
        values = asdict(self)
        return {
            name: None if isinstance(value, float) and math.isinf(value) else value for name, value in values.items()
        }

    def __str__(self) -> str:
        low, high = (f"{100.0 * bound:+.1f}" if math.isfinite(bound) else "unknown" for bound in (self.low, self.high))
        return (
            f"skill {100.0 * self.skill:+.1f} % ({low} to {high}, {self.confidence:.0%} each side) over the base rate, "
            f"walking forward over {self.n} outcomes worth {self.independent:.0f}"
        )


def brier_skill(
    probability: FloatArray,
    base: FloatArray,
    won: BoolArray,
    *,
    entry_ms: IntArray,
    exit_ms: IntArray,
    symbol: tuple[str, ...] | None = None,
    confidence: float = CONFIDENCE,
) -> Skill:
    """Skill of forecasts made in the order of time, each against the base rate of its own training rows.

    The bounds are those of an asymptotic confidence sequence of the mean difference of squared errors. Its variance is
    that of independent rows, enlarged by whichever says more: the spread of sums over spans of time, across all
    symbols, or the time that labels of one symbol share.

    Parameters
    ----------
    probability, base : ndarrays of shape (n,), in [0, 1]
    won : ndarray of bool, shape (n,)
    entry_ms, exit_ms : ndarrays of shape (n,), epoch ms; a label lives on [entry, exit]
    symbol : of each row; all the same by default
    confidence : of each bound, in (0.5, 1)

    Raises
    ------
    ValueError : if shapes differ or are empty, or a number is out of range

    Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Annals of Statistics 52(6), 2613-2640 (its one-sided
    form); STATISTICS 4.1 and 9 (5). Uniqueness: López de Prado (2018), chapter 4.
    """
    n = len(won)
    columns = (probability, base, won, entry_ms, exit_ms)
    if n == 0 or any(column.shape != (n,) for column in columns) or (symbol is not None and len(symbol) != n):
        raise ValueError("one forecast, base rate, life and symbol for each outcome, at least one")
    both = np.concatenate((probability, base))
    if not (np.all((both >= 0.0) & (both <= 1.0)) and np.all(exit_ms >= entry_ms) and 0.5 < confidence < 1.0):
        raise ValueError("probabilities in [0, 1], labels that end after they begin, a confidence in (0.5, 1)")
    error = (base - won) ** 2
    gain = error - (probability - won) ** 2
    scale, mean, spread = float(error.mean()), float(gain.mean()), float(gain.std())
    if scale <= 0.0:
        return Skill(n=n, independent=0.0, spans=0, skill=0.0, low=-math.inf, high=math.inf, confidence=confidence)
    span_ms = DAY_MS * max(1, math.ceil(int((exit_ms - entry_ms).max()) / DAY_MS))
    enlarged, spans = _design_effect(gain - mean, entry_ms // span_ms)
    independent = min(independent_rows(entry_ms, exit_ms, symbol), n / enlarged)
    if spans < FEWEST_SPANS:
        low, high = -math.inf, math.inf
    else:
        reach = spread * _half_width(independent, 1.0 - confidence)
        low, high = (mean - reach) / scale, (mean + reach) / scale
    return Skill(
        n=n, independent=independent, spans=spans, skill=mean / scale, low=low, high=high, confidence=confidence
    )


def independent_rows(entry_ms: IntArray, exit_ms: IntArray, symbol: tuple[str, ...] | None = None) -> float:
    """How many labels there would be if none shared its time with another of its symbol: the sum of uniqueness.

    Parameters
    ----------
    entry_ms, exit_ms : ndarrays of shape (n,), epoch ms; a label lives on [entry, exit]
    symbol : of each row; all the same by default

    Source: López de Prado (2018), chapter 4; STATISTICS 5.
    """
    names = np.zeros(len(entry_ms), dtype=np.int64) if symbol is None else np.unique(symbol, return_inverse=True)[1]
    return float(sum(_unique_time(entry_ms[names == name], exit_ms[names == name] + 1) for name in np.unique(names)))


def _unique_time(begins: IntArray, ends: IntArray) -> float:
    moments = np.unique(np.concatenate((begins, ends)))
    first, last = np.searchsorted(moments, begins), np.searchsorted(moments, ends)
    living = np.cumsum(np.bincount(first, minlength=len(moments)) - np.bincount(last, minlength=len(moments)))[:-1]
    length = np.diff(moments).astype(np.float64)
    # Between two labels nobody lives, and nothing is shared.
    shared = np.concatenate(([0.0], np.cumsum(np.where(living > 0, length / np.maximum(living, 1), 0.0))))
    return float(((shared[last] - shared[first]) / (ends - begins)).sum())


def _design_effect(centred: FloatArray, span: IntArray) -> tuple[float, int]:
    """How much larger the variance of the mean is than that of independent rows, at least 1; and how many spans."""
    _, place = np.unique(span, return_inverse=True)
    sums = np.bincount(place, weights=centred)
    spans, squares = len(sums), float(centred @ centred)
    if spans < 2 or squares <= 0.0:
        return 1.0, spans
    return max(1.0, float(sums @ sums) * spans / (spans - 1) / squares), spans


def _half_width(t: float, alpha: float) -> float:
    """Half-width of the one-sided sequence after ``t`` independent rows, in standard deviations of one."""
    rho2 = (-2.0 * math.log(2.0 * alpha) + math.log(1.0 - 2.0 * math.log(2.0 * alpha))) / DECISION_EXPECTED
    grown = t * rho2 + 1.0
    return math.sqrt(2.0 * grown / (t * t * rho2) * math.log1p(math.sqrt(grown) / (2.0 * alpha)))
