"""The feature tables: complete, documented, right against plain loops, and mirror-symmetric."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from market.candles import Candles
from market.features import REGIMES, SESSIONS, FeatureTable, directional, features
from market.generated import generate
from market.setup import Setup
from scorer.schema import EXIT_ONLY, SCHEMAS, STORED_ONLY, Kind
from signals.context import regime_by_rank, session_at
from signals.errors import Invalid
from signals.signal import Side

TIMEFRAMES = {"trend": "1h", "range": "15m", "scalp": "5m"}
DOCUMENT = Path(__file__).parents[3] / "docs" / "features.md"


@cache
def base() -> Candles:
    return generate(11, candles=9_000)


@cache
def table(profile: str) -> FeatureTable:
    return features(base().resample(TIMEFRAMES[profile]), profile=profile, base=base())


def setup(close: float, side: Side) -> Setup:
    sign = side.value
    return Setup(
        entry=close,
        stop=close - sign,
        target=close + 2.0 * sign,
        level=close - 0.1 * sign,
        extreme=close + 0.5 * sign,
        retrace=close - 0.5 * sign,
        confirm_candles=3,
    )


@pytest.mark.parametrize("profile", SCHEMAS)
@pytest.mark.parametrize("side", Side)
def test_a_warm_row_has_every_feature_but_the_engines_own(profile: str, side: Side) -> None:
    chart = table(profile)
    for index in range(chart.ready, len(chart), 37):
        stored = directional(chart.row(index), side, setup(float(chart.candles.close[index]), side))
        assert SCHEMAS[profile].vector(stored).missing == (("qscore",) if profile == "trend" else ())
        expected = {*SCHEMAS[profile].names, *(f.name for f in STORED_ONLY[profile]), "features_version"} - {"qscore"}
        assert set(stored) == expected
        assert stored["features_version"] == f"{profile}.1"


@pytest.mark.parametrize("profile", SCHEMAS)
@pytest.mark.parametrize("side", Side)
def test_values_stay_in_their_ranges(profile: str, side: Side) -> None:
    chart = table(profile)
    numbers = [f for f in (*SCHEMAS[profile].features, *STORED_ONLY[profile]) if f.kind is Kind.NUMBER]
    for index in range(chart.ready, len(chart), 11):
        stored = directional(chart.row(index), side, setup(float(chart.candles.close[index]), side))
        for feature in numbers:
            value = stored.get(feature.name, feature.low)
            assert isinstance(value, float)
            assert feature.low - 1e-9 <= value <= feature.high + 1e-9, feature.name


def test_the_document_has_a_full_row_for_every_feature() -> None:
    rows = [
        line.strip("|").split("|")
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    described = {cells[0].strip(): cells[1:] for cells in rows}
    names = {n for schema in SCHEMAS.values() for n in schema.names} | {f.name for s in STORED_ONLY.values() for f in s}
    assert set(described) - {"feature"} == names
    for name, cells in described.items():
        assert len(cells) == 6, name
        assert all(cell.strip() for cell in cells), name
    assert all(feature.name in DOCUMENT.read_text(encoding="utf-8") for feature in EXIT_ONLY)


def test_session_and_calendar_are_those_of_the_close() -> None:
    chart = table("trend")
    for index in range(0, len(chart), 7):
        close_ts = int(chart.candles.close_ts[index])
        moment = datetime.fromtimestamp(close_ts / 1000, tz=UTC)
        assert SESSIONS[int(chart.sessions[index])] is session_at(close_ts)
        assert chart.columns["hour_of_day"][index] == moment.hour
        assert chart.columns["day_of_week"][index] == moment.weekday()


def test_regime_is_that_of_the_live_rule() -> None:
    chart = table("scalp")
    atr_pct = chart.columns["atr_pct"]
    seen = set()
    for index in [*range(90, 140), *range(600, len(chart), 97)]:
        history = atr_pct[: index + 1].tolist()
        regime, known = regime_by_rank(history[-1], history)
        assert (REGIMES[int(chart.regimes[index])], bool(chart.volatility_known[index])) == (regime, known)
        seen.add(regime)
    assert len(seen) == 4


def test_against_plain_loops() -> None:
    candles, columns = table("range").candles, table("range").columns
    for index in range(600, len(candles), 53):
        window = candles.slice(index - 48, index)
        now = candles.at(index)
        top, bottom, atr = float(window.high.max()), float(window.low.min()), float(columns["atr"][index])
        assert columns["range_width_atr"][index] == pytest.approx((top - bottom) / atr)
        assert columns["range_pos"][index] == pytest.approx((now.close - bottom) / (top - bottom))
        assert columns["mid_dist_atr"][index] == pytest.approx(abs(now.close - (top + bottom) / 2.0) / atr)
        newer_edge = max(int(np.argmax(window.high)), int(np.argmin(window.low)))
        assert columns["range_age_bars"][index] == 48 - newer_edge
        near = [candle.high >= top - 0.5 * atr for candle in window]
        visits = sum(touch and not before for touch, before in zip(near, [False, *near], strict=False))
        assert columns["touches_high"][index] == visits
        assert columns["volume_ratio"][index] == pytest.approx(now.volume / candles.volume[index - 20 : index].mean())
        mean5, mean20 = candles.volume[index - 4 : index + 1].mean(), candles.volume[index - 19 : index + 1].mean()
        assert columns["volume_trend"][index] == pytest.approx(mean5 / mean20 - 1.0)
        span = now.high - now.low
        assert columns["body_ratio"][index] == pytest.approx(abs(now.close - now.open) / span)
        assert columns["lower_wick_ratio"][index] == pytest.approx((min(now.open, now.close) - now.low) / span)
        closes = candles.close[index - 19 : index + 1]
        assert columns["bb_width_pct"][index] == pytest.approx(100.0 * 4.0 * closes.std() / closes.mean())


def test_slopes_against_plain_loops() -> None:
    candles, columns = table("trend").candles, table("trend").columns
    for index in range(600, len(candles), 17):
        closes = candles.close[index - 49 : index + 1]
        rise = np.polyfit(np.arange(50), closes, 1)[0] * 49
        assert columns["trend_slope_pct"][index] == pytest.approx(100.0 * rise / closes.mean(), rel=1e-6)
        average = columns["ema_slow"]
        slope = (average[index] - average[index - 5]) / 5.0 / columns["atr"][index]
        assert columns["ema_slope_slow"][index] == pytest.approx(slope, rel=1e-6)


def test_higher_timeframes_are_those_closed_at_the_close() -> None:
    chart = table("scalp")
    quarter = features(base().resample("15m"), profile="scalp")
    for index in range(chart.ready, len(chart), 397):
        closed = [i for i, end in enumerate(quarter.candles.close_ts) if end <= chart.candles.close_ts[index]][-1]
        assert chart.columns["ts15"][index] == pytest.approx(quarter.columns["ts15"][closed])


def test_without_a_finer_series_the_finer_context_is_missing() -> None:
    hourly = features(base().resample("1h"), profile="trend")
    assert np.isnan(hourly.columns["ts15"]).all()
    assert np.isfinite(hourly.columns["ts60"][-1])
    stored = directional(hourly.row(len(hourly) - 1), Side.LONG)
    assert "ts15" not in stored
    assert "reward_to_risk" not in stored


def test_prices_of_any_size_give_the_same_features() -> None:
    # 2**-40 dollars: far below what TA-Lib takes for zero.
    tiny, factor = base().slice(0, 2_000), 2.0**-40
    opens, highs, lows, closes = (values * factor for values in (tiny.open, tiny.high, tiny.low, tiny.close))
    small = Candles("GENUSDT", "5m", tiny.ts, opens, highs, lows, closes, tiny.volume)
    for profile in SCHEMAS:
        big, little = features(tiny, profile=profile), features(small, profile=profile)
        for feature in SCHEMAS[profile].numbers:
            if feature.name in big.columns:
                assert np.array_equal(big.columns[feature.name], little.columns[feature.name], equal_nan=True)


PRICE_DEPENDENT = {"atr_pct", "bb_width_pct", "bb_width_rank", "trend_slope_pct", "volatility_regime", "rc15", "rc60"}
"""Shares of the price: a mirror that turns 90 into 110 changes them a little."""


@pytest.mark.parametrize("profile", SCHEMAS)
def test_a_short_is_the_mirror_image_of_a_long(profile: str) -> None:
    original = base().slice(0, 8_000)
    mirror = float(original.high.max() + original.low.min())
    turned = Candles(
        original.symbol,
        "5m",
        original.ts,
        mirror - original.open,
        mirror - original.low,
        mirror - original.high,
        mirror - original.close,
        original.volume,
    )
    here, there = (
        features(series.resample(TIMEFRAMES[profile]), profile=profile, base=series) for series in (original, turned)
    )
    differing = 0
    for index in range(here.ready, len(here), 7):
        close, image = float(here.candles.close[index]), float(there.candles.close[index])
        long = directional(here.row(index), Side.LONG, setup(close, Side.LONG))
        short = directional(there.row(index), Side.SHORT, setup(image, Side.SHORT))
        for name in set(long) - PRICE_DEPENDENT:
            value = long[name]
            expected = pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value
            assert short[name] == expected, name
        other = directional(here.row(index), Side.SHORT, setup(close, Side.SHORT))
        differing += other != long
    assert differing > 10


def test_a_flat_market_has_no_features_to_divide_by() -> None:
    flat = np.full(700, 5.0)
    ts = 300_000 * np.arange(1, 701, dtype=np.int64)
    for profile in SCHEMAS:
        chart = features(Candles("FLAT", "5m", ts, flat, flat, flat, flat, np.zeros(700)), profile=profile)
        stored = directional(chart.row(699), Side.LONG)
        assert all(not isinstance(value, float) or math.isfinite(value) for value in stored.values())
        assert {"rsi", "adx", "volume_ratio", "vwap_dist_atr"}.isdisjoint(stored)


@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_short_series_is_no_error(count: int) -> None:
    for profile in SCHEMAS:
        chart = features(base().slice(0, count), profile=profile)
        assert len(chart) == count
        assert all(column.shape == (count,) for column in chart.columns.values())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(Invalid, match="profile"):
        features(base(), profile="swing")
    with pytest.raises(Invalid, match="base"):
        features(base(), profile="trend", base=generate(1, symbol="OTHER", candles=10))
