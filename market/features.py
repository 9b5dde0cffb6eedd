"""Features of every closed candle, from candles alone: one table per series and profile, neutral between the sides.

``directional`` turns a row into the trade's direction, which is how features are stored and learned from. Row ``t``
looks at candles up to ``t``, and at higher timeframes only as far as they were known when candle ``t`` closed.
``docs/features.md`` gives formula, unit, range, look-back and warm-up of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from market import chart as formulas
from market.candles import Candles
from market.chart import WARM_UP, WARM_UP_HIGHER, Chart
from market.columns import BoolArray, FloatArray, IntArray
from market.setup import Setup, sided
from scorer.schema import SCHEMAS, STORED_ONLY, Direction, Feature, Kind
from signals.bucket import Session, VolatilityRegime
from signals.context import DEFAULT_SESSIONS, SessionWindow, session_at
from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import Side

SESSIONS = tuple(Session)
REGIMES = tuple(VolatilityRegime)
QUARTER_MS, MINUTE_MS = 900_000, 60_000

_HIGHER: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "trend": {"ts15": ("15m", "ts"), "rc15": ("15m", "rc"), "ts60": ("1h", "ts"), "rc60": ("1h", "rc")},
        "range": {"ts60": ("1h", "ts"), "rc60": ("1h", "rc")},
        "scalp": {"ts15": ("15m", "ts"), "ema_dir_15m": ("15m", "dir")},
    }
)
"""Column name → timeframe it is computed on, and which of that timeframe's columns it is."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One closed candle as the chart shows it; NaN where a value is not known yet."""

    profile: str
    symbol: str
    numbers: Mapping[str, float]
    session: Session
    volatility_regime: VolatilityRegime


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Every feature of every closed candle of a series, side-neutral.

    ``columns`` hold float arrays of the series' length: the schema's numbers, those stored for the gates, and what
    ``directional`` needs besides. ``sessions`` and ``regimes`` index ``SESSIONS`` and ``REGIMES``; the regime is
    ``normal`` where ``volatility_known`` is false. Rows before ``ready`` still feel where the series began: ten times
    the slowest span has not passed.
    """

    profile: str
    candles: Candles
    columns: Mapping[str, FloatArray]
    sessions: IntArray
    regimes: IntArray
    volatility_known: BoolArray
    ready: int

    def __len__(self) -> int:
        return len(self.candles)

    def row(self, index: int) -> FeatureRow:
        """One candle's features, side-neutral."""
        return FeatureRow(
            profile=self.profile,
            symbol=self.candles.symbol,
            numbers={name: float(column[index]) for name, column in self.columns.items()},
            session=SESSIONS[int(self.sessions[index])],
            volatility_regime=REGIMES[int(self.regimes[index])],
        )


def features(
    candles: Candles,
    *,
    profile: str,
    base: Candles | None = None,
    sessions: Sequence[SessionWindow] = DEFAULT_SESSIONS,
) -> FeatureTable:
    """Compute the table of a series for ``trend``, ``range`` or ``scalp``.

    ``base`` is the same symbol's finer series, from which the 15- and 60-minute candles are made; without it they are
    made from ``candles`` themselves, and are missing where those are too coarse.
    """
    if profile not in SCHEMAS:
        raise Invalid(Reason.FIELD_FORMAT, "profile", f"expected one of {', '.join(SCHEMAS)}")
    if base is not None and base.symbol != candles.symbol:
        raise Invalid(Reason.FIELD_FORMAT, "base", f"{base.symbol} is not {candles.symbol}")
    chart = Chart.of(candles)
    columns = _own_columns(chart, candles, profile)
    higher, higher_ready = _higher_columns(candles, candles if base is None else base, profile)
    share = columns.pop("atr_pct_share")
    known = np.isfinite(share)
    # searchsorted over the regimes' upper bounds; an unknown share is ``normal``, as a live decision would say.
    regimes = np.where(known, np.searchsorted([0.25, 0.75, 0.95], share, side="right"), 1)
    return FeatureTable(
        profile=profile,
        candles=candles,
        columns=MappingProxyType(columns | higher),
        sessions=_sessions(candles.close_ts, sessions),
        regimes=np.asarray(regimes, dtype=np.int64),
        volatility_known=known,
        ready=max(WARM_UP[profile], higher_ready),
    )


def directional(row: FeatureRow, side: Side, setup: Setup | None = None) -> dict[str, float | str]:
    """The row in the trade's direction, as it is stored: the schema's features, then those for the gates alone.

    What is not known (NaN, no set-up, ``qscore``) is left out rather than made up.
    """
    numbers = dict(row.numbers)
    words = {
        "session": row.session.value,
        "volatility_regime": row.volatility_regime.value,
        "symbol_cluster": row.symbol,
    }
    of_side = sided(numbers, side, setup)
    stored: dict[str, float | str] = {}
    for feature in (*SCHEMAS[row.profile].features, *STORED_ONLY[row.profile]):
        if feature.kind is Kind.CATEGORY:
            stored[feature.name] = words[feature.name]
            continue
        value = _turned(feature, numbers, of_side, side)
        if math.isfinite(value):
            stored[feature.name] = value
    stored["features_version"] = f"{row.profile}.{SCHEMAS[row.profile].version}"
    return stored


def _turned(feature: Feature, numbers: Mapping[str, float], of_side: Mapping[str, float], side: Side) -> float:
    if feature.direction is Direction.SIDED:
        return of_side.get(feature.name, math.nan)
    value = numbers.get(feature.name, math.nan)
    return feature.turned(value, numbers.get(feature.partner, math.nan), side)


def _own_columns(chart: Chart, candles: Candles, profile: str) -> dict[str, FloatArray]:
    columns = formulas.volatility(chart) | formulas.candle_shape(chart) | formulas.volumes(chart)
    if profile == "trend":
        columns |= formulas.oscillators(chart) | formulas.trend(chart) | formulas.swings(chart)
        columns |= formulas.slopes(chart, formulas.EMA_MIDDLE, formulas.EMA_SLOW)
        columns |= formulas.calendar(candles.close_ts)
    elif profile == "range":
        columns |= formulas.oscillators(chart) | formulas.sideways(chart)
    else:
        columns |= formulas.impulse(chart) | formulas.slopes(chart, formulas.EMA_FAST, formulas.EMA_MIDDLE)
    return columns


def _higher_columns(candles: Candles, base: Candles, profile: str) -> tuple[dict[str, FloatArray], int]:
    """Columns of the higher timeframes, each row as known at its close; and the first row where all are warm."""
    found: dict[str, FloatArray] = {}
    ready = 0
    wanted = _HIGHER[profile]
    for timeframe in dict.fromkeys(timeframe for timeframe, _ in wanted.values()):
        higher = _known_higher(base, timeframe)
        here = {name: key for name, (of, key) in wanted.items() if of == timeframe}
        if higher is None:
            found |= {name: np.full(len(candles), np.nan) for name in here}
            continue
        series, known_ms = higher
        row = np.searchsorted(known_ms, candles.close_ts, side="right") - 1
        columns = formulas.higher_strength(series)
        for name, key in here.items():
            # Row −1, nothing known yet, meets the NaN appended at the end.
            found[name] = np.append(columns[key], np.nan)[row]
        ready = max(ready, int(np.searchsorted(row, WARM_UP_HIGHER, side="left")))
    return found, ready


def _known_higher(base: Candles, timeframe: str) -> tuple[Candles, IntArray] | None:
    try:
        return base.resample_known(timeframe)
    except Invalid:  # a base that does not divide the timeframe has no such candles
        return None


def _sessions(close_ts: IntArray, windows: Sequence[SessionWindow]) -> IntArray:
    """Session of each close. Sessions begin on the quarter hour in every zone, so a quarter is looked up once."""
    on_quarters = all(at.minute % 15 == 0 and at.second == 0 for window in windows for at in (window.start, window.end))
    slots, where = np.unique(close_ts // (QUARTER_MS if on_quarters else MINUTE_MS), return_inverse=True)
    length = QUARTER_MS if on_quarters else MINUTE_MS
    index = {session: number for number, session in enumerate(SESSIONS)}
    named = [index[session_at(slot * length, windows)] for slot in slots.tolist()]
    return np.asarray(named, dtype=np.int64)[where]
