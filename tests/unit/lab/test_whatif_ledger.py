"""The current policy with recorded fills plays again to the ledger, to the last digit; anything else is listed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from lab.replay import Replay
from lab.whatif_case import cases_of
from lab.whatif_sequence import replay_ledger, under_limits
from lab.whatif_wish import Limited, WishStore
from market.candles import Candles
from market.reference_strategies import DEFAULT_SETTINGS, proposals
from persistence.memory_store import MemoryStore
from persistence.store import Fact, Mode
from signals.breaker import DEFAULT_THRESHOLDS, Thresholds
from signals.errors import Permanent
from signals.profile import SCALP, TREND, Kind, Limits
from signals.reasons import Reason
from signals.signal import Signal
from tests.data.make_golden_replay import markets
from tests.support.scene import FREE, HOUR, STEP, T0, Scene, payload, short

TO_TARGET, TO_STOP = "100 104.5 99.5 104", "100 100.5 97.5 98"
TIGHT = replace(
    TREND, limits=Limits(open_positions=2, per_symbol=2, executes_per_minute=3, daily_loss_r=2.5), costs_bps=7.0
)


def report(scene: Scene, name: str, price: float, **said: Any) -> None:
    """A close when it names a reason, else a fill."""
    told = {"signal_id": name, "price": price, "ts": scene.store.now_ms(), **said}
    taken = scene.reports.close(told) if "reason" in said else scene.reports.fill(told)
    if not taken.accepted:
        raise LookupError(f"{told}: {taken.reason}")


def lived(scene: Scene) -> Sequence[Fact]:
    """A record with everything an engine can do: partial fills, fees, corrections, no fill, silence, late claims."""
    scene.memory.configure_breakers(Thresholds(drawdown_r=4.0, losing_streak=2, stale_periods=0), now_ms=T0)
    scene.open("parts", claim=True)
    scene.open("never", claim=True)
    third = scene.ask({**short("third"), "features": {"trend_slope_pct": 6.1, "ema_stack_score": 60.0}})
    report(scene, "parts", 100.03, quantity=0.3, fee=0.011, currency="USD", venue_id="v-1")
    report(scene, "parts", 100.07, quantity=0.4, fee=0.013, currency="USD", venue_id="v-2")
    report(scene, "never", 100.0, quantity=0.0)
    scene.play("100 101 99 100")
    report(scene, "parts", 102.9, reason="manual", fee=0.017, venue_id="v-3")
    scene.play("100 103 99 102", first=1)
    report(scene, "parts", 97.7, reason="sl", fee=0.017, venue_id="v-4")  # a correction
    now = scene.store.now_ms()
    scene.open("silent", claim=True, ts=now, tag="late")
    scene.open("lapses", ts=now, tag="lapses")
    scene.play("100 101 99 100", TO_TARGET, first=2)
    for place in range(2):
        now = scene.store.now_ms()
        scene.open(f"loses{place}", claim=True, ts=now, tag="again")
        report(scene, f"loses{place}", 97.0 - place / 7.0, reason="sl", fee=0.1, quantity=0.9)
        scene.open(f"barred{place}", ts=now, tag="barred")
        scene.play("100 101 99 100", first=4 + place)
    scene.memory.set_mode(Mode.HALT, actor="desk", reason="lunch", now_ms=scene.store.now_ms())
    now = scene.store.now_ms()
    scene.open("halted", ts=now, tag="halted")
    scene.open("weak", good=False, ts=now, tag="weak")
    scene.memory.set_mode(Mode.ON, actor="desk", reason="back", now_ms=now)
    scene.ask({"id": "bad", "strategy": "trend"})
    scene.judge.give_up(payload("given-up", ts=now, tag="given-up"), Reason.SCORE_TIMEOUT)
    scene.play(TO_STOP, first=6)
    scene.pass_time(T0 + 80 * HOUR)
    assert third.position_id == "third"
    return scene.memory.facts


@pytest.mark.parametrize("profile", [FREE, TIGHT], ids=["free", "tight"])
def test_a_lived_record_plays_again_exactly(profile: Any) -> None:
    scene = Scene(profile)
    facts = lived(scene)
    ledger = replay_ledger(facts, scene.profiles)
    assert ledger.differences == ()
    assert ledger.reproduced == ledger.signals == sum(fact.kind == "decision" for fact in facts)
    assert ledger.endings == sum(fact.kind == "closed" for fact in facts) >= 8
    closed = [fact for fact in facts if fact.kind == "closed" and fact.fields["position_kind"] == "executed"]
    assert ledger.equity_r == sum(int(fact.fields["r_micro"]) for fact in closed) / 1_000_000 != 0.0
    kinds = {fact.fields.get("how") for fact in facts if fact.kind == "closed"}
    assert kinds == {"report", "simulation", "unreported"}
    assert {fact.kind for fact in facts} >= {"fill", "corrected", "unclaimed", "breaker", "touched"}


@cache
def scalps() -> tuple[list[Candles], list[Signal]]:
    candles = markets(6_000)[:1]
    settings = replace(DEFAULT_SETTINGS["scalp"], cooldown_candles=0)
    return candles, [signal for one in candles for signal in proposals("scalp", one, None, settings)]


@pytest.mark.parametrize("limits", [False, True])
def test_a_replay_plays_again_exactly_and_under_limits_as_live(limits: bool) -> None:
    candles, signals = scalps()
    profile = replace(SCALP, limits=replace(SCALP.limits, open_positions=2, daily_loss_r=3.0), costs_bps=4.0)
    breakers = replace(DEFAULT_THRESHOLDS, losing_streak=4, drawdown_r=6.0)
    store = MemoryStore("replay")
    Replay(profile, limits=limits, breakers=breakers, store=store).run(candles, signals)
    ledger = replay_ledger(store.facts, {"scalp": profile if limits else replace(profile, limits=FREE.limits)})
    assert ledger.exact, ledger.differences[:3]
    assert ledger.signals > 40


def test_explored_signals_play_again_exactly_and_a_wish_explores_nothing() -> None:
    candles, signals = scalps()
    profile = replace(SCALP, static_threshold=90.0, explore_rate=0.05, explore_size=0.2, limits=FREE.limits)
    store = MemoryStore("replay")
    Replay(profile, limits=True, store=store).run(candles, signals)
    ledger = replay_ledger(store.facts, {"scalp": profile})
    assert ledger.exact, ledger.differences[:3]
    explored = [case for case in cases_of(store.facts).rows if Reason.SCORE_EXPLORED in case.trade.reasons]
    assert explored
    assert all(case.answered and case.wanted and case.size == 0.2 for case in explored)
    # A policy that does not explore does not have them.
    plain = replay_ledger(store.facts, {"scalp": replace(profile, explore_rate=0.0)})
    differing = {one.signal_id for one in plain.differences if one.what == "action"}
    assert differing == {case.trade.signal_id for case in explored}
    wishes = {case.trade.signal_id: False for case in cases_of(store.facts).rows}
    assert not under_limits(store.facts, {"scalp": profile}, wishes).accepted & wishes.keys()


def test_the_same_policy_under_limits_executes_what_a_limited_replay_does() -> None:
    candles, signals = scalps()
    profile = replace(SCALP, limits=replace(SCALP.limits, open_positions=2, daily_loss_r=3.0), static_threshold=60.0)
    live = Replay(profile, limits=True, store=MemoryStore("replay"))
    executed = {trade.signal_id for trade in live.run(candles, signals).trades if trade.kind is Kind.EXECUTED}
    # The record was written under another threshold; limits and breakers are those of the live run.
    written = Replay(replace(profile, static_threshold=75.0), limits=True, store=MemoryStore("replay"))
    written.run(candles, signals)
    facts = written.store.facts
    wishes = {case.trade.signal_id: case.trade.score >= 60.0 for case in cases_of(facts).rows}
    found = under_limits(facts, {"scalp": profile}, wishes)
    assert found.accepted & wishes.keys() == executed & wishes.keys()
    assert 0 < len(found.accepted) < sum(wishes.values())
    assert sum(found.refused.values()) == sum(wishes.values()) - len(found.accepted)
    # With candles at hand the live code itself runs with the wishes in its store.
    store = WishStore(wishes)
    Replay(profile, limits=True, store=store).run(candles, signals)
    assert store.limited() == found


def test_without_a_wish_the_gate_answers_itself() -> None:
    scene = Scene(TIGHT)
    facts = lived(scene)
    found = under_limits(facts, scene.profiles, {})
    told = {fact.fields["sid"] for fact in facts if fact.kind == "decision" and fact.fields["action"] == "execute"}
    assert found.accepted == told


def test_a_wish_for_what_was_refused_is_filled_at_its_entry_and_meets_what_it_moved() -> None:
    scene = Scene(replace(FREE, limits=replace(FREE.limits, daily_loss_r=1.5)))
    for place, good in enumerate((False, False, True)):
        scene.open(f"s{place}", good=good, ts=scene.store.now_ms(), tag=f"t{place}")
        scene.play(TO_STOP, first=place)
    facts = scene.memory.facts
    everything = under_limits(facts, scene.profiles, {"s0": True, "s1": True})
    # Two stops are 2 R: the third, which the gate executed, meets the day's limit.
    assert everything == Limited(accepted=frozenset({"s0", "s1"}), refused={"LIMIT_DAILY_LOSS_R": 1})
    assert under_limits(facts, scene.profiles, {"s0": True}).accepted == {"s0", "s2"}
    assert under_limits(facts, scene.profiles, {"s2": False}).accepted == frozenset()


@pytest.mark.parametrize(
    ("kind", "field", "value", "what"),
    [
        ("closed", "net_r", 1.25, "net_r"),
        ("decision", "score", 91.0, "score"),
        ("decision", "heuristic_score", 91.0, "heuristic score"),
    ],
)
def test_what_does_not_come_out_again_is_listed(kind: str, field: str, value: float, what: str) -> None:
    scene = Scene()
    facts = list(lived(scene))
    place = next(place for place, fact in enumerate(facts) if fact.kind == kind and fact.fields["sid"] == "parts")
    facts[place] = replace(facts[place], body=json.dumps(json.loads(facts[place].body) | {field: value}))
    ledger = replay_ledger(facts, scene.profiles)
    assert {(item.signal_id, item.what) for item in ledger.differences} >= {("parts", what)}
    assert ledger.reproduced == ledger.signals - 1


def test_a_decision_that_was_another_is_listed() -> None:
    scene = Scene()
    scene.open("s1", good=False)
    scene.play(TO_STOP)
    facts = [
        replace(fact, fields={**fact.fields, "action": "execute", "expires": str(T0 + STEP)})
        if fact.kind == "decision"
        else fact
        for fact in scene.memory.facts
    ]
    ledger = replay_ledger(facts, scene.profiles)
    assert [item.what for item in ledger.differences] == ["action", "expires"]
    assert (ledger.reproduced, ledger.signals) == (0, 1)


def test_a_record_without_a_beginning_is_refused() -> None:
    with pytest.raises(Permanent, match="does not begin"):
        replay_ledger([], {})
