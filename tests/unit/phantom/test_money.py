"""What an ending is worth: percent, R, costs, fill rule, flags, and the row that is stored. One R is 2 percent."""

from __future__ import annotations

import math

import pytest

from phantom.position import Closed, Position, terms_for
from phantom.record import closed_from, closed_record, position_from, terms_record, track_record
from signals.profile import RANGE, SCALP, TREND, FillRule, Profile
from signals.signal import Side, Signal
from tests.support.positions import BOTH_SIDES, START, STEP, closed, follow, path, price, same, still_open, terms

CALM = "100 101 99 100"
WIN, LOSS, GAP, TIMEOUT = "100 104 100 104", "100 100 98 99", "96 97 95 96", CALM


def ended(side: Side, line: str, fill: FillRule = FillRule.ENTRY, first: str = "100.5 101 99 100") -> Closed:
    return closed(follow(terms(side, fill=fill, deadline_ms=START + 2 * STEP), path(side, first, line)))


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("line", "fill", "gross_r", "gross_percent"),
    [
        (WIN, FillRule.ENTRY, 2.0, 4.0),
        (LOSS, FillRule.ENTRY, -1.0, -2.0),
        (GAP, FillRule.ENTRY, -2.0, -4.0),
        (TIMEOUT, FillRule.ENTRY, 0.0, 0.0),
        # Filled at 100.5: a quarter of an R worse than the signal's entry.
        (WIN, FillRule.NEXT_OPEN, 1.75, 3.5),
        (LOSS, FillRule.NEXT_OPEN, -1.25, -2.5),
        (GAP, FillRule.NEXT_OPEN, -2.25, -4.5),
        (TIMEOUT, FillRule.NEXT_OPEN, 0.0, 0.0),
    ],
)
def test_gross(side: Side, line: str, fill: FillRule, gross_r: float, gross_percent: float) -> None:
    end = ended(side, line, fill)
    assert (end.gross_r, end.entry_slip_r) == (gross_r, 0.25)
    assert end.gross_percent == pytest.approx(gross_percent, abs=1e-12)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(("bps", "cost_r"), [(0.0, 0.0), (5.0, 0.025), (10.0, 0.05), (200.0, 1.0)])
@pytest.mark.parametrize(("line", "gross_r"), [(WIN, 2.0), (LOSS, -1.0), (TIMEOUT, 0.0)])
def test_net_of_costs_in_basis_points_of_entry(
    side: Side, bps: float, cost_r: float, line: str, gross_r: float
) -> None:
    end = ended(side, line)
    assert end.net_r(bps) == pytest.approx(gross_r - cost_r, abs=1e-12)
    record = closed_record(end, bps)
    assert record["gross_pnl_percent"] == gross_r * 2.0
    assert record["pnl_percent"] == pytest.approx((gross_r - cost_r) * 2.0, abs=1e-12)


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_percent_is_of_entry_not_of_risk(side: Side) -> None:
    end = closed(follow(terms(side, sl=99.5, tp=108.0), path(side, "100 100.25 99.75 100", "100 108 100 108")))
    assert (end.gross_r, end.gross_percent) == (16.0, 8.0)


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("reached", "one", "two"),
    [(101.9375, False, False), (102.0, True, False), (103.9375, True, False), (104.0, True, True), (105.0, True, True)],
)
def test_one_r_and_two_r_come_from_the_favourable_excursion(side: Side, reached: float, one: bool, two: bool) -> None:
    lines = [CALM, f"100 {reached} 99 100", "99 99 97 98"]
    end = closed(follow(terms(side, tp=110.0), path(side, *lines)))
    assert (end.reason, end.one_r_hit, end.two_r_hit) == ("sl", one, two)


@pytest.mark.parametrize("side", BOTH_SIDES)
def test_the_stored_row(side: Side) -> None:
    lines = ["100.5 101 99 100", "100 103 100 102", "102 104 101 104"]
    end = closed(follow(terms(side, tp1=103.0), path(side, *lines)))
    record = closed_record(end, 10.0)
    track = record.pop("track")
    assert record == {
        "outcome": "win",
        "exit_reason": "tp",
        "exit_price": price(side, 104),
        "exit_ms": START + 3 * STEP,
        "gap": False,
        "ambiguous": False,
        "resolved": False,
        "late_mark": False,
        "mark_price": None,
        "mark_pnl_percent": None,
        "gross_r": 2.0,
        "net_r": 1.95,
        "gross_pnl_percent": 4.0,
        "pnl_percent": 3.9,
        "entry_slip_r": 0.25,
        "mfe_r": 2.0,
        "mae_r": 0.5,
        "tp1_hit": True,
        "be_moved": True,
        "runner_hit": True,
        "one_r_hit": True,
        "two_r_hit": True,
        "time_to_tp1_sec": 600.0,
        "time_to_exit_sec": 900.0,
        "candles": 3,
    }
    assert closed_from(end.terms, record | {"track": track}) == end


def test_a_timeouts_row_carries_its_mark() -> None:
    record = closed_record(ended(Side.LONG, "100 102 99 101.5"), 0.0)
    assert (record["outcome"], record["gross_r"], record["pnl_percent"]) == ("timeout", 0.0, 0.0)
    assert (record["mark_price"], record["mark_pnl_percent"]) == (101.5, 1.5)
    assert record["time_to_tp1_sec"] is None


def test_a_row_that_never_entered() -> None:
    record = closed_record(closed(follow(terms(Side.LONG), path(Side.LONG, "97 99 96 98"))), 10.0)
    assert (record["outcome"], record["net_r"], record["pnl_percent"]) == ("no_fill", 0.0, 0.0)
    assert record["time_to_exit_sec"] is None
    assert not any(record[flag] for flag in ("gap", "tp1_hit", "runner_hit", "be_moved", "one_r_hit", "two_r_hit"))


@pytest.mark.parametrize("lines", [[], [CALM], [CALM, "100 103 99 100"]])
def test_an_open_position_survives_being_written_down(lines: list[str]) -> None:
    position = still_open(follow(terms(Side.SHORT, tp1=103.0), path(Side.SHORT, *lines)))
    again = position_from(terms_record(position.terms), track_record(position.track))
    assert same(again, position)
    assert math.isnan(Position.open(position.terms).track.entry_open)


# --- the terms a signal gets


def signal(side: Side, ts: int, *, tp: float = 104.0, tp1: float | None = None) -> Signal:
    return Signal(
        id="s",
        strategy="trend",
        symbol="BTCUSDT",
        side=side,
        entry=100.0,
        sl=price(side, 98.0),
        tp=price(side, tp),
        ts=ts,
        tp1=None if tp1 is None else price(side, tp1),
    )


@pytest.mark.parametrize("side", BOTH_SIDES)
@pytest.mark.parametrize(
    ("profile", "tp", "sent", "expected"),
    [
        pytest.param(TREND, 104.0, None, 103.2, id="trend: 1.6 R"),
        pytest.param(TREND, 104.0, 102.0, 103.2, id="trend: its own, not the signal's"),
        pytest.param(TREND, 103.0, None, None, id="the target comes first"),
        pytest.param(TREND, 103.2, None, None, id="the target is the first target"),
        pytest.param(RANGE, 104.0, 102.0, 102.0, id="range: the signal's"),
        pytest.param(RANGE, 104.0, None, 103.2, id="range: else 1.6 R"),
        pytest.param(RANGE, 103.0, None, None, id="range: the target comes first"),
        pytest.param(SCALP, 104.0, None, None, id="scalp: none"),
        pytest.param(SCALP, 104.0, 102.0, None, id="scalp: none, even when sent"),
    ],
)
def test_the_first_target(side: Side, profile: Profile, tp: float, sent: float | None, expected: float | None) -> None:
    found = terms_for(signal(side, START, tp=tp, tp1=sent), profile).first_target
    assert found == (None if expected is None else pytest.approx(price(side, expected), abs=1e-12))


@pytest.mark.parametrize(("profile", "hours"), [(TREND, 36), (RANGE, 36), (SCALP, 24)])
def test_the_deadline_counts_from_the_entry(profile: Profile, hours: int) -> None:
    found = terms_for(signal(Side.LONG, START + 60_000), profile)
    assert found.entry_ms == START + STEP
    assert found.deadline_ms - found.entry_ms == hours * 3_600_000
    assert (found.step_ms, found.fill) == (STEP, FillRule.ENTRY)
