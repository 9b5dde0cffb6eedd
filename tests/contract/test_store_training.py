"""Requests, attempts and pointers of the learning loop, the same on every store."""

from __future__ import annotations

from typing import Any

import pytest

from persistence.store import PublishCommand, PublishStatus, Store, TableCommand
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


def founding(store: Store, name: str) -> str:
    keys = store.keys  # type: ignore[attr-defined]
    return str(store.dump()[keys.qcal("trend", name)])


def table(count: int, address: str, **changes: Any) -> TableCommand:
    command: dict[str, Any] = {
        "strategy": "trend", "count": count, "address": address, "table": f'{{"h":"{address}"}}', "now_ms": NOW,
    }  # fmt: skip
    return TableCommand(**{**command, **changes})


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


# --- the heuristic's thresholds


def test_a_table_is_owed_by_the_state_once_there_are_fifty(learner: Store) -> None:
    for number in range(49):
        won(learner, f"p{number}")
    assert not learner.training("trend").table_due
    won(learner, "p49")
    standing = learner.training("trend")
    assert (standing.table_due, standing.owes, standing.completed) == (True, True, 50)
    assert learner.set_table(table(50, "x"))
    assert not learner.training("trend").table_due


def test_a_table_comes_once_for_each_count_and_never_goes_back(learner: Store, backend: Backend) -> None:
    assert learner.set_table(table(50, "x"))
    after = [fact.id for fact in backend.facts()]
    assert not learner.set_table(table(50, "x")), "its own replay"
    assert not learner.set_table(table(50, "y")), "the first of a count stands"
    assert not learner.set_table(table(49, "y")), "a zombie's"
    assert [fact.id for fact in backend.facts()] == after
    assert after[-1] == "table:trend:50"
    standing = learner.training("trend")
    assert (standing.table, standing.table_count, standing.bundle) == ("x", 50, None)
    assert learner.table("trend", "x") == '{"h":"x"}'
    assert (founding(learner, "thr"), founding(learner, "last_train_count")) == ('{"tables":[{"h":"x"}]}', "50")


def test_who_has_just_read_the_pointer_still_finds_the_table(learner: Store) -> None:
    for count, address in ((50, "x"), (100, "y"), (150, "y"), (200, "z"), (250, "y")):
        assert learner.set_table(table(count, address))
    assert [learner.table("trend", address) for address in "xyz"] == [None, '{"h":"y"}', '{"h":"z"}']
    assert learner.set_table(table(300, "x"))
    assert [learner.table("trend", address) for address in "xyz"] == ['{"h":"x"}', '{"h":"y"}', None]


def test_the_founding_key_shows_what_is_in_force(learner: Store) -> None:
    learner.publish(publication(learner.begin_training("trend", now_ms=NOW), "m1"))
    assert founding(learner, "thr") == '{"tables":[{"of":"m1"}]}'
    learner.set_table(table(50, "x"))
    assert founding(learner, "thr") == '{"tables":[{"of":"m1"},{"h":"x"}]}'
    learner.publish(publication(learner.begin_training("trend", now_ms=NOW), "m2", trained_count=51))
    assert founding(learner, "thr") == '{"tables":[{"of":"m2"},{"h":"x"}]}'
    assert founding(learner, "last_train_count") == "51"
    # After a roll-back the tables are those of the bundle that serves, not of the last one trained.
    assert learner.point("trend", "m1", expected="m2", actor="me", now_ms=NOW)
    assert founding(learner, "thr") == '{"tables":[{"of":"m1"},{"h":"x"}]}'


# --- what people look at


def test_a_refusal_is_recorded_once_for_each_reason(learner: Store, backend: Backend) -> None:
    for code in ("BUNDLE_CORRUPT", "BUNDLE_CORRUPT", "BUNDLE_SIGNATURE"):
        learner.refuse("trend", "m1", code=code, detail="truncated", now_ms=NOW)
    assert learner.refusals("trend") == {
        "m1|BUNDLE_CORRUPT": f"{NOW} truncated",
        "m1|BUNDLE_SIGNATURE": f"{NOW} truncated",
    }
    assert [fact.id for fact in backend.facts() if fact.kind == "refused"] == [
        "refused:trend:m1:BUNDLE_CORRUPT",
        "refused:trend:m1:BUNDLE_SIGNATURE",
    ]


def test_a_declined_attempt_leaves_what_it_looked_at(learner: Store, backend: Backend) -> None:
    number = learner.begin_training("trend", now_ms=NOW)
    learner.settle("trend", number, reason="LEARN_AUC", detail="0.41", next_at=9, now_ms=NOW, body='{"n":7}')
    assert learner.attempts("trend") == {str(number): '{"n":7}'}
    assert [fact.body for fact in backend.facts() if fact.kind == "untrained"] == ['{"n":7}']


def test_every_close_counts_whether_or_not_it_asks_for_training(learner: Store) -> None:
    groups = ("hour|09", "session|us", "volatility|low")
    closes: dict[str, dict[str, Any]] = {
        "a": {"outcome": "win", "win": True, "r_micro": 2_000_000},
        "b": {"groups": ("hour|10", "session|us")},
        "c": {"outcome": "timeout", "learned": False, "r_micro": -250_000},
    }
    for name, changes in closes.items():
        learner.decide(phantom(name))
        learner.close(ending(held(learner, name), **{"groups": groups, **changes}))
    assert learner.metrics("trend") == {
        "phantom|win|n": 1, "phantom|win|r_micro": 2_000_000,
        "phantom|loss|n": 1, "phantom|loss|r_micro": -1_000_000,
        "phantom|timeout|n": 1, "phantom|timeout|r_micro": -250_000,
        "hour|09|n": 1, "hour|09|wins": 1, "hour|09|r_micro": 2_000_000,
        "hour|10|n": 1, "hour|10|wins": 0, "hour|10|r_micro": -1_000_000,
        "session|us|n": 2, "session|us|wins": 1, "session|us|r_micro": 1_000_000,
        "volatility|low|n": 1, "volatility|low|wins": 1, "volatility|low|r_micro": 2_000_000,
    }  # fmt: skip
