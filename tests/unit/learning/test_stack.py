"""Weights and trust of a stack: worked by hand, prior and data, and what they are learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.split import Walk, folds
from learning.stack import Stacking, cross_stacked
from scorer.ensemble import Stack


def world(n: int, seed: int = 1, edge: float = 1.0) -> tuple[Any, Any]:
    """Forecasts of a head that knows, one that guesses and one that is upside down; and the outcomes."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n) * edge
    truth = 1.0 / (1.0 + np.exp(-signal))
    won = rng.random(n) < truth
    guess = 1.0 / (1.0 + np.exp(-rng.normal(size=n) * edge))
    return np.stack((truth, guess, 1.0 - truth), axis=1), won


def test_weights_of_two_heads_by_hand() -> None:
    # Head one says 0.8 of what came in all four rows, head two 0.5. With weight w on head one and one record of prior
    # each, 4·ln(.5 + .3w) + ln w + ln(1 − w) is largest where 1.2/(.5 + .3w) + 1/w − 1/(1 − w) = 0, which times its
    # denominators is 1.8w² − 0.5w − 0.5 = 0.
    said = np.array([[0.8, 0.5], [0.8, 0.5], [0.2, 0.5], [0.2, 0.5]])
    won = np.array([True, True, False, False])
    found = Stacking(prior_records=1.0).fit(said, won).stack_
    wanted = (0.5 + np.sqrt(0.25 + 4 * 1.8 * 0.5)) / 3.6
    assert found.weights[0] == pytest.approx(wanted, abs=1e-9)
    assert found.base == 0.5


def test_trust_by_hand() -> None:
    # Base 0.5; forecasts move by ±0.1 and are right in 6 of 8 rows, outcomes lie ±0.5 away: the slope is
    # (6 − 2)·.05/.08 = 2.5 and its variance (6·.01·.25² + 2·.01·.75²)/.08² = 2.34375.
    said = np.array([[0.6], [0.6], [0.4], [0.6], [0.4], [0.4], [0.6], [0.4]])
    won = np.array([True, True, False, False, False, False, True, True])

    def trust(independent: float) -> float:
        return Stacking().fit(said, won, independent=independent).stack_.trust

    assert trust(1.0) == 1.0  # 2.5 − 2.34375/2.5 is above 1
    assert trust(0.5) == pytest.approx(2.5 - 2 * 2.34375 / 2.5)
    assert trust(0.25) == 0.0
    upside_down = Stacking().fit(1.0 - said, won).stack_
    assert upside_down.trust == 0.0
    assert upside_down.pooled(np.array([[0.9]])).tolist() == [0.5]


def test_few_rows_leave_the_weights_equal_and_many_do_not() -> None:
    few = Stacking().fit(*world(12)).stack_
    many = Stacking().fit(*world(20_000)).stack_
    assert np.abs(few.weights - 1.0 / 3.0).max() < 0.25
    assert many.weights[0] > 0.9
    assert many.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert many.trust == pytest.approx(1.0, abs=0.1)
    heavier = Stacking(prior_records=1e6).fit(*world(20_000)).stack_
    assert np.abs(heavier.weights - 1.0 / 3.0).max() < 0.01


def test_rows_that_share_their_time_tell_less() -> None:
    said, won = world(300, edge=0.6)
    alone, shared = (Stacking().fit(said, won, independent=share).stack_ for share in (1.0, 0.05))
    assert shared.trust < alone.trust
    assert np.ptp(shared.weights) < np.ptp(alone.weights)


@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(1, 4), st.floats(0.01, 1.0))
def test_a_stack_is_always_a_mean_between_its_heads_and_the_base(
    seed: int, n: int, n_members: int, independent: float
) -> None:
    rng = np.random.default_rng(seed)
    said = np.round(rng.random((n, n_members)), 1)
    won = rng.random(n) < 0.5
    won[:2] = (True, False)
    stack = Stacking().fit(said, won, independent=independent).stack_
    assert np.all(stack.weights > 0.0)
    assert stack.weights.sum() == pytest.approx(1.0, abs=1e-12)
    pooled = stack.pooled(said.T)
    both = np.column_stack((said, np.full(n, stack.base)))
    assert np.all((pooled >= both.min(axis=1) - 1e-12) & (pooled <= both.max(axis=1) + 1e-12))
    order = rng.permutation(n)
    other = Stacking().fit(said[order], won[order], independent=independent).stack_
    assert other.weights == pytest.approx(stack.weights, abs=1e-7)


def walk(n: int, kind: Walk) -> Any:
    entry = [place * 10 for place in range(n)]
    return folds(entry, [begin + 5 for begin in entry], n_blocks=5, walk=kind)


def test_a_block_is_pooled_by_what_the_others_said() -> None:
    said, won = world(200)
    split = walk(200, Walk.BLOCKED)
    plain = cross_stacked(said, won, split, independent=1.0, min_class=5)
    turned = won.copy()
    turned[split[2].test] = ~turned[split[2].test]
    other = cross_stacked(said, turned, split, independent=1.0, min_class=5)
    assert other[split[2].test].tolist() == plain[split[2].test].tolist()
    assert other[split[0].test].tolist() != plain[split[0].test].tolist()


def test_walking_forward_nothing_later_is_known() -> None:
    said, won = world(200)
    split = walk(200, Walk.EXPANDING)
    said[:40] = np.nan
    plain = cross_stacked(said, won, split, independent=1.0, min_class=5)
    # Block 0 has no heads; block 1 has heads and no rows to weigh them by.
    assert np.isnan(plain[:80]).all()
    assert np.isfinite(plain[80:]).all()
    turned = won.copy()
    turned[120:] = ~turned[120:]
    other = cross_stacked(said, turned, split, independent=1.0, min_class=5)
    assert other[80:160].tolist()[:40] == plain[80:160].tolist()[:40]
    assert other[160:].tolist() != plain[160:].tolist()


@pytest.mark.parametrize(
    ("said", "won", "share"),
    [
        pytest.param([[0.5], [0.5]], [True, True], 1.0, id="one class"),
        pytest.param([[0.5], [1.5]], [True, False], 1.0, id="no probability"),
        pytest.param([[0.5], [np.nan]], [True, False], 1.0, id="NaN"),
        pytest.param([[0.5]], [True, False], 1.0, id="lengths"),
        pytest.param([[0.5], [0.5]], [True, False], 0.0, id="no independent row"),
        pytest.param([[0.5], [0.5]], [True, False], np.nan, id="no share"),
    ],
)
def test_what_is_refused(said: Any, won: Any, share: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Stacking().fit(np.array(said), np.array(won), independent=share)


@pytest.mark.parametrize(
    ("weights", "base", "trust"),
    [
        ([0.5, 0.6], 0.5, 1.0),
        ([1.5, -0.5], 0.5, 1.0),
        ([np.nan, 1.0], 0.5, 1.0),
        ([1.0], np.nan, 1.0),
        ([1.0], 1.1, 1.0),
        ([1.0], 0.5, -0.1),
        ([1.0], 0.5, np.inf),
        ([], 0.5, 1.0),
    ],
)
def test_stacks_that_are_refused(weights: list[float], base: float, trust: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Stack(np.array(weights, dtype=np.float64), base, trust)
