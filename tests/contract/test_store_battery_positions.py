"""The promise of a store, second part: claims, checkpoints, closes, reports, reading and forgetting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from decision.decide import Action
from persistence.store import (
    RETENTION_MS,
    UNREPORTED_GRACE_MS,
    CloseHow,
    CommitStatus,
    DecideStatus,
    Mode,
    Store,
    StoredPosition,
    VolatilityUpdate,
    micro,
)
from signals.profile import Kind
from signals.reasons import Reason
from tests.support.stores import (
    DAY,
    DEADLINE,
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Backend,
    claimed,
    ending,
    held,
    phantom,
    signal,
    state_of,
)

NOW = T0 + SECOND
EXPIRES = NOW + 10 * SECOND
DONE, REPLAY, STALE, MISSING = CommitStatus.DONE, CommitStatus.REPLAY, CommitStatus.STALE, CommitStatus.MISSING


def kinds(backend: Backend) -> list[str]:
    return [fact.kind for fact in backend.facts()]


# --- claim


def test_a_claim_and_what_follows_from_it(backend: Backend, store: Store) -> None:
    store.decide(signal("a"))
    assert store.claim("a", "e1", now_ms=EXPIRES) is Reason.CLAIM_GO
    decision = store.decision("a")
    assert decision is not None
    assert decision.claimed_by == "e1"
    position = held(store, "a")
    assert (position.claimed_by, position.claimed_at, position.unclaimed) == ("e1", EXPIRES, False)
    assert store.overdue_claims(EXPIRES + DAY) == []
    due = DEADLINE + UNREPORTED_GRACE_MS
    assert (list(store.unreported(due - 1)), [it.signal_id for it in store.unreported(due)]) == ([], ["a"])
    assert kinds(backend)[-1] == "claimed"


def test_a_claim_repeated_is_the_same_go(backend: Backend, store: Store) -> None:
    claimed(store, "a")
    before, facts = state_of(store), backend.facts()
    # A reply that was lost may be asked for again, but only while a first claim would still be let through.
    answers = [store.claim("a", "e1", now_ms=EXPIRES + offset) for offset in (0, 1, DAY)]
    assert answers == [Reason.CLAIM_GO, Reason.CLAIM_EXPIRED, Reason.CLAIM_EXPIRED]
    assert store.claim("a", "e2", now_ms=NOW) is Reason.CLAIM_TAKEN
    assert (state_of(store), backend.facts()) == (before, facts)


def test_another_id_for_the_same_candle_shares_no_claim(backend: Backend, store: Store) -> None:
    store.decide(signal("a", bar="x"))
    assert store.decide(signal("b", bar="x")).status is DecideStatus.DUPLICATE_BAR
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_GO
    # An engine that restarted and made a new id would otherwise send a second order.
    assert store.claim("b", "e1", now_ms=NOW) is Reason.CLAIM_TAKEN
    assert kinds(backend).count("claimed") == 1


def test_the_other_id_may_claim_what_nobody_has(backend: Backend, store: Store) -> None:
    store.decide(signal("a", bar="x"))
    store.decide(signal("b", bar="x"))
    assert store.claim("b", "e1", now_ms=NOW) is Reason.CLAIM_GO
    assert store.claim("a", "e2", now_ms=NOW) is Reason.CLAIM_TAKEN
    # The first id is another order too, whoever sends it; the one that has the go may hear it again.
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_TAKEN
    assert store.claim("b", "e1", now_ms=NOW) is Reason.CLAIM_GO
    assert kinds(backend).count("claimed") == 1


def test_a_lapse_whose_close_was_lost_comes_again(store: Store) -> None:
    store.decide(signal("a"))
    position = held(store, "a")
    store.touch(position, position.track, NOW, now_ms=NOW, result='{"over":1}')
    assert store.lapse("a", now_ms=EXPIRES + 1)
    # Killed here: the simulation is over and only this list still knows that nobody has closed it.
    assert list(store.overdue_claims(EXPIRES + 1)) == ["a"]
    assert store.lapse("a", now_ms=EXPIRES + 2)
    store.close(ending(held(store, "a")))
    assert (list(store.overdue_claims(EXPIRES + DAY)), held(store, "a").open) == ([], False)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda store: None, Reason.CLAIM_UNKNOWN),
        (lambda store: store.decide(phantom("a")), Reason.CLAIM_NOT_EXECUTE),
        (lambda store: store.decide(signal("a", signal_ms=0)), Reason.CLAIM_NOT_EXECUTE),
        (lambda store: store.decide(signal("a", ttl_ms=0, now_ms=NOW - 1)), Reason.CLAIM_EXPIRED),
        (lambda store: store.decide(signal("a", ttl_ms=0, now_ms=NOW)), Reason.CLAIM_GO),
    ],
    ids=["unknown", "phantom", "rejected", "a millisecond after", "to the millisecond"],
)
def test_who_may_not_claim(backend: Backend, store: Store, prepare: Callable[[Store], object], reason: Reason) -> None:
    prepare(store)
    facts = backend.facts()
    assert store.claim("a", "e1", now_ms=NOW) is reason
    assert len(backend.facts()) - len(facts) == (1 if reason is Reason.CLAIM_GO else 0)


@pytest.mark.parametrize(
    ("mode", "ensemble", "reason"),
    [
        (Mode.ON, True, Reason.CLAIM_GO),
        (Mode.HALT, True, Reason.CLAIM_REVOKED),
        (Mode.HALT, False, Reason.CLAIM_REVOKED),
        (Mode.ML_OFF, True, Reason.CLAIM_REVOKED),
        (Mode.ML_OFF, False, Reason.CLAIM_GO),
        (None, False, Reason.CLAIM_REVOKED),
    ],
)
def test_the_mode_may_revoke(backend: Backend, store: Store, mode: Mode | None, ensemble: bool, reason: Reason) -> None:
    store.decide(signal("a", ensemble=ensemble))
    if mode is None:
        backend.forget_mode()
    else:
        store.set_mode(mode, actor="me", reason="", now_ms=NOW)
    assert store.claim("a", "e1", now_ms=NOW) is reason
    assert (held(store, "a").claimed_by is None) == (reason is not Reason.CLAIM_GO)


def test_the_second_signal_of_a_bar_claims_the_first(store: Store) -> None:
    store.decide(signal("a", bar="x"))
    store.decide(signal("b", bar="x"))
    assert store.claim("b", "e1", now_ms=NOW) is Reason.CLAIM_GO
    assert held(store, "a").claimed_by == "e1"
    assert store.claim("a", "e2", now_ms=NOW) is Reason.CLAIM_TAKEN


# --- lapse


def test_what_nobody_claims_goes_on_as_a_phantom(backend: Backend, store: Store) -> None:
    store.decide(signal("a"))
    assert not store.lapse("a", now_ms=EXPIRES)
    assert (list(store.overdue_claims(EXPIRES)), list(store.overdue_claims(EXPIRES + 1))) == ([], ["a"])
    assert store.lapse("a", now_ms=EXPIRES + 1)
    position = held(store, "a")
    assert (position.kind, position.unclaimed, position.open, position.following) == (Kind.PHANTOM, True, True, True)
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_EXPIRED
    facts = backend.facts()
    assert not store.lapse("a", now_ms=EXPIRES + DAY)
    assert backend.facts() == facts
    assert store.close(ending(position)) is DONE


def test_what_cannot_lapse(backend: Backend, store: Store) -> None:
    claimed(store, "a")
    store.decide(phantom("b"))
    facts = backend.facts()
    assert [store.lapse(name, now_ms=NOW + DAY) for name in ("a", "b", "nobody")] == [False] * 3
    assert backend.facts() == facts


# --- touch


def test_a_checkpoint_is_compared_and_set(backend: Backend, store: Store) -> None:
    store.decide(phantom("a"))
    first = held(store, "a")
    assert store.touch(first, '{"last_ts":1}', 1, now_ms=NOW) is DONE
    second = held(store, "a")
    assert (second.track, second.version) == ('{"last_ts":1}', 2)
    before = state_of(store)
    assert store.touch(first, '{"last_ts":5}', 5, now_ms=NOW) is STALE
    assert store.touch(replace(first, signal_id="nobody"), "{}", 1, now_ms=NOW) is MISSING
    assert state_of(store) == before
    assert store.touch(second, '{"last_ts":2}', 2, now_ms=NOW) is DONE
    assert [fact.id for fact in backend.facts() if fact.kind == "touched"] == ["touched:a:2", "touched:a:3"]


def test_the_end_of_a_simulation_is_kept_beside_the_real_position(store: Store) -> None:
    position = claimed(store, "a")
    assert store.touch(position, '{"last_ts":1}', 1, now_ms=NOW, result='{"outcome":"win"}') is DONE
    after = held(store, "a")
    assert (after.open, after.following, after.twin, after.outcome) == (True, False, '{"outcome":"win"}', None)
    assert (list(store.following("BTCUSDT", 0)), list(store.followed_symbols())) == ([], [])
    assert store.touch(after, '{"last_ts":2}', 2, now_ms=NOW) is REPLAY
    assert held(store, "a") == after


# --- close


def test_a_phantom_is_closed_by_its_simulation(backend: Backend, store: Store) -> None:
    store.decide(phantom("a"))
    position = held(store, "a")
    command = ending(position)
    assert store.close(command) is DONE
    after = held(store, "a")
    assert (after.open, after.following, after.outcome, after.how) == (False, False, "loss", "simulation")
    assert (after.closed_at, after.version, after.track) == (command.now_ms, 2, command.track)
    assert after.result == command.result
    before, facts = state_of(store), backend.facts()
    for again in (command, replace(command, outcome="win", version=2, now_ms=NOW + DAY)):
        assert store.close(again) is REPLAY
    assert (state_of(store), backend.facts()) == (before, facts)
    assert [fact.id for fact in facts if fact.kind == "closed"] == ["closed:a"]


def test_a_close_counts_and_teaches_once(backend: Backend, store: Store) -> None:
    results = [("win", True, True), ("loss", True, False), ("timeout", False, False), ("no_fill", False, False)]
    for number, (outcome, learned, win) in enumerate(results):
        store.decide(phantom(f"p{number}"))
        command = ending(held(store, f"p{number}"), outcome=outcome, learned=learned, win=win, result=f"[{number}]")
        assert (store.close(command), store.close(command)) == (DONE, REPLAY)
    keys, state = backend.keys, state_of(store)
    assert state[keys.closed_total("trend")] == "4"
    assert state[keys.completed_trades("trend")] == "2"
    assert state[keys.outcomes("trend")] == {"win": "1", "loss": "1", "timeout": "1", "no_fill": "1"}
    assert state[keys.trades("trend")] == ["[0]", "[1]"]
    # What the deadline ended is kept apart; what never was in the market is not kept at all.
    assert (state[keys.timeouts("trend")], list(store.timeouts("trend"))) == (["[2]"], ["[2]"])
    assert state[keys.win_rate("trend")] == ["0", "1"]
    assert keys.open("phantom") not in state
    assert list(state[keys.closed("phantom")].values()) == [T0 + HOUR] * 4


def test_the_win_rate_remembers_200_newest_first(backend: Backend, store: Store) -> None:
    for number in range(203):
        store.decide(phantom(f"p{number}"))
        store.close(ending(held(store, f"p{number}"), win=number == 202, result=str(number)))
    state = state_of(store)
    assert state[backend.keys.win_rate("trend")] == ["1"] + ["0"] * 199
    assert state[backend.keys.trades("trend")] == [str(number) for number in range(203)]


def refused_closes() -> list[object]:
    def untouched(store: Store) -> StoredPosition:
        store.decide(signal("a"))
        return held(store, "a")

    def watched(store: Store) -> StoredPosition:
        store.decide(phantom("a"))
        return held(store, "a")

    def moved_on(position: StoredPosition, store: Store) -> StoredPosition:
        store.touch(position, "{}", 1, now_ms=NOW)
        return position

    simulation, report, unreported = CloseHow
    return [
        pytest.param(lambda store: replace(watched(store), signal_id="b"), simulation, MISSING, id="missing"),
        pytest.param(untouched, simulation, CommitStatus.EXECUTED, id="executed, by simulation"),
        pytest.param(lambda store: claimed(store, "a"), simulation, CommitStatus.EXECUTED, id="claimed, by simulation"),
        pytest.param(untouched, report, CommitStatus.NOT_CLAIMED, id="not claimed, by report"),
        pytest.param(untouched, unreported, CommitStatus.NOT_CLAIMED, id="not claimed, unreported"),
        pytest.param(watched, report, CommitStatus.NOT_CLAIMED, id="a phantom, by report"),
        pytest.param(watched, unreported, CommitStatus.NOT_CLAIMED, id="a phantom, unreported"),
        pytest.param(lambda store: moved_on(watched(store), store), simulation, STALE, id="stale"),
        pytest.param(lambda store: moved_on(claimed(store, "a"), store), unreported, STALE, id="stale, unreported"),
    ]


@pytest.mark.parametrize(("prepare", "how", "status"), refused_closes())
def test_closes_that_are_refused(
    backend: Backend, store: Store, prepare: Callable[[Store], StoredPosition], how: CloseHow, status: CommitStatus
) -> None:
    position = prepare(store)
    before, facts = state_of(store), backend.facts()
    assert store.close(ending(position, how=how)) is status
    assert (state_of(store), backend.facts()) == (before, facts)


def test_a_report_closes_at_once_and_its_twin_runs_on(backend: Backend, store: Store) -> None:
    first = claimed(store, "a")
    store.touch(first, '{"last_ts":1}', 1, now_ms=NOW)
    # The engine does not know our version, and its word is the truth.
    command = ending(first, how=CloseHow.REPORT, report_id="r1", r_micro=-2_500_000, money_micro=-7)
    assert store.close(command) is DONE
    after = held(store, "a")
    assert (after.open, after.following, after.how, after.track) == (False, True, "report", '{"last_ts":1}')
    assert [position.signal_id for position in store.following("BTCUSDT", 0)] == ["a"]
    keys, state = backend.keys, state_of(store)
    assert state[keys.day("20240101")] == {"r_micro": "-2500000", "money_micro": "-7"}
    assert state[keys.executed_symbols()] == {"BTCUSDT": "0"}
    assert not {keys.executed(), keys.unreported(), keys.open("phantom"), keys.claims()} & set(state)
    assert list(store.unreported(NOW + 30 * DAY)) == []
    assert store.touch(after, '{"last_ts":2}', 2, now_ms=NOW, result='{"outcome":"win"}') is DONE
    done = held(store, "a")
    assert (done.following, done.twin, done.outcome, done.result) == (
        False,
        '{"outcome":"win"}',
        "loss",
        command.result,
    )


def test_a_claim_without_a_report_is_closed_by_simulation(backend: Backend, store: Store) -> None:
    position = claimed(store, "a")
    store.touch(position, '{"last_ts":1}', 1, now_ms=NOW, result='{"outcome":"win"}')
    current = held(store, "a")
    assert store.close(ending(current, how=CloseHow.UNREPORTED, now_ms=T0 + DAY, r_micro=3, money_micro=-4)) is DONE
    after = held(store, "a")
    # The twin had ended: its track stays as it was.
    assert (after.how, after.following, after.track) == ("unreported", False, '{"last_ts":1}')
    assert state_of(store)[backend.keys.day("20240102")] == {"r_micro": "3", "money_micro": "-4"}


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.1, -2.345678, 1e-6, 9.9999995, 12345.678901])
def test_amounts_are_whole_millionths(value: float) -> None:
    assert abs(micro(value) - value * 1e6) <= 0.5


# --- fills and corrections


def test_fills_are_recorded_once_each(backend: Backend, store: Store) -> None:
    claimed(store, "a")
    for fill_id, status in (("1", DONE), ("2", DONE), ("1", REPLAY), ("2", REPLAY), ("3", DONE)):
        assert store.fill("a", "phantom", fill_id, f'{{"fill":{fill_id}}}', now_ms=NOW) is status
    assert held(store, "a").fills == ('{"fill":1}', '{"fill":2}', '{"fill":3}')
    assert [fact.id for fact in backend.facts() if fact.kind == "fill"] == ["fill:a:1", "fill:a:2", "fill:a:3"]


@pytest.mark.parametrize(("first", "second"), [("11", "1"), ("order-1", "1"), ("1", "11"), ("a.b", "b")])
def test_ids_that_end_alike_are_different_reports(store: Store, first: str, second: str) -> None:
    claimed(store, "a")
    assert [store.fill("a", "phantom", name, "{}", now_ms=NOW) for name in (first, second)] == [DONE, DONE]
    store.close(ending(held(store, "a"), how=CloseHow.REPORT, report_id=first))
    assert store.correct(held(store, "a"), second, "{}", learned=True, now_ms=NOW) is DONE


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        (lambda store: None, MISSING),
        (lambda store: store.decide(phantom("a")), CommitStatus.NOT_CLAIMED),
        (lambda store: store.decide(signal("a")), CommitStatus.NOT_CLAIMED),
        (lambda store: store.close(ending(claimed(store, "a"), how=CloseHow.REPORT)), CommitStatus.CLOSED),
    ],
    ids=["unknown", "phantom", "not claimed", "closed"],
)
def test_fills_that_are_refused(
    backend: Backend, store: Store, prepare: Callable[[Store], object], status: CommitStatus
) -> None:
    prepare(store)
    before, facts = state_of(store), backend.facts()
    assert store.fill("a", "phantom", "1", "{}", now_ms=NOW) is status
    assert (state_of(store), backend.facts()) == (before, facts)


def test_a_correction_changes_the_label_and_no_counter(backend: Backend, store: Store) -> None:
    position = claimed(store, "a")
    store.close(ending(position, how=CloseHow.UNREPORTED))
    closed, before = held(store, "a"), state_of(store)
    assert store.correct(closed, "r1", '{"outcome":"win"}', learned=True, now_ms=NOW) is DONE
    assert store.correct(closed, "r1", '{"outcome":"x"}', learned=True, now_ms=NOW) is REPLAY
    after = held(store, "a")
    assert (after.correction, after.result, after.outcome) == ('{"outcome":"win"}', closed.result, "loss")
    keys = backend.keys
    changed = {name for name, value in state_of(store).items() if before.get(name) != value}
    assert changed == {keys.meta(), keys.position("phantom", "a"), keys.corrections("trend")}
    assert state_of(store)[keys.corrections("trend")] == {"a": '{"outcome":"win"}'}
    # A correction to what the learner does not take unteaches the row.
    assert store.correct(closed, "r2", '{"outcome":"no_fill"}', learned=False, now_ms=NOW) is DONE
    assert state_of(store)[keys.corrections("trend")] == {"a": ""}
    assert [fact.id for fact in backend.facts()][-2:] == ["corrected:a:r1", "corrected:a:r2"]
    # One that turns out to have timed out is no win or loss either, but its mark can be learned from.
    body = '{"outcome":"timeout"}'
    assert store.correct(closed, "r3", body, learned=False, timed_out=True, now_ms=NOW) is DONE
    assert state_of(store)[keys.corrections("trend")] == {"a": body}


def test_open_positions_of_a_strategy_in_their_order(store: Store) -> None:
    for name in ("b", "a", "c"):
        store.decide(phantom(name))
    store.decide(replace(phantom("d"), strategy="scalp", prefix="scalp_phantom"))
    store.close(ending(held(store, "a")))
    assert list(store.open_positions("trend")) == [held(store, "b"), held(store, "c")]
    assert list(store.open_positions("scalp")) == [held(store, "d")]
    assert list(store.open_positions("range")) == []


def test_the_report_that_closed_is_no_correction(store: Store) -> None:
    position = claimed(store, "a")
    store.close(ending(position, how=CloseHow.REPORT, report_id="r1"))
    assert store.correct(held(store, "a"), "r1", "{}", learned=True, now_ms=NOW) is REPLAY


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        (lambda store: store.decide(phantom("a")), CommitStatus.NOT_CLAIMED),
        (lambda store: store.decide(signal("a")), CommitStatus.NOT_CLAIMED),
        (lambda store: claimed(store, "a"), STALE),
        (lambda store: store.decide(phantom("other")), MISSING),
    ],
    ids=["phantom", "not claimed", "still open", "unknown"],
)
def test_corrections_that_are_refused(
    backend: Backend, store: Store, prepare: Callable[[Store], object], status: CommitStatus
) -> None:
    prepare(store)
    position = store.position("a") or replace(held(store, "other"), signal_id="a")
    before, facts = state_of(store), backend.facts()
    assert store.correct(position, "r1", "{}", learned=True, now_ms=NOW) is status
    assert (state_of(store), backend.facts()) == (before, facts)


# --- reading


def test_following_asks_for_what_is_new(store: Store) -> None:
    for name, symbol in (("a", "A"), ("b", "B"), ("c", "A"), ("d", "A")):
        store.decide(phantom(name, symbol=symbol))
    everything = store.following("A", 0)
    assert [position.signal_id for position in everything] == ["a", "c", "d"]
    assert [position.signal_id for position in store.following("A", everything[0].seq)] == ["c", "d"]
    assert list(store.following("A", everything[-1].seq)) == []
    assert list(store.following("nothing", 0)) == []
    assert store.followed_symbols() == ["A", "B"]
    store.close(ending(held(store, "b")))
    assert store.followed_symbols() == ["A"]


def test_overdue_simulations(store: Store) -> None:
    store.decide(phantom("late", deadline_ms=DEADLINE))
    store.decide(phantom("soon", deadline_ms=DEADLINE - HOUR))
    assert list(store.overdue(DEADLINE - HOUR - 1)) == []
    assert [position.signal_id for position in store.overdue(DEADLINE - HOUR)] == ["soon"]
    # The oldest deadline first, however they were opened: both stores close in the same order.
    assert [position.signal_id for position in store.overdue(DEADLINE)] == ["soon", "late"]


def test_overdue_claims_and_reports_come_oldest_first(store: Store) -> None:
    store.decide(signal("late", ttl_ms=20 * SECOND, deadline_ms=DEADLINE + 1))
    store.decide(signal("soon", ttl_ms=10 * SECOND, deadline_ms=DEADLINE))
    assert list(store.overdue_claims(NOW + MINUTE)) == ["soon", "late"]
    for name in ("late", "soon"):
        store.claim(name, "e1", now_ms=NOW)
    assert [position.signal_id for position in store.unreported(DEADLINE + DAY)] == ["soon", "late"]


def test_what_is_not_there(store: Store) -> None:
    assert (store.decision("a"), store.position("a")) == (None, None)
    assert [*store.overdue(NOW), *store.unreported(NOW), *store.overdue_claims(NOW)] == []
    assert (list(store.followed_symbols()), list(store.volatility("A", "5m")), store.candle_counts()) == ([], [], {})


def test_volatility_keeps_the_last_500(store: Store) -> None:
    values = [number / 7 for number in range(520)]
    for value in values:
        store.push_volatility("A", [VolatilityUpdate("5m", value, str), VolatilityUpdate("1h", None, str)])
    assert list(store.volatility("A", "5m")) == values[-500:]
    assert list(store.volatility("A", "1h")) == list(store.volatility("B", "5m")) == []


def test_candles_are_counted_by_series_and_reason(store: Store) -> None:
    for reason in (Reason.CANDLE_LATE, Reason.CANDLE_GAP, Reason.CANDLE_LATE):
        store.count_candle("BTC:X-1", "5m", reason, NOW)
    assert store.candle_counts() == {"BTC:X-1|5m|CANDLE_LATE": 2, "BTC:X-1|5m|CANDLE_GAP": 1}


# --- forgetting


def test_thirty_days(backend: Backend, store: Store) -> None:
    store.decide(phantom("a", bar="x"))
    store.decide(phantom("open"))
    store.close(ending(held(store, "a"), now_ms=T0 + HOUR))
    closed = T0 + HOUR + RETENTION_MS
    # Not before both are old: the answer is kept as long as its position.
    assert store.prune(closed) == 0
    assert store.decide(phantom("a", bar="x")).status is DecideStatus.REPLAY
    assert store.prune(closed + 1) == 2
    assert (store.position("a"), store.decision("a")) == (None, None)
    assert held(store, "open").open
    assert store.decision("open") is not None
    state = state_of(store)
    assert backend.keys.bar("x") not in state
    assert state[backend.keys.ledger()] == {"open": NOW}
    assert backend.keys.closed("phantom") not in state
    assert state[backend.keys.trades("trend")] != []
    assert store.prune(closed + 1) == 0


# --- the price's path


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_a_path_is_recorded_once_whatever_became_of_the_position(backend: Backend, store: Store, closed: bool) -> None:
    store.decide(phantom("a"))
    store.decide(phantom("b", now_ms=NOW + 1))
    if closed:
        store.close(ending(held(store, "a")))
    position = held(store, "a")
    assert [it.signal_id for it in store.awaiting_path("BTCUSDT")] == ["a", "b"]
    assert store.record_path(position, '{"id":"a"}', known=True, now_ms=NOW + HOUR) is DONE
    assert [it.signal_id for it in store.awaiting_path("BTCUSDT")] == ["b"]
    assert (held(store, "a").path, list(store.paths("trend"))) == ('{"id":"a"}', ['{"id":"a"}'])
    # It moves nothing that anybody else compares and sets.
    assert held(store, "a").version == position.version
    before, facts = state_of(store), backend.facts()
    assert store.record_path(position, '{"id":"other"}', known=False, now_ms=NOW + DAY) is REPLAY
    assert store.record_path(replace(position, signal_id="nobody"), "{}", known=True, now_ms=NOW) is MISSING
    assert (state_of(store), backend.facts()) == (before, facts)
    assert (facts[-1].id, facts[-1].body, facts[-1].fields["known"]) == ("path:a", '{"id":"a"}', "1")


def test_a_path_with_a_hole_is_counted_and_teaches_nothing(store: Store) -> None:
    store.decide(phantom("a"))
    assert store.record_path(held(store, "a"), '{"id":"a"}', known=False, now_ms=NOW) is DONE
    assert (list(store.paths("trend")), list(store.awaiting_path("BTCUSDT"))) == ([], [])
    assert store.metrics("trend")["path|unknown|n"] == 1
    assert held(store, "a").path == '{"id":"a"}'


def test_a_position_that_is_forgotten_is_awaited_no_longer(store: Store) -> None:
    store.decide(phantom("a"))
    store.close(ending(held(store, "a"), now_ms=NOW))
    store.prune(NOW + RETENTION_MS + 1)
    assert list(store.awaiting_path("BTCUSDT")) == []


def test_a_rejected_answer_is_kept_thirty_days(store: Store) -> None:
    store.decide(signal("a", signal_ms=0))
    assert store.prune(NOW + RETENTION_MS) == 0
    assert store.prune(NOW + RETENTION_MS + 1) == 1
    assert store.decision("a") is None


def test_a_position_whose_twin_still_runs_is_not_forgotten(store: Store) -> None:
    store.close(ending(claimed(store, "a"), how=CloseHow.REPORT))
    later = T0 + HOUR + 2 * RETENTION_MS
    assert store.prune(later) == 0
    store.touch(held(store, "a"), "{}", 1, now_ms=NOW, result="{}")
    assert store.prune(later) == 2


def test_a_forgotten_refusal_leaves_the_bar_to_its_owner(store: Store) -> None:
    store.decide(signal("refused", bar="x", signal_ms=0))
    store.decide(signal("owner", bar="x", now_ms=NOW + MINUTE))
    assert store.prune(NOW + RETENTION_MS + 1) == 1
    assert store.decide(signal("third", bar="x", now_ms=NOW + MINUTE)).status is DecideStatus.DUPLICATE_BAR


def test_an_alias_may_outlive_what_it_stood_for(store: Store) -> None:
    store.decide(phantom("a", bar="x"))
    store.decide(phantom("b", bar="x", now_ms=NOW + HOUR))
    store.close(ending(held(store, "a"), now_ms=NOW))
    assert store.prune(NOW + RETENTION_MS + 1) >= 2
    assert store.decision("a") is None
    # The second id is younger than thirty days; asking for it must not bring the worker down.
    assert store.decision("b") is None
    assert store.claim("b", "e1", now_ms=NOW + RETENTION_MS) in (Reason.CLAIM_UNKNOWN, Reason.CLAIM_NOT_EXECUTE)
    again = store.decide(phantom("b", bar="x", now_ms=NOW + RETENTION_MS, signal_ms=NOW))
    assert again.decision.action is Action.REJECTED
