"""When and in which markets signals won: win rate and mean R by hour, session, volatility, volume and trend.

A look back for a reader, never an input of a decision: some forty groups are compared, so a few will differ by luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from learning.example import Example
from learning.metrics import wilson
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.errors import Invalid
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]

HOUR_MS = 3_600_000
DECISIVE = {"win": True, "loss": False}
UPPER_TAIL = 0.975
NO_SPREAD = 1e-12
"""Results that differ by less are one result: a width of zero would speak for what has not happened yet."""
HEADINGS = ("by", "group", "n", "days", "win rate", "95 % by days", "95 % iid", "mean R", "95 % by days", "95 % iid")


class Dimension(StrEnum):
    """What outcomes are grouped by."""

    HOUR = "hour"
    SESSION = "session"
    VOLATILITY = "volatility"
    VOLUME = "volume"
    TREND = "trend"
    SLOPE = "slope"


@dataclass(frozen=True, slots=True)
class Bands:
    """Groups of one number, in its own unit. ``tops`` ascend and end each group but the last.

    A value on a border belongs to the group above it, unless ``holds_top`` gives it to the one below.
    """

    feature: str
    names: tuple[str, ...]
    tops: tuple[float, ...]
    holds_top: tuple[bool, ...]

    def place(self, value: float) -> str:
        """Name of the group that holds a finite value."""
        for name, top, closed in zip(self.names, self.tops, self.holds_top, strict=False):
            if value < top or (closed and value == top):
                return name
        return self.names[-1]


VOLUME = Bands("volume_ratio", ("< 0.8", "0.8–1.2", "> 1.2"), (0.8, 1.2), (False, True))
"""Volume of the signal's candle against the mean of the 20 before."""
TREND = Bands("ts60", ("< 30", "30–60", "≥ 60"), (30.0, 60.0), (False, False))
"""Strength of the hourly trend, 0–100, whatever its direction; from 60 on the gates call it a trend."""
SLOPE = Bands("trend_slope_pct", ("≤ −5 %", "−5–0 %", "0–5 %", "≥ 5 %"), (-5.0, 0.0, 5.0), (True, False, False))
"""Rise of the trend line in the trade's direction over 50 candles; from 5 % on the heuristic counts it in favour."""
_BANDS = {Dimension.VOLUME: VOLUME, Dimension.TREND: TREND, Dimension.SLOPE: SLOPE}
_ORDER: dict[Dimension, tuple[str, ...]] = {
    Dimension.HOUR: tuple(f"{hour:02d}" for hour in range(24)),
    Dimension.SESSION: tuple(session.value for session in Session),
    Dimension.VOLATILITY: tuple(regime.value for regime in VolatilityRegime),
    **{dimension: bands.names for dimension, bands in _BANDS.items()},
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with two 95 % intervals: over days, on which markets move together, and as if trades were independent.

    Bounds are none where the records cannot give any: below two days or two trades, or without any spread.
    """

    value: float
    low_days: float | None
    high_days: float | None
    low_iid: float | None
    high_iid: float | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """One group: ``n`` decisive outcomes on ``n_days`` UTC days, win rate in [0, 1], mean net result in R."""

    dimension: Dimension
    group: str
    n: int
    n_days: int
    wins: int
    win_rate: Figure
    mean_r: Figure


@dataclass(frozen=True, slots=True)
class Patterns:
    """All groups that have records, dimension by dimension in a fixed order, and how many records there were.

    ``indecisive`` counts what was left out: timeouts, unfilled, without data. A record that lacks a bucket or a
    feature is missing in the dimensions of those only.
    """

    n: int
    indecisive: int
    groups: tuple[Pattern, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "n": self.n,
            "indecisive": self.indecisive,
            "groups": [{**asdict(group), "dimension": group.dimension.value} for group in self.groups],
        }

    @property
    def text_rows(self) -> list[tuple[str, ...]]:
        """One line of ten cells a group, under ``HEADINGS``; an unknown interval is a dash."""
        return [
            (
                group.dimension.value,
                group.group,
                str(group.n),
                str(group.n_days),
                f"{100.0 * group.win_rate.value:.1f} %",
                _span(group.win_rate.low_days, group.win_rate.high_days, _percent),
                _span(group.win_rate.low_iid, group.win_rate.high_iid, _percent),
                _signed(group.mean_r.value),
                _span(group.mean_r.low_days, group.mean_r.high_days, _signed),
                _span(group.mean_r.low_iid, group.mean_r.high_iid, _signed),
            )
            for group in self.groups
        ]


def find_patterns(rows: Iterable[Mapping[str, Any]]) -> Patterns:
    """Group decisive outcomes by hour of day (UTC, of the signal), session, volatility, volume and trend.

    Parameters
    ----------
    rows : bodies of ``closed`` facts in any order: ``ts`` in epoch ms, ``outcome``, ``net_r`` in R, ``bucket`` and
        ``features`` in the trade's direction

    Returns
    -------
    Patterns : the same rows in any order give the same figures

    Raises
    ------
    Invalid : if a decisive row has no time or no finite result, or a bucket that does not exist

    Source: seed 001 (pattern analysis), SPEC 10; intervals as SPEC 13.
    """
    indecisive = 0
    read: list[_Outcome] = []
    for row in rows:
        if row.get("outcome") in DECISIVE:
            read.append(_Outcome.of(row))
        else:
            indecisive += 1
    groups = []
    for dimension, names in _ORDER.items():
        members: dict[str, list[_Outcome]] = {name: [] for name in names}
        for outcome in read:
            name = outcome.groups.get(dimension)
            if name is not None:
                members[name].append(outcome)
        groups += [_pattern(dimension, name, inside) for name, inside in members.items() if len(inside) > 0]
    return Patterns(len(read), indecisive, tuple(groups))


def brief_patterns(outcomes: Iterable[Example]) -> dict[str, list[float]]:
    """Patterns as an attempt at training keeps them: for every group the count, the wins and the mean net result.

    Parameters
    ----------
    outcomes : Examples; they count by the moment of the signal, like the rows of ``find_patterns``

    Returns
    -------
    By ``dimension|group``: n, wins, mean net R rounded to 6 decimals; empty without outcomes

    Source: SPEC 10; intervals follow from the rows and are not kept.
    """
    found = find_patterns(
        {
            "ts": outcome.ts,
            "outcome": "win" if outcome.won else "loss",
            "net_r": outcome.net_r,
            "bucket": outcome.bucket,
            "features": outcome.features,
        }
        for outcome in outcomes
    )
    return {
        f"{group.dimension.value}|{group.group}": [group.n, group.wins, round(group.mean_r.value, 6)]
        for group in found.groups
    }


def day_interval(values: FloatArray, day: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """95 % interval of a mean per trade when whole days, not trades, are the independent observations.

    The mean is a ratio of day sums; its variance is that of the day totals of deviations, with Student's t for one
    fewer than the number of days. What resampling days tends to, without chance.

    Parameters
    ----------
    values : ndarray of shape (n,), any unit
    day : ndarray of int, shape (n,), the UTC day of each value

    Returns
    -------
    Bounds in the unit of the values; none below two days or without any spread between them

    Raises
    ------
    ValueError : if the shapes differ

    Source: ratio estimator, Cochran (1977), Sampling Techniques, 6.3; Liang and Zeger (1986), Biometrika 73(1), 13-22.
    """
    if values.ndim != 1 or values.shape != day.shape:
        raise ValueError("expected one day for each value")
    days, place = np.unique(day, return_inverse=True)
    if len(days) < 2:
        return None
    mean = math.fsum(values.tolist()) / len(values)
    totals = np.bincount(place, weights=values - mean)
    error = math.sqrt(float(totals @ totals) * len(days) / (len(days) - 1)) / len(values)
    return _around(mean, error, len(days) - 1, float(np.abs(values).max()))


def iid_interval(values: FloatArray) -> tuple[float, float] | None:
    """95 % interval of a mean as if all values were independent, shown for comparison only.

    Parameters
    ----------
    values : ndarray of shape (n,), any unit

    Returns
    -------
    Bounds in the unit of the values; none below two values or without any spread

    Source: Student (1908), Biometrika 6(1), 1-25.
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values.tolist()) / n
    error = math.sqrt(math.fsum(((values - mean) ** 2).tolist()) / (n - 1) / n)
    return _around(mean, error, n - 1, float(np.abs(values).max()))


def _around(mean: float, error: float, degrees: int, largest: float) -> tuple[float, float] | None:
    if error <= NO_SPREAD * max(1.0, largest):
        return None
    half = float(stdtrit(degrees, UPPER_TAIL)) * error
    return mean - half, mean + half


@dataclass(frozen=True, slots=True)
class _Outcome:
    day: int
    won: bool
    net_r: float
    groups: Mapping[Dimension, str]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Outcome:
        ts, net_r = row.get("ts"), row.get("net_r")
        if isinstance(ts, bool) or not isinstance(ts, int):
            raise Invalid(Reason.FIELD_TYPE, "ts", "expected epoch milliseconds")
        if isinstance(net_r, bool) or not isinstance(net_r, (int, float)) or not math.isfinite(net_r):
            raise Invalid(Reason.FIELD_NOT_FINITE, "net_r")
        groups = {Dimension.HOUR: f"{ts // HOUR_MS % 24:02d}"}
        sent = row.get("bucket")
        if sent is not None:
            bucket = _bucket(sent)
            groups |= {Dimension.SESSION: bucket.session.value, Dimension.VOLATILITY: bucket.volatility.value}
        features = row.get("features")
        for dimension, bands in _BANDS.items():
            value = features.get(bands.feature) if isinstance(features, Mapping) else None
            # What a sender called a feature may be a word; such a record is missing in that dimension.
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                groups[dimension] = bands.place(value)
        return cls(int(ts // (24 * HOUR_MS)), DECISIVE[row["outcome"]], float(net_r), groups)


def _bucket(sent: object) -> Bucket:
    try:
        return Bucket.parse(str(sent))
    except ValueError as error:
        raise Invalid(Reason.FIELD_RANGE, "bucket", f"{sent!r} is no market situation") from error


def _pattern(dimension: Dimension, group: str, inside: list[_Outcome]) -> Pattern:
    # Sorted, since sums of day totals in another order end in other last digits.
    ordered = sorted(inside, key=lambda outcome: (outcome.day, outcome.net_r, outcome.won))
    day = np.array([outcome.day for outcome in ordered], dtype=np.int64)
    won = np.array([outcome.won for outcome in ordered], dtype=np.float64)
    net_r = np.array([outcome.net_r for outcome in ordered], dtype=np.float64)
    n, wins, n_days = len(ordered), int(won.sum()), len(np.unique(day))
    return Pattern(
        dimension,
        group,
        n,
        n_days,
        wins,
        _figure(wins / n, _rate_by_days(won, wins, day, n_days), wilson(wins, n)),
        _figure(math.fsum(net_r.tolist()) / n, day_interval(net_r, day), iid_interval(net_r)),
    )


def _rate_by_days(won: FloatArray, wins: int, day: npt.NDArray[np.int64], n_days: int) -> tuple[float, float] | None:
    if n_days < 2:
        return None
    # All won or all lost has no spread: Wilson with one trial a day is the safe side, as if a day shared one fate.
    if wins in (0, len(won)):
        return wilson(0 if wins == 0 else n_days, n_days)
    bounds = day_interval(won, day)
    return None if bounds is None else (max(0.0, bounds[0]), min(1.0, bounds[1]))


def _figure(value: float, days: tuple[float, float] | None, iid: tuple[float, float] | None) -> Figure:
    low_days, high_days = (None, None) if days is None else days
    low_iid, high_iid = (None, None) if iid is None else iid
    return Figure(value, low_days, high_days, low_iid, high_iid)


def _percent(value: float) -> str:
    return f"{100.0 * value:.0f} %"


def _signed(value: float) -> str:
    # A mean that rounds to nothing has no direction worth printing.
    return f"{round(value, 2) + 0.0:+.2f}"


def _span(low: float | None, high: float | None, word: Callable[[float], str]) -> str:
    return "–" if low is None or high is None else f"{word(low)} … {word(high)}"
