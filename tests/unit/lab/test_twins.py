"""Pairs read from facts, figures from pairs, and what is said of them on a terminal and a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lab.console import print_summary
from lab.coverage.check import Size
from lab.coverage.fidelity import study
from lab.fidelity import ENOUGH_EXPLORED, TESTED, UNTESTED, Fidelity, fidelity_of
from lab.fidelity_console import print_fidelity
from lab.fidelity_words import BY_REPLAY, sentences
from lab.page import render_page, write_fidelity
from lab.recorded import trades_of
from lab.summary import plain_figures, summarise
from lab.twins import Refused, Twin, Twins, twins_of
from persistence.record import Head
from runtime.chance import draw_for
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.profile import Kind
from signals.signal import Side
from tests.support.scene import FREE, HOUR, STEP, T0, Scene, payload
from tests.unit.lab.synthetic_trades import RUN, trade

TO_TARGET, TO_STOP, NOTHING = "100 104.5 99.5 104", "100 100.5 97.5 98", "100 101 99 100.5"
RATE = 0.05
EXPLORING = replace(FREE, explore_rate=RATE, costs_bps=10.0)
DRAWN = next(name for name in (f"x{number}" for number in range(999)) if draw_for(name, "explore") < RATE)
COST_R = 100.0 * 0.001 / 2.0
US = Bucket(Session.US, VolatilityRegime.NORMAL)


def close(scene: Scene, name: str, price: float, reason: str, **said: Any) -> None:
    report = {"signal_id": name, "price": price, "ts": T0 + STEP, "reason": reason, **said}
    if not scene.reports.close(report).accepted:
        raise LookupError(report)


def test_a_pair_is_what_the_engine_says_and_what_the_candles_did() -> None:
    scene = Scene(EXPLORING)
    scene.open("a", claim=True, features=dict(payload()["features"]) | {"spread_bps": 3.0})  # type: ignore[call-overload]
    scene.reports.fill({"signal_id": "a", "price": 100.2, "ts": T0 + 1, "quantity": 1.0})
    scene.play(TO_TARGET)
    close(scene, "a", 103.8, "tp", quantity=1.0)
    (pair,) = twins_of(scene.memory.facts).pairs
    # 3.6 of 2 a unit, less ten basis points; the twin had 4 of 2.
    assert pair.live_r == pytest.approx(1.8 - COST_R)
    assert pair.phantom_r == pytest.approx(2.0 - COST_R)
    assert pair.residual_r == pytest.approx(-0.2)
    assert (pair.live_exit, pair.phantom_exit, pair.filled, pair.explored) == ("tp", "tp", True, False)
    assert pair.fill_slip_r == pytest.approx(0.1)
    assert (pair.entry_slip_r, pair.spread_bps) == (0.0, 3.0)
    assert (pair.symbol, pair.side, pair.day) == ("BTCUSDT", Side.LONG, T0 // 86_400_000)


def test_a_twins_timeout_counts_at_its_mark() -> None:
    scene = Scene(replace(EXPLORING, timeout_ms=STEP))
    scene.open("a", claim=True)
    scene.play(NOTHING)
    close(scene, "a", 100.5, "timeout")
    (pair,) = twins_of(scene.memory.facts).pairs
    assert pair.phantom_r == pytest.approx(0.25 - COST_R)
    assert pair.book_r == pytest.approx(-COST_R)
    assert pair.residual_r == pytest.approx(0.0)
    assert pair.echoed


def unfilled(scene: Scene) -> None:
    scene.reports.fill({"signal_id": "a", "price": 100.0, "ts": T0 + 1, "quantity": 0.0})
    scene.play(TO_TARGET)


def unreported(scene: Scene) -> None:
    scene.play(TO_TARGET)
    scene.pass_time(T0 + 40 * HOUR)


def lapsed(scene: Scene) -> None:
    scene.pass_time(T0 + HOUR)


@pytest.mark.parametrize(
    ("then", "claim", "standing"),
    [
        pytest.param(unfilled, True, "paired", id="not filled"),
        pytest.param(unreported, True, "never reported", id="unreported"),
        pytest.param(lambda scene: scene.play(TO_TARGET), True, "waiting for a report", id="no report yet"),
        pytest.param(lambda scene: close(scene, "a", 101.0, "manual"), True, "twin still followed", id="out early"),
        pytest.param(lambda scene: None, False, "waiting for a claim", id="unclaimed yet"),
    ],
)
def test_what_is_missing_is_counted_under_its_name(then: Callable[[Scene], object], claim: bool, standing: str) -> None:
    scene = Scene(EXPLORING)
    scene.open("a", claim=claim)
    then(scene)
    found = twins_of(scene.memory.facts)
    assert {name: n for name, n in found.counts.items() if n > 0} == {standing: 1}
    assert len(found.pairs) == (standing == "paired")


def test_an_order_that_was_not_filled_counts_as_nothing_against_its_twin() -> None:
    scene = Scene(EXPLORING)
    scene.open("a", claim=True)
    unfilled(scene)
    (pair,) = twins_of(scene.memory.facts).pairs
    assert (pair.filled, pair.live_r) == (False, 0.0)
    assert pair.phantom_r == pytest.approx(2.0 - COST_R)
    found = fidelity_of(twins_of(scene.memory.facts), seed=1)
    assert (found.filled.bias_r.n, found.sent.bias_r.n) == (0, 1)


def test_refusals_by_score_alone_and_the_explored_among_them() -> None:
    scene = Scene(EXPLORING)
    scene.open(DRAWN, good=False, claim=True)
    scene.open("other", good=False)
    scene.play(TO_STOP)
    close(scene, DRAWN, 97.8, "sl")
    found = twins_of(scene.memory.facts)
    (pair,) = found.pairs
    assert (pair.explored, pair.propensity) == (True, RATE)
    (refused,) = found.refused
    assert (refused.propensity, refused.score) == (RATE, 50.0)
    assert refused.phantom_r == pytest.approx(-1.0 - COST_R)
    assert (found.counts["eligible"], found.counts["explored"]) == (2, 1)
    trades = {one.signal_id: one for one in trades_of(scene.memory.facts)}
    assert (trades[DRAWN].kind, trades[DRAWN].size_multiplier, trades[DRAWN].explored) == (Kind.EXECUTED, 0.1, True)
    assert (trades["other"].size_multiplier, trades["other"].propensity) == (1.0, RATE)
    assert twins_of(scene.memory.facts, "scalp").pairs == ()


def test_without_exploring_the_refused_are_known_but_not_how_probably() -> None:
    scene = Scene(FREE)
    scene.open("other", good=False)
    scene.play(TO_STOP)
    (refused,) = twins_of(scene.memory.facts).refused
    assert refused.propensity is None


# --- figures


def pairs(n: int, *, bias: float, explored: bool = False, seed: int = 1) -> tuple[Twin, ...]:
    """Twins of two to one; live differs by a bias, one of session us by twice as much, and by some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for place in range(n):
        us = place % 2 == 0
        phantom = 2.0 if rng.random() < 0.4 else -1.0
        made.append(
            Twin(
                signal_id=f"{seed}-{place}", strategy="trend", symbol="BTCUSDT" if place % 3 else "ETHUSDT",
                side=Side.LONG if place % 5 else Side.SHORT,
                bucket=Bucket(Session.US if us else Session.ASIAN, VolatilityRegime.NORMAL), day=place // 4,
                score=60.0 + 30.0 * rng.random(), live_r=phantom + bias * (2 if us else 1) + rng.normal(0.0, 0.1),
                phantom_r=phantom, book_r=phantom, live_exit="tp" if phantom > 0 else "sl",
                phantom_exit="tp" if phantom > 0 else "sl", filled=True, entry_slip_r=rng.normal(0.0, 0.1),
                fill_slip_r=0.02, spread_bps=float(place % 9), explored=explored, propensity=0.05 if explored else None,
            )
        )  # fmt: skip
    return tuple(made)


def refusals(n: int) -> tuple[Refused, ...]:
    rng = np.random.default_rng(9)
    return tuple(
        Refused(
            day=place // 8, bucket=US, score=50.0, phantom_r=2.0 if rng.random() < 0.3 else -1.0, entry_slip_r=0.0,
            propensity=0.05,
        )
        for place in range(n)
    )  # fmt: skip


def test_a_bias_is_found_flagged_and_told_apart_by_session() -> None:
    found = fidelity_of(Twins(pairs(160, bias=-0.1), refusals(100), {"paired": 160}), seed=1)
    assert found.flagged
    assert found.filled.bias_r.day.holds(-0.15)
    assert not found.filled.bias_r.day.holds(0.0)
    assert found.filled.live_r - found.filled.phantom_r == pytest.approx(found.filled.bias_r.value)
    sessions = {row.name: row for item in found.breakdowns if item.name == "session" for row in item.rows}
    assert sessions["us"].bias_r.day.holds(-0.2)
    assert sessions["asian"].bias_r.day.holds(-0.1)
    assert {item.name for item in found.breakdowns} == {
        "session", "regime", "symbol", "side", "exit", "score", "entry slip", "spread",
    }  # fmt: skip
    by_name = {term.name: term.effect_r for term in found.terms}
    # Both sessions are as frequent: the first by name is what the other is compared with.
    assert by_name["session us"].interval.holds(-0.1)
    assert by_name["session us"].stands_out
    assert not by_name["per 10 score points"].stands_out


def test_without_a_bias_nothing_is_flagged_and_what_cannot_be_excluded_is_said() -> None:
    found = fidelity_of(Twins(pairs(160, bias=0.0), (), {"paired": 160}), seed=1)
    assert not found.flagged
    assert sentences(found)[0].startswith("No bias of phantoms can be shown")


def test_below_the_threshold_it_stays_untested_until_enough_were_explored() -> None:
    none = fidelity_of(Twins(pairs(160, bias=-0.1), refusals(200), {}), seed=1).below
    assert (none.status, none.powered, none.phantom_r.interval.known) == (UNTESTED, None, True)
    assert none.transported_r is not None
    # All refused are of session us, whose bias is -0.2.
    assert none.transported_r == pytest.approx(none.phantom_r.value - 0.2, abs=0.05)

    few = pairs(160, bias=-0.1) + pairs(ENOUGH_EXPLORED - 1, bias=-0.1, explored=True, seed=2)
    some = fidelity_of(Twins(few, refusals(200), {}), seed=1).below
    assert some.status == UNTESTED
    assert some.powered is not None
    assert math.isfinite(some.powered.corrected.value)
    assert not some.powered.corrected.interval.known
    assert math.isnan(some.powered.corrected.se)

    enough = pairs(160, bias=-0.1) + pairs(ENOUGH_EXPLORED, bias=-0.1, explored=True, seed=2)
    tested = fidelity_of(Twins(enough, refusals(200), {}), seed=1).below
    assert tested.status == TESTED
    assert tested.powered is not None
    assert tested.powered.corrected.interval.known
    assert tested.powered.corrected.n == ENOUGH_EXPLORED


def test_what_an_engine_echoes_tests_nothing() -> None:
    made = [replace(pair, live_r=pair.phantom_r) for pair in pairs(40, bias=0.0)]
    # By the rule of the book a timeout gives the entry back, and that is what such an engine reports.
    made[0] = replace(made[0], live_r=-0.05, book_r=-0.05, phantom_r=0.4)
    found = fidelity_of(Twins(tuple(made), (), {}), seed=1)
    assert found.by_construction
    assert "by construction" in sentences(found)[0]
    assert len(sentences(found)) == 1


def test_the_same_record_and_seed_give_the_same_figures() -> None:
    twins = Twins(pairs(40, bias=0.05), refusals(30), {"paired": 40})
    assert plain_figures(fidelity_of(twins, seed=3)) == plain_figures(fidelity_of(twins, seed=3))


# --- told


def printed(found: Fidelity | None) -> str:
    console = Console(width=140, record=True, file=StringIO())
    print_fidelity(found, console, 140)
    return console.export_text()


def test_a_terminal_and_a_page_tell_it(tmp_path: Path) -> None:
    twins = Twins(pairs(160, bias=-0.1) + pairs(40, bias=-0.1, explored=True, seed=2), refusals(200), {"paired": 200})
    found = fidelity_of(twins, seed=1)
    told = printed(found)
    for words in ("Phantoms are biased", "session: us", "per 10 score points", "corrected by them", "exit: sl"):
        assert words in told
    page = tmp_path / "fidelity.html"
    write_fidelity(found, page, what="all <strategies>", seed=1, head=Head(7, "abc"))
    text = page.read_text("utf-8")
    for words in (
        "Phantoms are biased",
        "session: us",
        "corrected by them",
        "all &lt;strategies&gt;",
        "<code>abc</code>",
    ):
        assert words in text


def test_an_empty_record_says_what_it_waits_for() -> None:
    found = fidelity_of(Twins((), (), {"waiting for a report": 2}), seed=1)
    assert not found.by_construction
    assert "2 waiting for a report" in printed(found)
    assert plain_figures(found)["filled"]["bias_r"]["value"] is None


def test_a_replay_says_that_it_tests_nothing_and_shows_no_sizes() -> None:
    summary = summarise([trade(place) for place in range(4)], seed=1, run=RUN)
    assert BY_REPLAY in render_page(summary)
    assert " ".join(BY_REPLAY.split()[:6]) in " ".join(printed(None).split())
    assert summary.sizing is None
    assert not {"sizing", "fidelity"} & summary.rounded().keys()


def test_results_at_size_stand_beside_unit_results() -> None:
    made = [
        trade(0),
        trade(30, size_multiplier=0.5, outcome="loss", exit_reason="sl", gross_r=-1.0),
        trade(60, size_multiplier=0.1, explored=True, propensity=0.05, outcome="loss", exit_reason="sl", gross_r=-1.0),
        trade(90, kind=Kind.PHANTOM, size_multiplier=0.5),
    ]
    twins = Twins(pairs(40, bias=0.1), (), {})
    summary = summarise(made, seed=1, run=RUN, fidelity=fidelity_of(twins, seed=1))
    found = summary.sizing
    assert found is not None
    cost = 0.001 * 100.0 / 2.0
    unit = [2.0 - cost, -1.0 - cost, -1.0 - cost]
    assert [(row.size_multiplier, row.n, row.explored) for row in found.groups] == [
        (1.0, 1, 0),
        (0.5, 1, 0),
        (0.1, 1, 1),
    ]
    assert found.total_unit_r == pytest.approx(sum(unit))
    sized = unit[0] + 0.5 * unit[1] + 0.1 * unit[2]
    assert found.total_sized_r == pytest.approx(sized)
    assert found.sized_r.value == pytest.approx(sized / 1.6)
    assert found.max_drawdown_sized_r == pytest.approx(-0.5 * unit[1] - 0.1 * unit[2])
    console = Console(width=100, record=True, file=StringIO())
    print_summary(summary, console)
    page, told = render_page(summary), console.export_text()
    for words in ("by size", "1 executed trades were explored", "live − twin"):
        assert words in told
        assert words in page
    assert {"sizing", "fidelity"} <= summary.rounded().keys()


# --- item 5


def test_the_acceptance_simulation_holds() -> None:
    checks = list(study(Size.SMALL, seed=1))
    assert {check.item for check in checks} == {5}
    assert [check for check in checks if not check.holds] == []
    assert len({check.name for check in checks}) == len(checks)
