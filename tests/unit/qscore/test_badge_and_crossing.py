"""Where a fit first reaches a level, against the fit itself; and what is shown rather than estimated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.stats import binom, false_discovery_control

from qscore.badge import GRID, binomial_tail, certified_from, holm
from qscore.crossing import NEVER, crossings
from qscore.estimate import Note, first_reached
from qscore.isotonic import rising_means
from qscore.outcomes import SCORES
from tests.support.laws import LAW


def test_crossings_are_those_of_the_fit_on_1000_sets() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(1_000):
        whole = rng.random() < 0.5
        weight = np.zeros(SCORES)
        used = rng.choice(SCORES, int(rng.integers(1, 60)), replace=False)
        weight[used] = rng.integers(1, 6, len(used)) if whole else rng.gamma(1.0, 2.0, len(used)) + 1e-3
        total = weight * (rng.integers(0, 3, SCORES) / 2.0 if whole else rng.normal(0.4, 0.5, SCORES))
        level = float(rng.choice((0.25, 0.5, rng.uniform(0.05, 0.95))))
        cells = np.flatnonzero(weight)
        curve = np.interp(np.arange(SCORES), cells, np.clip(rising_means(total[cells], weight[cells]), 0.0, 1.0))
        threshold, note = first_reached(level, curve)
        expected = NEVER if note is Note.NEVER_REACHED else threshold
        assert crossings(total, weight, np.array(level)) == expected
        seen.add(expected if expected in (0, NEVER) else "between")
    assert seen == {0, NEVER, "between"}


def test_no_record_reaches_nothing() -> None:
    assert crossings(np.zeros((2, SCORES)), np.zeros((2, SCORES)), np.array([0.1, 0.9])).tolist() == [NEVER, NEVER]


def test_pooling_agrees_with_scipy_for_fractions_and_weights() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = int(rng.integers(1, 80))
        weights, means = rng.gamma(1.0, 3.0, n) + 1e-3, rng.normal(0.4, 0.7, n)
        peer = isotonic_regression(means, weights=weights).x
        np.testing.assert_allclose(rising_means(means * weights, weights), peer, atol=1e-10)


@LAW
@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.0, 1.0))
def test_the_tail_is_exact(hits: int, more: int, p: float) -> None:
    n = hits + more
    assert binomial_tail(hits, n, p) == pytest.approx(float(binom.sf(hits - 1, n, p)), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("hits", "n", "p"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 1.5)])
def test_a_tail_of_nothing_possible_is_refused(hits: int, n: int, p: float) -> None:
    with pytest.raises(ValueError, match="hits in 0"):
        binomial_tail(hits, n, p)


@pytest.mark.parametrize(
    ("values", "rejected"),
    [
        ([0.011, 0.02, 0.04, 0.9, 0.03], [True, True, True, False, True]),
        ([0.021, 0.0001, 0.0001, 0.0001, 0.0001], [True] * 5),
        ([0.021] * 5, [False] * 5),
        ([0.011, 0.034, 0.9, 0.9, 0.001], [True, False, False, False, True]),
        ([0.02, 0.025, 0.033, 0.05, 0.1], [True] * 5),
    ],
)
def test_holm_worked_by_hand_at_ten_percent(values: list[float], rejected: list[bool]) -> None:
    assert holm(values, 0.10) == rejected


@LAW
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_rejects_no_more_than_false_discovery_control(values: list[float]) -> None:
    by_rate = false_discovery_control(values, method="bh") <= 0.10
    assert all(loose or not strict for strict, loose in zip(holm(values, 0.10), by_rate.tolist(), strict=True))


def test_a_badge_begins_where_wins_are_shown_to_pay() -> None:
    scores = np.repeat([45.0, 55.0, 65.0, 75.0], 40)
    won = np.concatenate([np.arange(40) < wins for wins in (0, 0, 30, 34)])
    ones = np.ones(len(scores))
    # At 40: 64 of 160 against 0.4, nothing shown. At 50: 64 of 120, exact tail about 0.002.
    assert certified_from(scores, won, ones, 0.4) == 50
    assert certified_from(scores, won, ones, 0.55) == 60
    assert certified_from(scores, won, ones, 0.9) is None
    assert certified_from(scores[:0], won[:0], ones[:0], 0.4) is None


def test_weights_take_away_from_what_is_shown() -> None:
    scores, won = np.full(30, 85.0), np.arange(30) < 20
    assert certified_from(scores, won, np.ones(30), 0.4) == GRID[0]
    uneven = np.where(np.arange(30) % 3 == 0, 10.0, 0.5)
    assert certified_from(scores, won, uneven, 0.4) is None
    assert certified_from(scores, won, np.full(30, 0.1), 0.4) == GRID[0], "the unit of weights means nothing"


def test_badges_are_seldom_wrong_where_nothing_pays() -> None:
    rng = np.random.default_rng(3)
    wrong = sum(
        certified_from(rng.uniform(30.0, 95.0, 120), rng.random(120) < 0.4, np.ones(120), 0.4) is not None
        for _ in range(600)
    )
    assert binomial_tail(wrong, 600, 0.10) > 0.001
