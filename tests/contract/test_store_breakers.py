"""The promise of a store, breakers: what trips each one, what that does to decisions and claims, what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from decision.decide import Action
from persistence.breakers import FIELDS, Panel, generation
from persistence.keys import Keys
from persistence.state import State
from persistence.store import CloseHow, CommitStatus, DecideCommand, Mode, Store
from signals.breaker import DEFAULT_THRESHOLDS, NO_BREAKERS, Thresholds
from signals.errors import Invalid
from signals.reasons import Reason
from tests.support.stores import (
    BELOW,
    DAY,
    HOUR,
    MINUTE,
    PASSED,
    SECOND,
    T0,
    UNLIMITED,
    Backend,
    claimed,
    ending,
    held,
    phantom,
    signal,
    state_of,
)

NOW = T0 + SECOND
STEP = 300_000
R, UNIT = 1_000_000, 1_000_000
Ask = Callable[..., tuple[Action, list[Reason]]]


def arm(store: Store, **thresholds: Any) -> None:
    assert store.configure_breakers(replace(NO_BREAKERS, **thresholds), now_ms=T0)


def answer(store: Store, command: DecideCommand) -> tuple[Action, list[Reason]]:
    """The action, and what the store had to say before the gate's own reasons."""
    decision = store.decide(command).decision
    own = {PASSED, Reason.MODEL_ABSENT, BELOW}
    return decision.action, [reason for reason in decision.reasons if reason not in own]


def by_model(name: str, **changes: Any) -> DecideCommand:
    """A model's execute that the rules alone would have refused."""
    return signal(name, ensemble=True, reasons=(PASSED,), **changes)


def result(store: Store, name: str, *, r: float, money: float = 0.0, outcome: str | None = None, at: int = NOW) -> None:
    """An executed position and what it earned, as the engine reports it."""
    position = claimed(store, name, now_ms=at, symbol=name)
    done = store.close(
        ending(
            position,
            how=CloseHow.REPORT,
            report_id="r",
            r_micro=round(r * R),
            money_micro=round(money * UNIT),
            outcome=outcome or ("win" if r > 0 else "loss"),
            now_ms=at,
        )
    )
    assert done is CommitStatus.DONE


def turns(backend: Backend) -> list[tuple[str, str, int, int]]:
    return [
        (fact.fields["name"], fact.fields["change"], int(fact.fields["value"]), int(fact.fields["limit"]))
        for fact in backend.facts()
        if fact.kind == "breaker"
    ]


def looked_at(store: Store, name: str) -> int:
    return generation(store.breaker_inputs(now_ms=NOW).entry, name)


# --- drawdown


@pytest.mark.parametrize(
    ("results", "tripped"),
    [
        ([-19.999999], False),
        ([-20.0], True),
        ([5.0, -19.999999], False),  # below the high water of 5, whatever is left of it
        ([5.0, -20.0], True),
        ([-10.0, 3.0, -9.0], False),  # 16 below the high water of 0
        ([-10.0, 3.0, -13.0], True),  # 20 below
        ([30.0, -10.0, 15.0, -12.0, -8.0], True),  # high water 35
    ],
)
def test_drawdown_from_the_high_water_in_r(store: Store, results: list[float], tripped: bool) -> None:
    arm(store, drawdown_r=20.0)
    for place, r in enumerate(results):
        result(store, f"P{place}", r=r)
    blocked = (Action.PHANTOM, [Reason.BREAKER_DRAWDOWN_R])
    assert answer(store, signal("next")) == (blocked if tripped else (Action.EXECUTE, []))


@pytest.mark.parametrize(
    ("start", "results", "tripped"),
    [
        (0.0, [-5_000.0], False),  # no starting equity: nothing to take a share of
        (10_000.0, [-1_999.999999], False),
        (10_000.0, [-2_000.0], True),
        (10_000.0, [5_000.0, -2_999.0], False),  # 20 % of 15,000 is 3,000
        (10_000.0, [5_000.0, -3_000.0], True),
        (0.1, [0.0, -0.02], True),
        (987_654.321987, [-197_530.864396], False),  # 20 % of it is 197,530.8643974
        (987_654.321987, [-197_530.864397], True),
    ],
)
def test_drawdown_in_money(store: Store, start: float, results: list[float], tripped: bool) -> None:
    arm(store, drawdown_percent=20.0, starting_equity=start)
    for place, money in enumerate(results):
        result(store, f"P{place}", r=0.0, money=money, outcome="timeout")
    blocked = (Action.PHANTOM, [Reason.BREAKER_DRAWDOWN_MONEY])
    assert answer(store, signal("next")) == (blocked if tripped else (Action.EXECUTE, []))


def test_a_drawdown_stays_tripped_until_it_is_reset(backend: Backend, store: Store) -> None:
    arm(store, drawdown_r=20.0)
    position = claimed(store, "late")
    result(store, "A", r=-20.0)
    # What was open then wins it all back, and more: the breaker has seen enough.
    store.close(ending(position, how=CloseHow.REPORT, report_id="r", outcome="win", r_micro=50 * R, now_ms=NOW))
    assert answer(store, signal("b")) == (Action.PHANTOM, [Reason.BREAKER_DRAWDOWN_R])
    gen = looked_at(store, "drawdown_r")
    assert not store.reset_breaker("drawdown_r", actor="me", expected=gen - 1, now_ms=NOW)
    assert answer(store, signal("c"))[0] is Action.PHANTOM
    assert store.reset_breaker("drawdown_r", actor="me", expected=gen, now_ms=NOW)
    assert answer(store, signal("d")) == (Action.EXECUTE, [])
    assert turns(backend) == [("drawdown_r", "tripped", 20 * R, 20 * R), ("drawdown_r", "reset", 0, 0)]


def test_what_else_turns_does_not_void_a_look(store: Store) -> None:
    arm(store, drawdown_r=20.0, orders_per_second=1)
    store.decide(signal("waiting"))
    result(store, "A", r=-20.0)
    looked = looked_at(store, "drawdown_r")
    assert store.claim("waiting", "e1", now_ms=NOW) is Reason.BREAKER_DRAWDOWN_R
    store.watch_breakers(now_ms=NOW + SECOND)  # the order rate has tripped and cleared
    assert store.reset_breaker("drawdown_r", actor="me", expected=looked, now_ms=NOW)
    assert not store.reset_breaker("drawdown_r", actor="me", expected=looked, now_ms=NOW)


def test_a_reset_counts_from_here(store: Store) -> None:
    arm(store, drawdown_r=20.0)
    result(store, "A", r=-20.0)
    gen = looked_at(store, "drawdown_r")
    assert store.reset_breaker("drawdown_r", actor="me", expected=gen, now_ms=NOW)
    result(store, "B", r=-19.0)
    assert answer(store, signal("b"))[0] is Action.EXECUTE
    result(store, "C", r=-1.0)
    assert answer(store, signal("c"))[0] is Action.PHANTOM


def test_phantoms_lose_nothing(store: Store) -> None:
    arm(store, drawdown_r=1.0, losing_streak=1)
    store.decide(phantom("a"))
    store.close(ending(held(store, "a"), r_micro=-50 * R))
    store.decide(signal("b"))
    store.lapse("b", now_ms=NOW + MINUTE)
    store.close(ending(held(store, "b"), r_micro=-50 * R))
    assert answer(store, by_model("c")) == (Action.EXECUTE, [])


# --- streak


@pytest.mark.parametrize(
    ("results", "streak"),
    [
        ([("loss", -1.0)] * 3, 3),
        ([("loss", -1.0), ("win", 2.0), ("loss", -1.0)], 1),
        ([("loss", -1.0), ("timeout", 0.0), ("loss", 0.0)], 2),  # a break-even stop is a loss
        ([("loss", -1.0), ("timeout", -0.4)], 2),  # what lost money goes on with a streak
        ([("loss", -1.0), ("timeout", 0.7)], 1),
        ([("loss", -1.0), ("no_fill", 0.0)], 1),
        ([("loss", -1.0), ("win", -0.1)], 2),  # a target that its fees ate
    ],
)
def test_a_streak(store: Store, results: list[tuple[str, float]], streak: int) -> None:
    for place, (outcome, r) in enumerate(results):
        result(store, f"P{place}", r=r, outcome=outcome)
    assert store.breaker_inputs(now_ms=NOW).entry["streak"] == str(streak)
    arm(store, losing_streak=streak)
    assert answer(store, by_model("a")) == (Action.PHANTOM, [Reason.BREAKER_LOSING_STREAK])
    arm(store, losing_streak=streak + 1)
    assert answer(store, by_model("b")) == (Action.EXECUTE, [])


def test_a_win_or_a_reset_ends_a_streak(backend: Backend, store: Store) -> None:
    arm(store, losing_streak=2)
    for name in "AB":
        result(store, name, r=-1.0)
    assert answer(store, by_model("a"))[0] is Action.PHANTOM
    result(store, "C", r=1.0)
    assert answer(store, by_model("b"))[0] is Action.EXECUTE
    for name in "DE":
        result(store, name, r=-1.0)
    gen = looked_at(store, "losing_streak")
    assert store.reset_breaker("losing_streak", actor="me", expected=gen, now_ms=NOW)
    assert answer(store, by_model("c"))[0] is Action.EXECUTE
    assert [turn[:2] for turn in turns(backend)] == [
        ("losing_streak", "tripped"),
        ("losing_streak", "cleared"),
        ("losing_streak", "tripped"),
        ("losing_streak", "reset"),
    ]


# --- what "rules only" means


@pytest.mark.parametrize("alternative", [Action.EXECUTE, Action.PHANTOM])
def test_where_a_models_word_does_not_count_the_rules_decide(store: Store, alternative: Action) -> None:
    arm(store, losing_streak=1)
    result(store, "A", r=-1.0)
    why = PASSED if alternative is Action.EXECUTE else BELOW
    command = by_model("a", alternative=alternative, alternative_reasons=(why,))
    decision = store.decide(command).decision
    assert (decision.action, decision.reasons) == (alternative, (Reason.BREAKER_LOSING_STREAK, why))


def test_a_models_phantom_stays_one_and_the_rules_keep_their_word(store: Store) -> None:
    arm(store, losing_streak=1)
    result(store, "A", r=-1.0)
    refused = by_model("a", want=Action.PHANTOM, alternative=Action.EXECUTE)
    assert answer(store, refused) == (Action.PHANTOM, [Reason.BREAKER_LOSING_STREAK])
    # A stand-in for a failed model is no model, and may not execute for the breaker's sake.
    degraded = signal("b", want=Action.PHANTOM, reasons=(Reason.MODEL_DEGRADED,), alternative=Action.EXECUTE)
    assert store.decide(degraded).decision.action is Action.PHANTOM
    assert answer(store, signal("c")) == (Action.EXECUTE, [Reason.BREAKER_LOSING_STREAK])


def test_the_rules_own_execute_is_claimed_as_theirs(store: Store) -> None:
    arm(store, losing_streak=1)
    result(store, "A", r=-1.0)
    store.decide(by_model("a", alternative=Action.EXECUTE, alternative_reasons=(PASSED,)))
    store.set_mode(Mode.ML_OFF, actor="me", reason="", now_ms=NOW)
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_GO


# --- orders per second


def test_the_eleventh_order_of_a_second_waits(backend: Backend, store: Store) -> None:
    arm(store, orders_per_second=10)
    for number in range(11):
        assert answer(store, signal(f"s{number}")) == (Action.EXECUTE, [])
    for number in range(10):
        assert store.claim(f"s{number}", "e1", now_ms=NOW) is Reason.CLAIM_GO
    assert store.claim("s10", "e1", now_ms=NOW) is Reason.LIMIT_ORDER_RATE
    assert store.claim("s10", "e1", now_ms=NOW + 999) is Reason.LIMIT_ORDER_RATE
    # Asking again for what was given is no new order.
    assert store.claim("s3", "e1", now_ms=NOW + 999) is Reason.CLAIM_GO
    assert answer(store, signal("held", now_ms=NOW + 999)) == (Action.PHANTOM, [Reason.LIMIT_ORDER_RATE])
    assert store.claim("s10", "e1", now_ms=NOW + 1_000) is Reason.CLAIM_GO
    assert answer(store, signal("free", now_ms=NOW + 1_000)) == (Action.EXECUTE, [])
    assert turns(backend) == [("order_rate", "tripped", 10, 10), ("order_rate", "cleared", 0, 10)]
    assert [fact.kind for fact in backend.facts()].count("claimed") == 11


# --- slippage


def fills(store: Store, slips: list[float], expected: float) -> None:
    position = held(store, "f") if store.position("f") else claimed(store, "f")
    known = len(position.fills)
    for place, slip in enumerate(slips, known):
        done = store.fill(
            "f",
            "phantom",
            f"x{place}",
            "{}",
            now_ms=NOW,
            slip_micro=round(slip * R),
            expected_micro=round(expected * R),
        )
        assert done is CommitStatus.DONE


@pytest.mark.parametrize(
    ("slips", "expected", "floor", "tripped"),
    [
        ([0.1] * 20, 0.05, 0.0, True),
        ([0.1] * 19 + [0.099999], 0.05, 0.0, False),
        ([0.1] * 19, 0.05, 0.0, False),  # a verdict needs twenty
        ([9.0] + [0.0] * 20, 0.05, 0.0, False),  # the first has left the window
        ([2.0] + [0.0] * 19, 0.05, 0.0, True),
        ([0.3] * 10 + [-0.3] * 10, 0.05, 0.0, False),  # better prices count as well
        ([9.0] * 20, 0.0, 0.0, False),  # nothing is expected: not armed
        ([0.1] * 20, 0.0, 0.05, True),
        ([0.1] * 20, 0.01, 0.051, False),
    ],
)
def test_slippage_against_what_costs_allow(
    store: Store, slips: list[float], expected: float, floor: float, tripped: bool
) -> None:
    arm(store, slippage_ratio=2.0, slippage_floor_r=floor)
    fills(store, slips, expected)
    refused = (Action.PHANTOM, [Reason.BREAKER_SLIPPAGE])
    assert answer(store, by_model("a")) == (refused if tripped else (Action.EXECUTE, []))


def test_slippage_clears_by_its_window_or_by_hand(backend: Backend, store: Store) -> None:
    arm(store, slippage_ratio=2.0)
    fills(store, [0.1] * 20, 0.05)
    assert answer(store, by_model("a"))[0] is Action.PHANTOM
    fills(store, [0.0], 0.05)
    assert answer(store, by_model("b"))[0] is Action.EXECUTE
    fills(store, [0.2], 0.05)
    gen = looked_at(store, "slippage")
    assert store.reset_breaker("slippage", actor="me", expected=gen, now_ms=NOW)
    assert answer(store, by_model("c"))[0] is Action.EXECUTE
    assert [turn[1] for turn in turns(backend)] == ["tripped", "cleared", "tripped", "reset"]
    assert backend.keys.slips() not in state_of(store)


def test_a_fill_that_comes_again_slips_once(store: Store) -> None:
    fills(store, [0.1], 0.05)
    again = store.fill("f", "phantom", "x0", "{}", now_ms=NOW, slip_micro=R, expected_micro=1)
    assert again is CommitStatus.REPLAY
    assert store.breaker_inputs(now_ms=NOW).entry["slip_sum"] == "100000"


# --- confidence


@pytest.mark.parametrize(
    ("sent", "tripped"), [(None, False), (0, True), (599_999, True), (600_000, False), (1_000_000, False)]
)
def test_a_signals_own_confidence(store: Store, sent: int | None, tripped: bool) -> None:
    arm(store, regime_confidence=0.6)
    refused = (Action.PHANTOM, [Reason.BREAKER_REGIME_CONFIDENCE])
    assert answer(store, by_model("a", confidence_micro=sent)) == (refused if tripped else (Action.EXECUTE, []))
    assert answer(store, signal("b", confidence_micro=sent))[0] is Action.EXECUTE


# --- latency


def timed(store: Store, latencies_ms: list[float]) -> None:
    for place, latency in enumerate(latencies_ms):
        store.decide(phantom(f"t{place}-{len(latencies_ms)}", latencies_us=(round(latency * 1_000),)))


@pytest.mark.parametrize(
    ("latencies", "tripped"),
    [
        ([500.0] * 99, False),  # a percentile needs a hundred
        ([500.0] * 100, True),
        ([10.0] * 99 + [500.0], False),  # one of a hundred is the hundredth, not the ninety-ninth
        ([10.0] * 98 + [500.0] * 2, True),
        ([10.0] * 98 + [100.0] * 2, False),
        ([10.0] * 98 + [100.001] * 2, True),
        ([500.0] * 2 + [10.0] * 99, False),  # the window moves on
    ],
)
def test_the_latency_of_the_last_hundred(store: Store, latencies: list[float], tripped: bool) -> None:
    arm(store, latency_ms=100.0)
    timed(store, latencies)
    refused = (Action.PHANTOM, [Reason.BREAKER_LATENCY])
    assert answer(store, by_model("a")) == (refused if tripped else (Action.EXECUTE, []))


def test_latencies_come_newest_first_with_a_later_commit(store: Store) -> None:
    store.decide(phantom("a", latencies_us=(3, 2, 1)))
    store.decide(phantom("b", latencies_us=()))
    store.decide(phantom("c", latencies_us=(5, 4)))
    assert list(store.breaker_inputs(now_ms=NOW).latencies) == ["5", "4", "3", "2", "1"]
    store.decide(phantom("c", latencies_us=(9,)))
    assert list(store.breaker_inputs(now_ms=NOW).latencies) == ["5", "4", "3", "2", "1"], "a replay tells nothing new"
    store.decide(phantom("d", latencies_us=tuple(range(250))))
    assert list(store.breaker_inputs(now_ms=NOW).latencies) == [str(number) for number in range(100)]
    assert not any("latencies" in key for key in state_of(store))


# --- stale inputs


@pytest.mark.parametrize(
    ("seen", "now", "stale"),
    [
        (None, NOW, True),
        (NOW, NOW, False),
        (NOW, NOW + 3 * STEP, False),
        (NOW, NOW + 3 * STEP + 1, True),
        (NOW + 2_000, NOW, False),
        (NOW + 2_001, NOW, True),  # a moment that has not come yet
    ],
)
def test_a_silent_feed_blocks_its_symbol(store: Store, seen: int | None, now: int, stale: bool) -> None:
    arm(store, stale_periods=3, watch_every_s=3_600)
    store.see_candle("ETHUSDT", STEP, now, now_ms=now)
    store.see_candle("BTCUSDT", 60_000, now, now_ms=now)  # another series of the same symbol
    if seen is not None:
        store.see_candle("BTCUSDT", STEP, seen, now_ms=now)
    blocked = (Action.PHANTOM, [Reason.DATA_STALE_FEED])
    assert answer(store, signal("a", now_ms=now)) == (blocked if stale else (Action.EXECUTE, []))
    assert answer(store, signal("b", now_ms=now, symbol="ETHUSDT")) == (Action.EXECUTE, [])


@pytest.mark.parametrize(
    ("later", "stale"),
    [(0, False), (3 * HOUR, False), (3 * HOUR + 1, True), (-2_000, False), (-2_001, True)],
)
def test_inputs_nobody_watches_block(store: Store, later: int, stale: bool) -> None:
    arm(store, stale_periods=3, watch_every_s=3_600)
    watched = NOW + DAY
    store.watch_breakers(now_ms=watched)
    now = watched + later
    store.see_candle("BTCUSDT", STEP, now, now_ms=watched)
    blocked = (Action.PHANTOM, [Reason.DATA_STALE_BREAKERS])
    assert answer(store, signal("a", now_ms=now)) == (blocked if stale else (Action.EXECUTE, []))


def test_on_a_data_clock_a_look_lasts_a_candle(store: Store) -> None:
    arm(store, stale_periods=3, watch_every_s=1)
    store.see_candle("BTCUSDT", STEP, NOW, now_ms=NOW)
    assert answer(store, signal("a", now_ms=NOW + 3 * STEP)) == (Action.EXECUTE, [])


# --- state that is missing or tampered with


def spoil(backend: Backend, field: str, value: str | None) -> None:
    """Write by hand into the breakers' hash; none takes the field, and an empty name the whole hash, away."""
    store: Any = backend.store
    key = backend.keys.breakers()
    entry: dict[str, str] = {} if field == "" else dict(store.breaker_inputs(now_ms=NOW).entry) | {field: value or ""}
    if value is None:
        entry.pop(field, None)
    if hasattr(store, "state"):
        store.state.hashes[key] = entry
        return
    store.client.delete(key)
    if entry:
        store.client.hset(key, mapping=entry)


@pytest.mark.parametrize(
    ("field", "value"),
    [("", None), *((name, None) for name in FIELDS), ("equity_r", "nan"), ("limit_drawdown_r", "1.5"), ("gen", "")],
)
def test_missing_or_damaged_state_blocks_and_is_not_mended_by_accident(
    backend: Backend, store: Store, field: str, value: str | None
) -> None:
    arm(store, drawdown_r=20.0)
    waiting = claimed(store, "lost")
    store.decide(signal("waiting"))
    spoil(backend, field, value)
    before = dict(store.breaker_inputs(now_ms=NOW).entry)
    assert answer(store, signal("a")) == (Action.PHANTOM, [Reason.BREAKER_MISSING])
    assert store.claim("waiting", "e1", now_ms=NOW) is Reason.BREAKER_MISSING
    assert not store.configure_breakers(DEFAULT_THRESHOLDS, now_ms=NOW)
    assert not store.reset_breaker("drawdown_r", actor="me", expected=1, now_ms=NOW)
    store.watch_breakers(now_ms=NOW)
    # Following never stops: what is open can still end.
    assert store.fill("lost", "phantom", "1", "{}", now_ms=NOW, slip_micro=1) is CommitStatus.DONE
    assert store.close(ending(waiting, how=CloseHow.REPORT, report_id="r")) is CommitStatus.DONE
    assert dict(store.breaker_inputs(now_ms=NOW).entry) == before
    assert turns(backend) == []


@pytest.mark.parametrize("stamp", ["", "nan", "inf", "-inf", "1e3", "soon", "99999999999999999999"])
def test_a_stamp_that_is_no_moment_counts_as_none(backend: Backend, store: Store, stamp: str) -> None:
    arm(store, stale_periods=3, latency_ms=100.0)
    store.see_candle("BTCUSDT", STEP, NOW, now_ms=NOW)
    timed(store, [1.0] * 100)
    some: Any = store
    if hasattr(some, "state"):
        some._seen[f"BTCUSDT|{STEP}"] = some._seen["watched"] = stamp
        some._latencies.extendleft([stamp] * 2)
    else:
        some.client.hset(backend.keys.market_seen(), mapping={f"BTCUSDT|{STEP}": stamp, "watched": stamp})
        some.client.lpush(backend.keys.latencies(), stamp, stamp)
    expected = [Reason.BREAKER_LATENCY, Reason.DATA_STALE_FEED, Reason.DATA_STALE_BREAKERS]
    assert answer(store, by_model("a")) == (Action.PHANTOM, expected)


# --- claims


def all_tripped(store: Store) -> None:
    """A claimed-for execute of a model and one of the rules, then everything trips."""
    arm(store)
    store.see_candle("BTCUSDT", STEP, NOW, now_ms=NOW)
    limits = replace(UNLIMITED, daily_loss_r=5.0, daily_loss_money=5.0)
    store.decide(by_model("model", limits=limits))
    store.decide(signal("rules", limits=limits))


Trip = Callable[[Store], object]
TRIPS: dict[str, tuple[dict[str, Any], Trip, Reason, bool]] = {
    "drawdown_r": ({"drawdown_r": 3.0}, lambda s: result(s, "X", r=-3.0), Reason.BREAKER_DRAWDOWN_R, True),
    "drawdown_money": (
        {"drawdown_percent": 20.0, "starting_equity": 10.0},
        lambda s: result(s, "X", r=0.0, money=-2.0, outcome="timeout"),
        Reason.BREAKER_DRAWDOWN_MONEY,
        True,
    ),
    "losing_streak": ({"losing_streak": 1}, lambda s: result(s, "X", r=-1.0), Reason.BREAKER_LOSING_STREAK, False),
    "order_rate": ({"orders_per_second": 1}, lambda s: claimed(s, "X"), Reason.LIMIT_ORDER_RATE, True),
    "slippage": (
        {"slippage_ratio": 2.0},
        lambda s: fills(s, [0.1] * 20, 0.05),
        Reason.BREAKER_SLIPPAGE,
        False,
    ),
    "latency": ({"latency_ms": 100.0}, lambda s: timed(s, [500.0] * 100), Reason.BREAKER_LATENCY, False),
    "stale_feed": (
        {"stale_periods": 3},
        lambda s: s.see_candle("BTCUSDT", STEP, NOW - DAY, now_ms=NOW),
        Reason.DATA_STALE_FEED,
        True,
    ),
    "stale_breakers": (
        {"stale_periods": 3},
        lambda s: s.see_candle("BTCUSDT", STEP, NOW, now_ms=NOW - DAY),
        Reason.DATA_STALE_BREAKERS,
        True,
    ),
    "daily_loss_r": ({}, lambda s: result(s, "X", r=-5.0), Reason.LIMIT_DAILY_LOSS_R, True),
    "daily_loss_money": (
        {},
        lambda s: result(s, "X", r=0.0, money=-5.0, outcome="timeout"),
        Reason.LIMIT_DAILY_LOSS_MONEY,
        True,
    ),
}


@pytest.mark.parametrize("name", TRIPS)
def test_between_a_decision_and_its_claim_breakers_are_asked_again(store: Store, name: str) -> None:
    thresholds, trip, reason, blocks = TRIPS[name]
    all_tripped(store)
    trip(store)
    arm(store, **thresholds)
    assert store.claim("model", "e1", now_ms=NOW) is reason
    assert store.claim("rules", "e1", now_ms=NOW) is (reason if blocks else Reason.CLAIM_GO)
    assert held(store, "model").claimed_by is None
    # The same, untripped, is given.
    arm(store)
    fresh = by_model("fresh") if blocks else by_model("fresh", limits=UNLIMITED)
    store.decide(fresh)
    assert store.claim("fresh", "e1", now_ms=NOW) is Reason.CLAIM_GO


@pytest.mark.parametrize("name", TRIPS)
def test_every_trip_and_clearing_is_one_fact(backend: Backend, store: Store, name: str) -> None:
    thresholds, trip, _, _ = TRIPS[name]
    all_tripped(store)
    trip(store)
    arm(store, **thresholds)
    for number in range(3):
        store.claim("model", "e1", now_ms=NOW)
        limits = replace(UNLIMITED, daily_loss_r=5.0, daily_loss_money=5.0)
        store.decide(signal(f"n{number}", limits=limits))
    tripped = [turn for turn in turns(backend) if turn[1] == "tripped"]
    full = {"stale_feed": f"stale_feed:BTCUSDT|{STEP}", "daily_loss_r": "daily_loss_r:trend"}
    full["daily_loss_money"] = "daily_loss_money:trend"
    assert [turn[0] for turn in tripped] == [full.get(name, name)]
    assert len({fact.id for fact in backend.facts()}) == len(backend.facts())
    line = store.breaker_inputs(now_ms=NOW).history[0]
    assert line.split(" ")[:3] == [str(NOW), full.get(name, name), "tripped"]


# --- together


def test_every_reason_in_the_order_of_the_table(store: Store) -> None:
    arm(store)
    fills(store, [0.1] * 20, 0.05)
    timed(store, [500.0] * 100)
    result(store, "X", r=-1.0, money=-1.0)
    arm(
        store,
        drawdown_r=1.0,
        drawdown_percent=1.0,
        starting_equity=1.0,
        losing_streak=1,
        orders_per_second=1,
        slippage_ratio=2.0,
        regime_confidence=0.6,
        latency_ms=100.0,
        stale_periods=3,
    )
    store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW)
    limits = replace(UNLIMITED, open_positions=1, daily_loss_r=1.0)
    assert store.decide(by_model("a", confidence_micro=0, limits=limits)).decision.reasons == (
        Reason.MODE_HALT,
        Reason.BREAKER_DRAWDOWN_R,
        Reason.BREAKER_DRAWDOWN_MONEY,
        Reason.BREAKER_LOSING_STREAK,
        Reason.LIMIT_ORDER_RATE,
        Reason.BREAKER_SLIPPAGE,
        Reason.BREAKER_REGIME_CONFIDENCE,
        Reason.BREAKER_LATENCY,
        Reason.DATA_STALE_FEED,
        Reason.DATA_STALE_BREAKERS,
        Reason.LIMIT_OPEN_POSITIONS,
        Reason.LIMIT_DAILY_LOSS_R,
        BELOW,
    )


def test_what_is_counted_is_what_refused(backend: Backend, store: Store) -> None:
    arm(store, losing_streak=1)
    result(store, "A", r=-1.0)
    store.decide(by_model("a"))
    arm(store, losing_streak=1, stale_periods=3)
    store.decide(by_model("b"))
    blocked = state_of(store)[backend.keys.blocked("phantom", "20240101")]
    assert blocked == {"SCORE_BELOW_THRESHOLD": "1", "DATA_STALE_FEED": "1"}


def test_a_breaker_of_0_is_off(store: Store) -> None:
    arm(store)
    for number in range(15):
        result(store, f"P{number}", r=-99.0, money=-(10.0**6))
    timed(store, [10_000.0] * 100)
    assert answer(store, by_model("a", confidence_micro=0, limits=UNLIMITED)) == (Action.EXECUTE, [])
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_GO


def test_switching_a_breaker_off_clears_it_and_on_trips_it_again(backend: Backend, store: Store) -> None:
    for drawdown, action in ((1.0, Action.PHANTOM), (0.0, Action.EXECUTE), (1.0, Action.PHANTOM)):
        arm(store, drawdown_r=drawdown)
        if not turns(backend):
            result(store, "A", r=-1.0)
        assert answer(store, signal(f"s{len(backend.facts())}"))[0] is action
    assert [turn[1] for turn in turns(backend)] == ["tripped", "cleared", "tripped"]


def test_thresholds_are_recorded_when_they_change(backend: Backend, store: Store) -> None:
    for _ in range(2):
        assert store.configure_breakers(DEFAULT_THRESHOLDS, now_ms=NOW)
    found = [fact for fact in backend.facts() if fact.kind == "thresholds"]
    assert len(found) == 1
    assert found[0].fields["limit_drawdown_r"] == "20000000"
    assert found[0].fields["limit_drawdown_share"] == "200000"
    assert store.breaker_inputs(now_ms=NOW).entry["limit_latency"] == "100000"


def test_time_alone_turns_what_it_can(backend: Backend, store: Store) -> None:
    limits = replace(UNLIMITED, daily_loss_r=1.0)
    result(store, "X", r=-1.0)
    arm(store, stale_periods=3)
    store.see_candle("BTCUSDT", STEP, NOW, now_ms=NOW)
    store.decide(signal("a", limits=limits))
    store.watch_breakers(now_ms=NOW + 3 * STEP)
    assert [turn[:2] for turn in turns(backend)][-1] != (f"stale_feed:BTCUSDT|{STEP}", "tripped")
    store.watch_breakers(now_ms=NOW + 3 * STEP + 1)
    assert turns(backend)[-1] == (f"stale_feed:BTCUSDT|{STEP}", "tripped", 3 * STEP + 1, 3 * STEP)
    store.watch_breakers(now_ms=T0 + DAY)
    assert turns(backend)[-1] == ("daily_loss_r:trend", "cleared", 0, R)
    store.see_candle("BTCUSDT", STEP, T0 + DAY, now_ms=T0 + DAY)
    store.watch_breakers(now_ms=T0 + DAY)
    assert turns(backend)[-1][:2] == (f"stale_feed:BTCUSDT|{STEP}", "cleared")


def test_the_breakers_are_the_fold_of_their_facts(backend: Backend, store: Store) -> None:
    for name, (thresholds, trip, _, _) in TRIPS.items():
        arm(store)
        if name == "slippage":
            trip(store)
        elif "stale" not in name:
            result(store, name.upper(), r=-3.0, money=-3.0)
        arm(store, **thresholds)
        store.decide(by_model(f"s-{name}", limits=replace(UNLIMITED, daily_loss_r=1.0)))
    gen = looked_at(store, "losing_streak")
    assert store.reset_breaker("losing_streak", actor="me", expected=gen, now_ms=NOW)
    folded = State(Keys(backend.keys.namespace))
    for fact in backend.facts():
        folded.apply(fact)
    assert folded.dump() == state_of(store)
    entry = folded.hashes[backend.keys.breakers()]
    assert any(name.startswith("trip:") for name in entry)
    assert Panel(store.breaker_inputs(now_ms=NOW)).intact


@pytest.mark.parametrize("field", [field.name for field in fields(Thresholds)])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e10])
def test_thresholds_are_checked_where_they_are_built(field: str, value: float) -> None:
    with pytest.raises(Invalid):
        Thresholds(**{field: value})  # type: ignore[arg-type]
