"""Redis killed under load keeps what it acknowledged; Redis set back behind Postgres is led to where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from persistence.connection import connect
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime import embedded
from signals.errors import Transient
from tests.support.mutants import Killed
from tests.support.scenario import Gate, again, candidate
from tests.support.stores import T0, phantom
from tests.support.wire import tapped

KILLS = 20


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Path]:
    """The folder of a Valkey that is this test's to kill."""
    folder = tmp_path / "own"
    embedded.start_valkey(folder)
    yield folder
    embedded.remove(folder)


def kill(folder: Path) -> None:
    """Kill the server of a folder, and nobody else."""
    pid = embedded.status(folder).redis_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


class Writer:
    """Decides signal after signal and remembers which were acknowledged; whoever is not answered asks again."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.store = RedisStore(self.client, "load")
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self.enough = threading.Semaphore(0)
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            name = f"s{len(self.acknowledged)}"
            try:
                self.store.decide(phantom(name))
            except Transient:
                self.unanswered += 1
                continue
            self.acknowledged.append(name)
            self.enough.release()

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.enough.acquire(timeout=60)


def lost(client: redis.Redis, acknowledged: list[str]) -> list[str]:
    store = RedisStore(client, "load")
    return [name for name in acknowledged if store.decision(name) is None or store.position(name) is None]


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_killed_server_keeps_what_it_acknowledged(own_server: Path, fsync: embedded.Fsync) -> None:
    url = embedded.start_valkey(own_server, fsync=fsync).url
    writer = Writer(url)
    writer.store.create(ClockKind.DATA, now_ms=T0)
    thread = threading.Thread(target=writer.run)
    thread.start()
    rng = random.Random(26)  # noqa: S311
    try:
        for _ in range(KILLS):
            writer.wait_for(rng.randint(20, 60))
            kill(own_server)
            embedded.start_valkey(own_server, fsync=fsync)
        # It goes on by itself after the last one.
        writer.wait_for(100)
    finally:
        writer.stop = True
        thread.join()
    with writer.client, connect(url) as client:
        gone = lost(client, writer.acknowledged)
        print(f"{fsync}: {KILLS} kills, {len(writer.acknowledged)} acknowledged, {writer.unanswered} unanswered, "
              f"{len(gone)} gone")  # fmt: skip
        # On a busy disk ``everysec`` writes late: an engine that sends again finds what it asked for, once.
        assert fsync == "everysec" or gone == []
        for name in gone:
            again(lambda: RedisStore(client, "load").decide(phantom(name)))  # noqa: B023
        assert lost(client, writer.acknowledged) == []
        facts = int(client.hget("load:ml:meta", "seq") or 0)
        # Nothing twice either: the creation's two facts, then a decision and a position for each.
        assert facts == client.xlen("load:ml:outbox") == 2 + 2 * len(writer.acknowledged)
    assert writer.unanswered > 0


def test_a_server_without_its_log_loses_what_it_acknowledged(own_server: Path) -> None:
    url = embedded.start_valkey(own_server).url
    with connect(url) as client:
        writer = Writer(url)
        writer.store.create(ClockKind.DATA, now_ms=T0)
        # A server without a log stops being one that keeps anything, whatever was written before.
        client.config_set("appendonly", "no")
        for number in range(50):
            writer.store.decide(phantom(f"s{number}"))
        kill(own_server)
        embedded.start_valkey(own_server)
        writer.client.close()
    with connect(url) as client:
        assert len(lost(client, [f"s{number}" for number in range(50)])) == 50


class _Until:
    """A tap that ends the teller at a command."""

    def __init__(self, at: int) -> None:
        self.left = at

    def sending(self, kind: str, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def answered(self, kind: str, what: str) -> None:
        pass


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75])
def test_a_server_set_back_is_led_to_where_it_was(own_server: Path, postgres_dsn: str, share: float) -> None:
    candidate()
    gate, url = Gate(), embedded.start_valkey(own_server).url
    record = Record(postgres_dsn, f"back{share * 100:.0f}")
    record.migrate()
    whole = _Until(-1)
    clean_name = f"clean{share * 100:.0f}"
    with tapped(whole):
        gate.tell(url, postgres_dsn, clean_name, lambda _stage: None)
    clean = gate.outcome(url, postgres_dsn, clean_name)
    with suppress(Killed), tapped(_Until(int(share * (-1 - whole.left)))):
        gate.tell(url, postgres_dsn, record.namespace, lambda _stage: None)
    log, kept = _log_folder(url), own_server / "kept"
    subprocess.run(["cp", "-a", log, kept], check=True)
    # Then everything happens and reaches Postgres, and Redis forgets that it did.
    gate.tell(url, postgres_dsn, record.namespace, lambda _stage: None)
    assert gate.wrong(clean, gate.outcome(url, postgres_dsn, record.namespace)) == []
    kill(own_server)
    _gone(url)
    subprocess.run(["rm", "-r", log], check=True)
    subprocess.run(["cp", "-a", kept, log], check=True)
    embedded.start_valkey(own_server)
    with connect(url) as client:
        seq = int(again(lambda: client.hget(f"{record.namespace}:ml:meta", "seq")) or 0)
    ahead = record.last_seq() - seq
    print(f"set back at {share:.0%} of the story: Postgres is {ahead} facts ahead")
    assert ahead > 0
    gate.tell(url, postgres_dsn, record.namespace, lambda _stage: None)
    assert gate.wrong(clean, gate.outcome(url, postgres_dsn, record.namespace)) == []
    record.close()


def _log_folder(url: str) -> Path:
    with connect(url) as client:
        # What was acknowledged is in the file before it is copied.
        client.execute_command("WAITAOF", 1, 0, 5_000)
        found: dict[str, str] = {**client.config_get("dir"), **client.config_get("appenddirname")}
    return Path(found["dir"]) / found["appenddirname"]


def _gone(url: str) -> None:
    with connect(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                return
