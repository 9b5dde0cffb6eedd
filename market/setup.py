"""What a strategy's set-up adds to the candles: features that exist only for one side and one pair of barriers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A trade as its strategy sees it; prices in quote currency, ``None`` where the strategy has no such thing.

    ``level`` is the price whose break triggered it, ``extreme`` the best price before the pullback and ``retrace`` the
    worst price of the pullback (best and worst for the trade). ``confirm_candles`` counts the candles from that worst
    price to the signal.
    """

    entry: float
    stop: float
    target: float
    level: float | None = None
    extreme: float | None = None
    retrace: float | None = None
    confirm_candles: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.entry) and math.isfinite(self.stop) and math.isfinite(self.target)):
            raise Invalid(Reason.FIELD_NOT_FINITE, "setup")
        if self.entry == self.stop:
            raise Invalid(Reason.GEOMETRY_STOP, "stop", "the stop is the entry")


def reward_to_risk(setup: Setup) -> float:
    """Distance to the target in units of the distance to the stop."""
    return abs(setup.target - setup.entry) / abs(setup.entry - setup.stop)


def break_dist_atr(side: Side, close: float, level: float, atr: float) -> float:
    """How far the close lies beyond the broken level, in ATR; negative when it fell back."""
    return side.value * (close - level) / atr if atr > 0.0 else math.nan


def retrace_depth_atr(side: Side, extreme: float, retrace: float, atr: float) -> float:
    """Depth of the pullback from the best price before it, in ATR."""
    return side.value * (extreme - retrace) / atr if atr > 0.0 else math.nan


def protective_pivot_present(side: Side, setup: Setup, pivot: float) -> float:
    """1 when the last confirmed swing low (for a short: high) lies between stop and entry, else 0."""
    sign = side.value
    return 1.0 if sign * setup.stop < sign * pivot < sign * setup.entry else 0.0


def divergence(rsi_delta: float, tsi_delta: float) -> tuple[float, float]:
    """Whether both oscillators diverge in the trade's favour (1 or 0), and how much, 0 to 100.

    Each oscillator gives up to 50 points, all of them from a difference of ten between the two swings.
    """
    if math.isnan(rsi_delta) or math.isnan(tsi_delta):
        return math.nan, math.nan
    if rsi_delta <= 0.0 or tsi_delta <= 0.0:
        return 0.0, 0.0
    return 1.0, 5.0 * min(rsi_delta, 10.0) + 5.0 * min(tsi_delta, 10.0)


def sided(columns: Mapping[str, float], side: Side, setup: Setup | None) -> dict[str, float]:
    """Every feature that is computed for a side: from the chart's columns, and from the set-up when there is one.

    ``columns`` are one row of a feature table; those of either side end in ``_low`` (longs) and ``_high`` (shorts).
    """
    edge = "low" if side is Side.LONG else "high"
    found: dict[str, float] = {}
    for name in ("div_rsi_delta", "div_tsi_delta", "rejection_wick"):
        if f"{name}_{edge}" in columns:
            found[name] = columns[f"{name}_{edge}"]
    if "div_rsi_delta" in found:
        found["div_ok"], found["div_score"] = divergence(found["div_rsi_delta"], found["div_tsi_delta"])
    if "micro_seq" in columns:
        found["micro_seq_aligned"] = 1.0 if side.value * columns["micro_seq"] > 0.0 else 0.0
    if setup is None:
        return found
    found["reward_to_risk"] = reward_to_risk(setup)
    if f"pivot_{edge}" in columns:
        found["protective_pivot_present"] = protective_pivot_present(side, setup, columns[f"pivot_{edge}"])
    if setup.level is not None:
        found["break_dist_atr"] = break_dist_atr(side, columns["close"], setup.level, columns["atr"])
    if setup.extreme is not None and setup.retrace is not None:
        found["retrace_depth_atr"] = retrace_depth_atr(side, setup.extreme, setup.retrace, columns["atr"])
    if setup.confirm_candles is not None:
        found["confirm_candles"] = float(setup.confirm_candles)
    return found
