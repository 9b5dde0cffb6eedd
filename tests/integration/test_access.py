"""Each role does its real job on a real server behind the product's ACL file, and is refused everything else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import redis

from persistence import rebuild as rebuilding
from persistence.access import Role, acl_file
from persistence.candle_feed import CandleFeed
from persistence.connection import connect
from persistence.keys import Keys
from persistence.outbox import Relay
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, Mode, PublishCommand, PublishStatus, TableCommand
from persistence.views import view
from runtime.follow import Follower
from runtime.service import Service
from runtime.settings import Settings
from runtime.wiring import Wiring
from signals.errors import Permanent, Transient
from signals.parse import canonical_json
from signals.profile import Profile
from signals.reasons import Reason
from tests.support.guarded import PASSWORDS, WATCHER, Guarded, guarded
from tests.support.scene import FREE, STEP, SYMBOL, T0, bar, payload
from worker.client import Client
from worker.follow import FollowLoop
from worker.queue import GateWorker

PROFILES: dict[str, Profile] = {"trend": FREE}
KEYS = Keys()


@pytest.fixture(scope="module")
def server() -> Iterator[Guarded]:
    with guarded(KEYS, "signals") as started:
        yield started


@pytest.fixture
def record(postgres_dsn: str) -> Iterator[Record]:
    made = Record(postgres_dsn)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def house(server: Guarded) -> Guarded:
    """A namespace the operator created; scripts are there once a worker has been."""
    with server.client(WATCHER) as watcher:
        watcher.flushall()
        watcher.script_flush()
    store = RedisStore(server.client(Role.OPERATOR))
    store.create(ClockKind.DATA, now_ms=T0)
    for profile in PROFILES.values():
        store.register(profile.name, canonical_json(asdict(profile)), "70", now_ms=T0)
    store.advance_clock(T0)
    server.denied()
    return server


def worked(house: Guarded) -> GateWorker:
    store = RedisStore(house.client(Role.WORKER))
    connection = connect(house.url(Role.WORKER), timeout_s=60.0)
    gate = GateWorker("signals", connection=connection, service=Service(store, PROFILES), upkeep=store.offer_scripts)
    gate.run(burst=True)
    return gate


def executed(house: Guarded, *, good: bool = True) -> Client:
    client = Client(house.url(Role.ENGINE), engine="engine", profiles=PROFILES)
    ticket = client.submit(payload(good=good))
    worked(house)
    answer = client.wait(ticket)
    assert answer is not None
    assert answer["action"] == ("execute" if good else "phantom")
    return client


def test_an_engine_asks_claims_reports_and_feeds(house: Guarded) -> None:
    client = executed(house)
    assert client.answer("s1") is not None
    assert client.claim("s1") is Reason.CLAIM_GO
    assert client.report_fill("s1", price=100.5, ts=T0, quantity=2.0, fee=0.5).accepted
    assert (
        client.report_close("s1", price=103.5, ts=T0 + STEP, reason="manual", quantity=2.0).reason
        is Reason.REPORT_ACCEPTED
    )
    assert client.report_close("s1", price=103.0, ts=T0 + STEP, reason="manual").reason is Reason.REPORT_CORRECTION
    place = client.candle(SYMBOL, "5m", bar(0))
    assert not client.await_followed(place, timeout_s=0.05)
    assert house.denied() == []


def test_a_worker_follows_as_well(house: Guarded, record: Record) -> None:
    client = executed(house, good=False)
    client.candle(SYMBOL, "5m", bar(0, "100 101 99 100"))
    client.candle(SYMBOL, "5m", bar(1, "100 105 99.5 104.5"))
    store = RedisStore(house.client(Role.WORKER))
    loop = FollowLoop(store, CandleFeed(store.client, store.keys), Follower(store, PROFILES))
    while loop.cycle() > 0:
        pass
    position = store.position("s1")
    assert position is not None
    assert position.result is not None
    store.prune(T0 + 40 * 86_400_000)
    assert house.denied() == []


def test_a_relay_drains_the_outbox(house: Guarded, record: Record) -> None:
    executed(house).claim("s1")
    store = RedisStore(house.client(Role.RELAY))
    store.check_server()
    assert store.exists()
    for profile in PROFILES.values():
        store.register(profile.name, canonical_json(asdict(profile)), "70", now_ms=store.now_ms())
    relay = Relay(store.client, store.keys, record)
    relay.ensure_group()
    before = record.count()
    report = relay.cycle()
    assert report.inserted == record.count() - before >= 4
    relay.publish(report.backlog)
    assert relay.cycle().read == 0
    assert house.denied() == []


def test_a_trainer_reads_outcomes_and_publishes(house: Guarded) -> None:
    executed(house)
    store = RedisStore(house.client(Role.TRAINER))
    store.check_server()
    assert store.training("trend").completed == 0
    assert store.trades("trend") == ([], {})
    assert store.timeouts("trend") == []
    assert [position.signal_id for position in store.open_positions("trend")] == ["s1"]
    first = store.begin_training("trend", now_ms=store.now_ms())
    assert store.settle("trend", first, reason="LEARN_CLASSES", detail="none", next_at=30, now_ms=store.now_ms())
    for count in (50, 100, 150):
        table = TableCommand(strategy="trend", count=count, address=f"t{count}", table="{}", now_ms=store.now_ms())
        assert store.set_table(table)
    assert (store.table("trend", "t50"), store.table("trend", "t150")) == (None, "{}")
    second = store.begin_training("trend", now_ms=store.now_ms())
    store.put_bundle("a" * 64, b"bytes")
    command = PublishCommand(
        strategy="trend", attempt=second, address="a" * 64, trained_count=30, next_at=80, network=False, tables="{}",
        manifest="{}", now_ms=store.now_ms(),
    )  # fmt: skip
    assert store.publish(command) is not PublishStatus.FENCED
    assert store.bundle("a" * 64) == b"bytes"
    assert house.denied() == []


def test_an_operator_switches_looks_and_moves_the_pointer(house: Guarded) -> None:
    executed(house)
    store = RedisStore(house.client(Role.OPERATOR))
    control = Service(store, PROFILES).set_mode(Mode.HALT, actor="op", reason="test")
    assert control.mode is Mode.HALT
    assert "s1" in str(view(store, "phantom:active"))
    assert store.manifests("trend") == {}
    assert not store.point("trend", "b" * 64, expected="", actor="op", now_ms=T0)
    assert store.dump()
    assert house.denied() == []


def test_an_operator_rebuilds(house: Guarded, record: Record, postgres_dsn: str) -> None:
    executed(house)
    client = house.client(Role.OPERATOR)
    Service(RedisStore(client), PROFILES).set_mode(Mode.HALT, actor="op", reason="test")
    report = rebuilding.rebuild(client, KEYS, record, force=True)
    assert report.open_positions >= 1
    assert house.denied() == []


def test_a_dashboard_only_looks(house: Guarded) -> None:
    executed(house)
    store = RedisStore(house.client(Role.DASH))
    assert store.control() is not None
    assert "s1" in str(view(store, "phantom:active"))
    assert store.client.llen("rq:queue:signals") == 0
    store.check_server()
    assert house.denied() == []


@pytest.mark.parametrize("role", [Role.WORKER, Role.RELAY, Role.TRAINER, Role.OPERATOR])
def test_every_process_starts_under_its_role(
    house: Guarded, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    """As the commands do it, with every profile of the settings, after the operator's `migrate`."""
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", PASSWORDS[Role.DASH][::-1])
    for user in (Role.OPERATOR, role):
        monkeypatch.setenv("PENUMBRA_REDIS_URL", house.url(user))
        wiring = Wiring(Settings.load())
        wiring.ensure_namespace()
        if role is Role.TRAINER and user is role:
            assert wiring.trainer().due() == []
        wiring.close()
        if user is Role.OPERATOR:
            worked(house)
    assert house.denied() == []


def test_a_process_that_would_change_the_settings_is_refused_without_the_right(
    house: Guarded, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_REDIS_URL", house.url(Role.TRAINER))
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__STATIC_THRESHOLD", "1")
    with pytest.raises(Permanent, match=r"(?i)no permissions"):
        Wiring(Settings.load()).ensure_namespace()


# --- what is refused

SERVER = [
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET dir",
    "CONFIG SET dir /tmp",
    "SHUTDOWN NOSAVE",
    "ACL LIST",
]
SERVER += [
    "ACL SETUSER x on nopass +@all",
    "MODULE LIST",
    "REPLICAOF NO ONE",
    "SAVE",
    "BGREWRITEAOF",
    "KEYS *",
    "MONITOR",
]
SERVER += [
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LIST",
    "CLIENT KILL ID 1",
    "SLOWLOG GET",
    "SWAPDB 0 1",
    "CLIENT LIST",
]
SERVER += ["PUBLISH rq:pubsub:worker shutdown", "SUBSCRIBE rq:pubsub:worker", "PSUBSCRIBE *", "MIGRATE h 1 k 0 1"]
FOREIGN = ["SET other 1", "GET other", "HSET other a 1", "DEL other", "SET mlx:ctl 1"]
EVALS = ["EVAL return(1) 0", "EVAL_RO return(1) 0"]
LOADS = ["SCRIPT LOAD return(1)"]
CONTROL = [
    "HSET ml:ctl mode ON",
    "DEL ml:ctl",
    "SET ml:ctl 1",
    "EXPIRE ml:ctl 1",
    "RENAME ml:ctl ml:sig:x",
    "DEL ml:meta",
]
RECORD = ["XADD ml:outbox:dead * a 1", "XTRIM ml:outbox MAXLEN 0", "DEL ml:outbox", "XACK ml:outbox postgres 0-1"]
QUEUE = ["RPUSH rq:queue:other x", "DEL rq:queue:signals", "LRANGE rq:queue:signals 0 -1", "BLPOP rq:queue:signals 1"]
MODELS = [
    "SET bundle:aa 1",
    "GET bundle:aa",
    "HSET ml:trend:bundles a 1",
    "SET ml:trend:threshold 0",
    "SET qcal:trend:thr {}",
]
FORBIDDEN: dict[Role, list[str]] = {
    Role.ENGINE: [
        *SERVER,
        *FOREIGN,
        *EVALS,
        *LOADS,
        *CONTROL,
        *RECORD,
        *QUEUE,
        *MODELS,
        "SCAN 0",
        "HSET ml:meta clock data",
    ],
    Role.WORKER: [*(line for line in SERVER if line != "CLIENT LIST"), *FOREIGN, "SET bundle:aa 1"],
    # It may look at everything and halt: a write to the control key, so it can do worse to that key too.
    Role.RELAY: [
        *SERVER,
        *FOREIGN,
        *EVALS,
        *(line for line in CONTROL if line != "HSET ml:ctl mode ON"),
        *QUEUE,
        *MODELS,
        "HSET ml:sig:s1 a 1",
        "RPUSH ml:trend:trades x",
        "ZADD ml:executed 1 x",
        "INCR ml:trend:completed_trades",
    ],
    Role.TRAINER: [
        *SERVER,
        *FOREIGN,
        *EVALS,
        *LOADS,
        *CONTROL,
        *RECORD,
        *QUEUE,
        "HSET ml:sig:s1 a 1",
        "RPUSH ml:trend:trades x",
    ],
    Role.OPERATOR: [*SERVER, *FOREIGN, *EVALS],
    Role.DASH: [
        *SERVER,
        *FOREIGN,
        *EVALS,
        *LOADS,
        *CONTROL,
        *RECORD,
        "EVALSHA x 0",
        "RPUSH rq:queue:signals x",
        "GET bundle:aa",
    ],
}


@pytest.mark.parametrize(("role", "command"), [(role, line) for role, lines in FORBIDDEN.items() for line in lines])
def test_everything_else_is_refused(server: Guarded, role: Role, command: str) -> None:
    with server.client(role) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split(" "))


def test_control_whoever_may_do_everything_is_not_refused(server: Guarded) -> None:
    lines = dict.fromkeys(line for lines in FORBIDDEN.values() for line in lines)
    left = [
        line
        for line in lines
        if line.split()[0] not in ("SHUTDOWN", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "MIGRATE", "BLPOP")
    ]
    assert len(left) > 50
    with server.client(WATCHER) as watcher:
        for line in left:
            # They may fail, for want of a key or of a host, and yet not for want of a right.
            with contextlib.suppress(redis.ResponseError):
                watcher.execute_command(*line.split(" "))
        denied = [entry for entry in watcher.acl_log() if entry["username"] == WATCHER]
        assert denied == []
        watcher.execute_command("ACL", "DELUSER", "x")
        watcher.flushall()


def test_a_stranger_gets_nothing(server: Guarded) -> None:
    for address in (
        f"unix://{server.socket}",
        f"unix://engine:wrong@{server.socket}",
        f"unix://default:@{server.socket}",
    ):
        with connect(address) as client, pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            client.get("ml:meta")


def test_a_halt_cannot_be_lifted_by_a_script_that_an_engine_calls(house: Guarded) -> None:
    """The very script the operator uses, run under the engine's rights, stops at its first write."""
    worked(house)
    operator = RedisStore(house.client(Role.OPERATOR))
    operator.set_mode(Mode.HALT, actor="op", reason="test", now_ms=T0)
    halted = operator.control()
    with pytest.raises(Permanent, match=r"(?i)permission|acl"):
        RedisStore(house.client(Role.ENGINE)).set_mode(Mode.ON, actor="engine", reason="x", now_ms=T0)
    assert operator.control() == halted


def test_an_engine_waits_for_a_worker_to_bring_the_scripts_back(house: Guarded) -> None:
    client = executed(house)
    with house.client(WATCHER) as watcher:
        watcher.script_flush()
    with pytest.raises(Transient, match="not loaded yet"):
        client.claim("s1")
    worked(house)
    assert client.claim("s1") is Reason.CLAIM_GO


def test_a_foreign_job_from_an_engine_is_still_not_executed(house: Guarded) -> None:
    """What the role cannot forbid the intake refuses: an engine writes jobs, and so could write others."""
    with house.client(Role.ENGINE) as client:
        client.hset(
            "rq:job:evil", mapping={"data": b'["os.system",null,["true"],{}]', "created_at": "2026-01-02T03:04:05.0Z"}
        )
        client.rpush("rq:queue:signals", "evil")
    worked(house)
    with house.client(WATCHER) as watcher:
        assert watcher.hget("rq:job:evil", "status") == b"failed"


def test_no_secret_lies_in_the_server(house: Guarded, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything the processes wrote, after a start with secrets in every setting that takes one."""
    key = PASSWORDS[Role.DASH][::-1]
    monkeypatch.setenv("PENUMBRA_REDIS_URL", house.url(Role.OPERATOR))
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", f"{postgres_dsn} password={key[:30]}")
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", key)
    wiring = Wiring(Settings.load())
    wiring.ensure_namespace()
    wiring.follower().candle("BTCUSDT", "5m", bar(-1))
    executed(house)
    wiring.close()
    with house.client(WATCHER) as watcher:
        held: list[Any] = [watcher.dump(name) for name in watcher.scan_iter(match="*")] + list(
            watcher.scan_iter(match="*")
        )
        assert len(held) > 10
        told = (
            b"".join(part for part in held if part) + str(watcher.client_list()).encode() + str(watcher.info()).encode()
        )
        watcher.set("canary", key)
        assert key[:30].encode() in (watcher.dump("canary") or b""), "small texts lie in a dump as they are"
    for secret in (*PASSWORDS.values(), key[:30]):
        assert secret.encode() not in told


def test_the_file_holds_hashes_only() -> None:
    text = acl_file(PASSWORDS, KEYS, "signals")
    assert not any(password in text for password in PASSWORDS.values())
    assert text.splitlines()[0].startswith("user default off")
    assert [line.split()[1] for line in text.splitlines()[1:]] == [role.value for role in Role]
    other = acl_file(PASSWORDS, Keys("demo"), "demo.signals")
    assert "~demo:ml:outbox" in other
    assert "~ml:outbox" not in other
