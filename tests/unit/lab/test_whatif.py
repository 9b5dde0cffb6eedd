"""Other gates on the same signals: by hand where a hand can, by law where it cannot."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.statistics import max_drawdown
from lab.trade import DAY_MS, Trade
from lab.whatif import (
    AlwaysTake,
    Answered,
    Case,
    Cases,
    Current,
    HeuristicAlone,
    OtherProfile,
    Policy,
    StaticThreshold,
    WhatIf,
    what_if,
)
from lab.whatif_json import as_json
from lab.whatif_nested import best_of, nested_best
from lab.whatif_page import render_whatif
from lab.whatif_portfolio import portfolio_of
from lab.whatif_value import GREY_BELOW, lift_of
from lab.whatif_words import remarks, verdict
from persistence.store import CloseHow
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.errors import Permanent
from signals.profile import DEFAULT_PROFILES, TREND, Kind, RunMode
from signals.reasons import Reason
from signals.signal import Signal
from tests.support.scene import BAD, GOOD
from tests.unit.lab.synthetic_trades import HOUR_MS, START, lost, trade, world


def case(trade: Trade, **changes: object) -> Case:
    features = GOOD if trade.score >= 70.0 else BAD
    sign = trade.side.value
    signal = Signal(
        id=trade.signal_id, strategy=trade.strategy, symbol=trade.symbol, side=trade.side, entry=trade.entry,
        tp=trade.entry + sign * trade.risk, sl=trade.entry - sign * trade.risk, ts=trade.ts, features=features,
    )  # fmt: skip
    executed = trade.kind is Kind.EXECUTED
    made = Case(
        trade=trade, signal=signal, heuristic_score=90.0 if features is GOOD else 50.0, answered=executed,
        wanted=executed, sound=True, how=CloseHow.SIMULATION, ledger_r=trade.gross_r,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def cases(trades: Iterable[Trade]) -> Cases:
    return Cases.of(map(case, trades))


PHANTOM = {"kind": Kind.PHANTOM, "score": 50.0}
HAND = (
    trade(0, score=80.0),  # executed, +2
    lost(1, score=75.0, exit_ts=START + 30 * HOUR_MS),  # executed, -1
    trade(30, **PHANTOM),  # refused winner
    lost(60, **PHANTOM),
    trade(61, kind=Kind.PHANTOM, score=72.0, outcome="timeout", exit_reason="timeout", gross_r=0.0, mark_r=0.5),
    trade(62, kind=Kind.PHANTOM, score=90.0, outcome="no_fill", exit_reason="no_fill", gross_r=0.0),
)


def ask(given: Cases, *policies: Policy, **how: object) -> WhatIf:
    return what_if(given, policies, **how)  # type: ignore[arg-type]


@cache
def lively(skill: float = 0.0, seed: int = 5) -> WhatIf:
    given = cases(world(seed, n=900, days=120, skill=skill))
    return ask(given, StaticThreshold(60.0), StaticThreshold(65.0), Answered(), AlwaysTake())


def test_every_figure_by_hand() -> None:
    found = ask(cases(HAND), StaticThreshold(60.0), AlwaysTake(), grid=())
    at = {value.name: value.at_cost[0] for value in found.values}  # without costs
    assert [value.name for value in found.values] == ["current", "threshold 60", "always-take"]
    assert at["current"].per_signal.value == pytest.approx((2 - 1) / 6)
    assert at["current"].per_accepted.value == pytest.approx(0.5)
    assert at["threshold 60"].per_accepted.value == pytest.approx((2 - 1 + 0 + 0) / 4)
    assert at["always-take"].difference.value == pytest.approx((2 - 1) / 6)
    assert at["current"].lift.value == pytest.approx(0.5 - 2 / 6)
    assert at["always-take"].lift.value == pytest.approx(0.0)
    sixty = found.value("threshold 60")
    assert (sixty.accepted, sixty.accepted_real, sixty.accepted_phantom, sixty.n_disagree) == (4, 2, 2, 2)
    assert (sixty.decisive, sixty.wins, sixty.timeouts, sixty.grey) == (2, 1, 1, True)
    # Ten basis points of 100 over a risk of 2 are 0.05 R; what was never filled pays nothing, a timeout does.
    assert sixty.verdict.total_r == pytest.approx(1.0 - 3 * 0.05)
    assert sixty.marked.total_r == pytest.approx(1.0 + 0.5 - 3 * 0.05)
    assert (found.curve, found.nested) == (None, None)
    with pytest.raises(KeyError):
        found.value("nobody")


def test_the_size_of_a_position_multiplies_its_result_and_its_risk() -> None:
    half = Cases.of([case(HAND[0], size=0.5), case(HAND[1])])
    value = ask(half, grid=()).current
    assert value.at_cost[0].total_r == pytest.approx(0.5 * 2.0 - 1.0)
    assert value.portfolio.most_at_risk_r == 1.0


def test_equity_and_exposure_by_hand() -> None:
    given = cases(HAND)
    everything = np.ones(len(given), dtype=np.bool_)
    found = portfolio_of(given, everything, given.net_r(0.0), np.random.default_rng(0))
    # By exit: +2 at 1 h, -1 at 30 h, +2 at 31 h, -1 at 61 h, 0 at 62 h; the second is open until 30 h.
    assert found.equity_r.tolist() == [2.0, 1.0, 3.0, 2.0, 2.0]
    assert (found.final_r, found.drawdown_r, found.most_open, found.most_at_risk_r) == (2.0, 1.0, 1, 1.0)
    assert found.mean_open == pytest.approx((1 + 29 + 1 + 1 + 1) / 62)
    overlapping = cases([trade(0, exit_ts=START + 5 * HOUR_MS), trade(1), trade(2, exit_ts=START + 9 * HOUR_MS)])
    assert portfolio_of(overlapping, np.ones(3, dtype=np.bool_), np.zeros(3), np.random.default_rng(0)).most_open == 2
    nothing = portfolio_of(given, ~everything, given.net_r(0.0), np.random.default_rng(0))
    assert (nothing.final_r, nothing.most_open, math.isnan(nothing.drawdown_quantiles_r[0])) == (0.0, 0, True)


def test_drawdowns_of_resampled_histories_surround_the_one_that_was() -> None:
    found = lively().current.portfolio
    falls = found.drawdown_quantiles_r
    assert list(falls) == sorted(falls)
    assert 0.3 * found.drawdown_r < falls[0] < 3.0 * found.drawdown_r
    assert found.drawdown_r == max_drawdown(np.diff(np.concatenate([[0.0], found.equity_r])))


def test_what_reaches_a_stricter_threshold_reached_the_milder_one() -> None:
    given = cases(world(2, n=300))
    taken = [StaticThreshold(float(value)).choose(given).accepted for value in range(0, 101, 10)]
    assert all(np.all(stricter <= milder) for milder, stricter in pairwise(taken))
    with pytest.raises(ValueError, match=r"\[0, 100\]"):
        StaticThreshold(101.0)


def test_a_score_that_a_failed_model_left_behind_passes_no_threshold() -> None:
    given = Cases.of([case(HAND[0], sound=False), case(HAND[1])])
    assert StaticThreshold(0.0).choose(given).accepted.tolist() == [False, True]
    assert AlwaysTake().choose(given).accepted.tolist() == [True, True]


def test_the_heuristic_scores_anew_and_meets_the_table_of_its_time() -> None:
    given = cases(HAND)
    alone = HeuristicAlone(DEFAULT_PROFILES)
    assert alone.choose(given).accepted.tolist() == [True, True, False, False, True, True]  # 90 and 50 against 70
    strict = HeuristicAlone({"trend": replace(TREND, static_threshold=95.0)})
    assert not strict.choose(given).accepted.any()
    barred = HeuristicAlone({"trend": replace(TREND, heuristic_may_execute=False)})
    assert not barred.choose(given).accepted.any()


def test_another_profile_without_a_model_is_its_rules_or_its_run_mode() -> None:
    given = cases(HAND)

    def accepted(**changes: object) -> list[bool]:
        profile = replace(TREND, **changes)  # type: ignore[arg-type]
        return list(OtherProfile(profile, lambda _address: None).choose(given).accepted)

    assert accepted() == [True, True, False, False, True, True]
    assert accepted(static_threshold=45.0) == [True] * 6
    assert accepted(run_mode=RunMode.OBSERVE) == [True] * 6
    # Another rule table finds none of its features: 50 points.
    assert accepted(heuristic="scalp", static_threshold=51.0) == [False] * 6
    failed = Cases.of([case(replace(HAND[0], reasons=(Reason.MODEL_DEGRADED,)))])
    assert not OtherProfile(replace(TREND, run_mode=RunMode.OBSERVE), lambda _: None).choose(failed).accepted.any()


def test_a_model_score_whose_bundle_is_gone_is_unknown_and_refused() -> None:
    given = Cases.of([case(replace(HAND[0], bundle="b", model_score=99.0, score_source="ensemble"))])
    choice = OtherProfile(TREND, lambda _address: None).choose(given)
    assert (choice.accepted.tolist(), choice.unknown) == ([False], 1)


class Trained:
    """A policy that was trained on the first days."""

    name = "trained"

    def choose(self, cases: Cases) -> object:
        found = AlwaysTake().choose(cases)
        return replace(found, trained_on=cases.day < START // DAY_MS + 60)


def test_what_a_policy_was_trained_on_is_left_out_for_both_sides() -> None:
    given = cases(world(8, n=600, days=120))
    found = ask(given, Trained(), AlwaysTake(), grid=())  # type: ignore[arg-type]
    value = found.value("trained")
    kept = given.day >= START // DAY_MS + 60
    net = given.net_r(10.0)
    assert (value.n, value.excluded) == (int(kept.sum()), int((~kept).sum()))
    gained = ((1.0 - given.flags("wanted")) * net)[kept]
    assert value.verdict.difference.value == pytest.approx(gained.mean())
    assert value.adjusted.low < gained.mean() < value.adjusted.high
    assert any("was trained on" in remark for remark in remarks(found))


def test_policies_are_paired_with_the_current_gate() -> None:
    found = lively()
    same = found.value("as answered")
    assert (same.n_disagree, same.verdict.difference.value, same.p_better) == (0, 0.0, 0.5)
    assert found.value("threshold 65").n_disagree == 0  # that is what the world executed
    other = found.value("always-take")
    assert other.verdict.difference.value == pytest.approx(
        other.verdict.per_signal.value - found.current.verdict.per_signal.value
    )
    assert other.verdict.difference.se < other.verdict.per_signal.se + found.current.verdict.per_signal.se
    assert other.adjusted.low < other.verdict.difference.interval.low


def test_a_gate_that_knows_something_is_found_and_one_that_does_not_is_not() -> None:
    knows, ignorant = lively(skill=1.2), lively(skill=0.0)
    assert knows.current.verdict.lift.interval.low > 0.0
    assert knows.current.random_p < 0.01
    assert ignorant.current.verdict.lift.interval.holds(0.0)
    assert knows.value("always-take").p_better < 0.05
    worse = ask(knows.cases, StaticThreshold(90.0), grid=())
    assert verdict(worse).startswith("Worse than the current gate")
    better = ask(Cases.of(replace(case, wanted=not case.wanted) for case in knows.cases.rows), StaticThreshold(65.0))
    assert verdict(better).startswith("Better than the current gate")
    # Worth nothing after costs, and the score knows nothing.
    vain = ask(cases(world(7, n=500, days=120, edge=0.2)), StaticThreshold(62.0), grid=())
    assert vain.value("threshold 62").verdict.per_accepted.interval.holds(0.0)
    assert verdict(vain).startswith("Not shown to be better")
    assert "which contains 0: no demonstrated edge" in verdict(vain)


def test_the_lift_moves_as_its_ratio_does() -> None:
    rng = np.random.default_rng(3)
    day, values, accepted = np.repeat(np.arange(200), 4), rng.normal(size=800), rng.random(800) < 0.3
    found = lift_of(day, values, accepted)
    draws = []
    for _ in range(400):
        picked = np.concatenate([np.arange(4) + 4 * place for place in rng.integers(0, 200, 200)])
        draws.append(values[picked][accepted[picked]].mean() - values[picked].mean())
    assert found.value == pytest.approx(values[accepted].mean() - values.mean())
    assert found.se == pytest.approx(float(np.std(draws)), rel=0.35)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12))
def test_of_equal_values_the_last_is_best(values: list[float]) -> None:
    place = best_of(np.array(values))
    assert values[place] == max(values)
    assert all(later < values[place] for later in values[place + 1 :])


def test_a_nested_choice_never_sees_its_own_block() -> None:
    rng = np.random.default_rng(9)
    day = np.arange(100)
    results = rng.normal(size=100)
    accepted = np.stack([np.ones(100, dtype=np.bool_), rng.random(100) < 0.5], axis=1)
    how: dict[str, Any] = {
        "thresholds": np.array([1.0, 2.0]),
        "accepted": accepted,
        "current": accepted[:, 1],
        "day": day,
    }
    found = nested_best(results=results, known_day=day, **how)
    assert found is not None
    assert (found.blocks[0].first_day, found.blocks[-1].last_day) == (40, 99)
    # The future turned upside down changes what was chosen later only.
    for number, block in enumerate(found.blocks):
        turned = np.where(day >= block.first_day, -results, results)
        again = nested_best(results=turned, known_day=day, **how)
        assert again is not None
        assert [one.chosen for one in again.blocks[: number + 1]] == [one.chosen for one in found.blocks[: number + 1]]
    # What is still open when a block begins teaches nothing: with results known after the end there is no past.
    assert nested_best(results=results, known_day=day + 1_000, **how) is None
    late = nested_best(results=results, known_day=day + 5, **how)
    assert late is not None
    assert late.blocks[0].learned_from == 35


def test_the_curve_is_the_value_of_each_threshold() -> None:
    found = lively()
    curve = found.curve
    assert curve is not None
    place = curve.thresholds.tolist().index(60.0)
    assert curve.value.value[place] == pytest.approx(found.value("threshold 60").verdict.per_signal.value)
    assert curve.difference.value[place] == pytest.approx(found.value("threshold 60").verdict.difference.value)
    narrow = found.value("threshold 60").verdict.per_signal.interval
    assert curve.value.low[place] < narrow.low < narrow.high < curve.value.high[place]
    assert curve.disagree[curve.thresholds.tolist().index(65.0)] == 0


def test_the_same_question_has_the_same_answer_and_more_policies_move_no_other() -> None:
    given = cases(world(5, n=300, days=60))
    few = as_json(ask(given, StaticThreshold(60.0)))
    again = as_json(ask(given, StaticThreshold(60.0)))
    more = as_json(ask(given, StaticThreshold(60.0), AlwaysTake()))
    assert few == again
    assert few["policies"][0] == more["policies"][0]
    for told in (few, more):
        told["policies"][1]["against_current"].pop("all_at_once")
    assert few["policies"][1] == more["policies"][1]


def test_the_first_line_says_when_nothing_is_shown() -> None:
    thin = ask(cases(HAND), StaticThreshold(60.0), grid=())
    assert verdict(thin).startswith("Nothing is shown: threshold 60 accepted 4 signals, 2 of them decided")
    alone = ask(cases(world(5, n=900, days=120)), grid=())
    inside = alone.current.verdict.per_accepted.interval.holds(0.0)
    assert verdict(alone).startswith("No demonstrated edge") is inside
    assert any("one regime at most" in remark for remark in remarks(alone))


def test_few_disagreements_are_a_grey_zone() -> None:
    found = ask(cases(world(5, n=900, days=120)), StaticThreshold(65.2), grid=())
    value = found.value("threshold 65.2")
    assert 0 < value.n_disagree < GREY_BELOW
    assert value.grey
    assert verdict(found).startswith("Not to be told apart")


def test_nothing_to_ask_or_two_of_one_name_are_refused() -> None:
    with pytest.raises(Permanent, match="no signal"):
        ask(Cases.of([]))
    with pytest.raises(Permanent, match="two policies"):
        ask(cases(HAND), StaticThreshold(60.0), StaticThreshold(60.0))
    with pytest.raises(Permanent, match="two policies"):
        ask(cases(HAND), Current())


def test_signals_without_candles_have_no_result() -> None:
    gone = trade(99, outcome="no_data", exit_reason="no_data", gross_r=0.0)
    given = cases([*HAND, gone])
    assert (len(given), given.without_data) == (6, 1)


def test_the_json_is_whole_and_plain() -> None:
    told = as_json(lively(), {"kind": "test"})
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["schema"] == 1
    assert set(told) == {
        "schema", "verdict", "about", "remarks", "source", "signals", "still_open", "without_data", "span_days",
        "short_span", "score_kinds", "cost_bps", "costs_bps", "limited", "seed", "policies", "curve", "nested",
        "ledger",
    }  # fmt: skip
    assert set(told["policies"][0]) == {
        "name", "n", "trained_on", "unknown", "accepted", "win_rate", "timeouts", "results", "marked",
        "against_current", "random_gate_p", "portfolio", "refused_by_limits",
    }  # fmt: skip
    assert [result["cost_bps"] for result in told["policies"][0]["results"]] == [0.0, 5.0, 10.0]


def test_the_page_stands_alone_and_escapes_what_it_is_given() -> None:
    page = render_whatif(lively(), "<script>alert(1)</script>")
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert verdict(lively()).replace(" R", "\u00a0R")[:20] in page
    assert page.count("<svg role=") == page.count("<figure") + page.count('figure class="card full"')
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.floats(0, 100)), min_size=1, max_size=12))
def test_any_record_has_an_answer_a_page_and_json(rows: Sequence[tuple[int, int, float]]) -> None:
    kinds = ("win", "loss", "timeout", "no_fill")
    reasons = ("tp", "sl", "timeout", "no_fill")
    trades = [
        trade(number, entry_ts=START + day * DAY_MS, ts=START + day * DAY_MS, outcome=kinds[kind], score=score,
              exit_reason=reasons[kind], gross_r=(2.0, -1.0, 0.0, 0.0)[kind],
              kind=Kind.EXECUTED if score > 50 else Kind.PHANTOM,
              bucket=Bucket(Session.ASIAN, VolatilityRegime.LOW))
        for number, (kind, day, score) in enumerate(rows)
    ]  # fmt: skip
    found = ask(cases(trades), StaticThreshold(60.0), AlwaysTake())
    json.dumps(as_json(found), allow_nan=False)
    assert len(verdict(found)) > 20
