"""A whole report: doubt beside every number, a ladder that only later evidence climbs, and hostile input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gates.adjusted import adjusted_effect, design_of
from gates.days import DayResampler
from gates.report import GateReport, GateTrades, ReportSettings, Standing, Verdict, gate_report
from gates.variables import VARIABLES, Comparison, Condition, Variable

FEW = ReportSettings(shifts=100)


def market(
    n: int, seed: int, *, pair: float = 0.0, main: float = 0.0, missing: float = 0.0, pays: float = 1.4
) -> GateTrades:
    """Ten signals a day. htf and micro_seq each add ``main`` to P(win), both together ``pair`` on top."""
    rng = np.random.default_rng(seed)
    columns = {
        "ts15": rng.uniform(0, 100, n),
        "volume_ratio": rng.lognormal(0.2, 0.4, n),
        "body_ratio": rng.uniform(0, 1, n),
        "body_sign": rng.choice([-1.0, 1.0], n),
        "ema_dir_15m": rng.choice([-1.0, 1.0], n),
        "lower_wick_ratio": rng.uniform(0, 0.5, n),
        "upper_wick_ratio": rng.uniform(0, 0.5, n),
        "vwap_dist_atr": rng.exponential(0.8, n),
        "bb_width_pct": rng.lognormal(0.5, 0.3, n),
        "qscore": rng.uniform(20, 90, n),
        "impulse_ratio": rng.exponential(0.5, n),
        "micro_seq_aligned": rng.choice([0.0, 1.0], n),
    }
    htf, micro = columns["ts15"] >= 60, columns["micro_seq_aligned"] >= 1
    won = rng.random(n) < 0.42 + pair * (htf & micro) + main * (htf * 1.0 + micro)
    for column in columns.values():
        column[rng.random(n) < missing] = np.nan
    return GateTrades(
        columns=columns,
        won=won,
        net_r=np.where(won, pays, -1.05),
        at_ms=np.arange(n, dtype=np.int64) * 8_640_000,
        score=columns["qscore"],
        bucket=rng.integers(0, 16, n),
    )


def report(trades: GateTrades, settings: ReportSettings = FEW) -> GateReport:
    return gate_report(trades, VARIABLES, {}, settings=settings)


def test_a_gate_that_is_there_climbs_to_confirmed() -> None:
    found = report(market(2_000, 1, pair=0.25))
    row = next(row for row in found.rows if set(row.members) == {"htf", "micro_seq"})
    assert found.verdict is Verdict.OK
    assert row.standing is Standing.CONFIRMED
    assert row.honest
    assert row.true_synergy
    assert row.p_corrected < 0.05 < 1.0
    assert row.p_later < 0.05
    assert row.delta_interval.low > 0.0
    assert row.result.interval.low > 0.0
    assert row.result.above_failing_interval.low > 0.0
    assert row.adjusted.interval.low > 0.0
    assert 0.0 < row.shrunk_delta <= row.delta


def test_what_won_early_and_no_longer_is_not_confirmed() -> None:
    """Discovered on the first six tenths, gone afterwards."""
    early, late = market(1_200, 1, pair=0.35), market(800, 2)
    trades = GateTrades(
        columns={name: np.concatenate((column, late.columns[name])) for name, column in early.columns.items()},
        won=np.concatenate((early.won, late.won)),
        net_r=np.concatenate((early.net_r, late.net_r)),
        at_ms=np.arange(2_000, dtype=np.int64) * 8_640_000,
        score=np.concatenate((early.score, late.score)),
        bucket=np.concatenate((early.bucket, late.bucket)),
    )
    found = report(trades)
    assert found.split_ms == 1_200 * 8_640_000
    row = next(row for row in found.rows if set(row.members) == {"htf", "micro_seq"})
    assert row.standing is Standing.DISCOVERED
    assert row.p_later > 0.05


def test_what_wins_often_and_still_loses_money_is_not_honest() -> None:
    found = report(market(2_000, 1, pair=0.25, pays=0.2))
    assert len(found.discovered) > 0
    assert found.honest == ()


def test_main_effects_alone_are_no_synergy() -> None:
    assert not any(row.true_synergy for seed in range(4) for row in report(market(1_000, seed, main=0.08)).combinations)


def test_noise_has_hunches_and_no_discovery() -> None:
    founds = [report(market(400, seed)) for seed in range(4)]
    assert sum(len(found.discovered) for found in founds) <= 1
    # What the founding rule would have told its reader.
    assert sum(row.delta > 0.10 and row.n >= 20 for found in founds for row in found.rows) > 20


@pytest.mark.parametrize(
    ("n", "verdict"), [(0, Verdict.NO_TRADES), (1, Verdict.ONE_CLASS), (10, Verdict.TOO_FEW), (60, Verdict.TOO_FEW)]
)
def test_too_little_is_said_and_recommends_nothing(n: int, verdict: Verdict) -> None:
    found = report(market(n, 3))
    assert found.verdict is verdict
    assert found.honest == found.discovered == ()
    assert len(found.solos) == 28
    assert all(math.isnan(row.p_corrected) for row in found.rows)


@pytest.mark.parametrize("won", [True, False])
def test_one_class_teaches_nothing(won: bool) -> None:
    trades = market(300, 4)
    found = report(
        GateTrades(
            columns=trades.columns,
            won=np.full(300, won),
            net_r=np.full(300, 1.0),
            at_ms=trades.at_ms,
            score=trades.score,
            bucket=trades.bucket,
        )
    )
    assert found.verdict is Verdict.ONE_CLASS
    assert found.honest == found.discovered == found.leaks == ()


def test_constant_and_missing_features_are_looked_through() -> None:
    trades = market(400, 5)
    columns = {name: np.full(400, 70.0) for name in trades.columns if name != "qscore"}
    found = report(
        GateTrades(
            columns=columns,
            won=trades.won,
            net_r=trades.net_r,
            at_ms=trades.at_ms,
            score=np.full(400, np.nan),
            bucket=np.zeros(400, dtype=np.int64),
        )
    )
    by_name = {row.members[0]: row for row in found.solos}
    assert by_name["q_040"].missing == 400
    assert by_name["htf"].n == 400
    assert math.isnan(by_name["htf"].delta)
    assert found.honest == ()


def test_a_variable_that_is_the_outcome_is_suspected_and_never_recommended() -> None:
    trades = market(400, 6)
    leak = Variable(
        name="leak", group="own", conditions=(Condition(feature="won", test=Comparison.AT_LEAST, limit=1.0),)
    )
    columns = {**trades.columns, "won": trades.won.astype(np.float64)}
    given = GateTrades(
        columns=columns,
        won=trades.won,
        net_r=trades.net_r,
        at_ms=trades.at_ms,
        score=trades.score,
        bucket=trades.bucket,
    )
    found = gate_report(given, (*VARIABLES, leak), {}, settings=FEW)
    (row,) = (row for row in found.solos if row.members == ("leak",))
    assert row.leak_suspect
    assert row.standing is Standing.NOTHING
    assert ("leak",) in {row.members for row in found.leaks}
    assert not any("leak" in row.members for row in found.honest)


def test_signals_of_one_hour_cannot_be_shifted_by_a_day() -> None:
    trades = market(400, 7)
    hurried = GateTrades(
        columns=trades.columns,
        won=trades.won,
        net_r=trades.net_r,
        at_ms=np.arange(400, dtype=np.int64) * 1_000,
        score=trades.score,
        bucket=trades.bucket,
    )
    assert report(hurried).verdict is Verdict.TOO_SHORT


def test_months_are_those_of_the_calendar() -> None:
    trades = market(1_000, 8)
    (month,) = (item for item in report(trades).months if item.name == "htf")
    # A hundred days from the first of January 1970.
    assert month.months == ("1970-01", "1970-02", "1970-03", "1970-04")
    assert sum(month.n) == next(row.n for row in report(trades).solos if row.members == ("htf",))
    january = trades.at_ms < 31 * 86_400_000
    passed = trades.columns["ts15"] >= 60
    wanted = trades.won[january & passed].mean() - trades.won[january & ~passed].mean()
    assert month.deltas[0] == pytest.approx(wanted)


def test_the_same_trades_give_the_same_report() -> None:
    one, other = report(market(500, 9, missing=0.1)), report(market(500, 9, missing=0.1))
    assert repr(one.rows) == repr(other.rows)


@pytest.mark.parametrize("bend", ["order", "result", "shape"])
def test_trades_that_contradict_themselves_are_refused(bend: str) -> None:
    trades = market(50, 1)
    columns, net_r, at_ms = dict(trades.columns), trades.net_r.copy(), trades.at_ms
    if bend == "order":
        at_ms = at_ms[::-1].copy()
    elif bend == "result":
        net_r[3] = math.nan
    else:
        columns["ts15"] = columns["ts15"][:-1]
    with pytest.raises(ValueError, match=r"time|finite|each"):
        GateTrades(columns=columns, won=trades.won, net_r=net_r, at_ms=at_ms, score=trades.score, bucket=trades.bucket)


def test_a_gate_that_re_encodes_the_score_is_unmasked() -> None:
    """Only the score moves the outcome; the gate is the score cut in two."""
    rng = np.random.default_rng(3)
    score = rng.uniform(0, 100, 4_000)
    won = rng.random(4_000) < 0.2 + 0.5 * score / 100
    passed = score >= 60
    assert won[passed].mean() - won[~passed].mean() > 0.2
    held = adjusted_effect(passed, won, design_of(score, np.zeros(4_000, dtype=np.int64)))
    assert held.interval.low < 0.0 < held.interval.high
    free = adjusted_effect(rng.random(4_000) < 0.5, won, design_of(score, np.zeros(4_000, dtype=np.int64)))
    assert free.interval.low < 0.0 < free.interval.high
    real = adjusted_effect(won ^ (rng.random(4_000) < 0.4), won, design_of(score, np.zeros(4_000, dtype=np.int64)))
    assert real.interval.low > 0.0


def test_a_mean_by_days_by_hand_and_its_coverage() -> None:
    day = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], dtype=np.int64)
    net_r = np.array([1.0, -1.0] * 6)
    passed = np.array([True, False] * 6)
    told = DayResampler(day, net_r, rng=np.random.default_rng(0)).of(passed, np.ones(12, dtype=np.bool_))
    assert (told.mean, told.above_failing, told.n_days) == (1.0, 2.0, 6)
    # Days that move together: the interval must hold the truth about as often as it says.
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        day = np.repeat(np.arange(40), 10)
        net_r = rng.normal(size=40)[day] * 0.5 + rng.normal(size=400)
        everyone = np.ones(400, dtype=np.bool_)
        found = DayResampler(day, net_r, rng=rng, resamples=300).of(everyone, everyone)
        held += found.interval.low <= 0.0 <= found.interval.high
    assert held >= 50


def test_few_days_give_no_interval() -> None:
    day = np.array([0, 0, 1, 2], dtype=np.int64)
    everyone = np.ones(4, dtype=np.bool_)
    told = DayResampler(day, np.ones(4), rng=np.random.default_rng(0)).of(everyone, everyone)
    assert math.isnan(told.interval.low)
