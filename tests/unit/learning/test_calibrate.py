"""Calibrators: monotone, never certain, and measured on rows they have not seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from learning.calibrate import (
    RUNGS,
    Lives,
    choose,
    cross_calibrated,
    fit_as_specified,
    fit_by_evidence,
    fit_for,
    ladder,
)
from learning.metrics import log_loss
from learning.rungs import UNCHANGED, fit_isotonic, fit_platt
from learning.split import folds
from scorer.calibration import Calibrator, logistic
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def world(n: int, seed: int, *, slope: float = 1.0, shift: float = 0.0) -> tuple[FloatArray, BoolArray]:
    """Forecasts whose true probability is sigmoid(slope·logit + shift)."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n) * 1.5
    return logistic(logit), rng.random(n) < logistic(slope * logit + shift)


def test_isotonic_by_hand() -> None:
    raw = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    won = np.array([False, True, False, True, True, True])
    found = fit_isotonic(raw, won)
    # Steps: {0.1} 0/1, {0.2, 0.3} 1/2, {0.4, 0.5, 0.6} 3/3; each with one record more at the base rate 4/6.
    base = 4 / 6
    wanted = [base / 2, (1 + base) / 3, (1 + base) / 3, (3 + base) / 4, (3 + base) / 4]
    assert found.raw.tolist() == [0.1, 0.2, 0.3, 0.4, 0.6]
    assert found.calibrated.tolist() == pytest.approx(wanted)
    assert found.apply(np.array([0.0, 0.15, 0.25, 1.0])).tolist() == pytest.approx(
        [wanted[0], (wanted[0] + wanted[1]) / 2, wanted[1], wanted[4]]
    )


def test_a_small_step_drawn_past_its_neighbour_joins_it() -> None:
    # One win above a step of 99 in 100: drawn towards 0.99, the single record must not fall below the hundred.
    raw = np.concatenate((np.linspace(0.5, 0.6, 200), [0.9]))
    won = np.concatenate((np.arange(200) % 10 != 0, [True]))
    found = fit_isotonic(raw, won)
    assert np.all(np.diff(found.calibrated) >= 0.0)


@pytest.mark.parametrize("fit", [*RUNGS.values(), fit_by_evidence])
@pytest.mark.parametrize("n", [12, 60, 299, 300, 1999, 2000])
@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.5, 2.0])
def test_monotone_and_never_certain(fit: Callable[[FloatArray, BoolArray], Calibrator], n: int, slope: float) -> None:
    raw, won = world(n, seed=n, slope=slope)
    said = fit(raw, won).apply(np.linspace(0.0, 1.0, 501))
    assert np.all(np.diff(said) >= -1e-12)
    assert said.min() >= 0.0
    assert said.max() <= 1.0
    inside = fit(raw, won).apply(raw)
    assert inside.min() > 0.0
    assert inside.max() < 1.0


@pytest.mark.parametrize("fit", [*RUNGS.values(), fit_by_evidence])
def test_separated_classes_stay_finite(fit: Callable[[FloatArray, BoolArray], Calibrator]) -> None:
    raw = np.concatenate((np.linspace(0.0, 0.3, 30), np.linspace(0.7, 1.0, 30)))
    said = fit(raw, raw > 0.5).apply(raw)
    assert np.isfinite(said).all()
    assert said[0] < 0.1 < 0.9 < said[-1]


@pytest.mark.parametrize(
    ("n", "rungs"),
    [
        (299, {"platt"}),
        (300, {"platt", "beta", "quadratic"}),
        (1_999, {"platt", "beta", "quadratic"}),
        (2_000, {"platt", "beta", "quadratic", "spline", "centred_isotonic", "isotonic"}),
    ],
)
def test_the_ladder(n: int, rungs: set[str]) -> None:
    assert set(ladder(n)) == rungs
    chosen = choose(*world(n, seed=3, slope=0.4, shift=0.5))
    assert set(chosen.log_loss) == rungs | {"none"}
    assert chosen.rung in rungs
    assert chosen.log_loss[chosen.rung] == min(chosen.log_loss.values())
    assert chosen.doubt > 1.0


@pytest.mark.parametrize("n", [150, 600, 2_500])
def test_forecasts_that_are_right_are_left_alone(n: int) -> None:
    """Beyond doubt is asked for: of twelve true forecasters most keep what they said."""
    kept = sum(fit_by_evidence(*world(n, seed=seed)) == UNCHANGED for seed in range(12))
    assert kept >= 8


def test_what_bends_in_one_place_is_no_line() -> None:
    """A forecaster that is right above even odds and blind below: only a curve finds it."""
    rng = np.random.default_rng(1)
    logit = rng.normal(size=6_000) * 1.5
    won = rng.random(6_000) < logistic(np.maximum(logit, 0.0))
    chosen = choose(logistic(logit), won)
    assert chosen.rung in {"quadratic", "spline", "centred_isotonic", "beta", "isotonic"}
    assert chosen.log_loss["spline"] < chosen.log_loss["platt"] - 0.001


def test_the_specified_map_demotes_itself_on_few_rows() -> None:
    worse = [choose(*world(2_000, seed=seed, slope=0.8)).log_loss for seed in range(5)]
    assert sum(cost["isotonic"] > cost["platt"] for cost in worse) >= 4


def test_inner_blocks_are_purged_when_lives_are_known() -> None:
    """Labels that live for half of all time leave nothing to learn from, so nothing may be changed."""
    raw, won = world(200, seed=3, slope=0.3, shift=0.5)
    places = np.arange(200, dtype=np.int64)
    assert choose(raw, won, Lives(places, places)).rung == "platt"
    everything = Lives(np.zeros(200, dtype=np.int64), places + 200)
    assert choose(raw, won, everything).rung == "none"
    assert choose(raw, won, everything).doubt == 0.0


def test_it_finds_the_truth() -> None:
    found = fit_by_evidence(*world(1_999, seed=5, slope=0.5, shift=-0.4))
    place = np.linspace(0.1, 0.9, 9)
    truth = logistic(0.5 * (np.log(place) - np.log1p(-place)) - 0.4)
    assert found.apply(place) == pytest.approx(truth, abs=0.04)


def test_platts_map_finds_its_own_numbers() -> None:
    found = fit_platt(*world(20_000, seed=5, slope=0.5, shift=-0.4))
    assert (found.rise, found.fall, found.shift) == pytest.approx((0.5, 0.5, -0.4), abs=0.05)


def test_an_inverted_ranking_becomes_the_base_rate() -> None:
    raw, won = world(200, seed=6, slope=-1.0)
    said = fit_by_evidence(raw, won).apply(np.array([0.1, 0.9]))
    assert said.tolist() == pytest.approx([won.mean(), won.mean()])


def test_each_method_has_its_twin() -> None:
    assert fit_for(Method.SPEC) is fit_as_specified
    assert fit_for(Method.EVIDENCE) is fit_by_evidence
    assert {method.other for method in Method} == set(Method)


@pytest.mark.parametrize(
    ("raw", "won"),
    [
        pytest.param([0.1, 0.2], [True, True], id="one class"),
        pytest.param([0.1, math.nan], [True, False], id="NaN"),
        pytest.param([0.1, 1.1], [True, False], id="beyond 1"),
        pytest.param([0.1], [True, False], id="lengths"),
    ],
)
@pytest.mark.parametrize("fit", [*RUNGS.values(), fit_by_evidence])
def test_rows_that_cannot_be(
    fit: Callable[[FloatArray, BoolArray], Calibrator], raw: list[float], won: list[bool]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        fit(np.array(raw), np.array(won))


# --- cross-fitting

SPLIT = folds(range(0, 1000, 10), range(5, 1005, 10), n_blocks=5)


def test_a_block_never_meets_a_calibrator_that_saw_it() -> None:
    raw, won = world(100, seed=7)
    seen: list[FloatArray] = []

    def recording(rows: FloatArray, outcomes: BoolArray, lives: Lives | None = None, /) -> Calibrator:
        seen.append(rows)
        return fit_isotonic(rows, outcomes)

    found = cross_calibrated(raw, won, SPLIT, recording, min_class=5)
    assert found is not None
    assert np.isfinite(found).all()
    assert [len(rows) for rows in seen] == [80] * 5
    for fold, rows in zip(SPLIT, seen, strict=True):
        assert not set(rows.tolist()) & set(raw[fold.test].tolist())
    # Turning a block's own outcomes around leaves its own calibrated values where they were.
    turned = won.copy()
    turned[SPLIT[2].test] = ~turned[SPLIT[2].test]
    other = cross_calibrated(raw, turned, SPLIT, fit_as_specified, min_class=5)
    assert other is not None
    assert other[SPLIT[2].test].tolist() == found[SPLIT[2].test].tolist()
    assert other.tolist() != found.tolist()


def test_in_sample_calibration_flatters_and_cross_fitting_does_not() -> None:
    raw, _ = world(100, seed=8)
    noise = np.random.default_rng(9).random(100) < 0.5
    cross = cross_calibrated(raw, noise, SPLIT, fit_as_specified, min_class=5)
    assert cross is not None
    assert log_loss(fit_isotonic(raw, noise).apply(raw), noise) < math.log(2) < log_loss(cross, noise)


def test_rows_without_an_answer_stay_without() -> None:
    raw, won = world(100, seed=10)
    raw[SPLIT[0].test] = np.nan
    found = cross_calibrated(raw, won, SPLIT, fit_as_specified, min_class=5)
    assert found is not None
    assert np.isnan(found).tolist() == np.isnan(raw).tolist()


def test_too_few_rows_of_a_class_for_one_block_is_no_calibrator() -> None:
    raw, won = world(100, seed=11)
    won[:] = False
    won[SPLIT[1].test[:10]] = True
    won[SPLIT[3].test[:4]] = True
    assert cross_calibrated(raw, won, SPLIT, fit_as_specified, min_class=5) is None
    assert cross_calibrated(raw, won, SPLIT, fit_as_specified, min_class=4) is not None
