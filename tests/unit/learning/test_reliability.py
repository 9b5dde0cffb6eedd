"""Reliability figures by hand, and against forecasters whose truth is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.reliability import corp_curve, reliability
from learning.venn_abers import fit_venn_abers
from scorer.calibration import logistic


def test_by_hand() -> None:
    # Two bins: 0.25 four times with one win, 0.75 four times with two.
    said = np.array([0.25] * 4 + [0.75] * 4)
    won = np.array([True, False, False, False, True, True, False, False])
    found = reliability(said, won)
    assert found.ece == pytest.approx(0.5 * 0.0 + 0.5 * 0.25)
    assert found.mce == pytest.approx(0.25)
    # Gaps 0 and .25; variances (3/16)/3 and (1/4)/3.
    assert found.squared_error == pytest.approx(0.5 * (0.0 - 0.0625) + 0.5 * (0.0625 - 0.25 / 3))
    assert found.debiased_ece < 0.0
    assert found.brier == pytest.approx((0.5625 + 3 * 0.0625 + 2 * 0.0625 + 2 * 0.5625) / 8)
    # Recalibrated to .25 and .5: 3/8 · (.25·.75 twice over four) …
    best = (4 * 0.25 * 0.75 + 4 * 0.25) / 8
    assert found.miscalibration == pytest.approx(found.brier - best)
    assert found.uncertainty == pytest.approx(3 / 8 * 5 / 8)
    assert found.discrimination == pytest.approx(found.uncertainty - best)
    # Σ(y − p)(1 − 2p) = (0)(.5) + (−1)(−.5); variance 8 · .25 · .1875.
    assert found.spiegelhalter_z == pytest.approx(0.5 / math.sqrt(8 * 0.25 * 0.1875))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=60))
def test_the_parts_make_the_score(rows: list[tuple[float, bool]]) -> None:
    said, won = np.array([p for p, _ in rows]), np.array([w for _, w in rows])
    found = reliability(said, won)
    assert found.miscalibration - found.discrimination + found.uncertainty == pytest.approx(found.brier, abs=1e-9)
    assert found.miscalibration >= -1e-12
    assert found.discrimination >= -1e-12
    assert 0.0 <= found.ece <= found.mce + 1e-12
    assert found.record["n"] == len(rows)


def forecaster(n: int, seed: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n) * 0.7 - 0.3
    return logistic(slope * logit), rng.random(n) < logistic(logit)


def test_who_is_right_is_not_blamed() -> None:
    held = sum(
        found.squared_error_low <= 0.0 <= found.squared_error_high
        for found in (reliability(*forecaster(300, seed)) for seed in range(60))
    )
    assert held >= 54
    # The plain error of a perfect forecaster is far from nothing, and the null says so.
    found = reliability(*forecaster(200, 1))
    assert found.ece > 0.03
    assert found.ece_null == pytest.approx(found.ece, abs=0.04)


def test_who_exaggerates_is_found_out() -> None:
    found = reliability(*forecaster(3_000, 1, slope=3.0))
    assert found.squared_error_low > 0.0
    assert found.spiegelhalter_p < 1e-6
    assert found.miscalibration > 0.02


def test_spiegelhalter_is_standard_normal_for_who_is_right() -> None:
    z = np.array([reliability(*forecaster(400, seed)).spiegelhalter_z for seed in range(80)])
    assert abs(z.mean()) < 0.4
    assert 0.75 < z.std() < 1.25


def test_the_curve_without_bins_rises() -> None:
    forecast, rate = corp_curve(np.array([0.2, 0.4, 0.4, 0.9]), np.array([True, False, False, True]))
    assert forecast.tolist() == [0.2, 0.4, 0.9]
    assert rate.tolist() == pytest.approx([1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize(("said", "won"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([math.nan], [True])])
def test_what_is_no_forecast_is_refused(said: list[float], won: list[bool]) -> None:
    with pytest.raises(ValueError, match="forecast"):
        reliability(np.array(said), np.array(won, dtype=np.bool_))


def test_certainty_has_no_z_and_still_a_record() -> None:
    found = reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert math.isnan(found.spiegelhalter_z)
    assert found.record["spiegelhalter_z"] is None


# --- two probabilities


def test_two_probabilities_by_hand() -> None:
    # Three forecasts, one row each: loss, win, win. One more loss at the lowest: 0 of 2. One more win: 1 of 2.
    found = fit_venn_abers(np.array([0.2, 0.5, 0.8]), np.array([False, True, True]))
    low, high = found.bounds(0.1)
    assert low == pytest.approx(1e-6)
    assert high == pytest.approx(0.5)
    low, high = found.bounds(0.9)
    # One more loss at the highest pools with it and the middle: 2 of 3.
    assert low == pytest.approx(2 / 3)
    assert high == pytest.approx(1.0, abs=1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=2, max_size=80))
def test_bounds_rise_and_hold_what_they_must(rows: list[tuple[float, bool]]) -> None:
    raw, won = np.array([p for p, _ in rows]), np.array([w for _, w in rows])
    if won.all() or not won.any():
        return
    found = fit_venn_abers(raw, won)
    bounds = [found.bounds(p) for p in np.linspace(0.0, 1.0, 41).tolist()]
    assert all(0.0 < low <= high < 1.0 for low, high in bounds)
    assert all(one[0] <= other[0] and one[1] <= other[1] for one, other in pairwise(bounds))


def test_more_rows_leave_less_open() -> None:
    few, many = (fit_venn_abers(*forecaster(n, 3)) for n in (60, 3_000))
    width = [
        np.mean([high - low for low, high in (found.bounds(p) for p in (0.3, 0.45, 0.6))]) for found in (few, many)
    ]
    assert width[1] < 0.5 * width[0]
