"""The generated market: reproducible, lifelike in volatility, and fair in direction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from market.candles import Candles
from market.generated import generate
from market.indicators import atr
from signals.errors import Invalid


def barrier_trades(candles: Candles, *, reward: float, atr_stop: float = 3.0) -> tuple[int, int]:
    """Wins and losses of longs and shorts taken one after the other at every open, stop and target in ATR.

    Wide barriers: a candle that touches both is a loss for the long and for the short alike, and rare.
    """
    width = atr(candles.high, candles.low, candles.close, 14).tolist()
    opens, highs, lows = (values.tolist() for values in (candles.open, candles.high, candles.low))
    wins = losses = 0
    index, sign = 20, 1
    while index < len(candles):
        entry, risk = opens[index], atr_stop * width[index - 1]
        stop, target = entry - sign * risk, entry + sign * reward * risk
        while index < len(candles):
            worst, best = (lows[index], highs[index]) if sign > 0 else (highs[index], lows[index])
            index += 1
            if sign * worst <= sign * stop:
                losses += 1
                break
            if sign * best >= sign * target:
                wins += 1
                break
        sign = -sign
    return wins, losses


@pytest.mark.parametrize(("reward", "fair"), [(1.0, 1 / 2), (2.0, 1 / 3)])
def test_barriers_have_no_edge(reward: float, fair: float) -> None:
    outcomes = [barrier_trades(generate(seed, candles=6_000), reward=reward) for seed in range(20)]
    wins, trades = sum(w for w, _ in outcomes), sum(w + n for w, n in outcomes)
    assert trades > 1_500
    standard_error = math.sqrt(fair * (1.0 - fair) / trades)
    assert abs(wins / trades - fair) < 2.6 * standard_error


def test_returns_are_fair_in_price() -> None:
    # E[close / open − 1] = 0. In log price it would be −σ²/2, which this sample can tell apart.
    returns = np.concatenate([(c.close / c.open - 1.0) for c in (generate(s, candles=20_000) for s in range(10))])
    assert abs(returns.mean()) < 2.6 * returns.std() / math.sqrt(returns.size)


def test_the_past_says_nothing_about_the_direction() -> None:
    candles = generate(4, candles=40_000)
    returns = np.diff(np.log(candles.close))
    for lag in (1, 2, 5, 12):
        product = returns[lag:] * returns[:-lag]
        assert abs(product.mean()) < 3.0 * product.std() / math.sqrt(product.size)


def test_high_and_low_are_mirror_images() -> None:
    candles = generate(8, candles=20_000, gaps=False)
    up, down = candles.high / candles.open - 1.0, 1.0 - candles.low / candles.open
    difference = up - down
    assert abs(difference.mean()) < 2.6 * difference.std() / math.sqrt(difference.size)


def test_volatility_clusters_has_fat_tails_and_a_daily_rhythm() -> None:
    candles = generate(2, candles=60_000)
    returns = np.diff(np.log(candles.close))
    size = np.abs(returns)
    assert ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2 > 6.0
    assert np.corrcoef(size[12:], size[:-12])[0, 1] > 0.1
    hour = (candles.ts[1:] % 86_400_000) // 3_600_000
    assert size[(hour >= 12) & (hour < 17)].mean() > 1.4 * size[hour < 5].mean()
    assert np.corrcoef(candles.volume[1:], size)[0, 1] > 0.3
    # A year of 3.2 % days, give or take the regimes.
    assert 0.02 < returns.std() * math.sqrt(288) < 0.06


def test_gaps_and_holes_are_there_and_can_be_left_out() -> None:
    rough, smooth = generate(3, candles=30_000), generate(3, candles=30_000, gaps=False)
    assert len(smooth) == 30_000
    assert 29_900 < len(rough) < 30_000
    jumps = np.abs(rough.open[1:] / rough.close[:-1] - 1.0)
    assert 40 < (jumps > 1e-9).sum() < 150
    assert (np.abs(smooth.open[1:] / smooth.close[:-1] - 1.0) < 1e-9).all()


def test_drift_moves_the_price_and_regimes_turn_it() -> None:
    up = generate(6, candles=60 * 288, drift=0.02, regimes=False)
    assert up.close[-1] > 1.5 * up.close[0]
    turning = [generate(s, candles=2_000, drift=0.02, gaps=False) for s in range(60)]
    final = np.asarray([c.close[-1] / c.open[0] - 1.0 for c in turning])
    assert abs(final.mean()) < 2.6 * final.std() / math.sqrt(final.size)


def test_the_same_seed_makes_the_same_market() -> None:
    first, again, other = (generate(seed, candles=500) for seed in (9, 9, 10))
    assert np.array_equal(first.close, again.close)
    assert np.array_equal(first.ts, again.ts)
    assert not np.array_equal(first.close[:400], other.close[:400])


def test_arguments() -> None:
    candles = generate(1, symbol="AAA", timeframe="1h", candles=10, price=5.0, start_ms=3_600_001, gaps=False)
    assert (candles.symbol, candles.timeframe, len(candles)) == ("AAA", "1h", 10)
    assert (candles.ts[0], candles.open[0]) == (3_600_000, 5.0)
    with pytest.raises(Invalid):
        generate(1, candles=0)
    with pytest.raises(Invalid):
        generate(1, price=0.0)
