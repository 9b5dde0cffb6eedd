"""What TA-Lib lacks, against plain loops and tables worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from market import indicators as ta
from market.generated import generate

VALUES = generate(1, candles=300).close


@pytest.mark.parametrize("period", [1, 2, 7, 20])
def test_rolling_mean(period: int) -> None:
    mean = ta.rolling_mean(VALUES, period)
    assert np.isnan(mean[: period - 1]).all()
    for index in range(period - 1, VALUES.size):
        assert mean[index] == pytest.approx(math.fsum(VALUES[index - period + 1 : index + 1]) / period, rel=1e-12)
    assert np.isnan(ta.rolling_mean(VALUES[:3], 4)).all()


def test_a_huge_volume_leaves_no_trace_in_the_mean() -> None:
    volume = np.asarray([1e18, 1.0, 3.0, 5.0])
    assert ta.rolling_mean(volume, 2).tolist()[2:] == [2.0, 4.0]


def test_share_below() -> None:
    values = np.concatenate(([np.nan, np.nan], np.round(VALUES, 1)))
    share = ta.share_below(values, 50, 10)
    for index, value in enumerate(values):
        past = values[max(2, index - 49) : index + 1]
        if index < 2 or past.size < 10:
            assert math.isnan(share[index])
        else:
            assert share[index] == sum(other < value for other in past) / past.size
    assert np.isnan(ta.share_below(np.full(5, np.nan), 50, 1)).all()


def test_shift() -> None:
    assert np.array_equal(ta.shift(np.asarray([1.0, 2.0, 3.0]), 1), [np.nan, 1.0, 2.0], equal_nan=True)
    assert np.isnan(ta.shift(np.asarray([1.0, 2.0]), 2)).all()
    assert ta.shift(np.asarray([1.0, 2.0]), 0).tolist() == [1.0, 2.0]


def test_highest_age() -> None:
    age = ta.highest_age(np.asarray([5.0, 1.0, 2.0, 3.0, 2.0, 1.0]), 3)
    assert np.array_equal(age, [np.nan, np.nan, 2.0, 0.0, 1.0, 2.0], equal_nan=True)


def test_tsi_of_a_straight_path_is_extreme() -> None:
    up = np.arange(1.0, 80.0)
    assert ta.tsi(up, 25, 13)[-1] == pytest.approx(100.0)
    assert ta.tsi(up[::-1].copy(), 25, 13)[-1] == pytest.approx(-100.0)
    assert math.isnan(ta.tsi(np.ones(80), 25, 13)[-1])
    assert np.isnan(ta.tsi(up, 25, 13)[:37]).all()
    assert np.isfinite(ta.tsi(up, 25, 13)[37:]).all()


def test_daily_vwap_begins_anew_at_midnight() -> None:
    day = 86_400_000
    ts = np.asarray([day - 2, day - 1, day, day + 1], dtype=np.int64)
    price = np.asarray([10.0, 20.0, 40.0, 80.0])
    vwap = ta.daily_vwap(ts, price, price, price, np.asarray([1.0, 3.0, 0.0, 2.0]))
    # 10·1 + 20·3 over 4; then no volume yet: the plain price; then 80·2 over 2.
    assert vwap.tolist() == [10.0, 17.5, 40.0, 80.0]


# Swing highs with a wing of 2, and the candle at which each is known.
@pytest.mark.parametrize(
    ("values", "pivots"),
    [
        pytest.param([1, 2, 3, 2, 1], [2], id="a peak"),
        pytest.param([1, 2, 3, 3, 1, 0], [2], id="of equals the first"),
        pytest.param([3, 2, 1, 2, 3], [], id="a trough"),
        pytest.param([1, 2, 3, 2], [], id="not confirmed yet"),
        pytest.param([1, 2, 3, 2, 4], [], id="overtaken while waiting"),
        pytest.param([0, 1, 5, 1, 0, 1, 6, 1, 0], [2, 6], id="two"),
    ],
)
def test_pivots(values: list[float], pivots: list[int]) -> None:
    found = ta.pivot_highs(np.asarray(values, dtype=np.float64), 2)
    assert found.tolist() == pivots
    last, before = ta.last_pivots(found, 2, len(values))
    for index in range(len(values)):
        known = [-1, -1, *(p for p in pivots if p + 2 <= index)]
        assert (last[index], before[index]) == (known[-1], known[-2])


def test_unit_scale_is_a_power_of_two() -> None:
    for price in (3e-7, 0.08, 1.0, 512.0, 1023.9, 61_000.0, 5e9):
        scale = ta.unit_scale(np.asarray([price]))
        assert math.frexp(scale)[0] == 0.5
        assert 512.0 <= price * scale < 1024.0
        assert price * scale / scale == price
    assert ta.unit_scale(np.zeros(0)) == 1.0


@pytest.mark.parametrize(
    "indicator",
    [
        lambda x: ta.ema(x, 8),
        lambda x: ta.rsi(x, 14),
        lambda x: ta.atr(x, x, x, 14),
        lambda x: ta.true_range(x, x, x),
        lambda x: ta.adx(x, x, x, 14),
        lambda x: ta.macd_histogram(x, 12, 26, 9),
        lambda x: ta.bollinger_width(x, 20, 2.0)[0],
        lambda x: ta.slope(x, 50),
        lambda x: ta.highest(x, 48),
        lambda x: ta.highest_age(x, 48),
        lambda x: ta.tsi(x, 25, 13),
        lambda x: ta.share_below(x, 500, 100),
    ],
)
@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_short_series_is_all_missing(indicator: Callable[[np.ndarray], np.ndarray], length: int) -> None:
    result = indicator(np.linspace(1.0, 2.0, length))
    assert result.shape == (length,)
    assert result.dtype == np.float64
    # A true range needs one candle before; everything else here needs more than five.
    assert np.isnan(result[:1]).all()
