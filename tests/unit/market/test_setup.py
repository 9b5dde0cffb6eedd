"""Features of the set-up, worked by hand for a long and its mirror image."""

from __future__ import annotations

import math

import pytest

from market.setup import Setup, break_dist_atr, divergence, protective_pivot_present, retrace_depth_atr, sided
from signals.errors import Invalid
from signals.signal import Side

# Long from 100, stop 96, target 108; the short mirrors it around 100.
LONG = Setup(entry=100.0, stop=96.0, target=108.0, level=99.0, extreme=101.0, retrace=97.0, confirm_candles=2)
SHORT = Setup(entry=100.0, stop=104.0, target=92.0, level=101.0, extreme=99.0, retrace=103.0, confirm_candles=2)
ROW = {
    "close": 100.0,
    "atr": 2.0,
    "pivot_low": 97.0,
    "pivot_high": 107.0,
    "div_rsi_delta_low": 4.0,
    "div_rsi_delta_high": 12.0,
    "div_tsi_delta_low": -1.0,
    "div_tsi_delta_high": 6.0,
    "rejection_wick_low": 1.0,
    "rejection_wick_high": 0.0,
    "micro_seq": 1.0,
}


def test_of_a_long() -> None:
    assert sided(ROW, Side.LONG, LONG) == {
        "div_rsi_delta": 4.0,
        "div_tsi_delta": -1.0,
        "div_ok": 0.0,
        "div_score": 0.0,
        "rejection_wick": 1.0,
        "micro_seq_aligned": 1.0,
        "reward_to_risk": 2.0,
        "protective_pivot_present": 1.0,
        "break_dist_atr": 0.5,
        "retrace_depth_atr": 2.0,
        "confirm_candles": 2.0,
    }


def test_of_a_short() -> None:
    assert sided(ROW, Side.SHORT, SHORT) == {
        "div_rsi_delta": 12.0,
        "div_tsi_delta": 6.0,
        "div_ok": 1.0,
        "div_score": 80.0,
        "rejection_wick": 0.0,
        "micro_seq_aligned": 0.0,
        "reward_to_risk": 2.0,
        "protective_pivot_present": 0.0,
        "break_dist_atr": 0.5,
        "retrace_depth_atr": 2.0,
        "confirm_candles": 2.0,
    }


def test_without_a_set_up_only_the_chart_speaks() -> None:
    assert set(sided(ROW, Side.LONG, None)) == {
        "div_rsi_delta",
        "div_tsi_delta",
        "div_ok",
        "div_score",
        "rejection_wick",
        "micro_seq_aligned",
    }
    assert sided({"close": 1.0, "atr": 1.0}, Side.LONG, Setup(entry=1.0, stop=0.5, target=2.0)) == {
        "reward_to_risk": 2.0
    }


@pytest.mark.parametrize("side", Side)
def test_break_and_retrace_in_atr(side: Side) -> None:
    sign = side.value
    assert break_dist_atr(side, 100.0, 100.0 - sign * 3.0, 2.0) == 1.5
    assert break_dist_atr(side, 100.0, 100.0 + sign * 3.0, 2.0) == -1.5
    assert retrace_depth_atr(side, 100.0 + sign, 100.0 - sign * 3.0, 2.0) == 2.0
    assert math.isnan(break_dist_atr(side, 100.0, 99.0, 0.0))
    assert math.isnan(retrace_depth_atr(side, 100.0, 99.0, math.nan))


@pytest.mark.parametrize(
    ("offset", "present"),
    [
        pytest.param(-4.0, 0.0, id="at the stop"),
        pytest.param(-3.9, 1.0, id="just above the stop"),
        pytest.param(-0.1, 1.0, id="just below the entry"),
        pytest.param(0.0, 0.0, id="at the entry"),
        pytest.param(math.nan, 0.0, id="none yet"),
    ],
)
def test_protective_pivot(offset: float, present: float) -> None:
    assert protective_pivot_present(Side.LONG, LONG, 100.0 + offset) == present
    assert protective_pivot_present(Side.SHORT, SHORT, 100.0 - offset) == present


@pytest.mark.parametrize(
    ("rsi", "tsi", "expected"),
    [(0.0, 5.0, (0.0, 0.0)), (5.0, -1.0, (0.0, 0.0)), (2.0, 4.0, (1.0, 30.0)), (50.0, 50.0, (1.0, 100.0))],
)
def test_divergence(rsi: float, tsi: float, expected: tuple[float, float]) -> None:
    assert divergence(rsi, tsi) == expected


def test_divergence_of_the_unknown_is_unknown() -> None:
    assert all(math.isnan(value) for value in divergence(math.nan, 1.0))


def test_a_set_up_without_risk_is_refused() -> None:
    with pytest.raises(Invalid):
        Setup(entry=1.0, stop=1.0, target=2.0)
    with pytest.raises(Invalid):
        Setup(entry=1.0, stop=math.nan, target=2.0)
