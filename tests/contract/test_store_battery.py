"""The promise of a store, first part: namespace, clock, control, and the commit of a decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from decision.decide import Action
from persistence.keys import Keys
from persistence.state import State
from persistence.store import ClockKind, CloseHow, Control, DecideCommand, DecideStatus, Mode, StateMissing, Store
from signals.profile import Kind, Limits
from signals.reasons import Reason
from tests.support.stores import (
    BELOW,
    DAY,
    DEADLINE,
    HOUR,
    MINUTE,
    PASSED,
    SECOND,
    T0,
    UNLIMITED,
    Backend,
    claimed,
    created,
    ending,
    held,
    lose,
    phantom,
    signal,
    state_of,
)

NOW = T0 + SECOND
ABSENT = Reason.MODEL_ABSENT


def reasons(store: Store, command: DecideCommand) -> tuple[Action, tuple[Reason, ...]]:
    decision = store.decide(command).decision
    return decision.action, decision.reasons


# --- the namespace, its clock, its profiles


def test_a_namespace_begins_with_mode_on(backend: Backend) -> None:
    assert not backend.store.exists()
    assert backend.store.create(ClockKind.LIVE, now_ms=T0) is ClockKind.LIVE
    assert backend.store.exists()
    assert backend.store.control() == Control(Mode.ON, 1, "system", "namespace created", T0)
    assert [(fact.seq, fact.kind, fact.id, fact.at_ms) for fact in backend.facts()] == [
        (1, "created", "created:1", T0),
        (2, "control", "control:1", T0),
    ]


@pytest.mark.parametrize("first", list(ClockKind))
def test_no_namespace_changes_its_clock(backend: Backend, first: ClockKind) -> None:
    backend.store.create(first, now_ms=T0)
    before = state_of(backend.store)
    for kind in ClockKind:
        assert backend.store.create(kind, now_ms=T0 + DAY) is first
    assert backend.store.clock_kind() is first
    assert state_of(backend.store) == before
    assert len(backend.facts()) == 2


def test_a_data_clock_never_goes_back(store: Store) -> None:
    assert store.now_ms() == 0
    for moment, shown in ((T0, T0), (T0 + 5, T0 + 5), (T0 + 4, T0 + 5), (0, T0 + 5), (T0 + 6, T0 + 6)):
        store.advance_clock(moment)
        assert store.now_ms() == shown


def test_a_live_clock_is_not_ours_to_move(backend: Backend) -> None:
    store = created(backend, ClockKind.LIVE)
    before = store.now_ms()
    store.advance_clock(before + DAY)
    assert before <= store.now_ms() < before + DAY


BEFORE_CREATION: dict[str, Callable[[Store], object]] = {
    "decide": lambda store: store.decide(signal("a")),
    "register": lambda store: store.register("trend", "{}", "70", now_ms=NOW),
    "set_mode": lambda store: store.set_mode(Mode.ON, actor="me", reason="", now_ms=NOW),
    "clock_kind": lambda store: store.clock_kind(),
    "now_ms": lambda store: store.now_ms(),
    "claim": lambda store: store.claim("a", "e1", now_ms=NOW),
    "lapse": lambda store: store.lapse("a", now_ms=NOW),
    "fill": lambda store: store.fill("a", "phantom", "1", "{}", now_ms=NOW),
}


@pytest.mark.parametrize("command", BEFORE_CREATION.values(), ids=BEFORE_CREATION)
def test_nothing_is_written_on_top_of_nothing(backend: Backend, command: Callable[[Store], object]) -> None:
    with pytest.raises(StateMissing):
        command(backend.store)
    assert state_of(backend.store) == {}
    assert backend.facts() == []
    assert backend.store.control() is None


def test_settings_are_recorded_when_they_change(backend: Backend, store: Store) -> None:
    for settings, threshold in (("{}", "70"), ("{}", "70"), ('{"a":1}', "65"), ('{"a":1}', "65"), ("{}", "70")):
        store.register("trend", settings, threshold, now_ms=NOW)
    profiles = [(fact.id, fact.body, fact.fields) for fact in backend.facts() if fact.kind == "profile"]
    assert profiles == [
        ("profile:trend:3", "{}", {"strategy": "trend", "threshold": "70", "first": "30"}),
        ("profile:trend:4", '{"a":1}', {"strategy": "trend", "threshold": "65", "first": "30"}),
        ("profile:trend:5", "{}", {"strategy": "trend", "threshold": "70", "first": "30"}),
    ]


def test_founding_keys_are_there_from_the_start_and_survive_new_settings(backend: Backend, store: Store) -> None:
    store.register("trend", "{}", "70", now_ms=NOW)
    prefix = f"{backend.keys.namespace}:"
    founding = {
        "ml:trend:completed_trades": "0",
        "ml:trend:closed_total": "0",
        "ml:trend:nn_enabled": "0",
        "ml:trend:last_train_count": "0",
        "ml:trend:threshold": "70",
        "qcal:trend:thr": "{}",
        "qcal:trend:last_train_count": "0",
    }
    assert founding.items() <= {name.removeprefix(prefix): value for name, value in state_of(store).items()}.items()
    store.decide(phantom("a"))
    store.close(ending(held(store, "a")))
    store.register("trend", '{"new":1}', "71", now_ms=NOW)
    dump = state_of(store)
    assert dump[prefix + "ml:trend:completed_trades"] == dump[prefix + "ml:trend:closed_total"] == "1"
    assert dump[prefix + "ml:trend:threshold"] == "71"


# --- control


def test_modes_change_by_generation(backend: Backend, store: Store) -> None:
    halted = store.set_mode(Mode.HALT, actor="me", reason="look", now_ms=NOW)
    assert halted == Control(Mode.HALT, 2, "me", "look", NOW)
    late = store.set_mode(Mode.ON, actor="you", reason="late", now_ms=NOW + 1, expected=1)
    assert late == store.control() == halted
    done = store.set_mode(Mode.ML_OFF, actor="you", reason="now", now_ms=NOW + 2, expected=2)
    assert done == store.control() == Control(Mode.ML_OFF, 3, "you", "now", NOW + 2)
    assert [fact.id for fact in backend.facts() if fact.kind == "control"] == ["control:1", "control:2", "control:3"]


def test_a_lost_mode_is_not_written_by_a_change(backend: Backend, store: Store) -> None:
    backend.forget_mode()
    facts = backend.facts()
    for expected in (None, 0, 1):
        with pytest.raises(StateMissing):
            store.set_mode(Mode.ON, actor="me", reason="", now_ms=NOW, expected=expected)
    assert store.control() is None
    assert backend.facts() == facts


# --- a decision and its position


def test_an_execute(backend: Backend, store: Store) -> None:
    reply = store.decide(signal("a", ensemble=True))
    assert reply.status is DecideStatus.DONE
    decision = reply.decision
    assert store.decision("a") == decision
    assert (decision.action, decision.reasons, decision.body) == (Action.EXECUTE, (PASSED, ABSENT), '{"id":"a"}')
    assert (decision.decided_at, decision.expires_at, decision.has_position) == (NOW, NOW + 10 * SECOND, True)
    assert (decision.strategy, decision.symbol, decision.prefix) == ("trend", "BTCUSDT", "phantom")
    assert decision.claimed_by is None
    position = held(store, "a")
    assert (position.kind, position.open, position.following, position.version) == (Kind.EXECUTED, True, True, 1)
    assert (position.entry_ms, position.deadline_ms, position.step_ms) == (T0, DEADLINE, 300_000)
    assert (position.terms, position.track, position.opened_at) == ('{"terms":"a"}', '{"last_ts":0}', NOW)
    assert [fact.id for fact in backend.facts()[2:]] == ["decision:a", "opened:a"]
    assert position.seq == backend.facts()[3].seq


@pytest.mark.parametrize("prefix", ["phantom", "scalp_phantom"])
def test_a_phantom(backend: Backend, store: Store, prefix: str) -> None:
    decision = store.decide(phantom("a", prefix=prefix)).decision
    assert (decision.action, decision.reasons, decision.expires_at) == (Action.PHANTOM, (BELOW,), None)
    assert (held(store, "a").kind, held(store, "a").prefix) == (Kind.PHANTOM, prefix)
    assert store.overdue_claims(NOW + DAY) == []
    blocked = state_of(store)[f"{backend.keys.namespace}:{prefix}:blocked:20240101"]
    assert blocked == {"SCORE_BELOW_THRESHOLD": "1"}


def test_a_rejected_payload_is_answered_and_not_followed(store: Store) -> None:
    # Neither age nor mode nor limits are asked: there is no signal they could apply to.
    store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW)
    command = signal(
        "a", want=Action.REJECTED, reasons=(Reason.GEOMETRY_STOP,), signal_ms=0, strategy="", symbol="", bar="b"
    )
    reply = store.decide(command)
    assert (reply.decision.action, reply.decision.reasons) == (Action.REJECTED, (Reason.GEOMETRY_STOP,))
    assert not reply.decision.has_position
    assert store.position("a") is None
    assert store.decide(command).status is DecideStatus.REPLAY


@pytest.mark.parametrize("make", [signal, phantom, lambda name: signal(name, signal_ms=0)])
def test_the_same_signal_again_gets_the_first_answer(
    backend: Backend, store: Store, make: Callable[[str], DecideCommand]
) -> None:
    first = store.decide(make("a"))
    before, facts = state_of(store), backend.facts()
    store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW)
    again = store.decide(make("a"))
    assert (again.status, again.decision) == (DecideStatus.REPLAY, first.decision)
    # A later moment and another wish change nothing either: the content is the same.
    late = store.decide(signal("a", now_ms=NOW + DAY, want=Action.PHANTOM))
    assert (late.status, late.decision) == (DecideStatus.REPLAY, first.decision)
    store.set_mode(Mode.ON, actor="me", reason="", now_ms=NOW)
    assert [fact.kind for fact in backend.facts()[len(facts) :]] == ["control", "control"]
    assert {name for name, value in state_of(store).items() if before[name] != value} == {
        backend.keys.meta(),
        backend.keys.control(),
    }


def test_other_content_under_a_known_id_is_a_conflict(backend: Backend, store: Store) -> None:
    first = store.decide(signal("a")).decision
    for print_ in ("x", "x", "y"):
        reply = store.decide(signal("a", fingerprint=f"other {print_}", body=f'{{"{print_}":1}}'))
        assert (reply.status, reply.decision) == (DecideStatus.CONFLICT, first)
    conflicts = [(fact.id, fact.body) for fact in backend.facts() if fact.kind == "conflict"]
    assert conflicts == [("conflict:a:other x", '{"x":1}'), ("conflict:a:other y", '{"y":1}')]
    assert store.decide(signal("a")).status is DecideStatus.REPLAY


def test_a_flood_of_conflicts_is_not_recorded_without_end(backend: Backend, store: Store) -> None:
    store.decide(signal("a"))
    for number in range(20):
        assert store.decide(signal("a", fingerprint=f"{number:064d}")).status is DecideStatus.CONFLICT
    assert len([fact for fact in backend.facts() if fact.kind == "conflict"]) == 16


def test_one_decision_a_bar(backend: Backend, store: Store) -> None:
    first = store.decide(signal("a", bar="trend|BTCUSDT|long|5m|0|")).decision
    second = store.decide(signal("b", bar="trend|BTCUSDT|long|5m|0|"))
    assert (second.status, second.decision) == (DecideStatus.DUPLICATE_BAR, first)
    again = store.decide(signal("b", bar="trend|BTCUSDT|long|5m|0|"))
    assert (again.status, again.decision) == (DecideStatus.DUPLICATE_BAR, first)
    conflict = store.decide(signal("b", fingerprint="other"))
    assert (conflict.status, conflict.decision) == (DecideStatus.CONFLICT, first)
    assert store.decision("b") == first
    assert store.position("b") is None
    assert store.decide(signal("c", bar="trend|BTCUSDT|short|5m|0|")).status is DecideStatus.DONE
    aliases = [dict(fact.fields) for fact in backend.facts() if fact.kind == "alias"]
    assert aliases == [{"sid": "b", "fp": "print of b", "first": "a"}]


def test_a_refused_signal_does_not_take_the_bar(store: Store) -> None:
    assert store.decide(signal("a", bar="x", signal_ms=0)).decision.action is Action.REJECTED
    assert store.decide(signal("b", bar="x")).status is DecideStatus.DONE
    assert store.decide(signal("c", bar="x")).decision.signal_id == "b"


def test_a_decision_always_has_a_reason(backend: Backend, store: Store) -> None:
    before, facts = state_of(store), backend.facts()
    with pytest.raises(Exception):  # noqa: B017, PT011 - which error is not promised, that nothing is written is
        store.decide(phantom("a", reasons=()))
    assert state_of(store) == before
    assert backend.facts() == facts


# --- the state's checks


@pytest.mark.parametrize(
    ("signal_ms", "reason"),
    [
        (NOW - 30 * SECOND, None),
        (NOW - 30 * SECOND - 1, Reason.SIGNAL_EXPIRED),
        (NOW, None),
        (NOW + 2 * SECOND, None),
        (NOW + 2 * SECOND + 1, Reason.SIGNAL_CLOCK),
    ],
)
def test_age(store: Store, signal_ms: int, reason: Reason | None) -> None:
    expected = (Action.EXECUTE, (PASSED, ABSENT)) if reason is None else (Action.REJECTED, (reason, PASSED, ABSENT))
    assert reasons(store, signal("a", signal_ms=signal_ms)) == expected
    assert (store.position("a") is None) == (reason is not None)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.ON, (Action.EXECUTE, (PASSED, ABSENT))),
        (Mode.HALT, (Action.PHANTOM, (Reason.MODE_HALT, PASSED, ABSENT))),
        (Mode.ML_OFF, (Action.PHANTOM, (Reason.MODE_ML_OFF, BELOW))),
    ],
)
def test_mode(store: Store, mode: Mode, expected: tuple[Action, tuple[Reason, ...]]) -> None:
    store.set_mode(mode, actor="me", reason="", now_ms=NOW)
    assert reasons(store, signal("a")) == expected
    assert held(store, "a").following


def test_ml_off_takes_the_alternative_even_when_it_executes(store: Store) -> None:
    store.set_mode(Mode.ML_OFF, actor="me", reason="", now_ms=NOW)
    command = phantom("a", alternative=Action.EXECUTE, alternative_reasons=(PASSED,))
    assert reasons(store, command) == (Action.EXECUTE, (Reason.MODE_ML_OFF, PASSED))


def test_a_lost_mode_halts(backend: Backend, store: Store) -> None:
    backend.forget_mode()
    assert reasons(store, signal("a")) == (Action.PHANTOM, (Reason.MODE_MISSING, PASSED, ABSENT))


def limited(**limits: Any) -> Limits:
    return replace(UNLIMITED, **limits)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (limited(open_positions=2), Reason.LIMIT_OPEN_POSITIONS),
        (limited(per_symbol=2), Reason.LIMIT_SYMBOL_POSITIONS),
        (limited(executes_per_minute=2), Reason.LIMIT_EXECUTE_RATE),
    ],
)
def test_the_third_of_two_is_refused(store: Store, limits: Limits, reason: Reason) -> None:
    for number in range(3):
        store.decide(phantom(f"watched {number}", limits=limits))
    assert [store.decide(signal(name, limits=limits)).decision.action for name in "ab"] == [Action.EXECUTE] * 2
    assert reasons(store, signal("c", limits=limits)) == (Action.PHANTOM, (reason, PASSED, ABSENT))
    assert held(store, "c").kind is Kind.PHANTOM


def test_the_limit_of_a_symbol_is_its_own(store: Store) -> None:
    limits = limited(per_symbol=1)
    for symbol, action in (("A", Action.EXECUTE), ("A", Action.PHANTOM), ("B", Action.EXECUTE), ("B", Action.PHANTOM)):
        name = f"{symbol}{action.value}"
        assert store.decide(signal(name, symbol=symbol, limits=limits)).decision.action is action


@pytest.mark.parametrize(("later", "action"), [(MINUTE - 1, Action.PHANTOM), (MINUTE, Action.EXECUTE)])
def test_the_rate_is_of_the_last_minute(store: Store, later: int, action: Action) -> None:
    limits = limited(executes_per_minute=1)
    store.decide(signal("a", limits=limits))
    assert store.decide(signal("b", now_ms=NOW + later, limits=limits)).decision.action is action


def test_a_claim_that_lapsed_frees_its_places_but_not_its_minute(store: Store) -> None:
    places = limited(open_positions=1, per_symbol=1)
    store.decide(signal("a", limits=places))
    assert store.decide(signal("b", limits=places)).decision.action is Action.PHANTOM
    assert store.lapse("a", now_ms=NOW + 10 * SECOND + 1)
    assert store.decide(signal("c", limits=places)).decision.action is Action.EXECUTE
    rate = limited(executes_per_minute=2)
    assert store.decide(signal("d", limits=rate)).decision.reasons[0] is Reason.LIMIT_EXECUTE_RATE


@pytest.mark.parametrize("how", [CloseHow.REPORT, CloseHow.UNREPORTED])
def test_a_close_frees_its_places(store: Store, how: CloseHow) -> None:
    limits = limited(open_positions=1, per_symbol=1)
    position = claimed(store, "a", limits=limits)
    assert store.decide(signal("b", limits=limits)).decision.action is Action.PHANTOM
    store.close(ending(position, how=how))
    assert store.decide(signal("c", limits=limits)).decision.action is Action.EXECUTE


@pytest.mark.parametrize(
    ("r_micro", "money_micro", "tripped"),
    [
        (-9_999_999, -4_999_999_999, []),
        (-10_000_000, 0, [Reason.LIMIT_DAILY_LOSS_R]),
        (0, -5_000_000_000, [Reason.LIMIT_DAILY_LOSS_MONEY]),
        (-10_000_001, -5_000_000_001, [Reason.LIMIT_DAILY_LOSS_R, Reason.LIMIT_DAILY_LOSS_MONEY]),
        (10_000_000, 5_000_000_000, []),
    ],
)
def test_the_loss_of_a_day(store: Store, r_micro: int, money_micro: int, tripped: list[Reason]) -> None:
    limits = limited(daily_loss_r=10.0, daily_loss_money=5_000.0)
    half = r_micro // 2
    lose(store, "a", r_micro=half, money_micro=money_micro)
    lose(store, "b", r_micro=r_micro - half)
    late = T0 + DAY - 1
    expected = [*tripped, PASSED, ABSENT]
    assert list(store.decide(signal("c", now_ms=late, limits=limits)).decision.reasons) == expected
    assert store.decide(signal("d", now_ms=late + 1, limits=limits)).decision.action is Action.EXECUTE


def test_only_executed_results_count_for_the_day(store: Store) -> None:
    limits = limited(daily_loss_r=10.0)
    store.decide(phantom("a"))
    store.close(ending(held(store, "a"), r_micro=-50_000_000))
    store.decide(signal("b"))
    store.lapse("b", now_ms=NOW + MINUTE)
    store.close(ending(held(store, "b"), r_micro=-50_000_000))
    assert store.decide(signal("c", limits=limits)).decision.action is Action.EXECUTE


def test_a_limit_of_0_is_off(store: Store) -> None:
    lose(store, "a", r_micro=-99_000_000, money_micro=-(10**12))
    for number in range(12):
        assert store.decide(signal(f"b{number}", limits=UNLIMITED)).decision.action is Action.EXECUTE


@pytest.mark.parametrize("prefix", ["phantom", "scalp_phantom"])
def test_no_more_is_tracked_than_can_be(store: Store, prefix: str) -> None:
    limits = limited(tracked_positions=2)
    store.decide(phantom("a", limits=limits))
    store.decide(phantom("b", prefix="scalp_phantom", limits=limits))
    expected = (Action.REJECTED, (Reason.LIMIT_TRACKED_POSITIONS, PASSED, ABSENT))
    assert reasons(store, signal("c", prefix=prefix, limits=limits)) == expected
    assert store.position("c") is None
    store.close(ending(held(store, "a")))
    assert store.decide(signal("d", prefix=prefix, limits=limits)).decision.action is Action.EXECUTE


def test_every_reason_is_recorded_in_order_and_the_first_is_counted(backend: Backend, store: Store) -> None:
    limits = Limits(open_positions=1, per_symbol=1, executes_per_minute=1, tracked_positions=1)
    lose(store, "lost", r_micro=-10_000_000, money_micro=-5_000_000_000)
    store.decide(signal("open", limits=UNLIMITED))
    store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW)
    everything = (
        Reason.SIGNAL_EXPIRED,
        Reason.MODE_HALT,
        Reason.LIMIT_OPEN_POSITIONS,
        Reason.LIMIT_SYMBOL_POSITIONS,
        Reason.LIMIT_EXECUTE_RATE,
        Reason.LIMIT_DAILY_LOSS_R,
        Reason.LIMIT_DAILY_LOSS_MONEY,
        Reason.LIMIT_TRACKED_POSITIONS,
        PASSED,
        ABSENT,
    )
    assert reasons(store, signal("all", signal_ms=0, limits=limits)) == (Action.REJECTED, everything)
    held_back = signal("held", limits=Limits(open_positions=1, per_symbol=1, executes_per_minute=1))
    assert reasons(store, held_back) == (Action.PHANTOM, everything[1:7] + everything[8:])
    blocked = state_of(store)[f"{backend.keys.namespace}:phantom:blocked:20240101"]
    assert blocked == {"SIGNAL_EXPIRED": "1", "MODE_HALT": "1"}


def test_refusals_are_counted_by_utc_day(backend: Backend, store: Store) -> None:
    for name, now_ms in (("a", T0 + DAY - 1), ("b", T0 + DAY - 1), ("c", T0 + DAY)):
        store.decide(phantom(name, now_ms=now_ms))
    dump, prefix = state_of(store), f"{backend.keys.namespace}:phantom:blocked:"
    assert dump[prefix + "20240101"] == {"SCORE_BELOW_THRESHOLD": "2"}
    assert dump[prefix + "20240102"] == {"SCORE_BELOW_THRESHOLD": "1"}


def test_the_state_is_the_fold_of_its_facts(backend: Backend, store: Store) -> None:
    store.register("trend", "{}", "70", now_ms=NOW)
    lose(store, "a", r_micro=-5)
    store.decide(signal("b", bar="x"))
    store.decide(signal("c", bar="x"))
    store.decide(signal("b", fingerprint="other"))
    store.lapse("b", now_ms=NOW + HOUR)
    store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW)
    folded = State(Keys(backend.keys.namespace))
    facts = backend.facts()
    for fact in facts:
        folded.apply(fact)
    assert folded.dump() == state_of(store)
    assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
    assert len({fact.id for fact in facts}) == len(facts)
    assert all(fact.id.partition(":")[0] == fact.kind for fact in facts)
