"""Thresholds of the breakers: what a namespace may lose, how fast it may order, how old what it knows may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from signals.errors import Invalid
from signals.reasons import Reason

LARGEST = 1e9
LARGEST_RATIO = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When the breakers of a namespace trip; 0 switches a breaker off.

    Blocked (phantom, whoever scored) by ``drawdown_r`` in R and ``drawdown_percent`` of the money high water, which
    needs a ``starting_equity``; by ``orders_per_second``; by candles or breaker inputs older than ``stale_periods``.
    Left to the rules alone by ``losing_streak``, by a ``slippage_ratio`` to what costs (at least ``slippage_floor_r``
    R) allow, by a sent ``regime_confidence`` below, by a p99 of decisions above ``latency_ms``.
    """

    drawdown_r: float = 20.0
    drawdown_percent: float = 20.0
    starting_equity: float = 0.0
    losing_streak: int = 12
    orders_per_second: int = 10
    slippage_ratio: float = 2.0
    slippage_floor_r: float = 0.0
    regime_confidence: float = 0.6
    latency_ms: float = 100.0
    stale_periods: int = 3
    watch_every_s: int = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and 0 <= value <= LARGEST):
                raise Invalid(Reason.FIELD_RANGE, field.name, "0 (off) to 1e9")
        for rule, name in (
            (self.drawdown_percent <= 100.0, "drawdown_percent"),
            (self.slippage_ratio <= LARGEST_RATIO, "slippage_ratio"),
            (self.slippage_floor_r <= LARGEST_RATIO, "slippage_floor_r"),
            (self.regime_confidence <= 1.0, "regime_confidence"),
            (self.stale_periods <= 1_000, "stale_periods"),
            (1 <= self.watch_every_s <= 86_400, "watch_every_s"),
        ):
            if not rule:
                raise Invalid(Reason.FIELD_RANGE, name)


DEFAULT_THRESHOLDS = Thresholds()
NO_BREAKERS = Thresholds(
    drawdown_r=0.0,
    drawdown_percent=0.0,
    losing_streak=0,
    orders_per_second=0,
    slippage_ratio=0.0,
    regime_confidence=0.0,
    latency_ms=0.0,
    stale_periods=0,
)
