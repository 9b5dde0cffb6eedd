"""The store in memory and the store on a server are one store: any commands, equal replies, state and facts."""

from __future__ import annotations

from collections import defaultdict

import fakeredis
import pytest
import redis

from persistence.keys import Keys
from persistence.state import State
from persistence.store import CommitStatus, DecideReply, DecideStatus, PublishStatus
from signals.reasons import Reason
from tests.support.stores import T0, Backend, in_memory, on_redis, signal, state_of
from tests.support.stories import Author, begin, readings

LENGTH = 200
NAMES = [*(f"s{number}" for number in range(50)), "nobody"]


def compare(one: Backend, other: Backend, seed: int, *, stride: int) -> None:
    """Tell both the same story; look at everything after every ``stride`` steps."""
    folded, seen, now = State(Keys(one.keys.namespace)), 0, begin(one.store)
    begin(other.store)
    for number, step in enumerate(Author(seed).story(LENGTH)):
        now += step.waits_ms
        where = f"step {number}: {step.verb}"
        assert step.run(one.store, now) == step.run(other.store, now), where
        facts = one.facts()
        for fact in facts[seen:]:
            folded.apply(fact)
        seen = len(facts)
        if step.verb == "prune":
            folded.prune(now)
        if number % stride == stride - 1:
            assert state_of(one.store) == state_of(other.store), where
            assert readings(one.store, now, NAMES) == readings(other.store, now, NAMES), where
    # A rebuild does nothing else: the facts, folded in order, are the state.
    assert state_of(one.store) == state_of(other.store) == folded.dump()
    assert one.facts() == other.facts()


@pytest.mark.parametrize("seed", range(10))
def test_memory_and_an_imitation_agree(seed: int) -> None:
    with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
        compare(in_memory("t"), on_redis(client, "t"), seed, stride=30)


@pytest.mark.parametrize("seed", range(100, 104))
def test_memory_and_an_imitation_agree_after_every_step(seed: int) -> None:
    with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
        compare(in_memory("t"), on_redis(client, "t"), seed, stride=1)


@pytest.mark.parametrize("seed", range(200, 212))
def test_memory_and_a_server_agree(redis_client: redis.Redis, seed: int) -> None:
    compare(in_memory("t"), on_redis(redis_client, "t"), seed, stride=10)


def test_the_stories_are_worth_telling() -> None:
    # Every answer a command can give is met, or the comparisons above say little about it.
    met: defaultdict[str, set[object]] = defaultdict(set)
    for seed in range(20):
        backend = in_memory("t")
        now = begin(backend.store)
        for step in Author(seed).story(LENGTH):
            now += step.waits_ms
            reply = step.run(backend.store, now)
            met[step.verb].add(reply.status if isinstance(reply, DecideReply) else reply)
            met["reasons"].update(reply.decision.reasons if isinstance(reply, DecideReply) else ())
            if isinstance(reply, tuple):
                met["reasons"].update(reply[0])
                met["claim"].add(reply[1])
    assert met["decide"] == set(DecideStatus)
    # Only a server has a disk to wait for.
    claims = {reason for reason in Reason if reason.name.startswith("CLAIM_")} - {Reason.CLAIM_UNSAFE}
    assert met["claim"] >= claims
    assert len(met["claim"]) > len(claims)
    breakers = {reason for reason in Reason if reason.name.startswith(("BREAKER_", "DATA_", "LIMIT_"))}
    assert met["reasons"] >= breakers - {Reason.BREAKER_MISSING}
    assert met["reset"] == met["thresholds"] | {False} == {True, False}
    assert met["lapse"] == {True, False}
    expected = {
        "touch": "DONE REPLAY STALE MISSING",
        "close": "DONE REPLAY STALE MISSING EXECUTED NOT_CLAIMED",
        "fill": "DONE REPLAY MISSING NOT_CLAIMED CLOSED",
        "correct": "DONE REPLAY STALE MISSING NOT_CLAIMED",
        "path": "DONE REPLAY MISSING",
    }
    for verb, statuses in expected.items():
        assert met[verb] - {None} == {CommitStatus(status) for status in statuses.split()}, verb
    assert met["publish"] == set(PublishStatus)
    assert met["settle"] == met["point"] == met["table"] == met["refuse"] == {True, False}
    assert {0} < met["prune"]


@pytest.mark.parametrize("namespace", ["", "demo"])
def test_namespaces_do_not_meet(redis_client: redis.Redis, namespace: str) -> None:
    backends = [on_redis(redis_client, name) for name in ("", "demo", "demo2")]
    for backend in backends:
        begin(backend.store)
    before = [state_of(backend.store) for backend in backends]
    chosen = next(backend for backend in backends if backend.keys.namespace == namespace)
    chosen.store.decide(signal("a", now_ms=T0, bar="x"))
    for backend, state in zip(backends, before, strict=True):
        assert (state_of(backend.store) == state) == (backend is not chosen)
