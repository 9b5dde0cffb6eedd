"""The summary of a handful of trades worked by hand, its verdicts, and its digest."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from lab import wording
from lab.summary import Standing, Summary, summarise
from lab.trade import DAY_MS, Trade
from signals.profile import Kind
from signals.signal import Side
from tests.unit.lab.synthetic_trades import HOUR_MS, RUN, START, lost, trade, world

PHANTOM = Kind.PHANTOM


def summary_of(trades: list[Trade], **changes: Any) -> Summary:
    return summarise(trades, seed=1, run=dataclasses.replace(RUN, **changes))


# Entry 100, risk 2: ten basis points cost 0.05 R.
HANDFUL = [
    trade(0),
    lost(24),
    lost(48, ambiguous=True, symbol="ETHUSDT"),
    trade(72, kind=PHANTOM, side=Side.SHORT),
    lost(96, kind=PHANTOM),
    lost(120, kind=PHANTOM, symbol="ETHUSDT"),
    trade(144, outcome="timeout", exit_reason="timeout", gross_r=0.0, mark_r=0.6),
    trade(168, kind=PHANTOM, outcome="no_fill", exit_reason="", gross_r=0.0),
    trade(192, kind=PHANTOM, outcome="no_data", exit_reason="", gross_r=0.0),
]


def test_headline_by_hand() -> None:
    summary = summary_of(HANDFUL)
    executed, refused = summary.headline.executed, summary.headline.refused
    assert (summary.n_signals, summary.n_executed) == (9, 4)
    assert (executed.n, executed.wins, executed.n_days) == (3, 1, 3)
    assert (refused.n, refused.wins) == (3, 1)
    assert executed.win_rate.value == pytest.approx(1 / 3)
    assert [at.cost_bps for at in executed.at_cost] == [0.0, 5.0, 10.0]
    assert [at.mean_r.value for at in executed.at_cost] == pytest.approx([0.0, -0.025, -0.05])
    assert executed.at(10.0).break_even_rate == pytest.approx(0.35)  # wins 1.95, losses 1.05
    assert executed.break_even_cost_bps.value == pytest.approx(0.0)
    assert summary.lift.lift.value == pytest.approx(0.0)


def test_other_readings_by_hand() -> None:
    readings = {split.name: split for split in summary_of(HANDFUL).readings}
    means = {name: split.executed.at(0.0).mean_r.value for name, split in readings.items()}
    assert means == pytest.approx(
        {
            "decisive trades (headline)": 0.0,
            "with timeouts at 0 R": 0.0,
            "with timeouts marked to market": 0.6 / 4,
            "ambiguous candles all lost": 0.0,
            "ambiguous candles all won": 1.0,  # 2 − 1 + 2 over three
            "filled at the next open": 0.0,
        }
    )
    assert readings["with timeouts at 0 R"].executed.n == 4
    assert readings["with timeouts at 0 R"].executed.at(10.0).mean_r.value == pytest.approx(-0.05)
    assert readings["with timeouts at 0 R"].executed.win_rate.value == pytest.approx(1 / 4)
    assert readings["ambiguous candles all won"].executed.wins == 2


def test_ambiguity_bounds_hold_the_recorded_figure_also_when_a_finer_series_decided() -> None:
    # The finer series gave a win: at worst it was the stop, one R.
    readings = {split.name: split for split in summary_of([trade(0, ambiguous=True), lost(24)]).readings}
    assert readings["ambiguous candles all lost"].executed.at(0.0).mean_r.value == pytest.approx(-1.0)
    assert readings["ambiguous candles all lost"].executed.wins == 0
    assert readings["ambiguous candles all won"].executed.at(0.0).mean_r.value == pytest.approx(0.5)


def test_next_open_takes_the_slip_off_barrier_exits() -> None:
    split = summary_of([trade(0, entry_slip_r=0.1), lost(24, entry_slip_r=0.3)]).readings[-1]
    assert split.executed.at(0.0).mean_r.value == pytest.approx((1.9 - 1.3) / 2)


def test_what_refusing_cost_and_saved_by_hand() -> None:
    free, _, ten = summary_of(HANDFUL).balances
    assert (free.winners, free.losers) == (1, 2)
    assert (free.forgone_r, free.saved_r, free.net_r) == pytest.approx((2.0, 2.0, 0.0))
    assert (ten.forgone_r, ten.saved_r, ten.net_r) == pytest.approx((1.95, 2.1, 0.15))


def test_tallies_by_hand() -> None:
    executed, refused, everything = summary_of(HANDFUL).tallies
    assert executed.outcomes == {"win": 1, "loss": 2, "timeout": 1, "no_fill": 0, "no_data": 0}
    assert refused.outcomes == {"win": 1, "loss": 2, "timeout": 0, "no_fill": 1, "no_data": 1}
    assert (executed.ambiguous, refused.ambiguous, everything.n) == (1, 0, 9)
    assert everything.exits == {"": 2, "sl": 4, "timeout": 1, "tp": 2}


def test_curves_run_by_exit_time() -> None:
    # The first signal ends last: −1.05, −1.05, then +1.95.
    rows = [trade(0, exit_ts=START + 9 * DAY_MS), lost(24), lost(48)]
    curve = summary_of(rows).curves[1]
    assert curve.equity_r.tolist() == pytest.approx([-1.05, -2.10, -0.15])
    assert curve.max_drawdown_r == pytest.approx(2.10)
    assert curve.longest_losing_streak == 2
    assert curve.profit_factor == pytest.approx(1.95 / 2.10)
    assert curve.median_hold_hours == pytest.approx(1.0)
    assert curve.ts.tolist() == sorted(row.exit_ts for row in rows)


def test_breakdowns_count_every_decisive_trade_once() -> None:
    trades = world(2, n=400)
    summary = summarise(trades, seed=1, run=RUN)
    for breakdown in summary.breakdowns:
        assert sum(row.everything.n for row in breakdown.rows) == summary.headline.everything.n, breakdown.name
        assert sum(row.executed.wins for row in breakdown.rows) == summary.headline.executed.wins, breakdown.name
    assert [row.name for row in summary.breakdown("month").rows][:2] == ["2025-01", "2025-02"]
    assert {row.name for row in summary.breakdown("tag").rows} == {"(none)", "pullback"}


def test_a_trade_counts_under_each_of_its_reasons() -> None:
    rows = [trade(0, reasons=("MODEL_ABSENT", "SCORE_PASSED")), lost(24, reasons=("SCORE_PASSED",))]
    found = {row.name: row.executed.n for row in summary_of(rows).breakdown("reason").rows}
    assert found == {"MODEL_ABSENT": 1, "SCORE_PASSED": 2}


def test_excursion_quantiles_by_hand() -> None:
    rows = [lost(24 * n, mfe_r=n / 4, mae_r=1.0) for n in range(5)]
    (only,) = summary_of(rows).excursions
    assert (only.kind, only.outcome, only.n) == ("executed", "loss", 5)
    assert only.mfe_r == pytest.approx((0.1, 0.25, 0.5, 0.75, 0.9))
    assert only.mae_r == pytest.approx((1.0,) * 5)


def _days(results: list[float]) -> list[Trade]:
    """One trade a day with the given gross R and next to no costs."""
    return [(trade if r > 0 else lost)(24 * n, gross_r=r, risk=100.0) for n, r in enumerate(results)]


@pytest.mark.parametrize(
    ("trades", "standing", "begins"),
    [
        pytest.param([], Standing.EMPTY, "No demonstrated edge: there were no signals", id="nothing"),
        pytest.param(
            [trade(0, kind=PHANTOM)],
            Standing.EMPTY,
            "No demonstrated edge: the gate executed none of 1",
            id="refused all",
        ),
        pytest.param(_days([2.0, -1.0] * 10), Standing.THIN, "No demonstrated edge: 20 decided", id="few trades"),
        pytest.param(_days([1.0] * 60), Standing.THIN, "No demonstrated edge: 60 decided", id="all alike"),
        pytest.param(
            [trade(n, entry_ts=START + n * 1000, gross_r=1.0 + n % 3) for n in range(60)],
            Standing.THIN,
            "No demonstrated edge: 60 decided executed trades on 1 day",
            id="one day",
        ),
        pytest.param(_days([2.0, -1.0, -1.0] * 30), Standing.NONE, "No demonstrated edge: at 10 bp", id="coin"),
        pytest.param(_days([2.0, -1.0, -1.0, -1.0, -1.0] * 30), Standing.LOSS, "No edge but a loss: ", id="losing"),
        pytest.param(_days([2.0, 2.0, -1.0] * 30), Standing.EDGE, "An edge in this sample: ", id="winning"),
    ],
)
def test_the_verdict(trades: list[Trade], standing: Standing, begins: str) -> None:
    summary = summary_of(trades)
    assert summary.standing is standing
    assert summary.verdict.startswith(begins)
    interval = summary.headline.executed.verdict.mean_r.day
    if interval.holds(0.0):
        assert "no demonstrated edge" in summary.verdict.lower()


def test_an_edge_must_survive_marked_timeouts() -> None:
    winning = _days([2.0, 2.0, -1.0] * 30)
    timeouts = [
        trade(24 * n + 6, outcome="timeout", exit_reason="timeout", gross_r=0.0, mark_r=-0.95, risk=100.0)
        for n in range(90)
    ]
    summary = summary_of(winning + timeouts)
    assert summary.standing is Standing.FRAGILE
    assert summary.verdict.startswith("No robust edge: ")
    assert "with timeouts marked to market" in summary.verdict
    assert any("timed out" in remark for remark in summary.remarks)


def test_an_edge_must_survive_the_next_open() -> None:
    rows = [dataclasses.replace(row, entry_slip_r=0.95) for row in _days([2.0, 2.0, -1.0] * 30)]
    summary = summary_of(rows)
    assert summary.standing is Standing.FRAGILE
    assert "filled at the next open" in summary.verdict


def test_the_ten_points_are_always_there() -> None:
    summary = summarise(HANDFUL, seed=1, run=RUN, costs_bps=(3.0,))
    assert summary.costs_bps == (0.0, 3.0, 10.0)
    with pytest.raises(ValueError, match="basis points"):
        summarise(HANDFUL, seed=1, run=RUN, costs_bps=(math.nan,))


def test_remarks_say_what_the_reader_must_know() -> None:
    real = " ".join(summary_of(HANDFUL).remarks)
    assert "one market regime at most" in real
    text = " ".join(summary_of(HANDFUL, source="generated", source_seed=3, limits=True).remarks)
    assert "regime" not in text
    assert "generated" in text
    assert "applied as live" in text
    assert "both barriers" in text
    assert "1 position ended without candles" in text


def test_skill_is_seen_and_its_absence_too() -> None:
    knowing = summarise(world(5, skill=0.6), seed=1, run=RUN)
    blind = summarise(world(5, skill=0.0), seed=1, run=RUN)
    assert knowing.lift.random.p < 0.01
    assert knowing.lift.lift.day.low > 0.0
    assert "beats chance" in knowing.remarks[0]
    assert blind.lift.random.p > 0.05
    assert "cannot be told from chance" in blind.remarks[0]


def test_the_order_of_trades_changes_nothing() -> None:
    trades = world(6, n=300)
    assert summarise(trades, seed=1, run=RUN).digest() == summarise(trades[::-1], seed=1, run=RUN).digest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"gross_r": 1.999}, id="outcome in R"),
        pytest.param({"score": 80.0001}, id="score"),
        pytest.param({"exit_ts": START + 2 * HOUR_MS}, id="exit"),
        pytest.param({"kind": PHANTOM}, id="decision"),
        pytest.param({"reasons": ("MODE_HALT",)}, id="reason"),
        pytest.param({"mark_r": 0.5, "outcome": "timeout"}, id="mark"),
    ],
)
def test_the_digest_sees_every_change(change: dict[str, Any]) -> None:
    before, after = summary_of([trade(0), *HANDFUL[1:]]), summary_of([trade(0, **change), *HANDFUL[1:]])
    assert before.digest() != after.digest()
    assert before.digest() == summary_of(HANDFUL).digest()


def test_the_digest_sees_seed_and_run() -> None:
    first = summarise(HANDFUL, seed=1, run=RUN).digest()
    assert summarise(HANDFUL, seed=2, run=RUN).digest() != first
    assert summary_of(HANDFUL, clamp="60-95").digest() != first


@pytest.mark.parametrize("trades", [[], HANDFUL, world(7, n=120)], ids=["none", "handful", "many"])
def test_rounded_is_json_of_six_digits(trades: list[Trade]) -> None:
    rounded = summary_of(trades).rounded()
    text = json.dumps(rounded, allow_nan=False)
    assert json.loads(text) == rounded
    assert rounded["verdict"] == summary_of(trades).verdict

    def figures(value: object) -> list[float]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in figures(item)]
        if isinstance(value, list):
            return [found for item in value for found in figures(item)]
        return [value] if isinstance(value, float) else []

    assert all(figure == float(f"{figure:.6g}") for figure in figures(rounded))


@pytest.mark.parametrize(
    ("said", "written"),
    [
        (wording.signed(-0.0004, 2), "+0.00"),
        (wording.signed(-0.25), "−0.250"),
        (wording.signed(math.nan), "–"),
        (wording.percent(0.4251), "42.5 %"),
        (wording.basis_points(2.5), "2.5 bp"),
        (wording.probability(0.0004998), "0.0005"),
        (wording.probability(0.25), "0.250"),
        (wording.moment(START), "2025-01-01 00:00"),
    ],
)
def test_figures_in_words(said: str, written: str) -> None:
    assert said == written
