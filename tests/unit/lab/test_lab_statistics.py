"""Tables worked by hand, and simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.permutation import lift_against_random, lift_within_day
from lab.statistics import (
    FloatArray,
    IntArray,
    Interval,
    break_even_cost_bps,
    break_even_rate,
    estimate_lift,
    estimate_mean,
    estimate_rate,
    iid_mean_interval,
    max_drawdown,
    percentile_interval,
    resample_days,
    t_quantile,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423)]
)
def test_t_quantile_meets_the_printed_table(degrees: int, expected: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=4e-3)
    assert t_quantile(0.025, degrees) == pytest.approx(-expected, abs=4e-3)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 5), (1.0, 5), (0.5, 0)])
def test_t_quantile_refuses_what_has_no_answer(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="probability"):
        t_quantile(probability, degrees)


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_meets_the_printed_table(wins: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(wins, n)
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


def test_wilson_edges() -> None:
    assert not wilson_interval(0, 0).known
    with pytest.raises(ValueError, match="wins"):
        wilson_interval(3, 2)


def test_iid_interval_by_hand() -> None:
    # Values 1 2 3 4: mean 2.5, deviation 1.2910, t(3) 3.1824: 2.5 ± 2.0543.
    interval = iid_mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert interval.low == pytest.approx(0.4457, abs=5e-3)
    assert interval.high == pytest.approx(4.5543, abs=5e-3)


def test_totals_are_those_of_the_days_drawn() -> None:
    day = np.array([10, 10, 12, 15], dtype=np.int64)
    columns = np.array([[1.0, 1.0], [2.0, 1.0], [10.0, 1.0], [100.0, 1.0]])
    sums = {0: (3.0, 2.0), 1: (10.0, 1.0), 2: (100.0, 1.0)}
    totals, n_days = resample_days(day, columns, rng=np.random.default_rng(5), resamples=50)
    drawn = np.random.default_rng(5).integers(0, 3, size=(50, 3))
    assert n_days == 3
    for row, choice in zip(totals, drawn, strict=True):
        assert row.tolist() == [sum(sums[int(one)][part] for one in choice) for part in (0, 1)]


def test_long_histories_are_drawn_in_pieces() -> None:
    day = np.arange(3_000, dtype=np.int64)
    totals, n_days = resample_days(day, np.ones((3_000, 1)), rng=np.random.default_rng(1), resamples=1_500)
    assert n_days == 3_000
    assert (totals == 3_000.0).all()  # every resample holds as many days as there are


def test_a_mean_is_a_ratio_of_sums_not_a_mean_of_days() -> None:
    # Nine trades of +1 on a busy day, one of −1 on a quiet one: the trader made 0.8 a trade, not 0.
    day = np.array([0] * 9 + [1], dtype=np.int64)
    values = np.array([1.0] * 9 + [-1.0])
    estimate = estimate_mean(day, values, rng=np.random.default_rng(0), resamples=500)
    assert estimate.value == pytest.approx(0.8)
    assert estimate.n_days == 2
    # Two days, drawn twice: the mean is 1 (busy twice), −1 (quiet twice) or 0.8.
    assert estimate.day == Interval(-1.0, 1.0)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_less_than_two_days_give_no_interval(n: int) -> None:
    rng = np.random.default_rng(0)
    day, values = np.zeros(n, dtype=np.int64), np.linspace(-1.0, 2.0, n)
    mean = estimate_mean(day, values, rng=rng)
    rate = estimate_rate(day, values > 0.0, rng=rng)
    assert not mean.day.known
    assert not rate.day.known
    assert mean.day.holds(0.0), "what is unknown excludes nothing"
    assert (mean.n, mean.n_days) == (n, min(n, 1))
    assert math.isnan(mean.value) == (n == 0)


def test_results_without_spread_prove_nothing() -> None:
    day = np.arange(6, dtype=np.int64)
    estimate = estimate_mean(day, np.full(6, -1.0), rng=np.random.default_rng(0))
    assert not estimate.day.known
    assert not estimate.iid.known


def test_a_perfect_record_counts_its_days() -> None:
    day = np.repeat(np.arange(5, dtype=np.int64), 20)
    rate = estimate_rate(day, np.ones(100, dtype=np.bool_), rng=np.random.default_rng(0))
    assert rate.day == wilson_interval(5, 5)
    assert rate.iid == wilson_interval(100, 100)
    none = estimate_rate(day, np.zeros(100, dtype=np.bool_), rng=np.random.default_rng(0))
    assert none.day == wilson_interval(0, 5)


@pytest.mark.parametrize(
    ("net", "won", "expected"),
    [
        pytest.param([2.0, 2.0, -1.0], [1, 1, 0], 1 / 3, id="two to one"),
        pytest.param([1.95, -1.05], [1, 0], 0.35, id="after ten points"),
        pytest.param([2.0, 0.0], [1, 0], 0.0, id="losses cost nothing"),
        pytest.param([-0.1, -1.0], [1, 0], 1.0, id="wins do not pay"),
        pytest.param([2.0], [1], math.nan, id="no losses"),
        pytest.param([], [], math.nan, id="nothing"),
    ],
)
def test_break_even_rate_by_hand(net: list[float], won: list[int], expected: float) -> None:
    found = break_even_rate(np.array(net), np.array(won, dtype=np.bool_))
    assert found == pytest.approx(expected, nan_ok=True)


def test_at_the_break_even_rate_and_cost_the_mean_is_zero() -> None:
    rng = np.random.default_rng(8)
    won = rng.random(400) < 0.4
    gross = np.where(won, rng.uniform(1.0, 3.0, 400), -1.0)
    cost = rng.uniform(0.01, 0.2, 400)
    at_zero = gross - break_even_cost_bps(gross, cost) * cost
    assert np.mean(at_zero) == pytest.approx(0.0, abs=1e-12)
    assert break_even_rate(at_zero, won) == pytest.approx(np.mean(won))


def test_break_even_cost_by_hand() -> None:
    # +2 −1 = 1 R over two trades that lose 0.01 R a point each.
    assert break_even_cost_bps(np.array([2.0, -1.0]), np.array([0.01, 0.01])) == pytest.approx(50.0)
    assert break_even_cost_bps(np.array([-1.0]), np.array([0.01])) == pytest.approx(-100.0)
    assert math.isnan(break_even_cost_bps(np.empty(0), np.empty(0)))


@pytest.mark.parametrize(
    ("r", "expected"),
    [
        ([], 0.0),
        ([1.0, 2.0], 0.0),
        ([-1.0, -1.0, 5.0], 2.0),
        ([3.0, -1.0, -1.5, 2.0, -2.0], 2.5),
    ],
)
def test_drawdown_by_hand(r: list[float], expected: float) -> None:
    assert max_drawdown(np.array(r)) == pytest.approx(expected)


def test_shapes_must_agree() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="row of columns"):
        resample_days(np.zeros(3, dtype=np.int64), np.zeros((2, 1)), rng=rng)
    with pytest.raises(ValueError, match="acceptance"):
        lift_against_random(np.zeros(3), np.zeros(2, dtype=np.bool_), rng=rng)
    with pytest.raises(ValueError, match="result"):
        break_even_rate(np.zeros(3), np.zeros(2, dtype=np.bool_))


def test_an_empty_denominator_is_left_out_until_it_rules() -> None:
    draws = np.array([1.0, 2.0, 3.0, math.nan])
    assert percentile_interval(draws, 50).known
    assert not percentile_interval(np.array([1.0, math.nan, math.nan, math.nan]), 50).known


def test_lift_by_hand() -> None:
    # Accepted +2 and −1: 0.5 a trade; all +2 −1 −1 −1: −0.25.
    values = np.array([2.0, -1.0, -1.0, -1.0])
    accepted = np.array([True, True, False, False])
    day = np.array([0, 0, 0, 1], dtype=np.int64)
    lift = lift_against_random(values, accepted, rng=np.random.default_rng(0), permutations=4_000)
    assert lift.value == pytest.approx(0.75)
    assert lift.expected == 0.0
    # The winner is among two of four in half the draws; without it the lift is −0.75: every draw is as far.
    assert lift.p == 1.0
    assert np.mean(lift.null > 0) == pytest.approx(0.5, abs=0.04)
    within = lift_within_day(day, values, accepted, rng=np.random.default_rng(0), permutations=4_000)
    # Day 0 keeps two of its three: 0 on average, so the choice of days alone lifts by 0.25.
    assert within.expected == pytest.approx(0.25)
    assert np.mean(within.null > 0.25) == pytest.approx(2 / 3, abs=0.04)
    assert np.mean(within.null) == pytest.approx(0.25, abs=0.04)
    assert estimate_lift(day, values, accepted, rng=np.random.default_rng(0)).value == pytest.approx(0.75)


def test_days_taken_or_refused_whole_leave_nothing_to_shuffle() -> None:
    day = np.array([0, 0, 1, 1], dtype=np.int64)
    values = np.array([2.0, 1.0, -1.0, -1.0])
    within = lift_within_day(day, values, day == 0, rng=np.random.default_rng(0))
    assert math.isnan(within.p)
    assert within.value == pytest.approx(within.expected)


@pytest.mark.parametrize("share", [0, 1])
def test_a_gate_that_takes_all_or_none_is_not_tested(share: int) -> None:
    values, accepted = np.arange(5.0), np.full(5, bool(share))
    assert math.isnan(lift_against_random(values, accepted, rng=np.random.default_rng(0)).p)
    assert math.isnan(lift_within_day(np.arange(5), values, accepted, rng=np.random.default_rng(0)).p)
    assert not estimate_lift(np.arange(5), values, np.zeros(5, dtype=np.bool_), rng=np.random.default_rng(0)).day.known


def _moody_days(rng: np.random.Generator, *, days: int, mood: float) -> tuple[IntArray, FloatArray]:
    """Trades whose day shares a mood of mean zero: the true mean is 0 whatever the size of a day."""
    sizes = 1 + rng.poisson(7.0, days)
    day = np.repeat(np.arange(days, dtype=np.int64), sizes)
    return day, rng.normal(0.0, mood, days)[day] + rng.normal(0.0, 1.0, len(day))


def test_the_day_interval_covers_and_the_iid_interval_does_not() -> None:
    rng = np.random.default_rng(20_250_101)
    repetitions, by_day, iid = 300, 0, 0
    for _ in range(repetitions):
        day, values = _moody_days(rng, days=60, mood=0.5)
        estimate = estimate_mean(day, values, rng=rng, resamples=400)
        by_day += estimate.day.holds(0.0)
        iid += estimate.iid.holds(0.0)
    # 3.3 binomial standard errors (a test at 0.1 %) around 95 %; the mood makes iid about 1.6 times too narrow.
    slack = 3.3 * math.sqrt(0.95 * 0.05 / repetitions)
    assert 0.95 - slack <= by_day / repetitions <= 0.95 + slack
    assert iid / repetitions < 0.88


def test_a_rate_is_covered_too_with_few_days() -> None:
    rng = np.random.default_rng(7)
    repetitions, covered = 300, 0
    for _ in range(repetitions):
        chance = np.clip(0.4 + rng.normal(0.0, 0.15, 15), 0.05, 0.95)
        day = np.repeat(np.arange(15, dtype=np.int64), 10)
        rate = estimate_rate(day, rng.random(150) < chance[day], rng=rng, resamples=400)
        covered += rate.day.holds(0.4)
    assert abs(covered / repetitions - 0.95) <= 3.3 * math.sqrt(0.95 * 0.05 / repetitions)


@pytest.mark.parametrize("within", [False, True])
def test_p_values_are_uniform_when_the_gate_knows_nothing(within: bool) -> None:
    rng = np.random.default_rng(11 + within)
    found = []
    for _ in range(300):
        day, values = _moody_days(rng, days=12, mood=0.5)
        accepted = rng.random(len(day)) < 0.3
        if within:
            found.append(lift_within_day(day, values, accepted, rng=rng, permutations=199).p)
        else:
            found.append(lift_against_random(values, accepted, rng=rng, permutations=199).p)
    ordered = np.sort(found)
    # Kolmogorov's distance; 1.95 / sqrt(n) rejects at 0.1 %, and the grid of 1/200 adds its step.
    distance = np.max(np.abs(ordered - np.arange(1, 301) / 300))
    assert distance < 1.95 / math.sqrt(300) + 1 / 200


def test_choosing_good_days_is_no_choice_among_their_trades() -> None:
    """A gate that only knows the day's mood beats random gates, but not those of the same days."""
    rng = np.random.default_rng(3)
    days = 120
    mood = rng.normal(0.0, 1.0, days)
    day = np.repeat(np.arange(days, dtype=np.int64), 8)
    values = mood[day] + rng.normal(0.0, 1.0, len(day))
    accepted = rng.random(len(day)) < np.where(mood > 0.0, 0.6, 0.1)[day]
    assert lift_against_random(values, accepted, rng=rng, permutations=499).p <= 0.01
    assert lift_within_day(day, values, accepted, rng=rng, permutations=499).p > 0.05


def test_a_gate_that_knows_is_found_by_both() -> None:
    rng = np.random.default_rng(4)
    day, values = _moody_days(rng, days=60, mood=0.3)
    accepted = values + rng.normal(0.0, 3.0, len(day)) > 0.5
    assert lift_against_random(values, accepted, rng=rng, permutations=499).p <= 0.01
    assert lift_within_day(day, values, accepted, rng=rng, permutations=499).p <= 0.01


def test_the_same_seed_gives_the_same_figures() -> None:
    day, values = _moody_days(np.random.default_rng(1), days=30, mood=0.5)
    first, second = (estimate_mean(day, values, rng=np.random.default_rng(9)) for _ in range(2))
    assert first == second
    assert estimate_mean(day, values, rng=np.random.default_rng(10)) != first
