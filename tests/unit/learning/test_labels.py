"""Labels on the scale of a win probability, cohorts and weights: tables worked by hand and slow definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.labels import (
    DAY_MS,
    Bounds,
    Payoff,
    Weighting,
    ambiguity_bounds,
    censoring_weights,
    effective_size,
    honest_labels,
    magnitude,
    mature,
    payoff_of,
    time_decay,
    uniqueness,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def ints(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float64)


def flags(text: str) -> npt.NDArray[np.bool_]:
    return np.array([letter == "1" for letter in text], dtype=np.bool_)


# --- labels


def test_the_scale() -> None:
    payoff = Payoff(2.0, 1.0)
    # A win, a loss, break-even, and what lies beyond either: nothing is clipped.
    assert payoff.label(floats(2.0, -1.0, 0.0, 5.0, -2.5)).tolist() == pytest.approx([1.0, 0.0, 1 / 3, 2.0, -0.5])
    assert payoff.break_even == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="more than a loss"):
        Payoff(-1.0, 1.0)


RESULTS = st.lists(st.floats(-5.0, 5.0).map(lambda value: round(value, 6)), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(st.floats(0.05, 6.0), st.floats(0.05, 6.0), RESULTS, st.lists(st.floats(0.01, 10.0), min_size=40, max_size=40))
def test_a_mean_label_reaches_break_even_exactly_when_the_mean_result_reaches_zero(
    win: float, loss: float, results: list[float], weights: list[float]
) -> None:
    payoff, r, w = Payoff(win, loss), np.array(results), np.array(weights[: len(results)])
    mean_r = float(np.average(r, weights=w))
    mean_u = float(np.average(payoff.label(r), weights=w))
    if abs(mean_r) > 1e-9:
        assert (mean_u >= payoff.break_even) == (mean_r >= 0.0)
    assert mean_u - payoff.break_even == pytest.approx(mean_r / (win + loss), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.floats(0.1, 5.0), st.floats(0.1, 5.0), st.lists(st.booleans(), min_size=2, max_size=60))
def test_wins_and_losses_of_one_size_have_the_labels_of_the_seed_rule(win: float, loss: float, won: list[bool]) -> None:
    if all(won) or not any(won):
        won = [*won, True, False]
    outcome = np.array(won)
    found = honest_labels(
        np.where(outcome, win, -loss), outcome, np.ones(len(won), dtype=np.bool_), ["us|normal"] * len(won)
    )
    assert found is not None
    assert found == pytest.approx(outcome.astype(np.float64), abs=1e-12)


def test_payoffs_are_those_of_the_bucket_where_it_has_enough() -> None:
    # Five wins of 2 and five losses of 1 in one bucket; one win of 4 and one loss of 3 elsewhere; a timeout in each.
    net = floats(*[2.0] * 5, *[-1.0] * 5, 4.0, -3.0, 0.5, 0.5)
    won, decisive = flags("11111000001000"), flags("11111111111100")
    buckets = [*["us|normal"] * 10, "off|low", "off|low", "us|normal", None]
    found = honest_labels(net, won, decisive, buckets)
    assert found is not None
    # Over all: W = 14/6, L = 8/6.
    win, loss = 14 / 6, 8 / 6
    assert found[[0, 5, 12]].tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert found[[10, 11, 13]].tolist() == pytest.approx([(x + loss) / (win + loss) for x in (4.0, -3.0, 0.5)])


@pytest.mark.parametrize("net", [floats(1.0, 2.0), floats(-1.0, -2.0), floats(-0.5, -1.0)])
def test_no_labels_without_a_win_that_pays_and_a_loss_that_costs(net: FloatArray) -> None:
    decisive = flags("11")
    for won in (flags("11"), flags("00"), flags("10")):
        expected = payoff_of(net, won, decisive)
        assert (honest_labels(net, won, decisive, [None, None]) is None) == (expected is None)
    assert payoff_of(floats(-0.1, -1.0), flags("10"), decisive) is None


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="one bucket"):
        honest_labels(floats(1.0), flags("1"), flags("1"), [])
    with pytest.raises(ValueError, match="one result"):
        payoff_of(floats(1.0), flags("11"), flags("1"))


# --- ambiguity


def test_bounds_of_what_a_candle_hides() -> None:
    # Four trades, two ambiguous: stop first −1, target first +2 each.
    found = ambiguity_bounds(floats(-1.0, -1.0, 2.0, -1.0), floats(2.0, 2.0, 2.0, 2.0), flags("1001"))
    assert found == Bounds(-0.25, 1.25)
    assert [found.holds(value) for value in (-0.25, 0.5, 1.25, -0.26, 1.26)] == [True, True, True, False, False]
    assert math.isnan(ambiguity_bounds(floats(), floats(), flags("")).stop_first_r)
    with pytest.raises(ValueError, match="more than its stop"):
        ambiguity_bounds(floats(1.0), floats(0.0), flags("1"))


# --- cohorts


def test_a_cohort_is_mature_when_its_slowest_must_have_ended() -> None:
    assert mature(ints(0, 10, 11), horizon_ms=90, now_ms=100).tolist() == [True, True, False]


def test_censoring_weights_by_hand() -> None:
    # Lives 1, 2, 4 ended; two open ones were watched for 2 and 3. At 2 one of {life 4, watched 2, watched 3} is lost,
    # the end at 2 having come first: G = 2/3. At 3 one of {life 4, watched 3}: G = 1/3.
    entry = ints(0, 0, 0)
    weights = censoring_weights(entry, ints(1, 2, 4), ints(8, 7), now_ms=10)
    assert weights.tolist() == pytest.approx([1.0, 1.0, 3.0])
    assert censoring_weights(entry, ints(1, 2, 4), ints(), now_ms=10).tolist() == [1.0] * 3
    assert len(censoring_weights(ints(), ints(), ints(4), now_ms=5)) == 0
    for broken in ((ints(0), ints(11)), (ints(5), ints(4))):
        with pytest.raises(ValueError, match="in the future"):
            censoring_weights(*broken, ints(), now_ms=10)


@pytest.mark.parametrize("kind", ["naive", "cutoff", "weights"])
def test_fast_losers_are_over_represented_unless_something_is_done(kind: str) -> None:
    # Losers end after 1 day, winners after 20; half win. 400 signals a day for 30 days, learned from on day 30.
    rng = np.random.default_rng(7)
    now, day = 30 * DAY_MS, DAY_MS
    entry = rng.integers(0, now, size=12_000)
    won = rng.random(len(entry)) < 0.5
    life = np.where(won, 20 * day, day)
    ended = entry + life <= now
    weight = np.ones(int(ended.sum()))
    if kind == "weights":
        weight = censoring_weights(entry[ended], (entry + life)[ended], entry[~ended], now_ms=now)
    if kind == "cutoff":
        weight = mature(entry[ended], horizon_ms=20 * day, now_ms=now).astype(np.float64)
    rate = float(np.average(won[ended], weights=weight))
    # Ten days' winners against twenty-nine days' losers.
    expected, slack = (10 / 39, 0.02) if kind == "naive" else (0.5, 0.03)
    assert rate == pytest.approx(expected, abs=slack)


# --- weights


def naive_uniqueness(entry: IntArray, exit_: IntArray) -> FloatArray:
    """By the definition: walk every stretch between two events, count who lives through it."""
    moments = sorted({*entry.tolist(), *exit_.tolist()})
    out = []
    for first, last in zip(entry.tolist(), exit_.tolist(), strict=True):
        if first == last:
            out.append(1.0 / sum(a <= first <= b for a, b in zip(entry.tolist(), exit_.tolist(), strict=True)))
            continue
        total = 0.0
        for a, b in pairwise(moments):
            if first <= a and b <= last:
                alive = sum(x <= a and b <= y for x, y in zip(entry.tolist(), exit_.tolist(), strict=True))
                total += (b - a) / alive
        out.append(total / (last - first))
    return np.array(out)


def test_uniqueness_by_hand() -> None:
    # [0, 10] alone for 5, shared with [5, 15] for 5; [20, 30] alone; [30, 30] is a moment of the third's life.
    found = uniqueness(ints(0, 5, 20, 30), ints(10, 15, 30, 30))
    assert found.tolist() == pytest.approx([0.75, 0.75, 1.0, 0.5])
    assert len(uniqueness(ints(), ints())) == 0
    with pytest.raises(ValueError, match="later exit"):
        uniqueness(ints(2), ints(1))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=25))
def test_uniqueness_is_its_definition_in_any_order(labels: list[tuple[int, int]]) -> None:
    entry = np.array([first for first, _ in labels], dtype=np.int64)
    exit_ = entry + np.array([life for _, life in labels], dtype=np.int64)
    found = uniqueness(entry, exit_)
    assert found == pytest.approx(naive_uniqueness(entry, exit_))
    assert np.all((found > 0.0) & (found <= 1.0 + 1e-12))
    assert uniqueness(entry[::-1], exit_[::-1])[::-1] == pytest.approx(found)


def test_age_halves_and_size_weighs() -> None:
    decay = time_decay(ints(0, 90 * DAY_MS, 180 * DAY_MS, 200 * DAY_MS), now_ms=180 * DAY_MS, half_life_days=90.0)
    assert decay.tolist() == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert time_decay(ints(0), now_ms=10**12, half_life_days=math.inf).tolist() == [1.0]
    assert magnitude(floats(-2.0, 0.0, 3.0), 0.0).tolist() == [1.0, 1.0, 1.0]
    assert magnitude(floats(-2.0, 0.0, 3.0), 1.0).tolist() == [2.0, 0.0, 3.0]
    with pytest.raises(ValueError, match="half-life"):
        time_decay(ints(0), now_ms=1, half_life_days=0.0)
    with pytest.raises(ValueError, match="exponent"):
        magnitude(floats(1.0), -1.0)


def test_effective_size() -> None:
    assert effective_size(floats(1.0, 1.0, 1.0)) == pytest.approx(3.0)
    # (3 + 1)² / (9 + 1).
    assert effective_size(floats(3.0, 1.0)) == pytest.approx(1.6)
    assert effective_size(floats()) == 0.0


def test_weights_together() -> None:
    entry, exit_ = ints(0, 0, 90 * DAY_MS), ints(10, 10, 90 * DAY_MS + 10)
    # Two share their life and are a half-life older: 1/4, 1/4, 1; their mean is one half.
    found = Weighting(half_life_days=90.0).weights(entry, exit_, floats(1.0, 1.0, 1.0))
    assert found.tolist() == pytest.approx([0.5, 0.5, 2.0])
    off = Weighting(uniqueness=False, half_life_days=0.0)
    assert off.weights(entry, exit_, floats(0.0, -2.0, 5.0)).tolist() == [1.0] * 3
    sized = Weighting(uniqueness=False, half_life_days=0.0, size_exponent=1.0)
    assert sized.weights(entry, exit_, floats(0.0, -2.0, 4.0)).tolist() == pytest.approx([1e-6, 1.0, 2.0])
    # A moment long past leaves a record, if only just.
    assert min(Weighting(half_life_days=0.001).weights(entry, exit_, floats(1.0, 1.0, 1.0))) > 0.0
    assert len(Weighting().weights(ints(), ints(), floats())) == 0
