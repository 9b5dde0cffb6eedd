"""Trades read back from facts are the trades the replay saw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lab.recorded import trades_of
from lab.replay import Replay
from lab.trade import Trade
from market.reference_strategies import proposals
from persistence.store import Fact
from signals.profile import SCALP, Kind
from tests.data.make_golden_replay import markets
from tests.support.scene import FREE, HOUR, STEP, T0, Scene, bar

NOTHING, TO_TARGET, TO_STOP = "100 101 99 100", "100 104.5 99.5 104", "100 100.5 97.5 98"


def only(facts: Sequence[Fact]) -> Trade:
    (trade,) = trades_of(facts)
    return trade


def close(scene: Scene, price: float, reason: str, **said: Any) -> None:
    report = {"signal_id": "s1", "price": price, "ts": T0 + STEP, "reason": reason, **said}
    if not scene.reports.close(report).accepted:
        raise LookupError(report)


@pytest.mark.parametrize("limits", [False, True])
def test_the_record_of_a_replay_tells_its_trades(limits: bool) -> None:
    candles = markets(2_500)
    replay = Replay(SCALP, limits=limits)
    replay.store._keep_facts = True
    replayed = replay.run(candles, [signal for one in candles for signal in proposals("scalp", one)])
    assert {trade.kind for trade in replayed.trades} == set(Kind)
    assert len({trade.outcome for trade in replayed.trades}) > 1
    assert trades_of(replay.store.facts) == list(replayed.trades)


def test_a_correction_replaces_the_ending_in_its_place() -> None:
    scene = Scene()
    scene.open(claim=True, tag="breakout")
    scene.open("later", good=False)
    close(scene, 104.0, "tp")
    scene.play(TO_STOP)
    close(scene, 99.0, "manual")
    first, second = trades_of(scene.memory.facts)
    assert (first.signal_id, first.outcome, first.exit_reason, first.gross_r) == ("s1", "loss", "manual", -0.5)
    assert (first.kind, first.tag, second.signal_id) == (Kind.EXECUTED, "breakout", "later")


def test_what_the_candles_did_comes_from_the_twin() -> None:
    scene = Scene()
    scene.open(claim=True)
    close(scene, 101.0, "manual")
    alone = only(scene.memory.facts)
    assert (alone.mfe_r, alone.gap, alone.gross_r, alone.exit_ts) == (0.5, False, 0.5, T0 + STEP)
    scene.play("101 103 100 102", "97 98 96 97")
    seen = only(scene.memory.facts)
    assert (seen.mfe_r, seen.mae_r, seen.entry_slip_r, seen.gap) == (1.5, 1.5, 0.5, True)
    assert (seen.outcome, seen.gross_r, seen.exit_ts) == ("win", 0.5, T0 + STEP)


def test_an_exit_before_the_entry_is_told_as_one_at_the_entry() -> None:
    scene = Scene()
    scene.open(claim=True)
    scene.reports.close({"signal_id": "s1", "price": 101.0, "ts": T0 - HOUR, "reason": "manual"})
    assert only(scene.memory.facts).exit_ts == T0


def test_a_lapsed_execute_is_a_phantom_and_an_unreported_one_is_not() -> None:
    lapsed = Scene()
    lapsed.open()
    lapsed.play(TO_STOP)
    assert only(lapsed.memory.facts).kind is Kind.PHANTOM
    unreported = Scene()
    unreported.open(claim=True)
    unreported.play(TO_TARGET)
    assert trades_of(unreported.memory.facts) == []
    unreported.pass_time(T0 + 37 * HOUR)
    trade = only(unreported.memory.facts)
    assert (trade.kind, trade.outcome, trade.tp1_hit) == (Kind.EXECUTED, "win", True)
    assert "SCORE_PASSED" in trade.reasons


def test_a_timeout_has_its_mark_and_what_never_entered_has_nothing() -> None:
    scene = Scene(replace(FREE, timeout_ms=STEP))
    scene.open(good=False)
    scene.feed([bar(0, "100 101 99 100.5")])
    trade = only(scene.memory.facts)
    assert (trade.outcome, trade.gross_r, trade.mark_r) == ("timeout", 0, 0.25)
    scene.open("n", good=False, ts=T0 + STEP)
    scene.feed([bar(1, "105 106 104 105")])
    never = trades_of(scene.memory.facts)[1]
    assert (never.outcome, never.mark_r, never.filled) == ("no_fill", None, False)


def test_an_outcome_nobody_knows_is_loud() -> None:
    scene = Scene()
    scene.open(good=False)
    scene.play(TO_STOP)
    broken = [
        replace(fact, body=json.dumps(json.loads(fact.body) | {"outcome": "draw"})) if fact.kind == "closed" else fact
        for fact in scene.memory.facts
    ]
    with pytest.raises(ValueError, match="s1: unknown outcome 'draw'"):
        trades_of(broken)


def test_no_facts_no_trades() -> None:
    assert trades_of([]) == []
    scene = Scene()
    scene.open(good=False)
    assert trades_of(scene.memory.facts) == []
