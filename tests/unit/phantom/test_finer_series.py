"""A finer series says which of two levels in a candle came first, and is asked nothing else. One R is 2."""

from __future__ import annotations

import pytest

from phantom.position import Closed
from signals.candle import Candle
from signals.signal import Side
from tests.support.positions import BOTH_SIDES, MINUTE, START, STEP, candle, closed, follow, path, price, same, terms

CALM = "100 101 99 100"
BOTH = "101 105 97 104"


def resolve(side: Side, minutes: list[Candle], tp1: float | None = None, *before: str) -> Closed:
    return closed(follow(terms(side, tp1=tp1), path(side, CALM, *before, BOTH), minutes))


def pieces(side: Side, *lines: str, at: int = 1) -> list[Candle]:
    return path(side, *lines, start=START + at * STEP, step=MINUTE)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("lines", "reason", "exit_", "gap", "mfe", "mae"),
    [
        pytest.param(["101 102 100 101", "101 105 101 104", "104 104 97 97"], "tp", 104, False, 2, 0.5, id="target"),
        pytest.param(["101 102 98.5 101", "101 105 101 104"], "tp", 104, False, 2, 0.75, id="dip, target"),
        pytest.param(["101 101.5 97 98", "98 105 98 104"], "sl", 98, False, 0.5, 1, id="stop first"),
        pytest.param(["101 103 101 102", "102 102 98 98"], "sl", 98, False, 1.5, 1, id="stop second, after a rise"),
        pytest.param(["101 103 99.5 100", "97.5 105 97 104"], "sl", 97.5, True, 1.5, 1.25, id="gap through the stop"),
        pytest.param(["101 103 99.5 100", "98 105 97 104"], "sl", 98, False, 1.5, 1, id="open at the stop"),
        pytest.param(["101 103 99.5 100", "105 105 97 98"], "tp", 104, False, 2, 1.5, id="gap through the target"),
        pytest.param(["101 103 99.5 100", "104 105 97 98"], "tp", 104, False, 2, 1.5, id="open at the target"),
    ],
)  # fmt: skip
def test_which_level_came_first(
    side: Side, lines: list[str], reason: str, exit_: float, gap: bool, mfe: float, mae: float
) -> None:
    end = resolve(side, pieces(side, *lines))
    assert (end.reason, end.exit_price, end.gap) == (reason, price(side, exit_), gap)
    assert (end.resolved, end.ambiguous) == (True, False)
    assert (end.mfe_r, end.mae_r) == (mfe, mae)
    # Whatever the minutes show, the position ends with its own candle.
    assert end.exit_ms == START + 2 * STEP


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no finer candle"),
        pytest.param(["101 105 97 104"], id="one piece that holds both"),
        pytest.param(
            ["101 102 100 101", "101 104 98 100", "100 105 100 105"], id="the first touch is itself ambiguous"
        ),
        pytest.param(["101 102 100 101", "101 103 99 102"], id="pieces that show neither"),
    ],
)
def test_unresolved_stays_an_assumed_loss(side: Side, lines: list[str]) -> None:
    end = resolve(side, pieces(side, *lines))
    assert (end.reason, end.exit_price, end.ambiguous, end.resolved) == ("sl", price(side, 98), True, False)
    assert (end.mfe_r, end.mae_r) == (0.5, 1.0)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("at", [0, 2])
def test_pieces_of_other_candles_are_not_asked(side: Side, at: int) -> None:
    elsewhere = pieces(side, "101 105 101 104", at=at)
    assert resolve(side, elsewhere).ambiguous
    stopped = pieces(side, "101 101 98 98")
    assert resolve(side, sorted(elsewhere + stopped, key=lambda piece: piece.ts)).reason == "sl"


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_an_unfinished_piece_decides_nothing(side: Side) -> None:
    # SPEC 9: corrected or unfinished candles never close anything.
    forming = candle(side, "101 105 101 104", START + STEP, final=False)
    end = resolve(side, [forming])
    assert (end.reason, end.ambiguous, end.resolved) == ("sl", True, False)


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_a_break_even_stop_is_the_level_that_is_asked_for(side: Side) -> None:
    first = resolve(side, pieces(side, "101 102 100 101", at=2), 103.0, "100 103 100 102")
    assert (first.reason, first.exit_price, first.gross_r, first.resolved) == ("sl", 100.0, 0.0, True)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    "line", ["100 101 98 99", "100 104 99 103", "100 103 99 100", "97 99 96 97", "105 106 104 105"]
)
def test_one_level_alone_needs_no_finer_series(side: Side, line: str) -> None:
    contradicting = pieces(side, "100 110 100 110", "100 100 90 90")
    position = terms(side)
    candles = path(side, CALM, line)
    assert same(follow(position, candles, contradicting), follow(position, candles))
