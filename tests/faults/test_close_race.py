"""Two closes that reach a boundary at once, 49 to 51: one request for it, and the naive ways to ask do fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.scripts import source
from persistence.store import ClockKind, CloseCommand, CommitStatus, Fact
from runtime.embedded import EmbeddedServers
from tests.support.stores import T0, ending, held, outbox, phantom

ASK = source("close").split("-- One request per boundary")[1].removesuffix("return 'DONE'\n")
CONDITION = "int(boundary) > 0 and int(count) >= int(boundary) and training[2] ~= boundary"
EMIT = "emit('retrain', 'retrain:' .. A.strategy .. ':' .. A.boundary, '{}', { 'count', A.count })\nreturn 1\n"
PATIENCE_S = 30.0


class Racing(RedisStore):
    """The store, with a meeting point behind the commit of a close."""

    def __init__(self, client: redis.Redis, namespace: str, meet: Callable[[], object]) -> None:
        super().__init__(client, namespace)
        self._meet = meet

    def close(self, command: CloseCommand) -> CommitStatus:
        status = super().close(command)
        self._meet()
        return status


class Outside(Racing):
    """A mutant: the count is read and the request made behind the script, when ``asks`` says so."""

    @staticmethod
    def asks(count: int) -> bool:
        raise NotImplementedError

    def __init__(self, client: redis.Redis, namespace: str, meet: Callable[[], object]) -> None:
        super().__init__(client, namespace, meet)
        whole = source("close")
        assert ASK in whole
        self._scripts._scripts["close"] = client.register_script(whole.replace(ASK, "\n"))

    def close(self, command: CloseCommand) -> CommitStatus:
        status = super().close(command)
        count = self.training(command.strategy).completed
        if self.asks(count):
            script = self.client.register_script(source("begin").split("-- An attempt at training")[0] + EMIT)
            keys = {"meta": self.keys.meta(), "outbox": self.keys.outbox()}
            words = {"strategy": command.strategy, "boundary": "50", "count": str(count), "now": str(command.now_ms)}
            flat = [word for pair in words.items() for word in pair]
            script(keys=list(keys.values()), args=[",".join(keys), *flat])
        return status


class ByRemainder(Outside):
    """Asks where the count it reads is a multiple of fifty."""

    @staticmethod
    def asks(count: int) -> bool:
        return count % 50 == 0


class ByReaching(Outside):
    """Asks where the count it reads has reached the boundary."""

    @staticmethod
    def asks(count: int) -> bool:
        return count >= 50


class RemainderInside(Racing):
    """Asks inside the script, but by the remainder: right only while every boundary is a multiple of fifty."""

    def __init__(self, client: redis.Redis, namespace: str, meet: Callable[[], object]) -> None:
        super().__init__(client, namespace, meet)
        whole = source("close")
        assert CONDITION in whole
        self._scripts._scripts["close"] = client.register_script(whole.replace(CONDITION, "int(count) % 50 == 0"))


def race(kind: type[Racing], redis_url: str, namespace: str, *, boundary: int, racers: int = 2) -> list[Fact]:
    """Requests after 49 outcomes and as many closes at once as there are racers."""
    with connect(redis_url) as client:
        store = RedisStore(client, namespace)
        store.create(ClockKind.DATA, now_ms=T0)
        store.register("trend", "{}", "70", first_training=boundary, now_ms=T0)
        for number in range(49 + racers):
            store.decide(phantom(f"s{number}"))
        for number in range(49):
            assert store.close(ending(held(store, f"s{number}"))) is CommitStatus.DONE
        lasts = [ending(held(store, f"s{49 + number}")) for number in range(racers)]
        barrier = threading.Barrier(racers)

        def closed(command: CloseCommand) -> CommitStatus:
            with connect(redis_url) as own:
                racing = kind(own, namespace, lambda: barrier.wait(PATIENCE_S))
                barrier.wait(PATIENCE_S)
                return racing.close(command)

        with ThreadPoolExecutor(racers) as pool:
            assert list(pool.map(closed, lasts)) == [CommitStatus.DONE] * racers
        assert store.training("trend").completed == 49 + racers
        return [fact for fact in outbox(client, store.keys) if fact.kind == "retrain"]


def asked_once(requests: list[Fact], boundary: int) -> bool:
    """One request, made by the close that reached the boundary."""
    return [(fact.id, fact.fields["count"]) for fact in requests] == [(f"retrain:trend:{boundary}", str(boundary))]


# A boundary is no multiple of fifty once a slow attempt has set it.
@pytest.mark.parametrize("boundary", [50, 51])
@pytest.mark.parametrize("racers", [2, 8])
def test_two_closes_at_once_ask_once(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str, boundary: int, racers: int
) -> None:
    assert asked_once(race(Racing, servers.redis_url, namespace, boundary=boundary, racers=racers), boundary)
    assert RedisStore(redis_client, namespace).training("trend").due


@pytest.mark.parametrize(
    ("mutant", "boundary", "requests"),
    [
        pytest.param(ByRemainder, 50, 0, id="remainder, read outside: both read 51, nobody asks"),
        pytest.param(ByReaching, 50, 2, id="reached, read outside: both ask"),
        pytest.param(RemainderInside, 51, 1, id="remainder, inside: asks at 50 for 51"),
    ],
)
def test_the_naive_ways_fail(
    servers: EmbeddedServers,
    redis_client: redis.Redis,
    namespace: str,
    mutant: type[Racing],
    boundary: int,
    requests: int,
) -> None:
    found = race(mutant, servers.redis_url, namespace, boundary=boundary)
    assert len(found) == requests
    assert not asked_once(found, boundary)
