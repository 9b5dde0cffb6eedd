"""Indicators on price arrays: TA-Lib where it has them, our own where it has not. All look back only.

Arrays in, arrays of the same length out; NaN until the look-back is filled. A value depends on the candles up to its
own and on nothing after them, bit for bit: sums run in a fixed order, never pairwise over a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import talib

from market.columns import FloatArray, IntArray

DAY_MS = 86_400_000


def _call(function: Callable[..., Any], *arguments: object, **options: float) -> FloatArray:
    """Call an untyped TA-Lib function that returns one array."""
    return np.asarray(function(*arguments, **options), dtype=np.float64)


# --- TA-Lib ----------------------------------------------------------------------------------------------------------


def ema(values: FloatArray, span: int) -> FloatArray:
    """Exponential moving average, seeded with the mean of the first ``span`` values."""
    return _call(talib.EMA, values, timeperiod=span)


def true_range(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Range of a candle including the gap from the close before."""
    return _call(talib.TRANGE, high, low, close)


def rsi(close: FloatArray, period: int) -> FloatArray:
    """Wilder's relative strength index, 0 to 100."""
    return _call(talib.RSI, close, timeperiod=period)


def adx(high: FloatArray, low: FloatArray, close: FloatArray, period: int) -> FloatArray:
    """Wilder's average directional index, 0 to 100, without direction."""
    return _call(talib.ADX, high, low, close, timeperiod=period)


def macd_histogram(close: FloatArray, fast: int, slow: int, signal: int) -> FloatArray:
    """MACD line minus its signal line, in price."""
    _, _, histogram = talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    return np.asarray(histogram, dtype=np.float64)


def bollinger_width(close: FloatArray, period: int, deviations: float) -> tuple[FloatArray, FloatArray]:
    """Distance between the bands, and the middle band, both in price."""
    upper, middle, lower = talib.BBANDS(close, timeperiod=period, nbdevup=deviations, nbdevdn=deviations)
    return np.asarray(upper - lower, dtype=np.float64), np.asarray(middle, dtype=np.float64)


def slope(values: FloatArray, period: int) -> FloatArray:
    """Slope of the least-squares line through the last ``period`` values, per candle."""
    return _call(talib.LINEARREG_SLOPE, values, timeperiod=period)


def highest(values: FloatArray, period: int) -> FloatArray:
    """Largest of the last ``period`` values."""
    return _call(talib.MAX, values, timeperiod=period)


def highest_age(values: FloatArray, period: int) -> FloatArray:
    """How many candles ago the largest of the last ``period`` values was."""
    index = _call(talib.MAXINDEX, values, timeperiod=period)
    age = np.arange(values.size, dtype=np.float64) - index
    age[: period - 1] = np.nan
    return age


# --- What TA-Lib lacks -----------------------------------------------------------------------------------------------


def unit_scale(close: FloatArray) -> float:
    """A power of two that brings the first close into [512, 1024); 1 for an empty series.

    TA-Lib calls anything below 1e-14 zero, so a coin at a millionth of a dollar would have no variance at all. A power
    of two changes no digit of a price, only its exponent.
    """
    if close.size == 0:
        return 1.0
    _, exponent = math.frexp(float(close[0]))
    return math.ldexp(1.0, 10 - exponent)


def atr(high: FloatArray, low: FloatArray, close: FloatArray, period: int) -> FloatArray:
    """Wilder's average true range, bit for bit what ``market.volatility.WilderAtr`` gives candle by candle.

    TA-Lib's ATR agrees to twelve digits, but the last bits differ between its versions, and live and replay must not.
    """
    ranges = true_range(high, low, close).tolist()
    average = np.full(close.shape, np.nan)
    if close.size <= period:
        return average
    total = 0.0
    for value in ranges[1 : period + 1]:
        total += value
    current = total / period
    averages = [current]
    for value in ranges[period + 1 :]:
        current = (current * (period - 1) + value) / period
        averages.append(current)
    average[period:] = averages
    return average


def shift(values: FloatArray, candles: int) -> FloatArray:
    """Values of ``candles`` ago."""
    moved = np.full(values.shape, np.nan)
    if candles < values.size:
        moved[candles:] = values[: values.size - candles]
    return moved


def rolling_mean(values: FloatArray, period: int) -> FloatArray:
    """Mean of the last ``period`` values, each window summed afresh.

    TA-Lib's running sum would carry the rounding of a huge volume into every later quiet candle.
    """
    mean = np.full(values.shape, np.nan)
    if values.size < period:
        return mean
    count = values.size - period + 1
    total = values[:count].copy()
    for offset in range(1, period):
        total += values[offset : offset + count]
    mean[period - 1 :] = total / period
    return mean


def share_below(values: FloatArray, window: int, minimum: int) -> FloatArray:
    """Share of the last ``window`` values, the own one included, that are strictly lower; leading NaN do not count.

    NaN where fewer than ``minimum`` values are at hand.
    """
    share = np.full(values.shape, np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size == 0:
        return share
    tail = values[finite[0] :]
    lower = np.zeros(tail.size, dtype=np.int32)
    for age in range(1, min(window, tail.size)):
        lower[age:] += tail[:-age] < tail[age:]
    count = np.minimum(np.arange(1, tail.size + 1), window)
    share[finite[0] :] = np.where((count >= minimum) & np.isfinite(tail), lower / count, np.nan)
    return share


def tsi(close: FloatArray, slow: int, fast: int) -> FloatArray:
    """True strength index, −100 to 100: the double-smoothed change over its double-smoothed size (Blau 1991)."""
    change = np.full(close.shape, np.nan)
    change[1:] = np.diff(close)
    size = ema(ema(np.abs(change), slow), fast)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(size > 0.0, 100.0 * ema(ema(change, slow), fast) / size, np.nan), dtype=np.float64)


def daily_vwap(ts: IntArray, high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray) -> FloatArray:
    """Volume-weighted typical price since 00:00 UTC; the plain mean until the day has traded any volume."""
    typical = (high + low + close) / 3.0
    vwap = np.full(close.shape, np.nan)
    day = ts // DAY_MS
    edges = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), ts.size]
    for first, last in itertools.pairwise(edges):
        rows = np.s_[first:last]
        weight = np.cumsum(volume[rows])
        plain = np.cumsum(typical[rows]) / np.arange(1, last - first + 1)
        money = np.cumsum(typical[rows] * volume[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            vwap[rows] = np.where(weight > 0.0, money / weight, plain)
    return vwap


def pivot_highs(values: FloatArray, wing: int) -> IntArray:
    """Positions of swing highs: above the ``wing`` values before, not below the ``wing`` after.

    A pivot at ``p`` is known at ``p + wing``, not earlier. Of equal neighbours the first is the pivot. Swing lows are
    the swing highs of the negated values.
    """
    if values.size < 2 * wing + 1:
        return np.zeros(0, dtype=np.int64)
    count = values.size - 2 * wing
    centre = values[wing : wing + count]
    is_pivot = np.ones(count, dtype=np.bool_)
    for offset in range(1, wing + 1):
        is_pivot &= centre > values[wing - offset : wing - offset + count]
        is_pivot &= centre >= values[wing + offset : wing + offset + count]
    return np.asarray(np.flatnonzero(is_pivot) + wing, dtype=np.int64)


def last_pivots(pivots: IntArray, wing: int, length: int) -> tuple[IntArray, IntArray]:
    """For each candle, positions of the last and the last but one pivot known at it; −1 where there is none."""
    known = np.searchsorted(pivots + wing, np.arange(length), side="right")
    padded = np.concatenate(([-1, -1], pivots)).astype(np.int64)
    return padded[known + 1], padded[known]
