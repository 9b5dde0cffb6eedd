"""The formulas: columns of numbers for every candle of a series, grouped by what they look at.

``docs/features.md`` describes each. Names ending in ``_low`` and ``_high`` exist for longs and for shorts; one formula
makes both, with the sign of the trade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from market import indicators as ta
from market.candles import Candles
from market.columns import FloatArray, IntArray
from signals.context import VOLATILITY_HISTORY, VOLATILITY_MINIMUM

Columns = dict[str, FloatArray]

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
WILDER = 14
BANDS, DEVIATIONS = 20, 2.0
EMA_FAST, EMA_MIDDLE, EMA_SLOW = 8, 21, 50
SLOPE_CANDLES = 5
VOLUME_SHORT, VOLUME_LONG = 5, 20
MACD_FAST, MACD_SLOW, MACD_SIGNAL = 12, 26, 9
TSI_SLOW, TSI_FAST = 25, 13
TREND_WINDOW = 50
PIVOT_WING = 3
DIVERGENCE_WINDOW = 60
"""Two swings further apart than this tell nothing about the present one."""
RANGE_WINDOW = 48
TOUCH_ATR = 0.5
REJECTION_WICK, REJECTION_ZONE = 0.4, 0.25
COMPRESSION_WINDOW, COMPRESSION_MINIMUM = 100, 50
MICRO_CANDLES = 3

WARM_UP_SPANS = 10
"""After ten spans an exponential average has forgotten its seed to one part in 10⁸."""
_WILDER_SPAN = 2 * WILDER - 1
_ADX_SPAN = 2 * _WILDER_SPAN  # smoothed twice
_RANKED = VOLATILITY_HISTORY + BANDS - 1
WARM_UP = {
    "trend": max(WARM_UP_SPANS * _ADX_SPAN, _RANKED),
    "range": max(WARM_UP_SPANS * _ADX_SPAN, _RANKED),
    "scalp": max(WARM_UP_SPANS * _WILDER_SPAN, _RANKED),
}
"""Candles of the signal timeframe after which no feature of the profile feels where the series began."""
WARM_UP_HIGHER = WARM_UP_SPANS * _ADX_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Prices brought to a handy size by a power of two, and their ATR: what every formula starts from."""

    ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    atr: FloatArray
    scale: float

    @classmethod
    def of(cls, candles: Candles) -> Self:
        """Scale the prices and measure their range."""
        scale = ta.unit_scale(candles.close)
        high, low, close = candles.high * scale, candles.low * scale, candles.close * scale
        atr = ta.atr(high, low, close, WILDER)
        return cls(candles.ts, candles.open * scale, high, low, close, candles.volume, atr, scale)

    def adverse(self, sign: int) -> FloatArray:
        """Where a trade of this sign is hurt: lows for a long, highs for a short."""
        return self.low if sign > 0 else self.high


def over(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient; NaN where the denominator is not above zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(denominator > 0.0, numerator / denominator, np.nan), dtype=np.float64)


def volatility(chart: Chart) -> Columns:
    """ATR, Bollinger width, and where both stand among their last 500 values."""
    width, middle = ta.bollinger_width(chart.close, BANDS, DEVIATIONS)
    atr_pct = over(100.0 * chart.atr, chart.close)
    bb_width_pct = over(100.0 * width, middle)
    return {
        "atr": chart.atr / chart.scale,
        "close": chart.close / chart.scale,
        "atr_pct": atr_pct,
        "bb_width_pct": bb_width_pct,
        "bb_width_rank": ta.share_below(bb_width_pct, VOLATILITY_HISTORY, VOLATILITY_MINIMUM),
        "atr_pct_share": ta.share_below(atr_pct, VOLATILITY_HISTORY, VOLATILITY_MINIMUM),
    }


def candle_shape(chart: Chart) -> Columns:
    """Body and wicks as shares of the candle's range; a candle without range has none of either."""
    span = chart.high - chart.low
    top, bottom = np.maximum(chart.open, chart.close), np.minimum(chart.open, chart.close)
    flat = span <= 0.0
    parts = {
        "body_ratio": top - bottom,
        "upper_wick_ratio": chart.high - top,
        "lower_wick_ratio": bottom - chart.low,
    }
    shape = {name: np.where(flat, 0.0, part / np.where(flat, 1.0, span)) for name, part in parts.items()}
    return shape | {"body_sign": np.sign(chart.close - chart.open)}


def oscillators(chart: Chart) -> Columns:
    """RSI and ADX; a market that has not moved has neither."""
    moving = chart.atr > 0.0
    return {
        "rsi": np.where(moving, ta.rsi(chart.close, WILDER), np.nan),
        "adx": np.where(moving, ta.adx(chart.high, chart.low, chart.close, WILDER), np.nan),
    }


def volumes(chart: Chart) -> Columns:
    """Volume against its recent mean, and where the daily volume-weighted price lies."""
    long = ta.rolling_mean(chart.volume, VOLUME_LONG)
    vwap = ta.daily_vwap(chart.ts, chart.high, chart.low, chart.close, chart.volume)
    return {
        "volume_ratio": over(chart.volume, ta.shift(long, 1)),
        "volume_trend": over(ta.rolling_mean(chart.volume, VOLUME_SHORT), long) - 1.0,
        "vwap_dist_atr": over(np.abs(chart.close - vwap), chart.atr),
        "vwap": vwap / chart.scale,
    }


def slopes(chart: Chart, fast: int, slow: int) -> Columns:
    """Slopes of two moving averages, ATR per candle."""
    found = {}
    for name, span in (("ema_slope_fast", fast), ("ema_slope_slow", slow)):
        average = ta.ema(chart.close, span)
        found[name] = over((average - ta.shift(average, SLOPE_CANDLES)) / SLOPE_CANDLES, chart.atr)
    return found


def trend(chart: Chart) -> Columns:
    """Order of the moving averages, slope of the whole, momentum, expansion of the range."""
    fast, middle, slow = (ta.ema(chart.close, span) for span in (EMA_FAST, EMA_MIDDLE, EMA_SLOW))
    steps = [np.clip(over(gap, chart.atr), -1.0, 1.0) for gap in (fast - middle, middle - slow, chart.close - slow)]
    size = ta.true_range(chart.high, chart.low, chart.close)
    rise = ta.slope(chart.close, TREND_WINDOW) * (TREND_WINDOW - 1)
    return {
        "ema_fast": fast / chart.scale,
        "ema_middle": middle / chart.scale,
        "ema_slow": slow / chart.scale,
        "ema_stack_score": 100.0 * (steps[0] + steps[1] + steps[2]) / 3.0,
        "range_expansion": over(size, ta.shift(ta.rolling_mean(size, VOLUME_LONG), 1)),
        "trend_slope_pct": over(100.0 * rise, ta.rolling_mean(chart.close, TREND_WINDOW)),
        "macd_hist": over(ta.macd_histogram(chart.close, MACD_FAST, MACD_SLOW, MACD_SIGNAL), chart.atr),
    }


def swings(chart: Chart) -> Columns:
    """Last confirmed swing, and whether the oscillators diverge between the last two, for either side."""
    rsi, tsi = ta.rsi(chart.close, WILDER), ta.tsi(chart.close, TSI_SLOW, TSI_FAST)
    found: Columns = {}
    for edge, sign in (("low", 1), ("high", -1)):
        adverse = chart.adverse(sign)
        pivots = ta.pivot_highs(-sign * adverse, PIVOT_WING)
        last, before = ta.last_pivots(pivots, PIVOT_WING, adverse.size)
        present = before >= 0
        change = np.where(present, sign * (adverse[last] - adverse[before]), 0.0)
        recent = present & (np.arange(adverse.size) - before <= DIVERGENCE_WINDOW)
        # A lower low with a higher oscillator (regular), or a higher low with a lower one (hidden): both favour.
        turn = np.where(recent, -np.sign(change), 0.0)
        found[f"pivot_{edge}"] = np.where(last >= 0, adverse[last] / chart.scale, np.nan)
        for name, oscillator in (("rsi", rsi), ("tsi", tsi)):
            # Adding zero turns −0.0 into 0.0.
            delta = turn * sign * (oscillator[last] - oscillator[before]) + 0.0
            found[f"div_{name}_delta_{edge}"] = np.where(turn == 0.0, 0.0, delta)
    return found


def sideways(chart: Chart) -> Columns:
    """The range of the 48 candles before this one: width, place in it, touches, age, rejections at either edge."""
    top = ta.shift(ta.highest(chart.high, RANGE_WINDOW), 1)
    bottom = -ta.shift(ta.highest(-chart.low, RANGE_WINDOW), 1)
    width = top - bottom
    age = np.minimum(ta.highest_age(chart.high, RANGE_WINDOW), ta.highest_age(-chart.low, RANGE_WINDOW))
    found = {
        "range_top": top / chart.scale,
        "range_bottom": bottom / chart.scale,
        "range_width_atr": over(width, chart.atr),
        "range_pos": over(chart.close - bottom, width),
        "mid_dist_atr": over(np.abs(chart.close - (top + bottom) / 2.0), chart.atr),
        "range_age_bars": ta.shift(age, 1) + 1.0,
    }
    shape = candle_shape(chart)
    for edge, sign in (("low", 1), ("high", -1)):
        boundary = bottom if sign > 0 else top
        adverse = chart.adverse(sign)
        found[f"touches_{edge}"] = _touches(sign * adverse, sign * boundary, TOUCH_ATR * chart.atr)
        wick = shape["lower_wick_ratio" if sign > 0 else "upper_wick_ratio"]
        reached = sign * (adverse - boundary) <= REJECTION_ZONE * width
        back_inside = sign * (chart.close - boundary) > 0.0
        rejected = reached & back_inside & (wick >= REJECTION_WICK)
        found[f"rejection_wick_{edge}"] = np.where(np.isnan(width), np.nan, rejected.astype(np.float64))
    return found


def _touches(adverse: FloatArray, boundary: FloatArray, tolerance: FloatArray) -> FloatArray:
    """How often the 48 candles before each one came to its boundary; neighbours in time count once.

    All values are turned so that smaller is closer to the boundary.
    """
    count = np.zeros(adverse.size)
    reach = boundary + tolerance
    touched_after = np.zeros(adverse.size, dtype=np.bool_)
    for age in range(1, RANGE_WINDOW + 1):
        touched = ta.shift(adverse, age) <= reach
        count += touched & ~touched_after
        touched_after = touched
    return np.where(np.isnan(reach), np.nan, count)


def impulse(chart: Chart) -> Columns:
    """Size of the body in ATR, and whether three candles in a row made their way in one direction."""
    steps = np.zeros(chart.close.size)
    for sign in (1, -1):
        aligned = np.ones(chart.close.size, dtype=np.bool_)
        for age in range(MICRO_CANDLES - 1):
            aligned &= sign * (ta.shift(chart.close, age) - ta.shift(chart.close, age + 1)) > 0.0
            aligned &= sign * (ta.shift(chart.adverse(sign), age) - ta.shift(chart.adverse(sign), age + 1)) >= 0.0
        steps += sign * aligned
    return {"impulse_ratio": over(np.abs(chart.close - chart.open), chart.atr), "micro_seq": steps}


def calendar(close_ts: IntArray) -> Columns:
    """Hour of the day and day of the week (Monday = 0) of the close, UTC."""
    return {
        "hour_of_day": (close_ts % DAY_MS // HOUR_MS).astype(np.float64),
        # The epoch began on a Thursday.
        "day_of_week": ((close_ts // DAY_MS + 3) % 7).astype(np.float64),
    }


def higher_strength(candles: Candles) -> Columns:
    """Trend strength, range compression and direction of a higher timeframe, on its own closed candles."""
    chart = Chart.of(candles)
    gap = ta.ema(chart.close, EMA_FAST) - ta.ema(chart.close, EMA_MIDDLE)
    apart = np.minimum(over(np.abs(gap), chart.atr), 1.0)
    directed = np.minimum(2.0 * oscillators(chart)["adx"], 100.0)
    width, middle = ta.bollinger_width(chart.close, BANDS, DEVIATIONS)
    rank = ta.share_below(over(width, middle), COMPRESSION_WINDOW, COMPRESSION_MINIMUM)
    return {"ts": 0.5 * directed + 50.0 * apart, "rc": 100.0 * (1.0 - rank), "dir": np.sign(gap)}
