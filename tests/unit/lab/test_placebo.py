"""The score-shuffle placebo: it finds what a score knows and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lab.placebo import Gate, Placebo, gate_of, shuffled_lift
from lab.trade import Trade, TradeTable
from signals.profile import Kind
from tests.unit.lab.synthetic_trades import START, lost, trade, world

PHANTOM = Kind.PHANTOM


def placebo_of(trades: list[Trade], *, seed: int = 1, permutations: int = 500) -> Placebo:
    table = TradeTable.of(trades)
    mask = table.decisive
    rng = np.random.default_rng(seed)
    gate = gate_of(table).where(mask)
    return shuffled_lift("all", table.net_r(10.0)[mask], gate, cost_bps=10.0, rng=rng, permutations=permutations)


def test_the_gate_reads_back_what_was_executed() -> None:
    table = TradeTable.of(world(3, n=600, skill=0.4))
    assert gate_of(table).accepted.tolist() == table.executed.tolist()


def test_a_score_that_knows_lifts_and_its_placebo_does_not() -> None:
    found = placebo_of(world(5, skill=0.6), permutations=2_000)
    error = float(np.std(found.null, ddof=1)) / np.sqrt(len(found.null))
    assert found.lift > 0.2
    assert found.p == pytest.approx(1 / 2_001)
    # One threshold for all, so nothing but the score chooses: the placebo's mean is 0 up to its own error.
    assert abs(found.placebo_mean) < 4.0 * error
    assert found.interval.low < 0.0 < found.interval.high < found.lift


def test_over_many_worlds_of_noise_the_p_values_are_those_of_chance() -> None:
    found = [placebo_of(world(seed, n=400), permutations=199) for seed in range(60)]
    assert abs(float(np.mean([one.lift for one in found]))) < 0.03
    assert abs(float(np.mean([one.placebo_mean for one in found]))) < 0.01
    below = sum(one.p <= 0.1 for one in found)
    # Sixty draws at one in ten: more than fifteen or fewer than one has a chance below one in a hundred.
    assert 1 <= below <= 15
    assert 0.35 < float(np.mean([one.p for one in found])) < 0.65


def test_what_thresholds_choose_is_not_the_scores_merit() -> None:
    """A bucket that always wins and is always open: the lift is there, and shuffled scores have it too."""
    good = [trade(24 * n, score=50.0 + n % 40, threshold=0.0) for n in range(40)]
    bad = [
        lost(24 * n + 7, score=50.0 + n % 40, threshold=95.0, kind=PHANTOM, reasons=("SCORE_BELOW_THRESHOLD",))
        for n in range(40)
    ]
    mixed = trade(9_999, score=99.0, threshold=95.0)
    found = placebo_of([*good, *bad, mixed])
    assert found.lift > 1.0
    assert found.placebo_mean == pytest.approx(found.lift, abs=0.05)
    assert found.p > 0.2


def test_scores_of_two_kinds_never_change_places() -> None:
    rules = [trade(n, score=75.0, threshold=70.0, gross_r=1.0 + n % 3) for n in range(30)]
    model = [
        lost(
            n + 500,
            score=20.0,
            threshold=35.0,
            score_source="ensemble",
            bundle="b" * 64,
            kind=PHANTOM,
            reasons=("SCORE_BELOW_THRESHOLD",),
        )
        for n in range(30)
    ]
    table = TradeTable.of([*rules, *model])
    assert len(np.unique(gate_of(table).stratum)) == 2
    found = placebo_of([*rules, *model])
    # Within its kind every score is the same: shuffling changes nothing, and no verdict is given.
    assert np.isnan(found.p)
    assert found.n_executed == 30


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"threshold_closed": True, "threshold": 100.0, "score": 100.0}, id="a closed threshold"),
        pytest.param({"reasons": ("SCORE_PASSED", "LIMIT_OPEN_POSITIONS")}, id="a limit after a score that passed"),
        pytest.param({"reasons": ("SCORE_BELOW_THRESHOLD", "LIMIT_DAILY_LOSS_R"), "score": 10.0}, id="a limit as well"),
        pytest.param({"reasons": ("SCORE_PASSED", "MODEL_DEGRADED")}, id="a failed model"),
        pytest.param({"reasons": ("SCORE_PASSED", "HEURISTIC_FORBIDDEN")}, id="a forbidden heuristic"),
    ],
)
def test_what_refuses_whatever_the_score_also_refuses_shuffled_ones(change: dict[str, object]) -> None:
    table = TradeTable.of([trade(0, score=99.0), trade(1, kind=PHANTOM, **change)])
    assert gate_of(table).open.tolist() == [True, False]
    assert gate_of(table).accepted.tolist() == [True, False]


def test_blocks_of_time_are_strata_of_their_own() -> None:
    rows = [trade(24 * n) for n in range(20)]
    gate = gate_of(TradeTable.of(rows), block_ms=7 * 86_400_000)
    weeks = [(START + 86_400_000 * n) // (7 * 86_400_000) for n in range(20)]
    assert gate.stratum.tolist() == [week - weeks[0] for week in weeks]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_gate_that_took_all_or_none_has_no_placebo(kind: Kind) -> None:
    score = 80.0 if kind is Kind.EXECUTED else 10.0
    found = placebo_of([trade(n, score=score, kind=kind, reasons=()) for n in range(30)])
    assert np.isnan(found.lift)
    assert found.permutations == 0


def test_the_same_seed_gives_the_same_shuffles_in_whatever_order_the_trades_come() -> None:
    rows = world(8, n=300, skill=0.2)
    first, turned, other = placebo_of(rows), placebo_of(rows[::-1]), placebo_of(rows, seed=2)
    assert first.null.tolist() == turned.null.tolist()
    assert first.null.tolist() != other.null.tolist()


def test_the_shuffles_are_those_of_a_plain_loop() -> None:
    rows = [dataclasses.replace(row, threshold=40.0 + 10.0 * (place % 4)) for place, row in enumerate(world(9, n=80))]
    table = TradeTable.of(rows)
    gate, values = gate_of(table, block_ms=30 * 86_400_000), table.net_r(10.0)
    gate = Gate(score=gate.score, threshold=gate.threshold, open=np.ones(80, dtype=np.bool_), stratum=gate.stratum)
    found = shuffled_lift("all", values, gate, cost_bps=10.0, rng=np.random.default_rng(4), permutations=4_000)
    rng, plain = np.random.default_rng(5), []
    for _ in range(4_000):
        dealt = gate.score.copy()
        for stratum in np.unique(gate.stratum):
            inside = np.flatnonzero(gate.stratum == stratum)
            dealt[inside] = rng.permutation(dealt[inside])
        plain.append(float(np.mean(values[dealt >= gate.threshold])) - float(np.mean(values)))
    error = float(np.std(plain)) * np.sqrt(2.0 / 4_000)
    assert abs(found.placebo_mean - float(np.mean(plain))) < 4.0 * error
    assert float(np.std(found.null)) == pytest.approx(float(np.std(plain)), rel=0.06)


def test_one_result_for_each_score() -> None:
    gate = gate_of(TradeTable.of([trade(0)]))
    with pytest.raises(ValueError, match="one result per score"):
        shuffled_lift("all", np.zeros(2), gate, cost_bps=10.0, rng=np.random.default_rng(1))
