"""A key that holds the wrong kind of value stops every command before its first write.

A script is isolated, not transactional: what it wrote before an error stays written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import fakeredis
import pytest
import redis

from persistence.connection import text
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, CloseHow, Mode, Store
from signals.errors import Permanent
from tests.contract.test_store_training import publication, table
from tests.support.stores import (
    HOUR,
    SECOND,
    T0,
    claimed,
    created,
    ending,
    held,
    on_redis,
    phantom,
    signal,
    snapshot,
)

NOW = T0 + SECOND


def prepared(client: redis.Redis) -> RedisStore:
    """A claimed, an unclaimed, a watched and two closed positions."""
    store = created(on_redis(client, "t"))
    assert isinstance(store, RedisStore)
    store.register("trend", "{}", "70", now_ms=NOW)
    for address in ("m1", "m2"):
        store.publish(publication(store.begin_training("trend", now_ms=NOW), address))
    store.set_table(table(50, "x"))
    store.refuse("trend", "m1", code="X", detail="", now_ms=NOW)
    store.begin_training("trend", now_ms=NOW)
    claimed(store, "claimed")
    store.decide(signal("executed"))
    store.decide(phantom("watched"))
    store.close(ending(claimed(store, "reported"), how=CloseHow.REPORT, report_id="r0"))
    store.decide(phantom("old", bar="x"))
    store.close(ending(held(store, "old")))
    return store


COMMANDS: Mapping[str, Callable[[Store], object]] = {
    "register": lambda store: store.register("trend", "{1}", "71", now_ms=NOW),
    "execute": lambda store: store.decide(signal("new", bar="y")),
    "refuse": lambda store: store.decide(phantom("new", prefix="scalp_phantom")),
    "alias": lambda store: store.decide(signal("new", bar="x")),
    "conflict": lambda store: store.decide(signal("claimed", fingerprint="other")),
    "claim": lambda store: store.claim("executed", "e1", now_ms=NOW),
    "lapse": lambda store: store.lapse("executed", now_ms=NOW + HOUR),
    "touch": lambda store: store.touch(held(store, "watched"), "{}", 1, now_ms=NOW),
    "finish": lambda store: store.touch(held(store, "claimed"), "{}", 1, now_ms=NOW, result="{}"),
    "close": lambda store: store.close(ending(held(store, "watched"))),
    "report": lambda store: store.close(ending(held(store, "claimed"), how=CloseHow.REPORT, report_id="r")),
    "fill": lambda store: store.fill("claimed", "phantom", "1", "{}", now_ms=NOW),
    "correct": lambda store: store.correct(held(store, "reported"), "r1", "{}", learned=True, now_ms=NOW),
    "path": lambda store: store.record_path(held(store, "old"), "{}", known=True, now_ms=NOW),
    "control": lambda store: store.set_mode(Mode.HALT, actor="me", reason="", now_ms=NOW),
    "begin": lambda store: store.begin_training("trend", now_ms=NOW),
    "publish": lambda store: store.publish(publication(3, "m3")),
    "settle": lambda store: store.settle("trend", 3, reason="X", detail="", next_at=9, now_ms=NOW),
    "point": lambda store: store.point("trend", "m1", expected="m2", actor="me", now_ms=NOW),
    "table": lambda store: store.set_table(table(51, "y")),
    "refuse bundle": lambda store: store.refuse("trend", "m1", code="Y", detail="", now_ms=NOW),
    "create": lambda store: store.create(ClockKind.DATA, now_ms=NOW),
}


def keys_of(command: Callable[[Store], object], store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys a command's scripts name."""
    named: set[str] = set()
    call = store._scripts.call

    def listen(
        name: str, keys: Mapping[str, str], args: Mapping[str, str | int], *, on: redis.Redis | None = None
    ) -> Any:
        named.update(keys.values())
        return call(name, keys, args, on=on)

    monkeypatch.setattr(store._scripts, "call", listen)
    command(store)
    return named


def plant(client: redis.Redis, key: str) -> None:
    """Put a value of another type at a key; no command makes a stream of a key that is not there yet."""
    found = text(client.type(key))
    client.delete(key)
    if found == "none":
        client.xadd(key, {"planted": "1"})
    elif found == "string":
        client.rpush(key, "planted")
    else:
        client.set(key, "planted")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_half_commits(command: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeServer()
    with fakeredis.FakeStrictRedis(server=server) as client:
        named = keys_of(command, prepared(client), monkeypatch)
    assert named
    for key in sorted(named):
        with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
            store = prepared(client)
            plant(client, key)
            before = snapshot(client)
            with pytest.raises(Permanent, match="WRONGTYPE"):
                command(store)
            assert snapshot(client) == before, key


def test_nor_on_the_real_server(redis_client: redis.Redis, namespace: str) -> None:
    backend = on_redis(redis_client, namespace)
    store = created(backend)
    store.decide(phantom("a"))
    position = held(store, "a")
    for key in (backend.keys.win_rate("trend"), backend.keys.outbox(), backend.keys.day("20240101")):
        kept = redis_client.dump(key)
        plant(redis_client, key)
        before = snapshot(redis_client)
        with pytest.raises(Permanent, match="WRONGTYPE"):
            store.close(ending(position))
        assert snapshot(redis_client) == before
        redis_client.delete(key)
        if kept is not None:
            redis_client.restore(key, 0, kept)
    store.close(ending(position))
    assert not held(store, "a").open


@pytest.mark.parametrize("planted", ["abc", "1.5", "9223372036854775807", ""])
def test_a_counter_that_holds_no_number_stops_a_close_before_its_first_write(planted: str) -> None:
    # Founding keys are there to be read with redis-cli, so somebody will write one by hand.
    with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
        store = prepared(client)
        for key in (store.keys.closed_total("trend"), store.keys.completed_trades("trend")):
            kept = client.get(key)
            client.set(key, planted)
            before = snapshot(client)
            with pytest.raises(Permanent):
                store.close(ending(held(store, "watched")))
            assert snapshot(client) == before
            client.set(key, kept or b"0")
        # A loss counted before under the same kind and group.
        for name in ("phantom|loss|n", "session|us|r_micro"):
            kept = client.hget(store.keys.metrics("trend"), name)
            client.hset(store.keys.metrics("trend"), name, planted)
            before = snapshot(client)
            with pytest.raises(Permanent):
                store.close(ending(held(store, "watched")))
            assert snapshot(client) == before
            client.hset(store.keys.metrics("trend"), name, kept or b"0")


def test_an_absurd_result_does_not_stop_the_closes_after_it() -> None:
    with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
        store = prepared(client)
        store.close(ending(held(store, "watched"), r_micro=-1_000_000_000_000_000))
        store.decide(phantom("next"))
        store.close(ending(held(store, "next")))
        assert store.metrics("trend")["session|us|r_micro"] < -1_000_000_000_000_000
