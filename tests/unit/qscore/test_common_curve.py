"""The curve that situations share: its derivatives, what it recovers, and break-even where records are few."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from qscore.breakeven import ROW_ALL, break_evens
from qscore.curve import (
    GROUPS,
    LEVEL,
    PARAMETERS,
    SLOPE,
    STEP,
    Curves,
    _Data,
    expit,
    fit_curves,
    penalty,
    redrawn,
)
from qscore.outcomes import BUCKETS, NOWHERE, PLACES, SCORES, Outcomes, Tally

FloatArray = npt.NDArray[np.float64]


def counts(rng: np.random.Generator, *, sets: int = 1, size: float = 4.0) -> tuple[FloatArray, FloatArray]:
    """Fractional weights, and sums of labels that leave [0, 1] on both sides."""
    count = rng.gamma(1.0, size, (sets, PLACES, SCORES)) * (rng.random((sets, PLACES, SCORES)) < 0.3)
    return count, count * rng.normal(0.4, 0.6, count.shape)


def numeric(function: Callable[[FloatArray], FloatArray], at: FloatArray) -> FloatArray:
    """Central differences in each parameter, last axis."""
    step = 1e-5 * np.eye(PARAMETERS)
    return np.stack([(function(at + row) - function(at - row)) / 2e-5 for row in step], axis=-1)


def test_there_are_42_parameters() -> None:
    sizes = [group.stop - group.start for group in GROUPS]
    assert (PARAMETERS, sizes) == (42, [4, 4, 16, 16])
    assert set(np.flatnonzero(LEVEL[0])) == {0, 2, 6, 10}, "mu, the first session, the first regime, the situation"
    assert set(np.flatnonzero(SLOPE[5])) == {1, 26 + 5}, "beta and the situation's own"
    assert (LEVEL[NOWHERE].sum(), SLOPE[NOWHERE].sum()) == (1.0, 1.0), "without a situation: what is common"


def test_derivatives_are_those_of_the_penalised_likelihood() -> None:
    rng = np.random.default_rng(1)
    count, total = counts(rng, sets=2)
    data, variance = _Data.of(count, total), rng.uniform(0.05, 0.5, (2, 4))
    theta = rng.normal(0.0, 0.4, (2, PARAMETERS))
    slope = data.slope(theta, variance)
    np.testing.assert_allclose(slope, numeric(lambda at: data.value(at, variance), theta), rtol=1e-5, atol=1e-3)
    found = numeric(lambda at: data.slope(at, variance), theta)
    np.testing.assert_allclose(data.curvature(theta, variance), -found, rtol=1e-4, atol=1e-4)


def all_labels(value: float) -> tuple[FloatArray, FloatArray]:
    count = np.zeros((1, PLACES, SCORES))
    count[:, :4, 40:80] = 3.0
    return count, value * count


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(counts(np.random.default_rng(2)), id="fractions that leave [0, 1]"),
        pytest.param(counts(np.random.default_rng(3), sets=3, size=0.05), id="hardly any weight"),
        pytest.param(all_labels(1.0), id="every label 1"),
        pytest.param(all_labels(0.0), id="every label 0"),
        pytest.param(all_labels(-0.7), id="labels below 0 throughout"),
        pytest.param(all_labels(1.9), id="labels above 1 throughout"),
    ],
)
def test_the_mode_is_found_whatever_the_labels(data: tuple[FloatArray, FloatArray]) -> None:
    found = fit_curves(*data)
    left = _Data.of(*data).slope(found.theta, found.variance)
    assert np.max(np.abs(left)) < 1e-6 * (1.0 + data[0].sum())
    assert np.all(np.isfinite(found.theta))
    assert np.all(found.variance > 0.0)
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0.0)
    np.testing.assert_allclose(found.covariance, np.swapaxes(found.covariance, 1, 2), atol=1e-9)


def test_variances_are_a_fixed_point() -> None:
    count, total = counts(np.random.default_rng(4), size=20.0)
    found = fit_curves(count, np.clip(total, 0.0, count))
    for number, group in enumerate(GROUPS):
        trace = np.trace(found.covariance[0][group, group])
        told = (np.sum(found.theta[0][group] ** 2) + trace + 0.04) / (group.stop - group.start + 2)
        assert told == pytest.approx(found.variance[0][number], rel=0.05)


def known_world(seed: int, n: int, spread: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    theta = np.concatenate([[-0.4, 0.6], rng.normal(0.0, spread, PARAMETERS - 2)])
    probability = expit((LEVEL @ theta)[:, None] + (SLOPE @ theta)[:, None] * STEP)
    count = np.zeros((1, PLACES, SCORES))
    count[0, :NOWHERE, 20:96] = n / 76.0
    return theta, count, rng.binomial(count.astype(np.int64), probability).astype(np.float64)


def test_it_recovers_what_it_was_drawn_from() -> None:
    theta, count, total = known_world(5, 76 * 60, 0.35)
    found = fit_curves(count, total)
    truth = expit((LEVEL @ theta)[:, None] + (SLOPE @ theta)[:, None] * STEP)
    error = np.abs(found.probability[0, :NOWHERE, 20:96] - truth[:NOWHERE, 20:96])
    assert (error.mean(), error.max()) < (0.015, 0.08)
    # Slopes are told by themselves; levels only as sums, which the curve above has shown.
    slopes, drawn_from = found.theta[0] @ SLOPE.T, SLOPE @ theta
    np.testing.assert_allclose(slopes[:NOWHERE], drawn_from[:NOWHERE], atol=0.15)
    assert found.variance[0, 3] == pytest.approx(0.35**2, rel=0.8)
    for design in (LEVEL[:NOWHERE], SLOPE[:NOWHERE]):
        posterior = np.sqrt(np.einsum("bi,ij,bj->b", design, found.covariance[0], design))
        missed = np.abs(design @ (found.theta[0] - theta)) > 2.5 * posterior
        assert missed.sum() <= 1


def test_situations_that_are_alike_are_drawn_together() -> None:
    _, count, total = known_world(6, 76, 0.0)
    level = fit_curves(count, total).logit[0, :NOWHERE, 60]
    won, lost = total[0, :NOWHERE].sum(axis=1), (count - total)[0, :NOWHERE].sum(axis=1)
    own = np.log(won / lost)
    assert level.std() < 0.75 * own.std()


def test_sets_are_fitted_as_if_each_were_alone() -> None:
    count, total = counts(np.random.default_rng(7), sets=3)
    together = fit_curves(count, total)
    for place in range(3):
        alone = fit_curves(count[place : place + 1], total[place : place + 1])
        np.testing.assert_allclose(together.probability[place], alone.probability[0], atol=5e-3)


def test_drawn_curves_scatter_as_the_posterior_does() -> None:
    _, count, total = known_world(8, 76 * 2, 0.2)
    found = fit_curves(count, total)
    rng = np.random.default_rng(9)
    # Redrawing independent records: each occurs a Poisson number of times.
    wins = rng.poisson(total[0], (400, PLACES, SCORES)).astype(np.float64)
    losses = rng.poisson((count - total)[0], wins.shape)
    drawn = redrawn(found, wins + losses, wins, rng)
    spread = found.spread(np.eye(PLACES)[:NOWHERE])[:, 40:81]
    ratio = drawn[:, :NOWHERE, 40:81].std(axis=0) / spread
    assert 0.8 < float(ratio.mean()) < 1.25


def test_the_spread_is_the_delta_method() -> None:
    count, total = counts(np.random.default_rng(10))
    found = fit_curves(count, total)
    share = np.zeros((1, PLACES))
    share[0, [2, 7]] = 0.25, 0.75

    def mixture(theta: FloatArray) -> FloatArray:
        moved = Curves(theta, found.covariance, found.variance)
        mixed: FloatArray = np.einsum("p,pg->g", share[0], moved.probability[0])
        return mixed

    gradient = numeric(mixture, found.theta)
    expected = np.sqrt(np.einsum("gi,ij,gj->g", gradient, found.covariance[0], gradient))
    np.testing.assert_allclose(found.spread(share)[0], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("count", "total"),
    [
        (np.zeros((1, PLACES, SCORES - 1)), np.zeros((1, PLACES, SCORES - 1))),
        (np.full((1, PLACES, SCORES), -1.0), np.zeros((1, PLACES, SCORES))),
        (np.ones((1, PLACES, SCORES)), np.full((1, PLACES, SCORES), math.nan)),
    ],
)
def test_what_cannot_be_fitted_is_refused(count: FloatArray, total: FloatArray) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        fit_curves(count, total)


def test_the_penalty_is_a_precision() -> None:
    assert penalty(np.full((1, 4), 0.25))[0].tolist() == [0.01, 0.01, *[4.0] * 40]


def payoffs(sides: dict[int, tuple[Sequence[float], Sequence[float]]]) -> Tally:
    """Wins and losses by place, in R, losses as positive numbers."""
    place = [number for number, both in sides.items() for side in both for _ in side]
    won = [win for both in sides.values() for win, side in zip((True, False), both, strict=True) for _ in side]
    net = [sign * r for both in sides.values() for sign, side in zip((1, -1), both, strict=True) for r in side]
    outcomes = Outcomes.of(
        np.full(len(net), 50.0), np.array(won), np.array(net, dtype=np.float64), [str(BUCKETS[row]) for row in place]
    )
    return Tally.of(outcomes, np.ones((1, len(net))))


def log_ratio(wins: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """The textbook way: log(L/W), and its variance from both means' standard errors."""
    value, variance = 0.0, 0.0
    for side, sign in ((wins, -1.0), (losses, 1.0)):
        mean = sum(side) / len(side)
        squared = sum((r - mean) ** 2 for r in side) / (len(side) - 1)
        value, variance = value + sign * math.log(mean), variance + squared / (len(side) * mean**2)
    return value, variance


def test_break_even_is_shrunk_as_dersimonian_and_laird_have_it() -> None:
    sides: dict[int, tuple[Sequence[float], Sequence[float]]] = {
        0: ([1.4, 1.6, 1.5, 2.1, 1.2, 1.9], [1.0, 1.1, 0.8, 1.0, 0.9]),
        1: ([3.0, 3.4, 2.6], [1.0, 0.7, 1.2, 1.1]),
        2: ([0.9, 1.1, 1.0, 0.7], [1.3, 1.0]),
        3: ([2.0], [1.0, 1.0, 1.0]),
    }
    tally = payoffs(sides)
    found = break_evens(tally.payoff, tally.pieces)
    pairs = [log_ratio(*sides[place]) for place in range(3)]
    precision = [1.0 / variance for _, variance in pairs]
    fixed = sum(w * z for w, (z, _) in zip(precision, pairs, strict=True)) / sum(precision)
    excess = sum(w * (z - fixed) ** 2 for w, (z, _) in zip(precision, pairs, strict=True)) - 2
    room = sum(precision) - sum(w * w for w in precision) / sum(precision)
    between = max(0.0, excess / room)
    assert between > 0.0, "the case must put it to work"
    weights = [1.0 / (variance + between) for _, variance in pairs]
    centre = sum(w * z for w, (z, _) in zip(weights, pairs, strict=True)) / sum(weights)

    def drawn(place: int) -> float:
        z, variance = pairs[place]
        return 1.0 / (1.0 + math.exp(-(between * z + variance * centre) / (between + variance)))

    own = [
        sum(losses) / len(losses) / (sum(losses) / len(losses) + sum(wins) / len(wins))
        for wins, losses in sides.values()
    ]
    assert found.p_min[0, 0] == pytest.approx(own[0])
    assert [found.p_min[0, place] for place in (1, 2)] == [pytest.approx(drawn(1)), pytest.approx(drawn(2))]
    assert found.p_min[0, 3] == pytest.approx(1.0 / (1.0 + math.exp(-centre))), "a single win tells nothing"
    assert found.p_min[0, 9] == found.p_min[0, 3], "nor does a place without records"
    assert found.shrunk[0, :4].tolist() == [False, True, True, True]


def test_break_even_where_a_side_does_not_pay_or_costs_nothing() -> None:
    usual = ([1.5] * 4 + [1.6], [1.0] * 4 + [1.1])
    tally = payoffs({0: usual, 1: ([1.5] * 9, [0.0] * 9), 2: ([-0.1] * 9, [1.0] * 9), 3: ([-0.1] * 3, [1.0] * 9)})
    found = break_evens(tally.payoff, tally.pieces)
    common = found.p_min[0, 9]
    assert found.p_min[0, 1] == pytest.approx(common), "losses of nothing would open it: the common ratio stands in"
    assert found.closed[0, :4].tolist() == [False, False, True, False], "three odd wins are an accident, nine are none"
    assert found.p_min[0, 3] == pytest.approx(common)
    assert found.shrunk[0, ROW_ALL] == np.False_
