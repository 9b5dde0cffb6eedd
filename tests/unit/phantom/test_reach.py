"""The way of the price after an entry: worked by hand, streamed and on arrays, from either side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantom.position import ExitReason, Position
from phantom.reach import HORIZON, Path, path_end_ms, path_from, path_record, walk, walk_batch, walked
from signals.candle import Candle
from signals.errors import Invalid
from signals.signal import Side
from tests.support.positions import BOTH_SIDES, START, STEP, candle, follow, path, terms
from tests.support.walks import walks

FLAT = "100 100.5 99.5 100"


def way(side: Side, *lines: str) -> Path:
    """One R is 2: 102 and 104 are the levels ahead, 98 and 96 those behind."""
    return walked(terms(side), path(side, *lines))


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("lines", "with_at", "against_at", "best_r", "worst_r"),
    [
        pytest.param([FLAT], (0, 0), (0, 0), 0.25, 0.25, id="nothing"),
        pytest.param([FLAT, "100 102 99 101"], (2, 0), (0, 0), 1.0, 0.5, id="one ahead, to the tick"),
        pytest.param(["100 101 98 99"], (0, 0), (1, 0), 0.5, 1.0, id="one behind, on the entry candle"),
        pytest.param(["100 105 95 100"], (1, 1), (1, 1), 2.5, 2.5, id="one candle holds all: all are reached"),
        pytest.param(["100 101 97 98", "98 104.5 98 104"], (2, 2), (1, 0), 2.25, 1.5, id="on after its stop"),
        pytest.param(["100 103 100 103", FLAT, "97 97 95 96"], (1, 0), (3, 3), 1.5, 2.5, id="there and back"),
    ],
)
def test_levels_and_excursions(
    side: Side,
    lines: list[str],
    with_at: tuple[int, int],
    against_at: tuple[int, int],
    best_r: float,
    worst_r: float,
) -> None:
    found = way(side, *lines)
    assert (found.with_at, found.against_at) == (with_at, against_at)
    assert (found.best_r, found.worst_r) == ((best_r, best_r), (worst_r, worst_r))


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_a_level_belongs_to_the_horizon_it_is_reached_in(side: Side) -> None:
    lines = [FLAT] * HORIZON
    lines[59], lines[60], lines[119] = "100 102 100 101", "101 104 100 101", "100 101 97 100"
    found = way(side, *lines, "100 150 50 100")
    assert found.known
    assert (found.with_at, found.against_at) == ((60, 61), (120, 0))
    assert (found.best_r, found.worst_r) == ((1.0, 2.0), (0.25, 1.5))
    assert [found.reached(level, horizon, in_favour=True) for level in (0, 1) for horizon in (0, 1)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert [found.reached(0, horizon, in_favour=False) for horizon in (0, 1)] == [False, True]


def test_strength_is_the_farther_way_and_doubt_counts_against_the_trade() -> None:
    assert way(Side.LONG, "100 103 99 100").strength_r() == 1.5
    assert way(Side.LONG, "100 101 97 100").strength_r() == -1.5
    assert way(Side.LONG, "100 103 97 100").strength_r() == -1.5


def test_what_changes_nothing() -> None:
    one, found = terms(Side.LONG), way(Side.LONG, FLAT, FLAT)
    wild = candle(Side.LONG, "100 150 50 100")
    for ts in (START - STEP, START, START + STEP, START + HORIZON * STEP, START + 2 * STEP + 1):
        assert walk(found, one, replace(wild, ts=ts)) is found
    assert walk(found, one, replace(wild, ts=START + 2 * STEP, final=False)) is found


def test_a_hole_is_not_guessed() -> None:
    lines = [FLAT] * HORIZON
    lines[70] = "-"
    found = way(Side.LONG, *lines)
    assert (found.candles, found.known) == (HORIZON - 1, False)
    assert path_end_ms(terms(Side.LONG)) == START + HORIZON * STEP


@given(walks(most=140), st.sampled_from(BOTH_SIDES), st.integers(0, 20))
def test_arrays_say_what_the_stream_says(candles: list[Candle], side: Side, later: int) -> None:
    base = candles[0].open if candles else 100.0
    one = replace(
        terms(side), entry=base, stop_loss=base - side.value * 2.0, take_profit=base + side.value * 5.0,
        entry_ms=START + later * STEP, deadline_ms=START + 200 * STEP,
    )  # fmt: skip
    ts, high, low = (np.array([getattr(it, name) for it in candles]) for name in ("ts", "high", "low"))
    assert walk_batch([one], ts.astype(np.int64), high.astype(float), low.astype(float)) == [walked(one, candles)]


@given(walks(most=60, holes=False), st.sampled_from(BOTH_SIDES))
def test_a_stop_is_one_r_behind_and_the_way_goes_on_after_it(candles: list[Candle], side: Side) -> None:
    one = replace(terms(side), entry=125.0, stop_loss=125.0 - side.value * 2.0, take_profit=125.0 + side.value * 50.0)
    found, ended = walked(one, candles), follow(one, candles)
    if isinstance(ended, Position) or ended.reason is not ExitReason.SL:
        return
    # The position knows of the price until its stop; the path knows all of that and more.
    assert found.against_at[0] == (ended.exit_ms - START) // STEP
    assert found.candles >= ended.track.candles
    assert found.best_r[1] >= ended.mfe_r


@given(walks(most=130))
def test_a_record_is_the_path(candles: list[Candle]) -> None:
    found = walked(replace(terms(Side.SHORT), entry=125.0, stop_loss=127.0, take_profit=120.0), candles)
    assert path_from(path_record(found)) == found


def test_a_record_that_nobody_wrote_is_refused() -> None:
    good = path_record(way(Side.LONG, FLAT))
    for bad in ({"candles": 121}, {"with_at": [121, 0]}, {"best_r": [float("nan"), 0.0]}, {"worst_r": [-1.0, 0.0]}):
        with pytest.raises(Invalid):
            path_from(good | bad)
    with pytest.raises(ValueError, match="ascending"):
        walk_batch([], np.array([2, 1]), np.ones(2), np.ones(2))
