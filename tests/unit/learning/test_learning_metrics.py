"""Figures worked by hand, and against scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from learning.metrics import auc, calibration_curve, log_loss, measure, wilson
from learning.promote import Decline, promote


def test_figures_by_hand() -> None:
    found = measure(np.array([0.8, 0.6, 0.4, 0.2]), np.array([True, False, True, False]))
    assert (found.n, found.wins, found.base_rate) == (4, 2, 0.5)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.36 + 0.04) / 4)
    assert found.brier_skill == pytest.approx(1 - 0.2 / 0.25)
    assert found.log_loss == pytest.approx(-(2 * math.log(0.8) + 2 * math.log(0.4)) / 4)
    assert found.base_log_loss == pytest.approx(math.log(2))
    # Of four pairs (win, loss) three are in order.
    assert found.auc == 0.75


def test_figures_against_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    p = np.round(rng.random(500), 2)
    won = rng.random(500) < p
    found = measure(p, won)
    assert found.auc == pytest.approx(roc_auc_score(won, p), abs=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(won, p), abs=1e-12)
    assert found.log_loss == pytest.approx(sklearn_log_loss(won, np.clip(p, 1e-15, 1 - 1e-15)), abs=1e-9)
    assert sum(entry.n for entry in found.curve) == 500
    # Perfect forecasts: the debiased reliability is noise around nothing, and the biased one is not.
    biased = sum(entry.n / 500 * (entry.win_rate - entry.mean_probability) ** 2 for entry in found.curve)
    assert abs(found.reliability) < biased


@pytest.mark.parametrize("won", [[True, True], [False, False]])
def test_one_class_has_no_auc_and_no_skill(won: list[bool]) -> None:
    found = measure(np.array([0.4, 0.6]), np.array(won))
    assert found.auc is None
    assert found.brier_skill == 0.0
    declined = promote(found)
    assert declined is not None
    assert declined.code is Decline.UNMEASURED


def test_ties_count_half() -> None:
    assert auc(np.array([0.5, 0.5, 0.5]), np.array([True, False, True])) == 0.5


def test_a_certain_mistake_costs_much_and_not_infinitely() -> None:
    assert log_loss(np.array([1.0, 0.0]), np.array([False, True])) == pytest.approx(-math.log(1e-15), rel=1e-3)


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1.0)],
)
def test_wilson_bounds(wins: int, n: int, low: float, high: float) -> None:
    assert wilson(wins, n) == pytest.approx((low, high), abs=1e-4)


def test_the_curve() -> None:
    p = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    won = np.array([False, True, False, True, True])
    curve = calibration_curve(p, won)
    assert [(entry.low, entry.high, entry.n, entry.win_rate) for entry in curve] == [
        (0.0, 0.1, 2, 0.5),
        (0.1, 0.2, 1, 0.0),
        (0.9, 1.0, 2, 1.0),
    ]
    assert curve[0].mean_probability == pytest.approx(0.025)
    assert (curve[0].win_rate_low, curve[0].win_rate_high) == wilson(1, 2)


def test_the_record_is_json() -> None:
    found = measure(np.array([0.2, 0.7, 0.7]), np.array([False, True, False]))
    assert json.loads(json.dumps(found.record, allow_nan=False))["curve"][0]["n"] == 1


@pytest.mark.parametrize(
    ("p", "won"),
    [
        ([], []),
        ([0.5], [True, False]),
        ([1.1, 0.5], [True, False]),
        ([math.nan, 0.5], [True, False]),
        ([-0.1, 0.5], [True, False]),
    ],
)
def test_forecasts_that_cannot_be(p: list[float], won: list[bool]) -> None:
    with pytest.raises(ValueError, match="forecast"):
        measure(np.array(p), np.array(won, dtype=np.bool_))


# --- the rule

WON = np.array([True, False] * 50)


def forecasts(win: float, loss: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.where(WON, win, loss)


def test_a_better_model_is_promoted() -> None:
    assert promote(measure(forecasts(0.7, 0.3), WON)) is None


def test_a_constant_at_the_base_rate_is_not_worse_than_it() -> None:
    assert promote(measure(forecasts(0.5, 0.5), WON)) is None


@pytest.mark.parametrize(("p", "promoted"), [(0.595, True), (0.605, False)])
def test_the_slack_in_log_loss(p: float, promoted: bool) -> None:
    # A constant forecast p at a base rate of 0.5 costs -ln(p(1 - p))/2; that is 0.02 above ln 2 at p = 0.5990.
    assert (promote(measure(forecasts(p, p), WON)) is None) is promoted


@pytest.mark.parametrize(("win", "loss", "code"), [(0.3, 0.7, Decline.WORSE_THAN_BASE), (0.495, 0.505, Decline.AUC)])
def test_an_inverted_model_is_declined(win: float, loss: float, code: Decline) -> None:
    declined = promote(measure(forecasts(win, loss), WON))
    assert declined is not None
    assert declined.code is code
    assert declined.reason.startswith("LEARN_")
    assert declined.metrics is not None
