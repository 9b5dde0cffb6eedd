"""Heads as arrays: what they refuse to be built from, and that they say what scikit-learn says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.members import Disagreement, HeadSettings, Members, assert_agreement, compiled, fit_members
from scorer.calibration import Beta, Isotonic, logistic
from scorer.compiled import MAX_STEPS, Network, Standard, Trees
from scorer.ensemble import ROWS_AT_ONCE, Ensemble, Stack

INF = math.inf

# Two trees. The first asks x0 <= 0.5 and, on the right, x1 <= 2; the second is a single leaf.
TREES: dict[str, list[Any]] = {
    "feature": [0, 0, 1, 0, 0, 0],
    "threshold": [0.5, INF, 2.0, INF, INF, INF],
    "left": [1, 1, 3, 3, 4, 5],
    "value": [0.0, 0.1, 0.0, 0.4, 0.9, -1.5],
    "roots": [0, 5],
}


def trees(**changes: list[Any]) -> Trees:
    given = TREES | changes
    return Trees(
        feature=np.array(given["feature"], dtype=np.int32),
        threshold=np.array(given["threshold"], dtype=np.float64),
        left=np.array(given["left"], dtype=np.int32),
        value=np.array(given["value"], dtype=np.float64),
        roots=np.array(given["roots"], dtype=np.int32),
    )


def ensemble(**changes: Any) -> Ensemble:
    parts: dict[str, Any] = {"width": 2, "trees": trees(), "n_forest": 1, "init": 0.0, "rate": 1.0}
    return Ensemble(**(parts | changes))


@pytest.mark.parametrize(
    ("row", "share"),
    [
        pytest.param([0.5, 9.0], 0.1, id="on the threshold goes left"),
        pytest.param([np.nextafter(np.float32(0.5), np.float32(1)), 2.0], 0.4, id="one float32 step goes right"),
        pytest.param([0.6, 2.1], 0.9, id="right of both"),
        pytest.param([0.5 + 1e-12, 9.0], 0.1, id="below float32's step it is still the threshold"),
    ],
)
def test_one_row_by_hand(row: list[float], share: float) -> None:
    wanted = (share + 1.0 / (1.0 + math.exp(1.5))) / 2.0
    assert ensemble().win_probability(np.array(row, dtype=np.float64)) == pytest.approx(wanted, abs=1e-15)


def test_rate_and_start_of_the_boosted_trees() -> None:
    said = ensemble(init=0.25, rate=0.5).win_probability(np.array([0.0, 0.0]))
    assert said == pytest.approx((0.1 + 1.0 / (1.0 + math.exp(0.5))) / 2.0, abs=1e-15)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"left": [1, 1, 3, 3, 4, 0]}, "after their parent", id="back to another tree's root"),
        pytest.param({"left": [1, 1, 2, 3, 4, 5]}, "thresholds", id="an inner node made a leaf"),
        pytest.param({"left": [1, 1, 1, 3, 4, 5]}, "after their parent", id="a circle"),
        pytest.param({"left": [1, 1, 4, 3, 4, 5]}, "after their parent", id="a child in the next tree"),
        pytest.param({"left": [3, 1, 3, 3, 4, 5]}, "no path", id="an unreachable subtree"),
        pytest.param({"left": [2, 1, 3, 3, 4, 5]}, "or two", id="a shared node"),
        pytest.param({"left": [900, 1, 3, 3, 4, 5]}, "after their parent", id="out of range"),
        pytest.param({"left": [-1, 1, 3, 3, 4, 5]}, "after their parent", id="negative"),
        pytest.param({"feature": [-1, 0, 1, 0, 0, 0]}, "feature index", id="a negative feature"),
        pytest.param({"threshold": [math.nan, INF, 2.0, INF, INF, INF]}, "thresholds", id="NaN threshold"),
        pytest.param({"threshold": [INF, INF, 2.0, INF, INF, INF]}, "thresholds", id="an open inner node"),
        pytest.param({"threshold": [0.5, 1.0, 2.0, INF, INF, INF]}, "thresholds", id="a leaf that would step on"),
        pytest.param({"value": [0.0, math.nan, 0.0, 0.4, 0.9, -1.5]}, "leaf value", id="NaN leaf"),
        pytest.param({"value": [0.0, INF, 0.0, 0.4, 0.9, -1.5]}, "leaf value", id="infinite leaf"),
        pytest.param({"value": [0.0]}, "one length", id="columns of different length"),
        pytest.param({"roots": [1, 5]}, "ascend from 0", id="roots not from 0"),
        pytest.param({"roots": [0, 0]}, "ascend from 0", id="a root twice"),
        pytest.param({"roots": [0, 6]}, "root", id="a root beyond the end"),
        pytest.param({"roots": []}, "ascend from 0", id="no tree"),
    ],
)
def test_trees_that_are_refused(changes: dict[str, list[Any]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        trees(**changes)


def test_a_tree_beyond_the_depth_limit_is_refused() -> None:
    def chain(depth: int) -> Trees:
        left = [place for step in range(depth) for place in (2 * step + 1, 2 * step + 1)]
        # Node 0 is the root; then pairs, of which the second goes on.
        nodes = 2 * depth + 1
        inner = {0, *range(2, nodes - 1, 2)}
        left = [place + 1 if place in inner else place for place in range(nodes)]
        return trees(
            feature=[0] * nodes,
            threshold=[0.0 if place in inner else INF for place in range(nodes)],
            left=left,
            value=[0.5] * nodes,
            roots=[0],
        )

    assert chain(MAX_STEPS).steps == MAX_STEPS
    with pytest.raises(ValueError, match="too deep"):
        chain(MAX_STEPS + 1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"width": 1}, id="a tree asks for a missing column"),
        pytest.param({"n_forest": 0}, id="no forest"),
        pytest.param({"n_forest": 2}, id="no boosted trees"),
        pytest.param({"init": math.nan}, id="NaN start"),
        pytest.param({"rate": 0.0}, id="rate 0"),
        pytest.param({"rate": math.nan}, id="rate NaN"),
        pytest.param({"trees": trees(value=[0.0, 1.5, 0.0, 0.4, 0.9, -1.5])}, id="a win share above 1"),
        pytest.param(
            {"network": Network(Standard(np.zeros(3), np.ones(3)), (np.ones((3, 1)),), (np.ones(1),))}, id="w"
        ),
    ],
)
def test_ensembles_that_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ensemble(**changes)


LINEAR = Network(Standard(np.zeros(2), np.ones(2)), (np.array([[1.0], [-2.0]]),), (np.array([0.5]),))


def test_a_stack_by_hand() -> None:
    # Forest 0.1, boosted trees logistic(−1.5), the line logistic(0 − 2·1 + 0.5) = logistic(−1.5).
    boosted = 1.0 / (1.0 + math.exp(1.5))
    row = np.array([0.0, 1.0])
    both = ensemble(linear=LINEAR)
    assert both.members == ("forest", "boosting", "linear")
    assert both.win_probability(row) == pytest.approx((0.1 + 2.0 * boosted) / 3.0, abs=1e-15)
    stacked = ensemble(linear=LINEAR, stack=Stack(np.array([0.5, 0.25, 0.25]), 0.4, 0.5))
    wanted = 0.4 + 0.5 * (0.05 + 0.5 * boosted - 0.4)
    assert stacked.win_probability(row) == pytest.approx(wanted, abs=1e-15)
    matrix = np.array([[0.0, 1.0], [0.6, 2.1], [math.nan, 0.0], [7.0, -3.0]])
    said = stacked.win_probabilities(matrix)
    assert said[[0, 1, 3]].tolist() == [stacked.win_probability(one) for one in matrix[[0, 1, 3]]]
    assert math.isnan(said[2])
    assert math.isnan(stacked.win_probability(matrix[2]))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stack": Stack(np.array([0.5, 0.5]), 0.5, 1.0), "linear": LINEAR}, id="a weight too few"),
        pytest.param({"stack": Stack(np.full(4, 0.25), 0.5, 1.0), "linear": LINEAR}, id="a weight too many"),
        pytest.param(
            {"linear": replace(LINEAR, standard=Standard(np.zeros(3), np.ones(3)), weights=(np.ones((3, 1)),))},
            id="a line of another width",
        ),
        pytest.param(
            {"linear": replace(LINEAR, weights=(np.ones((2, 2)), np.ones((2, 1))), biases=(np.ones(2), np.ones(1)))},
            id="a line with hidden layers",
        ),
    ],
)
def test_stacks_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ensemble(**changes)


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        pytest.param([(2, 3), (2, 1)], [3, 1], id="layers that do not fit"),
        pytest.param([(2, 3), (3, 2)], [3, 2], id="two outputs"),
        pytest.param([(2, 1)], [2], id="a bias of another length"),
        pytest.param([(3, 1)], [1], id="another width"),
        pytest.param([], [], id="no layer"),
    ],
)
def test_networks_that_are_refused(weights: list[tuple[int, int]], biases: list[int]) -> None:
    standard = Standard(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r".+"):
        Network(standard, tuple(np.ones(shape) for shape in weights), tuple(np.ones(size) for size in biases))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_numbers_that_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="plausible"):
        Standard(np.array([bad]), np.ones(1))
    with pytest.raises(ValueError, match="plausible"):
        Standard(np.zeros(1), np.array([bad]))
    with pytest.raises(ValueError, match="plausible"):
        Network(Standard(np.zeros(1), np.ones(1)), (np.array([[bad]]),), (np.zeros(1),))
    with pytest.raises(ValueError, match="finite"):
        Beta(1.0, 1.0, bad) if not math.isfinite(bad) else Beta(-1.0, 1.0, 0.0)


def test_a_column_that_never_moved_never_speaks() -> None:
    matrix = np.column_stack((np.full(50, 0.1), np.arange(50.0)))
    standard = Standard.fit(matrix)
    assert standard.scale[0] == 0.0
    assert standard.apply(np.array([1e12, 24.5])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_a_row_that_is_no_plausible_number_gives_nan(bad: float) -> None:
    one = ensemble()
    row = np.array([0.0, bad])
    assert math.isnan(one.win_probability(row))
    both = one.win_probabilities(np.stack((row, np.zeros(2))))
    assert math.isnan(both[0])
    assert both[1] == one.win_probability(np.zeros(2))


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="row"):
        ensemble().win_probability(np.zeros(3))
    with pytest.raises(ValueError, match="matrix"):
        ensemble().win_probabilities(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("raw", "calibrated"),
    [
        pytest.param([0.2, 0.2], [0.1, 0.2], id="knots not ascending"),
        pytest.param([0.2, 0.4], [0.3, 0.2], id="falling"),
        pytest.param([0.2, 0.4], [0.3, 1.2], id="beyond 1"),
        pytest.param([0.2, math.nan], [0.1, 0.2], id="NaN knot"),
        pytest.param([0.2, 0.3], [0.1, math.nan], id="NaN level"),
        pytest.param([], [], id="empty"),
        pytest.param([0.2], [0.1, 0.2], id="lengths"),
    ],
)
def test_calibrators_that_are_refused(raw: list[float], calibrated: list[float]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Isotonic(np.array(raw, dtype=np.float64), np.array(calibrated, dtype=np.float64))


def test_the_logistic_function_never_overflows() -> None:
    said = logistic(np.array([-1e308, -40.0, 0.0, 40.0, 1e308]))
    assert said.tolist() == pytest.approx([0.0, math.exp(-40.0), 0.5, 1.0, 1.0], abs=1e-15)


# --- agreement with scikit-learn


def world(n: int, width: int, seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, width)) * 10.0 ** rng.integers(-6, 7, size=width)
    matrix[:, -1] = 3.0
    matrix[:, -2] = np.round(matrix[:, -2])
    matrix[rng.random(n) < 0.02, 0] = 1e12
    won = rng.random(n) < logistic(matrix[:, 1] / np.std(matrix[:, 1]))
    return matrix, won, np.where(rng.random(n) < 0.5, 1.0, 0.8)


@pytest.fixture(scope="module")
def full_size() -> tuple[Members, Ensemble, Any]:
    matrix, won, weight = world(400, 9, 3)
    members = fit_members(matrix, won, weight, settings=HeadSettings(), with_network=True, seed=5)
    return members, compiled(members, 9), matrix


def test_agreement_at_full_size(full_size: tuple[Members, Ensemble, Any]) -> None:
    members, one, matrix = full_size
    assert len(one.trees.roots) == 350
    assert one.members == ("forest", "boosting", "network")
    assert_agreement(one, members, matrix)
    extremes = np.concatenate([np.full((1, 9), size) for size in (-1e12, -1.0, -0.0, 1e-300, 1.0, 1e12)])
    fresh = np.concatenate((np.random.default_rng(8).normal(size=(300, 9)) * 1e3, extremes))
    assert np.abs(one.member_probabilities(fresh) - members.probabilities(fresh)).max() <= 1e-9


def test_one_by_one_equals_all_at_once(full_size: tuple[Members, Ensemble, Any]) -> None:
    _, one, matrix = full_size
    many = np.concatenate((matrix, matrix[::-1]))
    assert len(many) > ROWS_AT_ONCE
    assert one.win_probabilities(many).tolist() == [one.win_probability(row) for row in many]


def test_a_bent_head_is_noticed(full_size: tuple[Members, Ensemble, Any]) -> None:
    members, one, matrix = full_size
    value = one.trees.value.copy()
    value[-1] += 1e-3
    bent = replace(one, trees=replace(one.trees, value=value))
    with pytest.raises(Disagreement):
        assert_agreement(bent, members, np.concatenate((matrix, np.random.default_rng(1).normal(size=(2000, 9)) * 1e6)))


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_a_threshold_one_step_off_is_noticed(full_size: tuple[Members, Ensemble, Any], towards: float) -> None:
    members, one, matrix = full_size
    threshold = one.trees.threshold.copy()
    inner = np.isfinite(threshold)
    # The smallest shift that float32 rows can see: without rows on the very thresholds nothing would differ.
    threshold[inner] = np.nextafter(threshold[inner].astype(np.float32), np.float32(towards)).astype(np.float64)
    bent = replace(one, trees=replace(one.trees, threshold=threshold))
    assert np.abs(bent.member_probabilities(matrix) - one.member_probabilities(matrix)).max() == 0.0
    with pytest.raises(Disagreement):
        assert_agreement(bent, members, matrix)


def test_the_win_column_is_found_by_name(full_size: tuple[Members, Ensemble, Any]) -> None:
    matrix, won, weight = world(200, 9, 4)
    small = HeadSettings(forest_trees=5, boosting_trees=5)
    straight = fit_members(matrix, won, weight, settings=small, with_network=False, seed=1)
    turned = fit_members(matrix, ~won, weight, settings=small, with_network=False, seed=1)
    said, other = compiled(straight, 9).win_probabilities(matrix), compiled(turned, 9).win_probabilities(matrix)
    assert np.corrcoef(said, won)[0, 1] > 0.3
    assert np.corrcoef(other, won)[0, 1] < -0.3


def test_weights_reach_every_head() -> None:
    matrix, won, _ = world(200, 9, 4)
    tilt = np.where(won, 1.0, 0.2)
    small = HeadSettings(forest_trees=5, boosting_trees=5, hidden=(4,), network_epochs=60)
    flat = fit_members(matrix, won, np.ones(200), settings=small, with_network=True, seed=1)
    tilted = fit_members(matrix, won, tilt, settings=small, with_network=True, seed=1)
    assert np.all(tilted.probabilities(matrix).mean(axis=0) > flat.probabilities(matrix).mean(axis=0) + 0.02)
