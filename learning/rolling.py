"""How the gate does right now, between two trainings: the last outcomes, and what their scores were worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.example import Example
from learning.metrics import wilson
from learning.patterns import day_interval, iid_interval

FloatArray = npt.NDArray[np.float64]

WINDOW = 200
"""Outcomes looked back on; as many as the founding key of win rates keeps."""
DAY_MS = 86_400_000
BAND = 10
"""Score points in a band."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A win rate in [0, 1] with its 95 % Wilson bounds, and a mean net result in R with 95 % bounds by days and iid.

    Bounds of the mean are none where the records cannot give any.
    """

    n: int
    wins: int
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    mean_r: float
    mean_r_low_days: float | None
    mean_r_high_days: float | None
    mean_r_low_iid: float | None
    mean_r_high_iid: float | None


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Recorded win probabilities against what happened: mean squared errors, unitless.

    ``base_brier`` is that of their own win rate, which knows the answers; ``skill`` is 1 − brier / base_brier, none
    while only one class is there.
    """

    n: int
    brier: float
    base_rate: float
    base_brier: float
    skill: float | None


@dataclass(frozen=True, slots=True)
class Rolling:
    """Figures of the last ``window`` decisive outcomes by exit.

    ``whole`` and ``kinds`` (executed, phantom) are none or absent without outcomes; ``bands`` are ten points of the
    recorded score each, by their lowest score; ``forecasts`` none while no calibrated model spoke.
    """

    window: int
    whole: Rate | None
    kinds: Mapping[str, Rate]
    bands: Mapping[int, Rate]
    forecasts: Forecasts | None

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "window": self.window,
            "whole": None if self.whole is None else asdict(self.whole),
            "kinds": {name: asdict(rate) for name, rate in self.kinds.items()},
            "bands": {f"{low}–{low + BAND}": asdict(rate) for low, rate in self.bands.items()},
            "forecasts": None if self.forecasts is None else asdict(self.forecasts),
        }


def rolling(outcomes: Iterable[Example], *, window: int = WINDOW) -> Rolling:
    """Figures of the latest decisive outcomes.

    Parameters
    ----------
    outcomes : Examples in any order, corrections laid over them; scores in [0, 100], win probabilities in [0, 1],
        results in R
    window : how many of the latest by exit are looked at, at least 1

    Returns
    -------
    Rolling : the same outcomes in any order give the same figures

    Raises
    ------
    ValueError : if the window is below 1

    Source: SPEC 10, seed 001 (no retrain: update metrics and patterns); Brier (1950), Monthly Weather Review 78(1),
    1-3.
    """
    if window < 1:
        raise ValueError("a window holds one outcome at least")
    last = sorted(outcomes, key=lambda outcome: outcome.order)[-window:]
    by_kind: dict[str, list[Example]] = {}
    by_band: dict[int, list[Example]] = {}
    for outcome in last:
        by_kind.setdefault(outcome.kind.value, []).append(outcome)
        if outcome.score is not None and 0.0 <= outcome.score <= 100.0:
            # The best score of all belongs to the last band.
            by_band.setdefault(min(int(outcome.score) // BAND, 9) * BAND, []).append(outcome)
    return Rolling(
        window=window,
        whole=_rate(last) if last else None,
        kinds={name: _rate(by_kind[name]) for name in sorted(by_kind)},
        bands={low: _rate(by_band[low]) for low in sorted(by_band)},
        forecasts=_forecasts(last),
    )


def _rate(inside: list[Example]) -> Rate:
    net_r = np.array([outcome.net_r for outcome in inside], dtype=np.float64)
    day = np.array([outcome.ts // DAY_MS for outcome in inside], dtype=np.int64)
    n, wins = len(inside), sum(outcome.won for outcome in inside)
    low, high = wilson(wins, n)
    by_days, iid = day_interval(net_r, day) or (None, None), iid_interval(net_r) or (None, None)
    return Rate(n, wins, wins / n, low, high, math.fsum(net_r.tolist()) / n, *by_days, *iid)


def _forecasts(inside: list[Example]) -> Forecasts | None:
    spoken = [
        (outcome.win_probability, outcome.won)
        for outcome in inside
        if outcome.win_probability is not None and 0.0 <= outcome.win_probability <= 1.0
    ]
    if not spoken:
        return None
    n, base = len(spoken), sum(won for _, won in spoken) / len(spoken)
    brier = math.fsum((said - won) ** 2 for said, won in spoken) / n
    base_brier = base * (1.0 - base)
    return Forecasts(n, brier, base, base_brier, 1.0 - brier / base_brier if base_brier > 0.0 else None)
