"""The law against looking ahead: what a row says does not change when later candles arrive. Bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.candles import Candles
from market.columns import IntArray
from market.features import FeatureTable, features
from market.generated import generate

TIMEFRAMES = {"trend": "1h", "range": "15m", "scalp": "5m"}


@cache
def market(seed: int) -> Candles:
    """Five-minute candles with many holes, so that higher candles are often known late."""
    full = generate(seed, candles=7_000, price=10.0 ** (seed - 3))
    keep = np.random.default_rng(seed).random(len(full)) < (0.85 if seed % 2 else 1.0)
    rows = np.flatnonzero(keep)
    columns = (full.open, full.high, full.low, full.close, full.volume)
    return Candles("GENUSDT", "5m", full.ts[rows], *(column[rows] for column in columns))


@cache
def whole(seed: int, profile: str) -> tuple[Candles, FeatureTable]:
    candles = market(seed).resample(TIMEFRAMES[profile])
    return candles, features(candles, profile=profile, base=market(seed))


def check(seed: int, profile: str, position: int) -> None:
    candles, full = whole(seed, profile)
    base = market(seed).closed_by(int(candles.close_ts[position]))
    cut = features(candles.slice(0, position + 1), profile=profile, base=base)
    assert set(cut.columns) == set(full.columns)
    for name, column in cut.columns.items():
        assert column.tobytes() == full.columns[name][: position + 1].tobytes(), name
    assert np.array_equal(cut.sessions, full.sessions[: position + 1])
    assert np.array_equal(cut.regimes, full.regimes[: position + 1])
    assert np.array_equal(cut.volatility_known, full.volatility_known[: position + 1])
    # What the last row says is at hand: the comparison is not one of missing values.
    if position >= full.ready:
        assert all(np.isfinite(column[position]) for column in cut.columns.values())
        assert cut.ready == full.ready


@pytest.mark.parametrize("profile", TIMEFRAMES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(1, 4), place=st.floats(0.0, 1.0))
def test_truncation(profile: str, seed: int, place: float) -> None:
    candles, _ = whole(seed, profile)
    check(seed, profile, round(place * (len(candles) - 1)))


@pytest.mark.parametrize("profile", TIMEFRAMES)
def test_truncation_at_every_kind_of_moment(profile: str) -> None:
    candles, full = whole(1, profile)
    for position in {0, 1, 13, 14, 15, 60, len(candles) // 3, len(candles) - 2, len(candles) - 1}:
        check(1, profile, position)
    assert full.ready < len(candles) or profile == "trend"


def test_a_higher_candle_known_too_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Candles.resample_known

    def leaky(self: Candles, timeframe: str) -> tuple[Candles, IntArray]:
        higher, _ = honest(self, timeframe)
        return higher, higher.ts

    monkeypatch.setattr(Candles, "resample_known", leaky)
    whole.cache_clear()
    with pytest.raises(AssertionError, match="ts15"):
        check(1, "scalp", 3_000)
    whole.cache_clear()


@pytest.mark.parametrize("profile", TIMEFRAMES)
def test_after_the_warm_up_the_beginning_is_forgotten(profile: str) -> None:
    # The same market, known from a later day on: the rows after the warm-up say the same.
    # Quarter hours for the trend profile: 540 hours of warm-up must fit twice.
    base = generate(3, timeframe="15m" if profile == "trend" else "5m", candles=9_000)
    late = base.slice(1_003)
    timeframe = TIMEFRAMES[profile]
    full = features(base.resample(timeframe), profile=profile, base=base)
    part = features(late.resample(timeframe), profile=profile, base=late)
    begin = int(part.candles.ts[part.ready])
    early, now = full.candles.ts >= begin, part.candles.ts >= begin
    assert now.sum() > 100
    for name, column in part.columns.items():
        np.testing.assert_allclose(column[now], full.columns[name][early], rtol=1e-6, atol=1e-6, err_msg=name)
