"""A go only when the claim is on the disk: asked of a real server under each of its policies, and of one that lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from persistence import durability
from persistence.connection import connect
from persistence.durability import is_on_disk
from persistence.local_sync import sync_log
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime import embedded
from runtime.service import Service
from signals.reasons import Reason
from tests.support.scene import FREE, T0, payload
from tests.support.stores import outbox

PROFILES = {"trend": FREE}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server of this test's own, whose policy may be changed."""
    with connect(embedded.start_valkey(tmp_path / "own").url, timeout_s=10.0) as made:
        yield made
    embedded.remove(tmp_path / "own")


@pytest.fixture
def service(client: redis.Redis) -> Service:
    store = RedisStore(client)
    store.create(ClockKind.DATA, now_ms=T0)
    store.advance_clock(T0)
    made = Service(store, PROFILES)
    made.judge(payload())
    return made


def seconds(client: redis.Redis) -> float:
    whole, micro = client.time()
    return float(whole) + micro / 1e6


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(durability, name, lambda *_: pytest.fail(f"{name} was asked"))


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_claim_is_synced_before_the_go(
    client: redis.Redis, service: Service, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    client.config_set("appendfsync", policy)
    synced: list[int] = []
    monkeypatch.setattr("persistence.local_sync.os.fdatasync", synced.append)
    # Nobody has to wait for the server's own second.
    forbid(monkeypatch, "_synced_since")
    for _ in range(2):
        # The same engine again, whose reply was lost, is no less careful.
        assert service.claim("s1", "e1") is Reason.CLAIM_GO
    assert len(synced) >= 2
    assert service.claim("s1", "e2") is Reason.CLAIM_TAKEN


def test_a_server_that_syncs_always_has_synced_before_it_replied(
    client: redis.Redis, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.config_set("appendfsync", "always")
    monkeypatch.setattr(durability, "sync_log", lambda _pinned: False)
    forbid(monkeypatch, "_synced_since")
    assert service.claim("s1", "e1") is Reason.CLAIM_GO


def test_a_server_elsewhere_is_waited_for(
    client: redis.Redis, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.config_set("appendfsync", "everysec")
    monkeypatch.setattr(durability, "sync_log", lambda _pinned: False)
    began = seconds(client)
    assert service.claim("s1", "e1") is Reason.CLAIM_GO
    # One whole period of the server's clock: whenever the last sync was, another has begun and ended since.
    assert seconds(client) - began >= 1.0


@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("setting", [("appendfsync", "no"), ("appendonly", "no")], ids=" ".join)
def test_without_a_sync_there_is_no_go_until_there_is_one(
    client: redis.Redis, service: Service, monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str], policy: str
) -> None:
    monkeypatch.setattr(durability, "LONGEST_WAIT_MS", 300)
    if setting[0] == "appendfsync":
        monkeypatch.setattr(durability, "sync_log", lambda _pinned: False)
    client.config_set("appendfsync", policy)
    client.config_set(*setting)
    assert service.claim("s1", "e1") is Reason.CLAIM_UNSAFE
    # The claim stands: nobody else can have it, and the same engine gets its go once it is safe.
    assert service.claim("s1", "e2") is Reason.CLAIM_TAKEN
    client.config_set("appendonly", "yes")
    client.config_set("appendfsync", "always")
    assert service.claim("s1", "e1") is Reason.CLAIM_GO
    store: Any = service.store
    assert [fact.kind for fact in outbox(client, store.keys)].count("claimed") == 1


def test_a_connection_lost_after_the_write_is_not_safe(
    client: redis.Redis, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_pinned: redis.Redis) -> bool:
        raise redis.ConnectionError("reset")

    with monkeypatch.context() as patch:
        patch.setattr(durability, "_written", lost)
        assert service.claim("s1", "e1") is Reason.CLAIM_UNSAFE
    assert service.claim("s1", "e1") is Reason.CLAIM_GO


class Clockwork:
    """A server's account of its syncs, as told; each question comes a tick later."""

    def __init__(self, told: Callable[[int], dict[str, Any]]) -> None:
        self._told = told
        self.now_ms = 0

    def see(self, _pinned: object) -> durability._Syncing:
        self.now_ms += 100
        told = {"sound": True, "idle": True, "quiet": True} | self._told(self.now_ms)
        return durability._Syncing(self.now_ms, **told)


@pytest.mark.parametrize(
    ("told", "safe", "at_least_ms"),
    [
        pytest.param(lambda _now: {}, True, 1_150, id="quiet: a period must pass"),
        pytest.param(lambda now: {"quiet": now > 1_000}, True, 2_150, id="the sync that runs already does not count"),
        pytest.param(lambda now: {"quiet": not 1_000 < now < 3_000}, True, 3_000, id="one that is slow is waited for"),
        pytest.param(lambda _now: {"quiet": False}, False, 5_000, id="one that never ends"),
        pytest.param(lambda now: {"sound": now < 500}, False, 500, id="the log cannot be written"),
    ],
)
def test_the_servers_own_account(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[int], dict[str, Any]], safe: bool, at_least_ms: int
) -> None:
    clockwork = Clockwork(told)
    monkeypatch.setattr(durability, "_syncing", clockwork.see)
    monkeypatch.setattr(durability, "_let_pass", lambda _pinned: None)
    assert durability._synced_since(redis.Redis()) is safe
    assert clockwork.now_ms >= at_least_ms


def test_what_the_server_holds_back_is_not_synced_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # While it syncs in the background, a server replies to a write it has not put into the file yet.
    clockwork = Clockwork(lambda now: {"idle": now > 500})
    monkeypatch.setattr(durability, "_syncing", clockwork.see)
    monkeypatch.setattr(durability, "_let_pass", lambda _pinned: None)
    assert durability._written(redis.Redis())
    assert clockwork.now_ms == 700


def test_nothing_but_a_log_on_this_machine_is_synced_by_hand(client: redis.Redis) -> None:
    with client.client() as pinned:  # type: ignore[no-untyped-call]
        pinned.ping()
        assert is_on_disk(pinned)
    assert not sync_log(redis.Redis(single_connection_client=False))
