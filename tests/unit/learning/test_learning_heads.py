"""Heads find what is there, stay silent where nothing is, and never see a label before it was known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.head_report import FEW, NO_SKILL, compare_ablations
from learning.head_rows import TARGETS, HeadRow, head_rows
from learning.heads import HeadFit, MultiHead, fit_line
from learning.rungs import fit_platt
from phantom.reach import HORIZON, Path, path_record
from scorer.heads import P_STOP, PROBABILITIES, STRENGTH, VALUES
from scorer.schema import SCALP, Ablation
from signals.errors import Invalid
from signals.profile import Kind
from tests.support.lessons import MINUTE_MS, START_MS

HOUR_MS = 60 * MINUTE_MS
SOME = ("expected_return_r", "p_stop", "strength_r", "direction", "reach_1r_60_with")


def rows_of(n: int, *, edge: float, seed: int = 3, column: str = "atr_pct", apart_ms: int = HOUR_MS) -> list[HeadRow]:
    """One number tells how far the price goes and whether the stop ends it; ``edge`` is how loudly."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(n):
        numbers = {feature.name: float(rng.normal()) for feature in SCALP.numbers}
        pull = edge * numbers[column] + float(rng.normal())
        entry = START_MS + place * apart_ms
        ahead = (7 if pull > 0.3 else 0, 70 if pull > 1.0 else 0)
        behind = (9 if pull < -0.3 else 0, 90 if pull < -1.0 else 0)
        far = (max(pull, 0.1), max(-pull, 0.1))
        found.append(
            HeadRow(
                id=f"s{place:05d}",
                features={**numbers, "session": "us", "volatility_regime": "low", "symbol_cluster": "x"},
                kind=Kind.PHANTOM,
                ts=entry - 1,
                entry_ms=entry,
                exit_ms=entry + 2 * HOUR_MS,
                net_r=max(-1.0, pull),
                stopped=pull < -0.3,
                path=Path(HORIZON, entry, ahead, behind, (far[0],) * 2, (far[1],) * 2),
                path_ms=entry + 10 * HOUR_MS,
            )
        )
    return found


@pytest.fixture(scope="module")
def fitted() -> MultiHead:
    return MultiHead(HeadFit(names=SOME), seed=5).fit(rows_of(700, edge=1.5), SCALP)


def test_what_is_there_is_found(fitted: MultiHead) -> None:
    reports = {report.name: report for report in fitted.reports_}
    assert tuple(reports) == SOME
    assert all(report.served and (report.skill_low or 0.0) > 0.0 for report in reports.values())
    assert (reports[P_STOP].auc or 0.0) > 0.75
    assert fitted.heads_ is not None
    high, low = ({**rows_of(1, edge=0.0)[0].features, "atr_pct": value} for value in (2.0, -2.0))
    told = [fitted.heads_.tell(SCALP.vector(features)) for features in (high, low)]
    assert told[0] is not None
    assert told[1] is not None
    assert (told[0].p_stop or 1.0) < 0.3 < 0.6 < (told[1].p_stop or 0.0)
    assert (told[0].expected_return_r or 0.0) > 1.0
    assert (told[1].expected_return_r or 0.0) < 0.1
    assert 0.0 < told[0].error[STRENGTH] < 0.5


def test_dates_say_what_was_trained_and_validated_on(fitted: MultiHead) -> None:
    for report in fitted.reports_:
        assert report.train_ms is not None
        assert report.validation_ms is not None
        assert report.fitted_ms is not None
        assert report.fitted_ms[0] == report.train_ms[0] == START_MS
        assert report.train_ms[0] < report.validation_ms[0] < report.validation_ms[1] == report.fitted_ms[1]
        assert 0 < report.n_validation < report.n
        assert json.loads(json.dumps(report.record)) == report.record


def test_where_nothing_is_nothing_is_said() -> None:
    spoke = 0
    for seed in range(6):
        noise = MultiHead(HeadFit(names=SOME[:3]), seed=seed).fit(rows_of(260, edge=0.0, seed=seed), SCALP)
        spoke += sum(report.served for report in noise.reports_)
        assert {report.reason for report in noise.reports_} <= {"", NO_SKILL}
    # Each has 2.5 % of a chance to speak for nothing.
    assert spoke <= 2


def test_too_few_are_not_tried() -> None:
    for n in (0, 40):
        few = MultiHead(HeadFit(names=SOME)).fit(rows_of(n, edge=1.5), SCALP)
        assert [report.reason for report in few.reports_] == [FEW] * len(SOME)
        assert few.heads_ is None


def test_order_changes_nothing(fitted: MultiHead) -> None:
    again = MultiHead(HeadFit(names=SOME), seed=5).fit(rows_of(700, edge=1.5)[::-1], SCALP)
    assert again.heads_ is not None
    assert fitted.heads_ is not None
    assert again.heads_.record == fitted.heads_.record
    assert all(np.array_equal(again.heads_.arrays[name], fitted.heads_.arrays[name]) for name in again.heads_.arrays)


def test_no_label_is_seen_before_it_was_known() -> None:
    """A late change of labels must not move what was said before they were known."""
    honest = rows_of(300, edge=1.0)
    late = honest[200].entry_ms
    turned = [
        row if row.path is None or row.path_ms < late else replace(row, path=replace(row.path, with_at=(0, 0)))
        for row in honest
    ]
    only = HeadFit(names=("reach_1r_60_with",))
    one, other = (MultiHead(only, seed=1).fit(rows, SCALP).reports_[0] for rows in (honest, turned))
    assert one.validation is not None
    assert other.validation is not None
    said = dict(zip(one.validation.ids, one.validation.said.tolist(), strict=True))
    theirs = dict(zip(other.validation.ids, other.validation.said.tolist(), strict=True))
    # Blocks of fifty: the block that begins at 200 knows labels that ended before it, and none of the turned ones.
    assert {name for name in said if said[name] == theirs[name]} >= {row.id for row in honest[151:200]}
    assert {name for name in said if said[name] != theirs[name]} >= {row.id for row in honest[252:260]}


def test_ablations_are_paired_and_show_whose_features_it_took() -> None:
    rows = rows_of(500, edge=1.5)  # atr_pct is mechanics
    names = (P_STOP,)
    reports = {
        ablation: MultiHead(HeadFit(names=names, ablation=ablation), seed=1).fit(rows, SCALP).reports_
        for ablation in Ablation
    }
    assert reports[Ablation.TA][0].reason == NO_SKILL
    assert reports[Ablation.MECHANICS][0].served
    found = {one.worse: one for one in compare_ablations(reports)}
    assert (found["ta"].low or 0.0) > 0.0
    assert found["mechanics"].low is not None
    assert found["mechanics"].low < 0.05
    assert {one.n for one in found.values()} == {reports[Ablation.FULL][0].n_validation}


def test_an_ablation_does_not_look_at_what_it_hides() -> None:
    made = MultiHead(HeadFit(names=(P_STOP,), ablation=Ablation.MECHANICS), seed=1).fit(rows_of(500, edge=1.5), SCALP)
    assert made.heads_ is not None
    assert set(made.heads_.encoding.number_names) <= SCALP.names_of(Ablation.MECHANICS)
    features = rows_of(1, edge=0.0)[0].features
    hidden = dict.fromkeys(SCALP.names_of(Ablation.TA) - SCALP.names_of(Ablation.MECHANICS), 99.0)
    assert made.heads_.tell(SCALP.vector({**features, **hidden})) == made.heads_.tell(SCALP.vector(features))


def test_a_line_draws_in_and_never_blows_up() -> None:
    rng = np.random.default_rng(1)
    raw, day = rng.normal(size=4_000), np.arange(4_000) // 10
    half = fit_line(raw, 0.3 + 0.5 * raw + rng.normal(size=4_000), day)
    assert half.slope == pytest.approx(0.5, abs=0.06)
    assert half.level == pytest.approx(0.3, abs=0.06)
    # Days of ten independent rows: the variance of a mean of unit noise.
    assert half.level_var == pytest.approx(1.0 / 4_000, rel=0.3)
    assert fit_line(raw, 3.0 * raw, day).slope == 2.0
    assert fit_line(raw, -raw, day).slope == 0.0
    assert fit_line(np.ones(50), raw[:50], day[:50]).slope == 0.0


def test_platt_is_flat_for_what_ranks_backwards() -> None:
    raw, hit = np.linspace(0.1, 0.9, 200), np.arange(200) < 100
    flat = fit_platt(raw, hit)
    assert flat.apply(raw) == pytest.approx(np.full(200, 0.5))
    assert fit_platt(raw, ~hit).apply(np.array([0.2, 0.8])) == pytest.approx([0.0, 1.0], abs=0.05)


# --- rows


def closed(**changes: Any) -> dict[str, Any]:
    """A long from 100, stop 98: one R is 2."""
    return {
        "id": "a",
        "symbol": "BTCUSDT",
        "kind": "phantom",
        "features": {"atr_pct": 1.0},
        "bucket": "us|low",
        "outcome": "loss",
        "exit_reason": "sl",
        "entry": 100.0,
        "sl": 98.0,
        "net_r": -1.05,
        "ts": 5,
        "entry_ms": 10,
        "exit_ms": 90,
        "mark_pnl_percent": None,
    } | changes


def test_a_timeout_is_worth_its_mark_after_costs() -> None:
    (row,) = head_rows([closed(outcome="timeout", exit_reason="timeout", net_r=-0.05, mark_pnl_percent=1.0)], [])
    assert row.net_r == pytest.approx(0.45)
    assert not row.stopped
    (plain,) = head_rows([closed()], [])
    assert (plain.net_r, plain.stopped, plain.path) == (-1.05, True, None)
    assert plain.features == {"session": "us", "volatility_regime": "low", "symbol_cluster": "BTCUSDT", "atr_pct": 1.0}


def test_rows_are_joined_corrected_and_never_doubled() -> None:
    path = Path(HORIZON, 9, (3, 0), (0, 0), (1.2, 1.2), (0.2, 0.2))
    told = json.dumps({"id": "a", "entry_ms": 10, "known_ms": 600} | path_record(path))
    given = [closed(id="b", ts=1), closed(), closed(net_r=9.0), closed(id="c", outcome="no_fill"), closed(id="d")]
    rows = head_rows(given, [told], {"b": {"net_r": 2.0, "exit_reason": "manual"}, "d": None})
    assert [(row.id, row.net_r, row.stopped) for row in rows] == [("b", 2.0, False), ("a", -1.05, True)]
    assert (rows[1].path, rows[1].path_ms) == (path, 600)
    assert [target.end_ms(rows[1]) for target in (TARGETS[P_STOP], TARGETS[STRENGTH])] == [90, 600]
    assert [TARGETS[name].of(rows[0]) for name in (STRENGTH, "direction", "reach_1r_60_any")] == [None] * 3
    assert {name: TARGETS[name].of(rows[1]) for name in (STRENGTH, "direction", "reach_1r_60_any")} == {
        STRENGTH: 1.2,
        "direction": None,
        "reach_1r_60_any": 1.0,
    }


@pytest.mark.parametrize("bad", [{"net_r": "x"}, {"exit_ms": None}, {"features": 3}, {"kind": "x"}, {"net_r": 1e999}])
def test_a_row_that_nobody_wrote_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        head_rows([closed(**bad)], [])


def test_every_head_has_a_target() -> None:
    assert set(TARGETS) == {*PROBABILITIES, *VALUES}
    ahead = replace(rows_of(1, edge=0.0)[0], path=Path(HORIZON, 9, (1, 5), (2, 5), (2.0, 2.0), (2.0, 2.0)))
    # Both in one candle: the doubt counts against the trade.
    assert TARGETS["direction"].of(ahead) == 0.0
