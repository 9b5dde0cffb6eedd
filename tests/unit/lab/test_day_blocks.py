"""Blocks of days: their length, what a resample keeps, and a band that holds a whole curve."""

from __future__ import annotations

import numpy as np
import pytest

from lab.day_blocks import block_length, drawn_days, middle, resampled, simultaneous_band
from lab.fixed_b import Days, critical_value, day_mean


def leaning(days: int, keep: float, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    series = rng.normal(size=days)
    for place in range(1, days):
        series[place] += keep * series[place - 1]
    return series


def test_the_longer_a_series_leans_the_longer_its_blocks() -> None:
    rng = np.random.default_rng(2)
    lengths = [np.mean([block_length(leaning(400, keep, rng)) for _ in range(40)]) for keep in (0.0, 0.3, 0.8)]
    # Politis and White: for an AR(1) the best length grows with (2 keep / (1 - keep^2))^(2/3) n^(1/3).
    assert lengths[0] < lengths[1] < lengths[2]
    assert 3.0 < lengths[1] < 10.0
    assert 12.0 < lengths[2] < 50.0
    assert block_length(np.zeros(100)) == block_length(np.arange(5.0)) == 1


def test_blocks_are_runs_of_days_that_go_round() -> None:
    (places,) = drawn_days(10, 4, np.random.default_rng(0), 50, 50)
    assert places.shape == (50, 10)
    steps = np.diff(places, axis=1) % 10
    assert np.all(np.delete(steps, [3, 7], axis=1) == 1)
    assert set(places.ravel()) == set(range(10))


def test_resampled_totals_are_totals_of_days() -> None:
    days = Days.of(np.array([0, 0, 1, 2]), np.array([1.0, 2.0, 4.0, 8.0]))
    sums, counts = resampled(days, length=3, rng=np.random.default_rng(1), resamples=64)
    # A block as long as the history is the history, begun elsewhere.
    assert set(sums[:, 0]) == {15.0}
    assert set(counts) == {4.0}


def test_one_series_has_the_band_of_its_interval() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(250, 1))
    band = simultaneous_band(Days.of(np.arange(250), values), rng=rng, resamples=4_000)
    assert band.multiple == pytest.approx(critical_value(0.975, 0.1), rel=0.12)
    interval = day_mean(np.arange(250), values[:, 0]).interval
    assert band.at(0).low == pytest.approx(interval.low, abs=0.15 * (interval.high - interval.low))


def test_more_curves_make_a_wider_band_and_equal_ones_do_not() -> None:
    values = np.random.default_rng(6).normal(size=(200, 12))

    def multiple(columns: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
        return simultaneous_band(Days.of(np.arange(200), columns), rng=np.random.default_rng(1)).multiple

    alone, many = multiple(values[:, :1]), multiple(values)
    assert many > alone + 0.4
    assert multiple(np.repeat(values[:, :1], 12, axis=1)) == pytest.approx(alone)


def test_what_never_moves_has_no_bounds_and_excludes_nothing() -> None:
    values = np.stack([np.zeros(60), np.random.default_rng(1).normal(size=60)], axis=1)
    band = simultaneous_band(Days.of(np.arange(60), values), rng=np.random.default_rng(0))
    assert not band.at(0).known
    assert band.at(1).known
    assert band.holds(np.array([9.0, float(band.value[1])]))
    assert not band.holds(np.array([0.0, 9.0]))
    few = simultaneous_band(Days.of(np.arange(5), values[:5]), rng=np.random.default_rng(0))
    assert not few.at(1).known


def test_the_middle_of_draws() -> None:
    found = middle(np.arange(1_001.0))
    assert (found.low, found.high) == pytest.approx((25.0, 975.0))
    assert not middle(np.full(10, 3.0)).known
    assert not middle(np.array([1.0, np.nan, np.nan, np.nan])).known
