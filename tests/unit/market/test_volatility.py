"""The live states against the batch: Wilder's ATR and the candle aggregator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import talib

from market.candles import Candles
from market.generated import generate
from market.indicators import atr
from market.volatility import CandleAggregator, WilderAtr
from signals.candle import Candle
from signals.errors import Invalid

M5 = 300_000


def stream(candles: Candles, timeframe_ms: int, *, by_json: bool = False) -> list[tuple[int, Candle]]:
    """Higher candles with the moment (close of the pushed candle) at which each came out."""
    state, out = CandleAggregator(candles.step_ms, timeframe_ms), []
    for candle in candles:
        state, closed = state.push(candle)
        if by_json:
            state = CandleAggregator.from_json(state.to_json())
        out += [(candle.ts + candles.step_ms, higher) for higher in closed]
    return out


@pytest.mark.parametrize("period", [2, 14])
@pytest.mark.parametrize("price", [3e-6, 0.1, 61_234.5])
def test_wilder_atr_live_and_batch_agree_bit_for_bit(period: int, price: float) -> None:
    candles = generate(5, candles=600, price=price)
    batch = atr(candles.high, candles.low, candles.close, period)
    state, live = WilderAtr(period), []
    for candle in candles:
        state = WilderAtr.from_json(state.advance(candle.high, candle.low, candle.close).to_json())
        live.append(math.nan if state.atr is None else state.atr)
        assert state.atr is None or state.atr_pct == 100.0 * state.atr / candle.close
    assert np.array_equal(batch, np.asarray(live), equal_nan=True)
    reference = talib.ATR(candles.high, candles.low, candles.close, timeperiod=period)
    np.testing.assert_allclose(batch, reference, rtol=1e-12)
    assert np.isfinite(batch).sum() == len(candles) - period


def test_wilder_atr_by_hand() -> None:
    # True ranges 2, 3 (gap up from 10 to a low of 12 and a high of 13), then 1: (2 + 3) / 2, then (2.5 + 1) / 2.
    state = WilderAtr(2)
    seen = []
    for high, low, close in ((9.0, 8.0, 9.0), (11.0, 9.0, 10.0), (13.0, 12.0, 12.5), (13.0, 12.0, 12.5)):
        state = state.advance(high, low, close)
        seen.append(state.atr)
    assert seen == [None, None, 2.5, 1.75]
    assert state.atr_pct == 14.0


def test_wilder_atr_refuses_a_period_of_one() -> None:
    with pytest.raises(Invalid):
        WilderAtr(1)


@pytest.mark.parametrize("higher", ["5m", "15m", "1h", "1d"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_stream_equals_batch(higher: str, seed: int) -> None:
    full = generate(seed, candles=1_500)
    # Many more holes than a generated market has.
    keep = np.random.default_rng(seed).random(len(full)) < 0.7
    rows = np.flatnonzero(keep)
    candles = Candles.of("GENUSDT", "5m", [full.at(int(i)) for i in rows])
    batch, known = candles.resample_known(higher)
    streamed = stream(candles, batch.step_ms, by_json=True)
    assert [candle for _, candle in streamed] == list(batch)
    assert [moment for moment, _ in streamed] == known.tolist()


def test_one_candle_can_close_two() -> None:
    # 15-minute candles: the first lacks its last part, the second has nothing but its last part.
    candles = [Candle(minute * 60_000 + 900_000, 1.0, 2.0, 1.0, 1.5, 1.0) for minute in (0, 25)]
    state, closed = CandleAggregator(M5, 3 * M5).push(candles[0])
    assert closed == ()
    state, closed = state.push(candles[1])
    assert [higher.ts for higher in closed] == [900_000, 1_800_000]
    assert state.pending is None


def test_forming_late_and_repeated_candles_change_nothing() -> None:
    first = Candle(900_000, 1.0, 2.0, 1.0, 1.5, 1.0)
    state, _ = CandleAggregator(M5, 3 * M5).push(first)
    for candle in (first, Candle(600_000, 1.0, 9.0, 1.0, 1.5), Candle(1_200_000, 1.0, 9.0, 1.0, 1.5, final=False)):
        assert state.push(candle) == (state, ())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(Invalid, match="multiple"):
        CandleAggregator(M5, 4 * M5 + 1)
    with pytest.raises(Invalid, match="CANDLE_MISALIGNED"):
        CandleAggregator(M5, 3 * M5).push(Candle(900_001, 1.0, 2.0, 1.0, 1.5))
