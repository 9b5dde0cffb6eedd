"""Candles as arrays: construction, views, and the higher timeframes they make."""

from __future__ import annotations

import numpy as np
import pytest

from market.candles import Candles, timeframe_word
from signals.candle import Candle
from signals.errors import Invalid
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

M5 = 300_000
HOUR = 3_600_000


def series(minutes: list[int], timeframe: str = "5m") -> Candles:
    """Candles opening at the given minutes after the epoch's second hour; prices tell their position."""
    return Candles.of(
        "BTCUSDT",
        timeframe,
        [Candle(HOUR + m * 60_000, 100.0 + i, 102.0 + i, 99.0 + i, 101.0 + i, 1.0 + i) for i, m in enumerate(minutes)],
    )


def test_arrays_and_single_candles_say_the_same() -> None:
    candles = series([0, 5, 10])
    assert len(candles) == 3
    assert candles.step_ms == M5
    assert candles.at(1) == Candle(HOUR + M5, 101.0, 103.0, 100.0, 102.0, 2.0)
    assert candles.at(-1) == candles.at(2)
    assert list(candles) == [candles.at(i) for i in range(3)]
    assert candles.close_ts.tolist() == [HOUR + M5, HOUR + 2 * M5, HOUR + 3 * M5]


def test_arrays_cannot_be_written() -> None:
    candles = series([0, 5])
    with pytest.raises(ValueError, match="read-only"):
        candles.close[0] = 1.0


def test_views_by_position_and_by_time() -> None:
    candles = series([0, 5, 10, 20])
    assert candles.slice(1, 3).ts.tolist() == candles.ts[1:3].tolist()
    assert candles.between(HOUR + M5, HOUR + 4 * M5).ts.tolist() == candles.ts[1:3].tolist()
    assert len(candles.between(HOUR + 4 * M5, HOUR)) == 0
    # The candle of minute 10 closes at minute 15: known at that moment, not one millisecond before.
    assert len(candles.closed_by(HOUR + 3 * M5)) == 3
    assert len(candles.closed_by(HOUR + 3 * M5 - 1)) == 2


@pytest.mark.parametrize(
    ("ts", "high", "reason"),
    [
        pytest.param([HOUR, HOUR], 2.0, Reason.CANDLE_LATE, id="same time twice"),
        pytest.param([HOUR + M5, HOUR], 2.0, Reason.CANDLE_LATE, id="falling time"),
        pytest.param([HOUR, HOUR + M5 + 1], 2.0, Reason.CANDLE_MISALIGNED, id="misaligned"),
        pytest.param([HOUR, HOUR + M5], 0.5, Reason.CANDLE_IMPOSSIBLE, id="high below low"),
        pytest.param([HOUR, HOUR + M5], float("nan"), Reason.CANDLE_IMPOSSIBLE, id="not a number"),
    ],
)
def test_a_series_that_cannot_be_is_refused(ts: list[int], high: float, reason: Reason) -> None:
    flat = np.ones(2)
    with pytest.raises(Invalid) as refused:
        Candles("BTCUSDT", "5m", np.asarray(ts), flat, np.asarray([2.0, high]), flat, flat, flat)
    assert refused.value.reason is reason


def test_columns_of_different_length_are_refused() -> None:
    flat = np.ones(2)
    with pytest.raises(Invalid, match="volume"):
        Candles("BTCUSDT", "5m", np.asarray([HOUR, HOUR + M5]), flat, flat, flat, flat, np.ones(1))


def test_resample_by_hand() -> None:
    higher = series([0, 5, 10, 15, 20, 25]).resample("15m")
    assert list(higher) == [
        Candle(HOUR, 100.0, 104.0, 99.0, 103.0, 6.0),
        Candle(HOUR + 3 * M5, 103.0, 107.0, 102.0, 106.0, 15.0),
    ]


# Minutes of the 5-minute candles that are there → minute at which each 15-minute candle opens, and is known.
@pytest.mark.parametrize(
    ("minutes", "opens", "known"),
    [
        pytest.param([0, 5, 10], [0], [15], id="complete: known at its end"),
        pytest.param([0, 5], [], [], id="partial at the end: dropped"),
        pytest.param([0, 5, 15], [0], [20], id="last sub-candle missing: known when a later one closes"),
        pytest.param([10, 15, 20, 25], [0, 15], [15, 30], id="first ones missing: still known at its end"),
        pytest.param([5, 40, 45], [0, 30], [45, 45], id="a whole higher candle missing"),
        pytest.param([0, 5, 10, 15, 20], [0], [15], id="next one unfinished"),
    ],
)
def test_when_a_higher_candle_is_known(minutes: list[int], opens: list[int], known: list[int]) -> None:
    higher, known_ms = series(minutes).resample_known("15m")
    assert [(ts - HOUR) // 60_000 for ts in higher.ts.tolist()] == opens
    assert [(ts - HOUR) // 60_000 for ts in known_ms.tolist()] == known


def test_resample_knows_only_whole_multiples() -> None:
    with pytest.raises(Invalid, match="multiple"):
        series([0, 5]).resample("12m")
    same = series([0, 5]).resample("5m")
    assert list(same) == list(series([0, 5]))


@pytest.mark.parametrize("word", ["1s", "5m", "90m", "1h", "4h", "1d", "1w"])
def test_timeframe_word_is_the_inverse(word: str) -> None:
    assert timeframe_word(timeframe_ms(word)) == word


def test_timeframe_word_refuses_fractions() -> None:
    with pytest.raises(Invalid):
        timeframe_word(1_500)
