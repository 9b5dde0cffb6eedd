"""Where each feature comes from and how far it looks back: what ``docs/features.md`` says, for an audit to show."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Origin(StrEnum):
    """What a feature is made of; each is known at the close of the signal's candle, at the latest."""

    CANDLES = "signal candles"
    QUARTERS = "closed 15-minute candles"
    HOURS = "closed 60-minute candles"
    SETUP = "set-up"
    CLOCK = "clock"
    ENGINE = "engine"
    SYMBOL = "symbol"


class LookBack(NamedTuple):
    """``candles`` are those of the origin without which the value is missing; none where there are none."""

    origin: Origin
    candles: int | None = None


def _of(origin: Origin, **candles: int) -> dict[str, LookBack]:
    return {name: LookBack(origin, count or None) for name, count in candles.items()}


_SHARED = MappingProxyType(
    {
        **_of(Origin.CANDLES, atr_pct=15, volume_ratio=21, volume_trend=20, vwap_dist_atr=15, bb_width_pct=20,
              body_ratio=1, upper_wick_ratio=1, lower_wick_ratio=1, rsi=15, adx=28, volatility_regime=114),
        **_of(Origin.QUARTERS, ts15=28, rc15=69, ema_dir_15m=21),
        **_of(Origin.HOURS, ts60=28, rc60=69),
        **_of(Origin.CLOCK, session=0, hour_of_day=0, day_of_week=0),
        **_of(Origin.SETUP, reward_to_risk=0),
        **_of(Origin.ENGINE, qscore=0),
        **_of(Origin.SYMBOL, symbol_cluster=0),
    }
)  # fmt: skip
LOOK_BACK: Mapping[str, Mapping[str, LookBack]] = MappingProxyType(
    {
        "trend": MappingProxyType({
            **_SHARED,
            **_of(Origin.CANDLES, ema_stack_score=50, range_expansion=22, trend_slope_pct=50, div_ok=38, div_score=38,
                  div_rsi_delta=15, div_tsi_delta=38, macd_hist=34, ema_slope_fast=26, ema_slope_slow=55),
            **_of(Origin.SETUP, break_dist_atr=15, retrace_depth_atr=15, confirm_candles=0, protective_pivot_present=7),
        }),
        "range": MappingProxyType({
            **_SHARED,
            **_of(Origin.CANDLES, range_width_atr=49, range_pos=49, touches_high=49, touches_low=49, mid_dist_atr=49,
                  rejection_wick=49, range_age_bars=49),
        }),
        "scalp": MappingProxyType({
            **_SHARED,
            **_of(Origin.CANDLES, impulse_ratio=15, ema_slope_fast=15, ema_slope_slow=26, body_sign=1,
                  micro_seq_aligned=3, bb_width_rank=119),
        }),
    }
)  # fmt: skip
"""By profile and feature."""
