"""Requests, attempts and pointers of the learning loop, the same on every store."""

from __future__ import annotations

from typing import Any

import pytest

from persistence.store import PublishCommand, PublishStatus, Store
from tests.support.stores import T0 as NOW
from tests.support.stores import Backend, ending, held, phantom


def won(store: Store, *names: str) -> None:
    for name in names:
        store.decide(phantom(name))
        store.close(ending(held(store, name)))


def publication(attempt: int, address: str, **changes: Any) -> PublishCommand:
    command: dict[str, Any] = {
        "strategy": "trend",
        "attempt": attempt,
        "address": address,
        "trained_count": 2,
        "next_at": 4,
        "network": False,
        "tables": f'{{"of":"{address}"}}',
        "manifest": f'{{"address":"{address}"}}',
        "now_ms": NOW,
    }
    return PublishCommand(**{**command, **changes})


@pytest.fixture
def learner(store: Store) -> Store:
    store.register("trend", "{}", "70", first_training=2, now_ms=NOW)
    return store


def requests(backend: Backend) -> list[str]:
    return [fact.id for fact in backend.facts() if fact.kind == "retrain"]


def test_one_request_for_each_boundary(learner: Store, backend: Backend) -> None:
    won(learner, "a")
    assert requests(backend) == []
    won(learner, "b")
    assert requests(backend) == ["retrain:trend:2"]
    # Training is slow: more outcomes come, and none of them asks again.
    won(learner, "c", "d", "e")
    assert requests(backend) == ["retrain:trend:2"]
    attempt = learner.begin_training("trend", now_ms=NOW)
    assert learner.publish(publication(attempt, "m1", trained_count=5, next_at=7)) is PublishStatus.DONE
    won(learner, "f")
    assert requests(backend) == ["retrain:trend:2"]
    won(learner, "g")
    assert requests(backend) == ["retrain:trend:2", "retrain:trend:7"]


def test_a_boundary_passed_while_training_is_asked_for_at_the_next_outcome(learner: Store, backend: Backend) -> None:
    won(learner, "a", "b")
    attempt = learner.begin_training("trend", now_ms=NOW)
    won(learner, "c", "d")
    learner.publish(publication(attempt, "m1", next_at=4))
    assert requests(backend) == ["retrain:trend:2"]
    won(learner, "e")
    assert requests(backend) == ["retrain:trend:2", "retrain:trend:4"]


def test_a_declined_attempt_counts_and_keeps_the_incumbent(learner: Store, backend: Backend) -> None:
    won(learner, "a", "b")
    first = learner.begin_training("trend", now_ms=NOW)
    learner.publish(publication(first, "m1"))
    second = learner.begin_training("trend", now_ms=NOW)
    assert learner.settle("trend", second, reason="LEARN_AUC", detail="0.41", next_at=9, now_ms=NOW)
    known = learner.training("trend")
    assert (known.bundle, known.next_at, known.attempt, known.published_attempt) == ("m1", 9, 2, 1)
    assert not learner.settle("trend", second, reason="LEARN_AUC", detail="again", next_at=11, now_ms=NOW)
    assert learner.training("trend").next_at == 9
    assert [fact.id for fact in backend.facts() if fact.kind == "untrained"] == ["untrained:trend:2"]


def test_a_zombie_is_fenced_out(learner: Store) -> None:
    zombie = learner.begin_training("trend", now_ms=NOW)
    second = learner.begin_training("trend", now_ms=NOW)
    assert learner.publish(publication(second, "new")) is PublishStatus.DONE
    assert learner.publish(publication(zombie, "old")) is PublishStatus.FENCED
    assert not learner.settle("trend", zombie, reason="LEARN_FAILED", detail="", next_at=99, now_ms=NOW)
    assert learner.training("trend").bundle == "new"
    # Nobody publishes under a number that was never given out.
    assert learner.publish(publication(second + 1, "forged")) is PublishStatus.FENCED


def test_whoever_is_ready_first_ends_every_attempt_begun(learner: Store, backend: Backend) -> None:
    # Two trainers on one boundary: the second to be ready would put a second bundle in force for it.
    first = learner.begin_training("trend", now_ms=NOW)
    second = learner.begin_training("trend", now_ms=NOW)
    assert learner.publish(publication(first, "m1")) is PublishStatus.DONE
    assert learner.publish(publication(second, "m2")) is PublishStatus.FENCED
    assert not learner.settle("trend", second, reason="LEARN_AUC", detail="", next_at=99, now_ms=NOW)
    assert learner.publish(publication(first, "m1")) is PublishStatus.REPLAY
    third = learner.begin_training("trend", now_ms=NOW)
    fourth = learner.begin_training("trend", now_ms=NOW)
    assert learner.settle("trend", third, reason="LEARN_AUC", detail="", next_at=9, now_ms=NOW)
    assert learner.publish(publication(fourth, "m4")) is PublishStatus.FENCED
    known = learner.training("trend")
    assert (known.bundle, known.previous, known.next_at) == ("m1", None, 9)
    assert [fact.id for fact in backend.facts() if fact.kind == "published"] == ["published:trend:1"]


def test_nobody_begins_on_a_boundary_that_has_its_verdict(learner: Store, backend: Backend) -> None:
    won(learner, "a", "b")
    attempt = learner.begin_training("trend", now_ms=NOW, boundary=2)
    assert learner.begin_training("trend", now_ms=NOW, boundary=2) == attempt + 1, "who died must be followed"
    assert learner.publish(publication(attempt, "m1")) is PublishStatus.DONE
    before = backend.facts()
    assert learner.begin_training("trend", now_ms=NOW, boundary=2) == 0
    assert backend.facts() == before
    assert learner.begin_training("trend", now_ms=NOW) == attempt + 2, "by hand is always possible"
    assert learner.begin_training("trend", now_ms=NOW, boundary=4) == attempt + 3


def test_the_same_bundle_again_is_not_its_own_predecessor(learner: Store) -> None:
    for address in ("m1", "m2", "m2"):
        attempt = learner.begin_training("trend", now_ms=NOW)
        assert learner.publish(publication(attempt, address)) is PublishStatus.DONE
    known = learner.training("trend")
    assert (known.bundle, known.previous) == ("m2", "m1")


def test_publishing_twice_is_publishing_once(learner: Store, backend: Backend) -> None:
    attempt = learner.begin_training("trend", now_ms=NOW)
    assert learner.publish(publication(attempt, "m1")) is PublishStatus.DONE
    before = backend.facts()
    assert learner.publish(publication(attempt, "m1")) is PublishStatus.REPLAY
    assert learner.publish(publication(attempt, "other")) is PublishStatus.FENCED
    assert backend.facts() == before


def test_back_and_forward_again(learner: Store) -> None:
    for address in ("m1", "m2"):
        learner.publish(publication(learner.begin_training("trend", now_ms=NOW), address))
    assert learner.training("trend").previous == "m1"
    assert learner.point("trend", "m1", expected="m2", actor="me", now_ms=NOW)
    known = learner.training("trend")
    assert (known.bundle, known.previous) == ("m1", "m2")
    assert not learner.point("trend", "m2", expected="m2", actor="me", now_ms=NOW), "somebody was faster"
    assert not learner.point("trend", "never", expected="m1", actor="me", now_ms=NOW)
    assert learner.point("trend", "m2", expected="m1", actor="me", now_ms=NOW)
    assert dict(learner.manifests("trend")) == {"m1": '{"address":"m1"}', "m2": '{"address":"m2"}'}


def test_a_bundles_bytes_come_back_whole(learner: Store) -> None:
    data = bytes(range(256)) * 3
    learner.put_bundle("abc", data)
    assert learner.bundle("abc") == data
    assert learner.bundle("abd") is None
