"""Three plain strategies that need nothing but candles, so that every part of Penumbra can be tried without an engine.

They are rules that traders know by name, symmetric between the sides, and not tuned for profit:

``trend``, hourly: **buy the pullback.** The middle moving average (21) lies above the slow one (50), the slow one rises
and ADX is at least 18. Within eight candles the price came back to the middle average; then a rising candle closes
above the high of the one before and above the fast average (8). Target 2 R.

``range``, 15 minutes: **fade the edge.** ADX is below 25, the range of the 48 candles before is 3 to 12 ATR wide, no
edge of it is younger than six candles, and the lower edge was touched at least twice. The candle dips into the lowest
quarter and is rejected: a lower wick of at least 40 % and a close back inside, still in the lowest third. Target: the
other edge, but at least 1.6 R; first target: the middle, when it lies at least 0.8 R away.

``scalp``, 5 minutes: **go with the impulse.** The 15-minute averages (8, 21) point up, the price is above the day's
VWAP but not more than 3 ATR; a candle that is mostly body, of at least half an ATR and on 1.2 times the usual volume,
closes above the highs of the three before. Target 1.5 R.

Shorts are the same rules with the sign of the trade. The stop lies ``atr_stop`` ATR from the signal candle's close.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from market import indicators as ta
from market.candles import Candles
from market.columns import BoolArray, FloatArray
from market.features import FeatureTable, directional, features
from market.setup import Setup
from signals.errors import Invalid
from signals.profile import HOUR_MS
from signals.reasons import Reason
from signals.signal import Side, Signal
from signals.timeframe import timeframe_ms

Proposal = Signal
"""What a strategy proposes is a signal, complete: nothing is added on the way to the queue."""

TREND_ADX, PULLBACK_CANDLES, SWING_CANDLES = 18.0, 8, 24
RANGE_ADX, RANGE_WIDTH_ATR, RANGE_AGE, RANGE_TOUCHES, RANGE_ZONE = 25.0, (3.0, 12.0), 6.0, 2.0, 1.0 / 3.0
FIRST_TARGET_R = 0.8
SCALP_BODY, SCALP_IMPULSE, SCALP_VOLUME, SCALP_VWAP_ATR, SCALP_BREAK = 0.6, 0.5, 1.2, 3.0, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategySettings:
    """What a user may change. ``cooldown_candles`` is the least distance between two signals of one side.

    ``one_open`` asks whoever knows the outcomes to admit one open trade per symbol and side (see ``OpenGuard``);
    ``timeout_ms`` tells them how long a trade may last.
    """

    timeframe: str
    reward_risk: float
    atr_stop: float = 2.0
    cooldown_candles: int = 6
    one_open: bool = True
    timeout_ms: int = 36 * HOUR_MS

    def __post_init__(self) -> None:
        timeframe_ms(self.timeframe)
        for rule, name in (
            (0.1 <= self.reward_risk <= 50.0, "reward_risk"),
            (0.0 < self.atr_stop <= 100.0, "atr_stop"),
            (self.cooldown_candles >= 0, "cooldown_candles"),
            (self.timeout_ms > 0, "timeout_ms"),
        ):
            if not rule:
                raise Invalid(Reason.FIELD_RANGE, name)


DEFAULT_SETTINGS: Mapping[str, StrategySettings] = MappingProxyType(
    {
        "trend": StrategySettings(timeframe="1h", reward_risk=2.0),
        "range": StrategySettings(timeframe="15m", reward_risk=1.6, cooldown_candles=8),
        "scalp": StrategySettings(timeframe="5m", reward_risk=1.5, cooldown_candles=12, timeout_ms=24 * HOUR_MS),
    }
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a rule fires for one side, and what it knows about the trade; arrays of the series' length."""

    fires: BoolArray
    target: FloatArray | None = None
    tp1: FloatArray | None = None
    level: FloatArray | None = None
    extreme: FloatArray | None = None
    retrace: FloatArray | None = None
    confirm_candles: FloatArray | None = None


class OpenGuard:
    """Admits one open signal per strategy, symbol and side; whoever follows the outcomes reports the closes."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, Side], str] = {}

    def admit(self, signal: Signal) -> bool:
        """Whether the signal may open; if so, it is open until ``closed``."""
        key = (signal.strategy, signal.symbol, signal.side)
        if key in self._open:
            return False
        self._open[key] = signal.id
        return True

    def closed(self, signal_id: str) -> None:
        """Free the place of a signal; one that was not open changes nothing."""
        self._open = {key: held for key, held in self._open.items() if held != signal_id}


def proposals(
    strategy: str, candles: Candles, base: Candles | None = None, settings: StrategySettings | None = None
) -> list[Proposal]:
    """Every signal of a strategy on a series, in order of time, longs before shorts.

    ``candles`` may be finer than the strategy's timeframe: then it is resampled, and serves as ``base`` for the higher
    timeframes if none is given. Signals begin when all features are warm.
    """
    if strategy not in _RULES:
        raise Invalid(Reason.STRATEGY_UNKNOWN, "strategy", strategy[:32])
    settings = DEFAULT_SETTINGS[strategy] if settings is None else settings
    series, known_ms = candles.resample_known(settings.timeframe)
    table = features(series, profile=strategy, base=candles if base is None else base)
    # A candle that nobody could call closed at its close gives no signal then, and a late one would be worthless.
    usable = known_ms == series.close_ts
    usable[: table.ready] = False
    found: list[Proposal] = []
    for side in (Side.LONG, Side.SHORT):
        plan = _RULES[strategy](series, table.columns, side.value)
        ready_at = 0
        for index in np.flatnonzero(plan.fires & usable).tolist():
            if int(series.ts[index]) < ready_at:
                continue
            signal = _signal(strategy, table, plan, index, side, settings)
            if signal is not None:
                found.append(signal)
                ready_at = int(series.ts[index]) + (settings.cooldown_candles + 1) * series.step_ms
    return sorted(found, key=lambda signal: (signal.ts, -signal.side.value))


def _signal(
    strategy: str, table: FeatureTable, plan: _Plan, index: int, side: Side, settings: StrategySettings
) -> Signal | None:
    candles, sign = table.candles, side.value
    entry = float(candles.close[index])
    risk = settings.atr_stop * float(table.columns["atr"][index])
    target = entry + sign * settings.reward_risk * risk
    if plan.target is not None:
        target = sign * max(sign * target, sign * float(plan.target[index]))
    stop = entry - sign * risk
    # In a market that moves by half its price a stop or a target can fall below zero: no such order exists.
    if not (risk > 0.0 and stop > 0.0 and target > 0.0):
        return None
    tp1 = None if plan.tp1 is None else float(plan.tp1[index])
    if tp1 is not None and not FIRST_TARGET_R * risk <= sign * (tp1 - entry) < sign * (target - entry):
        tp1 = None
    confirm = _at(plan.confirm_candles, index)
    setup = Setup(
        entry=entry,
        stop=stop,
        target=target,
        level=_at(plan.level, index),
        extreme=_at(plan.extreme, index),
        retrace=_at(plan.retrace, index),
        confirm_candles=None if confirm is None else int(confirm),
    )
    ts = int(candles.close_ts[index])
    # An id knows fewer characters than a symbol: a slash becomes a dot.
    name = re.sub(r"[^A-Za-z0-9_.:-]", ".", candles.symbol)
    return Signal(
        id=f"{strategy}-{name}-{candles.timeframe}-{ts}-{side.word}",
        strategy=strategy,
        symbol=candles.symbol,
        side=side,
        entry=entry,
        tp=target,
        sl=stop,
        tp1=tp1,
        ts=ts,
        features=directional(table.row(index), side, setup),
        timeframe=candles.timeframe,
    )


def _at(values: FloatArray | None, index: int) -> float | None:
    return None if values is None else float(values[index])


def _favourable(candles: Candles, sign: int) -> FloatArray:
    return candles.high if sign > 0 else candles.low


def _adverse(candles: Candles, sign: int) -> FloatArray:
    return candles.low if sign > 0 else candles.high


def _trend(candles: Candles, columns: Mapping[str, FloatArray], sign: int) -> _Plan:
    close, best, worst = candles.close, _favourable(candles, sign), _adverse(candles, sign)
    rising = (
        (sign * (columns["ema_middle"] - columns["ema_slow"]) > 0.0)
        & (sign * columns["ema_slope_slow"] > 0.0)
        & (columns["adx"] >= TREND_ADX)
    )
    touched = (sign * (worst - columns["ema_middle"]) <= 0.0).astype(np.float64)
    pulled_back = ta.highest(touched, PULLBACK_CANDLES) > 0.0
    level = ta.shift(best, 1)
    resumed = (sign * (close - level) > 0.0) & (sign * (close - columns["ema_fast"]) > 0.0)
    resumed &= sign * columns["body_sign"] > 0.0
    return _Plan(
        fires=rising & pulled_back & resumed,
        level=level,
        extreme=sign * ta.shift(ta.highest(sign * best, SWING_CANDLES), 1),
        retrace=-sign * ta.highest(-sign * worst, PULLBACK_CANDLES),
        confirm_candles=ta.highest_age(-sign * worst, PULLBACK_CANDLES),
    )


def _range(_: Candles, columns: Mapping[str, FloatArray], sign: int) -> _Plan:
    near, far = ("bottom", "top") if sign > 0 else ("top", "bottom")
    edge = "low" if sign > 0 else "high"
    position = columns["range_pos"] if sign > 0 else 1.0 - columns["range_pos"]
    narrow, wide = RANGE_WIDTH_ATR
    fires = (
        (columns["adx"] < RANGE_ADX)
        & (columns["range_width_atr"] >= narrow)
        & (columns["range_width_atr"] <= wide)
        & (columns["range_age_bars"] >= RANGE_AGE)
        & (columns[f"touches_{edge}"] >= RANGE_TOUCHES)
        & (columns[f"rejection_wick_{edge}"] > 0.0)
        & (position <= RANGE_ZONE)
    )
    target, fence = columns[f"range_{far}"], columns[f"range_{near}"]
    return _Plan(fires=fires, target=target, tp1=(target + fence) / 2.0)


def _scalp(candles: Candles, columns: Mapping[str, FloatArray], sign: int) -> _Plan:
    level = sign * ta.shift(ta.highest(sign * _favourable(candles, sign), SCALP_BREAK), 1)
    fires = (
        (sign * columns["ema_dir_15m"] > 0.0)
        & (sign * (candles.close - columns["vwap"]) > 0.0)
        & (columns["vwap_dist_atr"] <= SCALP_VWAP_ATR)
        & (sign * columns["body_sign"] > 0.0)
        & (columns["body_ratio"] >= SCALP_BODY)
        & (columns["impulse_ratio"] >= SCALP_IMPULSE)
        & (columns["volume_ratio"] >= SCALP_VOLUME)
        & (sign * (candles.close - level) > 0.0)
    )
    return _Plan(fires=fires, level=level)


_Rule = Callable[[Candles, Mapping[str, FloatArray], int], _Plan]
_RULES: Mapping[str, _Rule] = MappingProxyType({"trend": _trend, "range": _range, "scalp": _scalp})
