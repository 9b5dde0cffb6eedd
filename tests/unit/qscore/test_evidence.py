"""Thresholds that borrow: what they equal, what moves them, and what their tables say of themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qscore.blend import FOLDS, LEVELS, Fitted, Folds, best_weight
from qscore.estimate import Note
from qscore.evidence import Drawn, learn_pooled
from qscore.outcomes import BUCKETS, DAY_MS, NOWHERE, PLACES, Outcomes
from qscore.pooled import PooledEstimate, PooledTable
from qscore.table import ThresholdTable, learn_table
from qscore.threshold import OPEN, SEED, Clamp, ThresholdSource
from signals.errors import Invalid
from signals.method import Method
from signals.profile import ThresholdMode, ThresholdPolicy

FloatArray = npt.NDArray[np.float64]
EVIDENCE = ThresholdPolicy(method=Method.EVIDENCE)
HONEST = ThresholdPolicy(method=Method.EVIDENCE, labels=Method.EVIDENCE)


def columns(seed: int, n: int, *, buckets: int = 6, timeouts: float = 0.0, timed: bool = False) -> dict[str, Any]:
    """Columns of outcomes whose wins grow with the score, about 1.5 R against 1 R."""
    rng = np.random.default_rng(seed)
    scores = np.round(np.clip(rng.normal(60.0, 15.0, n), 0.0, 100.0), 4)
    decisive = rng.random(n) >= timeouts
    won = decisive & (rng.random(n) < 1.0 / (1.0 + np.exp(-((scores - 60.0) / 25.0 - 0.4))))
    net_r = np.where(won, rng.gamma(9.0, 1.5 / 9.0, n), -rng.gamma(25.0, 1.0 / 25.0, n))
    entry = np.sort(rng.integers(1, 60 * DAY_MS, n)) if timed else np.zeros(n, dtype=np.int64)
    return {
        "scores": scores,
        "won": won,
        "net_r": np.where(decisive, net_r, rng.normal(-0.3, 0.3, n)),
        "buckets": [None if place == buckets else str(BUCKETS[place]) for place in rng.integers(0, buckets + 1, n)],
        "decisive": decisive,
        "weight": rng.uniform(0.3, 1.0, n),
        "entry_ms": entry,
        "exit_ms": entry + rng.integers(1, 2 * DAY_MS, n) if timed else entry,
    }


def learned(told: Mapping[str, Any], policy: ThresholdPolicy = EVIDENCE, **changes: Any) -> ThresholdTable:
    return learn_table(**(dict(told) | changes), score_source="ensemble", w=1.0, policy=policy)


def test_with_m_0_it_is_the_seed_rule_on_1000_sets() -> None:
    rng = np.random.default_rng(20_261)
    policy = ThresholdPolicy(method=Method.EVIDENCE, mode=ThresholdMode.SPEC)
    notes = set()
    for _ in range(1_000):
        n = int(rng.integers(50, 130))
        scores = rng.choice(np.round(rng.uniform(0.0, 100.0, int(rng.integers(1, 90))), 4), n)
        won = rng.random(n) < np.clip(scores / 100.0 * rng.uniform(-0.05, 2.0), 0.0, 1.0)
        size = float(rng.choice((1.0, 0.0), p=(0.9, 0.1)))
        net_r = np.where(won, rng.choice((1.0, 2.0, -0.1), p=(0.45, 0.45, 0.1)), -size * rng.choice((1.0, 0.5), n))
        names = [str(BUCKETS[place]) for place in rng.integers(0, int(rng.integers(1, 9)), n)]
        table = learn_table(scores, won, net_r, names, score_source="ensemble", w=1.0, policy=policy)
        assert table.evidence is not None
        assert table.overall is not None
        plain = table.under(ThresholdPolicy())
        for bucket in BUCKETS:
            assert table.lookup(bucket, OPEN, 70.0) == plain.lookup(bucket, OPEN, 70.0)
        pairs = [(table.overall, table.evidence.overall)]
        pairs += [(found, table.evidence.buckets[bucket]) for bucket, found in table.buckets.items()]
        for seed, pooled in pairs:
            assert (pooled.threshold, pooled.note, pooled.p_min) == (seed.threshold, seed.note, seed.p_min)
            np.testing.assert_array_equal(pooled.curve, seed.curve)
            notes.add(seed.note)
    assert notes == set(Note), "every reason there is must have come up"


def test_honest_labels_of_binary_payoffs_are_the_specified_ones() -> None:
    compared = 0
    for seed in range(8):
        told = columns(seed, 300)
        told["net_r"] = np.where(told["won"], 1.7, -1.0)
        told["weight"] = np.ones(300)
        for mode in ThresholdMode:
            spec = learned(told, replace(EVIDENCE, mode=mode)).evidence
            honest = learned(told, replace(HONEST, mode=mode)).evidence
            assert spec is not None
            assert honest is not None
            # Where break-even is borrowed the label is p_min and not 0 or 1 apart; own ratios agree to the point.
            if not any(found.shrunk for found in spec.buckets.values()):
                assert [found.threshold for found in honest.buckets.values()] == [
                    found.threshold for found in spec.buckets.values()
                ]
                compared += len(spec.buckets)
    assert compared > 50


@pytest.mark.parametrize("policy", [EVIDENCE, HONEST, replace(EVIDENCE, mode=ThresholdMode.CAUTIOUS)])
@pytest.mark.parametrize("timed", [False, True])
def test_the_order_of_records_means_nothing(policy: ThresholdPolicy, *, timed: bool) -> None:
    told = columns(3, 240, timeouts=0.2, timed=timed)
    order = np.random.default_rng(4).permutation(240)
    turned = {
        name: [values[place] for place in order] if isinstance(values, list) else values[order]
        for name, values in told.items()
    }
    drawn = Drawn(resamples=20, seed=5)
    assert learned(turned, policy, drawn=drawn) == learned(told, policy, drawn=drawn)


@pytest.mark.parametrize("labels", list(Method))
def test_curves_never_fall_and_thresholds_stay_in_their_range(labels: Method) -> None:
    weights = set()
    for seed in range(12):
        policy = replace(EVIDENCE, labels=labels, mode=list(ThresholdMode)[seed % 3])
        told = columns(seed, 60 + 60 * seed, buckets=1 + seed % 9, timeouts=0.3 * (seed % 2), timed=seed % 4 == 0)
        if seed == 7:
            # Where high scores do worse the curve must not fall either.
            told["scores"] = 100.0 - told["scores"]
        table = learned(told, policy)
        if table.overall is None:
            continue
        assert table.evidence is not None
        weights.add(table.evidence.m)
        for found in (table.evidence.overall, *table.evidence.buckets.values()):
            assert 0 <= found.threshold <= found.cautious <= 100
            assert np.all(np.diff(found.curve) >= -1e-12)
            assert np.all(found.lower_curve <= found.curve + 1e-12)
            assert found.effective_n <= found.n
        for clamp in (SEED, Clamp(40.0, 90.0)):
            for bucket in BUCKETS:
                assert clamp.floor <= table.lookup(bucket, clamp, 70.0).value <= clamp.ceiling
        assert ThresholdTable.from_json(json.loads(json.dumps(table.as_json(), allow_nan=False))) == table
    assert len(weights) > 2


def test_a_bucket_that_is_too_small_meets_what_it_meets_today() -> None:
    told = columns(8, 200, buckets=3)
    told["buckets"] = ["us|low" if place < 19 else "off|high" for place in range(200)]
    table = learned(told)
    assert set(map(str, table.buckets)) == {"off|high"}
    assert table.evidence is not None
    for method in Method:
        under = table.under(replace(EVIDENCE, method=method))
        assert under.lookup(BUCKETS[0], OPEN, 70.0).source is ThresholdSource.EV
    overall = table.evidence.overall.threshold
    assert table.lookup(BUCKETS[0], OPEN, 70.0).value == overall


def test_losing_timeouts_raise_an_honest_threshold_and_are_not_looked_at_by_specified_labels() -> None:
    told = columns(9, 800, buckets=2)
    many = {
        name: values * 2 if isinstance(values, list) else np.concatenate([values, values])
        for name, values in told.items()
    }
    late = np.arange(1600) >= 800
    many |= {"decisive": ~late, "won": many["won"] & ~late, "net_r": np.where(late, -0.6, many["net_r"])}
    spec, with_timeouts = learned(told).evidence, learned(many).evidence
    assert spec is not None
    assert with_timeouts == spec
    before, after = learned(told, HONEST).evidence, learned(many, HONEST).evidence
    assert before is not None
    assert after is not None
    assert after.overall.threshold > before.overall.threshold
    assert (after.overall.n, after.overall.timeouts) == (1600, 800)


def test_weights_are_looked_at_by_the_evidence_and_not_by_the_seed_rule() -> None:
    told = columns(10, 300)
    even = learned(told, weight=np.ones(300))
    assert even.evidence is not None
    assert even.evidence.overall.effective_n == 300.0
    uneven = learned(told)
    assert uneven.evidence is not None
    weight = told["weight"]
    assert uneven.evidence.overall.effective_n == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert (uneven.overall, uneven.buckets) == (even.overall, even.buckets)
    half = learned(told, weight=np.full(300, 0.5))
    # Half of the weight everywhere leaves more room to what is borrowed, but never touches the rule.
    assert half.evidence is not None
    assert half.evidence.overall.effective_n == 300.0


def outcomes_of(told: Mapping[str, Any]) -> Outcomes:
    rest = {name: told[name] for name in ("decisive", "weight", "entry_ms", "exit_ms")}
    return Outcomes.of(told["scores"], told["won"], told["net_r"], told["buckets"], **rest)


def test_walking_forward_nothing_is_learned_that_had_not_ended() -> None:
    outcomes = outcomes_of(columns(11, 400, timed=True))
    folds = Folds.of(outcomes)
    assert folds.train.shape == folds.test.shape == (FOLDS, 400)
    for train, test in zip(folds.train, folds.test, strict=True):
        assert outcomes.exit_ms[train].max() <= outcomes.entry_ms[test].min()
    tested = folds.test.sum(axis=0)
    assert tested.tolist() == [0] * 200 + [1] * 200, "the later half, each record once"
    assert np.all(np.diff(folds.train.sum(axis=1)) > 0)


def test_without_times_every_record_is_held_out_once() -> None:
    folds = Folds.of(outcomes_of(columns(12, 101)))
    assert folds.test.sum(axis=0).tolist() == [1] * 101
    assert not np.any(folds.test & folds.train)


def test_parts_are_not_dealt_out_by_outcome() -> None:
    # Records are sorted by outcome within each score. In turn, every part would get the same share of the wins.
    rng = np.random.default_rng(27)
    n = 6_000
    scores, won = rng.integers(58, 62, n).astype(np.float64), rng.random(n) < 0.5
    outcomes = Outcomes.of(scores, won, np.where(won, 1.5, -1.0), ["us|low"] * n)
    rates = [
        outcomes.won[test & (outcomes.cell == cell)].mean() - outcomes.won[outcomes.cell == cell].mean()
        for test in Folds.of(outcomes).test
        for cell in range(58, 62)
    ]
    # A quarter of 1,500 records leaves a standard error of 2.2 points; dealt out in turn there would be next to none.
    assert 0.01 < float(np.std(rates)) < 0.04
    assert np.ptp(Folds.of(outcomes).test.sum(axis=1)) < 300


def test_the_gain_is_what_held_out_records_earn_above_each_level() -> None:
    told = columns(13, 500, timed=True)
    told["weight"] = np.ones(500)
    outcomes = outcomes_of(told)
    fitted = Fitted.of(outcomes, Method.SPEC)
    assert fitted is not None
    folds = Folds.of(outcomes)
    for m, gain in fitted.tried()[::2]:
        earned = 0.0
        starts = fitted.starts(m, fitted.levels + LEVELS)
        for fold, test in enumerate(folds.test):
            for place in range(PLACES):
                inside = test & (outcomes.place == place)
                for number, move in enumerate(LEVELS):
                    level = float(fitted.even.p_min[1 + fold, place]) + move
                    passes = inside & (outcomes.cell >= starts[fold, place, number])
                    earned += float(np.sum(outcomes.won[passes] - level)) / len(LEVELS)
        assert gain == pytest.approx(earned / int(folds.test.sum()))


def test_of_equal_gains_the_largest_weight_is_taken() -> None:
    assert best_weight(((0.0, 0.1), (10.0, 0.3), (30.0, 0.3), (math.inf, 0.2))) == 30.0
    assert math.isfinite(best_weight(()))


def test_own_records_win_in_the_end() -> None:
    # Sixteen situations, one of which has its jump elsewhere: it must be believed once it is large.
    rng = np.random.default_rng(14)
    found = {}
    for n in (40, 4_000):
        scores = rng.uniform(20.0, 95.0, 16 * n)
        place = np.repeat(np.arange(16), n)
        won = rng.random(16 * n) < np.where(scores >= np.where(place == 5, 80.0, 50.0), 0.7, 0.2)
        names = [str(BUCKETS[number]) for number in place]
        table = learn_pooled(Outcomes.of(scores, won, np.where(won, 1.5, -1.0), names))
        found[n] = table.buckets[BUCKETS[5]]
    assert found[40].own_weight < found[4_000].own_weight
    assert 78 <= found[4_000].threshold <= 81


def test_intervals_are_drawn_by_their_seed_and_never_move_a_threshold() -> None:
    told = columns(15, 400)
    tables = [learned(told, drawn=Drawn(resamples=60, seed=seed)).evidence for seed in (1, 1, 2)]
    plain = learned(told).evidence
    assert plain is not None
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]
    assert plain.overall.interval is None
    for table in tables:
        assert table is not None
        for bucket, found in table.buckets.items():
            assert replace(found, interval=None, seed_interval=None) == plain.buckets[bucket]
            assert found.interval is not None
            assert found.interval[0] <= found.threshold <= found.interval[1]


def test_intervals_of_dependent_days_are_wider() -> None:
    # Forty days that are good or bad as a whole: records of a day are drawn together.
    rng = np.random.default_rng(16)
    n, days = 1_600, 40
    day = np.sort(rng.integers(0, days, n))
    scores = np.round(np.clip(rng.normal(60.0, 15.0, n), 0.0, 100.0), 4)
    logit = (scores - 60.0) / 25.0 - 0.4 + rng.normal(0.0, 1.0, days)[day]
    won = rng.random(n) < 1.0 / (1.0 + np.exp(-logit))
    net_r = np.where(won, 1.5, -1.0)
    told = {"scores": scores, "won": won, "net_r": net_r, "buckets": ["us|low"] * n}
    entry = (1 + day * DAY_MS).astype(np.int64)
    width = {}
    for timed in (False, True):
        times = {"entry_ms": entry, "exit_ms": entry + 1_000} if timed else {}
        found = learned(told | times, drawn=Drawn(resamples=200, seed=1)).evidence
        assert found is not None
        assert found.overall.seed_interval is not None
        width[timed] = found.overall.seed_interval[1] - found.overall.seed_interval[0]
    assert width[True] > width[False]


def test_cautious_can_only_raise_and_the_badge_can_only_close() -> None:
    told = columns(17, 700, buckets=8)
    for labels in Method:
        base = replace(EVIDENCE, labels=labels)
        balanced = learned(told, base)
        cautious = learned(told, replace(base, mode=ThresholdMode.CAUTIOUS))
        raised = 0
        for bucket in BUCKETS:
            plain, careful = (table.lookup(bucket, OPEN, 70.0) for table in (balanced, cautious))
            assert careful.value >= plain.value
            assert careful.closed >= plain.closed
            raised += careful.value > plain.value
            for method in Method:
                free = balanced.under(replace(base, method=method)).lookup(bucket, SEED, 70.0)
                shown = balanced.under(replace(base, method=method, require_badge=True)).lookup(bucket, SEED, 70.0)
                assert all(free.passes(score) or not shown.passes(score) for score in np.linspace(0.0, 100.0, 401))
        assert raised > 0


def test_a_required_badge_closes_what_has_none_and_opens_where_it_begins() -> None:
    n = 200
    scores = np.where(np.arange(n) < 100, 72.0, 45.0)
    won = np.where(np.arange(n) < 100, np.arange(n) % 4 != 0, np.arange(n) % 2 == 0)
    told = {
        "scores": scores,
        "won": won,
        "net_r": np.where(won, 1.5, -1.0),
        "buckets": ["us|low"] * (n - 10) + ["off|low"] * 10,
    }
    policy = replace(EVIDENCE, require_badge=True)
    table = learned(told, policy)
    own, other = next(iter(table.buckets)), BUCKETS[-1]
    assert table.evidence is not None
    badge = table.evidence.buckets[own].certified_from
    assert badge is not None
    assert table.lookup(own, Clamp(0.0, 95.0), 70.0).value == max(badge, table.evidence.buckets[own].threshold)
    assert table.lookup(other, SEED, 70.0).closed, "the whole has no badge of its own to lend"
    assert not table.lookup(other, SEED, 70.0).passes(100.0)
    empty = learned({name: values[:30] for name, values in told.items()}, policy)
    assert empty.overall is None
    assert empty.lookup(own, SEED, 70.0).closed, "nothing is shown before anything is learned"


@pytest.mark.parametrize("other", [{"labels": Method.EVIDENCE}, {"mode": ThresholdMode.CAUTIOUS}])
def test_a_table_of_other_labels_or_another_mode_is_no_table(other: dict[str, Any]) -> None:
    table = learned(columns(18, 200))
    asked = replace(EVIDENCE, **other)
    assert not table.fits(asked)
    with pytest.raises(ValueError, match="other labels or in another mode"):
        table.under(asked)
    with pytest.raises(ValueError, match="other labels or in another mode"):
        replace(table, policy=asked)
    record = table.as_json() | {"labels" if "labels" in other else "mode": str(next(iter(other.values())))}
    with pytest.raises(Invalid, match="other labels"):
        ThresholdTable.from_json(record)
    # By the seed rule, which looks at neither, it is one; not where a badge must be read from the evidence.
    plain = replace(asked, method=Method.SPEC)
    assert table.fits(plain)
    assert not table.fits(replace(plain, require_badge=True))
    with pytest.raises(ValueError, match="or never"):
        replace(table, evidence=None)


def test_break_even_is_that_of_the_method_in_force() -> None:
    table = learned(columns(11, 300))
    plain = table.under(ThresholdPolicy())
    assert table.evidence is not None
    assert table.overall is not None
    found = {bucket: (table.break_even(bucket), plain.break_even(bucket)) for bucket in BUCKETS}
    for bucket, (pooled, seed) in found.items():
        if bucket in table.buckets:
            assert (pooled, seed) == (table.evidence.buckets[bucket].p_min, table.buckets[bucket].p_min)
        else:
            assert (pooled, seed) == (table.evidence.overall.p_min, table.overall.p_min)
    assert any(pooled != seed for pooled, seed in found.values()), "a case must tell them apart"
    assert learned(columns(11, 0)).break_even(BUCKETS[0]) is None


def test_rows_tell_both_methods() -> None:
    table = learned(columns(19, 300, buckets=3), drawn=Drawn(resamples=40, seed=1))
    in_force, beside = table.rows(OPEN), table.rows(OPEN, Method.SPEC)
    assert [row.bucket for row in in_force] == [row.bucket for row in beside]
    assert {(row.method, row.in_force) for row in in_force} == {(Method.EVIDENCE, True)}
    assert {(row.method, row.in_force) for row in beside} == {(Method.SPEC, False)}
    assert table.evidence is not None
    for row, (bucket, found) in zip(in_force, table.evidence.buckets.items(), strict=False):
        assert row.threshold == table.lookup(bucket, OPEN, 70.0)
        assert (row.interval, row.effective_n, row.own_weight) == (found.interval, found.effective_n, found.own_weight)
        assert row.m == table.evidence.m
    assert all(row.interval is not None for row in beside)


def test_what_cannot_be_pooled_is_left_to_the_seed_rule() -> None:
    n = 80
    told = {"scores": np.full(n, 60.0), "net_r": np.full(n, -1.0), "buckets": ["us|low"] * n}
    for won, note in ((np.zeros(n, dtype=np.bool_), Note.NO_WINS), (np.ones(n, dtype=np.bool_), Note.WINS_DO_NOT_PAY)):
        table = learned(told | {"won": won}, drawn=Drawn(resamples=10, seed=1))
        assert table.evidence is not None
        assert (table.evidence.m, table.evidence.overall.note) == (0.0, note)
        assert table.lookup(BUCKETS[0], OPEN, 70.0).closed


def moved(table: PooledTable, by: int) -> PooledTable:
    """The table as if it had been in force with other thresholds."""
    return replace(
        table,
        overall=replace(table.overall, held=table.overall.threshold + by),
        buckets={bucket: replace(found, held=found.threshold + by) for bucket, found in table.buckets.items()},
    )


def test_a_threshold_that_moves_by_a_point_stays() -> None:
    outcomes = outcomes_of(columns(20, 400, timed=True))
    table = learn_pooled(outcomes)
    again = learn_pooled(outcomes, incumbent=moved(table, 1))
    for bucket, found in again.buckets.items():
        assert found.held == table.buckets[bucket].threshold + 1
        assert found.in_force(ThresholdMode.BALANCED) == found.held
        assert found.threshold == table.buckets[bucket].threshold
    assert again.overall.held == table.overall.threshold + 1


def test_a_threshold_moves_where_held_out_records_gain_and_a_second_look_changes_nothing() -> None:
    outcomes = outcomes_of(columns(21, 900, buckets=4, timed=True))
    table = learn_pooled(outcomes)
    far = learn_pooled(outcomes, incumbent=moved(table, 40 - min(40, max(0, table.overall.threshold - 60))))
    assert far.overall.held is None, "nothing passes there, and much is gained by opening"
    assert learn_pooled(outcomes, incumbent=far) == far
    near = learn_pooled(outcomes, incumbent=moved(table, 1))
    assert learn_pooled(outcomes, incumbent=near) == near


def test_only_thresholds_of_the_same_kind_are_held() -> None:
    outcomes = outcomes_of(columns(22, 400))
    table = learn_pooled(outcomes)
    other = moved(learn_pooled(outcomes, labels=Method.EVIDENCE), 1)
    assert learn_pooled(outcomes, incumbent=other) == table
    told = columns(22, 400)
    before = learned(told)
    assert before.evidence is not None
    shifted = replace(before, evidence=moved(before.evidence, 1))
    held = learned(told, incumbent=shifted).evidence
    assert held is not None
    assert held.overall.held is not None
    for key in (("ensemble", 0.5), ("ensemble_raw", 1.0)):
        other_scores = learn_table(**told, score_source=key[0], w=key[1], policy=EVIDENCE, incumbent=shifted).evidence
        assert other_scores == before.evidence, "across kinds of score nothing is compared"


def estimate_json() -> dict[str, Any]:
    table = learned(columns(23, 200, buckets=2), drawn=Drawn(resamples=20, seed=1)).evidence
    assert table is not None
    return table.overall.as_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 3),
        ("cautious", 1),
        ("note", "no_wins"),
        ("n", 7),
        ("p_min", 1.4),
        ("p_min", None),
        ("shrunk", 1),
        ("pooled", "yes"),
        ("own_weight", 1.1),
        ("reached", -0.1),
        ("effective_n", 1e9),
        ("effective_n", 0.0),
        ("interval", [70, 60]),
        ("interval", [60]),
        ("interval", [60, 101]),
        ("held", 101),
        ("certified_from", -1),
        ("cells", []),
        ("probability", [0.5]),
        ("wins", -1),
    ],
)
def test_an_estimate_is_checked_when_it_is_read(field: str, value: Any) -> None:
    record = estimate_json()
    assert PooledEstimate.from_json(json.loads(json.dumps(record))).as_json() == record
    with pytest.raises(Invalid):
        PooledEstimate.from_json(record | {field: value})


def test_a_curve_that_falls_is_not_read() -> None:
    record = estimate_json()
    for name in ("probability", "lower"):
        with pytest.raises(Invalid, match="never fall"):
            PooledEstimate.from_json(record | {name: record[name][::-1]})


@pytest.mark.parametrize(
    ("field", "value"),
    [("labels", "guess"), ("mode", "bold"), ("m", -1.0), ("m", 0.0), ("tried", [[1.0]]), ("buckets", {"mars|low": {}})],
)
def test_a_table_of_evidence_is_checked_when_it_is_read(field: str, value: Any) -> None:
    found = learned(columns(24, 200, buckets=2)).evidence
    assert found is not None
    assert found.m > 0.0
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert PooledTable.from_json(record) == found
    with pytest.raises(Invalid):
        PooledTable.from_json(record | {field: value})


def test_records_that_contradict_themselves_are_refused() -> None:
    told = columns(25, 60)
    late = np.ones(60, dtype=np.bool_)
    for change, said in (
        ({"decisive": ~late, "won": late}, "has not won"),
        ({"weight": np.zeros(60)}, "weights positive"),
        ({"entry_ms": np.full(60, 5), "exit_ms": np.full(60, 4)}, "ends after"),
    ):
        with pytest.raises(ValueError, match=said):
            outcomes_of(told | change)
    with pytest.raises(ValueError, match="decisive"):
        learn_pooled(outcomes_of(told | {"decisive": ~late, "won": ~late}))


def test_records_without_a_situation_belong_to_the_whole_only() -> None:
    told = columns(26, 120)
    told["buckets"] = [None] * 120
    outcomes = outcomes_of(told)
    assert set(outcomes.place.tolist()) == {NOWHERE}
    table = learn_pooled(outcomes)
    assert (len(table.buckets), table.overall.n) == (0, 120)
