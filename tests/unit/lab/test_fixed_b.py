"""Means over days: the variance by hand, the critical values by simulation, the interval by its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.fixed_b import POLYNOMIALS, Days, bandwidth, bartlett_variance, critical_value, day_mean
from lab.statistics import t_quantile


@pytest.mark.parametrize("lags", [1, 2, 7, 40, 60])
def test_the_variance_is_the_weighted_sum_of_autocovariances(lags: int) -> None:
    values = np.random.default_rng(3).normal(size=(40, 2))
    values -= values.mean(axis=0)
    for place, series in enumerate(values.T):
        covariance = [float(series[lag:] @ series[: 40 - lag]) / 40 for lag in range(min(lags, 40))]
        by_hand = covariance[0] + 2.0 * sum((1.0 - lag / lags) * covariance[lag] for lag in range(1, len(covariance)))
        assert bartlett_variance(values, lags)[place] == pytest.approx(by_hand)


def test_two_days_by_hand() -> None:
    # Deviations 1 and -1: with two lags 1 + 2 * (1/2) * (-1/2) = 1/2.
    assert bartlett_variance(np.array([[1.0], [-1.0]]), 2) == pytest.approx([0.5])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_published_critical_values_agree_with_simulation(share: float) -> None:
    rng, days, draws = np.random.default_rng(7), 250, 24_000
    found = []
    for _ in range(draws // 2_000):
        values = rng.normal(size=(2_000, days, 1))
        mean = values.mean(axis=1, keepdims=True)
        variance = bartlett_variance(values - mean, round(share * days))
        found.append(mean[:, 0, 0] / np.sqrt(variance[:, 0] / days))
    size = np.abs(np.concatenate(found))
    for probability in POLYNOMIALS:
        beyond = float(np.mean(size > critical_value(probability, share)))
        nominal = 2.0 * (1.0 - probability)
        assert beyond == pytest.approx(nominal, abs=4.5 * math.sqrt(nominal / draws) + 0.06 * nominal)


def test_without_a_bandwidth_the_critical_value_is_the_normal_one() -> None:
    for probability in POLYNOMIALS:
        assert critical_value(probability, 1e-9) == pytest.approx(t_quantile(probability, 10**6), abs=1e-3)
    with pytest.raises(ValueError, match="one of"):
        critical_value(0.5, 0.1)


def test_days_keep_their_order_and_empty_days_count() -> None:
    days = Days.of(np.array([14, 10, 10]), np.array([3.0, 1.0, 2.0]))
    assert (days.first, days.sums[:, 0].tolist(), days.counts.tolist()) == (10, [3.0, 0, 0, 0, 3.0], [2.0, 0, 0, 0, 1])
    assert days.means.tolist() == [2.0]
    assert days.deviations.sum() == pytest.approx(0.0)
    with pytest.raises(ValueError, match="at least one"):
        Days.of(np.array([], dtype=np.int64), np.array([]))


def test_one_row_a_day_gives_the_textbook_interval() -> None:
    values = np.random.default_rng(1).normal(size=100)
    found = day_mean(np.arange(100), values)
    variance = bartlett_variance((values - values.mean())[:, None], bandwidth(100))[0]
    reach = critical_value(0.975, 0.1) * math.sqrt(variance / 100)
    assert (found.interval.low, found.interval.high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    assert found.se == pytest.approx(math.sqrt(variance / 100))
    assert (found.n, found.n_days) == (100, 100)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-5, 5), st.booleans()), min_size=1, max_size=60),
       st.floats(0.1, 10.0), st.integers(-1000, 1000))  # fmt: skip
def test_the_interval_moves_with_its_data(rows: list[tuple[int, float, bool]], scale: float, shift: int) -> None:
    day = np.array([row[0] for row in rows])
    values, taken = np.array([row[1] for row in rows]), np.array([float(row[2]) for row in rows])
    found = day_mean(day, values * taken, taken)
    again = day_mean(day + shift, scale * values * taken, taken)
    if not taken.any():
        assert math.isnan(found.value)
        assert not found.interval.known
        return
    assert found.value == pytest.approx(values[taken > 0].mean(), abs=1e-9)
    assert again.value == pytest.approx(scale * found.value, abs=1e-9)
    if found.interval.known and again.interval.known:
        assert again.se == pytest.approx(scale * found.se, rel=1e-6, abs=1e-9)
        assert found.fan.high <= found.interval_90.high <= found.interval.high
        assert found.effective_days <= found.n_days


def test_few_days_or_no_spread_give_no_interval() -> None:
    assert not day_mean(np.arange(9), np.arange(9.0)).interval.known
    still = day_mean(np.arange(50), np.full(50, 2.0))
    assert (still.value, still.interval.known) == (2.0, False)


def test_leaning_days_count_for_fewer() -> None:
    rng = np.random.default_rng(5)
    moods = np.repeat(rng.normal(size=60), 5)
    found = day_mean(np.arange(300), moods + 0.01 * rng.normal(size=300))
    assert 30 < found.effective_days < 120
    assert found.least_detectable > 2.5 * found.se
