"""A replay learns as live does: thresholds and attempts at the same outcomes, through the same trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lab.replay import Learner, Replay, Replayed
from learning.promote import Decline, Declined
from market.generated import generate
from market.reference_strategies import proposals
from persistence.memory_store import MemoryStore
from runtime.train import Trainer
from signals.profile import SCALP, Profile
from tests.support.loop import UNLIMITED


def learner_for(store: MemoryStore, profiles: Mapping[str, Profile], key: bytes) -> Learner:
    return Trainer(store, profiles, key)


def replayed(first_training_at: int) -> tuple[Replayed, list[tuple[str, float]], Replay]:
    candles = generate(11, symbol="GENUSDT", timeframe="5m", candles=20_000)
    profile = replace(SCALP, first_training_at=first_training_at, limits=UNLIMITED)
    seen: list[tuple[str, float]] = []
    replay = Replay(
        profile,
        learner_for=learner_for,
        on_answer=lambda _signal, answer: seen.append((str(answer.threshold_source), float(answer.threshold or 0.0))),
    )
    return replay.run([candles], proposals("scalp", candles)), seen, replay


def test_the_table_comes_at_fifty_and_with_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: Declined(Decline.AUC, "noise"))
    # The first attempt only at 80, as a trend that trained at 30 would have it.
    found, seen, replay = replayed(80)
    assert len(found.trades) > 140
    assert [(trained.count >= 80, trained.reason) for trained in found.trained[:1]] == [(True, "LEARN_AUC")]
    sources = [source for source, _ in seen]
    before = sources.index(next(source for source in sources if source != "static"))
    assert before >= 50
    assert set(sources[:before]) == {"static"}
    # A whole table or a bucket's own: from then on nothing is compared with the static threshold again.
    assert set(sources[before:]) <= {"qscore", "ev"}
    assert all(60.0 <= threshold <= 95.0 for source, threshold in seen if source != "static")
    standing = replay.store.training("scalp")
    assert standing.bundle is None
    assert standing.table_count == found.trained[-1].count
    again, seen_again, _ = replayed(80)
    assert (again.decisions_hash, seen_again) == (found.decisions_hash, seen)
