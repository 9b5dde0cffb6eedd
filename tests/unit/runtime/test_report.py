"""What the engine says happened: taken once, checked, worth its money, and laid over what the simulation thought."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from learning.example import examples
from persistence.store import StoredPosition
from runtime.report import Report, ReportReply, parse_report
from signals.errors import Refusal
from signals.profile import TREND, Kind
from signals.reasons import Reason
from tests.support.scene import FREE, HOUR, STEP, T0, UNLIMITED, Scene, bar, payload

NOTHING, TO_TARGET, TO_STOP = "100 101 99 100", "100 104.5 99.5 104", "100 100.5 97.5 98"
DEADLINE = T0 + 36 * HOUR
ACCEPTED, DUPLICATE = Reason.REPORT_ACCEPTED, Reason.REPORT_DUPLICATE
CORRECTION, CONFLICT = Reason.REPORT_CORRECTION, Reason.REPORT_CONFLICT


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.open(claim=True)
    return made


def close(scene: Scene, price: float = 104.0, reason: str = "tp", **said: Any) -> ReportReply:
    return scene.reports.close({"signal_id": "s1", "price": price, "ts": T0 + STEP, "reason": reason, **said})


def fill(scene: Scene, price: float = 100.0, **said: Any) -> ReportReply:
    return scene.reports.fill({"signal_id": "s1", "price": price, "ts": T0, **said})


# --- what a report may say

BAD_REPORTS = [
    pytest.param({"price": math.nan}, Reason.FIELD_NOT_FINITE, "price", id="NaN"),
    pytest.param({"price": math.inf}, Reason.FIELD_NOT_FINITE, "price", id="infinite"),
    pytest.param({"price": 0.0}, Reason.FIELD_RANGE, "price", id="price zero"),
    pytest.param({"price": -1.0}, Reason.FIELD_RANGE, "price", id="negative price"),
    pytest.param({"price": 1e16}, Reason.FIELD_RANGE, "price", id="price beyond reason"),
    pytest.param({"price": "104"}, Reason.FIELD_TYPE, "price", id="price as text"),
    pytest.param({"price": True}, Reason.FIELD_TYPE, "price", id="price true"),
    pytest.param({"price": ...}, Reason.FIELD_MISSING, "price", id="no price"),
    pytest.param({"quantity": -1.0}, Reason.FIELD_RANGE, "quantity", id="negative quantity"),
    pytest.param({"quantity": 1e300}, Reason.FIELD_RANGE, "quantity", id="quantity beyond reason"),
    pytest.param({"fee": math.nan}, Reason.FIELD_NOT_FINITE, "fee", id="fee NaN"),
    pytest.param({"fee": -1e16}, Reason.FIELD_RANGE, "fee", id="fee beyond reason"),
    pytest.param({"ts": ...}, Reason.FIELD_MISSING, "ts", id="no time"),
    pytest.param({"ts": 0}, Reason.FIELD_RANGE, "ts", id="time zero"),
    pytest.param({"ts": 10**17}, Reason.FIELD_RANGE, "ts", id="time in nanoseconds"),
    pytest.param({"ts": "2024-01-01"}, Reason.FIELD_FORMAT, "ts", id="a day for a time"),
    pytest.param({"venue_id": ""}, Reason.FIELD_FORMAT, "venue_id", id="empty venue id"),
    pytest.param({"venue_id": "x" * 65}, Reason.FIELD_FORMAT, "venue_id", id="venue id of 65"),
    pytest.param({"venue_id": "a\r\nb"}, Reason.FIELD_FORMAT, "venue_id", id="venue id of two lines"),
    pytest.param({"currency": 7}, Reason.FIELD_TYPE, "currency", id="currency a number"),
    pytest.param({"signal_id": "a b"}, Reason.FIELD_FORMAT, "signal_id", id="no such id"),
    pytest.param({"signal_id": ...}, Reason.FIELD_MISSING, "signal_id", id="no id"),
    pytest.param({"pnl": 3.0}, Reason.FIELD_UNKNOWN, "pnl", id="unknown field"),
]


@pytest.mark.parametrize(("said", "reason", "field"), BAD_REPORTS)
def test_a_bad_report_is_refused_with_its_field_and_changes_nothing(
    scene: Scene, said: dict[str, Any], reason: Reason, field: str
) -> None:
    facts = len(scene.memory.facts)
    whole = {"signal_id": "s1", "price": 104.0, "ts": T0, **said}
    for take, extra in ((scene.reports.fill, {}), (scene.reports.close, {"reason": "tp"})):
        reply = take({name: value for name, value in (whole | extra).items() if value is not ...})
        assert (reply.reason, reply.field, reply.accepted) == (reason, field, False)
    assert len(scene.memory.facts) == facts
    assert close(scene).accepted


@pytest.mark.parametrize("word", ["TP", "stop", "no_fill", ""])
def test_a_close_needs_one_of_four_reasons(scene: Scene, word: str) -> None:
    assert (close(scene, reason=word).reason, close(scene, reason=word).field) == (Reason.FIELD_FORMAT, "reason")
    assert scene.reports.close({"signal_id": "s1", "price": 1.0, "ts": T0}).reason is Reason.FIELD_MISSING
    assert fill(scene, reason="tp").reason is Reason.FIELD_UNKNOWN


@pytest.mark.parametrize("what", [None, [], "close", 7])
def test_what_is_no_object_is_no_report(scene: Scene, what: object) -> None:
    assert scene.reports.close(what).as_dict() == {
        "signal_id": "",
        "reason": "PAYLOAD_NOT_OBJECT",
        "field": "payload",
        "detail": type(what).__name__,
    }


def test_a_report_keeps_what_it_was_told() -> None:
    said = {"signal_id": "s", "price": 1, "quantity": 2, "fee": 0.1, "currency": "USDT", "venue_id": "v", "ts": T0}
    assert parse_report(said, close=False) == Report(
        signal_id="s", price=1.0, quantity=2.0, fee=0.1, currency="USDT", venue_id="v", ts=T0
    )
    assert isinstance(parse_report(said, close=True), Refusal)


@pytest.mark.parametrize("claim", [False, True])
def test_only_a_claimed_position_takes_reports(claim: bool) -> None:
    scene = Scene()
    assert close(scene).reason is Reason.REPORT_UNKNOWN_POSITION
    assert fill(scene).reason is Reason.REPORT_UNKNOWN_POSITION
    scene.open(claim=claim)
    assert close(scene).reason is (ACCEPTED if claim else Reason.REPORT_NOT_CLAIMED)
    scene.open("phantom", good=False)
    said = {"signal_id": "phantom", "price": 104.0, "ts": T0}
    assert scene.reports.close({**said, "reason": "tp"}).reason is Reason.REPORT_NOT_CLAIMED
    assert scene.reports.fill(said).reason is Reason.REPORT_NOT_CLAIMED
    assert scene.reports.fill({**said, "quantity": 0}).reason is Reason.REPORT_NOT_CLAIMED


# --- closes


def test_a_close_is_the_outcome_and_frees_the_limits_while_its_twin_goes_on() -> None:
    scene = Scene(replace(TREND, limits=replace(UNLIMITED, open_positions=1)))
    scene.open(claim=True)
    scene.play(NOTHING)
    assert close(scene, 103.0, "manual").reason is ACCEPTED
    result = scene.result()
    assert (result["outcome"], result["exit_reason"], result["gross_r"]) == ("win", "manual", 1.5)
    assert (result["kind"], result["how"], result["report"]["price"]) == ("executed", "report", 103)
    assert scene.memory.dump()["ml:day:20240101"] == {"r_micro": "1500000", "money_micro": "0"}
    assert scene.open("b", ts=T0 + STEP).kind is Kind.EXECUTED
    stored = scene.position()
    assert (stored.open, stored.following) == (False, True)
    (ended,) = [ended for ended in scene.play(TO_STOP, first=1) if ended.position.signal_id == "s1"]
    assert ended.twin
    twin = json.loads(scene.position().twin or "")
    assert (twin["outcome"], scene.result()["outcome"]) == ("loss", "win")
    # The twin is there to be compared with; it is never a second outcome.
    assert [fact.fields["sid"] for fact in scene.facts("closed")] == ["s1", "b"]
    assert scene.number("closed_total") == 2
    assert list(scene.rates()) == ["0", "1"]


def test_the_twin_may_end_first() -> None:
    scene = Scene()
    scene.open(claim=True)
    scene.play(TO_TARGET)
    assert close(scene, 103.9).reason is ACCEPTED
    assert scene.result()["mfe_r"] == 2.0  # what the candles showed until the target
    assert scene.result()["gross_r"] == pytest.approx(1.95)
    assert scene.number("closed_total") == 1


@pytest.mark.parametrize(
    ("price", "reason", "said", "outcome"),
    [
        pytest.param(104.0, "tp", {}, "win", id="target"),
        pytest.param(98.0, "sl", {}, "loss", id="stop"),
        pytest.param(101.0, "sl", {}, "loss", id="a stop that was trailed into profit is still a stop"),
        pytest.param(101.0, "timeout", {}, "timeout", id="timeout"),
        pytest.param(100.5, "manual", {}, "win", id="manual with profit"),
        pytest.param(99.5, "manual", {}, "loss", id="manual with loss"),
        pytest.param(100.0, "manual", {}, "loss", id="manual at entry earns nothing"),
        pytest.param(100.5, "manual", {"quantity": 2.0, "fee": 1.5}, "loss", id="manual with profit, fees eat it"),
        pytest.param(99.9, "manual", {"quantity": 2.0, "fee": -1.0}, "win", id="manual with loss, a rebate saves it"),
    ],
)
def test_who_wins(scene: Scene, price: float, reason: str, said: dict[str, Any], outcome: str) -> None:
    close(scene, price, reason, **said)
    assert scene.result()["outcome"] == outcome
    assert scene.number("completed_trades") == (0 if outcome == "timeout" else 1)
    assert list(scene.rates()) == ([] if outcome == "timeout" else [str(int(outcome == "win"))])


def test_money_of_several_partial_fills() -> None:
    scene = Scene(replace(FREE, costs_bps=50.0))
    scene.open(claim=True)
    assert fill(scene, 100.0, quantity=1.0, fee=0.5, venue_id="f1").reason is ACCEPTED
    assert fill(scene, 101.0, quantity=3.0, fee=0.5, venue_id="f2").reason is ACCEPTED
    assert fill(scene, 101.0, quantity=3.0, fee=0.5, venue_id="f2").reason is DUPLICATE
    assert len(scene.position().fills) == 2
    close(scene, 104.0, fee=1.0)
    result = scene.result()
    assert result["fill_price"] == pytest.approx(100.75)
    assert result["gross_r"] == pytest.approx(3.25 / 2)
    assert result["net_r"] == pytest.approx(3.25 / 2 - 2.0 / (4.0 * 2.0))
    assert result["money"] == pytest.approx(3.25 * 4.0 - 2.0)
    assert result["entry_slip_r"] == pytest.approx(0.375)
    assert result["pnl_percent"] == pytest.approx(result["net_r"] * 2.0)
    assert scene.memory.dump()["ml:day:20240101"] == {"r_micro": "1375000", "money_micro": "11000000"}


def test_a_short_is_the_mirror_of_a_long() -> None:
    found = []
    for side, sign in (("long", 1), ("short", -1)):
        scene = Scene()
        scene.open(claim=True, side=side, sl=100.0 - 2 * sign, tp=100.0 + 4 * sign)
        fill(scene, 100.0 + 0.5 * sign, quantity=2.0)
        close(scene, 100.0 + 3.5 * sign, "manual", fee=1.0)
        result = scene.result()
        found.append([result[name] for name in ("outcome", "gross_r", "net_r", "money", "mfe_r", "mae_r")])
    assert found[0] == found[1]
    assert found[0][1:4] == [1.5, 1.25, 5]


def test_without_fees_the_profiles_costs_are_taken() -> None:
    scene = Scene(replace(FREE, costs_bps=20.0))
    scene.open(claim=True)
    close(scene, 104.0, quantity=2.0)
    assert scene.result()["net_r"] == pytest.approx(2.0 - 0.1)
    assert scene.result()["money"] == 8


def test_a_fill_without_quantity_moves_the_price_and_makes_no_money(scene: Scene) -> None:
    fill(scene, 100.5)
    close(scene, 104.0, fee=3.0)
    assert (scene.result()["gross_r"], scene.result()["money"]) == (1.75, None)
    assert scene.result()["net_r"] == 1.75  # fees of an unknown quantity cannot be told in R


def test_an_impossible_result_is_refused(scene: Scene) -> None:
    assert close(scene, 1e13, quantity=1.0).reason is Reason.FIELD_RANGE
    assert close(scene, 104.0, quantity=1e13).reason is Reason.FIELD_RANGE
    assert close(scene, 104.0, quantity=5e-324, fee=1.0).reason is Reason.FIELD_RANGE


def test_the_same_close_again_is_a_duplicate_and_another_one_a_correction(scene: Scene) -> None:
    said: dict[str, Any] = {"quantity": 1.0, "venue_id": "order-7"}
    assert close(scene, 104.0, **said).reason is ACCEPTED
    before = scene.memory.dump()["ml:trend:completed_trades"], list(scene.rates()), scene.number("closed_total")
    day = dict(scene.memory.state.hashes["ml:day:20240101"])
    assert close(scene, 104.0, **said).reason is DUPLICATE
    assert scene.facts("corrected") == []
    # One order has one id at the venue, whatever is later found out about its price.
    assert close(scene, 97.0, "sl", **said).reason is CORRECTION
    assert close(scene, 97.0, "sl", **said).reason is DUPLICATE
    after = scene.memory.dump()["ml:trend:completed_trades"], list(scene.rates()), scene.number("closed_total")
    assert after == before
    assert scene.memory.state.hashes["ml:day:20240101"] == day
    assert scene.result()["outcome"] == "win"
    overlay = json.loads(scene.memory.state.hashes["ml:trend:corrections"]["s1"])
    assert (overlay["outcome"], overlay["gross_r"], overlay["exit_reason"]) == ("loss", -1.5, "sl")
    correction = scene.position().correction
    assert correction is not None
    assert json.loads(correction) == overlay


def test_a_correction_to_a_timeout_unteaches_the_row(scene: Scene) -> None:
    close(scene)
    assert close(scene, 101.0, "timeout").reason is CORRECTION
    overlay = json.loads(scene.memory.state.hashes["ml:trend:corrections"]["s1"])
    # It stays known as a timeout, for those who learn of these; nobody takes it for a win or a loss any more.
    assert overlay["outcome"] == "timeout"
    row = json.loads(scene.memory.state.lists["ml:trend:trades"][0])
    assert examples([row], {"s1": overlay}) == []
    assert [example.timed_out for example in examples([row], {"s1": overlay}, timeouts=True)] == [True]


def test_a_report_after_the_position_was_closed_for_want_of_one_is_a_correction() -> None:
    scene = Scene()
    scene.open(claim=True)
    scene.play(TO_TARGET)
    scene.pass_time(DEADLINE + HOUR)
    assert scene.result()["how"] == "unreported"
    assert close(scene, 99.0, "manual").reason is CORRECTION
    assert scene.number("closed_total") == 1
    assert list(scene.rates()) == ["1"]
    overlay = json.loads(scene.memory.state.hashes["ml:trend:corrections"]["s1"])
    assert (overlay["outcome"], overlay["how"]) == ("loss", "report")


def test_a_close_that_meets_another_close_under_way_looks_again(scene: Scene) -> None:
    before: StoredPosition = scene.position()
    assert close(scene, 104.0).reason is ACCEPTED
    read = scene.store.position
    answers = iter([before])
    # The first look is older than the commit of somebody else.
    scene.reports.store.position = lambda signal_id: next(answers, None) or read(signal_id)  # type: ignore[method-assign]
    assert close(scene, 103.0, "manual").reason is CORRECTION
    assert scene.number("closed_total") == 1


# --- fills


def test_a_fill_of_nothing_ends_the_position(scene: Scene) -> None:
    assert fill(scene, quantity=0.0).reason is ACCEPTED
    assert fill(scene, quantity=0.0).reason is DUPLICATE
    result = scene.result()
    assert (result["outcome"], result["exit_reason"], result["gross_r"], result["net_r"]) == (
        "no_fill",
        "no_fill",
        0,
        0,
    )
    assert (result["fill_price"], result["money"], result["time_to_exit_sec"]) == (None, None, None)
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (1, 0)
    assert scene.memory.dump()["ml:day:20240101"] == {"r_micro": "0", "money_micro": "0"}
    assert list(scene.rates()) == []


def test_what_was_filled_in_part_is_not_ended_by_withdrawing_the_rest(scene: Scene) -> None:
    fill(scene, 100.0, quantity=0.4)
    refused = fill(scene, 100.0, quantity=0.0)
    assert (refused.reason, refused.field) == (CONFLICT, "quantity")
    assert scene.position().open
    assert close(scene, 104.0).reason is ACCEPTED
    assert scene.result()["money"] == pytest.approx(1.6)


def test_a_fill_after_the_close_is_too_late(scene: Scene) -> None:
    close(scene)
    assert fill(scene, 100.1, quantity=1.0).reason is CONFLICT
    assert scene.position().fills == ()


def test_a_fill_that_says_the_same_twice_is_one(scene: Scene) -> None:
    assert [fill(scene, 100.2, quantity=1.0).reason for _ in range(2)] == [ACCEPTED, DUPLICATE]
    assert fill(scene, 100.3, quantity=1.0).reason is ACCEPTED
    assert len(scene.facts("fill")) == 2


def test_a_lapsed_execute_takes_no_report() -> None:
    scene = Scene()
    scene.open()
    scene.feed([bar(0, NOTHING)])
    assert scene.position().unclaimed
    assert close(scene).reason is Reason.REPORT_NOT_CLAIMED
    assert scene.position().open


def test_the_answer_to_a_report_can_be_sent_on() -> None:
    scene = Scene()
    scene.ask(payload())
    assert close(scene).as_dict() == {
        "signal_id": "s1",
        "reason": "REPORT_NOT_CLAIMED",
        "field": None,
        "detail": None,
    }
