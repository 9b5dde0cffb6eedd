"""The reference strategies: complete signals, the rules they state, both sides alike, and no look ahead."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import cache

import numpy as np
import pytest
import talib

from market.candles import Candles
from market.generated import generate
from market.reference_strategies import DEFAULT_SETTINGS, OpenGuard, Proposal, StrategySettings, proposals
from scorer.schema import SCHEMAS
from signals.errors import Invalid
from signals.profile import DEFAULT_PROFILES
from signals.signal import Side, Signal

STRATEGIES = tuple(DEFAULT_SETTINGS)


@cache
def market(seed: int = 21) -> Candles:
    return generate(seed, candles=30_000)


@cache
def found(strategy: str, seed: int = 21) -> list[Proposal]:
    return proposals(strategy, market(seed))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_signals_are_complete(strategy: str) -> None:
    settings = DEFAULT_SETTINGS[strategy]
    series = market().resample(settings.timeframe)
    atr = talib.ATR(series.high, series.low, series.close, timeperiod=14)
    signals = found(strategy)
    assert len({signal.id for signal in signals}) == len(signals)
    assert {signal.side for signal in signals} == set(Side)
    for signal in signals:
        index = int(np.searchsorted(series.close_ts, signal.ts))
        assert series.close_ts[index] == signal.ts
        assert signal.entry == series.close[index]
        assert signal.side.value * (signal.entry - signal.sl) == pytest.approx(2.0 * atr[index])
        assert signal.id == f"{strategy}-GENUSDT-{settings.timeframe}-{signal.ts}-{signal.side.word}"
        assert (signal.strategy, signal.timeframe) == (strategy, settings.timeframe)
        assert (signal.session, signal.volatility_regime, signal.tag) == (None, None, None)
        assert SCHEMAS[strategy].vector(signal.features).missing == (("qscore",) if strategy == "trend" else ())
        assert signal.features.get("reward_to_risk", signal.reward_to_risk) == pytest.approx(signal.reward_to_risk)
    assert [s.ts for s in signals] == sorted(s.ts for s in signals)


def test_targets() -> None:
    assert {round(signal.reward_to_risk, 9) for signal in found("trend")} == {2.0}
    assert {round(signal.reward_to_risk, 9) for signal in found("scalp")} == {1.5}
    ratios = [signal.reward_to_risk for signal in found("range")]
    assert min(ratios) == pytest.approx(1.6)
    assert max(ratios) > 2.0
    assert all(signal.tp1 is None for strategy in ("trend", "scalp") for signal in found(strategy))
    assert any(signal.tp1 is not None for signal in found("range"))


def test_the_trend_rule() -> None:
    series = market().resample("1h")
    fast, middle, slow = (talib.EMA(series.close, timeperiod=span) for span in (8, 21, 50))
    for signal in found("trend"):
        t, sign = int(np.searchsorted(series.close_ts, signal.ts)), signal.side.value
        best, worst = (series.high, series.low) if sign > 0 else (series.low, series.high)
        assert sign * (middle[t] - slow[t]) > 0.0
        assert sign * (slow[t] - slow[t - 5]) > 0.0
        assert any(sign * worst[k] <= sign * middle[k] for k in range(t - 7, t + 1))
        assert sign * (series.close[t] - best[t - 1]) > 0.0
        assert sign * (series.close[t] - fast[t]) > 0.0
        assert sign * (series.close[t] - series.open[t]) > 0.0
        assert signal.features["break_dist_atr"] == pytest.approx(
            sign * (series.close[t] - best[t - 1]) * 2.0 / signal.risk
        )
        deepest = min(sign * worst[k] for k in range(t - 7, t + 1))
        highest = max(sign * best[k] for k in range(t - 24, t))
        assert signal.features["retrace_depth_atr"] == pytest.approx((highest - deepest) * 2.0 / signal.risk)
        age = next(k for k in range(8) if sign * worst[t - k] == deepest)
        assert signal.features["confirm_candles"] == age


def test_the_range_rule() -> None:
    series = market().resample("15m")
    for signal in found("range"):
        t, sign = int(np.searchsorted(series.close_ts, signal.ts)), signal.side.value
        before = series.slice(t - 48, t)
        top, bottom = float(before.high.max()), float(before.low.min())
        near, far = (bottom, top) if sign > 0 else (top, bottom)
        atr = signal.risk / 2.0
        assert 3.0 <= (top - bottom) / atr <= 12.0 + 1e-9
        assert 0.0 < sign * (signal.entry - near) <= (top - bottom) / 3.0 + 1e-9
        adverse = series.low[t] if sign > 0 else series.high[t]
        assert sign * (adverse - near) <= 0.25 * (top - bottom) + 1e-9
        assert signal.features["rejection_wick"] == 1.0
        assert sign * signal.tp == pytest.approx(max(sign * far, sign * signal.entry + 1.6 * signal.risk))
        if signal.tp1 is not None:
            assert signal.tp1 == pytest.approx((top + bottom) / 2.0)
            assert sign * (signal.tp1 - signal.entry) >= 0.8 * signal.risk - 1e-9


def test_the_scalp_rule() -> None:
    series = market()
    for signal in found("scalp"):
        t, sign = int(np.searchsorted(series.close_ts, signal.ts)), signal.side.value
        best = series.high if sign > 0 else series.low
        assert all(sign * (series.close[t] - best[t - k]) > 0.0 for k in (1, 2, 3))
        assert sign * (series.close[t] - series.open[t]) > 0.0
        assert signal.features["ema_dir_15m"] == 1.0
        assert signal.features["body_sign"] == 1.0
        for name, least in (("body_ratio", 0.6), ("impulse_ratio", 0.5), ("volume_ratio", 1.2)):
            value = signal.features[name]
            assert isinstance(value, float)
            assert value >= least


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cooldown_holds_per_side(strategy: str) -> None:
    settings = DEFAULT_SETTINGS[strategy]
    step_ms = market().resample(settings.timeframe).step_ms
    for side in Side:
        moments = [signal.ts for signal in found(strategy) if signal.side is side]
        distances = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert min(distances) > settings.cooldown_candles * step_ms
    eager = proposals(strategy, market(), settings=dataclasses.replace(settings, cooldown_candles=0))
    assert len(eager) > len(found(strategy))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share", [0.55, 0.8, 0.99])
def test_later_candles_change_nothing(strategy: str, share: float) -> None:
    candles = market().slice(0, round(share * len(market())))
    end = int(candles.close_ts[-1])
    assert proposals(strategy, candles) == [signal for signal in found(strategy) if signal.ts <= end]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shorts_are_longs_in_the_mirror(strategy: str) -> None:
    here = market()
    mirror = float(here.high.max() + here.low.min())
    ohlc = (mirror - here.open, mirror - here.low, mirror - here.high, mirror - here.close)
    there = proposals(strategy, Candles(here.symbol, here.timeframe, here.ts, *ohlc, here.volume))
    assert {(s.ts, s.side) for s in there} == {(s.ts, Side(-s.side)) for s in found(strategy)}
    images = {(s.ts, s.side): s for s in there}
    for signal in found(strategy):
        image = images[signal.ts, Side(-signal.side)]
        for name in ("entry", "sl", "tp"):
            assert getattr(image, name) == pytest.approx(mirror - getattr(signal, name))
        assert (image.tp1 is None) == (signal.tp1 is None)
        for name in ("ema_slope_fast", "rejection_wick", "range_pos", "touches_low", "break_dist_atr", "div_rsi_delta"):
            if name in signal.features:
                assert image.features[name] == pytest.approx(signal.features[name], rel=1e-6, abs=1e-6)


def test_a_scalp_has_no_edge_in_a_fair_market() -> None:
    # A rule that saw a single future price would stand out here; break-even of 1.5 R is a win rate of 40 %.
    wins = trades = 0
    for seed in range(30, 40):
        candles = generate(seed, candles=12_000)
        highs, lows = candles.high.tolist(), candles.low.tolist()
        for signal in proposals("scalp", candles):
            sign = signal.side.value
            for t in range(int(np.searchsorted(candles.ts, signal.ts)), len(candles)):
                worst, best = (lows[t], highs[t]) if sign > 0 else (highs[t], lows[t])
                if sign * worst <= sign * signal.sl or sign * best >= sign * signal.tp:
                    trades += 1
                    wins += sign * worst > sign * signal.sl
                    break
    assert trades > 500
    assert abs(wins / trades - 0.4) < 2.6 * math.sqrt(0.24 / trades)


def test_a_candle_nobody_could_call_closed_gives_no_signal() -> None:
    first = next(signal for signal in found("trend"))
    last_part = first.ts - market().step_ms
    holed = market()
    rows = np.flatnonzero(holed.ts != last_part)
    columns = (holed.open, holed.high, holed.low, holed.close, holed.volume)
    gap = Candles(holed.symbol, "5m", holed.ts[rows], *(column[rows] for column in columns))
    assert first.ts not in {signal.ts for signal in proposals("trend", gap)}


def test_higher_candles_may_be_given_ready_made() -> None:
    assert proposals("trend", market().resample("1h"), market()) == found("trend")


def test_settings_move_the_barriers() -> None:
    settings = StrategySettings(timeframe="1h", reward_risk=3.0, atr_stop=1.0)
    wide, narrow = found("trend"), proposals("trend", market(), settings=settings)
    assert [s.id for s in narrow] == [s.id for s in wide]
    for one, other in zip(narrow, wide, strict=True):
        assert one.risk == pytest.approx(other.risk / 2.0)
        assert one.reward_to_risk == pytest.approx(3.0)


def test_a_stop_below_zero_is_no_signal() -> None:
    settings = StrategySettings(timeframe="1h", reward_risk=1.0, atr_stop=100.0)
    huge = proposals("trend", market(), settings=settings)
    assert len(huge) < len(found("trend"))


def test_symbols_with_a_slash_get_an_id() -> None:
    spot = generate(21, symbol="BTC/USDT:USDT", candles=4_000)
    signals = proposals("scalp", spot)
    assert signals[0].symbol == "BTC/USDT:USDT"
    assert signals[0].id.startswith("scalp-BTC.USDT:USDT-5m-")


def test_the_profiles_and_the_strategies_agree() -> None:
    assert set(DEFAULT_SETTINGS) == set(DEFAULT_PROFILES)
    assert all(DEFAULT_SETTINGS[name].timeout_ms == DEFAULT_PROFILES[name].timeout_ms for name in DEFAULT_SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"timeframe": "5x"},
        {"reward_risk": 0.0},
        {"reward_risk": math.nan},
        {"atr_stop": 0.0},
        {"cooldown_candles": -1},
        {"timeout_ms": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        StrategySettings(**({"timeframe": "1h", "reward_risk": 2.0} | change))  # type: ignore[arg-type]


def test_unknown_strategies_and_coarse_candles_are_refused() -> None:
    with pytest.raises(Invalid, match="STRATEGY_UNKNOWN"):
        proposals("swing", market())
    with pytest.raises(Invalid, match="multiple"):
        proposals("scalp", market().resample("15m"))


def test_the_guard_admits_one_per_strategy_symbol_and_side() -> None:
    def signal(name: str, side: Side, symbol: str = "A", strategy: str = "trend") -> Signal:
        sign = side.value
        return Signal(
            id=name, strategy=strategy, symbol=symbol, side=side, entry=10.0, sl=10.0 - sign, tp=10.0 + sign, ts=1
        )

    guard = OpenGuard()
    assert guard.admit(signal("a", Side.LONG))
    assert not guard.admit(signal("b", Side.LONG))
    assert guard.admit(signal("c", Side.SHORT))
    assert guard.admit(signal("d", Side.LONG, symbol="B"))
    assert guard.admit(signal("e", Side.LONG, strategy="scalp"))
    guard.closed("b")
    assert not guard.admit(signal("f", Side.LONG))
    guard.closed("a")
    assert guard.admit(signal("g", Side.LONG))
    assert not guard.admit(signal("h", Side.SHORT))
