"""Outbox to record on real servers, with every fault we could think of in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.connection import AbstractConnection

from decision.decide import Action
from persistence.connection import connect
from persistence.keys import Keys
from persistence.memory_store import MemoryStore
from persistence.outbox import ABANDONED_AFTER_MS, Backlog, Relay
from persistence.record import AppendReport, Record
from persistence.redis_store import RedisStore
from persistence.rows import BadFact
from persistence.store import ClockKind, CloseCommand, CloseHow, DecideCommand, Fact, Mode, Store
from runtime import embedded
from runtime.embedded import EmbeddedServers
from signals.errors import Permanent, Transient
from signals.reasons import Reason
from worker.relay import LONGEST_BACKOFF_S, backoff_s, run

AT = 1_700_000_000_000
HOUR_MS = 3_600_000


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
def relay(redis_client: redis.Redis, keys: Keys, record: Record) -> Relay:
    return Relay(redis_client, keys, record)


def entry(number: int, **changes: str) -> dict[str, str]:
    fields = {"seq": str(number), "kind": "claimed", "id": f"claimed:s{number}", "at": str(AT + number), "body": "{}"}
    return fields | {"sid": f"s{number}", "prefix": "phantom", "engine": "desk"} | changes


def put(client: redis.Redis, keys: Keys, *entries: dict[str, str]) -> None:
    for fields in entries:
        content: Any = fields
        client.xadd(keys.outbox(), content)


def numbers(record: Record) -> list[int]:
    return [fact.seq for fact in record.facts()]


def pending(client: redis.Redis, keys: Keys) -> Sequence[dict[str, Any]]:
    return client.xpending_range(keys.outbox(), "postgres", "-", "+", count=1_000)


# --- the whole way


def commands(store: Store, body: str, late_ms: int = 0) -> None:
    at_ms = AT + late_ms
    store.create(ClockKind.DATA, now_ms=at_ms)
    store.decide(
        DecideCommand(
            now_ms=at_ms,
            signal_id="a",
            fingerprint="f" * 64,
            want=Action.EXECUTE,
            reasons=(Reason.SCORE_PASSED,),
            body='{"score":71}',
            strategy="trend",
            symbol="BTCUSDT",
            signal_ms=AT,
            max_age_ms=HOUR_MS,
            ttl_ms=10_000,
            deadline_ms=AT + 1_000_000,
        )
    )
    store.claim("a", "desk", now_ms=at_ms + 5)
    store.close(
        CloseCommand(
            now_ms=at_ms + 9,
            signal_id="a",
            prefix="phantom",
            strategy="trend",
            symbol="BTCUSDT",
            version=1,
            how=CloseHow.REPORT,
            outcome="win",
            result=body,
            track="{}",
            learned=True,
            win=True,
            report_id="r",
        )
    )
    store.set_mode(Mode.ML_OFF, actor="op", reason="why", now_ms=at_ms + 10)


def test_what_the_scripts_commit_is_what_the_record_holds(
    redis_client: redis.Redis, namespace: str, record: Record, relay: Relay, closed_body: Callable[..., str]
) -> None:
    memory = MemoryStore(namespace)
    commands(memory, closed_body())
    commands(RedisStore(redis_client, namespace), closed_body())
    report = relay.cycle()
    assert (report.read, report.inserted, report.dead, report.backlog) == (7, 7, 0, Backlog(0, 0, 0, None))
    assert list(record.facts()) == memory.facts
    assert {"opened", "closed"} < {fact.kind for fact in memory.facts}


def test_the_same_facts_after_a_roll_back_are_known(
    redis_client: redis.Redis, namespace: str, record: Record, relay: Relay, closed_body: Callable[..., str]
) -> None:
    store = RedisStore(redis_client, namespace)
    commands(store, closed_body())
    relay.cycle()
    first = list(record.facts())
    redis_client.flushall()  # back to an old log, here to none at all; the engine and the candles come again, later
    commands(store, closed_body(), late_ms=HOUR_MS)
    report = relay.cycle()
    assert (report.inserted, report.replayed, report.conflicts) == (0, 7, 0)
    assert list(record.facts()) == first


def test_a_drained_stream_is_empty(redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay) -> None:
    put(redis_client, keys, *map(entry, range(1, 26)))
    reports = [relay.cycle(10) for _ in range(4)]
    assert [report.read for report in reports] == [10, 10, 5, 0]
    assert [report.lag for report in reports] == [15, 5, 0, 0]
    assert redis_client.xlen(keys.outbox()) == 0
    assert pending(redis_client, keys) == []
    assert numbers(record) == list(range(1, 26))


# --- who dies where


class Dying:
    """A sink whose process ends at the worst moment: after the commit, before the acknowledgement."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        self._record.append(facts)
        raise SystemExit


def test_killed_between_commit_and_acknowledgement(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, *map(entry, range(1, 6)))
    with pytest.raises(SystemExit):
        Relay(redis_client, keys, Dying(record)).cycle()
    assert redis_client.xlen(keys.outbox()) == 5
    report = Relay(redis_client, keys, record).cycle()
    assert (report.read, report.inserted, report.replayed, report.conflicts) == (5, 0, 5, 0)
    assert numbers(record) == [1, 2, 3, 4, 5]
    assert redis_client.xlen(keys.outbox()) == 0


def test_redelivery_is_counted_so_the_kill_was_real(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, entry(1))
    for _ in range(2):
        with pytest.raises(SystemExit):
            Relay(redis_client, keys, Dying(record)).cycle()
    (left,) = pending(redis_client, keys)
    assert left["times_delivered"] == 2


class Fault:
    """Cuts the connection to Redis at the n-th command, before it is sent or after it was carried out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.seen, self.cut = 0, 0
        send: Any = AbstractConnection.send_packed_command

        def counted(connection: Any, command: Any, check_health: bool = True) -> Any:
            self.seen += 1
            here = self.seen == at
            if here and not after:
                self._cut(connection)
            sent = send(connection, command, check_health)
            if here:
                # The server has carried it out as soon as it has something to say.
                connection.can_read(timeout=2)
                self._cut(connection)
            return sent

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)

    def _cut(self, connection: Any) -> None:
        self.cut += 1
        connection.disconnect()
        raise redis.ConnectionError("cut by the test")


def clean_commands(servers: EmbeddedServers, keys: Keys, record: Record, monkeypatch: pytest.MonkeyPatch) -> int:
    with connect(servers.redis_url) as client, monkeypatch.context() as patch:
        client.ping()
        count = Fault(patch, 0, after=False)
        Relay(client, keys, record).cycle()
        return count.seen


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "reply lost"])
def test_every_command_cut_once(
    redis_client: redis.Redis,
    servers: EmbeddedServers,
    keys: Keys,
    postgres_dsn: str,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    batch = [entry(1), entry(2, body="{"), entry(3), entry(4)]
    put(redis_client, keys, *batch)
    clean = clean_commands(servers, keys, record, monkeypatch)
    assert clean >= 8
    for point in range(1, clean + 1):
        place = Keys(f"{keys.namespace}-{point}")
        put(redis_client, place, *batch)
        target = Record(postgres_dsn, place.namespace)
        with connect(servers.redis_url) as client, monkeypatch.context() as patch:
            client.ping()
            fault = Fault(patch, point, after=after)
            with pytest.raises(Transient):
                Relay(client, place, target).cycle()
            assert fault.cut == 1
        survivor = Relay(redis_client, place, target)
        dead = sum(survivor.cycle().dead for _ in range(4))
        assert numbers(target) == [1, 3, 4]
        assert (dead, redis_client.xlen(place.dead())) == (1, 1)
        assert (redis_client.xlen(place.outbox()), pending(redis_client, place)) == (0, [])
        assert target.count_conflicts() == 0
        target.close()


def test_a_naive_relay_fails_the_same_test(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    class Naive(Relay):
        def _own_pending(self, wanted: int) -> list[Any]:
            return []

    put(redis_client, keys, entry(1))
    with pytest.raises(SystemExit):
        Relay(redis_client, keys, Dying(record)).cycle()
    for _ in range(3):
        Naive(redis_client, keys, record).cycle()
    assert redis_client.xlen(keys.outbox()) == 1


def test_entries_of_a_dead_consumer_are_taken_over(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay
) -> None:
    put(redis_client, keys, entry(1), entry(2), entry(3))
    with pytest.raises(SystemExit):
        Relay(redis_client, keys, Dying(record), consumer="gone").cycle(2)
    assert relay.cycle().read == 1  # too fresh to be taken
    # What it still holds keeps its place in the stream, and everything behind it too.
    assert redis_client.xlen(keys.outbox()) == 3
    ids = [left["message_id"] for left in pending(redis_client, keys)]
    redis_client.xclaim(keys.outbox(), "postgres", "gone", 0, ids, idle=ABANDONED_AFTER_MS + 1)
    report = relay.cycle()
    assert (report.read, report.replayed) == (2, 2)
    assert redis_client.xlen(keys.outbox()) == 0


def test_a_wiped_redis_gets_its_group_again(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay
) -> None:
    put(redis_client, keys, entry(1))
    relay.cycle()
    redis_client.flushall()
    assert relay.cycle().read == 0
    put(redis_client, keys, entry(2))
    assert relay.cycle().inserted == 1
    assert numbers(record) == [1, 2]


def test_a_trimmed_entry_does_not_stay_for_ever(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    put(redis_client, keys, entry(1), entry(2))
    with pytest.raises(SystemExit):
        Relay(redis_client, keys, Dying(record)).cycle()
    redis_client.xtrim(keys.outbox(), maxlen=1, approximate=False)
    assert relay.cycle().read == 2
    assert pending(redis_client, keys) == []
    assert "trimmed" in caplog.text


# --- poison

POISON = {
    "escaped NUL": {"body": '{"a":"\\u0000"}'},
    "NUL": {"engine": "\x00"},
    "NaN": {"body": '{"a":NaN}'},
    "broken JSON": {"body": "{"},
    "a number too large": {"seq": str(2**63)},
    "a number of 5000 digits": {"seq": "9" * 5_000},
    "no number": {"at": "yesterday"},
    "another kind": {"id": "claimed", "kind": "opened"},
    "closed without terms": {"id": "closed:x", "kind": "closed"},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_poison_is_isolated_and_the_rest_flows(
    redis_client: redis.Redis,
    keys: Keys,
    record: Record,
    relay: Relay,
    caplog: pytest.LogCaptureFixture,
    poison: dict[str, str],
) -> None:
    put(redis_client, keys, *(entry(number, **(poison if number == 50 else {})) for number in range(1, 101)))
    first = relay.cycle()
    assert (first.read, first.inserted, first.dead, first.pending) == (100, 99, 0, 1)
    assert "ERROR" not in {line.levelname for line in caplog.records}
    put(redis_client, keys, entry(101))
    second = relay.cycle()
    assert (second.read, second.inserted, second.dead) == (2, 1, 0)
    third = relay.cycle()
    assert (third.read, third.dead, third.backlog) == (1, 1, Backlog(0, 0, 1, None))
    assert "dead letters" in caplog.text
    assert numbers(record) == [number for number in range(1, 102) if number != 50]
    assert redis_client.xlen(keys.outbox()) == 0
    letters: Any = redis_client.xrange(keys.dead())
    ((_, letter),) = letters
    assert letter[b"dead_reason"]
    assert {name.encode(): value.encode() for name, value in entry(50, **poison).items()}.items() <= letter.items()


def test_bytes_that_are_no_text_and_an_entry_without_fields(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay
) -> None:
    redis_client.xadd(
        keys.outbox(), {b"seq": b"1", b"id": b"claimed:\xff", b"kind": b"claimed", b"at": b"1", b"body": b"{}"}
    )
    redis_client.xadd(keys.outbox(), {b"x": b"y"})
    put(redis_client, keys, entry(3))
    dead = sum(relay.cycle().dead for _ in range(3))
    assert (dead, numbers(record)) == (2, [3])


def test_conflicts_are_not_poison(redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay) -> None:
    put(redis_client, keys, entry(1), entry(1, engine="thief"), entry(2))
    report = relay.cycle()
    assert (report.inserted, report.conflicts, report.dead, report.lag) == (2, 1, 0, 0)
    assert record.count_conflicts() == 1


class Failing:
    """A sink that fails a number of times, then takes everything."""

    def __init__(self, record: Record, error: Exception, times: int) -> None:
        self._record, self._error, self._times = record, error, times

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        self._times -= 1
        if self._times >= 0:
            raise self._error
        return self._record.append(facts)


def test_what_passes_is_never_dead_lettered(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, entry(1), entry(2))
    relay = Relay(redis_client, keys, Failing(record, Transient("deadlock"), 10))
    for _ in range(10):
        with pytest.raises(Transient):
            relay.cycle()
    assert relay.cycle().inserted == 2
    assert redis_client.xlen(keys.dead()) == 0


def test_a_refusal_that_passes_before_the_third_try(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, entry(1))
    relay = Relay(redis_client, keys, Failing(record, BadFact("hm"), 2))
    assert [relay.cycle().inserted for _ in range(3)] == [0, 0, 1]
    assert redis_client.xlen(keys.dead()) == 0


# --- several sinks


def test_nothing_is_trimmed_before_every_required_sink_has_it(
    redis_client: redis.Redis, keys: Keys, record: Record
) -> None:
    both = ("postgres", "retrain")
    mine = Relay(redis_client, keys, record, required=both)
    other = Relay(redis_client, keys, record, "retrain", required=both)
    put(redis_client, keys, *map(entry, range(1, 7)))
    mine.cycle()
    assert redis_client.xlen(keys.outbox()) == 6  # the other has not even begun
    other.cycle(2)
    assert redis_client.xlen(keys.outbox()) == 4
    other.cycle()
    assert redis_client.xlen(keys.outbox()) == 0
    put(redis_client, keys, entry(7))
    other.cycle()
    assert redis_client.xlen(keys.outbox()) == 1
    mine.cycle()
    assert redis_client.xlen(keys.outbox()) == 0
    assert numbers(record) == list(range(1, 8))


def test_an_optional_sink_may_lag(redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay) -> None:
    chat = Relay(redis_client, keys, record, "telegram")
    chat.ensure_group()
    put(redis_client, keys, entry(1))
    relay.cycle()
    assert redis_client.xlen(keys.outbox()) == 0
    assert chat.cycle().read == 0


# --- the loop


class Stops:
    """Says stop after a number of questions."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_the_loop_carries_and_shows(redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay) -> None:
    put(redis_client, keys, *map(entry, range(1, 8)))
    waits: list[float] = []
    run(relay, Stops(5), poll_ms=20, max_batch=3, wait=waits.append)
    assert numbers(record) == list(range(1, 8))
    assert waits == [0.02] * 3  # two full batches are followed by the next at once
    shown = redis_client.hgetall(keys.sink("postgres"))
    head = {b"links": b"7", b"head": record.head().hash.encode()}
    assert shown == head | {b"pending": b"0", b"lag": b"0", b"dead": b"0", b"oldest_ms": b"", b"trouble": b""}


def test_the_loop_backs_off_and_says_why(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, entry(1))
    waits: list[float] = []
    relay = Relay(redis_client, keys, Failing(record, Transient("away"), 10**9))
    run(relay, Stops(1_200), poll_ms=1_000, wait=waits.append)
    assert 0.1 in waits
    assert max(waits) == 1.0  # in steps, so that a stop is heard
    assert sum(waits) > 20 * LONGEST_BACKOFF_S
    shown = redis_client.hgetall(keys.sink("postgres"))
    assert (shown[b"pending"], shown[b"trouble"]) == (b"1", b"away")
    assert int(shown[b"oldest_ms"]) >= 0


def test_both_sides_are_compared_at_first_after_every_failure_and_now_and_then(
    redis_client: redis.Redis, keys: Keys, record: Record
) -> None:
    told: list[str] = []

    class Watched:
        def append(self, facts: Sequence[Fact]) -> AppendReport:
            told.append(f"append {len(facts)}")
            return failing.append(facts)

    failing = Failing(record, Transient("away"), 1)
    put(redis_client, keys, entry(1))
    # Seconds as the loop reads them: before each turn and after each check.
    readings = iter([0, 1, 2, 3, 4, 303, 304])
    relay = Relay(redis_client, keys, Watched())
    run(
        relay,
        Stops(5),
        wait=lambda _seconds: None,
        check=lambda: told.append("check"),
        watch=lambda: float(next(readings)),
    )
    # One turn waits out the failure. The turn at second 4 needs no check, the one at 303 does.
    assert told == ["check", "append 1", "check", "append 1", "check"]


def test_facts_are_carried_whatever_the_comparison_says(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    def check() -> None:
        raise Permanent("a key of the wrong type")

    put(redis_client, keys, entry(1))
    run(relay, Stops(1), wait=lambda _seconds: None, check=check)
    assert numbers(record) == [1]
    assert "a key of the wrong type" in caplog.text


def test_a_permanent_fault_is_loud(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    put(redis_client, keys, entry(1))
    relay = Relay(redis_client, keys, Failing(record, Permanent("no table"), 1))
    with pytest.raises(Permanent, match="no table"):
        run(relay, Stops(5), wait=lambda _: None)
    assert redis_client.xlen(keys.outbox()) == 1


def test_backing_off_doubles_up_to_a_cap() -> None:
    assert [backoff_s(failures) for failures in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert backoff_s(10**6) == LONGEST_BACKOFF_S


# --- servers that go away


def test_postgres_goes_away_and_comes_back(
    redis_client: redis.Redis, keys: Keys, record: Record, relay: Relay, servers_folder: Path
) -> None:
    put(redis_client, keys, entry(1))
    relay.cycle()
    embedded.stop_postgres(servers_folder)
    try:
        outcomes: Counter[str] = Counter()
        for number in range(2, 7):
            put(redis_client, keys, entry(number))
            try:
                relay.cycle()
            except Transient:
                outcomes["transient"] += 1
        backlog = relay.backlog()
    finally:
        embedded.start_postgres(servers_folder)
    assert outcomes == {"transient": 5}
    assert backlog.pending + backlog.lag == 5
    assert relay.cycle().inserted == 5
    assert numbers(record) == [1, 2, 3, 4, 5, 6]
    assert (redis_client.xlen(keys.outbox()), redis_client.xlen(keys.dead())) == (0, 0)


def test_postgres_breaks_off_in_the_middle_of_a_batch(
    redis_client: redis.Redis, keys: Keys, record: Record, postgres_dsn: str
) -> None:
    class Cut:
        """Ends the server's session between the insert and the commit."""

        def append(self, facts: Sequence[Fact]) -> AppendReport:
            with record._connected() as connection, connection.transaction():
                record.append(facts)
                with psycopg.connect(postgres_dsn, autocommit=True) as killer:
                    killer.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
            raise AssertionError("the commit cannot have worked")

    put(redis_client, keys, *map(entry, range(1, 11)))
    with pytest.raises(Transient):
        Relay(redis_client, keys, Cut()).cycle()
    assert record.count() == 0
    assert Relay(redis_client, keys, record).cycle().inserted == 10
