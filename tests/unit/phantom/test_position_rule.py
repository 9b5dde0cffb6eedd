"""SPEC 9 worked by hand. Long from 100, stop 98, target 104: one R is 2. Shorts walk the same table in a mirror."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from phantom.advance import abandon, advance, overdue
from phantom.position import NO_DATA_AFTER_MS, ExitReason, Outcome, Position
from signals.signal import Side
from tests.support.positions import BOTH_SIDES, START, STEP, candle, closed, follow, path, price, still_open, terms

CALM = "100 101 99 100"  # half an R either way


@dataclass(frozen=True)
class Ending:
    """What a path must end in; ``flags`` names every true one among the rest."""

    reason: str
    exit: float
    r: float
    mfe: float
    mae: float
    flags: set[str] = field(default_factory=set)


FLAGS = ("gap", "ambiguous", "resolved", "late_mark", "tp1_hit", "one_r_hit", "two_r_hit")
WON = {"tp1_hit", "one_r_hit", "two_r_hit"}

WITHOUT_TP1 = {
    "stop touched exactly": ([CALM, "100 101.5 98 99"], Ending("sl", 98, -1, 0.5, 1)),
    "of the candle that stops only the open counts": (
        [CALM, "103 103.5 97 98"],
        Ending("sl", 98, -1, 1.5, 1, {"one_r_hit"}),
    ),
    "the stop fills at its price, not at the low": ([CALM, "100 100 90 95"], Ending("sl", 98, -1, 0.5, 1)),
    "gap through the stop": ([CALM, "96 97 95 97"], Ending("sl", 96, -2, 0.5, 2, {"gap"})),
    "gap through the stop, then up to the target": ([CALM, "96 105 95 104"], Ending("sl", 96, -2, 0.5, 2, {"gap"})),
    "open at the stop is a touch": ([CALM, "98 99 97 98.5"], Ending("sl", 98, -1, 0.5, 1)),
    "open at the stop, then up to the target: nothing to guess": (
        [CALM, "98 105 97 104"],
        Ending("sl", 98, -1, 0.5, 1),
    ),
    "target touched exactly": ([CALM, "101 104 100.5 103"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "beyond the target is not earned": ([CALM, "100 110 100 109"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "the winning candle's adverse extreme counts": ([CALM, "100 104 98.5 104"], Ending("tp", 104, 2, 2, 0.75, WON)),
    "gap through the target fills at the target": ([CALM, "106 107 105 106"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "open at the target": ([CALM, "104 104 103 103"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "gap through the target, then down to the stop": ([CALM, "105 106 97 98"], Ending("tp", 104, 2, 2, 1.5, WON)),
    "both: the loss is assumed": ([CALM, "101 105 97 104"], Ending("sl", 98, -1, 0.5, 1, {"ambiguous"})),
    "both touched exactly": ([CALM, "100 104 98 100"], Ending("sl", 98, -1, 0.5, 1, {"ambiguous"})),
    "stopped in the entry candle": (["100 101 97 98"], Ending("sl", 98, -1, 0, 1)),
    "stopped in an entry candle that opened higher": (["101 103 97 98"], Ending("sl", 98, -1, 0.5, 1)),
    "won in the entry candle": (["100.5 104 100 103"], Ending("tp", 104, 2, 2, 0, WON)),
    "both in the entry candle": (["100 105 97 100"], Ending("sl", 98, -1, 0, 1, {"ambiguous"})),
    "excursions of the candles before": (
        [CALM, "100 103.5 98.5 100", "100 101 97 98"],
        Ending("sl", 98, -1, 1.75, 1, {"one_r_hit"}),
    ),
    "exactly one R on the way": ([CALM, "100 102 99 100", "99 99 97 98"], Ending("sl", 98, -1, 1, 1, {"one_r_hit"})),
    "a missing candle is no event": ([CALM, "-", "-", "101 104 100 104"], Ending("tp", 104, 2, 2, 0.5, WON)),
}

RAN = {"tp1_hit", "one_r_hit"}
WITH_TP1_AT_103 = {
    "break-even stop": ([CALM, "100 103 100 102", "101 102 100 101"], Ending("sl", 100, 0, 1.5, 0.5, RAN)),
    "break-even stop, later": (
        [CALM, "100 103 100 102", "102 103.5 101 102", "101 101 99 99"],
        Ending("sl", 100, 0, 1.75, 0.5, RAN),
    ),
    "gap below break-even": (
        [CALM, "100 103 100 102", "99 99.5 97 98"],
        Ending("sl", 99, -0.5, 1.5, 0.5, RAN | {"gap"}),
    ),
    "gap below the first stop": (
        [CALM, "100 103 100 102", "97 97.5 96 97"],
        Ending("sl", 97, -1.5, 1.5, 1.5, RAN | {"gap"}),
    ),
    "the runner": ([CALM, "100 103 100 102", "102 104 101 104"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "both, at break-even": (
        [CALM, "100 103 100 102", "102 104 100 101"],
        Ending("sl", 100, 0, 1.5, 0.5, RAN | {"ambiguous"}),
    ),
    "first target and stop in one candle: no first target": (
        [CALM, "100 103 98 99"],
        Ending("sl", 98, -1, 0.5, 1),
    ),
    "first target and target in one candle": ([CALM, "100 104 100 104"], Ending("tp", 104, 2, 2, 0.5, WON)),
    "first target by a gap": ([CALM, "103.5 103.5 103 103", "102 102 99 99"], Ending("sl", 100, 0, 1.75, 0.5, RAN)),
    "first target in the entry candle": (["100 103 99 102", "101 102 99 100"], Ending("sl", 100, 0, 1.5, 0.5, RAN)),
}

CASES = [pytest.param(None, *case, id=name) for name, case in WITHOUT_TP1.items()] + [
    pytest.param(103.0, *case, id=f"TP1, {name}") for name, case in WITH_TP1_AT_103.items()
]


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(("tp1", "lines", "ending"), CASES)
def test_how_it_ends(side: Side, tp1: float | None, lines: list[str], ending: Ending) -> None:
    candles = path(side, *lines)
    still_open(follow(terms(side, tp1=tp1), candles[:-1]))
    end = closed(follow(terms(side, tp1=tp1), candles))
    assert end.reason == ending.reason
    assert end.outcome is (Outcome.WIN if ending.reason == "tp" else Outcome.LOSS)
    assert end.exit_price == price(side, ending.exit)
    assert end.exit_ms == candles[-1].ts + STEP
    assert (end.gross_r, end.mfe_r, end.mae_r) == (ending.r, ending.mfe, ending.mae)
    assert {name for name in FLAGS if getattr(end, name)} == ending.flags
    assert end.track.last_ts == candles[-1].ts
    assert end.track.candles == len(candles)
    assert end.mark_price is None


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("line", ["100 103.9 98.1 100", "98.1 98.1 98.1 98.1", "103.9 103.9 103.9 103.9"])
def test_between_the_levels_nothing_ends(side: Side, line: str) -> None:
    position = still_open(follow(terms(side), path(side, CALM, line)))
    assert position.track.stop == price(side, 98)
    assert (position.track.filled, position.track.tp1_ms, position.track.be_moved) == (True, None, False)


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_excursions_of_an_open_position_take_both_extremes(side: Side) -> None:
    position = still_open(follow(terms(side), path(side, "100 102 99.5 101", "101 103.5 98.5 100", CALM)))
    assert (position.track.best, position.track.worst) == (price(side, 103.5), price(side, 98.5))


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_the_stop_never_moves_inside_the_candle_that_touches_the_first_target(side: Side) -> None:
    # It dips to 99 after, or before, touching 103: nobody knows, so the stop at 98 still stands.
    position = still_open(follow(terms(side, tp1=103.0), path(side, CALM, "101 103 99 99.5")))
    assert position.track.stop == 100.0
    assert position.track.be_moved
    assert position.track.tp1_ms == START + 2 * STEP


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_the_first_target_is_dated_once(side: Side) -> None:
    position = still_open(follow(terms(side, tp1=103.0), path(side, CALM, "101 103 100 102", "102 103.5 101 103")))
    assert position.track.tp1_ms == START + 2 * STEP


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("open_", [97.5, 97.0, 95.25, 90.0, 60.0, 1.0])
def test_a_gap_through_the_stop_costs_what_the_open_says(side: Side, open_: float) -> None:
    end = closed(follow(terms(side), path(side, CALM, f"{open_} {open_} {open_ / 2} {open_}")))
    assert (end.exit_price, end.gap, end.gross_r) == (price(side, open_), True, (open_ - 100.0) / 2.0)
    assert end.mae_r == (100.0 - open_) / 2.0


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("open_", [104.0, 104.5, 107.25, 130.0, 199.0])
def test_a_gap_through_the_target_earns_the_target(side: Side, open_: float) -> None:
    end = closed(follow(terms(side), path(side, CALM, f"{open_} {open_} 103 103")))
    assert (end.exit_price, end.gap, end.gross_r, end.mfe_r) == (price(side, 104.0), False, 2.0, 2.0)


# --- entry


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("open_", [104.0, 105.0, 98.0, 97.0])
def test_an_entry_candle_that_opens_at_or_beyond_a_level_is_no_fill(side: Side, open_: float) -> None:
    end = closed(follow(terms(side), path(side, f"{open_} 106 96 100")))
    assert (end.outcome, end.reason, end.exit_price) == (Outcome.NO_FILL, ExitReason.NO_FILL, 100.0)
    assert not end.entered
    assert not end.outcome.decisive
    assert (end.gross_r, end.net_r(10.0), end.gross_percent, end.mfe_r, end.mae_r) == (0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(("open_", "slip"), [(101.0, 0.5), (99.0, -0.5), (100.0, 0.0), (103.5, 1.75), (98.5, -0.75)])
def test_entry_slip_is_adverse_when_positive(side: Side, open_: float, slip: float) -> None:
    end = closed(follow(terms(side), path(side, f"{open_} 103.5 98.5 100", "100 104 100 104")))
    assert end.entry_slip_r == slip


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_nothing_older_than_the_entry_is_applied(side: Side) -> None:
    position = Position.open(terms(side))
    for ts in (START - STEP, START - 10 * STEP, START - 1):
        assert advance(position, candle(side, "97 105 96 100", ts)) is position


# --- candles that change nothing


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("ts", "final"),
    [
        pytest.param(START + 2 * STEP, False, id="unfinished"),
        pytest.param(START + 2 * STEP + 1, True, id="misaligned by a millisecond"),
        pytest.param(START + 2 * STEP + STEP // 2, True, id="misaligned by half"),
        pytest.param(START + STEP, True, id="duplicate, or corrected"),
        pytest.param(START, True, id="late"),
        pytest.param(START - STEP, True, id="older than the entry"),
    ],
)
def test_what_never_moves_a_position(side: Side, ts: int, final: bool) -> None:
    position = still_open(follow(terms(side), path(side, CALM, CALM)))
    for line in ("96 105 95 100", "100 110 100 109", "97 97 96 96"):
        assert advance(position, candle(side, line, ts, final=final)) is position


# --- timeout


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("deadline_ms", "last"),
    [
        pytest.param(START + 3 * STEP, 3, id="closes at the deadline"),
        pytest.param(START + 3 * STEP - 1, 3, id="closes a millisecond after it"),
        pytest.param(START + 3 * STEP + 1, 4, id="closes a millisecond before it"),
        pytest.param(START + 2 * STEP + 1, 3, id="the deadline lies inside"),
        pytest.param(START + 1, 1, id="inside the entry candle"),
    ],
)
def test_the_deadline_candle_is_the_first_to_close_at_or_after_it(side: Side, deadline_ms: int, last: int) -> None:
    candles = path(side, *[CALM] * (last - 1), "100 102 99 101.5")
    still_open(follow(terms(side, deadline_ms=deadline_ms), candles[:-1]))
    end = closed(follow(terms(side, deadline_ms=deadline_ms), candles))
    assert (end.outcome, end.reason, end.exit_price) == (Outcome.TIMEOUT, ExitReason.TIMEOUT, 100.0)
    assert (end.gross_r, end.gross_percent) == (0.0, 0.0)
    assert end.exit_ms == START + last * STEP
    assert (end.mark_price, end.late_mark, end.mark_r) == (price(side, 101.5), False, 0.75)
    assert end.mark_percent == 1.5
    assert (end.mfe_r, end.mae_r) == (1.0, 0.5)
    assert not end.outcome.decisive


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("line", "reason", "exit_"),
    [
        ("100 104 99 100", "tp", 104),
        ("100 101 98 100", "sl", 98),
        ("97 99 96 98", "sl", 97),
        ("105 105 99 99", "tp", 104),
    ],
)
def test_in_the_deadline_candle_the_levels_win_over_the_timeout(
    side: Side, line: str, reason: str, exit_: float
) -> None:
    end = closed(follow(terms(side, deadline_ms=START + 2 * STEP), path(side, CALM, line)))
    assert (end.reason, end.exit_price, end.mark_price) == (reason, price(side, exit_), None)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("line", ["102 103 101 102", "97 97 96 96", "105 106 104 105"])
@pytest.mark.parametrize("late_by", [0, 1, 5, 287])
def test_after_an_outage_through_the_deadline_the_open_is_a_late_mark(side: Side, line: str, late_by: int) -> None:
    missing = ["-"] * (1 + late_by)
    end = closed(follow(terms(side, deadline_ms=START + 2 * STEP), path(side, CALM, *missing, line)))
    assert (end.outcome, end.exit_price, end.gross_r) == (Outcome.TIMEOUT, 100.0, 0.0)
    assert (end.late_mark, end.mark_price) == (True, price(side, float(line.split(maxsplit=1)[0])))
    assert (end.mfe_r, end.mae_r) == (0.5, 0.5)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize("late_by", [0, 1, 100])
def test_a_position_whose_candles_begin_after_its_deadline_never_entered(side: Side, late_by: int) -> None:
    missing = ["-"] * (2 + late_by)
    end = closed(follow(terms(side, deadline_ms=START + 2 * STEP), path(side, *missing, CALM)))
    assert (end.outcome, end.gross_r, end.mark_price) == (Outcome.NO_FILL, 0.0, None)


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_a_day_without_candles_after_the_deadline_is_no_data(side: Side) -> None:
    deadline = START + 2 * STEP
    position = Position.open(terms(side, deadline_ms=deadline))
    end = closed(advance(position, candle(side, CALM, deadline + NO_DATA_AFTER_MS)))
    assert (end.outcome, end.reason) == (Outcome.NO_DATA, ExitReason.NO_DATA)
    assert not end.outcome.decisive
    assert not end.entered
    assert (end.gross_r, end.net_r(10.0)) == (0.0, 0.0)
    by_clock = abandon(position, deadline + NO_DATA_AFTER_MS)
    assert by_clock == end


@pytest.mark.parametrize(
    ("after_ms", "given_up"), [(0, False), (NO_DATA_AFTER_MS + STEP - 1, False), (NO_DATA_AFTER_MS + STEP, True)]
)
def test_the_clock_gives_up_only_when_no_candle_can_still_decide(after_ms: int, given_up: bool) -> None:
    deadline = START + 2 * STEP
    assert overdue(Position.open(terms(Side.LONG, deadline_ms=deadline)), deadline + after_ms) is given_up
