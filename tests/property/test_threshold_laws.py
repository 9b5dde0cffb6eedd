"""Laws of learned thresholds, and the rule against two independent ways of writing it down."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import event, given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from qscore.estimate import TOLERANCE, Estimate, break_even, estimate
from qscore.isotonic import rising_means
from qscore.outcomes import BUCKETS
from qscore.table import ThresholdTable, learn_table
from qscore.threshold import OPEN, Clamp, ThresholdSource
from tests.support.laws import LAW

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SETS = 1_000
CENT = 100


@dataclass(frozen=True, slots=True)
class Records:
    """Columns of decisive outcomes; results in whole cents of an R, so that they can be reckoned exactly."""

    scores: tuple[float, ...]
    won: tuple[bool, ...]
    cents: tuple[int, ...]

    def learned(self, order: list[int] | None = None, *, scale: float = 1.0) -> Estimate:
        places = range(len(self.scores)) if order is None else order
        return estimate(
            np.array([self.scores[place] for place in places]),
            np.array([self.won[place] for place in places], dtype=np.bool_),
            np.array([self.cents[place] / CENT * scale for place in places]),
        )

    def moved(self, *, wins_by: int = 0, losses_by: int = 0) -> Records:
        by = (wins_by if won else losses_by for won in self.won)
        return replace(self, cents=tuple(cents + step for cents, step in zip(self.cents, by, strict=True)))

    def joined_by(self, score: float, cents: int, *, won: bool) -> Records:
        return Records((*self.scores, score), (*self.won, won), (*self.cents, cents))

    def mean_cents(self, *, won: bool) -> Fraction | None:
        side = [cents for cents, outcome in zip(self.cents, self.won, strict=True) if outcome is won]
        return Fraction(sum(side), len(side)) if side else None


WHOLE = st.integers(0, 100).map(float)
# Few different scores make ties and pools; many make interpolation.
SCORES = st.one_of(st.sampled_from((0.0, 40.0, 55.0, 56.0, 70.5, 100.0)), WHOLE, st.floats(0.0, 100.0))


@st.composite
def records(draw: st.DrawFn, max_size: int = 40) -> Records:
    """Mostly ordinary, sometimes with wins that cost or losses that gain."""
    rows = draw(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=max_size))
    odd = draw(st.integers(0, 9)) == 0
    wins = st.integers(-50, 50) if odd else st.integers(1, 400)
    losses = st.integers(-50, 50) if odd else st.integers(-300, 0)
    cents = [draw(wins if won else losses) for _, won in rows]
    return Records(tuple(score for score, _ in rows), tuple(won for _, won in rows), tuple(cents))


def random_set(rng: np.random.Generator) -> tuple[FloatArray, BoolArray, FloatArray]:
    n = int(rng.integers(2, 250))
    scores = rng.uniform(0.0, 100.0, n) if rng.random() < 0.5 else rng.choice(rng.integers(0, 101, 12), n) * 1.0
    won = rng.random(n) < np.clip(0.5 + rng.normal() * (scores - 50.0) / 60.0, 0.02, 0.98)
    won[:2] = True, False
    return scores, won, np.where(won, rng.gamma(4.0, 0.4, n), -rng.gamma(6.0, 0.15, n))


def test_pooling_agrees_with_scikit_learn_on_1000_sets() -> None:
    rng = np.random.default_rng(20_240)
    for _ in range(SETS):
        n = int(rng.integers(1, 60))
        ties = rng.random() < 0.5
        weights = (rng.integers(1, 9, n) if ties else rng.gamma(1.0, 3.0, n)).astype(np.float64)
        means = (rng.integers(0, 3, n) / 2.0 if ties else rng.normal(size=n)).astype(np.float64)
        peer: FloatArray = IsotonicRegression().fit_transform(np.arange(n), means, sample_weight=weights)
        np.testing.assert_allclose(rising_means(means * weights, weights), peer, atol=1e-10)


def test_the_rule_agrees_with_scikit_learn_and_interp_on_1000_sets() -> None:
    rng = np.random.default_rng(20_241)
    reached = 0
    for _ in range(SETS):
        scores, won, net_r = random_set(rng)
        fitted = IsotonicRegression(out_of_bounds="clip").fit(np.floor(scores), won.astype(np.float64))
        # Not its own interpolation, which is the same: that of numpy, between the values it fits to the cells.
        cells = np.unique(np.floor(scores))
        curve = np.interp(np.arange(101), cells, fitted.predict(cells))
        gain, loss = net_r[won].mean(), -net_r[~won].mean()
        passing = [g for g in range(101) if curve[g] >= loss / (gain + loss)]
        found = estimate(scores, won, net_r)
        assert found.threshold == (passing[0] if passing else 100)
        assert found.nothing_passes is (not passing)
        np.testing.assert_allclose(found.curve, curve, atol=1e-12)
        reached += 0 < found.threshold < 100
    assert reached > SETS // 4, "the sets must put the rule to work"


def exact_rule(given_records: Records) -> int:
    """The definition in fractions: isotonic values by the min-max formula, no pooling, no rounding anywhere."""
    gain, minus_loss = given_records.mean_cents(won=True), given_records.mean_cents(won=False)
    if gain is None or gain <= 0:
        return 100
    if minus_loss is None or minus_loss >= 0:
        return 0
    p_min = -minus_loss / (gain - minus_loss)
    cells = sorted({int(score) for score in given_records.scores})
    inside = [
        [won for score, won in zip(given_records.scores, given_records.won, strict=True) if int(score) == cell]
        for cell in cells
    ]
    wins, counts = list(accumulate(map(sum, inside), initial=0)), list(accumulate(map(len, inside), initial=0))
    last = len(cells)

    def fitted(place: int) -> Fraction:
        return max(
            min(Fraction(wins[b] - wins[a], counts[b] - counts[a]) for b in range(place + 1, last + 1))
            for a in range(place + 1)
        )

    values = [fitted(place) for place in range(last)]
    for g in range(101):
        if g <= cells[0] or g >= cells[-1]:
            p = values[0] if g <= cells[0] else values[-1]
        else:
            right = next(place for place, cell in enumerate(cells) if cell >= g)
            (left_cell, right_cell), (low, high) = cells[right - 1 : right + 1], values[right - 1 : right + 1]
            p = low + (high - low) * Fraction(g - left_cell, right_cell - left_cell)
        if p >= p_min:
            return g
    return 100


@LAW
@given(records(max_size=25))
def test_the_rule_agrees_with_its_definition_in_fractions(given_records: Records) -> None:
    found = given_records.learned()
    event(found.note.value)
    assert found.threshold == exact_rule(given_records)


def test_on_paper_ties_are_met_often_and_decided_as_on_paper() -> None:
    # One payoff size and few cells: break-even falls exactly on the curve again and again.
    rng = np.random.default_rng(7)
    ties = plain_comparison_fails = 0
    for _ in range(400):
        n, wins, losses = int(rng.integers(4, 30)), int(rng.integers(1, 6)), int(rng.integers(1, 6))
        won = tuple(bool(outcome) for outcome in rng.random(n) < losses / (wins + losses))
        scores = tuple(float(score) for score in rng.choice((50.0, 60.0, 70.0), n))
        unit = int(rng.choice((35, 87, 95, 105, 110)))
        case = Records(scores, won, tuple(unit * wins if outcome else -unit * losses for outcome in won))
        found = case.learned()
        assert found.threshold == exact_rule(case)
        if found.p_min is not None:
            tied = np.abs(found.curve - found.p_min) <= TOLERANCE
            ties += bool(tied.any())
            plain_comparison_fails += bool((tied & (found.curve < found.p_min)).any())
    assert ties > 20
    assert plain_comparison_fails > 0, "else the tolerance is not tested"


@LAW
@given(records(), st.integers(0, 2**32 - 1))
def test_the_order_of_records_means_nothing(given_records: Records, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(given_records.scores)).tolist()
    assert given_records.learned(order) == given_records.learned()


@LAW
@given(records())
def test_an_estimate_stays_in_its_ranges_and_survives_json(given_records: Records) -> None:
    found = given_records.learned()
    assert 0 <= found.threshold <= 100
    assert found.n == len(given_records.scores)
    assert np.all(np.diff(found.curve) >= -1e-15)
    assert found.nothing_passes <= (found.threshold == 100)
    assert Estimate.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found


@LAW
@given(records(), st.sampled_from((0.25, 0.5, 2.0, 64.0)))
def test_the_unit_of_results_means_nothing(given_records: Records, scale: float) -> None:
    # Powers of two: nothing is rounded on the way, so not even the last digit may differ.
    plain, scaled = given_records.learned(), given_records.learned(scale=scale)
    assert (scaled.p_min, scaled.threshold, scaled.note) == (plain.p_min, plain.threshold, plain.note)


@LAW
@given(records(), st.integers(1, 200))
def test_better_results_never_raise_the_threshold(given_records: Records, by: int) -> None:
    plain = given_records.learned().threshold
    assert given_records.moved(losses_by=by).learned().threshold <= plain
    assert given_records.moved(wins_by=by).learned().threshold <= plain
    assert given_records.moved(losses_by=-by).learned().threshold >= plain
    assert given_records.moved(wins_by=-by).learned().threshold >= plain


@LAW
@given(records(), SCORES, st.integers(0, 100))
def test_one_more_good_win_never_raises_and_one_more_bad_loss_never_lowers(
    given_records: Records, score: float, beyond: int
) -> None:
    # Wherever its score lies. A win smaller than the mean could do either: it also moves break-even.
    plain = given_records.learned()
    gain, minus_loss = given_records.mean_cents(won=True), given_records.mean_cents(won=False)
    if gain is not None:
        win = int(-(-gain // 1)) + beyond
        assert given_records.joined_by(score, win, won=True).learned().threshold <= plain.threshold
    if minus_loss is not None:
        loss = int(minus_loss // 1) - beyond
        assert given_records.joined_by(score, loss, won=False).learned().threshold >= plain.threshold


@LAW
@given(records())
def test_no_other_threshold_earns_more_in_sample(given_records: Records) -> None:
    # What the rule is in disguise: the largest sum of (y − p_min) over accepted records (STATISTICS 1.1).
    found = given_records.learned()
    if found.p_min is None or not 0.0 < found.p_min < 1.0:
        event("one-sided")
        return
    scores, won = np.array(given_records.scores), np.array(given_records.won)

    def earned(threshold: float) -> float:
        return float(np.sum((won - found.p_min)[scores >= threshold]))

    best = max(earned(float(g)) for g in range(102))
    event("closed" if found.nothing_passes else "open")
    # Above the top no score is left, which is what "nothing passes" accepts.
    assert earned(101.0 if found.nothing_passes else found.threshold) >= best - 1e-9


@LAW
@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_break_even_is_a_probability(win: float, loss: float) -> None:
    p = break_even(win, loss)
    assert 0.0 <= p <= 1.0
    if win > 0.0:
        assert p * win <= (1.0 - p) * loss + 1e-9 * max(win, loss)


CLAMPS = st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)).map(lambda pair: Clamp(min(pair), max(pair)))


@LAW
@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=2), CLAMPS, st.booleans())
def test_a_clamp_keeps_order_and_says_what_it_did(values: list[float], clamp: Clamp, closed: bool) -> None:
    low, high = (clamp.apply(value, ThresholdSource.EV, closed=closed) for value in sorted(values))
    assert clamp.floor <= low.value <= high.value <= clamp.ceiling
    for found, value in zip((low, high), sorted(values), strict=True):
        assert found.unclamped == value
        assert found.clamped is (found.value != value)
        assert clamp.apply(found.value, ThresholdSource.EV).value == found.value


def tables(seed: int, n: int) -> ThresholdTable:
    rng = np.random.default_rng(seed)
    scores, won = np.round(rng.uniform(0.0, 100.0, n), 4), rng.random(n) < rng.uniform(0.2, 0.8)
    names = [None if place == 16 else str(BUCKETS[place]) for place in rng.integers(0, 17, n) % rng.integers(1, 18)]
    net_r = np.where(won, rng.gamma(4.0, 0.4, n), -rng.gamma(6.0, 0.15, n))
    return learn_table(scores, won, net_r, names, score_source="ensemble", w=1.0)


@LAW
@given(st.integers(0, 10_000), st.integers(0, 300), CLAMPS, st.floats(0.0, 100.0))
def test_every_situation_has_a_threshold_by_priority(seed: int, n: int, clamp: Clamp, static: float) -> None:
    table = tables(seed, n)
    event(f"{min(len(table.buckets), 3)} buckets, {table.overall is not None}")
    for bucket in BUCKETS:
        found = table.lookup(bucket, clamp, static)
        if found.source is ThresholdSource.STATIC:
            assert (found.value, n < 50) == (static, True)
        else:
            assert clamp.floor <= found.value <= clamp.ceiling
            assert (found.source is ThresholdSource.QSCORE) is (bucket in table.buckets)
        assert table.lookup(bucket, OPEN, static).unclamped == found.unclamped
    assert ThresholdTable.from_json(json.loads(json.dumps(table.as_json(), allow_nan=False))) == table


@LAW
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=30))
def test_pooled_counts_never_fall_and_keep_their_total(cells: list[tuple[int, int]]) -> None:
    wins = np.array([min(won, n) for won, n in cells], dtype=np.int64)
    counts = np.array([n for _, n in cells], dtype=np.int64)
    means = rising_means(wins, counts)
    assert all(left <= right for left, right in pairwise(means.tolist()))
    np.testing.assert_allclose(means @ counts, wins.sum(), atol=1e-9)
    np.testing.assert_allclose(rising_means(means * counts, counts.astype(np.float64)), means, atol=1e-12)
