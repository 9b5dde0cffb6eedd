"""Intervals and tests of gate cells: published tables, worked by hand, and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from gates.intervals import fisher, interaction, newcombe, pooled_z, shrunk, wilson


# Newcombe (1998), Table II, method 10.
@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        pytest.param((56, 70, 48, 80), 0.0524, 0.3339, id="a"),
        pytest.param((9, 10, 3, 10), 0.1705, 0.8090, id="b"),
        pytest.param((6, 7, 2, 7), 0.0582, 0.8062, id="c"),
        pytest.param((5, 56, 0, 29), -0.0381, 0.1926, id="d"),
        pytest.param((0, 10, 0, 20), -0.1611, 0.2775, id="e"),
        pytest.param((10, 10, 0, 10), 0.6075, 1.0, id="h"),
    ],
)
def test_newcombe_as_published(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    found = newcombe(*counts)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_wilson_by_hand() -> None:
    # 1 of 4 at 95 %: centre (0.25 + 1.9207/4)/(1 + 3.8415/4) = 0.3725, reach 0.3264.
    found = wilson(1, 4)
    assert [found.low, found.high] == pytest.approx([0.0456, 0.6994], abs=5e-5)
    assert wilson(0, 9).low == 0.0
    assert wilson(9, 9).high == 1.0
    assert math.isnan(wilson(0, 0).low)
    assert not wilson(0, 0).excludes_zero
    with pytest.raises(ValueError, match="wins"):
        wilson(3, 2)


@given(n=st.integers(1, 80), other_n=st.integers(1, 80), share=st.floats(0, 1), other=st.floats(0, 1))
def test_fisher_is_that_of_scipy_and_mid_p_lies_below(n: int, other_n: int, share: float, other: float) -> None:
    wins, other_wins = round(share * n), round(other * other_n)
    told = fisher(wins, n, other_wins, other_n)
    wanted = fisher_exact([[wins, n - wins], [other_wins, other_n - other_wins]]).pvalue
    assert told.exact == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    assert 0.0 < told.mid <= told.exact


def test_the_score_test_by_hand() -> None:
    # 30 of 50 against 20 of 50: pooled .5, error √(.25·.04) = .1, z = 2.
    found = pooled_z(*(np.array([count]) for count in (30, 50, 20, 50)))
    assert found[0] == pytest.approx(2.0)
    assert math.isnan(pooled_z(*(np.array([count]) for count in (5, 5, 5, 5)))[0])
    assert math.isnan(pooled_z(*(np.array([count]) for count in (0, 0, 5, 9)))[0])


def test_an_interaction_by_hand() -> None:
    # Alone neither moves anything, together they win 80 of 100.
    wins = np.array([[50, 50], [50, 80]])
    n = np.full((2, 2), 100)
    told = interaction(wins, n)
    assert told.additive == pytest.approx(0.30)
    half = math.log(80.5 / 20.5)
    assert told.log_odds == pytest.approx(half)
    # Four cells: 1/(101·p(1−p)) with p = .5 thrice and 80.5/101 once.
    spread = 3 / (101 * 0.25) + 1 / (101 * (80.5 / 101) * (20.5 / 101))
    assert told.log_odds_se == pytest.approx(math.sqrt(spread))
    assert told.additive_z > 3.0
    assert told.log_odds_z > 3.0


def test_effects_that_only_add_up_are_no_interaction() -> None:
    wins = np.array([[[40, 45], [50, 55]], [[45, 50], [55, 60]]])
    told = interaction(wins, np.full((2, 2, 2), 100))
    assert told.additive == pytest.approx(0.0)


@pytest.mark.parametrize("n", [np.zeros((2, 2)), np.ones((2, 3)), np.ones(2)])
def test_an_interaction_needs_all_its_cells(n: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cells"):
        interaction(np.zeros_like(n), n)


def test_shrinking_by_hand() -> None:
    # Mean δ² = .02, mean se² = .01: τ² = .01, so half is kept.
    delta, se = shrunk(np.array([0.1, math.sqrt(0.03), math.nan]), np.array([0.1, 0.1, 0.1]))
    assert delta[:2] == pytest.approx([0.05, math.sqrt(0.03) / 2])
    assert se[:2] == pytest.approx([0.1 * math.sqrt(0.5)] * 2)
    assert math.isnan(delta[2])
    # All spread is noise: nothing is left.
    assert shrunk(np.array([0.01, -0.01]), np.array([0.1, 0.1]))[0].tolist() == [0.0, 0.0]


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), min_size=1, max_size=30))
def test_shrinking_never_overshoots(rows: list[tuple[float, float]]) -> None:
    delta, se = (np.array(column) for column in zip(*rows, strict=True))
    smaller, less = shrunk(delta, se)
    assert np.all(np.abs(smaller) <= np.abs(delta) + 1e-12)
    assert np.all(less <= se + 1e-12)
