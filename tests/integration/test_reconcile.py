"""Every rule of the reconciliation: clean at first, then one thing is broken on real servers and one rule says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis

from persistence.candle_feed import CandleFeed
from persistence.connection import connect
from persistence.keys import Keys
from persistence.outbox import Relay
from persistence.reconcile import LISTED, RULES
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import CloseHow, Mode
from runtime import reconcile as guarding
from runtime.embedded import EmbeddedServers
from signals.errors import Permanent
from tests.support.house import House, built
from tests.support.stores import DAY, HOUR, T0
from tests.support.tampering import tamper


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def record(postgres_dsn: str, namespace: str) -> Iterator[Record]:
    record = Record(postgres_dsn, namespace)
    record.migrate()
    yield record
    record.close()


@pytest.fixture
def owner(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def house(redis_client: redis.Redis, record: Record, namespace: str, closed_body: Callable[..., str]) -> House:
    return built(redis_client, record, closed_body)


# --- clean


def test_a_clean_house_before_while_and_after_its_facts_are_carried(house: House) -> None:
    before = house.clean()
    assert before.undrained == before.seq > 40
    Relay(house.client, house.keys, house.record).cycle(17)
    assert house.clean().undrained == before.seq - 17
    house.relay()
    after = house.clean()
    assert (after.undrained, after.seq) == (0, before.seq)
    # Every rule had something to look at: a rule without work is a rule without a test.
    assert {name: finding.checked > 0 for name, finding in after.findings.items()} == dict.fromkeys(RULES, True)
    assert json.loads(json.dumps(after.as_json()))["clean"] is True


def test_facts_committed_but_not_acknowledged_are_counted_once(house: House) -> None:
    class Dying:
        def append(self, facts: Any) -> Any:
            house.record.append(facts)
            raise SystemExit

    with pytest.raises(SystemExit):
        Relay(house.client, house.keys, Dying()).cycle(30)
    report = house.clean()
    assert report.undrained == report.seq - 30
    assert house.client.xlen(house.keys.outbox()) == report.seq


def test_no_false_alarm_while_traffic_runs(house: House, servers: EmbeddedServers, postgres_dsn: str) -> None:
    stop = threading.Event()
    moved = threading.Semaphore(0)

    def trade() -> None:
        with connect(servers.redis_url) as client:
            mine = House(client, RedisStore(client, house.record.namespace), house.record, house.body)
            number = 0
            while not stop.is_set():
                mine.open(f"t{number}", claim=number % 3 == 0, symbol=f"S{number % 7}")
                if number % 2:
                    mine.close(
                        f"t{number}",
                        won=number % 4 == 1,
                        how=CloseHow.REPORT if number % 3 == 0 else CloseHow.SIMULATION,
                    )
                number += 1
                moved.release()

    def carry() -> None:
        mine = Record(postgres_dsn, house.record.namespace)
        with connect(servers.redis_url) as client:
            relay = Relay(client, house.keys, mine)
            while not stop.is_set():
                relay.cycle(20)
        mine.close()

    threads = [threading.Thread(target=trade), threading.Thread(target=carry)]
    for thread in threads:
        thread.start()
    try:
        reports = []
        for number in range(30):
            # Never twice the same state, however slow the machine.
            for _ in range(2):
                assert moved.acquire(timeout=60)
            reports.append(house.check(fast=number % 2 == 0))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [str(report) for report in reports if not report.clean] == []
    seqs = [report.seq for report in reports]
    assert seqs == sorted(seqs)
    assert len(set(seqs)) > 20


# --- one thing broken, one rule

Planted = Callable[[House], object]


def _zrem(key: Callable[[Keys], str], member: str) -> Planted:
    return lambda house: _touched(house.client.zrem(key(house.keys), member))


def _zadd(key: Callable[[Keys], str], member: str, score: int) -> Planted:
    return lambda house: house.client.zadd(key(house.keys), {member: score})


def _set(key: Callable[[Keys], str], value: str) -> Planted:
    return lambda house: house.client.set(key(house.keys), value)


def _hset(key: Callable[[Keys], str], name: str, value: str) -> Planted:
    return lambda house: house.client.hset(key(house.keys), name, value)


def _touched(count: Any) -> None:
    if count < 1:
        raise LookupError("nothing was broken")


def _one_more_win(house: House) -> None:
    """Consistent in Redis, so that only the record can tell: counters, outcomes and rows of a strategy are gone."""
    for key in (house.keys.completed_trades("scalp"), house.keys.closed_total("scalp")):
        house.client.set(key, "0")
    _touched(house.client.delete(house.keys.outcomes("scalp"), house.keys.trades("scalp")))


def _a_win_into_a_timeout(house: House) -> None:
    house.client.hincrby(house.keys.outcomes("trend"), "win", -1)
    house.client.hincrby(house.keys.outcomes("trend"), "timeout", 1)


def _overdue(house: House) -> None:
    house.open("late")
    house.relay()
    # Candles came, and the follower took them all.
    after_ms = house.store.now_ms() + 3 * DAY
    feed = CandleFeed(house.client, house.keys)
    feed.mark(house.store.feed("BTCUSDT", "5m", "[]", after_ms))


def _edited(house: House) -> None:
    house.relay()
    with psycopg.connect(house.record._dsn, autocommit=True) as owner:
        tamper(
            owner,
            house.record.namespace,
            "update penumbra.facts set body = '{}' where namespace = %(n)s and id = 'decision:p3'",
        )


P3, E2 = "phantom:pos:p3", "phantom:pos:e2"
PLANTED: dict[str, tuple[str, str, Planted]] = {
    "not due": ("R1", P3, _zrem(Keys.due, P3)),
    "due at another time": ("R1", P3, _zadd(Keys.due, P3, T0 + DAY)),
    "due without a position": ("R1", "phantom:pos:ghost", _zadd(Keys.due, "phantom:pos:ghost", T0 + DAY)),
    "due though its twin ended": ("R1", "phantom:pos:e1", _zadd(Keys.due, "phantom:pos:e1", T0 + HOUR)),
    "not followed": ("R1", P3, _zrem(lambda keys: keys.follow("BTCUSDT"), P3)),
    "followed under another symbol": ("R1", P3, _zadd(lambda keys: keys.follow("XRPUSDT"), P3, 1)),
    "followed though closed": ("R1", "phantom:pos:p0", _zadd(lambda keys: keys.follow("BTCUSDT"), "phantom:pos:p0", 1)),
    "executed, not counted": ("R1", E2, _zrem(Keys.executed, E2)),
    "counted, not executed": ("R1", P3, _zadd(Keys.executed, P3, 1)),
    "counted under the wrong symbol": ("R1", "executed ETHUSDT", _hset(Keys.executed_symbols, "ETHUSDT", "7")),
    "a symbol nobody holds": ("R1", "executed XRPUSDT", _hset(Keys.executed_symbols, "XRPUSDT", "1")),
    "a claim lost": ("R1", "phantom:pos:fresh", _zrem(Keys.claims, "fresh")),
    "a claim on a claimed one": ("R1", E2, _zadd(Keys.claims, "e2", T0)),
    "a claim on nothing": ("R1", "ghost", _zadd(Keys.claims, "ghost", T0)),
    "a report nobody awaits": ("R1", E2, _zrem(Keys.unreported, E2)),
    "a report awaited of a phantom": ("R1", P3, _zadd(Keys.unreported, P3, T0 + 2 * HOUR)),
    "a score that is not its number": ("R1", P3, _zadd(lambda keys: keys.open("phantom"), P3, 1)),
    "a number that is none": ("R1", P3, _hset(lambda keys: keys.position("phantom", "p3"), "deadline", "soon")),
    "a counter that is none": ("R1", "executed ETHUSDT", _hset(Keys.executed_symbols, "ETHUSDT", "two")),
    "completed lost one": ("R2", "scalp: 0", _one_more_win),
    "an outcome too many": ("R3", "trend", _hset(lambda keys: keys.outcomes("trend"), "timeout", "9")),
    "closes miscounted": ("R3", "trend", _set(lambda keys: keys.closed_total("trend"), "11")),
    "decisive is not completed": ("R3", "trend", _a_win_into_a_timeout),
    "a row lost": ("R4", "trend", lambda house: house.client.lpop(house.keys.trades("trend"))),
    "a row too many": ("R4", "trend", lambda house: house.client.rpush(house.keys.trades("trend"), "{}")),
    "never swept": ("R5", "phantom:pos:late", _overdue),
    "one bar, two positions": ("R6", "bar3", _hset(lambda keys: keys.signal("waits"), "bar", "bar3")),
    "a boundary forgotten": (
        "R7",
        "requested",
        lambda house: house.client.hdel(house.keys.training("trend"), "requested"),
    ),
    "a boundary never settled": ("R7", "settled", _hset(lambda keys: keys.training("trend"), "settled", "0")),
    "another bundle in force": ("R7", "bundle", _hset(lambda keys: keys.training("trend"), "bundle", "b" * 64)),
    "a fact edited": ("R8", "decision:p3", _edited),
}


@pytest.mark.parametrize(("rule", "named", "plant"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found_by_its_rule_alone(house: House, rule: str, named: str, plant: Planted) -> None:
    house.open("k", prefix="scalp_phantom", strategy="scalp")
    house.close("k")
    house.relay()
    house.clean()
    plant(house)
    report = house.check()
    assert report.broken == (rule,), str(report)
    assert any(named in listed for listed in report.findings[rule].listed), str(report)
    assert report.as_json()["clean"] is False


def test_a_position_no_set_knows_is_found_by_its_key(house: House) -> None:
    """Gone from every index: only the thorough check looks at the keys themselves, and the record knows it anyway."""
    house.relay()
    for key in (house.keys.open("phantom"), house.keys.due(), house.keys.follow("BTCUSDT")):
        _touched(house.client.zrem(key, P3))
    assert house.check(fast=True).broken == ("R9",)
    report = house.check()
    assert report.broken == ("R1", "R9")
    assert report.findings["R9"].listed == [f"{P3}: open in the record, not in Redis"]


def test_open_in_redis_alone(house: House) -> None:
    """A position whose facts never left: as when the outbox was cut by hand."""
    house.relay()
    house.open("unknown")
    house.client.xtrim(house.keys.outbox(), maxlen=0, approximate=False)
    report = house.check()
    assert report.broken == ("R9",)
    assert report.findings["R9"].listed == ["phantom:pos:unknown: open in Redis, not in the record"]


def test_of_many_violations_only_the_first_are_listed(house: House) -> None:
    for number in range(LISTED + 5):
        house.open(f"m{number}", symbol="SOLUSDT")
    house.relay()
    house.clean()
    house.client.delete(house.keys.follow("SOLUSDT"))
    finding = house.check().findings["R1"]
    assert (finding.violations, len(finding.listed)) == (LISTED + 5, LISTED)


def test_overdue_while_the_feed_is_behind_is_a_remark(house: House) -> None:
    house.relay()
    house.store.feed("BTCUSDT", "5m", "[]", house.store.now_ms() + 3 * DAY)
    report = house.clean()
    assert report.remarks
    assert all("BTCUSDT" in remark or "ETHUSDT" in remark for remark in report.remarks)
    assert "candles wait for the follower" in report.remarks[0]


# --- one side ahead of the other


def test_a_record_that_is_ahead(house: House) -> None:
    house.relay()
    house.clean()
    house.client.hincrby(house.keys.meta(), "seq", -1)
    report = house.check(fast=True)
    assert "R0" in report.broken
    assert "Redis went back" in report.findings["R0"].listed[0]


def test_a_state_from_before_a_rebuild(house: House) -> None:
    house.relay()
    house.store.set_mode(Mode.HALT, actor="rebuild", reason="as a rebuild says it", now_ms=house.store.now_ms())
    house.relay()
    report = house.check(fast=True)
    assert report.broken == ("R0",)
    assert "epoch 1" in report.findings["R0"].listed[0]


def test_a_namespace_that_is_gone(house: House) -> None:
    house.relay()
    house.client.flushall()
    report = house.check()
    assert report.broken == ("R0",)
    assert "lost this namespace" in str(report)
    assert guarding.reconcile_or_halt(house.store, house.record).lost
    assert house.client.keys("*") == []  # nothing was written where nothing is


# --- at boot


def test_what_does_not_agree_is_halted_once_and_says_what_to_do(house: House) -> None:
    house.relay()
    assert guarding.reconcile_or_halt(house.store, house.record).clean
    control = house.store.control()
    assert control is not None
    assert control.mode is Mode.ON
    house.client.zrem(house.keys.due(), P3)
    for _ in range(2):
        assert not guarding.reconcile_or_halt(house.store, house.record).clean
    halted = house.store.control()
    assert halted is not None
    assert (halted.mode, halted.actor, halted.generation) == (Mode.HALT, "reconcile", control.generation + 1)
    assert halted.reason.startswith("R1 (1): phantom:pos:p3: due")
    assert "penumbra rebuild" in halted.reason


def test_what_cannot_even_be_compared_is_halted_and_raised(house: House) -> None:
    house.relay()
    house.client.delete(house.keys.due())
    house.client.set(house.keys.due(), "no set")
    with pytest.raises(Permanent, match="due holds a string"):
        guarding.reconcile_or_halt(house.store, house.record)
    control = house.store.control()
    assert control is not None
    assert (control.mode, control.actor) == (Mode.HALT, "reconcile")
