"""Day-clustered estimates and the prediction-powered correction, worked by hand and against independent ways."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.clustered import clustered, clustered_mean, regress
from lab.prediction_powered import Tried, Untried, prediction_powered
from lab.statistics import t_quantile

TWO_DAYS = np.array([1, 1, 2, 2])


def test_the_error_of_a_mean_is_that_of_its_days() -> None:
    # Day sums of (x - mean) / n are -1/2 and 1/2: variance 2 * (1/4 + 1/4).
    found = clustered_mean(TWO_DAYS, np.array([0.0, 0.0, 2.0, 2.0]), confidence=0.90)
    assert (found.value, found.n, found.n_days) == (1.0, 4, 2)
    assert found.se == pytest.approx(1.0)
    half = t_quantile(0.95, 1)
    assert found.interval.low == pytest.approx(1.0 - half)
    assert found.interval.high == pytest.approx(1.0 + half)
    assert not found.stands_out


def test_with_a_row_a_day_it_is_students() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 50)
    found = clustered_mean(np.arange(50), values)
    assert found.se == pytest.approx(float(np.std(values, ddof=1)) / math.sqrt(50))
    assert found.stands_out == (abs(found.value) > 2 * found.se)


def test_one_day_or_no_spread_gives_no_interval() -> None:
    assert not clustered_mean(np.array([1, 1]), np.array([0.0, 1.0])).interval.known
    still = clustered_mean(TWO_DAYS, np.ones(4))
    assert (still.value, still.interval.known, still.stands_out) == (1.0, False, False)
    empty = clustered_mean(np.array([], dtype=np.int64), np.array([]))
    assert math.isnan(empty.value)
    with pytest.raises(ValueError, match="one influence"):
        clustered(0.0, TWO_DAYS, np.zeros(3), 2, n=3)


def test_a_regression_finds_its_line_and_the_error_of_its_days() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=60)
    values = 0.5 - 0.2 * x + rng.normal(0.0, 0.3, 60)
    design = np.stack([np.ones(60), x], axis=1)
    found = regress(np.arange(60), values, design, ("one", "x"))
    assert found is not None
    beta = np.linalg.lstsq(design, values, rcond=None)[0]
    assert [term.value for term in found.coefficients] == pytest.approx(list(beta))
    # White's errors with n / (n - k): a row a day.
    errors = (values - design @ beta) ** 2
    bread = np.linalg.inv(design.T @ design)
    meat = design.T @ (design * errors[:, None])
    expected = np.sqrt(np.diag(bread @ meat @ bread) * 60 / 58)
    assert [term.se for term in found.coefficients] == pytest.approx(list(expected))
    assert found.predict(design) == pytest.approx(design @ beta)


def test_what_cannot_be_told_apart_is_not_regressed() -> None:
    ones = np.ones((40, 2))
    assert regress(np.arange(40), np.arange(40.0), ones, ("a", "b")) is None
    assert regress(np.zeros(40, dtype=np.int64), np.arange(40.0), ones[:, :1], ("a",)) is None
    with pytest.raises(ValueError, match="one value"):
        regress(np.arange(3), np.arange(3.0), ones, ("a", "b"))


def constant(n: int, value: float = 0.02) -> np.ndarray:
    return np.full(n, value)


def test_by_hand() -> None:
    tried = Tried(np.array([1, 2]), np.array([1.8, -1.2]), np.array([2.0, -1.0]), constant(2))
    untried = Untried(np.array([1, 2, 3, 4]), np.array([2.0, -1.0, -1.0, -1.0]), constant(4))
    found = prediction_powered(tried, untried)
    # Cov = 9/4, Var of all six phantoms (2, 2, -1, -1, -1, -1) = 2; 2.25 / (2 * 1.5) = 3/4.
    assert found.tuning == pytest.approx(0.75)
    # Three quarters of the untried, and what the tried had more than three quarters of their phantoms.
    assert found.corrected.value == pytest.approx(-0.1875 - 0.075)
    assert found.live_only.value == pytest.approx(0.3)
    assert found.phantom_only.value == pytest.approx(0.0)
    # What each of the four days adds, first of the tried and then of the untried.
    days = [0.1875 + 0.421875, -0.1875 - 0.140625, -0.140625, -0.140625]
    assert found.corrected.se == pytest.approx(math.sqrt(2 * sum(day**2 for day in days)))
    assert (found.corrected.n, found.corrected.n_days) == (2, 2)


def test_a_bias_of_all_phantoms_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    phantom = rng.normal(size=2_000)
    live = phantom - 0.25 + rng.normal(0.0, 0.05, 2_000)
    day, drawn = np.arange(2_000) // 10, rng.random(2_000) < 0.05
    p = constant(2_000, 0.05)
    found = prediction_powered(
        Tried(day[drawn], live[drawn], phantom[drawn], p[drawn]), Untried(day[~drawn], phantom[~drawn], p[~drawn])
    )
    assert found.corrected.interval.holds(float(live.mean()))
    assert not found.phantom_only.interval.holds(float(live.mean()))
    assert found.corrected.se < 0.5 * found.live_only.se


def test_phantoms_that_know_nothing_are_not_leaned_on() -> None:
    rng = np.random.default_rng(4)
    n = 400
    live, useless = rng.normal(size=n), -rng.normal(size=n)
    tried = Tried(np.arange(n), live, np.where(live > 0, -1.0, 1.0) + useless * 0, constant(n, 0.5))
    found = prediction_powered(tried, Untried(np.arange(n), useless, constant(n, 0.5)))
    # They point the wrong way: held to nothing rather than to less than nothing.
    assert found.tuning == 0.0
    assert found.corrected.value == pytest.approx(found.live_only.value)


def test_weights_make_up_for_a_rate_that_changed() -> None:
    # The first day had twice the rate: its tried stand for half as many each.
    tried = Tried(np.array([1, 1, 2]), np.array([1.0, 1.0, -1.0]), np.zeros(3), np.array([0.04, 0.04, 0.02]))
    untried = Untried(np.array([1, 2]), np.zeros(2), np.array([0.04, 0.02]))
    assert prediction_powered(tried, untried).corrected.value == pytest.approx(0.0)
    assert float(np.mean(tried.live_r)) == pytest.approx(1 / 3)


def test_nothing_tried_and_nothing_left() -> None:
    none = np.array([], dtype=np.int64)
    nothing = Tried(none, np.array([]), np.array([]), np.array([]))
    left = Untried(np.array([1, 2]), np.array([1.0, -1.0]), constant(2))
    found = prediction_powered(nothing, left)
    assert math.isnan(found.corrected.value)
    assert found.phantom_only.value == 0.0
    some = Tried(np.array([1, 2]), np.array([1.0, -1.0]), np.array([1.0, -1.0]), constant(2))
    assert prediction_powered(some, Untried(none, np.array([]), np.array([]))).corrected.value == 0.0


def test_what_no_draw_could_give_is_refused() -> None:
    day = np.array([1])
    for p in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="propensity"):
            Tried(day, np.zeros(1), np.zeros(1), np.array([p]))
        with pytest.raises(ValueError, match="propensity"):
            Untried(day, np.zeros(1), np.array([p]))
    with pytest.raises(ValueError, match="expected"):
        Tried(day, np.zeros(2), np.zeros(1), np.array([0.5]))
    with pytest.raises(ValueError, match="expected"):
        Untried(day, np.zeros(2), np.array([0.5]))
