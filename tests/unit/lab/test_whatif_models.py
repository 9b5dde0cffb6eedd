"""Policies with a model, on a record that learned: the same bundle, table and profile say again what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from lab.whatif_case import Cases, cases_of
from lab.whatif_policy import HeuristicAlone, LearnedTable, OtherBundle, OtherProfile
from lab.whatif_sequence import replay_ledger
from persistence.memory_store import MemoryStore
from persistence.store import Fact, Mode
from scorer.bundle import Bundle, unpack
from scorer.schema import SCALP
from signals.profile import Clamping
from tests.support.loop import KEY, PROFILE, PROFILES, World


@dataclass(frozen=True)
class Learned:
    facts: Sequence[Fact]
    cases: Cases
    bundle: Bundle

    def fetch(self, address: str) -> Bundle | None:
        return self.bundle if address == self.bundle.address else None

    @property
    def by_model(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.array([case.trade.bundle is not None for case in self.cases.rows])


@pytest.fixture(scope="module")
def learned() -> Learned:
    store = MemoryStore()
    world = World(store)
    world.live(130)
    trained = world.trainer.answer("scalp")
    if trained is None or not trained.address:
        raise LookupError(trained)
    world.live(120)
    store.set_mode(Mode.ML_OFF, actor="desk", reason="drill", now_ms=store.now_ms())
    world.live(20)
    data = store.bundle(trained.address)
    if data is None:
        raise LookupError(trained.address)
    bundle = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash)
    return Learned(store.facts, cases_of(store.facts), bundle)


def test_the_ledger_of_a_record_that_learned_plays_again(learned: Learned) -> None:
    ledger = replay_ledger(learned.facts, PROFILES)
    assert ledger.differences == ()
    assert ledger.signals == 270
    assert {"published", "table", "unclaimed", "control"} <= {fact.kind for fact in learned.facts}


def test_the_same_bundle_says_again_what_it_said(learned: Learned) -> None:
    choice = OtherBundle(learned.bundle, PROFILE).choose(learned.cases)
    wanted, model = learned.cases.flags("wanted"), learned.by_model
    # The last twenty were asked of the rules alone: what the model wanted is not in their reasons.
    spoke = model & (np.arange(len(model)) < 250)
    assert spoke.sum() == 120
    assert (choice.accepted == wanted)[spoke].all()
    assert choice.accepted[spoke].any()
    assert not choice.accepted[spoke].all()
    assert choice.unknown == 0
    assert choice.trained_on.tolist() == [case.trade.ts <= learned.bundle.parts.last_ms for case in learned.cases.rows]
    assert 120 <= choice.trained_on.sum() <= 131


def test_the_same_profile_and_the_same_table_say_again_what_they_said(learned: Learned) -> None:
    wanted = learned.cases.flags("wanted")
    spoke = np.arange(len(wanted)) < 250
    same = OtherProfile(PROFILE, learned.fetch).choose(learned.cases)
    assert (same.accepted == wanted)[spoke].all()
    assert (same.unknown, bool(same.trained_on.any())) == (0, False)
    table = LearnedTable(learned.bundle, PROFILE).choose(learned.cases)
    assert (table.accepted == wanted)[spoke].all()
    assert (table.trained_on == OtherBundle(learned.bundle, PROFILE).choose(learned.cases).trained_on).all()


def test_the_rules_alone_are_what_ml_off_answered(learned: Learned) -> None:
    off = np.arange(len(learned.cases)) >= 250
    alone = HeuristicAlone(PROFILES).choose(learned.cases).accepted
    assert (alone == learned.cases.flags("wanted"))[off].all()


def test_another_blend_or_clamp_is_another_gate(learned: Learned) -> None:
    model = learned.by_model

    def accepted(**changes: object) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        profile = replace(PROFILE, **changes)  # type: ignore[arg-type]
        found = OtherProfile(profile, learned.fetch).choose(learned.cases).accepted
        return np.asarray(found[model])

    as_it_is = accepted()
    assert (accepted(blend=0.0) != as_it_is).any()
    clamped = accepted(clamp=Clamping.SEED)
    scores = np.array([case.trade.model_score for case in learned.cases.rows], dtype=np.float64)[model]
    assert not clamped[scores < 60.0].any()
    assert as_it_is[scores < 60.0].any() or (clamped == as_it_is).all()


def test_scores_of_another_source_are_unknown_to_a_table(learned: Learned) -> None:
    renamed = Cases.of(
        replace(case, trade=replace(case.trade, score_source="ensemble_raw" if learned.bundle.source == "ensemble"
                                    else "ensemble"))
        if case.trade.bundle is not None else case
        for case in learned.cases.rows
    )  # fmt: skip
    choice = LearnedTable(learned.bundle, PROFILE).choose(renamed)
    assert choice.unknown == learned.by_model.sum()
    assert not choice.accepted[learned.by_model].any()
