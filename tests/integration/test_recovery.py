"""One of the two servers goes back in time or loses everything: nothing trades until the state is exact again."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import conninfo, sql

from decision.decide import Action
from persistence.connection import connect
from persistence.keys import Keys
from persistence.rebuild import RebuildRefused, rebuild
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, DecideReply, Mode, StateMissing
from runtime import embedded
from runtime.embedded import EmbeddedServers
from runtime.place import open_place
from runtime.reconcile import reconcile_or_halt
from signals.errors import Transient
from signals.reasons import Reason
from tests.support.house import House, built
from tests.support.stores import HOUR, T0, UNLIMITED, held


@pytest.fixture
def record(postgres_dsn: str, namespace: str) -> Iterator[Record]:
    record = Record(postgres_dsn, namespace)
    record.migrate()
    yield record
    record.close()


@pytest.fixture
def house(redis_client: redis.Redis, record: Record, closed_body: Callable[..., str]) -> House:
    return built(redis_client, record, closed_body)


def wants_to_execute(house: House, name: str) -> DecideReply:
    return house.open(name, want=Action.EXECUTE)


def held_back(house: House, name: str) -> None:
    decision = wants_to_execute(house, name).decision
    assert decision.action is Action.PHANTOM
    assert Reason.MODE_HALT in decision.reasons


def halted_by_reconcile(house: House, *rules: str) -> str:
    report = reconcile_or_halt(house.store, house.record)
    assert set(rules) <= set(report.broken), str(report)
    control = house.store.control()
    assert control is not None
    assert (control.mode, control.actor) == (Mode.HALT, "reconcile")
    assert "penumbra rebuild" in control.reason
    return control.reason


def made_exact_and_switched_on(house: House, *, force: bool = False) -> None:
    """Rebuild, look, and two steps: the first only says which generation there is to confirm."""
    rebuild(house.client, house.keys, house.record, force=force)
    house.relay()
    house.clean()
    held_back(house, "still held back")
    control = house.store.control()
    assert control is not None
    assert (control.mode, control.actor) == (Mode.HALT, "rebuild")
    stale = house.store.set_mode(
        Mode.ON, actor="op", reason="by heart", now_ms=house.store.now_ms(), expected=control.generation - 1
    )
    assert stale.mode is Mode.HALT
    house.store.set_mode(Mode.ON, actor="op", reason="looked", now_ms=house.store.now_ms(), expected=control.generation)
    assert wants_to_execute(house, "again").decision.action is Action.EXECUTE
    house.relay()
    house.clean()


def _copied(source: Path, target: Path) -> None:
    """A folder with its owners: the servers may belong to another user than the tests."""
    shutil.copytree(source, target)
    for path in (source, *source.rglob("*")):
        found, copy = path.stat(), target / path.relative_to(source)
        os.chown(copy, found.st_uid, found.st_gid)


def test_redis_goes_back_to_an_older_log(
    house: House, servers: EmbeddedServers, servers_folder: Path, tmp_path: Path
) -> None:
    """Rows 27 and 36: a power cut, or a promoted replica that was behind."""
    house.relay()
    with open_place(servers_folder) as place:
        log = place.valkey.folder / "appendonlydir"
    _copied(log, tmp_path / "then")
    for number in range(10):
        house.open(f"after{number}", claim=number % 2 == 0)
    house.close("after1")
    house.close("p3")
    house.relay()
    ahead = house.record.last_seq()
    embedded.stop_valkey(servers_folder)
    try:
        shutil.rmtree(log)
        _copied(tmp_path / "then", log)
    finally:
        embedded.start_valkey(servers_folder)
    with connect(servers.redis_url) as client:
        back = House(client, RedisStore(client, house.record.namespace), house.record, house.body)
        # The wound is real: Redis has forgotten what Postgres knows.
        assert ahead > int(back.check(fast=True).seq)
        assert back.store.position("after0") is None
        assert held(back.store, "p3").open
        reason = halted_by_reconcile(back, "R0")
        assert "Redis went back to an older state" in reason
        held_back(back, "meanwhile")
        made_exact_and_switched_on(back)
        assert held(back.store, "after0").open
        assert not held(back.store, "p3").open


def test_redis_is_wiped_during_load(house: House, servers: EmbeddedServers) -> None:
    """Row 28: whatever is asked between the wipe and the operator's word is refused or a phantom."""
    house.relay()
    answered: Counter[str] = Counter()
    phase, stop = ["before"], threading.Event()
    moved = threading.Semaphore(0)
    failures: list[BaseException] = []

    def ask() -> None:
        with connect(servers.redis_url) as client:
            mine = House(client, RedisStore(client, house.record.namespace), house.record, house.body)
            number = 0
            while not stop.is_set():
                number += 1
                # The phase that was over when the question was asked: never one that began meanwhile.
                now = phase[0]
                try:
                    # Moments of its own: the wipe takes the clock of the data away as well.
                    at_ms = T0 + 60_000 + number
                    reply = mine.open(f"load{number}", now_ms=at_ms, deadline_ms=at_ms + HOUR, want=Action.EXECUTE)
                    answered[f"{now} {reply.decision.action.value}"] += 1
                except StateMissing:
                    answered[f"{now} refused"] += 1
                except Exception as error:
                    failures.append(error)
                    return
                moved.release()

    def some(count: int = 20) -> None:
        while moved.acquire(blocking=False):
            pass
        for _ in range(count):
            assert moved.acquire(timeout=60), failures

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        some()
        house.client.flushall()
        phase[0] = "gap"
        some()
        with pytest.raises(StateMissing):
            house.store.set_mode(Mode.ON, actor="op", reason="too early", now_ms=T0)
        assert reconcile_or_halt(house.store, house.record).broken == ("R0",)
        rebuild(house.client, house.keys, house.record)
        phase[0] = "halted"
        some()
    finally:
        stop.set()
        asking.join()
    assert failures == []
    assert answered["before execute"] > 0
    assert answered["gap refused"] > 0
    assert answered["halted phantom"] > 0
    # The very first question of a phase may have been asked before it and answered in it, never the other way round.
    assert answered["gap execute"] == answered["halted execute"] == 0
    house.store.advance_clock(T0 + 120_000)
    house.relay()
    house.clean()
    control = house.store.control()
    assert control is not None
    assert control.mode is Mode.HALT
    made_exact_and_switched_on(house)


def test_postgres_goes_back_to_an_older_copy(
    house: House, postgres_dsn: str, namespace: str, closed_body: Callable[..., str]
) -> None:
    """Row 44: facts that were trimmed from the outbox cannot be sent again."""
    house.relay()
    house.record.close()
    name = f"{conninfo.conninfo_to_dict(postgres_dsn)['dbname']}_older"
    server = conninfo.make_conninfo(postgres_dsn, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        statement = sql.SQL("create database {} template {}")
        source = str(conninfo.conninfo_to_dict(postgres_dsn)["dbname"])
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(source)))
    for number in range(3):
        house.open(f"after{number}")
    house.close("p3")
    house.relay()
    house.clean()
    older = Record(conninfo.make_conninfo(postgres_dsn, dbname=name), namespace)
    back = House(house.client, house.store, older, closed_body)
    assert older.last_seq() < house.record.last_seq()
    reason = halted_by_reconcile(back, "R2", "R8", "R9")
    assert reason.startswith("R2 (1): trend")
    held_back(back, "meanwhile")
    # The relay goes on with what comes, and that hides nothing.
    back.relay()
    report = back.check()
    assert {"R2", "R8", "R9"} <= set(report.broken)
    assert "older than what it had confirmed" in str(report.audit.broken)
    assert "phantom:pos:after0: open in Redis, not in the record" in report.findings["R9"].listed
    with pytest.raises(RebuildRefused, match="put back a newer copy"):
        rebuild(back.client, back.keys, older)
    # With the loss accepted, both tell the older story.
    made_exact_and_switched_on(back, force=True)
    assert back.store.position("after0") is None
    assert held(back.store, "p3").open
    older.close()


# --- the record is behind


def test_beyond_the_outbox_limit_nothing_new_is_executed(
    redis_client: redis.Redis, record: Record, closed_body: Callable[..., str]
) -> None:
    limits = replace(UNLIMITED, outbox_entries=20)
    house = House(redis_client, RedisStore(redis_client, record.namespace), record, closed_body)
    house.store.create(ClockKind.DATA, now_ms=T0)
    house.store.advance_clock(T0)
    house.store.register("trend", "{}", "70", now_ms=T0)
    keys = Keys(record.namespace)
    actions: list[Action] = []
    while len(actions) < 12:
        reply = house.open(f"x{len(actions)}", want=Action.EXECUTE, limits=limits)
        actions.append(reply.decision.action)
    # Three facts of the beginning, two for each decision: the limit is reached by the ninth.
    assert actions == [Action.EXECUTE] * 9 + [Action.PHANTOM] * 3
    assert reply.decision.reasons[0] is Reason.RECORD_BEHIND
    assert redis_client.hgetall(keys.blocked("phantom", "20240101")) == {b"RECORD_BEHIND": b"3"}
    before: Any = redis_client.xlen(keys.outbox())
    house.close("x11")
    assert redis_client.xlen(keys.outbox()) == before + 1
    house.relay()
    assert house.open("y", want=Action.EXECUTE, limits=limits).decision.action is Action.EXECUTE


def test_postgres_is_away_and_closes_go_on(house: House, servers_folder: Path) -> None:
    """Row 37: nothing is refused before the limit, nothing is lost, and what had piled up drains."""
    house.relay()
    limits = replace(UNLIMITED, outbox_entries=40)
    embedded.stop_postgres(servers_folder)
    try:
        answers = [house.open(f"away{n}", want=Action.EXECUTE, limits=limits).decision for n in range(25)]
        for number in range(20, 25):
            house.close(f"away{number}")
        with pytest.raises(Transient):
            house.relay()
        peak: Any = house.client.xlen(house.keys.outbox())
    finally:
        embedded.start_postgres(servers_folder)
    actions = Counter(decision.action for decision in answers)
    assert (actions[Action.EXECUTE], actions[Action.PHANTOM]) == (20, 5)
    assert {decision.reasons[0] for decision in answers if decision.action is Action.PHANTOM} == {Reason.RECORD_BEHIND}
    assert peak == 55
    house.relay()
    assert house.client.xlen(house.keys.outbox()) == 0
    house.clean()
