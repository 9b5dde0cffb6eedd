"""How positions end in a report, the founding rule on honest labels, and their acceptance study."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.coverage.labels import GAINING, Truth, drawn
from lab.endings import OpenPosition, endings_of
from lab.honest import honest_threshold, lowest_paying, specified_threshold
from lab.trade import TradeTable
from qscore.estimate import estimate
from signals.profile import Kind
from tests.unit.lab.synthetic_trades import HOUR_MS, START, lost, trade


def test_the_market_of_the_study_is_what_its_truth_says() -> None:
    truth, rng = Truth.of(GAINING), np.random.default_rng(5)
    assert truth.ended[:, :, -1].sum(axis=1) == pytest.approx(np.ones(101))
    world = drawn(GAINING, 60_000, rng)
    at = world.score.astype(np.int64)
    expected = truth.ended[at, :, -1].mean(axis=0)
    assert [float(np.mean(world.cause == cause)) for cause in (1, 2, 3)] == pytest.approx(expected.tolist(), abs=0.01)
    assert float(world.net_r.mean()) == pytest.approx(float(truth.mean_r[at].mean()), abs=0.03)


def test_thresholds_by_hand() -> None:
    # 40 loses, 50 wins half, 60 wins: at 2 to 1 a third is needed.
    scores = np.array([40.0, 40.0, 50.0, 50.0, 60.0, 60.0])
    net = np.array([-1.0, -1.0, 2.0, -1.0, 2.0, 2.0])
    won, every = net > 0.0, np.ones(6, dtype=np.bool_)
    assert specified_threshold(scores, won, every, net) == honest_threshold(scores, won, every, net) == 47
    # Timeouts at 50 that lose half an R, worth u = 1/6 each: its mean label falls from a half to a quarter.
    late = np.array([True] * 6 + [False] * 6)
    more = (np.append(scores, [50.0] * 6), np.append(won, [False] * 6), late, np.append(net, [-0.5] * 6))
    assert (specified_threshold(*more), honest_threshold(*more)) == (47, 52)
    assert specified_threshold(scores, won & False, every, net) is None
    assert lowest_paying(scores, np.zeros(6), 0.5) == 100


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=3, max_size=60))
def test_on_wins_and_losses_the_specified_threshold_is_the_seed_rules(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in rows])
    won = np.array([win for _, win in rows])
    if won.all() or not won.any():
        return
    net = np.where(won, 2.0, -1.0)
    every = np.ones(len(rows), dtype=np.bool_)
    known = estimate(scores, won, net).threshold
    assert specified_threshold(scores, won, every, net) == honest_threshold(scores, won, every, net) == known


def test_endings_count_open_positions_as_open() -> None:
    refused = {"kind": Kind.PHANTOM}
    rows = [
        trade(0),
        lost(1, ambiguous=True),
        trade(2, outcome="timeout", exit_reason="timeout", gross_r=0.0, mark_r=0.6, exit_ts=START + 12 * HOUR_MS),
        lost(3, **refused),
        trade(4, outcome="no_fill", exit_reason="no_fill", gross_r=0.0, **refused),
    ]
    waiting = [OpenPosition(START, 3 * HOUR_MS, executed=True)]
    executed, others, everything = endings_of(TradeTable.of(rows), waiting, seed=1)
    assert [one.name for one in (executed, others, everything)] == ["executed", "refused", "always-take"]
    # Two of four end after an hour, one is lost from sight, and the last one left times out.
    assert (executed.n, executed.n_open, executed.horizon_ms) == (4, 1, 10 * HOUR_MS)
    assert [share.value for _, share in executed.shares] == pytest.approx([0.25, 0.25, 0.5, 0.0])
    assert executed.win_rate == 0.5
    # Ten basis points of 100 at a risk of 2 are 0.05 R.
    assert executed.mean_r.value == pytest.approx((2.0 - 1.0 + 0.6) / 3 - 0.05)
    assert executed.bounds.stop_first_r == pytest.approx(executed.mean_r.value)
    assert executed.bounds.target_first_r == pytest.approx(executed.mean_r.value + 1.0)
    assert (executed.ambiguous, others.n, others.win_rate) == (1, 1, 0.0)
    assert everything.n == 5
    assert endings_of(TradeTable.of(rows[4:]), waiting, seed=1) == ()
