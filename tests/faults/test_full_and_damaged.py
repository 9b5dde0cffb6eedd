"""A Redis that may take no more memory, and one whose append-only file was cut or damaged."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, CommitStatus, Mode
from runtime import embedded
from signals.errors import Transient
from signals.reasons import Reason
from tests.support import stores
from tests.support.stores import DAY, HOUR, MINUTE, SECOND, T0, claimed, ending, held, phantom, snapshot

CUT_BYTES = 37


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Path]:
    """The folder of a Valkey that this test may fill, end and damage."""
    folder = tmp_path / "own"
    embedded.start_valkey(folder)
    yield folder
    embedded.remove(folder)


@pytest.fixture
def store(own_server: Path) -> Iterator[RedisStore]:
    with connect(embedded.start_valkey(own_server).url) as client:
        made = RedisStore(client, "full")
        made.create(ClockKind.DATA, now_ms=T0)
        made.register("trend", "{}", "70", first_training=50, now_ms=T0)
        yield made


def test_a_full_server_executes_nothing_and_keeps_no_half_commit(store: RedisStore) -> None:
    claimed(store, "real")
    store.decide(stores.signal("waiting"))
    store.decide(phantom("shadow"))
    store.touch(held(store, "shadow"), '{"last_ts":1}', 1, now_ms=T0)
    steps: dict[str, Callable[[], object]] = {
        "decide": lambda: store.decide(stores.signal("new", now_ms=T0 + MINUTE)),
        "claim": lambda: store.claim("waiting", "e1", now_ms=T0 + 2 * SECOND),
        "touch": lambda: store.touch(held(store, "shadow"), '{"last_ts":2}', 2, now_ms=T0),
        "path": lambda: store.record_path(held(store, "shadow"), "{}", known=True, now_ms=T0),
        "lapse": lambda: store.lapse("waiting", now_ms=T0 + HOUR),
        "close": lambda: store.close(ending(held(store, "shadow"))),
        "halt": lambda: store.set_mode(Mode.HALT, actor="op", reason="drill", now_ms=T0),
    }
    before = snapshot(store.client)
    store.client.config_set("maxmemory", 1)
    for name, step in steps.items():
        # Passing: whoever asks waits and asks again, and until then nobody has an execute or a go.
        with pytest.raises(Transient, match=r"OutOfMemoryError|OOM"):
            step()
        assert snapshot(store.client) == before, name
    # What was answered before can still be read.
    assert store.decision("real") is not None
    store.client.config_set("maxmemory", 0)
    assert steps["close"]() is CommitStatus.DONE
    assert steps["close"]() is CommitStatus.REPLAY
    assert store.training("trend").completed == 1
    assert steps["claim"]() is Reason.CLAIM_GO


def test_what_is_forgotten_after_thirty_days_goes_also_from_a_full_server(store: RedisStore) -> None:
    store.decide(phantom("old"))
    store.close(ending(held(store, "old")))
    store.client.config_set("maxmemory", 1)
    store.prune(now_ms=T0 + 31 * DAY)
    assert store.position("old") is None


def kill(folder: Path) -> None:
    pid = embedded.status(folder).redis_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while embedded.status(folder).redis_pid is not None:
        pass


def log_of(client: Any) -> Path:
    client.execute_command("WAITAOF", 1, 0, 5_000)
    folder = Path(client.config_get("dir")["dir"]) / client.config_get("appenddirname")["appenddirname"]
    log: Path = next(folder.glob("*.incr.aof"))
    return log


def test_a_log_with_its_end_cut_off_starts_with_what_came_before(store: RedisStore, own_server: Path) -> None:
    names = [f"s{number}" for number in range(20)]
    for name in names:
        store.decide(phantom(name))
    log = log_of(store.client)
    kill(own_server)
    os.truncate(log, log.stat().st_size - CUT_BYTES)
    embedded.start_valkey(own_server)
    with connect(embedded.start_valkey(own_server).url) as client:
        after = RedisStore(client, "full")
        # A script's commit is one transaction of the log: the last is gone whole, and asking again makes it whole.
        assert [name for name in names if after.decision(name) is None] == names[-1:]
        assert [name for name in names if after.position(name) is None] == names[-1:]
        after.decide(phantom(names[-1]))
        assert held(after, names[-1]).version == 1


def test_a_log_damaged_inside_is_refused_aloud(store: RedisStore, own_server: Path) -> None:
    for number in range(20):
        store.decide(phantom(f"s{number}"))
    log = log_of(store.client)
    kill(own_server)
    whole = log.read_bytes()
    middle = whole.index(b"\r\n*", len(whole) // 2) + 2
    log.write_bytes(whole[:middle] + b"!" + whole[middle + 1 :])
    with pytest.raises(embedded.EmbeddedUnavailable, match="Bad file format"):
        embedded.start_valkey(own_server)
    # The control: the same log undamaged.
    log.write_bytes(whole)
    with connect(embedded.start_valkey(own_server).url) as client:
        assert RedisStore(client, "full").decision("s19") is not None
