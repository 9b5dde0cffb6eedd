"""What an engine calls, against a real server with a real worker in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.results import Result

from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, Mode, StateMissing
from runtime.embedded import EmbeddedServers
from runtime.service import Service
from signals.candle import Candle
from signals.errors import Invalid, Transient
from signals.reasons import Reason
from tests.support.scene import FREE, STEP, SYMBOL, T0, bar, payload
from worker.client import Client, queue_name
from worker.queue import GateWorker

PROFILES = {"trend": FREE}


@pytest.fixture
def store(redis_client: redis.Redis, namespace: str) -> RedisStore:
    made = RedisStore(redis_client, namespace)
    made.create(ClockKind.DATA, now_ms=T0)
    made.advance_clock(T0)
    return made


@pytest.fixture
def client(servers: EmbeddedServers, store: RedisStore, namespace: str) -> Client:
    return Client(servers.redis_url, namespace=namespace, profiles=PROFILES)


@pytest.fixture
def work(servers: EmbeddedServers, store: RedisStore, namespace: str) -> Callable[[], bool]:
    """Let a worker empty the queue."""
    connection = connect(servers.redis_url, timeout_s=10.0)
    worker = GateWorker(queue_name(namespace), connection=connection, service=Service(store, PROFILES))
    return lambda: worker.run(burst=True)


def test_a_signal_is_answered_through_the_queue(client: Client, work: Callable[[], bool]) -> None:
    ticket = client.submit(payload())
    assert ticket.signal_id == "s1"
    assert client.answer("s1") is None
    assert work()
    answer = client.wait(ticket)
    assert answer is not None
    assert (answer["action"], answer["position_id"], answer["decided_at"]) == ("execute", "s1", T0)
    recorded = client.answer("s1")
    assert recorded is not None
    assert recorded | {"latency_ms": 0} == answer | {"latency_ms": 0}


@pytest.mark.parametrize(
    ("sent", "reason", "field"),
    [
        pytest.param(payload(sl=101.0), "GEOMETRY_STOP", "sl", id="geometry"),
        pytest.param(payload(ts=T0 - 1_000_000), "SIGNAL_EXPIRED", "ts", id="age"),
        pytest.param(payload(entry=math.nan), "PAYLOAD_NOT_FINITE", "payload", id="NaN, refused as bytes"),
        pytest.param(payload(note={"a": {"b": {"c": {"d": 1}}}}), "PAYLOAD_TOO_DEEP", "payload", id="too deep"),
    ],
)
def test_a_refusal_is_an_answer_too(
    client: Client, work: Callable[[], bool], sent: dict[str, Any], reason: str, field: str
) -> None:
    ticket, good = client.submit(sent), client.submit(payload("next"))
    work()
    answer = client.wait(ticket)
    assert answer is not None
    assert (answer["action"], answer["field"]) == ("rejected", field)
    reasons = answer["reasons"]
    assert isinstance(reasons, list)
    assert reasons[0] == reason
    following = client.wait(good)
    assert following is not None
    assert following["action"] == "execute"


def test_no_answer_in_time_is_none_and_it_may_still_come(client: Client, work: Callable[[], bool]) -> None:
    ticket = client.submit(payload())
    assert client.wait(ticket, timeout_s=0.3) is None
    work()
    answer = client.wait(ticket, timeout_s=0.3)
    assert answer is not None
    assert answer["action"] == "execute"


def test_the_ledger_answers_when_the_result_is_lost(client: Client, work: Callable[[], bool]) -> None:
    ticket = client.submit(payload("a", timeframe="5m"))
    other = client.submit(payload("b", timeframe="5m"))
    work()
    for sent in (ticket, other):
        Result.delete_all(sent.job)
    answer, alias = client.wait(ticket, timeout_s=0.3), client.wait(other, timeout_s=0.3)
    assert answer is not None
    assert alias is not None
    assert (answer["signal_id"], answer["action"]) == ("a", "execute")
    # The first answer of the bar, and it says so.
    assert (alias["signal_id"], alias["position_id"]) == ("b", "a")
    reasons = alias["reasons"]
    assert isinstance(reasons, list)
    assert reasons[-1] == "DUPLICATE_BAR"


def test_the_same_signal_sent_twice_is_one_position(
    client: Client, store: RedisStore, work: Callable[[], bool]
) -> None:
    tickets = [client.submit(payload()) for _ in range(3)]
    work()
    answers = [client.wait(ticket) for ticket in tickets]
    assert answers[0] is not None
    assert all(
        answer is not None and answer | {"latency_ms": 0} == answers[0] | {"latency_ms": 0} for answer in answers
    )
    assert len(store.following(SYMBOL, 0)) == 1


def test_one_engine_gets_the_go(client: Client, servers: EmbeddedServers, namespace: str, store: RedisStore) -> None:
    other = Client(servers.redis_url, namespace=namespace, engine="other", profiles=PROFILES)
    service = Service(store, PROFILES)
    service.judge(payload("a"))
    service.judge(payload("b"))
    assert client.claim("a") is Reason.CLAIM_GO
    assert other.claim("a") is Reason.CLAIM_TAKEN
    assert client.claim("a") is Reason.CLAIM_GO
    service.set_mode(Mode.HALT, actor="op", reason="test")
    assert client.claim("b") is Reason.CLAIM_REVOKED
    assert client.claim("never") is Reason.CLAIM_UNKNOWN


def test_fills_and_a_close_are_reported(client: Client, store: RedisStore) -> None:
    Service(store, PROFILES).judge(payload())
    client.claim("s1")
    assert client.report_fill("s1", price=100.5, ts=T0, quantity=2.0, fee=0.5).accepted
    done = client.report_close("s1", price=103.5, ts=T0 + STEP, reason="manual", quantity=2.0, fee=0.5)
    assert done.reason is Reason.REPORT_ACCEPTED
    assert client.report_close("s1", price=103.0, ts=T0 + STEP, reason="manual").reason is Reason.REPORT_CORRECTION
    stored = store.position("s1")
    assert stored is not None
    assert (stored.outcome, stored.open) == ("win", False)
    assert client.report_close("s1", price=-1.0, ts=T0, reason="tp").field == "price"


def test_a_candle_moves_the_clock_and_an_unfinished_one_only_to_its_open(client: Client, store: RedisStore) -> None:
    first = client.candle(SYMBOL, "5m", bar(0))
    assert store.now_ms() == T0 + STEP
    second = client.candle(SYMBOL, "5m", bar(1, final=False))
    assert store.now_ms() == T0 + STEP
    assert second != first
    (one, other) = client.feed.read("0-0", count=10, block_ms=0)
    assert (one.place, one.symbol, one.timeframe) == (first, SYMBOL, "5m")
    assert client.feed.read(other.place, count=10, block_ms=0) == []


@pytest.mark.parametrize(
    ("symbol", "timeframe", "candle"),
    [
        pytest.param("btc usdt", "5m", bar(0), id="symbol"),
        pytest.param(SYMBOL, "five", bar(0), id="timeframe"),
        pytest.param(SYMBOL, "5m", Candle(T0 * 1_000, 1.0, 1.0, 1.0, 1.0), id="microseconds"),
        pytest.param(SYMBOL, "5m", Candle(-STEP, 1.0, 1.0, 1.0, 1.0), id="before 1970"),
    ],
)
def test_a_candle_that_would_break_the_clock_is_not_sent(
    client: Client, store: RedisStore, symbol: str, timeframe: str, candle: Candle
) -> None:
    with pytest.raises(Invalid):
        client.candle(symbol, timeframe, candle)
    assert store.now_ms() == T0
    assert client.feed.read("0-0", count=10, block_ms=0) == []


def test_waiting_for_the_follower_ends_when_it_has_come_or_the_time_is_up(client: Client) -> None:
    place = client.candle(SYMBOL, "5m", bar(0))
    assert not client.await_followed(place, timeout_s=0.05)
    client.feed.mark(place)
    assert client.await_followed(place, timeout_s=0.05)


def test_a_namespace_that_was_never_created_takes_nothing(servers: EmbeddedServers, redis_client: redis.Redis) -> None:
    stranger = Client(servers.redis_url, namespace="nobody")
    with pytest.raises(StateMissing):
        stranger.candle(SYMBOL, "5m", bar(0))
    assert redis_client.keys("nobody*") == []


def test_a_server_that_is_not_there_is_a_passing_failure(tmp_path: Path) -> None:
    lonely = Client(f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(Transient):
        lonely.submit(payload())
    with pytest.raises(Transient):
        lonely.answer("s1")


def test_a_lost_connection_while_waiting_is_a_passing_failure(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = client.submit(payload())

    def lost(*_: object, **__: object) -> None:
        raise redis.ConnectionError("reset")

    monkeypatch.setattr(client._waiting, "xread", lost)
    with pytest.raises(Transient):
        client.wait(ticket)


def test_a_long_wait_is_cut_into_pieces_the_connection_outlasts(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket, waits, now = client.submit(payload()), list[int](), [0.0]

    def silent(*_: object, block: int, **__: object) -> None:
        waits.append(block)
        now[0] += block / 1000

    monkeypatch.setattr(client._waiting, "xread", silent)
    monkeypatch.setattr("worker.client.stopwatch", lambda: now[0])
    assert client.wait(ticket, timeout_s=0.5) is None
    assert waits == [200, 200, 100]
    allowed_s = client._waiting.connection_pool.connection_kwargs["socket_timeout"]
    assert max(waits) / 1000 < allowed_s < 0.5


def test_the_default_namespace_has_the_plain_queue() -> None:
    assert (queue_name(""), queue_name("demo-1"), queue_name("a", "b")) == ("signals", "demo-1.signals", "a.b")
