"""The ensemble by evidence from outcomes to a candidate: sizes, stack, gate, and the twin beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import learning.fit
from learning.example import Example
from learning.fit import Candidate, FitSettings, fit_candidate
from learning.members import Disagreement, HeadSettings, assert_agreement, compiled
from learning.metrics import Metrics
from learning.promote import Decline, Declined
from learning.regularised import RegularisedHeads, Sizes
from learning.skill import Skill, brier_skill
from scorer.bundle import pack
from scorer.ensemble import Ensemble, Stack
from scorer.schema import SCALP
from signals.method import Method
from signals.profile import Kind
from tests.support.lessons import KEY, MINUTE_MS, SMALL, lessons

FOUR_HOURS_MS = 240 * MINUTE_MS
ALONE = replace(SMALL, ensemble=Method.EVIDENCE, neighbours=0)
EVIDENCE = replace(ALONE, beside=True)
WITH_NETWORK = replace(ALONE, stacked_network_from=100)


def always(_: Metrics) -> Declined | None:
    return None


def fit(given: list[Example], settings: FitSettings = ALONE, **more: Any) -> Candidate | Declined:
    return fit_candidate(given, SCALP, seed=7, settings=settings, **more)


def fitted(given: list[Example], settings: FitSettings = ALONE, **more: Any) -> Candidate:
    found = fit(given, settings, **more)
    assert isinstance(found, Candidate), found
    return found


def packed(candidate: Candidate) -> bytes:
    return pack(candidate.parts(thresholds={}, created_at_ms=1), KEY)


@pytest.fixture(scope="module")
def given() -> list[Example]:
    return lessons(200, edge=3.0, apart_ms=FOUR_HOURS_MS)


@pytest.fixture(scope="module")
def candidate(given: list[Example]) -> Candidate:
    return fitted(given, WITH_NETWORK)


# --- the heads


@pytest.mark.parametrize(
    ("n", "leaf", "rounds"),
    [
        pytest.param(60, 5, 10, id="few: the specified leaf, the fewest rounds"),
        pytest.param(600, 10, 15, id="a sixtieth"),
        pytest.param(10_000, 167, 150, id="many: never more rounds than specified"),
    ],
)
def test_sizes_follow_from_the_number_of_rows(n: int, leaf: int, rounds: int) -> None:
    found = Sizes.of(n, 30, HeadSettings())
    assert (found.leaf, found.rounds, found.forest_trees, found.units) == (leaf, rounds, 100, 16)
    assert found.ridge == pytest.approx(0.01)


def heads() -> tuple[RegularisedHeads, Ensemble, Any]:
    rng = np.random.default_rng(2)
    matrix = np.column_stack((rng.normal(size=(900, 5)) * [1.0, 1e-3, 1e4, 1.0, 1.0], np.full(900, 3.0)))
    won = rng.random(900) < 1.0 / (1.0 + np.exp(-matrix[:, 0] - matrix[:, 2] / 1e4))
    learner = RegularisedHeads(HeadSettings(forest_trees=30, boosting_trees=20), with_network=True, seed=4)
    assert learner.fit(matrix, won, np.where(rng.random(900) < 0.5, 1.0, 0.8)) is learner
    stack = Stack(np.full(4, 0.25), 0.5, 0.8)
    return learner, compiled(learner.members_, 6, stack), matrix


def test_the_arrays_say_what_the_heads_say() -> None:
    learner, ensemble, matrix = heads()
    assert ensemble.members == ("forest", "boosting", "network", "linear")
    assert_agreement(ensemble, learner.members_, matrix)
    said = learner.members_.probabilities(matrix)
    assert np.abs(ensemble.win_probabilities(matrix) - (0.5 + 0.8 * (said.mean(axis=1) - 0.5))).max() <= 1e-9
    assert [ensemble.win_probability(row) for row in matrix[:40]] == ensemble.win_probabilities(matrix[:40]).tolist()
    line = ensemble.linear
    assert line is not None
    bent = replace(ensemble, linear=replace(line, biases=(line.biases[0] + 1e-7,)))
    with pytest.raises(Disagreement, match="linear"):
        assert_agreement(bent, learner.members_, matrix)
    value = ensemble.trees.value.copy()
    value[-1] += 1e-6
    with pytest.raises(Disagreement):
        assert_agreement(replace(ensemble, trees=replace(ensemble.trees, value=value)), learner.members_, matrix)


# --- the candidate


def test_order_and_threads_change_nothing(given: list[Example], candidate: Candidate) -> None:
    shuffled = [given[place] for place in np.random.default_rng(3).permutation(len(given))]
    assert packed(fitted(shuffled, WITH_NETWORK)) == packed(candidate)
    with threadpool_limits(limits=2):
        assert packed(fitted(given, WITH_NETWORK)) == packed(candidate)


def test_what_it_carries(candidate: Candidate) -> None:
    assert candidate.ensemble.members == ("forest", "boosting", "network", "linear")
    standing = candidate.standing
    assert standing.method is Method.EVIDENCE
    assert standing.stack is candidate.ensemble.stack
    assert standing.blocked == candidate.raw_metrics
    assert standing.walk_forward == candidate.walk_forward
    assert tuple(standing.members) == candidate.ensemble.members
    record = standing.record
    assert sum(record["weights"].values()) == pytest.approx(1.0)
    assert 0.0 < record["trust"] <= 1.0
    assert record["skill"]["low"] > 0.0
    assert sum(candidate.importance.values()) == pytest.approx(1.0)
    assert max(candidate.importance, key=lambda name: candidate.importance[name]) == "atr_pct"
    # Two blocks of five tell nothing: one has no heads before it, the next no rows to weigh heads by.
    assert candidate.walk_forward is not None
    assert candidate.walk_forward.n == 120


def test_what_the_gate_judges_knew_nothing_of_what_came_later(
    given: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Any] = []

    def recording(probability: Any, base: Any, won: Any, **lived: Any) -> Skill:
        judged.append((probability, base))
        return brier_skill(probability, base, won, **lived)

    monkeypatch.setattr(learning.fit, "brier_skill", recording)
    # Rows are in the order of exits: blocks of forty. Whatever became of the last block, or of its neighbour before.
    for turned in ({*range(160, 200)}, {*range(120, 160)}):
        fit([replace(one, won=one.won is not (place in turned)) for place, one in enumerate(given)], rule=always)
    fit(given, rule=always)
    (last, last_base), (third, _), (plain, base) = judged
    assert last.tolist() == plain.tolist()
    assert last_base.tolist() == base.tolist()
    assert third[:80].tolist() == plain[:80].tolist()
    assert third[80:].tolist() != plain[80:].tolist()


def test_weights_of_outcomes_enter_the_heads(given: list[Example], candidate: Candidate) -> None:
    kinds = {Kind.EXECUTED: Kind.PHANTOM, Kind.PHANTOM: Kind.EXECUTED}
    other = fitted([replace(one, kind=kinds[one.kind]) for one in given], WITH_NETWORK, rule=always)
    assert [r.raw_probability for r in other.records] != [r.raw_probability for r in candidate.records]


def test_the_network_joins_when_a_fold_is_large_enough(given: list[Example]) -> None:
    for joins_from, members in ((160, 4), (161, 3)):
        found = fitted(given, replace(ALONE, stacked_network_from=joins_from), rule=always)
        assert len(found.ensemble.members) == members
        assert found.standing.walk_forward is not None


# --- the gate


def test_noise_shows_no_skill_and_an_edge_does() -> None:
    for seed in range(2):
        found = fit(lessons(200, edge=0.0, seed=seed, apart_ms=FOUR_HOURS_MS))
        assert isinstance(found, Declined)
        assert found.code is Decline.NO_SKILL
        assert found.metrics is not None
        assert found.ensemble is not None
        assert found.ensemble["skill"]["low"] <= 0.0
        assert "walking forward over 120 outcomes" in found.detail
        assert isinstance(fit(lessons(200, edge=3.0, seed=seed, apart_ms=FOUR_HOURS_MS)), Candidate)


def test_one_day_shows_nothing() -> None:
    found = fit(lessons(140, edge=3.0))
    assert isinstance(found, Declined)
    assert found.code is Decline.NO_SKILL
    assert "unknown" in found.detail


def test_too_few_to_walk_over_cannot_be_measured() -> None:
    found = fit(lessons(20, edge=3.0, apart_ms=FOUR_HOURS_MS))
    assert isinstance(found, Declined)
    assert found.code is Decline.UNMEASURED


def test_the_rule_given_has_the_last_word(given: list[Example]) -> None:
    judged: list[Metrics] = []

    def never(metrics: Metrics) -> Declined | None:
        judged.append(metrics)
        return Declined(Decline.AUC, "not today", metrics)

    found = fit(given, rule=never)
    assert isinstance(found, Declined)
    assert found.detail == "not today"
    assert judged == [fitted(given).raw_metrics]


# --- beside each other


def test_each_method_is_the_twin_of_the_other(given: list[Example]) -> None:
    spec = fitted(given, replace(EVIDENCE, ensemble=Method.SPEC))
    evidence = fitted(given, EVIDENCE)
    assert spec.twin is not None
    assert evidence.twin is not None
    assert spec.twin.record == evidence.standing.record
    assert evidence.twin.record == spec.standing.record
    assert spec.standing.stack is None
    assert spec.standing.skill is not None
    assert spec.parts(thresholds={}, created_at_ms=1).metrics["ensemble_twin"] == spec.twin.record


def test_the_twin_changes_nothing_of_what_is_served(given: list[Example]) -> None:
    both, alone = (fitted(given, replace(EVIDENCE, ensemble=Method.SPEC, beside=beside)) for beside in (True, False))
    assert alone.twin is None
    assert both.records == alone.records
    assert both.ensemble.linear is None
    assert both.ensemble.stack is None
    assert both.ensemble.trees.value.tolist() == alone.ensemble.trees.value.tolist()
    assert both.golden.expected.tolist() == alone.golden.expected.tolist()
